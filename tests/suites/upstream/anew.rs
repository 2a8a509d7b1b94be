//! Keys that may be superseded: read at once, one by one, with no pass in sight.

use std::time::Duration;

use harness::{
    Context, Result,
    bao::{Primary, Transport},
    world::{self, World},
};
use holdover::upstream::policy::required_policy;
use replica::sequencer::Lane;
use serde_json::{Value, json};
use shared::{
    change::{Change, Expects, PhaseRecord},
    failover::{Cause, Outage, Phase},
    kv::{Doubted, VersionState},
    name::OutageId,
    time::Deadline,
};

use super::rig::{Host, Plan, audited};

const SHOP: &str = "secret/data/shop/*";
const SHARED: &str = "secret/data/shop/shared";

/// A host that has gone through its first pass, with the next one an hour away.
async fn shop(mirrors: &[&str]) -> Result<(Primary, Host)> {
    let primary = Primary::start(Transport::Plain).await?;
    World::seed(&primary, 3).await?;
    let host = at(&primary, mirrors).await?;
    Ok((primary, host))
}

async fn at(primary: &Primary, mirrors: &[&str]) -> Result<Host> {
    let hourly = |plan: Plan, path: &&str| plan.mirror(path, &[("interval", "1h".into())]);
    let plan = mirrors.iter().fold(Plan::new(primary)?, hourly);
    let host = plan.start(primary).await?;
    first_passes(&host, mirrors).await?;
    Ok(host)
}

async fn first_passes(host: &Host, mirrors: &[&str]) -> Result<()> {
    let passed = |host: &Host| {
        let authority = host.local.view.authority();
        match mirrors
            .iter()
            .all(|path| authority.mirrors.contains_key(*path))
        {
            true => Ok(()),
            false => Err(format!("{:?}", host.mirrors.statuses())),
        }
    };
    host.until("the first passes", passed).await
}

fn data(host: &Host, path: &str, version: u64) -> Option<Value> {
    host.value(path, version)
        .map(|(_, data)| data["data"].clone())
}

#[tokio::test]
async fn a_doubted_key_is_read_at_once_whatever_was_done_to_it() -> Result<()> {
    let (primary, host) = shop(&[SHOP]).await?;
    let root = primary.root();
    root.write(SHARED, &json!({ "data": { "n": 2 } })).await?;
    host.doubt(SHARED).await?;
    host.until_sure().await?;
    assert_eq!(data(&host, SHARED, 2), Some(json!({ "n": 2 })));
    root.delete(SHARED).await?.ok()?;
    host.doubt(SHARED).await?;
    host.until_sure().await?;
    assert_eq!(
        host.value(SHARED, 2).context("a tombstone")?.0.state,
        VersionState::Gone
    );
    root.write("secret/undelete/shop/shared", &json!({ "versions": [2] }))
        .await?;
    host.doubt(SHARED).await?;
    host.until_sure().await?;
    assert_eq!(data(&host, SHARED, 2), Some(json!({ "n": 2 })));
    let new = "secret/data/shop/a/new";
    root.write(new, &json!({ "data": { "n": 1 } })).await?;
    host.doubt(new).await?;
    host.until_sure().await?;
    assert_eq!(data(&host, new, 1), Some(json!({ "n": 1 })));
    root.delete("secret/metadata/shop/a/new").await?.ok()?;
    host.doubt(new).await?;
    host.until_sure().await?;
    assert!(host.value(new, 1).is_none() && !host.keys().contains(&new.to_owned()));
    // What was never there.
    host.doubt("secret/data/shop/never").await?;
    host.until_sure().await?;
    // One pass at the start, and none for any of this; each doubt is one read.
    let asked = audited(&primary)?;
    let scans = asked.iter().filter(|one| one.operation == "scan");
    let reads = asked
        .iter()
        .filter(|one| one.path == "secret/metadata/shop/shared");
    assert_eq!((scans.count(), reads.count()), (1, 3));
    Ok(())
}

#[tokio::test]
async fn values_without_versions_and_single_paths_are_read_anew_too() -> Result<()> {
    let primary = Primary::start(Transport::Plain).await?;
    World::seed(&primary, 1).await?;
    let root = primary.root();
    let mount = json!({ "type": "kv", "options": { "version": "1" } });
    root.write("sys/mounts/kv1", &mount).await?;
    root.write("kv1/shop/one", &json!({ "n": 1 })).await?;
    root.write("kv1/single", &json!({ "n": 1 })).await?;
    let mirrors = ["kv1/shop/*", "kv1/single", SHARED, "secret/config"];
    let host = at(&primary, &mirrors).await?;
    root.write("kv1/shop/one", &json!({ "n": 2 })).await?;
    root.write("kv1/single", &json!({ "n": 2 })).await?;
    root.write(SHARED, &json!({ "data": { "n": 2 } })).await?;
    root.write("secret/config", &json!({ "max_versions": 7 }))
        .await?;
    for path in ["kv1/shop/one", "kv1/single", SHARED, "secret/config"] {
        host.doubt(path).await?;
    }
    host.until_sure().await?;
    let plain = |path: &str| -> Result<Value> {
        let secrets = host.local.view.secrets();
        let mut held = secrets.records.iter();
        let held = held.find(|((place, _), _)| place.path.as_str() == path);
        let body = held.context(path)?.1.body.open(host.local.view.keys())?;
        Ok(serde_json::from_slice(body.expose())?)
    };
    assert_eq!(plain("kv1/shop/one")?, json!({ "n": 2 }));
    assert_eq!(plain("kv1/single")?, json!({ "n": 2 }));
    assert_eq!(plain("secret/config")?["max_versions"], 7);
    assert_eq!(data(&host, SHARED, 2), Some(json!({ "n": 2 })));
    root.delete("kv1/shop/one").await?.ok()?;
    host.doubt("kv1/shop/one").await?;
    host.until_sure().await?;
    assert!(!host.keys().contains(&"kv1/shop/one".to_owned()));
    Ok(())
}

