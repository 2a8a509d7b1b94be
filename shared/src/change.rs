//! Changes: the only facts that the replica stores. Everything that is remembered gets there as one of these.

mod unchanged;

use alloc::{boxed::Box, collections::BTreeMap, string::String, vec::Vec};
use core::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{
    approle::{AppRole, ProofDigest, RoleKey, SecretId},
    block::{BlockCause, IssuingBlock},
    coverage::CoverageHour,
    damage::RowKind,
    failover::Phase,
    grant::{Grant, Revocation},
    identity::Identity,
    kv::{Doubt, Doubted, Kept, KvKey, MirrorState, Place, Record},
    lease::{Assignee, Lease},
    ledger::Entry,
    mount::MountKind,
    name::{
        Accessor, ClusterId, EntityId, LeaseId, MountAccessor, Namespace, PolicyName, TokenDigest,
        WorkloadName,
    },
    offboarding::Offboarded,
    quarantine::{Quarantine, Quarantined},
    secret::{SecretBytes, SecretText},
    time::{Mark, WallTime},
    token::ttl::TtlLimits,
    workload::{PeerId, WorkloadAuthority},
};

pub use unchanged::Unchanged;

/// A fact to be stored. Alphabetical, but for what the ledger says of it, which goes with it in one commit.
pub enum Change {
    /// An AppRole role, as the primary shows it.
    AppRole(Box<AppRole>),
    /// The same, no longer of use: it goes unless a secret id logs in to it by now.
    AppRoleForgotten(RoleKey),
    /// The same, of which the primary has shown at this moment that there is none. What anybody began to read of it before that
    /// brings it back no more.
    AppRoleGone(RoleKey, WallTime),
    /// A workload's authority was verified as a whole.
    Authority(Box<WorkloadAuthority>),
    /// A workload left the configuration.
    AuthorityGone(WorkloadName),
    /// Something stands against issuing on this host. It binds at once.
    Block(IssuingBlock),
    /// The same, no longer.
    BlockLifted(BlockCause),
    /// What is known of the cluster.
    Cluster(Box<Cluster>),
    /// What passed through the socket within an hour, as far as it was counted.
    Coverage(Box<CoverageHour>),
    /// The hour that began then is no longer kept.
    CoverageGone(WallTime),
    /// A token that Holdover itself presents.
    Credential(CredentialName, Credential),
    /// The same, no longer needed.
    CredentialGone(CredentialName),
    /// What is kept may be superseded: it is not given until it was read anew, or seen by a pass, since.
    Doubted(Doubt),
    /// What was asked for from that moment on says all that there is of it. A doubt that arose then or later stays.
    DoubtAnswered(Doubted, WallTime),
    /// A grant was issued, learned or renewed, or recovery settled it.
    Grant(Box<Grant>),
    /// A grant or revocation is long past and settled: its record may go.
    GrantForgotten(TokenDigest),
    /// An entity and its groups, as the primary showed them as a whole at this moment or later.
    Identity(EntityId, Box<Identity>, WallTime),
    /// The same, of which nothing depends any more.
    IdentityGone(EntityId),
    /// A KV v2 key and its versions.
    Key(Box<KvKey>),
    /// A KV v2 key vanished from a complete listing, or was denied; its records go with it.
    KeyGone(Place),
    /// A lease and its secret; without a body, what is stored stays, and so does who holds it.
    Lease(Box<Lease>, Option<SecretBytes>),
    /// This one gave a shared lease up.
    LeaseDetached(LeaseId, Assignee),
    /// A lease ended or was replaced.
    LeaseGone(LeaseId),
    /// A lease left its pool for this one.
    LeaseTaken(LeaseId, Assignee),
    /// An entry of the ledger.
    Ledger(Box<Entry>),
    /// What later readings of the clocks are held against. What stands against issuing is stored with it, because a start tells
    /// by the mark that there is something.
    Mark(Mark),
    /// What was damaged of this kind and can be read anew was: what is left of it says nothing any more.
    Mended(RowKind),
    /// A mirror went through a complete pass, which answers what was doubted before it began and what it could read.
    Mirror(Box<MirrorState>),
    /// A mirror left the configuration, or its mount is another: its records go with it, and what was doubted of them.
    MirrorGone(String),
    /// The primary has taken away what this host was entitled to, or gave it back. The former binds at once.
    Offboarded(Option<Offboarded>),
    /// The machine's state.
    Phase(PhaseRecord),
    /// The policies that exist, as of a verification.
    Policies(Box<PolicySet>),
    /// The primary accepted a token at this moment. Nothing else of its grant changes, whatever was committed since
    /// the request was sent; one that is revoked or unknown stays so.
    Proven(TokenDigest, WallTime),
    /// The replica was found to grant more by a policy, or to a workload, than the primary did: that is left to the primary.
    Quarantine(Box<Quarantine>),
    /// An operator ended it, or what it was decided by changed and a comparison since has agreed.
    QuarantineLifted(Quarantined),
    /// A revocation to be reported to the primary.
    Queue(Box<QueuedRevocation>),
    /// The primary knows it.
    QueueDone(u64),
    /// A value and its body (`data` as the primary sent it); without a body, what is stored stays.
    Record(Box<Record>, Option<SecretBytes>),
    /// A value, or one version of it, is gone from the primary.
    RecordGone(Place, Option<u64>),
    /// A grant's authority was ended by an act.
    Revoked(Revocation),
    /// A secret id was proven, seen to stand, or died. One that died stays dead unless it was accepted since.
    SecretId(Box<SecretId>),
    /// The same, no longer of use.
    SecretIdGone(ProofDigest),
    /// The primary refused a token, which may pass: nothing is decided by it until it is proven as of this moment or later.
    TokenDoubted(TokenDigest, WallTime),
    /// Nothing was written at the primary for a while: of authority, whatever stands when this is stored and was verified within
    /// it is verified as of its end.
    Unchanged(Unchanged),
}

