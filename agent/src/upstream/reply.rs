//! What the primary answered, read once and wiped when dropped.

use serde::{Deserialize, de::DeserializeOwned};
use shared::{kv::Content, provenance::Provenance, wire::Incoming};
use zeroize::Zeroizing;

use super::{error::UpstreamError, request::Request};
use crate::link::error::errors_of;

/// What the primary decided, in its own words. Only an answer of the primary can be made into one: what Holdover itself
/// finds wrong has error types of its own.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the primary answered {status}: {}", errors.join("; "))]
pub struct Decision {
    status: u16,
    errors: Vec<String>,
}

impl Decision {
    /// Private, so that nothing but [`Reply::success`] makes one.
    fn of(reply: &Reply) -> Self {
        Self {
            status: reply.status,
            errors: errors_of(&reply.body),
        }
    }

    /// The HTTP status.
    pub fn status(&self) -> u16 {
        self.status
    }

    /// The texts of its `errors`.
    pub fn errors(&self) -> &[String] {
        &self.errors
    }

    /// Read from an answer with one error.
    #[cfg(test)]
    pub(crate) fn said(status: u16, text: &str) -> Self {
        let body = serde_json::json!({ "errors": [text] }).to_string();
        Self::of(&Reply::new(status, String::new(), body.into_bytes().into()))
    }
}

/// An answer that says something: a success or a decision.
pub struct Reply {
    status: u16,
    path: String,
    content: Content,
    body: Zeroizing<Vec<u8>>,
    provenance: Provenance,
}

impl Reply {
    pub(super) fn new(status: u16, path: String, body: Zeroizing<Vec<u8>>) -> Self {
        Self {
            status,
            path,
            content: Content::default(),
            body,
            provenance: Provenance::UNSHOWN,
        }
    }

    /// The same, from there.
    pub(super) fn from(self, provenance: Provenance) -> Self {
        Self { provenance, ..self }
    }

    /// Where it comes from.
    pub fn provenance(&self) -> Provenance {
        self.provenance
    }

    /// The same with these headers.
    pub(super) fn saying(self, content: Content) -> Self {
        Self { content, ..self }
    }

    /// The HTTP status.
    pub fn status(&self) -> u16 {
        self.status
    }

    /// What the body is, as headers say it.
    pub fn content(&self) -> &Content {
        &self.content
    }

    /// The body as it came.
    pub fn body(&self) -> &[u8] {
        &self.body
    }

    /// The body as it came, for whom it is passed on to.
    pub fn into_body(self) -> Zeroizing<Vec<u8>> {
        self.body
    }

    /// Itself, if it is a success.
    ///
    /// # Errors
    /// The decision, if it is none.
    pub fn success(self) -> Result<Self, UpstreamError> {
        match self.status {
            200..=299 => Ok(self),
            _ => Err(UpstreamError::Decision(Decision::of(&self))),
        }
    }

    /// The envelope.
    ///
    /// # Errors
    /// If the body is none.
    pub fn envelope(&self) -> Result<Incoming<'_>, UpstreamError> {
        serde_json::from_slice(&self.body).map_err(|error| self.malformed(&error))
    }

    /// The whole body as one `T`, for what has no envelope.
    ///
    /// # Errors
    /// If the body is none.
    pub fn bare<T: DeserializeOwned>(&self) -> Result<T, UpstreamError> {
        serde_json::from_slice(&self.body).map_err(|error| self.malformed(&error))
    }

    /// The envelope's `data` as one `T`.
    ///
    /// # Errors
    /// If there is no envelope, or no such data in it.
    pub fn data<'a, T: Deserialize<'a>>(&'a self) -> Result<T, UpstreamError> {
        #[derive(Deserialize)]
        struct Data<T> {
            data: T,
        }
        serde_json::from_slice::<Data<T>>(&self.body)
            .map(|envelope| envelope.data)
            .map_err(|error| self.malformed(&error))
    }

    /// Whether it was refused: who asked, or what was asked.
    pub(super) fn refuses(&self) -> bool {
        self.status == 403
    }

    /// Whether it is a success.
    pub(super) fn is_success(&self) -> bool {
        matches!(self.status, 200..=299)
    }

    /// Whether the token that asked was refused, rather than what it asked for: the access control's own refusal has
    /// another form.
    pub(super) fn refuses_token(&self) -> bool {
        self.status == 403 && errors_of(&self.body) == ["permission denied"]
    }

    /// An error that says `what` is wrong with this answer, without quoting it.
    pub fn unexpected(&self, what: impl Into<String>) -> UpstreamError {
        UpstreamError::Malformed {
            path: self.path.clone(),
            what: what.into(),
        }
    }

    /// serde_json's texts can quote the input, which may be a secret: only kind and position are kept.
    fn malformed(&self, error: &serde_json::Error) -> UpstreamError {
        self.unexpected(format!(
            "{:?} at line {} column {}",
            error.classify(),
            error.line(),
            error.column()
        ))
    }
}

/// What is said of an answer whose body is longer than the request's bound.
pub(super) fn overlong(request: &Request) -> UpstreamError {
    UpstreamError::Malformed {
        path: request.path().to_owned(),
        what: format!("its body is longer than {} bytes", request.largest()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(status: u16, body: &str) -> Reply {
        Reply::new(
            status,
            "p".to_owned(),
            Zeroizing::new(body.as_bytes().to_vec()),
        )
    }

    #[test]
    fn errors_about_an_answer_do_not_quote_it() {
        let text = reply(200, r#"{"data":{"password":"hunter2""#)
            .data::<u64>()
            .unwrap_err();
        assert!(!text.to_string().contains("hunter2"), "{text}");
        let text = reply(200, r#"{"data":"hunter2"}"#)
            .data::<u64>()
            .unwrap_err();
        assert!(!text.to_string().contains("hunter2"), "{text}");
    }

    #[test]
    fn a_dead_token_is_told_from_a_missing_right() {
        let dead = r#"{"errors":["permission denied"]}"#;
        let denied = r#"{"errors":["1 error occurred:\n\t* permission denied\n\n"]}"#;
        assert!(reply(403, dead).refuses_token());
        assert!(!reply(403, denied).refuses_token() && !reply(400, dead).refuses_token());
    }

    #[test]
    fn a_decision_keeps_the_primarys_words_within_bounds() {
        let long = format!(r#"{{"errors":["{}"]}}"#, "x".repeat(5000));
        let Err(UpstreamError::Decision(decision)) = reply(403, &long).success() else {
            panic!("not a decision");
        };
        assert_eq!((decision.status(), decision.errors()[0].len()), (403, 512));
        assert!(reply(204, "").success().is_ok());
    }
}
