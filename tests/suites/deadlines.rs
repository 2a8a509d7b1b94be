//! Bounded: no restart, no crash and no clock moves the end of a grant, and what outlives the outage is settled as its
//! workload's entry says.

#[path = "deadlines/clock.rs"]
mod clock;
#[path = "deadlines/end.rs"]
mod end;
#[path = "deadlines/lowered.rs"]
mod lowered;
#[path = "deadlines/recovery.rs"]
mod recovery;

use harness::daemon::config::Workload;
use harness::host::{Plan, own_uid};

const HOLDOVER: &str = env!("CARGO_BIN_EXE_holdover-under-test");

/// A host whose own user is the orders workload, with this policy TTL and `max_ttl` in an outage.
fn plan(ttl: &str, max_ttl: &str) -> Plan {
    Plan::new(HOLDOVER).workload(orders(ttl, max_ttl))
}

fn orders(ttl: &str, max_ttl: &str) -> Workload {
    Workload::new("orders", "orders")
        .uid(own_uid())
        .issues(ttl, max_ttl)
}
