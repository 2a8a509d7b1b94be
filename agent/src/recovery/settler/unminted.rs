//! What it means that no token was minted for a grant: whether there never will be one, and when it is tried again.

use std::time::Duration;

use crate::upstream::{Decision, UpstreamError, workload::MintError};

/// What it means that no token was minted.
pub(super) enum Unminted {
    /// The primary gives none that is exactly so.
    Never,
    /// It asks Holdover to wait: so long, if it said.
    Later(Option<Duration>),
    /// Holdover has no token of its own to ask with.
    Tokenless,
    /// It would not have Holdover ask.
    NotNow,
    /// Nothing reached it.
    NotSent,
    /// It may have minted one.
    Unknown,
}

impl Unminted {
    pub(super) fn of(error: &MintError) -> Self {
        match error {
            MintError::NotExact(_) | MintError::UnknownWorkload => Self::Never,
            MintError::OwnCredentialRefused(decision) if decision.is_of_token() => Self::Tokenless,
            MintError::OwnCredentialRefused(_) => Self::NotNow,
            MintError::Upstream(error) => match error {
                UpstreamError::Decision(decision) if is_about_it(decision) => Self::Never,
                UpstreamError::SlowDown { after } => Self::Later(*after),
                UpstreamError::NoCredential => Self::Tokenless,
                UpstreamError::Offboarded(_) => Self::NotNow,
                UpstreamError::Decision(_)
                | UpstreamError::ForeignCluster(_)
                | UpstreamError::NotCurrent
                | UpstreamError::Unavailable(_) => Self::NotSent,
                UpstreamError::Malformed { .. }
                | UpstreamError::Undecided { .. }
                | UpstreamError::Unknown(_) => Self::Unknown,
            },
        }
    }
}

/// Whether it is about what was asked for, rather than about the node that answered or the moment.
fn is_about_it(decision: &Decision) -> bool {
    decision.is_bad_request() || decision.is_missing() || decision.is_unsupported()
}
