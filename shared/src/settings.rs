//! What the operator's configuration means for decisions: checked, typed, without files or addresses.

use alloc::{string::String, vec::Vec};
use core::{fmt, time::Duration};

use crate::{
    name::{EntityId, Namespace, PolicyName, WorkloadName},
    time::WallTime,
    workload::Workload,
};

/// Everything in the configuration that a decision goes by.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Settings {
    /// The namespace that is mirrored.
    pub namespace: Namespace,
    /// Workload entries, in the configuration's order.
    pub workloads: Vec<Workload>,
    /// Mirrors, in the configuration's order.
    pub mirrors: Vec<Mirror>,
    /// Mounts of AppRole whose logins are answered in an outage: without `auth/` and slashes at their ends.
    pub approle_mounts: Vec<String>,
    /// The bounds of outages and of authority.
    pub bounds: Bounds,
}

/// The bounds of outages and of authority.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Bounds {
    /// An outage ends issuing after this long, from the last complete verification of authority.
    pub max_outage: Duration,
    /// Nothing is issued for a workload whose authority was older than this at the cutover.
    pub authority_max_age: Duration,
    /// A primary token verified longer than this before the cutover is undecidable.
    pub token_max_age: Duration,
    /// A secret id that last logged in at the primary longer than this before the cutover is undecidable.
    pub credential_max_age: Duration,
    /// Policies, mounts and identities verified longer than this before the cutover decide nothing. Never zero.
    pub policy_max_age: Duration,
    /// Whether grants are issued after a reboot in an outage.
    pub issue_after_reboot: bool,
    /// The staleness of values whose mirror says nothing else.
    pub max_staleness: Duration,
    /// Grants of the replica's own that live at once, of one workload.
    pub grants_per_workload: u32,
}

/// What decisions go by and [`Bounds::policy_max_age`] bounds.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Footing {
    /// An entity with its groups.
    Identity(EntityId),
    /// What is mounted where.
    Mounts,
    /// All policies.
    Policies,
    /// One that could not be read with the others.
    Policy(PolicyName),
}

impl fmt::Display for Footing {
    fn fmt(&self, text: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Identity(entity) => write!(text, "identity of entity {entity}"),
            Self::Mounts => text.write_str("mounts"),
            Self::Policies => text.write_str("policies"),
            Self::Policy(name) => write!(text, "policy {name}"),
        }
    }
}

impl Settings {
    /// Grants of the replica's own that may live at once, of all workloads.
    pub fn grants_at_most(&self) -> usize {
        let of_one = usize::try_from(self.bounds.grants_per_workload).unwrap_or(usize::MAX);
        of_one.saturating_mul(self.workloads.len())
    }
}

impl Bounds {
    /// Whether policies, mounts or an identity that were last verified then may decide in an outage that began at
    /// `cutover`. Within that outage they grow no older: what was good when it began is good until it ends.
    pub fn is_recent(&self, verified_at: WallTime, cutover: WallTime) -> bool {
        cutover.since(verified_at) <= self.policy_max_age
    }
}

/// A `[[mirror]]` entry.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Mirror {
    /// The path as configured; a trailing `*` makes it a prefix.
    pub path: MirrorPath,
    /// How often it is checked.
    pub interval: Duration,
    /// Values older than this are not served.
    pub max_staleness: Duration,
    /// How many versions are kept, the latest included; at least 1.
    pub versions: u32,
    /// Leases kept ready, each for one workload, in place of a shared one; 0 is a shared lease.
    pub pool: u32,
}

/// The path of a mirror.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum MirrorPath {
    /// One path.
    Exact(String),
    /// Everything that begins with this.
    Prefix(String),
}

impl MirrorPath {
    /// Reads the configured form: a trailing `*` makes a prefix.
    pub fn parse(text: &str) -> Self {
        match text.strip_suffix('*') {
            Some(prefix) => Self::Prefix(prefix.into()),
            None => Self::Exact(text.into()),
        }
    }

    /// Whether `path` is in it.
    pub fn covers(&self, path: &str) -> bool {
        match self {
            Self::Exact(exact) => exact == path,
            Self::Prefix(prefix) => path.starts_with(prefix.as_str()),
        }
    }

    /// The text without the `*`.
    pub fn literal(&self) -> &str {
        match self {
            Self::Exact(text) | Self::Prefix(text) => text,
        }
    }

    /// The configured form.
    pub fn configured(&self) -> String {
        match self {
            Self::Exact(text) => text.clone(),
            Self::Prefix(text) => text.clone() + "*",
        }
    }
}

impl Settings {
    /// The entry of that name.
    pub fn workload(&self, name: &WorkloadName) -> Option<&Workload> {
        self.workloads
            .iter()
            .find(|workload| workload.name == *name)
    }

    /// The mounts of AppRole that are learned from: none unless a workload may be issued grants at all.
    pub fn approle_mounts(&self) -> &[String] {
        let issues = |workload: &Workload| workload.failover.issue;
        if self.workloads.iter().any(issues) {
            &self.approle_mounts
        } else {
            &[]
        }
    }

    /// The first mirror that covers the path of a read.
    pub fn mirror(&self, path: &str) -> Option<&Mirror> {
        self.mirrors.iter().find(|mirror| mirror.path.covers(path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_recent_is_held_against_the_cutover_alone() {
        let bounds = Bounds {
            max_outage: Duration::ZERO,
            authority_max_age: Duration::ZERO,
            token_max_age: Duration::ZERO,
            credential_max_age: Duration::ZERO,
            policy_max_age: Duration::from_secs(60),
            issue_after_reboot: false,
            max_staleness: Duration::ZERO,
            grants_per_workload: 10_000,
        };
        let at = WallTime::from_secs;
        assert!(bounds.is_recent(at(1_000), at(1_060)));
        assert!(!bounds.is_recent(at(1_000), at(1_061)));
        // Verified while the outage was being settled.
        assert!(bounds.is_recent(at(2_000), at(1_000)));
        assert!(!bounds.is_recent(WallTime::EPOCH, at(1_800_000_000)));
    }
}
