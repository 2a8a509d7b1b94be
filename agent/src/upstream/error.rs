//! Unavailability against decisions, told apart by type.

use shared::{provenance::ForeignCluster, time::WallTime};

use super::reply::Decision;
use crate::link::{Unavailable, once::Undone};

/// Why a request of Holdover's own brought nothing.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum UpstreamError {
    /// The primary decided: 400, 401, 403, 404, 405, 412.
    #[error(transparent)]
    Decision(Decision),
    /// Nothing was sent: it would have gone to a stranger.
    #[error(transparent)]
    ForeignCluster(#[from] ForeignCluster),
    /// The answer is not what this request is answered with.
    #[error("unexpected answer to {path}: {what}")]
    Malformed {
        /// The path asked.
        path: String,
        /// What is wrong with it, without values.
        what: String,
    },
    /// It cannot serve.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
    /// There is no token of Holdover's own yet.
    #[error("not logged in at the primary yet")]
    NoCredential,
    /// It answers, and nothing shows that what it says is current: nothing is learned from it.
    #[error("no node of the primary answers that can be shown to be current")]
    NotCurrent,
    /// Nothing is asked with Holdover's own credential any more, but for another one.
    #[error("the primary refuses Holdover's own credential since {0}: the host was offboarded")]
    Offboarded(WallTime),
    /// 429: reachable, asks for less.
    #[error("the primary asks for fewer requests")]
    SlowDown {
        /// `Retry-After`, where it came.
        after: Option<std::time::Duration>,
    },
    /// 500 or another status without a meaning here: neither a decision nor, by itself, unavailability.
    #[error("the primary answered {status} to {path}: {}", errors.join("; "))]
    Undecided {
        /// The path asked.
        path: String,
        /// The HTTP status.
        status: u16,
        /// Its `errors`.
        errors: Vec<String>,
    },
    /// It did not answer what may not be repeated, and may have carried it out.
    #[error("{0}; whether it was carried out is unknown")]
    Unknown(Unavailable),
}

impl UpstreamError {
    /// Whether the primary is unavailable, rather than having said something.
    pub fn is_unavailable(&self) -> bool {
        matches!(self, Self::Unavailable(_) | Self::Unknown(_))
    }

    /// That nothing of the request was carried out, where that is known of one that may not be repeated.
    pub(crate) fn undone(&self) -> Option<Undone> {
        match self {
            Self::Malformed { .. } | Self::Undecided { .. } | Self::Unknown(_) => None,
            Self::Decision(_) | Self::SlowDown { .. } => Some(Undone::refused()),
            Self::ForeignCluster(_)
            | Self::NoCredential
            | Self::NotCurrent
            | Self::Offboarded(_)
            | Self::Unavailable(_) => Some(Undone::unsent()),
        }
    }

    /// Whether nothing that counts came of the way to the primary: it is unavailable, or a stranger answers there.
    pub fn is_of_the_way(&self) -> bool {
        matches!(
            self,
            Self::Unavailable(_) | Self::Unknown(_) | Self::ForeignCluster(_) | Self::NotCurrent
        )
    }

    /// The primary's decision, if it is one.
    pub fn decision(&self) -> Option<&Decision> {
        match self {
            Self::Decision(decision) => Some(decision),
            _ => None,
        }
    }

    /// Whether nothing was decided but that Holdover has no token of its own that the primary takes: there is none yet, or it
    /// ended. Another one may be had.
    pub fn is_of_own_token(&self) -> bool {
        matches!(self, Self::NoCredential) || self.decision().is_some_and(Decision::is_of_token)
    }

    /// Whether the primary decided that who asked may not.
    pub fn is_denial(&self) -> bool {
        self.decision().is_some_and(Decision::is_denial)
    }

    /// Whether the primary said that the token or accessor asked about is dead. Its texts tell that apart from a
    /// refusal of the token that asked, which has the same status.
    pub fn says_dead(&self) -> bool {
        const TEXTS: [&str; 3] = ["bad token", "invalid accessor", "invalid token"];
        self.decision().is_some_and(|decision| {
            let fits = decision.is_bad_request() || decision.is_denial() || decision.is_missing();
            fits && TEXTS.into_iter().any(|dead| decision.says(dead))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decision(status: u16, text: &str) -> UpstreamError {
        UpstreamError::Decision(Decision::said(status, text))
    }

    #[test]
    fn only_gateway_statuses_are_outages_by_themselves() {
        let outages: Vec<u16> = (100..600)
            .filter(|s| crate::link::error::is_unavailable_status(*s))
            .collect();
        assert_eq!(outages, [502, 503, 504]);
    }

    #[test]
    fn a_refused_token_of_holdovers_own_is_no_word_about_what_was_asked() {
        assert!(UpstreamError::NoCredential.is_of_own_token());
        assert!(decision(403, "permission denied").is_of_own_token());
        let of_policy = "1 error occurred:\n\t* permission denied\n\n";
        assert!(!decision(403, of_policy).is_of_own_token());
        assert!(!decision(400, "permission denied").is_of_own_token());
    }

    #[test]
    fn a_refused_caller_is_not_a_dead_token() {
        assert!(decision(403, "bad token").says_dead());
        assert!(decision(400, "1 error occurred:\n\t* invalid accessor\n\n").says_dead());
        assert!(!decision(403, "permission denied").says_dead());
        assert!(!decision(403, "1 error occurred:\n\t* permission denied\n\n").says_dead());
        assert!(!decision(500, "bad token").says_dead());
    }
}
