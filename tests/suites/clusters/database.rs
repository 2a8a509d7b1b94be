//! Two nodes on one PostgreSQL.

use harness::cluster::Cluster;
use harness::link::Flow;
use harness::{Context, Result, eventually};

use crate::stage::{BOUND, SECRET, Stage, hangs, index, prompt, value};

#[tokio::test]
async fn nodes_on_a_database_answer_as_it_was_measured() -> Result<()> {
    let stage = Stage::on(Cluster::postgres(2).await?).await?;
    the_index_is_a_place_in_the_database_s_log(&stage).await?;
    a_standby_cut_from_its_peer_reads_on_from_the_database(&stage).await?;
    an_active_node_whose_storage_is_frozen_says_that_it_is_well(&stage).await
}

async fn the_index_is_a_place_in_the_database_s_log(stage: &Stage) -> Result<()> {
    for node in stage.cluster.nodes() {
        let answer = node.root().get(SECRET).await?;
        let (cluster, value) = index(&answer)?.context("its index")?;
        assert_eq!(cluster, stage.id);
        let parts = value
            .split_once('/')
            .map(|(high, low)| [high, low].map(|part| u32::from_str_radix(part, 16).is_ok()));
        assert_eq!(parts, Some([true, true]), "{value}");
        assert!(node.leader().await?.get("raft_applied_index").is_none());
    }
    let standby = stage.standby().await?;
    let refused = stage.beyond(standby.root(), "fail").get(SECRET).await?;
    assert_eq!(refused.status, 429);
    let health = stage.current(standby.api("")).get("sys/health").await?;
    assert_eq!(health.body["standby"], false);
    Ok(())
}

async fn a_standby_cut_from_its_peer_reads_on_from_the_database(stage: &Stage) -> Result<()> {
    let standby = stage.standby().await?;
    standby.cut_cluster(Flow::Silent).await?;
    stage.write_secret("written past it").await?;
    let read = eventually(BOUND, "the new value", async || {
        match prompt(standby.root().get(SECRET)).await {
            Ok(read) if value(&read) == "written past it" => Ok(read),
            other => Err(format!("{other:?}")),
        }
    })
    .await?;
    assert_eq!(read.status, 200);
    assert!(hangs(stage.current(standby.root()).get(SECRET)).await);
    standby.restore().await
}

/// It goes on saying so, and refuses tokens that it does not know, while all that needs the storage hangs.
async fn an_active_node_whose_storage_is_frozen_says_that_it_is_well(stage: &Stage) -> Result<()> {
    let active = stage.active().await?;
    active.cut_storage(Flow::Silent).await?;
    assert!(hangs(active.root().get(SECRET)).await);
    let health = stage.current(active.api("")).get("sys/health").await?;
    assert_eq!(
        (health.status, &health.body["standby"]),
        (200, &false.into())
    );
    // The other node leads once the lock has run out, whatever this one goes on saying.
    let other = stage.cluster.node(1 - active.number());
    eventually(BOUND, "the other to lead", async || {
        match other.health().await {
            Some(health) if health.status == 200 => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await?;
    active.restore().await?;
    stage.cluster.wait_for_leader(BOUND).await?;
    stage.cluster.step_down().await.map(drop)
}