/// What a change gives to whoever asked: it is taken back where it was decided by what no longer holds.
pub enum HandedOut<'a> {
    /// The lease that left its pool.
    Lease(&'a LeaseId),
    /// A token, or more of the life of one.
    Token(&'a Grant),
}

impl Change {
    /// What it hands out. Each kind of change says so: what is new here cannot be forgotten.
    pub fn hands_out(&self) -> Option<HandedOut<'_>> {
        match self {
            Self::Grant(grant) => Some(HandedOut::Token(grant)),
            Self::LeaseTaken(lease, _) => Some(HandedOut::Lease(lease)),
            // What Holdover presents for a grant goes by that grant. What the primary said, and what takes away or puts in
            // doubt, gives nothing.
            Self::AppRole(_)
            | Self::AppRoleForgotten(_)
            | Self::AppRoleGone(..)
            | Self::Authority(_)
            | Self::AuthorityGone(_)
            | Self::Block(_)
            | Self::BlockLifted(_)
            | Self::Cluster(_)
            | Self::Coverage(_)
            | Self::CoverageGone(_)
            | Self::Credential(..)
            | Self::CredentialGone(_)
            | Self::Doubted(_)
            | Self::DoubtAnswered(..)
            | Self::GrantForgotten(_)
            | Self::Identity(..)
            | Self::IdentityGone(_)
            | Self::Key(_)
            | Self::KeyGone(_)
            | Self::Lease(..)
            | Self::LeaseDetached(..)
            | Self::LeaseGone(_)
            | Self::Ledger(_)
            | Self::Mark(_)
            | Self::Mended(_)
            | Self::Mirror(_)
            | Self::MirrorGone(_)
            | Self::Offboarded(_)
            | Self::Phase(_)
            | Self::Policies(_)
            | Self::Proven(..)
            | Self::Quarantine(_)
            | Self::QuarantineLifted(_)
            | Self::Queue(_)
            | Self::QueueDone(_)
            | Self::Record(..)
            | Self::RecordGone(..)
            | Self::Revoked(_)
            | Self::SecretId(_)
            | Self::SecretIdGone(_)
            | Self::TokenDoubted(..)
            | Self::Unchanged(_) => None,
        }
    }
}

