//! With which token a request is forwarded, and what the client may see of it afterwards.

use bytes::Bytes;
use http::HeaderMap;
use shared::secret::SecretText;

use super::{headers, replica_token};

/// The token that a request is forwarded with.
pub(crate) enum Credential {
    /// As the client sent it, or none.
    AsSent,
    /// None, whatever the client sent: what it sent is a replica token, and the call asks for none.
    Withheld,
    /// The workload's standing token, which the client never sees.
    Standing(SecretText),
    /// The primary token behind an exchanged replica token: the client sees its own string in its place.
    Exchanged {
        /// The primary's.
        token: SecretText,
        /// The client's.
        shown: SecretText,
    },
}

impl Credential {
    /// Puts the token in.
    pub(crate) fn apply(&self, headers: &mut HeaderMap) {
        match self {
            Self::AsSent => {}
            Self::Withheld => headers::remove_token(headers),
            Self::Standing(token) | Self::Exchanged { token, .. } => {
                headers::set_token(headers, token);
            }
        }
    }

    /// Whether answers must be looked through before a client sees them.
    pub(crate) fn is_hidden(&self) -> bool {
        matches!(self, Self::Standing(_) | Self::Exchanged { .. })
    }

    /// The answer with what the client may see in the token's place; `None` where it does not occur.
    pub(crate) fn hide(&self, body: &[u8]) -> Option<Bytes> {
        match self {
            Self::AsSent | Self::Withheld => None,
            Self::Standing(token) => replica_token::replaced(body, token.expose(), ""),
            Self::Exchanged { token, shown } => {
                replica_token::replaced(body, token.expose(), shown.expose())
            }
        }
    }
}
