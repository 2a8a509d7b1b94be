//! A host with one workload, and what can be seen of its daemon from outside.

use std::path::Path;
use std::time::Duration;

use harness::client::crowd::{Crowd, Habit};
use harness::client::raw::Ask;
use harness::daemon::config::Workload;
use harness::failure::Context;
use harness::host::{Host, Plan, own_uid};
use harness::{Result, eventually};

use crate::{CLIENT, HOLDOVER};

/// How long anything may take that comes of itself.
pub(crate) const SOON: Duration = Duration::from_secs(30);

/// A workload of our own uid, whose requests need no token.
pub(crate) fn plan() -> Plan {
    plan_of(HOLDOVER.as_ref())
}

/// The same, run as this program.
pub(crate) fn plan_of(holdover: &Path) -> Plan {
    let orders = Workload::new("orders", "orders")
        .uid(own_uid())
        .auto_token();
    Plan::new(holdover).workload(orders.issues("15m", "1h"))
}

/// A crowd at the host's socket.
pub(crate) async fn crowd(host: &Host, habit: &Habit) -> Result<Crowd> {
    Crowd::gather(CLIENT.as_ref(), &host.daemon.socket(), habit).await
}

/// A gauge of `/metrics`, with its labels as they are written there.
pub(crate) async fn gauge(host: &Host, name: &str) -> Result<u64> {
    let page = host.daemon.admin(&Ask::get("/metrics")).await?.text();
    let line = page.lines().find_map(|line| line.strip_prefix(name));
    let value = line.context(name.to_owned())?.trim();
    Ok(value.parse()?)
}

/// Waits until a gauge is as `wanted` says.
pub(crate) async fn until(host: &Host, name: &str, wanted: impl Fn(u64) -> bool) -> Result<u64> {
    eventually(SOON, name, async || {
        let value = gauge(host, name).await;
        match value {
            Ok(value) if wanted(value) => Ok(value),
            Ok(value) => Err(value.to_string()),
            Err(failure) => Err(failure.to_string()),
        }
    })
    .await
}

/// Memory of the daemon that is not swapped out or given back, in MiB.
pub(crate) fn resident(host: &Host) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{}/status", host.daemon.id()?))?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    let kib = line.and_then(|line| line.split_whitespace().nth(1));
    Ok(kib.context("VmRSS")?.parse::<u64>()? / 1024)
}

/// What the workload reads: a mirrored secret, by its standing token.
pub(crate) fn read(host: &Host) -> Result<Ask> {
    let (path, _) = host.secret("orders")?;
    Ok(Ask::get(&format!("/v1/{path}")))
}
