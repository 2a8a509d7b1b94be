//! A cluster's nodes can be killed, stopped, sealed and cut off, and come back.

use std::time::Duration;

use harness::cluster::{Cluster, Node};
use harness::link::Flow;
use harness::{Context, Result};
use serde_json::json;

const BOUND: Duration = Duration::from_secs(30);
/// Longer than anything that is answered takes to be.
const SILENCE: Duration = Duration::from_millis(500);

#[tokio::test]
async fn a_cluster_outlives_what_befalls_its_leader() -> Result<()> {
    let cluster = Cluster::raft(3).await?;
    let first = cluster.wait_for_leader(BOUND).await?;
    assert_eq!((first.number(), cluster.standbys().await.len()), (0, 2));

    first.kill9()?;
    let second = cluster.wait_for_leader_after(first, BOUND).await?;
    first.start_again().await?;
    whole(&cluster).await.context("after a kill")?;

    second.stop()?;
    let third = cluster.wait_for_leader_after(second, BOUND).await?;
    second.cont()?;
    whole(&cluster).await.context("after a stop")?;

    for how in [Flow::Silent, Flow::Refused] {
        let old = cluster.wait_for_leader(BOUND).await?;
        old.cut_cluster(how).await?;
        cluster.wait_for_leader_after(old, BOUND).await?;
        assert_eq!(old.api("").get("sys/health").await?.status, 429);
        old.restore().await?;
        whole(&cluster).await.context(format!("after {how:?}"))?;
    }
    assert!(third.leader().await?["ha_enabled"] == true);

    let old = cluster.wait_for_leader(BOUND).await?;
    let new = cluster.move_leader().await?;
    assert_ne!(old.number(), new.number());
    new.seal().await?;
    let next = cluster.wait_for_leader_after(new, BOUND).await?;
    assert_eq!(new.api("").get("sys/health").await?.status, 503);
    new.unseal().await?;
    whole(&cluster).await.context("after a seal")?;

    cluster.rolling_restart().await?;
    whole(&cluster).await.context("after a rolling restart")?;
    cut_from_clients(next).await
}

/// Every node has what is written now.
async fn whole(cluster: &Cluster) -> Result<()> {
    let text = json!({ "policy": "path \"a\" {}" });
    let root = cluster.root().await?;
    root.write("sys/policies/acl/kept", &text).await?;
    cluster.wait_caught_up().await?;
    assert_eq!(cluster.standbys().await.len(), 2);
    for node in cluster.nodes() {
        let kept = node.root().get("sys/policies/acl/kept").await?;
        assert_eq!(kept.status, 200, "{}", node.name());
    }
    Ok(())
}

/// What is asked over a silent link is answered once it is open; over a refusing one it fails at once.
async fn cut_from_clients(node: &Node) -> Result<()> {
    let client = node.api("");
    node.cut_api(Flow::Silent).await?;
    let mut asked = Box::pin(client.get("sys/health"));
    let silence = tokio::time::timeout(SILENCE, &mut asked).await;
    assert!(silence.is_err(), "answered over a silent link");
    assert!(node.health().await.is_some(), "the harness's way was cut");
    node.restore().await?;
    asked.await?;
    node.cut_api(Flow::Refused).await?;
    let refused = tokio::time::timeout(SILENCE, client.get("sys/health")).await;
    assert!(matches!(refused, Ok(Err(_))), "{refused:?}");
    node.restore().await?;
    client.get("sys/health").await.map(drop)
}
