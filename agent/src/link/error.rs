//! What keeps a request from being answered, by kind.

use std::{error::Error, io};

use shared::{provenance::ForeignCluster, wire::Errors};

use super::names::NotResolved;

/// The primary cannot serve: never a decision about who may do what.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Unavailable {
    /// Refused, reset, closed in mid-answer.
    #[error("connection failed: {0}")]
    Connect(String),
    /// The name does not resolve.
    #[error("name does not resolve: {0}")]
    Dns(String),
    /// 500 while the authenticated probe fails too, or 502, 503, 504.
    #[error("the primary answered {status}")]
    Status {
        /// The HTTP status.
        status: u16,
        /// Whether it said that it is sealed or draining, in its own words.
        detail: String,
    },
    /// No answer in time.
    #[error("no answer in time")]
    Timeout,
    /// The handshake failed, or the certificate is not of our CA.
    #[error("TLS failed: {0}")]
    Tls(String),
}

/// Why nothing may be sent over a fresh connection.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Unshown {
    /// Another cluster answers there.
    #[error(transparent)]
    Foreign(#[from] ForeignCluster),
    /// Nothing there can serve.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
    /// Something there asks for fewer requests, and shows nothing.
    #[error("fewer requests are asked for, and nothing shows which cluster answers")]
    SlowDown,
    /// A node answers, but not the active one that was asked for.
    #[error("the active node is not reached there")]
    NotActive,
}

impl Unshown {
    /// What an error of the HTTP library says of a connection that was not opened.
    pub(crate) fn of(error: &(dyn Error + 'static)) -> Self {
        causes(error)
            .find_map(|error| error.downcast_ref::<Self>().cloned())
            .unwrap_or_else(|| Unavailable::of(error).into())
    }

    /// Whether it speaks of the node that answered, and not of the way there: another connection may lead to another node.
    pub(crate) fn is_of_one_node(&self) -> bool {
        matches!(
            self,
            Self::Foreign(_) | Self::Unavailable(Unavailable::Status { .. })
        )
    }

    /// What it means for a request that would have gone over it.
    pub(crate) fn into_unavailable(self) -> Unavailable {
        match self {
            Self::Unavailable(unavailable) => unavailable,
            other => Unavailable::Connect(other.to_string()),
        }
    }
}

impl Unavailable {
    pub(crate) fn no_address() -> Self {
        Self::Connect("no address is configured".to_owned())
    }

    /// Which kind a failure to send is: by type where the layers below give one.
    pub(crate) fn of(error: &(dyn Error + 'static)) -> Self {
        let mut innermost = error;
        for error in causes(error) {
            if let Some(Unshown::Unavailable(known)) = error.downcast_ref::<Unshown>() {
                return known.clone();
            }
            if let Some(names) = error.downcast_ref::<NotResolved>() {
                return Self::Dns(names.to_string());
            }
            if let Some(tls) = error.downcast_ref::<rustls::Error>() {
                return Self::Tls(tls.to_string());
            }
            let io = error.downcast_ref::<io::Error>();
            if io.is_some_and(|io| io.kind() == io::ErrorKind::TimedOut) {
                return Self::Timeout;
            }
            innermost = error;
        }
        Self::Connect(innermost.to_string())
    }
}

/// An error and what caused it, outermost first.
fn causes<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |error| inner(*error))
}

fn inner<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a (dyn Error + 'static)> {
    // What an `io::Error` wraps, as rustls does, is not its source, but whose source it shows.
    match error
        .downcast_ref::<io::Error>()
        .and_then(io::Error::get_ref)
    {
        Some(wrapped) => Some(wrapped),
        None => error.source(),
    }
}

/// What a status of that class tells, in the primary's own words.
pub(crate) fn unavailable_of(status: u16, body: &[u8]) -> Unavailable {
    Unavailable::Status {
        status,
        detail: errors_of(body).join("; "),
    }
}

/// Whether a status alone means that it is unavailable. 500 is so only when the authenticated probe fails too.
pub fn is_unavailable_status(status: u16) -> bool {
    matches!(status, 502..=504)
}

/// The `errors` of an answer, bounded, for messages.
pub(crate) fn errors_of(body: &[u8]) -> Vec<String> {
    const MOST: usize = 8;
    const LONGEST: usize = 512;
    let errors = serde_json::from_slice::<Errors>(body).map_or_else(|_| Vec::new(), |e| e.errors);
    let shorten = |text: String| text.trim().chars().take(LONGEST).collect();
    errors.into_iter().take(MOST).map(shorten).collect()
}
