//! Why a request is not granted, and how that is worded.
//!
//! Where the primary would refuse too, status and text are its own. Where only the primary can tell, the answer
//! is 503 with a text of its own for every reason: not to know is not to deny.

use std::time::Duration;

use shared::{acl, name::WorkloadName, settings::Mirror, token::create::Unmodelled, wire::Errors};

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
    #[error("permission denied: the calling process is no configured workload")]
    Unattested,
}

/// Why only the primary can decide.
#[derive(Clone, PartialEq, Debug, thiserror::Error)]
pub(crate) enum Why {
    /// Other logins than the attested one.
    #[error("logins at this mount are not served by the replica; use auth/holdover/login")]
    AuthMethod,
    /// Too long ago that the workload's authority was verified.
    #[error(
        "workload {0} has no authority verified recently enough before the outage: nothing is issued"
    )]
    AuthorityTooOld(WorkloadName),
    /// The token is bound to addresses, and a Unix socket has none.
    #[error("the token is bound to addresses, and where this request comes from is not known")]
    BoundAddresses,
    /// The token was given to another peer.
    #[error("the token was obtained by another process; only the primary can accept it here")]
    ForeignPeer,
    /// Policies that the primary cannot put together either: it fails with 500.
    #[error("the token's policies contradict each other")]
    Contradiction,
    /// Of a login's credential.
    #[error("this login cannot be decided: {0}")]
    Credential(Credential),
    /// A form.
    #[error("the request's body is a form, not JSON")]
    Form,
    /// A header asks for what is not modelled.
    #[error("header {0} asks for what the replica does not model")]
    Header(String),
    /// Nothing can be issued now.
    #[error("nothing can be issued: {0}")]
    Issuing(Issuing),
    /// The lease that is held has ended.
    #[error("the lease that was held of this path has ended")]
    LeaseEnded,
    /// The caller revoked the shared lease.
    #[error("this client revoked the lease that is held of this path")]
    LeaseGivenUp,
    /// No lease of the path is held.
    #[error("no lease of this path is held for this token")]
    LeaseNotHeld,
    /// A lease that the replica never saw.
    #[error("the lease is not known to the replica")]
    LeaseUnknown,
    /// A token with a bounded number of uses.
    #[error("the token has a limited number of uses, which only the primary can count")]
    LimitedUse,
    /// The mirror never went through a complete pass.
    #[error("mirror {0} has not completed its first pass")]
    MirrorIncomplete(String),
    /// Another namespace than the mirrored one.
    #[error("the namespace of the request is not mirrored")]
    Namespace,
    /// The operating system gives no randomness.
    #[error("the operating system gives no randomness")]
    NoEntropy,
    /// There is no standing token of the workload.
    #[error("no standing token of workload {0} is held")]
    NoStandingToken(WorkloadName),
    /// The operation is not modelled.
    #[error("operation is not served by the replica")]
    NotServed,
    /// The path is not mirrored.
    #[error("path is not mirrored")]
    PathNotMirrored,
    /// A policy cannot be decided by.
    #[error("{0}")]
    Policy(acl::Undecidable),
    /// Nothing is left of a pool.
    #[error(
        "the pool of {path} (pool = {size}) has no lease left: each is handed out or has ended"
    )]
    PoolEmpty {
        /// The mirror.
        path: String,
        /// As many are kept ready while the primary answers.
        size: u32,
    },
    /// Policies or mounts were never seen.
    #[error("the replica has not seen the primary yet")]
    PrimaryNeverSeen,
    /// Only the primary can take its own tokens' children from them.
    #[error("only the primary can revoke a token of its own and spare its children")]
    Orphaning,
    /// A token role that no configured workload has.
    #[error("the token role is not mirrored: only those of configured workloads are")]
    RoleNotMirrored,
    /// The token's policy set is in quarantine.
    #[error(
        "the token's policies are quarantined: for them the replica was found to grant more than the primary"
    )]
    Quarantined,
    /// Root tokens are not decided for.
    #[error("root tokens are not served by the replica")]
    Root,
    /// The value is older than its mirror allows.
    #[error("the mirrored value is too stale: verified {} s ago, at most {} s allowed", .age.as_secs(), .max.as_secs())]
    TooStale {
        /// Its age.
        age: Duration,
        /// The bound.
        max: Duration,
    },
    /// The token was verified too long before the outage.
    #[error("the token was not verified recently enough before the outage")]
    TokenTooOld,
    /// A token that the replica never saw.
    #[error("the token is not known to the replica")]
    TokenUnknown,
    /// The sealed value does not open.
    #[error("the mirrored value is damaged")]
    ValueDamaged,
    /// It is known to be there, and could not be read.
    #[error("the value could not be mirrored")]
    ValueNotMirrored,
    /// A spelling of a number that only the primary reads.
    #[error("parameter {0:?} is spelled in a way that the replica does not read")]
    Parameter(&'static str),
    /// The version is not kept.
    #[error("version {0} is not mirrored")]
    VersionNotMirrored(u64),
    /// A write.
    #[error("writes are not possible; nothing was applied")]
    Write,
}

