//! What went through the socket a moment before the primary died: the new value, or none, and never the one before.

use std::time::Duration;

use harness::client::raw::Ask;
use harness::daemon::config::Workload;
use harness::host::{FAILOVER, Host, Plan, RECOVERY, own_uid};
use harness::tap::Wire;
use harness::world::{self, ORDERS_POLICY};
use harness::{Context, Result, eventually};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::{HOLDOVER, MACHINE};

const BOUND: Duration = Duration::from_secs(15);

/// What orders may do besides.
const MORE: &str = r#"
path "secret/data/shop/*"      { capabilities = ["create", "update", "patch", "read", "delete"] }
path "secret/metadata/shop/*"  { capabilities = ["create", "update", "read", "delete", "list", "scan"] }
path "secret/metadata/shop"    { capabilities = ["list", "scan"] }
path "secret/delete/shop/*"    { capabilities = ["update"] }
path "secret/undelete/shop/*"  { capabilities = ["update"] }
path "secret/destroy/shop/*"   { capabilities = ["update"] }
path "sys/policies/acl/orders" { capabilities = ["create", "update"] }
"#;

/// Passes are an hour apart: what is known of a write is known by its own read.
fn plan() -> Plan {
    let orders = Workload::new("orders", "orders").uid(own_uid());
    Plan::new(HOLDOVER)
        .unmirrored()
        .mirror("secret/data/shop/*", &[("interval", "1h".into())])
        .workload(orders.issues("15m", "2h"))
}

/// A host with six keys in version 1, the last of them deleted, and a token that may do anything to them.
async fn start(plan: Plan) -> Result<(Host, String)> {
    let mut host = plan.prepare().await?;
    let root = host.primary.root();
    let policy = format!("{ORDERS_POLICY}{MORE}");
    world::policy(&root, "orders", &policy).await?;
    for name in [
        "written",
        "patched",
        "deleted",
        "destroyed",
        "forgotten",
        "undeleted",
    ] {
        let path = format!("secret/data/shop/w/{name}");
        root.write(&path, &json!({ "data": { "n": 1 } })).await?;
    }
    root.delete("secret/data/shop/w/undeleted").await?.ok()?;
    host.start().await?;
    let token = host.login("orders").await?.token;
    Ok((host, token))
}

/// A request that changes a key, and what a read of it says afterwards: the value, or that there is none.
fn changes() -> Result<Vec<(&'static str, Ask, Option<u64>)>> {
    let body = |value: Value| Some(value.to_string().into_bytes());
    let ask = |method: &str, path: &str, body: Option<Vec<u8>>| -> Result<Ask> {
        let mut ask = Ask::new(method, &format!("/v1/secret/{path}"))?;
        ask.body = body.unwrap_or_default().into();
        Ok(ask)
    };
    let first = || body(json!({ "versions": [1] }));
    let patch = ask(
        "PATCH",
        "data/shop/w/patched",
        body(json!({ "data": { "n": 2 } })),
    )?;
    let patch = patch.header("content-type", "application/merge-patch+json")?;
    Ok(vec![
        (
            "written",
            ask(
                "PUT",
                "data/shop/w/written",
                body(json!({ "data": { "n": 2 } })),
            )?,
            Some(2),
        ),
        ("patched", patch, Some(2)),
        ("deleted", ask("DELETE", "data/shop/w/deleted", None)?, None),
        (
            "destroyed",
            ask("PUT", "destroy/shop/w/destroyed", first())?,
            None,
        ),
        (
            "undeleted",
            ask("POST", "undelete/shop/w/undeleted", first())?,
            Some(1),
        ),
        (
            "forgotten",
            ask("DELETE", "metadata/shop/w/forgotten", None)?,
            None,
        ),
        (
            "created",
            ask(
                "POST",
                "data/shop/w/created",
                body(json!({ "data": { "n": 1 } })),
            )?,
            Some(1),
        ),
    ])
}

/// What a read says: a value, that there is none, or that this is not known.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Said {
    Value(u64),
    Nothing,
    Unknown,
}

impl Said {
    fn is(self, right: Option<u64>) -> bool {
        match self {
            Said::Unknown => true,
            Said::Value(value) => right == Some(value),
            Said::Nothing => right.is_none(),
        }
    }
}

