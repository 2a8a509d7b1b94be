//! Balancers lead where their kind leads.

use std::collections::BTreeSet;
use std::time::Duration;

use harness::balancer::{Balancer, Standing};
use harness::bao::api::Api;
use harness::cluster::{Cluster, Node};
use harness::{Failure, Result, eventually};

const BOUND: Duration = Duration::from_secs(30);

/// All kinds before one calm cluster, whose last node is killed in the end and started again.
pub(crate) async fn lead_where_their_kind_leads(cluster: &Cluster) -> Result<()> {
    let (backends, authority) = (cluster.socket_addresses(), cluster.authority());
    let round_robin = Balancer::round_robin(&backends).await?;
    let sticky = Balancer::sticky(&backends).await?;
    let checked = Balancer::health_checked(&backends, &[200], authority).await?;
    let per_request = Balancer::per_request(&backends, authority).await?;
    let reached = async |balancer: &Balancer| reached(cluster, balancer).await;
    let active = cluster.wait_for_leader(BOUND).await?;

    assert_eq!(reached(&round_robin).await?.len(), 3);
    assert_eq!(reached(&sticky).await?.len(), 1);
    assert_eq!(reached(&checked).await?, BTreeSet::from([active.number()]));
    assert_eq!(reached(&per_request).await?.len(), 3);
    let client = cluster.client(&per_request.address(), "");
    let kept = seen(cluster, &client, 6).await?;
    assert_eq!(kept.len(), 3, "one connection, and not every node answered");
    let client = cluster.client(&round_robin.address(), "");
    assert_eq!(seen(cluster, &client, 6).await?.len(), 1, "one connection");

    let new = cluster.move_leader().await?;
    eventually(
        BOUND,
        "the check to follow the leader",
        async || match reached(&checked).await {
            Ok(nodes) if nodes == BTreeSet::from([new.number()]) => Ok(()),
            other => Err(format!("{other:?}")),
        },
    )
    .await?;

    let one = reached(&sticky).await?.into_iter().next().unwrap_or(0);
    let stuck = cluster.node(one);
    stuck.kill9()?;
    eventually(
        BOUND,
        "the source to be led elsewhere",
        async || match reached(&sticky).await {
            Ok(nodes) if !nodes.contains(&one) => Ok(()),
            other => Err(format!("{other:?}")),
        },
    )
    .await?;
    stuck.start_again().await?;
    let moved = reached(&sticky).await?;
    assert!(!moved.contains(&one), "it came back from {moved:?}");

    let only = |node: &Node| vec![node.address()];
    round_robin.set_backends(&only(cluster.node(1)), Standing::Stay)?;
    assert_eq!(reached(&round_robin).await?, BTreeSet::from([1]));
    Ok(())
}

/// Which nodes answer six connections in a row.
async fn reached(cluster: &Cluster, balancer: &Balancer) -> Result<BTreeSet<usize>> {
    let mut nodes = BTreeSet::new();
    for _ in 0..6 {
        let client = cluster.client(&balancer.address(), "");
        nodes.extend(seen(cluster, &client, 1).await?);
    }
    Ok(nodes)
}

/// Which nodes answer so many requests of one client.
async fn seen(cluster: &Cluster, client: &Api, count: usize) -> Result<BTreeSet<usize>> {
    let mut nodes = BTreeSet::new();
    for _ in 0..count {
        let answer = client.get("sys/health").await?;
        let name = answer.header("x-node").unwrap_or_default();
        let node = cluster.nodes().iter().position(|node| node.name() == name);
        nodes.insert(node.ok_or_else(|| Failure::new(&answer.body))?);
    }
    Ok(nodes)
}
