//! A host that was taken out of service gives nothing any more; one whose credential merely failed is not taken for it.

use std::time::Duration;

use harness::audit::Audited;
use harness::client::raw::{Ask, Reply};
use harness::daemon::config::{Config, Workload};
use harness::host::{FAILOVER, Host, Plan, READY, RECOVERY, login_request, own_uid};
use harness::{Context, Result, clock, eventually, world};
use serde_json::{Value, json};
use shared::time::WallTime;

use crate::HOLDOVER;

const REASON: &str = "refuses Holdover's own credential";

/// How long anything may take that is done within seconds.
const BOUND: Duration = Duration::from_secs(30);

fn plan() -> Plan {
    let orders = Workload::new("orders", "orders")
        .uid(own_uid())
        .issues("15m", "2h");
    Plan::new(HOLDOVER)
        .workload(orders)
        .set("failover.authority_interval", "1s")
}

/// Takes away what Holdover logged in by, as an operator does who takes the host out of service.
async fn take_away(host: &Host) -> Result<()> {
    let root = host.primary.root();
    root.delete("auth/approle/role/holdover").await?.ok()?;
    revoke_own(host).await
}

/// Revokes Holdover's own token, and no workload's.
async fn revoke_own(host: &Host) -> Result<()> {
    let root = host.primary.root();
    let path = "sys/leases/revoke-prefix/auth/approle/login";
    root.write(path, &json!({ "sync": true })).await.map(drop)
}

async fn until_offboarded(host: &Host) -> Result<Value> {
    let offboarded = |status: &Value| !status["offboarded"].is_null();
    host.daemon.wait_for("offboarding", BOUND, offboarded).await
}

/// Refused with the reason, and by Holdover itself.
fn refused(reply: &Reply) {
    let outcome = (reply.status, reply.source());
    assert_eq!(outcome, (503, Some("replica")), "{}", reply.text());
    assert!(reply.text().contains(REASON), "{}", reply.text());
}

/// No login and no token is to be had, whoever is in charge.
async fn nothing_is_issued(host: &Host) -> Result<()> {
    refused(&host.ask(&login_request("orders")).await?);
    Ok(())
}

fn now() -> WallTime {
    WallTime::EPOCH.plus(clock::wall())
}

