//! A configuration that lowers a TTL, or takes issuing away, ends the grants that it no longer allows.

use std::time::Duration;

use harness::Result;
use harness::daemon::config::{Config, Workload};
use harness::host::{Host, Login, login_request};

use crate::end::{gone, probe, until};
use crate::{orders, plan};

/// From the changed file to the refusal.
const AT_ONCE: Duration = Duration::from_secs(5);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lowered_ttl_revokes_at_once_what_is_older() -> Result<()> {
    let (host, login) = issued().await?;
    until(login.answered + Duration::from_secs(2)).await?;
    assert_eq!(probe(&host, &login).await?.status, 200);
    change(&host, orders("2s", "10s"))?;
    let (path, _) = host.secret("orders")?;
    host.until_status(403, path, &login.token, AT_ONCE).await?;
    gone(&host, &login).await?;
    let fresh = host.login("orders").await?;
    assert_eq!(fresh.ttl.as_secs(), 2, "the new TTL is not in force");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ttl_lowered_while_holdover_was_dead_binds_from_the_start() -> Result<()> {
    let (host, login) = issued().await?;
    host.daemon.kill9()?;
    change(&host, orders("2s", "10s"))?;
    until(login.answered + Duration::from_secs(2)).await?;
    host.daemon.start()?;
    host.daemon.wait_state("holdover", AT_ONCE).await?;
    assert_eq!(probe(&host, &login).await?.status, 403);
    gone(&host, &login).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn issuing_taken_away_ends_every_grant_and_issues_none() -> Result<()> {
    let (host, login) = issued().await?;
    change(&host, orders("1h", "2h").set("failover.issue", false))?;
    let (path, _) = host.secret("orders")?;
    host.until_status(403, path, &login.token, AT_ONCE).await?;
    gone(&host, &login).await?;
    let refused = host.ask(&login_request("orders")).await?;
    assert_eq!(refused.status, 503, "{}", refused.text());
    Ok(())
}

/// Refused whole: the old configuration stays in force, and says so.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bad_change_changes_nothing() -> Result<()> {
    let (host, login) = issued().await?;
    host.reconfigure(|config| replaced(config, orders("1s", "1s")).set("failover.nonsense", 1))?;
    let log = host.daemon.log();
    harness::eventually(AT_ONCE, "the refusal in the log", async || {
        let text = std::fs::read_to_string(&log).unwrap_or_default();
        match text.contains("nonsense") {
            true => Ok(()),
            false => Err(format!("{} bytes without it", text.len())),
        }
    })
    .await?;
    assert_eq!(probe(&host, &login).await?.status, 200);
    let fresh = host.login("orders").await?;
    assert_eq!(fresh.ttl.as_secs(), 3600);
    Ok(())
}

async fn issued() -> Result<(Host, Login)> {
    let host = plan("1h", "2h").start().await?;
    host.cut().await?;
    let login = host.login("orders").await?;
    assert_eq!(login.ttl.as_secs(), 3600);
    Ok((host, login))
}

fn change(host: &Host, entry: Workload) -> Result<()> {
    host.reconfigure(|config| replaced(config, entry))
}

fn replaced(config: Config, entry: Workload) -> Config {
    config.unset("workload").workload(entry)
}