/// Under a policy of an earlier version: metadata is listed, and not read key by key.
#[tokio::test]
async fn where_single_keys_may_not_be_read_a_pass_is_made_instead() -> Result<()> {
    let primary = Primary::start(Transport::Plain).await?;
    World::seed(&primary, 3).await?;
    let root = primary.root();
    let plan = Plan::new(&primary)?.mirror(SHOP, &[("interval", "1h".into())]);
    let mut host = plan.prepare().await?;
    host.give_login(&primary, json!({})).await?;
    let policy = required_policy(&host.config.settings);
    let without = policy.replace("path \"secret/metadata/shop/*\"", "path \"nowhere\"");
    assert_ne!(policy, without);
    world::policy(&root, "holdover", &without).await?;
    host.run();
    first_passes(&host, &[SHOP]).await?;
    for n in 2..4 {
        root.write(SHARED, &json!({ "data": { "n": n } })).await?;
        host.doubt(SHARED).await?;
        host.until_sure().await?;
        assert_eq!(data(&host, SHARED, n), Some(json!({ "n": n })));
    }
    Ok(())
}

#[tokio::test]
async fn a_mirror_in_doubt_is_gone_through_at_once() -> Result<()> {
    let (primary, host) = shop(&[SHOP]).await?;
    let root = primary.root();
    for of in [Doubted::Mirror(SHOP.into()), Doubted::Absence(SHOP.into())] {
        let path = format!(
            "secret/data/shop/{}",
            if of == Doubted::Mirror(SHOP.into()) {
                "x"
            } else {
                "y"
            }
        );
        root.write(&path, &json!({ "data": { "n": 1 } })).await?;
        host.doubt_of(of).await?;
        host.until_sure().await?;
        assert_eq!(data(&host, &path, 1), Some(json!({ "n": 1 })));
    }
    // Of a mirror that is not configured nothing is kept, so nothing can be in doubt.
    host.doubt_of(Doubted::Mirror("secret/data/other/*".into()))
        .await?;
    host.doubt("secret/data/elsewhere").await?;
    host.until_sure().await
}

#[tokio::test]
async fn in_an_outage_nothing_is_asked_and_after_it_and_a_restart_it_goes_on() -> Result<()> {
    let (primary, host) = shop(&[SHOP]).await?;
    let now = host.local.clock.now();
    let outage = Outage {
        id: OutageId::parse("o1")?,
        started_at: now.steady,
        cause: Cause::Operator("test".into()),
        bound: Deadline::after(Duration::from_secs(600), now),
        latched: false,
    };
    let enter = async |host: &Host, phase: Phase| {
        let change = Change::Phase(PhaseRecord {
            phase,
            epoch: 1,
            proven_from: None,
        });
        let lane = Lane::Revocation;
        host.local
            .commit(lane, vec![change], Expects::default())
            .await
    };
    enter(&host, Phase::Holdover(outage)).await?;
    primary
        .root()
        .write(SHARED, &json!({ "data": { "n": 2 } }))
        .await?;
    host.doubt(SHARED).await?;
    let reads = |path: &str| -> Result<usize> {
        let asked = audited(&primary)?.into_iter();
        Ok(asked.filter(|one| one.path == path).count())
    };
    let before = reads("secret/metadata/shop/shared")?;
    tokio::time::sleep(Duration::from_millis(1200)).await;
    assert_eq!(reads("secret/metadata/shop/shared")?, before);
    let host = host.restart().await?;
    assert_eq!(host.local.view.doubts().all().count(), 1);
    enter(&host, Phase::Following).await?;
    host.until_sure().await?;
    assert_eq!(data(&host, SHARED, 2), Some(json!({ "n": 2 })));
    assert_eq!(reads("secret/metadata/shop/shared")?, before + 1);
    Ok(())
}

#[tokio::test]
async fn what_differs_without_doubt_is_read_when_there_is_time() -> Result<()> {
    let (primary, host) = shop(&[SHOP]).await?;
    primary
        .root()
        .write(SHARED, &json!({ "data": { "n": 2 } }))
        .await?;
    let secrets = host.local.view.secrets();
    let place = secrets
        .keys
        .keys()
        .find(|place| place.path.as_str() == SHARED)
        .context("held")?;
    host.anew.due(Doubted::Key(place.clone()));
    let read = |host: &Host| data(host, SHARED, 2).ok_or_else(|| "not yet".to_owned());
    assert_eq!(
        host.until("the new version", read).await?,
        json!({ "n": 2 })
    );
    Ok(())
}

/// A change of policies is known at once, where it would be in an hour.
#[tokio::test]
async fn authority_is_verified_before_its_time_where_it_changed() -> Result<()> {
    let primary = Primary::start(Transport::Plain).await?;
    World::seed(&primary, 1).await?;
    let plan = Plan::new(&primary)?.file(|file| file.set("failover.authority_interval", "14m"));
    let host = plan
        .mirror(SHOP, &[("interval", "1h".into())])
        .start(&primary)
        .await?;
    first_passes(&host, &[SHOP]).await?;
    world::policy(
        &primary.root(),
        "fresh",
        "path \"a\" { capabilities = [\"read\"] }",
    )
    .await?;
    host.anew.authority();
    host.until("the new policy", |host| {
        let authority = host.local.view.authority();
        let policies = authority.policies.as_ref().ok_or("none")?;
        let mut names = policies.set.policies.keys();
        match names.any(|name| name.as_str() == "fresh") {
            true => Ok(()),
            false => Err("not among them".to_owned()),
        }
    })
    .await
}
