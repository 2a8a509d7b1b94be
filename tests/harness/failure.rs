//! What the harness reports when the world does not do as it was told.

use std::fmt;

/// The end of a harness call that did not work: a text for whoever reads the test's output.
///
/// It is not a [`std::error::Error`], so that every error converts into it with `?`.
#[derive(Clone)]
pub struct Failure(String);

/// What harness calls return.
pub type Result<T> = std::result::Result<T, Failure>;

impl Failure {
    /// A failure that says `text`.
    pub fn new(text: impl fmt::Display) -> Failure {
        Failure(text.to_string())
    }
}

impl<E: std::error::Error> From<E> for Failure {
    fn from(error: E) -> Failure {
        let mut text = error.to_string();
        let mut source = error.source();
        while let Some(cause) = source {
            let cause_text = cause.to_string();
            if !text.ends_with(&cause_text) {
                text = format!("{text}: {cause_text}");
            }
            source = cause.source();
        }
        Failure(text)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

// The same text: a test that returns a failure, or unwraps one, prints it through Debug.
impl fmt::Debug for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Says what was being done when an error came.
pub trait Context<T> {
    /// Puts `doing` before the error's text.
    fn context(self, doing: impl fmt::Display) -> Result<T>;
}

impl<T, E: Into<Failure>> Context<T> for std::result::Result<T, E> {
    fn context(self, doing: impl fmt::Display) -> Result<T> {
        self.map_err(|error| Failure(format!("{doing}: {}", error.into())))
    }
}

impl<T> Context<T> for Option<T> {
    fn context(self, doing: impl fmt::Display) -> Result<T> {
        self.ok_or_else(|| Failure::new(doing))
    }
}
