//! What each cause of a 503 is, wherever causes are sorted: by parity, its metric, coverage and the ledger.
//!
//! Each cause has its row, so that a new one is sorted when it is made and not by what is left over.

use shared::coverage::Verdict::{
    self, IssueDisabled, NotMirrored, NotModelled, Stale, UnknownToken, Write,
};

use super::refusal::{Credential, Issuing, Why};

/// What a cause is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Class {
    /// Nothing that the replica ever serves, or is configured to serve: no fault where the primary serves it. Everything
    /// else counts as a disagreement.
    pub(crate) by_design: bool,
    /// What kind of cause it is, in one of few words: for labels.
    pub(crate) word: &'static str,
    /// What coverage calls it.
    pub(crate) verdict: Verdict,
    /// Under which word the ledger counts it.
    pub(crate) reason: &'static str,
}

const ISSUING: &str = "issuing";
const LEASE: &str = "lease";
const POLICY: &str = "policy";
const REQUEST: &str = "request";
const STALENESS: &str = "staleness";
const TOKEN: &str = "token";
const VALUE: &str = "value";

impl Class {
    /// What the replica is not there for.
    const fn by_design(word: &'static str, verdict: Verdict) -> Self {
        Self {
            by_design: true,
            ..Self::failing(word, verdict)
        }
    }

    /// What the replica is there for, and cannot do.
    const fn failing(word: &'static str, verdict: Verdict) -> Self {
        Self {
            by_design: false,
            word,
            verdict,
            reason: "undecidable",
        }
    }

    const fn counted_as(self, reason: &'static str) -> Self {
        Self { reason, ..self }
    }
}

impl Why {
    /// Its row.
    pub(crate) fn class(&self) -> Class {
        use Verdict::Undecidable;
        match self {
            Self::AuthMethod => Class::by_design(REQUEST, NotModelled),
            Self::AuthorityTooOld(_) => Class::failing(ISSUING, Stale),
            Self::BoundAddresses => Class::by_design(REQUEST, NotModelled),
            Self::Contradiction => Class::failing(POLICY, Undecidable),
            Self::Credential(credential) => credential.class(),
            Self::ForeignPeer => Class::by_design(REQUEST, Undecidable),
            Self::Form => Class::by_design(REQUEST, NotModelled),
            Self::Header(_) => Class::by_design(REQUEST, NotModelled),
            Self::Issuing(issuing) => issuing.class(),
            Self::LeaseEnded => Class::failing(LEASE, Stale),
            Self::LeaseGivenUp => Class::failing(LEASE, Stale),
            Self::LeaseNotHeld => Class::failing(LEASE, Stale),
            Self::LeaseUnknown => Class::by_design(LEASE, UnknownToken),
            Self::LimitedUse => Class::by_design(TOKEN, NotModelled),
            Self::MirrorIncomplete(_) => Class::failing(STALENESS, Stale),
            Self::Namespace => Class::by_design(REQUEST, NotModelled),
            Self::NoEntropy => Class::failing(REQUEST, Undecidable),
            Self::NoStandingToken(_) => Class::failing(TOKEN, UnknownToken),
            Self::NotServed => Class::by_design(REQUEST, NotModelled),
            Self::Orphaning => Class::by_design(REQUEST, NotModelled),
            Self::Parameter(_) => Class::by_design(REQUEST, NotModelled),
            Self::PathNotMirrored => Class::by_design(REQUEST, NotMirrored),
            Self::Policy(_) => Class::failing(POLICY, Undecidable),
            Self::PoolEmpty { .. } => Class::failing(LEASE, Stale),
            Self::PrimaryNeverSeen => Class::failing(STALENESS, Stale),
            Self::Quarantined => Class::failing(POLICY, Undecidable),
            Self::RoleNotMirrored => Class::by_design(ISSUING, NotModelled),
            Self::Root => Class::by_design(TOKEN, NotModelled),
            Self::TokenTooOld => Class::failing(TOKEN, Stale),
            Self::TokenUnknown => Class::by_design(TOKEN, UnknownToken),
            Self::TooStale { .. } => Class::failing(STALENESS, Stale).counted_as("stale"),
            Self::ValueDamaged => Class::failing(VALUE, Undecidable),
            Self::ValueNotMirrored => Class::failing(VALUE, Stale),
            Self::VersionNotMirrored(_) => Class::by_design(VALUE, NotModelled),
            Self::Write => Class::by_design(REQUEST, Write),
        }
    }
}

impl Credential {
    fn class(self) -> Class {
        match self {
            Self::Addresses | Self::SecondFactor => Class::by_design(REQUEST, NotModelled),
            Self::Identity => Class::failing(REQUEST, Verdict::Undecidable),
            Self::Old => Class::failing(REQUEST, Stale),
            Self::Unknown => Class::by_design(REQUEST, NotModelled).counted_as("credential"),
            Self::Unseen => Class::by_design(REQUEST, Stale),
        }
    }
}

impl Issuing {
    fn class(self) -> Class {
        match self {
            Self::Ambiguous => Class::by_design(ISSUING, Verdict::Undecidable),
            Self::Disabled | Self::NoWorkload => Class::by_design(ISSUING, IssueDisabled),
            Self::Blocked(_)
            | Self::NoPolicies
            | Self::OutageBound
            | Self::PastMaxTtl
            | Self::PrimaryInCharge
            | Self::Role
            | Self::RolledBack
            | Self::SeveralWorkloads
            | Self::Unmodelled(_) => Class::failing(ISSUING, Verdict::Undecidable),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All four say what an operator can do: give the pool more, look at the mirror, wait for the primary.
    #[test]
    fn what_a_mirror_or_a_pool_should_have_held_is_of_its_kind_and_stale() {
        let empty = Why::PoolEmpty {
            path: "database/creds/ro".into(),
            size: 2,
        };
        for (why, word) in [
            (empty, "lease"),
            (Why::LeaseGivenUp, "lease"),
            (Why::ValueNotMirrored, "value"),
            (Why::PrimaryNeverSeen, "staleness"),
        ] {
            assert_eq!(why.class(), Class::failing(word, Stale), "{why}");
            assert_eq!(why.class().reason, "undecidable", "{why}");
        }
    }
}
