//! Two outages, one right after the other: what ended in the first gives nothing in the second, and what lives does.

use std::time::Duration;

use harness::bao::api::Api;
use harness::daemon::config::Workload;
use harness::failure::Context;
use harness::host::{Host, Login, Plan, RECOVERY, own_uid};
use harness::{Result, eventually, world};
use serde_json::{Value, json};

use crate::{HOLDOVER, cut, reopen};

/// How long anything may take that needs no outage to be noticed.
const SOON: Duration = Duration::from_secs(20);

/// What lets the orders team create tokens of its own.
const CREATES: &str = r#"
path "auth/token/create" { capabilities = ["update"] }
"#;

/// By which Holdover asks about tokens of clients.
const LOOK_UP: &str = "auth/token/lookup-accessor";

/// A host whose own user is the orders workload, and whose way to the primary can be cut while the primary goes on.
///
/// Nothing but an outage's end has a token looked up.
async fn start() -> Result<Host> {
    let orders = Workload::new("orders", "orders")
        .uid(own_uid())
        .set("auto_token", false)
        .issues("15m", "2h");
    let mut host = Plan::new(HOLDOVER)
        .wired()
        .workload(orders)
        .set("primary.token_check_interval", "1h")
        .prepare()
        .await?;
    let policy = format!("{}{CREATES}", world::ORDERS_POLICY);
    world::policy(&host.primary.root(), "orders", &policy).await?;
    host.start().await?;
    Ok(host)
}

/// A token as the primary made it.
struct Made {
    token: String,
    accessor: String,
}

impl From<&Login> for Made {
    fn from(login: &Login) -> Self {
        Self {
            token: login.token.clone(),
            accessor: login.accessor.clone(),
        }
    }
}

async fn made(by: &Api, path: &str, body: &Value) -> Result<Made> {
    let answer = by.post(path, body).await?.ok()?;
    let of = |name: &str| answer["auth"][name].as_str().map(str::to_owned);
    Ok(Made {
        token: of("client_token").context("a token")?,
        accessor: of("accessor").context("an accessor")?,
    })
}

/// A token of the orders team, used once through Holdover and known by it.
async fn brought(host: &Host) -> Result<Made> {
    let body = json!({ "policies": ["orders"], "ttl": "1h", "no_parent": true });
    let one = made(&host.primary.root(), "auth/token/create", &body).await?;
    let (path, _) = host.secret("orders")?;
    assert_eq!(host.read(path, &one.token).await?.status, 200);
    host.until_learned(&one.token).await?;
    Ok(one)
}

async fn revoke(host: &Host, one: &Made) -> Result<()> {
    let body = json!({ "accessor": one.accessor });
    let root = host.primary.root();
    root.write("auth/token/revoke-accessor", &body)
        .await
        .map(drop)
}

/// How the replica answers a read with this token, in an outage.
async fn in_outage(host: &Host, token: &str) -> Result<u16> {
    let (path, _) = host.secret("orders")?;
    let reply = host.read(path, token).await?;
    assert_eq!(reply.source(), Some("replica"), "{}", reply.text());
    Ok(reply.status)
}

/// Gives Holdover this policy.
async fn allow(host: &Host, policy: &str) -> Result<()> {
    world::policy(&host.primary.root(), "holdover", policy).await
}