impl Change {
    /// The same once more: of what takes away, ends, or says how things stand. None of what gives or brings something, which
    /// may hold a secret, and can be decided or read again.
    pub fn again(&self) -> Option<Self> {
        Some(match self {
            Self::Block(block) => Self::Block(*block),
            Self::BlockLifted(cause) => Self::BlockLifted(*cause),
            Self::Doubted(doubt) => Self::Doubted(doubt.clone()),
            Self::DoubtAnswered(of, at) => Self::DoubtAnswered(of.clone(), *at),
            Self::Grant(grant) => Self::Grant(grant.clone()),
            Self::GrantForgotten(digest) => Self::GrantForgotten(*digest),
            Self::LeaseDetached(lease, who) => Self::LeaseDetached(lease.clone(), who.clone()),
            Self::LeaseGone(lease) => Self::LeaseGone(lease.clone()),
            Self::LeaseTaken(lease, to) => Self::LeaseTaken(lease.clone(), to.clone()),
            Self::Ledger(entry) => Self::Ledger(entry.clone()),
            Self::Mark(mark) => Self::Mark(*mark),
            Self::Offboarded(since) => Self::Offboarded(*since),
            Self::Phase(record) => Self::Phase(record.clone()),
            Self::Quarantine(of) => Self::Quarantine(of.clone()),
            Self::Queue(queued) => Self::Queue(queued.clone()),
            Self::QueueDone(id) => Self::QueueDone(*id),
            Self::Revoked(revocation) => Self::Revoked(revocation.clone()),
            Self::SecretIdGone(digest) => Self::SecretIdGone(*digest),
            Self::TokenDoubted(digest, at) => Self::TokenDoubted(*digest, *at),
            _ => return None,
        })
    }
}

/// What is known of the cluster, verified as a whole.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Cluster {
    /// Pinned at first contact.
    pub id: ClusterId,
    /// The namespace that all of it, and all that was verified with it, is of.
    #[serde(default, skip_serializing_if = "Namespace::is_root")]
    pub namespace: Namespace,
    /// As `sys/health` names it.
    pub name: String,
    /// The server's version.
    pub version: String,
    /// The body of `sys/seal-status`, as last seen unsealed.
    pub seal_status: serde_json::Value,
    /// `replication_performance_mode` as `sys/health` last showed it; empty where it was not seen.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub performance_mode: String,
    /// Mounts by path (`secret/`, `auth/token/`).
    pub mounts: BTreeMap<String, Mount>,
    /// What is in effect for tokens, where the server was allowed to say: default and maximum, in seconds.
    #[serde(default)]
    pub token_ttls: Option<(u64, u64)>,
    /// When the mounts were last verified.
    pub verified_at: WallTime,
}

/// What is mounted at one path, as the primary last listed it.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Mount {
    /// Names it for good: what is mounted anew at its path has another.
    pub accessor: MountAccessor,
    /// Decides what its answers carry.
    pub kind: MountKind,
    /// For `kv`, `options.version`.
    pub version: Option<String>,
    /// The object that `sys/mounts` or `sys/auth` shows of it.
    pub shown: serde_json::Value,
}

impl Mount {
    /// Whether it is a KV v1 mount, under its name of today or of old.
    pub fn is_kv1(&self) -> bool {
        self.kind.is_kv() && !self.is_kv2()
    }

    /// Whether it is a KV v2 mount.
    pub fn is_kv2(&self) -> bool {
        self.kind.as_str() == "kv" && self.version.as_deref() == Some("2")
    }
}

impl Cluster {
    /// The TTLs of tokens: those in effect, else those of the mount, else what a server has that is configured with
    /// nothing else.
    pub fn token_limits(&self) -> TtlLimits {
        let mount = self.mounts.get("auth/token/");
        let configured = |name: &str, built_in: Duration| {
            let value = mount.and_then(|mount| mount.shown.pointer(name)?.as_u64());
            value
                .filter(|secs| *secs > 0)
                .map_or(built_in, Duration::from_secs)
        };
        let (default, max) = match self.token_ttls {
            Some((default, max)) => (Duration::from_secs(default), Duration::from_secs(max)),
            None => (
                configured("/config/default_lease_ttl", TtlLimits::BUILT_IN.default),
                configured("/config/max_lease_ttl", TtlLimits::BUILT_IN.max),
            ),
        };
        TtlLimits {
            default,
            max,
            ..TtlLimits::BUILT_IN
        }
    }

    /// The mount that `path` falls under.
    pub fn mounted(&self, path: &str) -> Option<&Mount> {
        self.mount_of(path).map(|(_, mount)| mount)
    }

    /// The mount that `path` falls under, with its path.
    pub fn mount_of(&self, path: &str) -> Option<(&str, &Mount)> {
        self.mounts
            .iter()
            .filter(|(at, _)| path.starts_with(at.as_str()))
            .max_by_key(|(at, _)| at.len())
            .map(|(at, mount)| (at.as_str(), mount))
    }
}

/// Every policy of the namespace, verified as a whole but for those that could not be read.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct PolicySet {
    /// By name.
    pub policies: BTreeMap<PolicyName, PolicyText>,
    /// Those that stand at the primary and could not be read with the others, and when each last was: at the epoch if it
    /// never was.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub unread: BTreeMap<PolicyName, WallTime>,
    /// When all the others were last read; at the epoch where it is not known which there are, or when that was.
    pub verified_at: WallTime,
}

