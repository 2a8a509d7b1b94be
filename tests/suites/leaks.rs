//! No leak: after a whole story, told with debug logging on, no file that Holdover wrote, nothing that it logged and
//! nothing that it says of itself holds any of the secrets and tokens that were used, in any form.

#[path = "leaks/evidence.rs"]
mod evidence;
#[path = "leaks/story.rs"]
mod story;

use std::time::Duration;

use harness::Result;
use harness::daemon::config::Workload;
use harness::host::{Host, Plan, own_uid};

use crate::evidence::Evidence;

const HOLDOVER: &str = env!("CARGO_BIN_EXE_holdover-under-test");

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_that_holdover_writes_logs_or_says_holds_a_secret_or_a_token() -> Result<()> {
    let host = plan().start().await?;
    let mut evidence = Evidence::of(&host)?;
    story::while_following(&host, &mut evidence).await?;
    evidence.commands(&host).await?;
    story::in_the_outage(&host, &mut evidence).await?;
    evidence.commands(&host).await?;
    story::after_it(&host, &mut evidence).await?;
    evidence.commands(&host).await?;
    evidence.what_crossed_the_wire(&host)?;
    evidence.process(&host)?;
    // While it runs, with what is not yet in the database proper; and after an orderly end.
    evidence.clean(&host)?;
    host.daemon.terminate(Duration::from_secs(15)).await?;
    evidence.search_is_not_blind(&host)?;
    evidence.clean(&host)
}

/// Everything on: debug logs, the workload's own token, leases, a wire that tells which tokens there were.
fn plan() -> Plan {
    let orders = Workload::new("orders", "orders").uid(own_uid());
    Plan::new(HOLDOVER)
        .tapped()
        .database(Duration::from_secs(600), Duration::from_secs(3600))
        .workload(orders.auto_token().issues("10m", "1h"))
        .env("RUST_LOG", "trace")
        .env("HOLDOVER_LOG", "trace")
}

/// The path and value of one secret of orders.
fn secret(host: &Host) -> Result<(String, String)> {
    let (path, password) = host.secret("orders")?;
    Ok((path.to_owned(), password.to_owned()))
}