/// Takes the right from Holdover to look tokens up by accessor.
async fn forbid_look_ups(host: &Host) -> Result<()> {
    assert!(host.policy.contains(LOOK_UP), "{}", host.policy);
    allow(host, &host.policy.replace(LOOK_UP, "nothing")).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_revoked_in_one_outage_reads_nothing_in_the_next_one() -> Result<()> {
    let host = start().await?;
    let (revoked, living) = (brought(&host).await?, brought(&host).await?);
    let attested = Made::from(&host.login("orders").await?);
    let kept = Made::from(&host.login("orders").await?);
    cut(&host).await?;
    for one in [&revoked, &living, &attested, &kept] {
        assert_eq!(in_outage(&host, &one.token).await?, 200);
    }
    for one in [&revoked, &attested] {
        revoke(&host, one).await?;
    }
    reopen(&host).await?;
    cut(&host).await?;
    for one in [&revoked, &attested] {
        let status = in_outage(&host, &one.token).await?;
        assert!([403, 503].contains(&status), "{status}");
        let looked = host.read("auth/token/lookup-self", &one.token).await?;
        assert_ne!(looked.status, 200);
    }
    // No gap for those that live: they were proven before Holdover followed again.
    for one in [&living, &kept] {
        assert_eq!(in_outage(&host, &one.token).await?, 200);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_primary_did_not_confirm_since_is_503_until_it_does_over_a_restart_too()
-> Result<()> {
    let host = start().await?;
    let (used, idle) = (brought(&host).await?, brought(&host).await?);
    forbid_look_ups(&host).await?;
    cut(&host).await?;
    reopen(&host).await?;
    let unproven = |count: u64| move |status: &Value| status["tokens_unproven"] == count;
    let told = host
        .daemon
        .wait_for("two unproven", SOON, unproven(2))
        .await?;
    let findings = told["findings"].to_string();
    assert!(
        findings.contains("2 tokens were not confirmed"),
        "{findings}"
    );
    let (path, _) = host.secret("orders")?;
    assert_eq!(host.read(path, &used.token).await?.status, 200);
    host.daemon
        .wait_for("one unproven", SOON, unproven(1))
        .await?;
    host.daemon.kill9()?;
    host.daemon.start()?;
    // Ready it is not: it lacks a right.
    host.daemon.wait_state("following", RECOVERY).await?;
    cut(&host).await?;
    assert_eq!(in_outage(&host, &used.token).await?, 200);
    let refused = host.read(path, &idle.token).await?;
    assert_eq!(refused.status, 503, "{}", refused.text());
    assert!(
        refused.text().contains("since the last outage"),
        "{}",
        refused.text()
    );
    // Nor by its accessor, nor by what it may do.
    let accessor = json!({ "accessor": idle.accessor });
    let named = host
        .write("sys/capabilities-accessor", &used.token, &accessor)
        .await?;
    assert_ne!(named.status, 200, "{}", named.text());
    allow(&host, &host.policy).await?;
    reopen(&host).await?;
    cut(&host).await?;
    assert_eq!(in_outage(&host, &idle.token).await?, 200);
    Ok(())
}

/// A token that the replica makes in an outage, hanging on `parent`.
async fn child_of(host: &Host, parent: &Made) -> Result<String> {
    let body = json!({ "policies": ["orders"], "ttl": "10m" });
    let reply = host
        .write("auth/token/create", &parent.token, &body)
        .await?;
    assert_eq!(
        (reply.status, reply.source()),
        (200, Some("replica")),
        "{}",
        reply.text()
    );
    reply.json_text("/auth/client_token")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_child_of_a_token_that_was_revoked_meanwhile_is_not_exchanged_and_reads_nothing()
-> Result<()> {
    let host = start().await?;
    let (revoked, living) = (brought(&host).await?, brought(&host).await?);
    cut(&host).await?;
    let (dead, alive) = (
        child_of(&host, &revoked).await?,
        child_of(&host, &living).await?,
    );
    for child in [&dead, &alive] {
        assert_eq!(in_outage(&host, child).await?, 200);
    }
    revoke(&host, &revoked).await?;
    reopen(&host).await?;
    let (path, _) = host.secret("orders")?;
    let refused = host.read(path, &dead).await?;
    assert!([403, 503].contains(&refused.status), "{}", refused.text());
    assert_eq!(host.read(path, &alive).await?.status, 200);
    cut(&host).await?;
    let status = in_outage(&host, &dead).await?;
    assert!([403, 503].contains(&status), "{status}");
    assert_eq!(in_outage(&host, &alive).await?, 200);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_child_waits_for_its_parent_to_be_confirmed_and_is_settled_then() -> Result<()> {
    let host = start().await?;
    let parent = brought(&host).await?;
    forbid_look_ups(&host).await?;
    cut(&host).await?;
    let child = child_of(&host, &parent).await?;
    reopen(&host).await?;
    let (path, _) = host.secret("orders")?;
    let waits = host.read(path, &child).await?;
    assert_eq!(
        (waits.status, waits.source()),
        (503, Some("replica")),
        "{}",
        waits.text()
    );
    // Its workload is verified by the same right, and the parent by being used.
    allow(&host, &host.policy).await?;
    assert_eq!(host.read(path, &parent.token).await?.status, 200);
    // Exchanged or draining, as the role allows: it reads again.
    host.until_status(200, path, &child, SOON).await?;
    let settled = eventually(SOON, "the child to be settled", async || {
        let grants = host
            .daemon
            .admin(&harness::client::raw::Ask::get("/v1/grants"))
            .await;
        match grants.map(|reply| reply.text()) {
            Ok(text) if text.contains("exchanged") || text.contains("draining") => Ok(()),
            Ok(text) => Err(text),
            Err(failure) => Err(failure.to_string()),
        }
    });
    settled
        .await
        .map_err(|failure| host.daemon.failure(failure))
}
