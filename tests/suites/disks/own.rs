//! Holdover's own token where the disk does not take it, or where none can be had: it costs the primary one login, and ends no
//! failover, and keeps no outage alive.

use std::time::Duration;

use harness::Result;
use harness::audit::Audited;
use harness::bao::Primary;
use harness::daemon::Daemon;
use harness::host::{Plan, RECOVERY};
use serde_json::Value;

use crate::HOLDOVER;
use crate::store::{Disk, FULL};

const BOUND: Duration = Duration::from_secs(30);
const UNSTORED: &str = "the own token is not stored";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_a_full_disk_one_login_is_enough_ends_the_outage_and_is_stored_once_there_is_room()
-> Result<()> {
    let disk = Disk::prepare("size=80m,mode=0700").await?;
    let (primary, daemon) = (&disk.host.primary, &disk.host.daemon);
    primary.stop()?;
    daemon.start()?;
    daemon.wait_state("holdover", BOUND).await?;
    disk.fill().await?;
    let noticed = |status: &Value| status["reasons"].to_string().contains(FULL);
    daemon.wait_for("the full disk", BOUND, noticed).await?;
    // What was given back when that was noticed.
    disk.fill().await?;
    primary.cont()?;
    daemon.wait_state("following", RECOVERY).await?;
    finds(daemon, UNSTORED, true).await?;
    disk.free().await?;
    finds(daemon, UNSTORED, false).await?;
    daemon.wait_ready(BOUND).await?;
    // It is what a start goes on with.
    disk.restart_to("following").await?;
    daemon.wait_ready(BOUND).await?;
    assert_eq!(logins(primary)?, 1);
    disk.host.cut().await?;
    disk.issues().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_outage_ends_though_holdover_never_had_a_token_and_its_login_is_refused() -> Result<()> {
    let host = Plan::new(HOLDOVER).prepare().await?;
    host.daemon.write_secret("etc/secret_id", "of nobody")?;
    host.daemon.start()?;
    host.daemon
        .wait_for("a refused login", BOUND, |status| {
            status["state"] == "following"
                && status["reasons"]
                    .to_string()
                    .contains("no token of its own")
        })
        .await?;
    host.cut().await?;
    host.restore().await.map(drop)
}

/// Logins of Holdover's own at the primary that it answered with a token.
fn logins(primary: &Primary) -> Result<usize> {
    let all = Audited::read(primary.audit_log())?;
    let of_ours = |one: &&Audited| one.kind == "response" && one.path == "auth/approle/login";
    Ok(all
        .iter()
        .filter(of_ours)
        .filter(|one| one.error.is_none())
        .count())
}

async fn finds(daemon: &Daemon, what: &str, wanted: bool) -> Result<()> {
    let told = |status: &Value| status["findings"].to_string().contains(what) == wanted;
    daemon.wait_for(what, BOUND, told).await.map(drop)
}
