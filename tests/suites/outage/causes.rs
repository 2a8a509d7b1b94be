//! Whatever way a primary fails: reads go on, the machine fails over, and back.

use std::time::Duration;

use harness::Result;
use harness::bao::Primary;
use harness::host::{FAILOVER, Host, RECOVERY};
use harness::tap::Wire;

use crate::{MACHINE, answered, flawless, in_flight, load, plan};

const BOUND: Duration = Duration::from_secs(10);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_read_fails_while_the_primary_is_sealed() -> Result<()> {
    let _shared = MACHINE.read().await;
    let host = plan().start().await?;
    survives(
        &host,
        async |primary| primary.seal().await,
        async |primary| primary.unseal().await,
    )
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_read_fails_while_the_primary_shows_a_certificate_that_nobody_trusts() -> Result<()> {
    let _shared = MACHINE.read().await;
    let host = plan().start().await?;
    let distrusted = async |primary: &Primary| {
        primary.start_distrusted()?;
        let address = primary.address().replace("https://", "");
        harness::eventually(BOUND, "an open TLS port", async || {
            tokio::net::TcpStream::connect(&address).await.map(drop)
        })
        .await
    };
    survives(&host, distrusted, async |primary| {
        primary.start_again().await
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_read_fails_however_the_wire_to_the_primary_breaks() -> Result<()> {
    let _shared = MACHINE.read().await;
    let host = plan().wired().start().await?;
    let tap = host.tap()?;
    for wire in [Wire::Cut, Wire::Silent, Wire::Garbled, Wire::Unanswered] {
        eprintln!("wire: {wire:?}");
        let set = async |wire| {
            tap.set(wire);
            Ok(())
        };
        survives(
            &host,
            async |_| set(wire).await,
            async |_| set(Wire::Whole).await,
        )
        .await?;
    }
    Ok(())
}

/// An answer that breaks off costs the reader nothing, and is no reason for the host to fail over.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_primary_that_dies_in_mid_answer_costs_nothing() -> Result<()> {
    let _shared = MACHINE.read().await;
    let host = plan().set("failover.probe_interval", "60s").wired();
    let host = host.start().await?;
    let (tap, token) = (host.tap()?, host.login("orders").await?.token);
    let secret = host.world.below("orders").next().unwrap();
    assert_eq!(
        host.read(&secret.path, &token).await?.source(),
        Some("primary")
    );
    for wire in [Wire::Unanswered, Wire::Truncated(40)] {
        let broken = tap.broken();
        tap.set(wire);
        let reply = host.read(&secret.path, &token).await?;
        tap.set(Wire::Whole);
        assert!(tap.broken() > broken, "{wire:?} broke nothing");
        assert_eq!((reply.status, reply.source()), (200, Some("replica")));
        assert_eq!(reply.json()?["data"], secret.data, "{wire:?}");
        assert_eq!(
            reply.header("x-holdover-outage"),
            None,
            "there is no outage"
        );
        host.daemon.wait_state("following", FAILOVER).await?;
        assert_eq!(
            host.daemon.status().await?["outage"],
            serde_json::Value::Null
        );
    }
    Ok(())
}

/// Under load, `fail` leads to an outage and `heal` out of it.
async fn survives(
    host: &Host,
    fail: impl AsyncFn(&Primary) -> Result<()>,
    heal: impl AsyncFn(&Primary) -> Result<()>,
) -> Result<()> {
    let token = host.login("orders").await?.token;
    let load = load(host, &token, 1).await?;
    answered(host, &load, "primary", 20).await?;
    in_flight(&load).await?;
    fail(&host.primary).await?;
    let status = host.daemon.wait_state("holdover", FAILOVER).await?;
    let cause = status["outage"]["cause"].as_str().unwrap_or_default();
    assert!(!cause.is_empty(), "an outage without a cause: {status}");
    answered(host, &load, "replica", 20).await?;
    let login = host.login("orders").await?;
    assert_eq!(login.source, "replica");
    heal(&host.primary).await?;
    host.daemon.wait_state("following", RECOVERY).await?;
    answered(host, &load, "primary", 20).await?;
    flawless(host, load).await.map(drop)
}
