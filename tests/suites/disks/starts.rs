//! What comes in the first moments after a start, or while Holdover gets another token of its own, waits for that and succeeds.

use std::time::Duration;

use harness::client::raw::Reply;
use harness::daemon::config::Workload;
use harness::host::{Host, Plan, own_uid};
use harness::{Failure, Result, eventually};
use serde_json::json;

use crate::HOLDOVER;

const BOUND: Duration = Duration::from_secs(30);

/// Logins at once.
const MANY: usize = 8;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn logins_that_come_as_soon_as_the_socket_accepts_succeed_on_a_fresh_replica() -> Result<()> {
    let host = plan().prepare().await?;
    host.daemon.start()?;
    accepts(&host).await?;
    all_log_in(&host).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn logins_succeed_though_holdovers_own_token_has_died_before_the_start_or_since() -> Result<()>
{
    let host = plan().start().await?;
    host.daemon.kill9()?;
    revoke_own(&host).await?;
    host.daemon.start()?;
    accepts(&host).await?;
    all_log_in(&host).await?;
    host.daemon.wait_ready(BOUND).await?;
    revoke_own(&host).await?;
    all_log_in(&host).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn logins_succeed_as_soon_as_a_primary_is_followed_that_was_away_at_the_start() -> Result<()>
{
    let host = plan().prepare().await?;
    host.primary.kill9()?;
    host.daemon.start()?;
    host.daemon.wait_state("holdover", BOUND).await?;
    // The pauses between attempts grow meanwhile.
    let errors = "attempts at a token";
    host.daemon
        .wait_for(errors, BOUND, |status| {
            status["reasons"].to_string().len() > 2
        })
        .await?;
    host.primary.start_again().await?;
    host.daemon.wait_state("following", BOUND).await?;
    all_log_in(&host).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn logins_succeed_after_an_outage_in_which_holdovers_own_token_ended() -> Result<()> {
    let host = plan().start().await?;
    host.primary.stop()?;
    host.daemon.wait_state("holdover", BOUND).await?;
    host.primary.cont()?;
    revoke_own(&host).await?;
    eventually(BOUND, "the primary's answer", async || {
        let reply = log_in(&host).await?;
        match reply.source() {
            Some("primary") if reply.status == 200 => Ok(()),
            // In the outage, and until it is over.
            Some("replica") if reply.status == 200 => Err(Failure::new("still the replica's")),
            _ => panic!("{}: {}", reply.status, reply.text()),
        }
    })
    .await
}

/// Reads that bring no token, of a workload that none was minted for before.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_first_standing_token_is_waited_for_from_the_start_and_once_a_primary_is_back()
-> Result<()> {
    let host = presenting().prepare().await?;
    host.daemon.start()?;
    accepts(&host).await?;
    all_read(&host).await?;
    let host = presenting().prepare().await?;
    host.primary.kill9()?;
    host.daemon.start()?;
    host.daemon.wait_state("holdover", BOUND).await?;
    host.primary.start_again().await?;
    host.daemon.wait_state("following", BOUND).await?;
    all_read(&host).await
}

/// Where none will come it is told why, in time, and nothing is sent without one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_token_of_its_own_holdover_says_that_it_presents_none() -> Result<()> {
    let host = presenting().prepare().await?;
    host.daemon.write_secret("etc/secret_id", "of nobody")?;
    host.daemon.start()?;
    host.daemon.wait_state("following", BOUND).await?;
    let reply = host.read(host.secret("orders")?.0, "").await?;
    assert_eq!((reply.status, reply.source()), (503, Some("replica")));
    assert!(
        reply.text().contains("no token for this workload yet"),
        "{}",
        reply.text()
    );
    let open = host.read("sys/health", "").await?;
    assert_eq!((open.status, open.source()), (200, Some("primary")));
    Ok(())
}

fn presenting() -> Plan {
    let orders = Workload::new("orders", "orders")
        .uid(own_uid())
        .auto_token();
    Plan::new(HOLDOVER).workload(orders)
}

async fn all_read(host: &Host) -> Result<()> {
    let path = host.secret("orders")?.0;
    let reads = (0..MANY).map(|_| host.read(path, ""));
    for reply in harness::together(reads).await? {
        let said = (reply.status, reply.source());
        assert_eq!(said, (200, Some("primary")), "{}", reply.text());
    }
    Ok(())
}

fn plan() -> Plan {
    let orders = Workload::new("orders", "orders")
        .uid(own_uid())
        .issues("1h", "2h");
    Plan::new(HOLDOVER).workload(orders)
}

/// The socket accepts connections, which is all that is waited for.
async fn accepts(host: &Host) -> Result<()> {
    let socket = host.daemon.socket();
    eventually(BOUND, "the socket", async || {
        tokio::net::UnixStream::connect(&socket).await.map(drop)
    })
    .await
}

/// Many at once, of which none is told anything but its token.
async fn all_log_in(host: &Host) -> Result<()> {
    let logins = (0..MANY).map(|_| log_in(host));
    for reply in harness::together(logins).await? {
        let said = (reply.status, reply.source());
        assert_eq!(said, (200, Some("primary")), "{}", reply.text());
    }
    Ok(())
}

async fn log_in(host: &Host) -> Result<Reply> {
    host.ask(&harness::host::login_request("orders")).await
}

/// Every token that the login of Holdover's own gave.
async fn revoke_own(host: &Host) -> Result<()> {
    let path = "sys/leases/revoke-prefix/auth/approle/login";
    host.primary.root().write(path, &json!({})).await.map(drop)
}
