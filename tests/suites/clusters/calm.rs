//! What a cluster says while nothing befalls it.

use harness::cluster::Cluster;
use harness::{Context, Result};

use crate::stage::Stage;
use crate::{balancers, recorder, standins};

/// One cluster for all of it, because none of it disturbs the rest; what moves the leader comes last.
#[tokio::test]
async fn a_calm_cluster_answers_as_it_was_measured() -> Result<()> {
    let stage = Stage::on(Cluster::raft(3).await?).await?;
    recorder::a_recorder_tells_credentials_before_proof(&stage)
        .await
        .context("recorder")?;
    standins::other_servers_are_told_apart_by_health(&stage)
        .await
        .context("stand-ins")?;
    standins::old_standbys_forward_and_newer_ones_read(&stage)
        .await
        .context("stand-ins")?;
    balancers::lead_where_their_kind_leads(&stage.cluster)
        .await
        .context("balancers")
}
