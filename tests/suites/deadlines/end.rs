//! A grant is good until its deadline and refused from it on.

use std::time::{Duration, Instant};

use harness::client::raw::Reply;
use harness::clock;
use harness::host::{Host, Login, login_request};
use harness::{Context, Result, eventually};
use serde_json::json;

use crate::plan;

/// Beyond the TTL, how long a test still asks.
const SLACK: Duration = Duration::from_secs(10);

/// The stricter of two clocks wins, and neither is the test's: that much early is on time, and late is late.
const GRAIN: Duration = Duration::from_millis(10);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_grant_is_good_until_its_deadline_and_refused_from_it_on() -> Result<()> {
    let host = plan("4s", "8s").start().await?;
    host.cut().await?;
    let login = host.login("orders").await?;
    assert_eq!((login.source.as_str(), login.ttl.as_secs()), ("replica", 4));
    ends_on_time(&host, &login, login.ttl).await?;
    gone(&host, &login).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_renewal_carries_a_grant_past_its_longest_life() -> Result<()> {
    let host = plan("3s", "6s").start().await?;
    host.cut().await?;
    let login = host.login("orders").await?;
    let (mut renewed, mut last) = (0, login.asked);
    let refused = eventually(SLACK, "the end of renewals", async || {
        let body = json!({ "increment": "1h" });
        let sent = clock::instant();
        let reply = host
            .write("auth/token/renew-self", &login.token, &body)
            .await?;
        match reply.status {
            200 => (renewed, last) = (renewed + 1, sent),
            _ => return Ok(reply),
        }
        let left = reply.json()?["auth"]["lease_duration"].as_u64();
        assert!(left.is_some_and(|left| left <= 3), "{}", reply.text());
        Err(harness::Failure::new(reply.text()))
    })
    .await?;
    assert_eq!(refused.status, 403, "{}", refused.text());
    assert!(renewed > 10, "renewed {renewed} times only");
    let lived = clock::instant().duration_since(login.asked);
    assert!(lived >= Duration::from_secs(6), "ended after {lived:?}");
    let late = last.saturating_duration_since(login.answered);
    assert!(late <= Duration::from_secs(6), "renewed after {late:?}");
    gone(&host, &login).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_and_restarted_holdover_keeps_every_deadline() -> Result<()> {
    let host = plan("15s", "30s").start().await?;
    host.cut().await?;
    let login = host.login("orders").await?;
    for _ in 0..2 {
        restart(&host).await?;
        assert_eq!(probe(&host, &login).await?.status, 200);
    }
    ends_on_time(&host, &login, login.ttl).await?;
    restart(&host).await?;
    assert_eq!(probe(&host, &login).await?.status, 403);
    gone(&host, &login).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deadline_that_passes_while_holdover_is_dead_has_passed() -> Result<()> {
    let host = plan("3s", "6s").start().await?;
    host.cut().await?;
    let login = host.login("orders").await?;
    host.daemon.kill9()?;
    until(login.answered + login.ttl).await?;
    host.daemon.start()?;
    let reply = eventually(SLACK, "an answer", async || probe(&host, &login).await).await?;
    assert_eq!(reply.status, 403, "{}", reply.text());
    gone(&host, &login).await
}

/// With `max_outage`, everything ends: grants are revoked and none is issued.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_outage_that_outlives_its_bound_issues_nothing_and_revokes_all() -> Result<()> {
    let host = plan("1h", "2h")
        .set("failover.max_outage", "10s")
        .set("failover.authority_interval", "1s")
        .start()
        .await?;
    let before = host.login("orders").await?;
    host.cut().await?;
    let login = host.login("orders").await?;
    assert!(login.ttl <= Duration::from_secs(10), "{:?}", login.ttl);
    host.daemon.wait_state("exhausted", 2 * SLACK).await?;
    let refused = host.ask(&login_request("orders")).await?;
    assert_eq!(refused.status, 503, "{}", refused.text());
    assert_eq!(probe(&host, &login).await?.status, 403);
    // Reads with what the primary gave go on, within their staleness.
    assert_eq!(probe(&host, &before).await?.status, 200);
    gone(&host, &login).await
}

/// Reads with the token until past its end. Every answer before it must be 200, every one after it 403.
pub(crate) async fn ends_on_time(host: &Host, login: &Login, ttl: Duration) -> Result<()> {
    // Issued somewhen between question and answer: in between either answer is right.
    let (earliest, latest) = (login.asked + ttl, login.answered + ttl);
    let (mut good, mut refused) = (0, 0);
    let bound = ttl + SLACK;
    eventually(bound, "answers after the deadline", async || {
        let sent = clock::instant();
        let reply = probe(host, login).await?;
        let back = clock::instant();
        let shown = format!(
            "{} at {:?} to {:?} of {ttl:?}: {}",
            reply.status,
            sent.saturating_duration_since(login.asked),
            back.saturating_duration_since(login.asked),
            reply.text()
        );
        match reply.status {
            200 => assert!(sent <= latest, "still good after its deadline: {shown}"),
            403 => assert!(
                back + GRAIN >= earliest,
                "refused before its deadline: {shown}"
            ),
            _ => panic!("neither good nor refused: {shown}"),
        }
        good += usize::from(reply.status == 200);
        refused += usize::from(reply.status == 403);
        match refused {
            0..5 => Err(harness::Failure::new(shown)),
            _ => Ok(()),
        }
    })
    .await?;
    assert!(good > 0, "the grant was never seen good");
    Ok(())
}

/// Durably revoked, and visible as such: no grant of the replica's is left.
pub(crate) async fn gone(host: &Host, login: &Login) -> Result<()> {
    host.daemon
        .wait_for("no replica grant", SLACK, |s| s["grants"]["replica"] == 0)
        .await?;
    let reply = probe(host, login).await?;
    assert_eq!(reply.status, 403, "{}", reply.text());
    Ok(())
}

/// Reads a secret of orders with the token.
pub(crate) async fn probe(host: &Host, login: &Login) -> Result<Reply> {
    let (path, _) = host.secret("orders")?;
    host.read(path, &login.token).await
}

/// `kill -9` and start; returns once it is in charge again.
pub(crate) async fn restart(host: &Host) -> Result<()> {
    host.daemon.kill9()?;
    host.daemon.start()?;
    host.daemon.wait_state("holdover", SLACK).await.map(drop)
}

/// Lets time pass until this moment.
pub(crate) async fn until(moment: Instant) -> Result<()> {
    let bound = moment.saturating_duration_since(clock::instant()) + SLACK;
    eventually(bound, "time to pass", async || {
        match clock::instant() >= moment {
            true => Ok(()),
            false => Err("it has not"),
        }
    })
    .await
    .context("waiting for a deadline")
}