async fn said(host: &Host, token: &str, name: &str) -> Result<Said> {
    let reply = host
        .read(&format!("secret/data/shop/w/{name}"), token)
        .await?;
    match reply.status {
        200 => {
            let value = reply.json()?["data"]["data"]["n"].as_u64();
            value.map(Said::Value).context("no value")
        }
        404 => Ok(Said::Nothing),
        503 => Ok(Said::Unknown),
        _ => Err(host
            .daemon
            .failure(format!("{name}: {} {}", reply.status, reply.text()))),
    }
}

/// The names that a list of the folder shows; none where it is not known.
async fn listed(host: &Host, token: &str) -> Result<Option<Vec<String>>> {
    let reply = host.read("secret/metadata/shop/w?list=true", token).await?;
    match reply.status {
        200 => Ok(Some(serde_json::from_value(
            reply.json()?["data"]["keys"].clone(),
        )?)),
        503 => Ok(None),
        _ => Err(host
            .daemon
            .failure(format!("{} {}", reply.status, reply.text()))),
    }
}

/// What is said of each key, where nothing of it is wrong.
async fn all_right(host: &Host, token: &str) -> Result<Vec<Said>> {
    let mut all = Vec::new();
    for (name, _, right) in changes()? {
        let said = said(host, token, name).await?;
        assert!(said.is(right), "{name}: {said:?}, and it is {right:?}");
        all.push(said);
    }
    if let Some(names) = listed(host, token).await? {
        let has = |name: &str| names.iter().any(|listed| listed == name);
        assert!(has("created") && !has("forgotten"), "{names:?}");
        assert!(has("deleted") && has("written"), "{names:?}");
    }
    Ok(all)
}

async fn change_all(host: &Host, token: &str) -> Result<Vec<u16>> {
    let mut changing = JoinSet::new();
    for (nr, (_, ask, _)) in changes()?.into_iter().enumerate() {
        let (client, ask) = (host.daemon.client(), ask.token(token)?);
        changing.spawn(async move { (nr, client.send(&ask).await.map(|reply| reply.status)) });
    }
    let mut statuses = changing.join_all().await;
    statuses.sort_by_key(|(nr, _)| *nr);
    statuses.into_iter().map(|(_, status)| status).collect()
}

async fn doubted(host: &Host) -> Result<u64> {
    let status = host.daemon.status().await?;
    status["mirrors"][0]["doubted"].as_u64().context("no count")
}

async fn until_sure(host: &Host) -> Result<()> {
    let waited = eventually(
        BOUND,
        "every key to be read anew",
        async || match doubted(host).await {
            Ok(0) => Ok(()),
            Ok(left) => Err(format!("{left} left")),
            Err(failure) => Err(failure.to_string()),
        },
    );
    waited.await.map_err(|failure| host.daemon.failure(failure))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_written_a_moment_before_is_never_given_as_it_was() -> Result<()> {
    let _shared = MACHINE.read().await;
    let (host, token) = start(plan()).await?;
    let statuses = change_all(&host, &token).await?;
    host.primary.kill9()?;
    assert!(
        statuses.iter().all(|status| matches!(status, 200 | 204)),
        "{statuses:?}"
    );
    // From the first moment on, while the failure is being noticed too.
    all_right(&host, &token).await?;
    host.daemon.wait_state("holdover", FAILOVER).await?;
    let before = all_right(&host, &token).await?;
    host.daemon.kill9()?;
    host.daemon.start()?;
    host.daemon.wait_state("holdover", BOUND).await?;
    let after = all_right(&host, &token).await?;
    assert_eq!(before, after, "the restart changed what is known");
    host.restore().await?;
    until_sure(&host).await?;
    host.cut().await?;
    for said in all_right(&host, &token).await? {
        assert_ne!(said, Said::Unknown, "everything was read anew");
    }
    assert!(listed(&host, &token).await?.is_some());
    Ok(())
}

/// The primary carries out what it is sent, and no answer of it arrives.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_may_have_been_written_is_unknown_through_outage_and_restart() -> Result<()> {
    let _shared = MACHINE.read().await;
    let (host, token) = start(plan().wired()).await?;
    let tap = host.tap()?;
    for wanted in ["written", "created"] {
        let mut all = changes()?.into_iter();
        let (name, ask, right) = all.find(|(name, ..)| *name == wanted).context(wanted)?;
        // Over a connection that stands, because over a fresh one nothing would be sent.
        let _ = said(&host, &token, name).await?;
        tap.set(Wire::Unanswered);
        let status = host.ask(&ask.token(&token)?).await?.status;
        tap.set(Wire::Cut);
        assert_eq!(status, 504, "{name}");
        host.daemon.wait_state("holdover", FAILOVER).await?;
        is_unknown(&host, &token, name).await?;
        host.daemon.kill9()?;
        host.daemon.start()?;
        host.daemon.wait_state("holdover", BOUND).await?;
        is_unknown(&host, &token, name).await?;
        tap.set(Wire::Whole);
        host.daemon.wait_state("following", RECOVERY).await?;
        until_sure(&host).await?;
        tap.set(Wire::Cut);
        host.daemon.wait_state("holdover", FAILOVER).await?;
        let known = said(&host, &token, name).await?;
        assert!(
            known != Said::Unknown && known.is(right),
            "{name}: {known:?}"
        );
        assert!(listed(&host, &token).await?.is_some());
        tap.set(Wire::Whole);
        host.daemon.wait_state("following", RECOVERY).await?;
    }
    Ok(())
}

