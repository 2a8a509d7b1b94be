//! Every cause of a 503, and what it is wherever causes are sorted: by parity, its metric, coverage and the ledger.
//!
//! Each cause has its row, so that a new one is sorted when it is made and not by what is left over.

use std::time::Duration;

use shared::{
    acl,
    approle::RoleKey,
    block::BlockCause,
    coverage::Foretold::{
        self, IssueDisabled, NotMirrored, NotModelled, Stale, UnknownToken, Write,
    },
    name::{EntityId, PolicyName, WorkloadName},
    settings::Footing,
    span::Span,
    time::WallTime,
    token::create::Unmodelled,
};

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
    /// The workload's authority was not verified since the last outage, in which it may have ended.
    #[error(
        "the primary has not confirmed the authority of workload {0} since the last outage: nothing is issued"
    )]
    AuthorityUnproven(WorkloadName),
    /// A token with this policy would have more than the primary proved for its workload.
    #[error(
        "policy {policy} is not what the primary last proved for workload {workload}: a token that is created in an outage has \
         no more than that"
    )]
    Beyond {
        /// The policy.
        policy: PolicyName,
        /// The workload that the token would belong to.
        workload: WorkloadName,
    },
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
    /// The key was written, or may have been, after it was last read.
    #[error(
        "what is mirrored here may be superseded: it was changed, or may have been, after it was last read"
    )]
    Doubted,
    /// What it would be decided by is damaged.
    #[error("{0} in the replica: damaged, and not read anew since; the primary can tell")]
    Damaged(Damaged),
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
    #[error("the lease held for this path has ended")]
    LeaseEnded,
    /// The caller revoked the shared lease.
    #[error("this client revoked the lease held for this path")]
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
    /// The replica has no room for all of the mirror, and what was asked for is not kept.
    #[error(
        "mirror {0} is larger than the replica has room for, and this is not kept: `holdover status` shows how much is not"
    )]
    MirrorFull(String),
    /// The mirror never went through a complete pass.
    #[error("mirror {0} has not completed its first pass")]
    MirrorIncomplete(String),
    /// Another namespace than the mirrored one.
    #[error("the namespace of the request is not mirrored")]
    Namespace,
    /// The operating system gives no randomness.
    #[error("the operating system provides no randomness")]
    NoEntropy,
    /// There is no standing token of the workload.
    #[error("no standing token for workload {0} is held")]
    NoStandingToken(WorkloadName),
    /// The primary took away what this host was entitled to.
    #[error(
        "the primary refuses Holdover's own credential since {0}: nothing is issued on this host, and reads end"
    )]
    Offboarded(WallTime),
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
    /// What was acknowledged must be kept until the primary has done it.
    #[error(
        "as many revocations wait for the primary as are kept: `holdover status` shows them and why. Revoke it there"
    )]
    TooManyRevocations,
    /// Only the primary can take its own tokens' children from them.
    #[error("only the primary can revoke a token of its own and spare its children")]
    Orphaning,
    /// A token role that no configured workload has.
    #[error("the token role is not mirrored: only those of configured workloads are")]
    RoleNotMirrored,
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
    /// The primary refused the token, or one that it hangs on, and nothing has shown since whether it lives.
    #[error(
        "the primary refused the token just before the outage, and was not asked about it since"
    )]
    TokenDoubted,
    /// The token was verified too long before the outage.
    #[error("the token was not verified recently enough before the outage")]
    TokenTooOld,
    /// A token that the replica never saw.
    #[error("the token is not known to the replica")]
    TokenUnknown,
    /// The token, or one that it hangs on, may have ended in the outage before.
    #[error(
        "the primary has not confirmed this token, or one that it hangs on, since the last outage"
    )]
    TokenUnproven,
    /// It was issued in an outage that is over, and what becomes of it is not decided yet.
    #[error(
        "the token was issued in an outage that is over, and was not settled with the primary yet"
    )]
    Unsettled,
    /// Policies, mounts or an identity were verified too long before the outage.
    #[error("{what}: not verified within {} before the outage (failover.policy_max_age)", Span(*.max))]
    Unverified {
        /// Which of them.
        what: Footing,
        /// The bound.
        max: Duration,
    },
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

