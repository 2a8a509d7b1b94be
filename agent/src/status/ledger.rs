//! The ledger as people are shown it: what it takes, what was delivered, and whose share is how full.

use serde::{Deserialize, Serialize};

/// The ledger's space, in bytes, and its entries by number.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct LedgerStatus {
    /// What its entries take in the replica.
    pub bytes: u64,
    /// `ledger.max_size`.
    pub max_bytes: u64,
    /// What those take that were not delivered.
    pub undelivered_bytes: u64,
    /// What is kept for the ends of grants.
    pub promised_bytes: u64,
    /// The number of the oldest entry that is kept.
    pub first: u64,
    /// The number of the next entry.
    pub next: u64,
    /// The number of the last entry that was delivered; 0 before there is one.
    pub delivered: u64,
    /// Where entries are delivered to: `journald`, or null where they are not.
    pub delivered_to: Option<String>,
    /// Why the last ones were not taken there.
    pub problem: Option<String>,
    /// Why the replica does not say or store which were: they still count.
    #[serde(default)]
    pub store_problem: Option<String>,
    /// Entries that found no room since the start.
    pub dropped: u64,
    /// Every workload, Holdover itself, and the users that take most.
    pub shares: Vec<ShareStatus>,
}

/// What one may take of it, in bytes.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct ShareStatus {
    /// Whose, as a text.
    pub owner: String,
    /// The workload, if it is one.
    pub workload: Option<String>,
    /// The user, if it is one that is no workload's.
    pub uid: Option<u32>,
    /// What its undelivered entries take.
    pub used_bytes: u64,
    /// What is kept for the ends of its grants.
    pub promised_bytes: u64,
    /// What nobody else can take.
    pub reserve_bytes: u64,
    /// The most that it may take.
    pub most_bytes: u64,
    /// The most that what it does may take: logins, renewals, leases. It is the three that follow, together.
    #[serde(default)]
    pub room_bytes: u64,
    /// What it has taken of that, with what is kept for the ends of its grants.
    #[serde(default)]
    pub taken_bytes: u64,
    /// What others have taken of that, because all share it.
    #[serde(default)]
    pub others_bytes: u64,
    /// What is left of that.
    pub left_bytes: u64,
}
