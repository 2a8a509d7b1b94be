//! The KV v2 mirror: what it keeps, what it notices, what it purges and what it withholds.

use harness::{
    Context, Result,
    bao::{Primary, Transport},
    world::World,
};
use holdover::{mirror::Occasion, status::MirrorSource};
use serde_json::{Value, json};
use shared::kv::VersionState;

use super::rig::{Host, Plan, audited};

const SHOP: &str = "secret/data/shop/*";

async fn shop(count: usize) -> Result<(Primary, World, Host)> {
    let primary = Primary::start(Transport::Tls).await?;
    let world = World::seed(&primary, count).await?;
    let plan = Plan::new(&primary)?.mirror(SHOP, &[("versions", 2.into())]);
    let host = plan.start(&primary).await?;
    host.pass_of(SHOP).await?;
    Ok((primary, world, host))
}

#[tokio::test]
async fn every_secret_is_kept_as_the_primary_wrote_it() -> Result<()> {
    let (primary, world, host) = shop(20).await?;
    for secret in &world.secrets {
        let (record, data) = host.value(&secret.path, 1).context(&secret.path)?;
        assert_eq!(data, secret.data, "{}", secret.path);
        assert!(record.covered && record.state == VersionState::Live);
    }
    let status = host.status_of(SHOP)?;
    assert_eq!(status.count, world.secrets.len() as u64);
    assert_eq!(
        (status.source, status.errors),
        (Some(MirrorSource::Scan), 0)
    );
    assert!(
        status.age.is_some_and(|age| age.0.as_secs() < 5),
        "{status:?}"
    );
    // Numbers that a float cannot hold, and names that need encoding.
    let odd = "secret/data/shop/a b+c?d#e%2f(é)";
    let encoded = "secret/data/shop/a%20b%2Bc%3Fd%23e%252f(%C3%A9)";
    let body = json!({ "data": { "n": 12345678901234567890u64, "s": "<&>\u{2028}" } });
    primary.root().write(encoded, &body).await?;
    host.pass_of(SHOP).await?;
    let theirs = primary.root().get(encoded).await?.data()?;
    assert_eq!(host.value(odd, 1).context("odd")?.1, theirs);
    Ok(())
}

#[tokio::test]
async fn changes_deletions_and_destructions_are_noticed_within_a_pass() -> Result<()> {
    let (primary, _world, host) = shop(3).await?;
    let root = primary.root();
    let path = "secret/data/shop/shared";
    for version in 2..=3 {
        root.write(path, &json!({ "data": { "version": version } }))
            .await?;
    }
    host.pass_of(SHOP).await?;
    assert_eq!(
        host.value(path, 3).context("3")?.1["data"],
        json!({ "version": 3 })
    );
    assert!(
        host.value(path, 2).is_some() && host.value(path, 1).is_none(),
        "two versions are kept"
    );
    root.delete(path).await?.ok()?;
    host.pass_of(SHOP).await?;
    let (record, data) = host.value(path, 3).context("tombstone")?;
    assert_eq!(
        (record.state, &data["data"]),
        (VersionState::Gone, &Value::Null)
    );
    assert_ne!(data["metadata"]["deletion_time"], "");
    root.write("secret/undelete/shop/shared", &json!({ "versions": [3] }))
        .await?;
    host.pass_of(SHOP).await?;
    assert_eq!(
        host.value(path, 3).context("back")?.0.state,
        VersionState::Live
    );
    root.put("secret/destroy/shop/shared", &json!({ "versions": [2] }))
        .await?
        .ok()?;
    host.pass_of(SHOP).await?;
    let (record, data) = host.value(path, 2).context("destroyed")?;
    assert_eq!(
        (record.state, &data["metadata"]["destroyed"]),
        (VersionState::Gone, &json!(true))
    );
    let custom = json!({ "custom_metadata": { "owner": "shop" } });
    root.write("secret/metadata/shop/shared", &custom).await?;
    host.pass_of(SHOP).await?;
    let metadata = &host.value(path, 3).context("custom")?.1["metadata"];
    assert_eq!(metadata["custom_metadata"], json!({ "owner": "shop" }));
    Ok(())
}

#[tokio::test]
async fn a_removed_key_is_purged() -> Result<()> {
    let (primary, world, host) = shop(8).await?;
    let gone = &world.secrets[0].path;
    let metadata = gone.replacen("/data/", "/metadata/", 1);
    primary.root().delete(&metadata).await?.ok()?;
    host.until("the purge", |host| match host.keys().contains(gone) {
        false => Ok(()),
        true => Err("still there".to_owned()),
    })
    .await?;
    assert!(host.value(gone, 1).is_none());
    assert_eq!(host.keys().len(), world.secrets.len() - 1);
    Ok(())
}

