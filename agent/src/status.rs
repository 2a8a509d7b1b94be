//! What people are shown: bodies of the admin API, as both sides of its socket write and read them, and the findings of
//! the moment. Names of fields are fixed.

pub mod board;
pub mod coverage;
pub mod fill;
pub mod ledger;

use std::time::Duration;

use serde::{Deserialize, Serialize};
use shared::time::WallTime;

use self::ledger::LedgerStatus;

/// `GET /v1/status`, and `status --json`.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct DaemonStatus {
    /// `following`, `suspect`, `holdover`, `recovering` or `exhausted`.
    pub state: String,
    /// Since when, RFC 3339 in UTC.
    pub since: String,
    /// Whether the replica could take over now.
    pub ready: bool,
    /// Why not; empty exactly when `ready`.
    pub reasons: Vec<String>,
    /// What an operator should know.
    pub findings: Vec<String>,
    /// How long Holdover could carry on if the primary died now.
    pub autonomy_seconds: u64,
    /// `max_outage`, `staleness PATH`, `lease PATH`, `authority WORKLOAD` or `ledger_space`.
    pub autonomy_bound_by: String,
    /// The outage, while there is one.
    pub outage: Option<OutageStatus>,
    /// That the primary took away what this host was entitled to; null while it is entitled.
    pub offboarded: Option<OffboardedStatus>,
    /// The one before, if any since the start.
    pub last_outage: Option<OutageStatus>,
    /// The primary's addresses, in order of preference.
    pub addresses: Vec<AddressStatus>,
    /// The configured mirrors, in the configuration's order.
    pub mirrors: Vec<MirrorStatus>,
    /// AppRole roles that clients log in to, and how an outage would find them.
    pub approle: Vec<AppRoleStatus>,
    /// Grants that live.
    pub grants: GrantCounts,
    /// Pools of leases.
    pub pools: Vec<PoolStatus>,
    /// What comparing decisions showed.
    pub parity: ParityStatus,
    /// The drill, while there is one.
    pub drill: Option<DrillStatus>,
    /// The replica's file.
    pub store: StoreStatus,
    /// The ledger's space, and who has taken it.
    #[serde(default)]
    pub ledger: LedgerStatus,
    /// Revocations that were acknowledged here and that the primary has not done yet, oldest first: what they are about is
    /// refused here until then.
    pub revocations: Vec<RevocationStatus>,
    /// Tokens seen that nothing is known of.
    pub tokens_unlearned: u64,
    /// Tokens that live and that nothing proved since the last outage: another one would answer 503 for them.
    pub tokens_unproven: u64,
    /// What a stolen disk would give: `tpm2`, `operator` or `none`.
    pub theft_protection: String,
    /// The running version.
    pub version: String,
}

/// A revocation that was acknowledged here and that the primary has not done yet.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct RevocationStatus {
    /// Of the token; null where it is about a lease.
    pub accessor: Option<String>,
    /// The lease's id; null where it is about a token.
    pub lease: Option<String>,
    /// Since when, RFC 3339 in UTC.
    pub since: String,
    /// The path that carries it out.
    pub path: String,
    /// Why it is not done: `rights` (Holdover lacks the rule), `policy` (of whoever asked for it), `failure`; null before the
    /// first try.
    pub held_by: Option<String>,
    /// The rule that Holdover's policy lacks, where that is why.
    pub missing_rule: Option<String>,
}

/// One outage.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct OutageStatus {
    /// Its id, as in `X-Holdover-Outage`.
    pub id: String,
    /// The cutover, RFC 3339 in UTC.
    pub started_at: String,
    /// Why it began.
    pub cause: String,
}

/// The primary refuses Holdover's own credential, for good until it accepts another.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct OffboardedStatus {
    /// When that was sure, RFC 3339 in UTC.
    pub since: String,
    /// When reads from the replica end.
    pub reads_end: String,
}

/// Rules that the primary does not grant.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct MissingRules {
    /// By path, each with what of it is lacking.
    pub missing: Vec<RuleStatus>,
}

/// A rule of the policy that Holdover's own login needs.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct RuleStatus {
    /// The path, as a policy names it.
    pub path: String,
    /// `read`, `list`, `scan`, `update`.
    pub capabilities: Vec<String>,
    /// What it is needed for.
    pub why: String,
}

