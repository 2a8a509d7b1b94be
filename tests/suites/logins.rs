//! Every login that an outage answers, against everything that may be wrong with it: no branch is weaker than the
//! login at the primary, and none fails because the primary did.

#[path = "logins/approle.rs"]
mod approle;
#[path = "logins/attested.rs"]
mod attested;
#[path = "logins/network.rs"]
mod network;
#[path = "logins/recovery.rs"]
mod recovery;
#[path = "logins/stage.rs"]
mod stage;

use std::time::Duration;

use harness::daemon::config::Workload;
use harness::host::{Plan, own_uid};

const HOLDOVER: &str = env!("CARGO_BIN_EXE_holdover-under-test");

/// How long anything may take that needs no outage to be noticed.
const BOUND: Duration = Duration::from_secs(20);

/// A host whose own user is the orders workload, which is issued grants, with a short rhythm.
fn plan() -> Plan {
    orders_of(own_uid())
}

/// The same where the orders workload is this user.
fn orders_of(uid: u32) -> Plan {
    Plan::new(HOLDOVER)
        .workload(orders(uid))
        .set("failover.authority_interval", "500ms")
        // Refused logins are many here; what bounds them has a test of its own.
        .set("limits.login_failures_per_minute_per_uid", 100_000)
}

fn orders(uid: u32) -> Workload {
    Workload::new("orders", "orders")
        .uid(uid)
        .issues("15m", "2h")
}
