//! Why a request is not granted, and how that is worded.
//!
//! Where the primary would refuse too, status and text are its own. Where only the primary can tell, the answer
//! is 503 with a text of its own for every reason: not to know is not to deny.

use shared::{name::WorkloadName, settings::Mirror, wire::Errors};

use super::Answer;

mod why;

pub(crate) use why::{Class, Credential, Damaged, Issuing, Why};

/// What a request comes to, or a part of it.
pub(crate) type Answered<T = Answer> = Result<T, Refusal>;

/// A request that is not granted. Nothing of it was applied.
#[derive(Clone, PartialEq, Debug)]
pub(crate) enum Refusal {
    /// 500, in the words of the backend that would have answered: how the primary fails what it takes for a mistake.
    Backend(&'static str),
    /// 400: this role id and secret id are known to be refused by the primary.
    BadCredential,
    /// 400, in the words of the backend that would have answered.
    Invalid(String),
    /// 400, in the words and the form of the primary's core.
    InvalidInCore(&'static str),
    /// 400, nothing is said.
    Malformed,
    /// 403: no token, a dead one, or one that is not this peer's.
    Unauthenticated,
    /// 403: a look-up names a token that is dead.
    BadToken,
    /// 403: the access control says no.
    Denied,
    /// 403 with a way on.
    Forbidden(Forbidden),
    /// 403: the caller has nothing to do with the mount of this path.
    NoMountAccess(String),
    /// 404: nothing is there.
    Absent,
    /// 404: the mount has no such path.
    NoSuchPath,
    /// 405 of an HTTP handler: nothing is said.
    Method,
    /// 405 of a backend.
    Operation,
    /// 405 of a backend at a path that needs no token, where the primary's core adds nothing.
    OpenOperation,
    /// 500: the primary fails at it too, whatever it holds.
    Fails(&'static str),
    /// 429: as many grants of this workload live as may.
    TooManyGrants(WorkloadName),
    /// 503: only the primary can tell.
    Undecidable(Why),
}

/// What a caller without the right can do about it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub(crate) enum Forbidden {
    /// The token outlived its outage and is good for mirrored reads only.
    #[error(
        "permission denied: this token was issued in an outage that is over and serves mirrored reads only; \
         log in again"
    )]
    Draining,
    /// No workload entry matches the peer, or not the one that was asked for.
    #[error("permission denied: this role is not for the calling process")]
    NotThisPeer,
    /// `on_failover = "reauthenticate"`.
    #[error(
        "permission denied: tokens of this workload are not resumed in an outage; log in again"
    )]
    Reauthenticate,
    /// A templated policy path would take what it may not; elsewhere that is 400, with the same word.
    #[error("Forbidden")]
    Policies,
    /// The standing token has ended.
    #[error("permission denied: the workload's standing token has ended; log in again")]
    StandingEnded,
    /// Nobody is attested on this connection, or no workload entry matches.
    #[error("permission denied: the calling process is not a configured workload")]
    Unattested,
}

impl Refusal {
    /// A field that does not convert, in the words of the primary's framework.
    pub(crate) fn field(name: &str, reason: &str) -> Self {
        Self::Invalid(format!(
            "Field validation failed: error converting input for field \"{name}\": {reason}"
        ))
    }

    /// The mirror has not seen everything yet.
    pub(crate) fn incomplete(mirror: &Mirror) -> Self {
        Self::Undecidable(Why::MirrorIncomplete(mirror.path.configured()))
    }

    /// The HTTP status.
    pub(crate) fn status(&self) -> u16 {
        match self {
            Self::BadCredential | Self::Invalid(_) | Self::InvalidInCore(_) | Self::Malformed => {
                400
            }
            Self::Unauthenticated
            | Self::BadToken
            | Self::Denied
            | Self::Forbidden(_)
            | Self::NoMountAccess(_) => 403,
            Self::Absent | Self::NoSuchPath => 404,
            Self::Method | Self::Operation | Self::OpenOperation => 405,
            Self::Backend(_) | Self::Fails(_) => 500,
            Self::TooManyGrants(_) => 429,
            Self::Undecidable(_) => 503,
        }
    }

