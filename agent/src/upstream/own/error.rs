//! Why Holdover has no other token of its own now, and what that says of the next attempt.

use crate::upstream::{UpstreamError, login::LoginError};

/// Why nothing could be done about the token.
#[derive(Debug, thiserror::Error)]
pub(super) enum KeepError {
    #[error(transparent)]
    Login(#[from] LoginError),
    #[error("the token in {0} is refused")]
    FileRefused(String),
    #[error("{0}: the login was refused; it is tried once more in a moment")]
    OnceMore(String),
    #[error(
        "{0}: the login was refused twice; it is tried again when its files change, or in some minutes"
    )]
    Held(String),
    #[error(
        "{0}: the answer to a login was lost, which may have spent a use of its credential; it is tried again later"
    )]
    Lost(String),
    #[error("the new token could not be stored: {0}")]
    Store(#[from] replica::sequencer::SubmitError),
}

impl KeepError {
    /// Whether the primary said no, or would again.
    pub(super) fn is_refusal(&self) -> bool {
        match self {
            Self::FileRefused(_) | Self::Held(_) | Self::OnceMore(_) => true,
            Self::Login(login) => login.is_refusal(),
            Self::Lost(_) | Self::Store(_) => false,
        }
    }

    /// Whether nothing but an answer that counts was wanting. One that was lost may have spent something, and is none of these.
    pub(super) fn wants_answer(&self) -> bool {
        matches!(self, Self::Login(login) if login.wants_answer())
    }
}

impl From<UpstreamError> for KeepError {
    fn from(error: UpstreamError) -> Self {
        Self::Login(error.into())
    }
}
