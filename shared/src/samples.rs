//! Facts as this crate's tests need them.

use alloc::vec::Vec;
use core::time::Duration;

use crate::{
    grant::{Grant, Origin, ReplicaGrant, Settled},
    name::{Accessor, OutageId, PolicyName, TokenDigest},
    time::{BootId, BootTime, Deadline, Now, WallTime},
    token::{TokenFacts, TokenKind},
};

/// The moment at which both clocks show `secs`.
pub(crate) fn now(secs: i64) -> Now {
    let wall = WallTime::from_secs(secs);
    Now {
        wall,
        steady: wall,
        boot: BootTime::from_millis(u64::try_from(secs).unwrap() * 1000),
        boot_id: BootId([3; 16]),
    }
}

pub(crate) fn names(names: &[&str]) -> Vec<PolicyName> {
    let parsed = names.iter().map(|name| PolicyName::parse(name).unwrap());
    parsed.collect()
}

/// A token that the replica issued at `now` to nobody: for `ttl`, and at most until `max`.
pub(crate) fn issued(ttl: Duration, max: Deadline, now: Now) -> Grant {
    let ttl_ms = u64::try_from(ttl.as_millis()).unwrap();
    let replica = ReplicaGrant {
        outage: OutageId::parse("o1").unwrap(),
        issued_at: now.steady,
        ttl_ms,
        asked_ms: ttl_ms,
        max_deadline: max,
        workload_end: max,
        spared: false,
        of_nobody: false,
        settled: Settled::Not,
        approle: None,
    };
    Grant {
        parent: None,
        digest: TokenDigest([9; 32]),
        accessor: Accessor::parse("ho1").unwrap(),
        namespace: Default::default(),
        facts: TokenFacts::new(TokenKind::Service),
        origin: Origin::Replica(replica),
        peer: None,
        deadline: Deadline::after(ttl, now),
        verified_at: now.steady,
        doubted_at: None,
    }
}
