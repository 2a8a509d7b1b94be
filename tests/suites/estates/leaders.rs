//! The leader moves: while following, in an outage, while settling.

use harness::Result;
use harness::link::Flow;

use crate::rig::{Clients, Estate, FAILOVER, FOLLOWING};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_login_and_no_read_fails_when_the_leader_moves_while_following() -> Result<()> {
    let estate = Estate::raft().await?;
    let site = estate.host(&estate.addresses(&[0, 1, 2])).await?;
    let (path, password) = estate.secret()?;
    let clients = Clients::start(&site, path, password);
    for _ in 0..3 {
        estate.cluster.move_leader().await?;
        site.daemon.wait_state("following", FOLLOWING).await?;
        site.login().await?;
    }
    clients.flawless(&site).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_moved_in_an_outage_is_found_and_settled_with() -> Result<()> {
    let estate = Estate::raft().await?;
    let site = estate.host(&estate.addresses(&[0, 1, 2])).await?;
    let (path, password) = estate.secret()?;
    let clients = Clients::start(&site, path, password);
    for _ in 0..2 {
        site.outage(&estate).await?;
        let login = site.login().await?;
        assert_eq!(login.source, "replica");
        estate.cluster.move_leader().await?;
        estate.cut_all(Flow::Open).await?;
        site.daemon.wait_state("following", FOLLOWING).await?;
        assert_eq!(site.read(path, &login.token).await?.0, 200);
    }
    clients.flawless(&site).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_moves_while_settling_holds_it_up_and_no_more() -> Result<()> {
    let estate = Estate::raft().await?;
    let site = estate.host(&estate.addresses(&[0, 1, 2])).await?;
    site.outage(&estate).await?;
    for _ in 0..20 {
        site.login().await?;
    }
    estate.cut_all(Flow::Open).await?;
    let settling = |status: &serde_json::Value| status["state"] != "holdover";
    site.daemon.wait_for("settling", FAILOVER, settling).await?;
    estate.cluster.move_leader().await?;
    site.daemon.wait_state("following", FOLLOWING).await?;
    Ok(())
}