/// What is damaged that a request would be decided by.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub(crate) enum Damaged {
    /// A role of AppRole.
    #[error("AppRole role {}", .0.name)]
    AppRole(RoleKey),
    /// What the primary proved of a workload.
    #[error("the authority of workload {0}")]
    Authority(WorkloadName),
    /// An entity and its groups.
    #[error("the identity {0}")]
    Identity(EntityId),
    /// Leases: of which path cannot be told.
    #[error("a lease, of this path or another,")]
    Lease,
    /// The cluster's mounts.
    #[error("the mounts")]
    Mounts,
    /// Which policies there are, or when they were read.
    #[error("the policies")]
    Policies,
    /// One of them.
    #[error("policy {0}")]
    Policy(PolicyName),
    /// The token, or one that it hangs on.
    #[error("the record of this token, or of one that it hangs on,")]
    Token,
}

impl From<Damaged> for Why {
    fn from(damaged: Damaged) -> Self {
        Self::Damaged(damaged)
    }
}

/// Why only the primary can tell whether a login is right.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub(crate) enum Credential {
    /// The role or the secret id is bound to addresses.
    #[error("it is bound to addresses, and where this request comes from is not known")]
    Addresses,
    /// The primary refused it to a client.
    #[error("it was refused at the primary since it was last verified")]
    Doubted,
    /// Too many others were tried by the same process before it.
    #[error(
        "too many different secret ids that only the primary knows were tried by this process, or may have been before Holdover was started; one that the primary accepted from it goes on to be served"
    )]
    Guessed,
    /// The entity that logged in last is gone, or the role id is another's by now.
    #[error("the identity behind it has changed since it was last used at the primary")]
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
    #[error(
        "its role was not verified recently enough before the outage, or not since the one before it"
    )]
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
    #[error("{}", .0.text())]
    Blocked(BlockCause),
    /// The workload's configuration does not allow it.
    #[error("issuing in an outage is not enabled for this workload")]
    Disabled,
    /// What is to be kept of the token is too long.
    #[error("what the token is to carry is larger than what the replica keeps of one")]
    TooLarge,
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
    /// The workload's issuing is in quarantine.
    #[error(
        "issuing for this workload is quarantined: the replica was found to issue more than the primary"
    )]
    Quarantined,
    /// The replica is older than its anchor, or does not tell until when it may issue.
    #[error("the replica is damaged, or older than its anchor")]
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