/// Why only the primary can tell whether a login is right.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub(crate) enum Credential {
    /// The role or the secret id is bound to addresses.
    #[error("it is bound to addresses, and where this request comes from is not known")]
    Addresses,
    /// The entity that logged in last is gone, or the role id is another's by now.
    #[error("whom it stands for has changed since it was last used at the primary")]
    Identity,
    /// The last login that the primary accepted is too long ago.
    #[error("it was not used at the primary recently enough before the outage")]
    Old,
    /// A second factor is asked for.
    #[error("it needs a second factor")]
    SecondFactor,
    /// The pair was never proven here. It may be right, wrong, or of limited uses: all three are told alike.
    #[error(
        "it was not verified before the outage, or its uses are limited, which only the primary can count"
    )]
    Unknown,
    /// Role or accessor were not seen to stand recently enough.
    #[error("its role was not verified recently enough before the outage")]
    Unseen,
}

/// Why nothing can be issued.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub(crate) enum Issuing {
    /// Several entries of the peer enable it, and the request cannot say which is meant.
    #[error(
        "several workloads of the calling process may be issued tokens: use auth/holdover/login and name one as role"
    )]
    Ambiguous,
    /// Something stands against it for the whole host.
    #[error("{0}")]
    Blocked(&'static str),
    /// The workload's configuration does not allow it.
    #[error("issuing in an outage is not enabled for this workload")]
    Disabled,
    /// The role gives its tokens nothing.
    #[error("the role allows none of the workload's policies")]
    NoPolicies,
    /// Neither the token nor the calling process belongs to a workload.
    #[error("neither the token nor the calling process belongs to a configured workload")]
    NoWorkload,
    /// The outage has outlived its bounds.
    #[error("the outage has outlived its bounds")]
    OutageBound,
    /// The mount's or the role's maximum was lowered below what the token has lived already.
    #[error("past the max TTL, cannot renew")]
    PastMaxTtl,
    /// The primary is in charge.
    #[error("the primary is in charge")]
    PrimaryInCharge,
    /// The replica is older than its anchor.
    #[error("the replica is older than its anchor")]
    RolledBack,
    /// The role makes batch, periodic, limited-use or address-bound tokens.
    #[error("the role makes tokens that the replica does not model")]
    Role,
    /// Which workload's bounds a new token falls under cannot be told.
    #[error(
        "several workloads match the calling process: create tokens with one from its attested login"
    )]
    SeveralWorkloads,
    /// Another kind of token was asked for.
    #[error(transparent)]
    Unmodelled(Unmodelled),
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
        let mut texts: Vec<String> = [
            Why::AuthMethod,
            Why::AuthorityTooOld(workload.clone()),
            Why::BoundAddresses,
            Why::ForeignPeer,
            Why::Contradiction,
            Why::Credential(Credential::Addresses),
            Why::Credential(Credential::Identity),
            Why::Credential(Credential::Old),
            Why::Credential(Credential::SecondFactor),
            Why::Credential(Credential::Unknown),
            Why::Credential(Credential::Unseen),
            Why::Form,
            Why::Header("X".into()),
            Why::Issuing(Issuing::Ambiguous),
            Why::Issuing(Issuing::Blocked("the clock went back")),
            Why::Issuing(Issuing::Disabled),
            Why::Issuing(Issuing::NoPolicies),
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
            Why::Quarantined,
            Why::Root,
            stale,
            Why::TokenTooOld,
            Why::TokenUnknown,
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