/// This key is, and no other; a list is where the key may be new.
async fn is_unknown(host: &Host, token: &str, name: &str) -> Result<()> {
    assert_eq!(said(host, token, name).await?, Said::Unknown, "{name}");
    let reply = host
        .read(&format!("secret/data/shop/w/{name}"), token)
        .await?;
    assert!(
        reply.text().contains("may be superseded"),
        "{}",
        reply.text()
    );
    assert_eq!(listed(host, token).await?.is_none(), name == "created");
    assert_eq!(said(host, token, "deleted").await?, Said::Value(1));
    Ok(())
}

/// Written at the primary by others, and shown through the socket before any pass has seen it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_client_has_seen_is_not_followed_by_what_was_before() -> Result<()> {
    let _shared = MACHINE.read().await;
    let (host, token) = start(plan()).await?;
    let root = host.primary.root();
    for (_, ask, _) in changes()? {
        let path = ask.target.trim_start_matches("/v1/").to_owned();
        let body: Value = serde_json::from_slice(&ask.body).unwrap_or(Value::Null);
        let (of, name) = (
            path.split('/').nth(1).unwrap_or_default(),
            ask.method.as_str(),
        );
        match (name, of) {
            ("DELETE", _) => root.delete(&path).await?.ok().map(drop)?,
            _ => root.put(&path, &body).await?.ok().map(drop)?,
        }
    }
    for (name, _, right) in changes()? {
        assert!(
            said(&host, &token, name).await?.is(right),
            "{name}: the primary's own answer"
        );
    }
    let names = listed(&host, &token).await?.context("a list")?;
    assert!(names.contains(&"created".to_owned()), "{names:?}");
    host.primary.kill9()?;
    all_right(&host, &token).await?;
    host.daemon.wait_state("holdover", FAILOVER).await?;
    all_right(&host, &token).await?;
    Ok(())
}

/// With authority ten minutes apart, what an outage goes by is what was written a moment ago.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_policy_that_was_written_counts_in_the_next_outage() -> Result<()> {
    let _shared = MACHINE.read().await;
    let (host, token) = start(plan().set("failover.authority_interval", "10m")).await?;
    let path = "secret/data/shop/billing/item-0000";
    assert_eq!(host.read(path, &token).await?.status, 200);
    let policy = format!("{ORDERS_POLICY}{MORE}path \"{path}\" {{ capabilities = [\"deny\"] }}");
    let body = json!({ "policy": policy });
    let written = host.write("sys/policies/acl/orders", &token, &body).await?;
    assert_eq!(written.status, 204);
    assert_eq!(host.read(path, &token).await?.status, 403);
    // The log of the primary says when it was asked for its policies again.
    let asked = |log: &str| log.matches("sys/policies/detailed/acl").count();
    let log = || std::fs::read_to_string(host.primary.audit_log());
    let before = asked(&log()?);
    eventually(BOUND, "the policies to be read", async || match log() {
        Ok(log) if asked(&log) > before => Ok(()),
        Ok(_) => Err("not yet".to_owned()),
        Err(error) => Err(error.to_string()),
    })
    .await?;
    host.cut().await?;
    assert_eq!(host.read(path, &token).await?.status, 403);
    Ok(())
}