impl PolicySet {
    /// Those that exist, each once or more.
    pub fn names(&self) -> impl Iterator<Item = &PolicyName> {
        self.policies.keys().chain(self.unread.keys())
    }

    /// Whether it is known which there are, and when they were read.
    pub fn is_read(&self) -> bool {
        self.verified_at > WallTime::EPOCH
    }

    /// Whether it exists, or may.
    pub fn may_exist(&self, name: &PolicyName) -> bool {
        !self.is_read() || self.policies.contains_key(name) || self.unread.contains_key(name)
    }

    /// When this policy was last read, or last seen not to exist.
    pub fn verified(&self, name: &PolicyName) -> WallTime {
        let alone = self.unread.get(name);
        alone.map_or(self.verified_at, |at| self.verified_at.min(*at))
    }

    /// This, in which `names` could not be read: what `known` held of each stands, with its age.
    #[must_use]
    pub fn without(mut self, names: Vec<PolicyName>, known: Option<&Self>) -> Self {
        for name in names {
            let before = known.and_then(|known| Some((known.policies.get(&name)?, known)));
            let seen = before.map_or(WallTime::EPOCH, |(text, known)| {
                self.policies.insert(name.clone(), text.clone());
                known.verified(&name)
            });
            self.unread.insert(name, seen);
        }
        self
    }
}

/// A policy as the primary keeps it.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct PolicyText {
    /// HCL or JSON.
    pub text: String,
    /// Raised by every write.
    pub version: u64,
    /// `allow_slashes_in_identity_templates`.
    pub allow_slashes: bool,
    /// `allow_wildcards_in_identity_templates`.
    pub allow_wildcards: bool,
    /// From when on it contributes nothing.
    pub expiration: Option<WallTime>,
}

/// A token that Holdover itself presents. Kept sealed, appears in no response.
pub struct Credential {
    /// As the primary issued it.
    pub token: SecretText,
    /// Revokes it where the token itself is not at hand.
    pub accessor: Accessor,
    /// When it ends unless renewed.
    pub expires: WallTime,
    /// Whether it may be renewed.
    pub renewable: bool,
    /// On the steady wall clock; renewals do not move it.
    pub issued_at: WallTime,
}

/// What a token that Holdover presents is for.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CredentialName {
    /// What stands behind an exchanged replica token.
    Exchanged(TokenDigest),
    /// Holdover's own.
    Own,
    /// The one that is about to end, until everything held under it is replaced.
    OwnPrevious,
    /// A workload's standing token.
    Standing(WorkloadName),
}

/// A revocation that has yet to be reported to the primary.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct QueuedRevocation {
    /// Given by who queues it; unique.
    pub id: u64,
    /// A lease or a token of the primary's.
    pub target: RevocationTarget,
    /// The namespace that it is of; none, until it is stored, where that is the configured one.
    #[serde(default = "of_root", skip_serializing_if = "is_of_root")]
    pub namespace: Option<Namespace>,
    /// Who asked: fresh policy must still allow it, unless it is about itself.
    pub requested_by: Option<TokenDigest>,
    /// The peer that asked.
    pub peer: Option<PeerId>,
    /// When it was queued.
    pub at: WallTime,
    /// When what it is about ends by itself, as far as that was known then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ends: Option<WallTime>,
    /// Whether somebody may have it renewed before it ends, through another host or at the primary itself: then its end as known
    /// here proves nothing.
    #[serde(default = "assumed", skip_serializing_if = "is_assumed")]
    pub renewable: bool,
    /// The user that asked for what it is about, where nobody got it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unclaimed_by: Option<u32>,
    /// Why it is still here, though it was tried; none before the first try.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held_by: Option<HeldBy>,
}

impl QueuedRevocation {
    /// One that nobody asked for: on Holdover's own account.
    pub fn own(id: u64, target: RevocationTarget, at: WallTime) -> Self {
        Self {
            id,
            target,
            namespace: None,
            requested_by: None,
            peer: None,
            at,
            ends: None,
            renewable: true,
            unclaimed_by: None,
            held_by: None,
        }
    }

    /// The same, of what ends at `ends` unless it is `renewable` and somebody has it renewed.
    #[must_use]
    pub fn ending(self, ends: WallTime, renewable: bool) -> Self {
        Self {
            ends: Some(ends),
            renewable,
            ..self
        }
    }
}

/// Of what was queued before it was noted.
fn assumed() -> bool {
    true
}

