//! Another cluster answers at the address, for a moment or for good: it sees no credential, and what it says is not learned.

use std::time::Duration;

use harness::balancer::{Balancer, Standing};
use harness::cluster::Cluster;
use harness::recorder::Recorder;
use harness::{Result, eventually};

use crate::rig::{BOUND, Clients, Estate, FAILOVER, FOLLOWING, Site};

/// How long a stranger answers, where it does so for a moment.
const MOMENT: Duration = Duration::from_millis(100);

/// Two clusters under one CA, so that the second can answer where the first did.
async fn two() -> Result<(Estate, Cluster)> {
    let estate = Estate::raft().await?;
    let stranger = Cluster::raft_under(estate.cluster.authority(), 1).await?;
    Ok((estate, stranger))
}

/// Nothing that proves anybody went over a connection before that had shown the trusted cluster.
async fn nothing_leaked(recorder: &Recorder, estate: &Estate) -> Result<()> {
    let leaked = recorder.unproved(&estate.cluster.id().await?);
    assert!(leaked.is_empty(), "{leaked:#?}");
    Ok(())
}

/// The token reads from the replica.
async fn is_known_good(site: &Site, estate: &Estate, token: &str) -> Result<()> {
    let (path, password) = estate.secret()?;
    let (status, body) = site.read(path, token).await?;
    assert!(status == 200 && body.contains(password), "{status} {body}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stranger_for_a_moment_gets_nothing_and_teaches_nothing() -> Result<()> {
    let (estate, stranger) = two().await?;
    let own = estate.cluster.node(0).address();
    let recorder = Recorder::before(&own, estate.cluster.authority()).await?;
    let site = estate.host(&[recorder.address()]).await?;
    let (path, password) = estate.secret()?;
    let keeper = site.login().await?;
    let clients = Clients::start(&site, path, password);
    for _ in 0..5 {
        recorder.set_backend(&stranger.node(0).address(), Standing::Close)?;
        tokio::time::sleep(MOMENT).await;
        recorder.set_backend(&own, Standing::Close)?;
        site.daemon.wait_state("following", FOLLOWING).await?;
        assert_eq!(site.read(path, &keeper.token).await?.0, 200);
    }
    clients.flawless_over(&site, 10).await?;
    nothing_leaked(&recorder, &estate).await?;
    site.outage(&estate).await?;
    is_known_good(&site, &estate, &keeper.token).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stranger_that_stays_is_an_outage_that_names_it() -> Result<()> {
    let (estate, stranger) = two().await?;
    let own = estate.cluster.node(0).address();
    let recorder = Recorder::before(&own, estate.cluster.authority()).await?;
    let site = estate.host(&[recorder.address()]).await?;
    let (path, password) = estate.secret()?;
    let keeper = site.login().await?;
    let clients = Clients::start(&site, path, password);
    recorder.set_backend(&stranger.node(0).address(), Standing::Close)?;
    let status = site.daemon.wait_state("holdover", FAILOVER).await?;
    let cause = status["outage"]["cause"].to_string();
    assert!(cause.contains(&stranger.id().await?), "{cause}");
    is_known_good(&site, &estate, &keeper.token).await?;
    recorder.set_backend(&own, Standing::Close)?;
    site.daemon.wait_state("following", FOLLOWING).await?;
    is_known_good(&site, &estate, &keeper.token).await?;
    clients.flawless_over(&site, 2).await?;
    nothing_leaked(&recorder, &estate).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stranger_among_the_nodes_behind_a_balancer_is_passed_over() -> Result<()> {
    let (estate, stranger) = two().await?;
    let own = estate.cluster.socket_addresses();
    let strange = stranger.node(0).address();
    let recorder = Recorder::before(&strange, estate.cluster.authority()).await?;
    let mut mixed = own.clone();
    mixed.insert(1, recorder.address());
    let balancer = Balancer::round_robin(&own).await?;
    let site = estate.host(&[balancer.address()]).await?;
    let (path, password) = estate.secret()?;
    let keeper = site.login().await?;
    let clients = Clients::start(&site, path, password);
    balancer.set_backends(&mixed, Standing::Close)?;
    site.login_after_close().await?;
    for _ in 0..20 {
        site.login().await?;
    }
    clients.flawless_over(&site, 1).await?;
    let met = recorder.exchanges();
    assert!(!met.is_empty(), "the stranger was never met");
    let leaked: Vec<_> = met.iter().filter(|one| one.has_credential()).collect();
    assert!(leaked.is_empty(), "{leaked:#?}");
    site.outage(&estate).await?;
    is_known_good(&site, &estate, &keeper.token).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn behind_a_balancer_of_requests_what_a_stranger_says_is_not_learned() -> Result<()> {
    let (estate, stranger) = two().await?;
    let own = estate.cluster.socket_addresses();
    let authority = estate.cluster.authority();
    let balancer = Balancer::per_request(&own, authority).await?;
    let site = estate.host(&[balancer.address()]).await?;
    let (path, _) = estate.secret()?;
    let keeper = site.login().await?;
    eventually(BOUND, "the finding", async || {
        match site.shown(&balancer.address(), "per_request").await {
            Ok(shown) if shown == true => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await?;
    let strange = [stranger.node(0).socket_address()];
    for _ in 0..5 {
        balancer.set_backends(&strange, Standing::Stay)?;
        let until = harness::clock::instant() + MOMENT;
        // It refuses a token that it does not know: that is passed on, and nothing more.
        while harness::clock::instant() < until {
            let _ = site.read(path, &keeper.token).await?;
        }
        balancer.set_backends(&own, Standing::Stay)?;
        site.daemon.wait_state("following", FOLLOWING).await?;
    }
    site.outage(&estate).await?;
    is_known_good(&site, &estate, &keeper.token).await
}
