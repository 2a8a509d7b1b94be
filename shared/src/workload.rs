//! Workloads: who they are on this host, and what the primary last proved that they may do.

use alloc::{string::String, vec::Vec};
use core::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{
    name::{Accessor, EntityId, PolicyName, RoleName, WorkloadName},
    time::WallTime,
    token::{TokenFacts, role::TokenRole},
};

/// A peer's identity: forks and restarts of its unit keep it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct PeerId {
    /// The matching entry.
    pub workload: WorkloadName,
    /// The user id that the kernel named at accept.
    pub uid: u32,
    /// The systemd unit as PID 1 placed it; none outside of one.
    pub unit: Option<String>,
}

/// What attestation says of a connection's peer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Peer {
    /// As the kernel named it at accept.
    pub uid: u32,
    /// The systemd unit, if it runs in one.
    pub unit: Option<String>,
    /// Every workload entry that matches, in the configuration's order.
    pub workloads: Vec<WorkloadName>,
}

impl Peer {
    /// The identity of this peer under `workload`, if that entry matches it.
    pub fn identity(&self, workload: &WorkloadName) -> Option<PeerId> {
        self.workloads.contains(workload).then(|| PeerId {
            workload: workload.clone(),
            uid: self.uid,
            unit: self.unit.clone(),
        })
    }

    /// Whether `identity` is this peer's.
    pub fn is(&self, identity: &PeerId) -> bool {
        self.identity(&identity.workload).as_ref() == Some(identity)
    }

    /// The one entry that matches, if exactly one does: what `auto_token` goes by.
    pub fn only_workload(&self) -> Option<&WorkloadName> {
        match self.workloads.as_slice() {
            [one] => Some(one),
            _ => None,
        }
    }
}

/// A `[[workload]]` entry, as far as decisions go by it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Workload {
    /// Its name, which is the `role` of `auth/holdover/login`.
    pub name: WorkloadName,
    /// The token role at the primary.
    pub role: RoleName,
    /// The entity alias that its tokens are minted with.
    pub entity_alias: Option<String>,
    /// Whether requests without a token use the workload's own.
    pub auto_token: bool,
    /// What happens in and after an outage.
    pub failover: FailoverPolicy,
}

/// A workload's `failover` table.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FailoverPolicy {
    /// Whether grants are issued in an outage at all.
    pub issue: bool,
    /// The policy TTL: how long a replica grant lives from issue or renewal.
    pub ttl: Duration,
    /// The longest that renewals may stretch it, from issue.
    pub max_ttl: Duration,
    /// What becomes of surviving grants afterwards.
    pub on_recovery: OnRecovery,
    /// What becomes of the workload's primary tokens when an outage begins.
    pub on_failover: OnFailover,
}

/// What becomes of a surviving replica grant when the primary is back.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnRecovery {
    /// A primary token is minted for it: same string for the client, swapped when forwarding.
    Exchange,
    /// Good for mirrored reads until its deadline, without renewal.
    Drain,
    /// Refused at once.
    Revoke,
}

/// What becomes of a workload's primary tokens when an outage begins.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnFailover {
    /// They stay good within their own bounds.
    Resume,
    /// They are refused until the peer's attested login.
    Reauthenticate,
}

/// What the primary last proved of a workload: its role and what a token of that role carries.
///
/// Verified as a whole; `verified_at` says when. Issuing in an outage goes by its age.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct WorkloadAuthority {
    /// Its entry in the configuration.
    pub workload: WorkloadName,
    /// The token role's name, so that a changed configuration does not use another role's authority.
    pub role_name: RoleName,
    /// The role as the primary keeps it.
    pub role: TokenRole,
    /// What a look-up of the standing token shows: its policies are what the workload has.
    pub standing: TokenFacts,
    /// The accessor of the standing token.
    pub standing_accessor: Accessor,
    /// When the standing token ends unless renewed.
    pub standing_expires: WallTime,
    /// When all of this was last verified at the primary.
    pub verified_at: WallTime,
}

impl WorkloadAuthority {
    /// The token policies that a login of this workload gets.
    pub fn policies(&self) -> &[PolicyName] {
        &self.standing.policies
    }

    /// The entity that its tokens belong to, if any.
    pub fn entity(&self) -> Option<&EntityId> {
        self.standing.entity_id.as_ref()
    }
}
