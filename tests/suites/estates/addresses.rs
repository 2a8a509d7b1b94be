//! Every order of addresses and every kind of balancer: ready at once, no login and no read fails.

use harness::balancer::Balancer;
use harness::{Result, eventually};

use crate::rig::{BOUND, Clients, Estate, READY};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_standby_first_is_as_good_as_any_order() -> Result<()> {
    let estate = Estate::raft().await?;
    // Node 0 leads.
    for order in [&[1, 0, 2][..], &[1, 2, 0], &[0, 1, 2], &[2]] {
        let addresses = estate.addresses(order);
        let site = estate.host(&addresses).await?;
        serves(&site, &estate).await?;
        let status = site.daemon.status().await?;
        assert_eq!(status["addresses"][0]["in_use"], true, "{status:#}");
        assert_eq!(status["mirrors"][0]["errors"], 0, "{status:#}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_kind_of_balancer_is_as_good_as_a_node() -> Result<()> {
    let estate = Estate::raft().await?;
    let nodes = estate.cluster.socket_addresses();
    let authority = estate.cluster.authority();
    for balancer in [
        Balancer::round_robin(&nodes).await?,
        Balancer::sticky(&nodes).await?,
        Balancer::health_checked(&nodes, &[200], authority).await?,
        Balancer::health_checked(&nodes, &[200, 429], authority).await?,
    ] {
        let site = estate.host(&[balancer.address()]).await?;
        serves(&site, &estate).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_balancer_that_chooses_for_each_request_is_served_and_told_of() -> Result<()> {
    let estate = Estate::raft().await?;
    let nodes = estate.cluster.socket_addresses();
    let balancer = Balancer::per_request(&nodes, estate.cluster.authority()).await?;
    let site = estate.host(&[balancer.address()]).await?;
    serves(&site, &estate).await?;
    eventually(BOUND, "the finding", async || {
        match site.shown(&balancer.address(), "per_request").await {
            Ok(shown) if shown == true => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await?;
    let status = site.daemon.status().await?;
    let findings = status["findings"].to_string();
    assert!(
        findings.contains("another node with each request"),
        "{findings}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_preferred_address_is_used_again_when_it_is_well_whatever_the_traffic() -> Result<()> {
    let estate = Estate::raft().await?;
    let addresses = estate.addresses(&[1, 0, 2]);
    let site = estate.host(&addresses).await?;
    let (path, password) = estate.secret()?;
    let clients = Clients::start(&site, path, password);
    let in_use = async |address: &str| {
        eventually(READY, "the address in use", async || {
            match site.shown(address, "in_use").await {
                Ok(shown) if shown == true => Ok(()),
                other => Err(format!("{other:?}")),
            }
        })
        .await
        .map_err(|failure| site.daemon.failure(failure))
    };
    in_use(&addresses[0]).await?;
    estate.cluster.node(1).kill9()?;
    in_use(&addresses[1]).await?;
    let failed = site.shown(&addresses[0], "last_failure").await?;
    assert!(failed["error"].is_string(), "{failed}");
    estate.cluster.node(1).start_again().await?;
    in_use(&addresses[0]).await?;
    clients.flawless(&site).await?;
    Ok(())
}

/// Logins succeed, and so do reads with what they gave, through the primary.
async fn serves(site: &crate::rig::Site, estate: &Estate) -> Result<()> {
    let (path, password) = estate.secret()?;
    for _ in 0..20 {
        let login = site.login().await?;
        assert_eq!(login.source, "primary");
        let (status, body) = site.read(path, &login.token).await?;
        assert!(status == 200 && body.contains(password), "{status} {body}");
    }
    Ok(())
}
