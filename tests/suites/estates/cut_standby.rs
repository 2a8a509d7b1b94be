//! A standby that is cut from its peers goes on answering, from what it had: nothing is learned from it.

use harness::link::Flow;
use harness::{Context, Result, clock, eventually};
use serde_json::json;
use shared::time::WallTime;

use crate::rig::{BOUND, Clients, Estate};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_cut_standby_says_under_traffic_makes_nothing_look_fresh() -> Result<()> {
    let estate = Estate::raft().await?;
    // Node 0 leads; the standby is preferred, so that clients are sent there.
    let addresses = estate.addresses(&[1, 0, 2]);
    let site = estate.host(&addresses).await?;
    let (path, password) = estate.secret()?;
    let clients = Clients::start(&site, path, password);
    let victim = site.login().await?;
    let keeper = site.login().await?;
    assert_eq!(site.read(path, &victim.token).await?.0, 200);

    estate.cluster.node(1).cut_cluster(Flow::Silent).await?;
    let root = estate.cluster.node(0).root();
    let named = json!({ "token": victim.token });
    let shown = root.post("auth/token/lookup", &named).await?.data()?;
    let accessor = shown["accessor"].as_str().context("an accessor")?;
    root.write("auth/token/revoke", &named).await?;
    let revoked = WallTime::from_millis(i64::try_from(clock::wall().as_millis())?);
    let other = estate
        .world
        .below("orders")
        .find(|one| one.path != path && one.path.contains("/item-"));
    let changed = &other.context("another secret")?.path;
    root.write(changed, &json!({ "data": { "password": "changed" } }))
        .await?;
    // The standby goes on saying what was: whoever asks it through Holdover gets that passed on, or the truth.
    eventually(BOUND, "the standby to be seen behind", async || {
        site.read(path, &victim.token)
            .await
            .map_err(|failure| failure.to_string())?;
        site.read(changed, &keeper.token)
            .await
            .map_err(|failure| failure.to_string())?;
        match site.shown(&addresses[0], "behind").await {
            Ok(shown) if shown == true => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await
    .map_err(|failure| site.daemon.failure(failure))?;
    // What it said of the revoked token proved nothing.
    if let Some(proven) = site.verified_at(accessor).await? {
        assert!(proven <= revoked, "{proven} is after {revoked}");
    }
    eventually(BOUND, "the revocation to be told", async || {
        match site.read(path, &victim.token).await {
            Ok((403, _)) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await?;
    eventually(
        BOUND,
        "the changed value to be mirrored",
        async || match site.read(changed, &keeper.token).await {
            Ok((200, body)) if body.contains("changed") => Ok(()),
            other => Err(format!("{other:?}")),
        },
    )
    .await?;
    clients.flawless(&site).await?;

    site.outage(&estate).await?;
    let (status, body) = site.read(path, &victim.token).await?;
    assert!(matches!(status, 403 | 503), "{status} {body}");
    let (status, body) = site.read(changed, &keeper.token).await?;
    assert!(status == 503 || body.contains("changed"), "{status} {body}");
    let (status, body) = site.read(path, &keeper.token).await?;
    assert!(status == 200 && body.contains(password), "{status} {body}");
    Ok(())
}
