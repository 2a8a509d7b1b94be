//! The wall clock is set back, under libfaketime; the machine's own clock is never touched.

use std::time::Duration;

use harness::host::{Host, Login};
use harness::{Failure, Result, eventually};
use serde_json::json;

use crate::end::{ends_on_time, gone, probe, restart, until};
use crate::plan;

const DAY: i64 = 86_400;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wall_clock_set_back_a_day_moves_no_deadline() -> Result<()> {
    let (host, login) = issued_under_a_fake_clock().await?;
    host.daemon.shift_clock(-DAY)?;
    assert_eq!(probe(&host, &login).await?.status, 200);
    ends_on_time(&host, &login, login.ttl).await?;
    gone(&host, &login).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wall_clock_set_back_moves_no_deadline_over_a_kill_either() -> Result<()> {
    let (host, login) = issued_under_a_fake_clock().await?;
    host.daemon.shift_clock(-DAY)?;
    restart(&host).await?;
    ends_on_time(&host, &login, login.ttl).await?;
    host.daemon.shift_clock(-2 * DAY)?;
    restart(&host).await?;
    assert_eq!(probe(&host, &login).await?.status, 403);
    gone(&host, &login).await
}

/// Set back while Holdover is dead, and the deadline passes meanwhile: to the wall clock it is a day away.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wall_clock_set_back_while_holdover_is_dead_brings_no_grant_back() -> Result<()> {
    let (host, login) = issued_under_a_fake_clock().await?;
    host.daemon.kill9()?;
    host.daemon.shift_clock(-DAY)?;
    until(login.answered + login.ttl).await?;
    restart(&host).await?;
    assert_eq!(probe(&host, &login).await?.status, 403);
    gone(&host, &login).await
}

/// A step forward refuses at use; nothing has confirmed it, so nothing is destroyed: set right again, the grant lives.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wall_clock_set_forward_refuses_but_destroys_nothing() -> Result<()> {
    let (host, login) = issued_under_a_fake_clock().await?;
    host.daemon.shift_clock(DAY)?;
    let bound = Duration::from_secs(5);
    let (path, _) = host.secret("orders")?;
    host.until_status(403, path, &login.token, bound).await?;
    host.daemon.shift_clock(0)?;
    host.until_status(200, path, &login.token, bound).await?;
    ends_on_time(&host, &login, login.ttl).await
}

async fn issued_under_a_fake_clock() -> Result<(Host, Login)> {
    let host = plan("10s", "20s").fake_clock().start().await?;
    host.cut().await?;
    let login = host.login("orders").await?;
    assert_eq!(
        (login.source.as_str(), login.ttl.as_secs()),
        ("replica", 10)
    );
    Ok((host, login))
}

/// The machine booted hours ahead and was set right later, with the primary in sight: what the primary says from then on is no
/// older than what it said before, and an outage issues by it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wall_clock_set_right_backwards_leaves_nothing_that_the_primary_took_away() -> Result<()>
{
    let bound = Duration::from_secs(40);
    let mut host = plan("10s", "20s").fake_clock().prepare().await?;
    host.daemon.shift_clock(DAY / 12)?;
    host.start().await?;
    host.daemon.shift_clock(0)?;
    let stepped =
        |status: &serde_json::Value| status["findings"].to_string().contains("stepped back");
    host.daemon.wait_for("a step back", bound, stepped).await?;
    let body = json!({ "policy": "path \"secret/*\" { capabilities = [\"deny\"] }" });
    let root = host.primary.root();
    root.write("sys/policies/acl/orders", &body).await?;
    let (path, _) = host.secret("orders")?;
    eventually(bound, "the policy as it is now", async || {
        host.cut().await?;
        let login = host.login("orders").await?;
        let status = host.read(path, &login.token).await?.status;
        host.restore().await?;
        match (login.source.as_str(), status) {
            ("replica", 403) => Ok(()),
            (source, status) => Err(Failure::new(format!("{status} by the {source}'s login"))),
        }
    })
    .await
}