/// One address of the primary.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct AddressStatus {
    /// As configured.
    pub address: String,
    /// Whether its last probe or connection was answered by a node of the trusted cluster that can serve.
    pub healthy: bool,
    /// How long its last probe took; null before the first.
    pub latency_ms: Option<u64>,
    /// The id of the cluster that answered last; null before the first answer.
    pub cluster: Option<String>,
    /// `active`, `standby` or `performance standby`, as last seen; behind a balancer that of one connection.
    pub role: Option<String>,
    /// Whether it answers without being able to show that it is current: nothing is learned from it then.
    pub behind: bool,
    /// Whether requests are sent there first.
    pub in_use: bool,
    /// Whether requests over one connection reach different nodes, so that a credential cannot be kept from one that was not
    /// proved.
    pub per_request: bool,
    /// Its last failure; null if there was none.
    pub last_failure: Option<AddressFailureStatus>,
}

/// When and why an address failed last.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct AddressFailureStatus {
    /// RFC 3339, in UTC.
    pub at: String,
    /// What was found.
    pub error: String,
}

/// How one mirror stands: what the mirror knows, readiness goes by, and people are shown. Fields that are skipped here
/// reach people as reasons and findings of [`DaemonStatus`], or in its pools.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct MirrorStatus {
    /// As configured.
    pub path: String,
    /// Keys or leases held now.
    pub count: u64,
    /// As many of them may be superseded, and are being read anew.
    #[serde(default)]
    pub doubted: u64,
    /// Keys that there was no room for, as of its last pass: they are not mirrored.
    #[serde(default)]
    pub left_out: u64,
    /// Age of its least recently verified value; null until its first complete pass.
    #[serde(rename = "age_seconds")]
    pub age: Option<WholeSeconds>,
    /// Values older than this are not served.
    #[serde(rename = "max_staleness_seconds")]
    pub max_staleness: WholeSeconds,
    /// Failed passes in a row.
    pub errors: u64,
    /// What the last of them failed with, without values.
    pub last_error: Option<String>,
    /// What makes the host not ready.
    #[serde(skip)]
    pub reasons: Vec<String>,
    /// What an operator should know.
    #[serde(skip)]
    pub findings: Vec<String>,
    /// How the last pass saw it; none before the first.
    #[serde(skip)]
    pub source: Option<MirrorSource>,
    /// Its pool, if it has one.
    #[serde(skip)]
    pub pool: Option<PoolStatus>,
}

/// How a pass sees what there is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MirrorSource {
    /// LIST, folder by folder: KV v1 without SCAN.
    Folders,
    /// A lease is kept.
    Lease,
    /// LIST and one read of metadata per key: ten times more rarely.
    List,
    /// One read of metadata.
    Metadata,
    /// One read of what is kept.
    Read,
    /// One SCAN.
    Scan,
}

/// A span that is shown in whole seconds, and exact inside of the daemon.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default, Serialize, Deserialize)]
#[serde(from = "u64", into = "u64")]
pub struct WholeSeconds(pub Duration);

impl From<u64> for WholeSeconds {
    fn from(seconds: u64) -> Self {
        Self(Duration::from_secs(seconds))
    }
}

impl From<WholeSeconds> for u64 {
    fn from(span: WholeSeconds) -> Self {
        span.0.as_secs()
    }
}

/// One AppRole role that clients log in to.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct AppRoleStatus {
    /// Its path: `auth/approle/role/ci`.
    pub role: String,
    /// Secret ids that an outage could go by.
    pub secret_ids: u64,
    /// Secret ids that are known to be dead.
    pub dead: u64,
    /// When the role was last verified: its age.
    pub age_seconds: u64,
    /// Why no login to it would be answered; null if one would.
    pub problem: Option<String>,
}

/// Grants that live, by who minted them.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct GrantCounts {
    /// The primary.
    pub primary: u64,
    /// The replica.
    pub replica: u64,
    /// Of those of the replica, what an outage that is over left: each is settled with the primary when it is used.
    pub unsettled: u64,
}

/// One pool of leases.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct PoolStatus {
    /// The mirror's path.
    pub path: String,
    /// As many unused leases are wanted.
    pub size: u64,
    /// As many there are.
    pub ready: u64,
    /// Leases that workloads took in an outage and that live.
    pub handed_out: u64,
    /// Since when fewer are ready than wanted, as passes saw it; none while they are all there.
    #[serde(skip)]
    pub short_since: Option<WallTime>,
}

/// What comparing decisions showed since the start.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct ParityStatus {
    /// Decisions compared, to an end.
    pub checked: u64,
    /// Those that disagree.
    pub mismatches: u64,
    /// The same by kind.
    pub by_kind: MismatchCounts,
    /// Requests that the replica does not serve, by design or by configuration.
    pub not_covered: u64,
    /// Disagreements that wait for what they were decided from to be verified.
    pub pending: u64,
    /// Disagreements that never showed whether they stand: what they were decided from changed meanwhile.
    pub unsettled: u64,
    /// Requests that found no room to be compared.
    pub dropped: u64,
    /// The last mismatch.
    pub last: Option<MismatchStatus>,
    /// What is left to the primary, since whenever that was.
    pub quarantined: Vec<QuarantineStatus>,
}

