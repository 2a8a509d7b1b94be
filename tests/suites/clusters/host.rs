//! Holdover over a cluster.

use harness::Result;
use harness::cluster::Cluster;
use harness::host::Plan;

#[tokio::test]
async fn a_plan_is_started_over_a_cluster() -> Result<()> {
    let cluster = Cluster::raft(1).await?;
    let addresses = cluster.addresses();
    let host = Plan::new(env!("CARGO_BIN_EXE_holdover-under-test"))
        .secrets(1)
        .start_over(cluster, &addresses)
        .await?;
    let (path, password) = host.secret("orders")?;
    let root = host.primary.root_token();
    let reply = host.read(path, root).await?;
    assert_eq!(reply.json_text("/data/data/password")?, password);
    assert_eq!(reply.source(), Some("primary"));
    Ok(())
}