    /// The body. `unavailable` says since when the primary is, for what only it could decide.
    pub(crate) fn errors(&self, unavailable: &str) -> Errors {
        match self {
            Self::Backend(text) => Errors::one(text),
            Self::BadCredential => Errors::one("invalid role or secret ID"),
            Self::Invalid(text) => Errors::one(text),
            Self::InvalidInCore(text) => Errors::multi(text),
            Self::Unauthenticated => Errors::one("permission denied"),
            Self::BadToken => Errors::one("bad token"),
            Self::Denied => Errors::multi("permission denied"),
            Self::Forbidden(forbidden) => Errors::one(forbidden),
            Self::NoMountAccess(path) => Errors::one(format!(
                "preflight capability check returned 403, please ensure client's policies grant access to \
                 path \"{path}\""
            )),
            Self::Absent | Self::Malformed | Self::Method => Errors::none(),
            Self::NoSuchPath => Errors::multi("unsupported path"),
            Self::Operation => Errors::multi("unsupported operation"),
            Self::OpenOperation => Errors::one("unsupported operation"),
            Self::Fails(text) => Errors::multi(text),
            Self::TooManyGrants(workload) => Errors::one(format!(
                "too many tokens that were issued to workload {workload} in outages are alive \
                 (limits.grants_per_workload): revoke some, or wait until they end"
            )),
            Self::Undecidable(why) => Errors::one(format!("{unavailable}; {why}")),
        }
    }

    /// The fixed word under which the ledger counts it; none for what is no refusal of the caller.
    pub(crate) fn reason(&self) -> Option<&'static str> {
        match self {
            Self::Unauthenticated | Self::BadToken => Some("token"),
            Self::Denied | Self::NoMountAccess(_) | Self::Forbidden(Forbidden::Policies) => {
                Some("policy")
            }
            Self::Forbidden(Forbidden::Draining) => Some("draining"),
            Self::Forbidden(Forbidden::Reauthenticate) => Some("reauthenticate"),
            Self::Forbidden(Forbidden::StandingEnded) => Some("standing_token"),
            Self::Forbidden(Forbidden::NotThisPeer | Forbidden::Unattested) => Some("attestation"),
            Self::BadCredential => Some("credential"),
            Self::TooManyGrants(_) => Some("limit"),
            Self::Undecidable(why) => Some(why.class().reason),
            Self::Backend(_)
            | Self::Invalid(_)
            | Self::InvalidInCore(_)
            | Self::Malformed
            | Self::Absent
            | Self::NoSuchPath
            | Self::Method
            | Self::Operation
            | Self::OpenOperation
            | Self::Fails(_) => None,
        }
    }
}

impl From<Why> for Refusal {
    fn from(why: Why) -> Self {
        Self::Undecidable(why)
    }
}

impl From<Forbidden> for Refusal {
    fn from(forbidden: Forbidden) -> Self {
        Self::Forbidden(forbidden)
    }
}

impl From<Credential> for Refusal {
    fn from(credential: Credential) -> Self {
        Self::Undecidable(Why::Credential(credential))
    }
}

impl From<Damaged> for Refusal {
    fn from(damaged: Damaged) -> Self {
        Self::Undecidable(Why::Damaged(damaged))
    }
}

impl From<Issuing> for Refusal {
    fn from(issuing: Issuing) -> Self {
        Self::Undecidable(Why::Issuing(issuing))
    }
}

impl From<crate::entropy::NoEntropy> for Refusal {
    fn from(_: crate::entropy::NoEntropy) -> Self {
        Self::Undecidable(Why::NoEntropy)
    }
}

impl From<crate::seal::SealError> for Refusal {
    fn from(_: crate::seal::SealError) -> Self {
        Self::Undecidable(Why::ValueDamaged)
    }
}