#[tokio::test]
async fn what_vanishes_at_once_goes_only_when_an_operator_says_so() -> Result<()> {
    let primary = Primary::start(Transport::Plain).await?;
    let world = World::seed(&primary, 8).await?;
    let plan = Plan::new(&primary)?.mirror(SHOP, &[("interval", "1h".into())]);
    let host = plan.start(&primary).await?;
    host.until("the first pass", |host| {
        match host.status_of(SHOP).map(|s| s.age) {
            Ok(Some(_)) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await?;
    let root = primary.root();
    for secret in &world.secrets {
        root.delete(&secret.path.replacen("/data/", "/metadata/", 1))
            .await?
            .ok()?;
    }
    host.mirrors.sync_now(SHOP, Occasion::Cycle).await?;
    let status = host.status_of(SHOP)?;
    assert_eq!(status.count, world.secrets.len() as u64, "withheld");
    assert!(
        status
            .reasons
            .iter()
            .any(|reason| reason.contains("vanished at once")),
        "{status:?}"
    );
    let (record, _) = host.value(&world.secrets[0].path, 1).context("kept")?;
    assert!(!record.covered, "what vanished does not look fresh");
    host.mirrors.sync_now(SHOP, Occasion::Operator).await?;
    let status = host.status_of(SHOP)?;
    assert_eq!((status.count, status.reasons.len()), (0, 0), "{status:?}");
    Ok(())
}

#[tokio::test]
async fn a_value_that_holdover_may_not_read_is_reported_and_others_are_mirrored() -> Result<()> {
    let primary = Primary::start(Transport::Plain).await?;
    World::seed(&primary, 2).await?;
    let root = primary.root();
    let plan = Plan::new(&primary)?.mirror(SHOP, &[]);
    let host = plan.start(&primary).await?;
    host.pass_of(SHOP).await?;
    let path = "secret/data/shop/shared";
    let held = host.value(path, 1).context("held")?;
    // A control group that nobody approves: the new version's read brings no value.
    let group = format!(
        "{}\npath \"{path}\" {{ capabilities = [\"read\"]\n control_group = {{ ttl = \"1h\"\n factor \"x\" {{\n \
         controlled_capabilities = [\"read\"]\n identity {{ group_names = [\"nobody\"]\n approvals = 1 }} }} }} }}\n",
        holdover::upstream::policy::required_policy(&host.config.settings)
    );
    harness::world::policy(&root, "holdover", &group).await?;
    root.write(path, &json!({ "data": { "new": true } }))
        .await?;
    let other = "secret/data/shop/orders/public";
    root.write(other, &json!({ "data": { "new": true } }))
        .await?;
    host.pass_of(SHOP).await?;
    host.pass_of(SHOP).await?;
    assert_eq!(
        host.value(other, 2).context("other")?.1["data"],
        json!({ "new": true })
    );
    let (record, data) = host.value(path, 1).context("the old one stays")?;
    assert_eq!(data, held.1);
    assert!(!record.covered && host.value(path, 2).is_none());
    let status = host.status_of(SHOP)?;
    assert!(
        status
            .reasons
            .iter()
            .any(|r| r.contains("1 changed keys could not be read")),
        "{status:?}"
    );
    Ok(())
}

#[tokio::test]
async fn a_quiet_cluster_costs_no_audited_request() -> Result<()> {
    let (primary, _world, host) = shop(3).await?;
    host.pass_of(SHOP).await?;
    host.pass_of(SHOP).await?;
    let before = audited(&primary)?.len();
    for _ in 0..5 {
        host.pass_of(SHOP).await?;
    }
    let after = audited(&primary)?;
    // A login or a look-up of Holdover's own token may fall into these passes, a SCAN may not.
    let scans = after
        .iter()
        .skip(before)
        .filter(|one| one.operation == "scan")
        .count();
    assert_eq!(scans, 0, "{:?}", after.get(before..));
    primary
        .root()
        .write("secret/data/shop/shared", &json!({ "data": {} }))
        .await?;
    host.pass_of(SHOP).await?;
    assert!(host.value("secret/data/shop/shared", 2).is_some());
    Ok(())
}

#[tokio::test]
async fn a_refused_scan_falls_back_to_lists_and_purges_nothing() -> Result<()> {
    let primary = Primary::start(Transport::Plain).await?;
    let world = World::seed(&primary, 3).await?;
    let root = primary.root();
    let host = Plan::new(&primary)?.mirror(SHOP, &[]).prepare().await?;
    host.give_login(&primary, json!({})).await?;
    let lists = holdover::upstream::policy::required_policy(&host.config.settings)
        .replace("detailed-metadata/shop/\"", "metadata/shop/*\"")
        .replace("\"scan\"", "\"list\", \"read\"");
    harness::world::policy(&root, "holdover", &lists).await?;
    let mut host = host;
    host.run();
    host.pass_of(SHOP).await?;
    let status = host.status_of(SHOP)?;
    assert_eq!(
        (status.source, status.count),
        (Some(MirrorSource::List), world.secrets.len() as u64)
    );
    assert_eq!(status.findings.len(), 1, "{status:?}");
    let gone = &world.secrets[0].path;
    root.delete(&gone.replacen("/data/", "/metadata/", 1))
        .await?
        .ok()?;
    host.mirrors.sync_now(SHOP, Occasion::Recovery).await?;
    assert!(host.keys().contains(gone) && !host.value(gone, 1).context("kept")?.0.covered);
    Ok(())
}

#[tokio::test]
async fn a_remounted_path_is_a_new_place_and_the_ledger_is_not_mirrored() -> Result<()> {
    let (primary, _world, host) = shop(2).await?;
    let root = primary.root();
    root.write("secret/data/shop/ledger/host/1", &json!({ "data": {} }))
        .await?;
    host.pass_of(SHOP).await?;
    assert!(
        !host.keys().iter().any(|path| path.contains("ledger")),
        "{:?}",
        host.keys()
    );
    root.delete("sys/mounts/secret").await?.ok()?;
    let body = json!({ "type": "kv", "options": { "version": "2" } });
    root.write("sys/mounts/secret", &body).await?;
    harness::eventually(super::rig::BOUND, "the new mount", async || {
        let body = json!({ "data": { "new": 1 } });
        match root.post("secret/data/shop/only", &body).await {
            Ok(answer) if answer.status == 200 => Ok(()),
            Ok(answer) => Err(answer.body.to_string()),
            Err(failure) => Err(failure.to_string()),
        }
    })
    .await?;
    host.until("the new mount alone", |host| match host.keys().as_slice() {
        [one] if one == "secret/data/shop/only" => Ok(()),
        keys => Err(format!("{keys:?}")),
    })
    .await
}

#[tokio::test]
async fn a_primary_that_goes_away_leaves_everything_with_its_age() -> Result<()> {
    let (primary, world, host) = shop(3).await?;
    let path = &world.secrets[0].path;
    primary.kill9()?;
    let state = |host: &Host| host.local.view.authority().mirrors.get(SHOP).cloned();
    host.until("failing passes", |host| {
        match host.status_of(SHOP).map(|s| s.errors) {
            Ok(errors) if errors >= 2 => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await?;
    let last = state(&host).context("state")?.verified_at;
    assert_eq!(host.keys().len(), world.secrets.len());
    let host = host.restart().await?;
    assert_eq!(
        state(&host).context("state")?.verified_at,
        last,
        "a failed pass moves nothing"
    );
    assert_eq!(
        host.value(path, 1).context("value")?.1,
        world.secrets[0].data
    );
    primary.start_again().await?;
    host.pass_of(SHOP).await
}

#[tokio::test]
async fn keys_that_may_not_be_read_are_not_read_again_in_every_pass() -> Result<()> {
    let primary = Primary::start(Transport::Plain).await?;
    let world = World::seed(&primary, 2).await?;
    let host = Plan::new(&primary)?.mirror(SHOP, &[]).prepare().await?;
    host.give_login(&primary, json!({})).await?;
    let text = holdover::upstream::policy::required_policy(&host.config.settings);
    let deny = "path \"secret/data/shop/billing/*\" { capabilities = [\"deny\"] }";
    harness::world::policy(&primary.root(), "holdover", &format!("{text}\n{deny}")).await?;
    let mut host = host;
    host.run();
    host.pass_of(SHOP).await?;
    host.pass_of(SHOP).await?;
    let refused = |primary: &Primary| -> Result<usize> {
        let all = audited(primary)?;
        Ok(all
            .iter()
            .filter(|one| one.path.starts_with("secret/data/shop/billing/"))
            .count())
    };
    let billing = world.below("billing").count();
    assert_eq!(refused(&primary)?, billing);
    for _ in 0..3 {
        // Something else changes, so that passes have to look.
        primary
            .root()
            .write("secret/data/shop/shared", &json!({ "data": {} }))
            .await?;
        host.pass_of(SHOP).await?;
    }
    assert_eq!(refused(&primary)?, billing);
    let status = host.status_of(SHOP)?;
    assert!(
        status
            .reasons
            .iter()
            .any(|reason| reason.contains("keys are listed that Holdover may not read")),
        "{status:?}"
    );
    Ok(())
}

#[tokio::test]
async fn a_primary_that_asks_for_less_is_asked_less_and_loses_nothing() -> Result<()> {
    let primary = Primary::start(Transport::Plain).await?;
    let world = World::seed(&primary, 8).await?;
    let quota = json!({ "rate": 10, "interval": "1s", "path": "secret/" });
    primary
        .root()
        .write("sys/quotas/rate-limit/secret", &quota)
        .await?;
    let host = Plan::new(&primary)?
        .mirror(SHOP, &[])
        .start(&primary)
        .await?;
    host.until("every value", |host| {
        let held = world
            .secrets
            .iter()
            .filter(|secret| host.value(&secret.path, 1).is_some());
        match held.count() {
            all if all == world.secrets.len() => Ok(()),
            some => Err(format!("{some}: {:?}", host.status_of(SHOP))),
        }
    })
    .await?;
    let text = std::fs::read_to_string(primary.audit_log())?;
    let refused = text
        .lines()
        .filter(|line| line.contains("rate limit quota exceeded"))
        .count();
    assert!(refused < 60, "{refused} requests over the quota");
    Ok(())
}
