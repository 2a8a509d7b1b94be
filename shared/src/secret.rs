//! Secret values: without `Debug`, `Clone`, `Serialize` or `PartialEq`, wiped on drop, one greppable exit.

use alloc::{string::String, vec::Vec};

use zeroize::{Zeroize, Zeroizing};

/// A value that must not be printed, copied or left in memory.
///
/// The only way to what it holds is [`Secret::expose`].
pub struct Secret<T: Zeroize>(Zeroizing<T>);

/// A token, password or key in text.
pub type SecretText = Secret<String>;

/// A body or key in bytes.
pub type SecretBytes = Secret<Vec<u8>>;

impl<T: Zeroize> Secret<T> {
    /// Wraps `value`. The caller must hold no other copy.
    pub fn new(value: T) -> Self {
        Self(Zeroizing::new(value))
    }

    /// The value itself. Every use of this is a place to review.
    pub fn expose(&self) -> &T {
        &self.0
    }
}

impl<T: Zeroize + Default> Secret<T> {
    /// A value filled in place, so that no copy is left where it was made.
    pub fn filled(fill: impl FnOnce(&mut T)) -> Self {
        let mut value = Zeroizing::new(T::default());
        fill(&mut value);
        Self(value)
    }
}

impl Secret<String> {
    /// A second owner of the same text, for a task that outlives the first.
    pub fn duplicate(&self) -> Self {
        Self::new(self.expose().clone())
    }
}
