//! What is kept without versions: KV v1, and any other path that reads without a lease.

use harness::{
    Context, Result,
    bao::{Primary, Transport},
    world,
};
use holdover::{mirror::Occasion, status::MirrorSource, upstream::policy::required_policy};
use serde_json::{Value, json};
use shared::kv::{Content, Form, Record, VersionState};

use super::rig::{Host, Plan, audited};

const SHOP: &str = "kv1/shop/*";

async fn shop() -> Result<(Primary, Host)> {
    let primary = Primary::start(Transport::Plain).await?;
    let root = primary.root();
    let mount = json!({ "type": "kv", "options": { "version": "1" } });
    root.write("sys/mounts/kv1", &mount).await?;
    for name in ["a", "b", "dir", "dir/one", "ttl"] {
        let value = match name {
            "ttl" => json!({ "ttl": "30m" }),
            _ => json!({ "name": name }),
        };
        root.write(&format!("kv1/shop/{name}"), &value).await?;
    }
    root.write("kv1/other", &json!({ "name": "other" })).await?;
    let host = Plan::new(&primary)?
        .mirror(SHOP, &[])
        .mirror("kv1/other", &[])
        .start(&primary)
        .await?;
    host.pass_of(SHOP).await?;
    host.pass_of("kv1/other").await?;
    Ok((primary, host))
}

/// What is held of a path without versions, and its bytes.
fn held(host: &Host, path: &str) -> Option<(Record, String)> {
    let secrets = host.local.view.secrets();
    let mut records = secrets.records.iter();
    let (_, held) = records.find(|((place, of), _)| place.path.as_str() == path && of.is_none())?;
    let body = held.body.open(host.local.view.keys()).ok()?;
    let text = String::from_utf8_lossy(body.expose()).into_owned();
    Some((held.record.clone(), text))
}

fn lease_duration(record: &Record) -> Option<u64> {
    match &record.form {
        Form::Envelope { lease_duration, .. } => Some(*lease_duration),
        Form::Bare(_) => None,
    }
}