impl From<serde_json::Error> for Refusal {
    /// What is kept was JSON when it was stored.
    fn from(_: serde_json::Error) -> Self {
        Self::Undecidable(Why::ValueDamaged)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use shared::{
        acl,
        name::{EntityId, PolicyName, WorkloadName},
        settings::Footing,
        token::create::Unmodelled,
    };

    use super::*;

    fn text(why: Why) -> String {
        let errors = Refusal::from(why).errors("primary unavailable since T");
        errors.errors.into_iter().next().unwrap()
    }

    #[test]
    fn every_503_has_a_text_of_its_own() {
        let workload = WorkloadName::parse("w").unwrap();
        let policy = acl::Undecidable::Policy { policy: "p".into() };
        let stale = Why::TooStale {
            age: Duration::from_secs(9),
            max: Duration::from_secs(5),
        };
        let pool = Why::PoolEmpty {
            path: "p".into(),
            size: 2,
        };
        let max = Duration::from_secs(3600);
        let unverified = |what| Why::Unverified { what, max };
        let mut texts: Vec<String> = [
            Why::AuthMethod,
            Why::AuthorityTooOld(workload.clone()),
            Why::AuthorityUnproven(workload.clone()),
            Why::Beyond {
                policy: PolicyName::parse("p").unwrap(),
                workload: workload.clone(),
            },
            Why::BoundAddresses,
            Why::ForeignPeer,
            Why::Contradiction,
            Why::Credential(Credential::Addresses),
            Why::Credential(Credential::Guessed),
            Why::Credential(Credential::Identity),
            Why::Credential(Credential::Old),
            Why::Credential(Credential::SecondFactor),
            Why::Credential(Credential::Unknown),
            Why::Credential(Credential::Unseen),
            Why::Damaged(Damaged::AppRole(crate::samples::approle().key)),
            Why::Damaged(Damaged::Authority(workload.clone())),
            Why::Damaged(Damaged::Identity(EntityId::parse("e").unwrap())),
            Why::Damaged(Damaged::Lease),
            Why::Damaged(Damaged::Mounts),
            Why::Damaged(Damaged::Policies),
            Why::Damaged(Damaged::Policy(PolicyName::parse("app").unwrap())),
            Why::Damaged(Damaged::Token),
            Why::Doubted,
            Why::Offboarded(shared::time::WallTime::EPOCH),
            Why::Form,
            Why::Header("X".into()),
            Why::Issuing(Issuing::Ambiguous),
            Why::Issuing(Issuing::Blocked(shared::block::BlockCause::ClockBehind)),
            Why::Issuing(Issuing::Disabled),
            Why::Issuing(Issuing::NoPolicies),
            Why::Issuing(Issuing::TooLarge),
            Why::Issuing(Issuing::NoWorkload),
            Why::Issuing(Issuing::PastMaxTtl),
            Why::Issuing(Issuing::SeveralWorkloads),
            Why::Issuing(Issuing::Unmodelled(Unmodelled::Batch)),
            Why::Issuing(Issuing::Unmodelled(Unmodelled::BoundAddresses)),
            Why::Issuing(Issuing::Unmodelled(Unmodelled::EntityAlias)),
            Why::Issuing(Issuing::Unmodelled(Unmodelled::Id)),
            Why::Issuing(Issuing::Unmodelled(Unmodelled::LimitedUses)),
            Why::Issuing(Issuing::Unmodelled(Unmodelled::Period)),
            Why::Issuing(Issuing::OutageBound),
            Why::Issuing(Issuing::PrimaryInCharge),
            Why::Issuing(Issuing::Role),
            Why::Issuing(Issuing::RolledBack),
            Why::LeaseEnded,
            Why::LeaseGivenUp,
            Why::LeaseNotHeld,
            Why::LeaseUnknown,
            Why::LimitedUse,
            Why::MirrorFull("m".into()),
            Why::MirrorIncomplete("m".into()),
            Why::Namespace,
            Why::NoEntropy,
            Why::NoStandingToken(workload),
            Why::NotServed,
            Why::Parameter("version"),
            Why::PathNotMirrored,
            Why::Policy(policy),
            pool,
            Why::PrimaryNeverSeen,
            Why::Orphaning,
            Why::RoleNotMirrored,
            Why::Issuing(Issuing::Quarantined),
            Why::Root,
            stale,
            Why::TokenTooOld,
            Why::TokenUnknown,
            Why::TokenUnproven,
            Why::TooManyRevocations,
            Why::Unsettled,
            unverified(Footing::Identity(EntityId::parse("e").unwrap())),
            unverified(Footing::Mounts),
            unverified(Footing::Policies),
            unverified(Footing::Policy(PolicyName::parse("p").unwrap())),
            Why::ValueDamaged,
            Why::ValueNotMirrored,
            Why::VersionNotMirrored(3),
            Why::Write,
        ]
        .map(text)
        .into();
        let count = texts.len();
        texts.sort();
        texts.dedup();
        assert_eq!(texts.len(), count);
    }

    #[test]
    fn an_unmirrored_path_is_worded_as_the_contract_says() {
        assert_eq!(
            text(Why::PathNotMirrored),
            "primary unavailable since T; path is not mirrored"
        );
    }
}