/// What a cause is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Class {
    /// Nothing that the replica ever serves, or is configured to serve: no fault where the primary serves it. Everything
    /// else counts as a disagreement.
    pub(crate) by_design: bool,
    /// What kind of cause it is, in one of few words: for labels.
    pub(crate) word: &'static str,
    /// What coverage calls it.
    pub(crate) verdict: Foretold,
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
    const fn by_design(word: &'static str, verdict: Foretold) -> Self {
        Self {
            by_design: true,
            ..Self::failing(word, verdict)
        }
    }

    /// What the replica is there for, and cannot do.
    const fn failing(word: &'static str, verdict: Foretold) -> Self {
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
        use Foretold::Undecidable;
        match self {
            Self::AuthMethod => Class::by_design(REQUEST, NotModelled),
            Self::AuthorityTooOld(_) | Self::AuthorityUnproven(_) => Class::failing(ISSUING, Stale),
            Self::Beyond { .. } => Class::by_design(ISSUING, NotModelled),
            Self::BoundAddresses => Class::by_design(REQUEST, NotModelled),
            Self::Contradiction => Class::failing(POLICY, Undecidable),
            Self::Credential(credential) => credential.class(),
            Self::Damaged(damaged) => damaged.class(),
            Self::Doubted => Class::failing(VALUE, Stale).counted_as("doubted"),
            Self::ForeignPeer => Class::by_design(REQUEST, Undecidable),
            Self::Form => Class::by_design(REQUEST, NotModelled),
            Self::Header(_) => Class::by_design(REQUEST, NotModelled),
            Self::Issuing(issuing) => issuing.class(),
            Self::LeaseEnded => Class::failing(LEASE, Stale),
            Self::LeaseGivenUp => Class::failing(LEASE, Stale),
            Self::LeaseNotHeld => Class::failing(LEASE, Stale),
            Self::LeaseUnknown => Class::by_design(LEASE, UnknownToken),
            Self::LimitedUse => Class::by_design(TOKEN, NotModelled),
            Self::MirrorFull(_) => Class::failing(VALUE, NotMirrored),
            Self::MirrorIncomplete(_) => Class::failing(STALENESS, Stale),
            Self::Namespace => Class::by_design(REQUEST, NotModelled),
            Self::NoEntropy => Class::failing(REQUEST, Undecidable),
            Self::NoStandingToken(_) => Class::failing(TOKEN, UnknownToken),
            Self::NotServed => Class::by_design(REQUEST, NotModelled),
            // What the primary says to others is another matter.
            Self::Offboarded(_) => Class::by_design(ISSUING, Undecidable).counted_as("offboarded"),
            Self::Orphaning => Class::by_design(REQUEST, NotModelled),
            Self::Parameter(_) => Class::by_design(REQUEST, NotModelled),
            Self::PathNotMirrored => Class::by_design(REQUEST, NotMirrored),
            Self::Policy(_) => Class::failing(POLICY, Undecidable),
            Self::PoolEmpty { .. } => Class::failing(LEASE, Stale),
            Self::PrimaryNeverSeen => Class::failing(STALENESS, Stale),
            Self::RoleNotMirrored => Class::by_design(ISSUING, NotModelled),
            Self::Root => Class::by_design(TOKEN, NotModelled),
            // Nothing is decided by it until its look-up, which is on its way.
            Self::TokenDoubted => Class::by_design(TOKEN, Stale),
            Self::TokenTooOld => Class::failing(TOKEN, Stale),
            Self::TokenUnknown => Class::by_design(TOKEN, UnknownToken),
            // Their look-up and their settling are on the way, likewise.
            Self::TokenUnproven | Self::Unsettled => Class::by_design(TOKEN, Stale),
            Self::TooManyRevocations => Class::by_design(REQUEST, Undecidable),
            Self::TooStale { .. } => Class::failing(STALENESS, Stale).counted_as("stale"),
            Self::Unverified { .. } => Class::failing(STALENESS, Stale).counted_as("unverified"),
            Self::ValueDamaged => Class::failing(VALUE, Undecidable),
            Self::ValueNotMirrored => Class::failing(VALUE, Stale),
            Self::VersionNotMirrored(_) => Class::by_design(VALUE, NotModelled),
            Self::Write => Class::by_design(REQUEST, Write),
        }
    }
}

impl Damaged {
    fn class(&self) -> Class {
        let word = match self {
            Self::AppRole(_) | Self::Authority(_) => ISSUING,
            Self::Identity(_) | Self::Mounts | Self::Policies | Self::Policy(_) => POLICY,
            Self::Lease => LEASE,
            Self::Token => TOKEN,
        };
        Class::failing(word, Foretold::Undecidable).counted_as("damaged")
    }
}

impl Credential {
    fn class(self) -> Class {
        match self {
            Self::Addresses | Self::SecondFactor => Class::by_design(REQUEST, NotModelled),
            Self::Identity => Class::failing(REQUEST, Foretold::Undecidable),
            Self::Old => Class::failing(REQUEST, Stale),
            Self::Guessed | Self::Unknown => {
                Class::by_design(REQUEST, NotModelled).counted_as("credential")
            }
            Self::Doubted | Self::Unseen => Class::by_design(REQUEST, Stale),
        }
    }
}

impl Issuing {
    fn class(self) -> Class {
        match self {
            Self::Ambiguous => Class::by_design(ISSUING, Foretold::Undecidable),
            Self::Disabled | Self::NoWorkload => Class::by_design(ISSUING, IssueDisabled),
            Self::Blocked(_)
            | Self::NoPolicies
            | Self::TooLarge
            | Self::OutageBound
            | Self::PastMaxTtl
            | Self::PrimaryInCharge
            | Self::Quarantined
            | Self::Role
            | Self::RolledBack
            | Self::SeveralWorkloads
            | Self::Unmodelled(_) => Class::failing(ISSUING, Foretold::Undecidable),
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
