//! Two nodes on PostgreSQL, whose indices are of another form.

use harness::Result;
use harness::cluster::Cluster;
use harness::link::Flow;

use crate::rig::{Clients, Estate, FOLLOWING};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_on_postgresql_is_as_good_as_one_on_raft() -> Result<()> {
    let estate = Estate::of(Cluster::postgres(2).await?).await?;
    let standbys = estate.cluster.standbys().await;
    let first = standbys[0].number();
    let addresses = estate.addresses(&[first, 1 - first]);
    let site = estate.host(&addresses).await?;
    let (path, password) = estate.secret()?;
    let clients = Clients::start(&site, path, password);
    let status = site.daemon.status().await?;
    assert_eq!(status["addresses"][0]["behind"], false, "{status:#}");
    site.outage(&estate).await?;
    let login = site.login().await?;
    assert_eq!(login.source, "replica");
    estate.cut_all(Flow::Open).await?;
    site.daemon.wait_state("following", FOLLOWING).await?;
    estate.cluster.move_leader().await?;
    site.daemon.wait_state("following", FOLLOWING).await?;
    site.login().await?;
    clients.flawless(&site).await?;
    Ok(())
}