fn is_offboarded(status: &Value) -> bool {
    let reasons = status["reasons"].as_array().into_iter().flatten();
    let mut texts = reasons.filter_map(Value::as_str);
    status["ready"] == false && texts.any(|text| text.starts_with("offboarded: "))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deleted_role_ends_issuing_at_once_and_over_a_restart_until_a_login_succeeds()
-> Result<()> {
    let mut host = plan().prepare().await?;
    let root = host.primary.root();
    world::policy(&root, "orders", &orders_that_create()).await?;
    host.start().await?;
    let token = world::token(&root, "orders").await?;
    let (path, _) = host.secret("orders")?;
    host.read(path, &token).await?;
    host.until_learned(&token).await?;
    take_away(&host).await?;
    let status = until_offboarded(&host).await?;
    assert!(is_offboarded(&status), "{status:#}");
    nothing_is_issued(&host).await?;
    let own = host.read(path, &token).await?;
    assert_eq!(
        (own.status, own.source()),
        (200, Some("primary")),
        "clients' own are forwarded"
    );
    let metrics = host.daemon.admin(&Ask::get("/metrics")).await?.text();
    assert!(metrics.contains("holdover_offboarded 1"), "{metrics}");
    // It opens no outage by itself.
    assert_eq!(status["state"], "following");
    host.cut().await?;
    nothing_is_issued(&host).await?;
    refused(&host.write("auth/token/create", &token, &json!({})).await?);
    host.daemon.kill9()?;
    host.daemon.start()?;
    let status = host.daemon.wait_state("holdover", FAILOVER).await?;
    assert!(is_offboarded(&status), "{status:#}");
    nothing_is_issued(&host).await?;
    let mirrored = host.read(path, &token).await?;
    assert_eq!((mirrored.status, mirrored.source()), (200, Some("replica")));
    host.primary.start_again().await?;
    let status = host.daemon.wait_state("following", RECOVERY).await?;
    assert!(is_offboarded(&status), "{status:#}");
    world::holdover_login_by(&host.primary.root(), &host.policy, &host.daemon).await?;
    let status = host.daemon.wait_ready(READY).await?;
    assert!(status["offboarded"].is_null());
    assert_eq!(host.login("orders").await?.source, "primary");
    Ok(())
}

/// The team's policy, and the right to create tokens.
fn orders_that_create() -> String {
    let create = "path \"auth/token/create\" { capabilities = [\"update\"] }";
    format!("{}\n{create}", world::ORDERS_POLICY)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reads_end_authority_max_age_after_it_in_an_outage_and_over_a_restart() -> Result<()> {
    let host = plan()
        .set("failover.authority_max_age", "15s")
        .start()
        .await?;
    let token = world::token(&host.primary.root(), "orders").await?;
    let (path, _) = host.secret("orders")?;
    host.read(path, &token).await?;
    host.until_learned(&token).await?;
    take_away(&host).await?;
    let status = until_offboarded(&host).await?;
    let ends = status["offboarded"]["reads_end"]
        .as_str()
        .context("reads_end")?;
    let ends = WallTime::parse_rfc3339(ends).context("a time")?;
    host.cut().await?;
    let read = host.read(path, &token).await?;
    // What was answered before the end was given; a slow machine may be past it by now.
    if now() < ends {
        assert_eq!(
            (read.status, read.source()),
            (200, Some("replica")),
            "{}",
            read.text()
        );
    }
    refused(&host.until_status(503, path, &token, BOUND).await?);
    assert!(now() >= ends, "not before the end");
    let purged = |status: &Value| status["mirrors"][0]["count"] == 0;
    host.daemon.wait_for("the purge", BOUND, purged).await?;
    host.daemon.kill9()?;
    host.daemon.start()?;
    host.daemon.wait_state("holdover", FAILOVER).await?;
    refused(&host.read(path, &token).await?);
    Ok(())
}

/// How often Holdover's look-ups of its own token, or logins, were refused, as the primary's audit log has it.
fn refusals(host: &Host, path: &str) -> Result<usize> {
    let audited = Audited::read(host.primary.audit_log())?;
    let refused = audited.iter().filter(|one| {
        let error = one.error.as_deref().unwrap_or_default();
        one.kind == "response" && one.path == path && !error.is_empty()
    });
    Ok(refused.count())
}

/// Waits until that many were refused. Status must show all the while that the host was not offboarded.
async fn until_refused(host: &Host, path: &str, times: usize) -> Result<()> {
    eventually(Duration::from_secs(60), "refusals", async || {
        let status = host.daemon.status().await.map_err(|f| f.to_string())?;
        assert!(status["offboarded"].is_null(), "{status:#}");
        match refusals(host, path) {
            Ok(found) if found >= times => Ok(()),
            Ok(found) => Err(format!(
                "{found} refusals of {path}: {:#}",
                status["reasons"]
            )),
            Err(failure) => Err(failure.to_string()),
        }
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_that_ended_while_logins_are_limited_is_not_offboarding() -> Result<()> {
    let host = plan().prepare().await?;
    let root = host.primary.root();
    let role = json!({
        "token_policies": ["holdover"], "token_period": 0, "token_ttl": "6s", "token_max_ttl": "6s",
    });
    root.write("auth/approle/role/holdover", &role).await?;
    host.daemon.start()?;
    host.daemon.wait_ready(READY).await?;
    // A login is answered with 429 from now on, and the token ends.
    let quota = json!({ "path": "auth/approle/login", "rate": 1, "interval": "1h" });
    root.write("sys/quotas/rate-limit/logins", &quota).await?;
    eventually(BOUND, "the limit of logins", async || {
        let guess = json!({ "role_id": "nobody", "secret_id": "nothing" });
        let answer = host
            .primary
            .api("")
            .post("auth/approle/login", &guess)
            .await;
        match answer.map_err(|failure| failure.to_string())?.status {
            429 => Ok(()),
            other => Err(other.to_string()),
        }
    })
    .await?;
    let ended = |status: &Value| {
        let reasons = status["reasons"].as_array().into_iter().flatten();
        let mut texts = reasons.filter_map(Value::as_str);
        texts.any(|text| text.contains("Holdover's own token"))
    };
    let status = host.daemon.wait_for("not ready", BOUND, ended).await?;
    assert_eq!(status["ready"], false);
    // As many as two that are five seconds apart, and more: the pauses between them grow.
    until_refused(&host, "auth/token/lookup-self", 6).await?;
    root.delete("sys/quotas/rate-limit/logins").await?.ok()?;
    let status = host.daemon.wait_ready(READY).await?;
    assert!(status["offboarded"].is_null());
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_role_id_that_others_locked_is_not_offboarding() -> Result<()> {
    let host = plan().start().await?;
    let root = host.primary.root();
    let role_id = root.get("auth/approle/role/holdover/role-id").await?;
    let role_id = role_id.text("/data/role_id")?;
    for nr in 0..5 {
        let guess = json!({ "role_id": role_id, "secret_id": format!("guess-{nr}") });
        let answer = host
            .primary
            .api("")
            .post("auth/approle/login", &guess)
            .await?;
        assert_eq!(answer.status, 400, "{}", answer.body);
    }
    revoke_own(&host).await?;
    // Five guesses, and two logins of Holdover's own that find the role id locked, five seconds apart.
    until_refused(&host, "auth/approle/login", 7).await?;
    let before = refusals(&host, "auth/token/lookup-self")?;
    until_refused(&host, "auth/token/lookup-self", before + 2).await?;
    let mounts = root.get("sys/auth").await?.data()?;
    let accessor = mounts["approle/"]["accessor"]
        .as_str()
        .context("accessor")?;
    let unlock = format!("sys/locked-users/{accessor}/unlock/{role_id}");
    root.write(&unlock, &json!({})).await?;
    // Written anew, so that it is not held back for minutes.
    world::holdover_login_by(&root, &host.policy, &host.daemon).await?;
    let status = host.daemon.wait_ready(READY).await?;
    assert!(status["offboarded"].is_null());
    Ok(())
}

/// A token for Holdover in its file, instead of a login.
async fn token_in_file(host: &Host, ttl: &str) -> Result<String> {
    let body = json!({ "policies": ["holdover"], "ttl": ttl, "explicit_max_ttl": ttl, "no_default_policy": true, "no_parent": true });
    let made = host.primary.root().post("auth/token/create", &body).await?;
    let token = made.text("/auth/client_token")?;
    host.daemon.write_secret("etc/token", &token)?;
    Ok(token)
}

async fn by_token_file(ttl: &str) -> Result<(Host, String)> {
    let host = plan().prepare().await?;
    let token = token_in_file(&host, ttl).await?;
    let file = host.daemon.folder().join("etc/token");
    host.reconfigure(|config: Config| config.unset("primary.auth").token_file(&file))?;
    host.daemon.start()?;
    host.daemon.wait_ready(READY).await?;
    Ok((host, token))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_of_a_file_that_is_revoked_before_its_end_ends_the_host_until_another_is_there()
-> Result<()> {
    let (host, token) = by_token_file("1h").await?;
    let root = host.primary.root();
    root.write("auth/token/revoke", &json!({ "token": token }))
        .await?;
    let status = until_offboarded(&host).await?;
    assert!(is_offboarded(&status), "{status:#}");
    nothing_is_issued(&host).await?;
    token_in_file(&host, "1h").await?;
    let status = host.daemon.wait_ready(READY).await?;
    assert!(status["offboarded"].is_null());
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_of_a_file_that_merely_ended_is_not_offboarding() -> Result<()> {
    let (host, _) = by_token_file("8s").await?;
    until_refused(&host, "auth/token/lookup-self", 6).await?;
    assert_eq!(host.daemon.status().await?["ready"], false);
    token_in_file(&host, "1h").await?;
    let status = host.daemon.wait_ready(READY).await?;
    assert!(status["offboarded"].is_null());
    Ok(())
}
