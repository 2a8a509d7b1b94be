//! Holdover itself dies in the outage.

use std::time::Duration;

use harness::host::{FAILOVER, Host, Login};
use harness::{Result, eventually};
use serde_json::Value;

use crate::{MACHINE, answered, flawless, in_flight, plan};

const BOUND: Duration = Duration::from_secs(15);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_holdover_serves_again_without_the_primary() -> Result<()> {
    let _shared = MACHINE.read().await;
    let host = plan().start().await?;
    let before = host.login("orders").await?;
    let outage = host.cut().await?["outage"].clone();
    let within = host.login("orders").await?;
    for nr in 0..3 {
        host.daemon.kill9()?;
        host.daemon.start()?;
        serves(&host, &before, &outage).await?;
        serves(&host, &within, &outage).await?;
        let fresh = host.login("orders").await?;
        assert_eq!(fresh.source, "replica", "restart {nr}");
        serves(&host, &fresh, &outage).await?;
    }
    let settled = host.restore().await?;
    assert_eq!(settled["outage"], Value::Null);
    for login in [&before, &within] {
        let (path, _) = host.secret("orders")?;
        let reply = host.read_of_primary(path, &login.token).await?;
        assert_eq!(reply.status, 200);
    }
    Ok(())
}

/// Killed together, as when a whole rack loses power; the primary stays away.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_holdover_that_died_with_the_primary_starts_and_serves_alone() -> Result<()> {
    let _shared = MACHINE.read().await;
    let host = plan().start().await?;
    let before = host.login("orders").await?;
    host.daemon.kill9()?;
    host.primary.kill9()?;
    host.daemon.start()?;
    host.daemon.wait_state("holdover", FAILOVER).await?;
    let outage = host.daemon.status().await?["outage"].clone();
    serves(&host, &before, &outage).await?;
    let fresh = host.login("orders").await?;
    assert_eq!(fresh.source, "replica");
    serves(&host, &fresh, &outage).await
}

/// With systemd's socket: what connects while there is no Holdover waits for the next one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_made_while_holdover_is_dead_wait_and_are_served() -> Result<()> {
    let _shared = MACHINE.read().await;
    let mut host = plan().prepare().await?;
    host.daemon.activate_by_socket()?;
    host.start().await?;
    let token = host.login("orders").await?.token;
    host.cut().await?;
    host.daemon.kill9()?;
    let load = load_unprimed(&host, &token)?;
    in_flight(&load).await?;
    host.daemon.start()?;
    answered(&host, &load, "replica", 100).await?;
    flawless(&host, load).await?;
    Ok(())
}

/// A load whose answers are those that were planted: the primary cannot be asked.
fn load_unprimed(host: &Host, token: &str) -> Result<harness::load::Load> {
    let own = host.world.below("orders");
    let reads = own.map(|s| (s.path.clone(), s.data.clone())).collect();
    let mut plan = harness::load::Plan::new(&host.daemon.socket(), token, reads);
    plan.limit = Duration::from_secs(10);
    plan.start()
}

/// The token reads its secret from the replica, in the same outage as ever.
async fn serves(host: &Host, login: &Login, outage: &Value) -> Result<()> {
    let (path, password) = host.secret("orders")?;
    let reply = eventually(BOUND, "an answer after the restart", async || {
        host.read(path, &login.token).await
    })
    .await?;
    assert_eq!((reply.status, reply.source()), (200, Some("replica")));
    assert_eq!(reply.json()?["data"]["data"]["password"], password);
    assert_eq!(reply.header("x-holdover-outage"), outage["id"].as_str());
    let status = host.daemon.wait_state("holdover", BOUND).await?;
    assert_eq!(status["outage"]["id"], outage["id"], "another outage");
    assert_eq!(status["outage"]["started_at"], outage["started_at"]);
    Ok(())
}
