//! No gap: reads, logins and what was promised survive the death of the primary, of Holdover, and of both.

#[path = "outage/causes.rs"]
mod causes;
#[path = "outage/cycles.rs"]
mod cycles;
#[path = "outage/restarts.rs"]
mod restarts;
#[path = "outage/superseded.rs"]
mod superseded;

use harness::daemon::config::Workload;
use harness::host::{Host, Plan, own_uid};
use harness::load::{self, Load};
use harness::{Context, Result, eventually};
use tokio::sync::RwLock;

const HOLDOVER: &str = env!("CARGO_BIN_EXE_holdover-under-test");

/// The many cycles under load have the machine to themselves; the other stories share it.
static MACHINE: RwLock<()> = RwLock::const_new(());

/// A host whose own user is the orders workload, which may be issued tokens in an outage.
fn plan() -> Plan {
    let orders = Workload::new("orders", "orders").uid(own_uid());
    Plan::new(HOLDOVER)
        .secrets(20)
        .workload(orders.issues("15m", "2h"))
}

/// Reads of all that orders may read, a list among them, each with the answer that the primary gives.
async fn reads(host: &Host, token: &str) -> Result<Vec<(String, serde_json::Value)>> {
    let list = "secret/metadata/shop/orders?list=true";
    let listed = host.primary.api(token).get(list).await?.data()?;
    let mut reads = vec![(list.to_owned(), listed)];
    let own = host.world.below("orders");
    reads.extend(own.map(|secret| (secret.path.clone(), secret.data.clone())));
    Ok(reads)
}

/// A load of 20 reads a second that are sent however long earlier ones take, beside relays each of which nearly always
/// has one in flight: these slow down with a busy machine, so that no read waits for what the machine cannot do. No read
/// is sent twice.
async fn load(host: &Host, token: &str, relays: u32) -> Result<Load> {
    let mut plan = load::Plan::new(&host.daemon.socket(), token, reads(host, token).await?);
    plan.per_second = 20;
    plan.kept_alive = 16;
    plan.relays = usize::try_from(relays)?;
    // Without a pause they would take a whole core of two from the programs under test.
    plan.pause = std::time::Duration::from_millis(3) * relays;
    plan.start()
}

/// Waits until this many more reads were answered by `source`.
async fn answered(host: &Host, load: &Load, source: &str, more: usize) -> Result<()> {
    let wanted = load.counted(source).0 + more;
    let what = format!("{more} answers of the {source}");
    let waited = eventually(harness::host::RECOVERY, &what, async || {
        match load.counted(source) {
            (count, _) if count >= wanted => Ok(()),
            (count, failed) => Err(format!("{} missing, {failed} failed", wanted - count)),
        }
    });
    waited
        .await
        .map_err(|failure| host.daemon.failure(format!("{failure}\n{}", load.so_far())))
}

/// Returns while a request is in flight.
async fn in_flight(load: &Load) -> Result<()> {
    let bound = std::time::Duration::from_secs(5);
    eventually(bound, "a request in flight", async || {
        match load.in_flight() {
            0 => Err("none"),
            _ => Ok(()),
        }
    })
    .await
}

/// Stops the load; every read must have been answered rightly and in time.
async fn flawless(host: &Host, load: Load) -> Result<load::Report> {
    let report = load.stop().await?;
    report
        .flawless()
        .map_err(|failure| host.daemon.failure(failure))
        .context("a read failed")?;
    Ok(report)
}
