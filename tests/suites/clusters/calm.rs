//! What a cluster says when nothing befalls it.

use harness::Result;
use harness::cluster::Cluster;

use crate::balancers;

/// One cluster for all of it, because none of it disturbs the rest.
#[tokio::test]
async fn a_calm_cluster_answers_as_it_was_measured() -> Result<()> {
    let cluster = Cluster::raft(3).await?;
    balancers::lead_where_their_kind_leads(&cluster).await
}