#[tokio::test]
async fn values_of_kv1_are_kept_with_their_bytes_and_lease_durations() -> Result<()> {
    let (primary, host) = shop().await?;
    let (record, text) = held(&host, "kv1/shop/dir/one").context("held")?;
    assert_eq!(text, r#"{"name":"dir/one"}"#);
    assert_eq!(lease_duration(&record), Some(2_764_800));
    let (record, _) = held(&host, "kv1/shop/ttl").context("ttl")?;
    assert_eq!(lease_duration(&record), Some(1800));
    assert!(held(&host, "kv1/other").is_some());
    let status = host.status_of(SHOP)?;
    assert_eq!((status.count, status.source), (5, Some(MirrorSource::Scan)));
    assert!(status.reasons.is_empty() && status.findings.is_empty());
    let one = host.status_of("kv1/other")?;
    assert_eq!((one.count, one.source), (1, Some(MirrorSource::Read)));
    let root = primary.root();
    // A number that no float holds, and a lease that is of another length now.
    let value = json!({ "n": 12345678901234567890u64, "lease": "5s" });
    root.write("kv1/shop/a", &value).await?;
    root.delete("kv1/shop/b").await?.ok()?;
    root.write("kv1/shop/dir/two", &json!({ "new": true }))
        .await?;
    host.pass_of(SHOP).await?;
    host.pass_of(SHOP).await?;
    let (record, text) = held(&host, "kv1/shop/a").context("changed")?;
    assert_eq!(text, r#"{"lease":"5s","n":12345678901234567890}"#);
    assert_eq!(lease_duration(&record), Some(5));
    assert!(held(&host, "kv1/shop/b").is_none());
    assert!(!host.keys().contains(&"kv1/shop/b".to_owned()));
    assert!(held(&host, "kv1/shop/dir/two").is_some());
    Ok(())
}

#[tokio::test]
async fn a_quiet_cluster_is_not_asked_for_values_and_unchanged_ones_are_not_stored_again()
-> Result<()> {
    let (primary, host) = shop().await?;
    host.pass_of(SHOP).await?;
    let reads = |primary: &Primary| -> Result<usize> {
        let asked = audited(primary)?;
        Ok(asked
            .iter()
            .filter(|one| one.path.starts_with("kv1/shop/"))
            .count())
    };
    let before = reads(&primary)?;
    for _ in 0..5 {
        host.pass_of(SHOP).await?;
    }
    assert_eq!(reads(&primary)?, before, "nothing was written anywhere");
    let verified = |host: &Host| held(host, "kv1/shop/a").map(|(record, _)| record.verified_at);
    let at = verified(&host);
    primary
        .root()
        .write("kv1/elsewhere", &json!({ "x": 1 }))
        .await?;
    host.until("another reading", |_| match reads(&primary) {
        Ok(now) if now > before => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await?;
    host.pass_of(SHOP).await?;
    assert_eq!(verified(&host), at, "the pass vouches for what is the same");
    Ok(())
}

#[tokio::test]
async fn a_value_of_kv1_that_may_not_be_read_goes_and_its_name_stays() -> Result<()> {
    let (primary, host) = shop().await?;
    let root = primary.root();
    let policy = format!(
        "{}\npath \"kv1/shop/b\" {{ capabilities = [\"deny\"] }}\n",
        required_policy(&host.config.settings)
    );
    world::policy(&root, "holdover", &policy).await?;
    host.until("the purge", |host| match held(host, "kv1/shop/b") {
        None => Ok(()),
        Some(_) => Err("still there".to_owned()),
    })
    .await?;
    assert!(host.keys().contains(&"kv1/shop/b".to_owned()));
    host.pass_of(SHOP).await?;
    let status = host.status_of(SHOP)?;
    let told = |reason: &String| reason == "1 keys are listed that Holdover may not read";
    assert!(status.reasons.iter().any(told), "{status:?}");
    Ok(())
}

#[tokio::test]
async fn without_scan_folders_are_listed_and_nothing_is_purged() -> Result<()> {
    let (primary, host) = shop().await?;
    let root = primary.root();
    let policy = required_policy(&host.config.settings).replace(
        "path \"kv1/shop/\" {\n  capabilities = [\"scan\"]",
        "path \"kv1/shop/*\" {\n  capabilities = [\"read\", \"list\"]",
    );
    assert!(policy.contains("[\"read\", \"list\"]"), "{policy}");
    world::policy(&root, "holdover", &policy).await?;
    root.write("kv1/shop/dir/sub/new", &json!({ "new": true }))
        .await?;
    root.delete("kv1/shop/b").await?.ok()?;
    // A pass that began before the change may be the first one that lists folders.
    host.until("a listing of what is there now", |host| {
        let status = host
            .status_of(SHOP)
            .map_err(|failure| failure.to_string())?;
        let (gone, _) = held(host, "kv1/shop/b").ok_or("what vanished was purged")?;
        let new = held(host, "kv1/shop/dir/sub/new");
        match (status.source, new, gone.covered) {
            (Some(MirrorSource::Folders), Some(_), false) => Ok(()),
            (_, new, covered) => Err(format!("{status:?}, {}, {covered}", new.is_some())),
        }
    })
    .await?;
    host.pass_of(SHOP).await?;
    let (record, _) = held(&host, "kv1/shop/b").context("withheld")?;
    assert!(!record.covered, "what vanished does not look fresh");
    let status = host.status_of(SHOP)?;
    assert!(
        !status.findings.is_empty() && !status.reasons.is_empty(),
        "{status:?}"
    );
    Ok(())
}

#[tokio::test]
async fn one_value_of_kv1_goes_when_it_is_deleted() -> Result<()> {
    let primary = Primary::start(Transport::Plain).await?;
    let root = primary.root();
    let mount = json!({ "type": "kv", "options": { "version": "1" } });
    root.write("sys/mounts/kv1", &mount).await?;
    let path = "kv1/shop/a";
    root.write(path, &json!({ "a": 1 })).await?;
    let host = Plan::new(&primary)?
        .mirror(path, &[])
        .start(&primary)
        .await?;
    host.pass_of(path).await?;
    assert!(held(&host, path).is_some());
    root.delete(path).await?.ok()?;
    host.until("the purge", |host| match held(host, path) {
        None => Ok(()),
        Some(_) => Err("still there".to_owned()),
    })
    .await
}

#[tokio::test]
async fn what_vanishes_from_kv1_at_once_waits_for_an_operator() -> Result<()> {
    let primary = Primary::start(Transport::Plain).await?;
    let root = primary.root();
    let mount = json!({ "type": "kv", "options": { "version": "1" } });
    root.write("sys/mounts/kv1", &mount).await?;
    for nr in 0..12 {
        root.write(&format!("kv1/shop/{nr}"), &json!({ "nr": nr }))
            .await?;
    }
    let plan = Plan::new(&primary)?.mirror(SHOP, &[("interval", "1h".into())]);
    let host = plan.start(&primary).await?;
    host.until("the first pass", |host| match host.keys().len() {
        12 => host
            .status_of(SHOP)
            .map_err(|failure| failure.to_string())?
            .age
            .ok_or_else(String::new),
        count => Err(count.to_string()),
    })
    .await?;
    for nr in 0..12 {
        root.delete(&format!("kv1/shop/{nr}")).await?.ok()?;
    }
    host.mirrors.sync_now(SHOP, Occasion::Cycle).await?;
    assert_eq!(host.keys().len(), 12, "withheld");
    host.mirrors.sync_now(SHOP, Occasion::Operator).await?;
    assert_eq!(host.keys().len(), 0);
    Ok(())
}

const AUTHORITIES: [&str; 5] = [
    "pki/cert/ca",
    "pki/ca",
    "ssh/config/ca",
    "ssh/roles/shop",
    "identity/oidc/.well-known/keys",
];

async fn authorities() -> Result<(Primary, Host)> {
    let primary = Primary::start(Transport::Plain).await?;
    let root = primary.root();
    root.write("sys/mounts/pki", &json!({ "type": "pki" }))
        .await?;
    let ca = json!({ "common_name": "shop.test", "key_type": "ec", "key_bits": 256 });
    root.write("pki/root/generate/internal", &ca).await?;
    root.write("sys/mounts/ssh", &json!({ "type": "ssh" }))
        .await?;
    let ca = json!({ "generate_signing_key": true, "key_type": "ed25519" });
    root.write("ssh/config/ca", &ca).await?;
    let plan = AUTHORITIES
        .iter()
        .try_fold(Plan::new(&primary)?, |plan, path| {
            Ok::<_, harness::Failure>(plan.mirror(path, &[]))
        })?;
    let host = plan.start(&primary).await?;
    for path in AUTHORITIES {
        host.pass_of(path).await?;
    }
    Ok((primary, host))
}

#[tokio::test]
async fn other_paths_are_kept_as_they_answer_and_followed() -> Result<()> {
    let (primary, host) = authorities().await?;
    let root = primary.root();
    let (record, text) = held(&host, "pki/cert/ca").context("certificate")?;
    let theirs = root.get("pki/cert/ca").await?.data()?;
    assert_eq!(serde_json::from_str::<Value>(&text)?, theirs);
    assert_eq!(lease_duration(&record), Some(0));
    let (record, _) = held(&host, "pki/ca").context("raw")?;
    let content = |kind: &str| {
        Form::Bare(Content {
            kind: Some(kind.into()),
            cache: Some("no-store".into()),
        })
    };
    assert_eq!(record.form, content("application/pkix-cert"));
    let (record, text) = held(&host, "identity/oidc/.well-known/keys").context("keys")?;
    assert_eq!(record.form, content("application/json"));
    assert!(text.starts_with("{\"keys\":["), "{text}");
    // Nothing is there yet, which is an answer too.
    let role = "ssh/roles/shop";
    let (record, text) = held(&host, role).context("absent")?;
    assert_eq!(
        (record.state, text.as_str()),
        (VersionState::Gone, "{\"errors\":[]}\n")
    );
    let fields = json!({ "key_type": "ca", "allow_user_certificates": true });
    root.write(role, &fields).await?;
    host.pass_of(role).await?;
    host.pass_of(role).await?;
    let (record, text) = held(&host, role).context("present")?;
    assert_eq!(record.state, VersionState::Live);
    assert!(text.contains("allow_user_certificates"), "{text}");
    let status = host.status_of("ssh/config/ca")?;
    assert_eq!(
        (status.count, status.source, status.errors),
        (1, Some(MirrorSource::Read), 0)
    );
    Ok(())
}

#[tokio::test]
async fn a_path_that_holdover_may_not_read_any_longer_is_forgotten() -> Result<()> {
    let (primary, host) = authorities().await?;
    let policy = format!(
        "{}\npath \"ssh/config/ca\" {{ capabilities = [\"deny\"] }}\n",
        required_policy(&host.config.settings)
            .replace("path \"ssh/config/ca\"", "path \"nothing\"")
    );
    world::policy(&primary.root(), "holdover", &policy).await?;
    host.until("the purge", |host| match held(host, "ssh/config/ca") {
        None => Ok(()),
        Some(_) => Err("still there".to_owned()),
    })
    .await?;
    host.until("the reason", |host| {
        let status = host
            .status_of("ssh/config/ca")
            .map_err(|failure| failure.to_string())?;
        let told = |reason: &String| reason.contains("may not read ssh/config/ca");
        match status.reasons.iter().any(told) {
            true => Ok(()),
            false => Err(format!("{status:?}")),
        }
    })
    .await
}

#[tokio::test]
async fn a_prefix_of_an_engine_without_keys_is_a_reason_and_asks_nothing() -> Result<()> {
    let primary = Primary::start(Transport::Plain).await?;
    let root = primary.root();
    root.write("sys/mounts/pki", &json!({ "type": "pki" }))
        .await?;
    let host = Plan::new(&primary)?
        .mirror("pki/cert/*", &[])
        .start(&primary)
        .await?;
    host.until("the reason", |host| {
        let status = host
            .status_of("pki/cert/*")
            .map_err(|failure| failure.to_string())?;
        let told = |reason: &String| reason.contains("give one path instead of a prefix");
        match status.reasons.iter().any(told) {
            true => Ok(()),
            false => Err(format!("{status:?}")),
        }
    })
    .await?;
    let asked = audited(&primary)?;
    assert!(!asked.iter().any(|one| one.path.starts_with("pki/")));
    Ok(())
}