/// `GET /v1/parity`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct QuarantineList {
    /// What is left to the primary.
    pub quarantined: Vec<QuarantineStatus>,
}

/// `POST /v1/parity/lift`: exactly one of the three.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LiftQuarantines {
    /// The policy of this name.
    pub policy: Option<String>,
    /// The issuing of this workload.
    pub workload: Option<String>,
    /// Every one.
    pub all: bool,
}

/// What was lifted.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct LiftedQuarantines {
    /// As they were listed.
    pub lifted: Vec<QuarantineStatus>,
}

/// Mismatches by kind.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct MismatchCounts {
    /// The replica could not have decided.
    pub undecidable: u64,
    /// The replica would have refused what the primary granted.
    pub refuses_more: u64,
    /// The replica would have granted what the primary refused.
    pub grants_more: u64,
    /// The same verdict, another answer; or a refusal of the request itself.
    pub differs: u64,
}

/// One mismatch. Without values.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct MismatchStatus {
    /// When it was counted, RFC 3339 in UTC.
    pub at: String,
    /// As in `by_kind`.
    pub kind: String,
    /// `read`, `list`, `update`, …
    pub operation: String,
    /// What was asked for.
    pub path: String,
    /// By what they disagree: `status`, fields of the answer, or the cause of what is undecidable.
    pub fields: Vec<String>,
}

/// One quarantine, of a policy or of a workload's issuing: in an outage what it decides gets 503.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct QuarantineStatus {
    /// The policy, if it is one.
    pub policy: Option<String>,
    /// The workload, if it is its issuing.
    pub workload: Option<String>,
    /// Since when, RFC 3339 in UTC.
    pub since: String,
    /// The operation that the replica would have granted.
    pub operation: String,
    /// Its path.
    pub path: String,
    /// The status with which the primary answered it.
    pub primary: u16,
    /// The status with which the replica would have.
    pub replica: u16,
    /// What in the answer showed it: `status`, or names of fields.
    pub fields: Vec<String>,
}

/// The replica's file.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct StoreStatus {
    /// The number of its last commit.
    pub generation: u64,
    /// Bytes that are free where it lies; null if that cannot be told.
    pub free_bytes: Option<u64>,
    /// What the ledger's entries take.
    pub ledger_bytes: u64,
    /// `ledger.max_size`.
    pub ledger_max_bytes: u64,
}

/// A drill. There is none in this version.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct DrillStatus {
    /// When it ends, RFC 3339 in UTC.
    pub ends_at: String,
}

/// `GET /v1/grants`.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct GrantList {
    /// Those that live, by the time of their end.
    pub grants: Vec<GrantStatus>,
}

/// One grant. The token is in none of its fields.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct GrantStatus {
    /// What names it.
    pub accessor: String,
    /// `primary` or `replica`.
    pub origin: String,
    /// The workload entry of the peer that it was given to.
    pub workload: Option<String>,
    /// That peer's user id.
    pub uid: Option<u32>,
    /// That peer's systemd unit.
    pub unit: Option<String>,
    /// As a look-up shows it.
    pub display_name: String,
    /// Policies of the token and of its identity.
    pub policies: Vec<String>,
    /// Whether it may be renewed.
    pub renewable: bool,
    /// When it is refused from, RFC 3339 in UTC.
    pub expires_at: String,
    /// Seconds until then, by the stricter clock.
    pub ttl_seconds: u64,
    /// When the primary last proved it, or the authority that it was issued from; RFC 3339 in UTC.
    pub verified_at: String,
    /// The outage that it was issued in.
    pub outage: Option<String>,
    /// `draining` or `exchanged`, once settled.
    pub settled: Option<String>,
}

/// `POST /v1/grants/revoke`: exactly one of them.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RevokeGrants {
    /// The grant of this accessor.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accessor: Option<String>,
    /// Every grant of this workload.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workload: Option<String>,
    /// Every grant of this user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<u32>,
}

/// What `POST /v1/grants/revoke` did, durably.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Revoked {
    /// How many grants ended.
    pub revoked: u64,
    /// Which.
    pub accessors: Vec<String>,
}

/// `GET /v1/mirrors`, and the answer to `POST /v1/mirrors/sync`.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct MirrorList {
    /// In the configuration's order.
    pub mirrors: Vec<MirrorStatus>,
}

/// `POST /v1/mirrors/sync`.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SyncMirrors {
    /// The mirror of this configured path; all of them if it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
}

/// Any answer that is not 200.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Errors {
    /// What went wrong, and what to do.
    pub errors: Vec<String>,
}