fn is_assumed(renewable: &bool) -> bool {
    *renewable
}

/// Of what was queued before it was noted, too: it is told of in the root alone, because elsewhere it would count as gone.
#[expect(clippy::unnecessary_wraps, reason = "a default of the field")]
fn of_root() -> Option<Namespace> {
    Some(Namespace::default())
}

fn is_of_root(namespace: &Option<Namespace>) -> bool {
    namespace.as_ref().is_none_or(Namespace::is_root)
}

/// Why a revocation that was acknowledged here is not done at the primary. Until it is, what it is about is refused here.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HeldBy {
    /// The primary could not do it, or did not answer.
    Failure,
    /// Fresh policy does not allow it to whoever asked.
    Policy,
    /// Holdover has no right to it.
    Rights,
}

/// What to revoke at the primary.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RevocationTarget {
    /// By its id.
    Lease(LeaseId),
    /// By its accessor.
    Token(Accessor),
}

/// The machine's state as it is stored, so that a start in an outage resumes it.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct PhaseRecord {
    /// With the outage, while there is one.
    pub phase: Phase,
    /// Raised whenever who decides changes: a change expecting another epoch is refused.
    pub epoch: u64,
    /// When the recovery began that ended the last outage; none before the first. What the primary proved of a token before
    /// that may have ended in the outage.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proven_from: Option<WallTime>,
}

/// What must still hold when a change is committed; else nothing of it is applied.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Expects {
    /// When the asking for values began. Alone among these it refuses nothing: of a key that was read anew by what was
    /// asked for later, nothing is applied, and the rest is.
    pub asked_at: Option<WallTime>,
    /// The fence epoch that the decision was taken under.
    pub epoch: Option<u64>,
    /// Grants that must still live: the caller's, the parent.
    pub live: Vec<TokenDigest>,
    /// Issuance: refused while the fence is down.
    pub issues: bool,
    /// What was kept of a key when it was asked for: nothing else must have been read of it since.
    pub kept: Option<Box<Kept>>,
    /// A lease that must still be in its pool.
    pub pooled: Option<Pooled>,
    /// The version of the settings that the decision was taken by: nothing is given by settings that are no longer in force.
    pub settings: Option<u64>,
}

impl Expects {
    /// Whether it goes by who decides, by what, or for whom: then what is handed out under it is taken back where that changes.
    pub fn is_conditional(&self) -> bool {
        self.epoch.is_some() || self.settings.is_some() || !self.live.is_empty() || self.gives()
    }

    /// Whether something is given on this host's own authority, which ends when the primary takes that away.
    pub fn gives(&self) -> bool {
        let taken = self.pooled.as_ref().is_some_and(|lease| lease.to.is_some());
        self.issues || taken
    }
}

/// A lease that must still be in its pool.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Pooled {
    /// The lease.
    pub lease: LeaseId,
    /// Who it is handed to, and must have no other of its path; none where it is taken away.
    pub to: Option<Assignee>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(names: &[&str], at: i64) -> PolicySet {
        let policy = |name: &&str| {
            let text = PolicyText {
                text: alloc::format!("as of {at}"),
                version: 1,
                allow_slashes: false,
                allow_wildcards: false,
                expiration: None,
            };
            (PolicyName::parse(name).unwrap(), text)
        };
        PolicySet {
            policies: names.iter().map(policy).collect(),
            unread: BTreeMap::new(),
            verified_at: WallTime::from_secs(at),
        }
    }

    #[test]
    fn a_policy_that_could_not_be_read_keeps_its_text_and_its_age_and_the_others_do_not_wait() {
        let [one, two, new] = ["one", "two", "new"].map(|name| PolicyName::parse(name).unwrap());
        let first = set(&["one", "two"], 10);
        let second = set(&["two"], 20).without(alloc::vec![one.clone(), new.clone()], Some(&first));
        let third = set(&["two"], 30).without(alloc::vec![one.clone(), new.clone()], Some(&second));
        for known in [&second, &third] {
            assert_eq!(known.verified(&one), WallTime::from_secs(10));
            assert_eq!(known.policies[&one].text, "as of 10");
            assert_eq!(known.verified(&two), known.verified_at);
            // It is there, and was never read: nothing is known of it.
            assert_eq!(known.verified(&new), WallTime::EPOCH);
            assert!(!known.policies.contains_key(&new));
        }
        let read = set(&["one", "two", "new"], 40);
        assert_eq!(
            read.without(Vec::new(), Some(&third)).verified(&new),
            WallTime::from_secs(40)
        );
    }
}
