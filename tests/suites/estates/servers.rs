//! Other servers than OpenBao 2.7, as stand-ins before real nodes: what cannot be shown to be current is not learned.

use std::time::Duration;

use harness::link::Flow;
use harness::standin::{Server, StandIn};
use harness::{Context, Result, clock, eventually};
use serde_json::json;

use crate::rig::{BOUND, Estate};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn standbys_that_forward_everything_are_current() -> Result<()> {
    let estate = Estate::raft().await?;
    for server in [Server::OpenBao24, Server::Vault] {
        let nodes = StandIn::before_all(&estate.cluster, server).await?;
        // The standby alone: it is all that there is.
        let site = estate.host(&[nodes[1].address()]).await?;
        let login = site.login().await?;
        let (path, _) = estate.secret()?;
        assert_eq!(site.read(path, &login.token).await?.0, 200);
        let status = site.daemon.status().await?;
        assert_eq!(
            status["addresses"][0]["behind"], false,
            "{server:?} {status:#}"
        );
        assert_eq!(status["addresses"][0]["role"], "standby", "{server:?}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_standbys_that_read_by_themselves_only_the_active_node_counts() -> Result<()> {
    let estate = Estate::raft().await?;
    for server in [
        Server::OpenBao25,
        Server::OpenBao26,
        Server::VaultPerformance,
    ] {
        let nodes = StandIn::before_all(&estate.cluster, server).await?;
        let addresses = [nodes[1].address(), nodes[0].address()];
        let site = estate.host(&addresses).await?;
        let login = site.login().await?;
        let (path, _) = estate.secret()?;
        assert_eq!(site.read(path, &login.token).await?.0, 200);
        eventually(
            BOUND,
            "the standby to be seen for what it is",
            async || match site.shown(&addresses[0], "behind").await {
                Ok(shown) if shown == true => Ok(()),
                other => Err(format!("{other:?}")),
            },
        )
        .await?;
        let status = site.daemon.status().await?;
        assert_eq!(
            status["addresses"][1]["in_use"], true,
            "{server:?} {status:#}"
        );
        // What changes at the active node is mirrored from there.
        let changed = estate.world.below("orders").find(|one| one.path != path);
        let changed = &changed.context("another secret")?.path;
        let value = format!("{server:?}");
        let root = estate.cluster.root().await?;
        root.write(changed, &json!({ "data": { "password": value } }))
            .await?;
        let written = clock::instant();
        site.daemon
            .wait_for("a pass since", BOUND, |status| {
                let age = status["mirrors"][0]["age_seconds"].as_u64();
                age.is_some_and(|age| written.elapsed() > Duration::from_secs(age + 2))
            })
            .await?;
        site.outage(&estate).await?;
        let (status, body) = site.read(changed, &login.token).await?;
        assert!(
            status == 200 && body.contains(&value),
            "{server:?}: {status} {body}"
        );
        estate.cut_all(Flow::Open).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_standby_alone_that_cannot_show_that_it_is_current_is_passed_on_and_mirrors_nothing()
-> Result<()> {
    let estate = Estate::raft().await?;
    for server in [Server::OpenBao26, Server::VaultPerformance] {
        let nodes = StandIn::before_all(&estate.cluster, server).await?;
        let site = estate
            .prepared(&[nodes[1].address()], Default::default())
            .await?;
        site.daemon.start()?;
        let stated = |status: &serde_json::Value| {
            let findings = status["findings"].to_string();
            status["ready"] == false
                && findings.contains("cannot show that what it says is current")
        };
        let status = site.daemon.wait_for("the finding", BOUND, stated).await?;
        assert_eq!(status["mirrors"][0]["age_seconds"], serde_json::Value::Null);
        let token = harness::world::token(&estate.cluster.root().await?, "orders").await?;
        let (path, password) = estate.secret()?;
        eventually(BOUND, "the forwarded value", async || {
            match site.read(path, &token).await {
                Ok((200, body)) if body.contains(password) => Ok(()),
                other => Err(format!("{other:?}")),
            }
        })
        .await?;
    }
    Ok(())
}
