//! Attested logins: one outage, and an entry for everything that may be wrong.

use std::time::Duration;

use harness::Result;
use harness::client::raw::Ask;
use harness::daemon::config::Workload;
use harness::host::{Host, login_request, own_uid};
use harness::world::{TokenRole, token_role};
use serde_json::json;

use crate::stage::{Role, token};
use crate::{BOUND, plan};

/// An entry of our own user, through a token role of the same name.
fn entry(name: &str) -> Workload {
    Workload::new(name, name).uid(own_uid()).issues("15m", "2h")
}

async fn stage() -> Result<Host> {
    let short = Workload::new("short", "orders").uid(own_uid());
    let silent = Workload::new("silent", "orders").uid(own_uid());
    let elsewhere = Workload::new("elsewhere", "orders").uid(own_uid() + 1);
    let mut host = plan()
        .workload(entry("narrowed"))
        .workload(entry("removed"))
        .workload(short.issues("3s", "3s"))
        .workload(silent)
        .workload(elsewhere.issues("15m", "2h"))
        .prepare()
        .await?;
    let root = host.primary.root();
    for name in ["narrowed", "removed"] {
        let role = TokenRole {
            name,
            policies: &["orders", "billing"],
            explicit_max_ttl: None,
        };
        token_role(&root, &role).await?;
    }
    host.start().await?;
    Ok(host)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_login_is_answered_as_the_primary_would_or_left_to_it() -> Result<()> {
    let host = stage().await?;
    let root = host.primary.root();
    let before = host.login("orders").await?;
    assert_eq!(host.login("narrowed").await?.policies.len(), 3);
    let narrow = json!({ "allowed_policies": ["orders"] });
    root.write("auth/token/roles/narrowed", &narrow).await?;
    root.delete("auth/token/roles/removed").await?.ok()?;
    host.daemon
        .wait_for("the removed role to be noticed", BOUND, |status| {
            status
                .to_string()
                .contains("there is no token role removed")
        })
        .await?;
    until_narrowed(&host).await?;
    host.cut().await?;
    right(&host, &before.token).await?;
    wrong(&host).await?;
    narrowed(&host).await?;
    ended(&host).await?;
    restarted(&host).await
}

/// Twice: each login is a token of its own, and the ones from before live on.
async fn right(host: &Host, before: &str) -> Result<()> {
    let (path, password) = host.secret("orders")?;
    let (first, second) = (host.login("orders").await?, host.login("orders").await?);
    assert_ne!(first.token, second.token);
    assert_eq!(first.policies, ["default", "orders"]);
    for token in [before, &first.token, &second.token] {
        let read = host.read(path, token).await?;
        assert_eq!(read.json()?["data"]["data"]["password"], password);
    }
    // A token that comes with it does not matter, whatever it is.
    let ask = login_request("orders").token("s.nobody")?;
    token(&host.ask(&ask).await?, "replica").map(drop)
}

/// Unknown, not ours, removed, issuing nothing, and not saying which.
async fn wrong(host: &Host) -> Result<()> {
    let unnamed = Ask::post("/v1/auth/holdover/login", &json!({}));
    for (ask, status, text) in [
        (login_request("nobody"), 400, "unknown role"),
        (
            login_request("elsewhere"),
            403,
            "not for the calling process",
        ),
        (
            login_request("removed"),
            503,
            "no authority verified recently enough",
        ),
        (
            login_request("silent"),
            503,
            "not enabled for this workload",
        ),
        (unnamed, 400, "several workloads match"),
    ] {
        let reply = host.ask(&ask).await?;
        assert_eq!((reply.status, reply.source()), (status, Some("replica")));
        assert!(reply.text().contains(text), "{}", reply.text());
        assert!(!reply.text().contains("client_token"));
    }
    Ok(())
}

async fn narrowed(host: &Host) -> Result<()> {
    let login = host.login("narrowed").await?;
    assert_eq!(login.policies, ["default", "orders"]);
    let (foreign, _) = host.secret("billing")?;
    assert_eq!(host.read(foreign, &login.token).await?.status, 403);
    Ok(())
}

/// Revoked by its holder, and past its TTL: dead from that moment.
async fn ended(host: &Host) -> Result<()> {
    let (path, _) = host.secret("orders")?;
    let revoked = host.login("orders").await?.token;
    let gone = host
        .write("auth/token/revoke-self", &revoked, &json!({}))
        .await?;
    assert_eq!(gone.status, 204, "{}", gone.text());
    assert_eq!(host.read(path, &revoked).await?.status, 403);
    let short = host.login("short").await?;
    assert_eq!(short.ttl, Duration::from_secs(3));
    host.until_status(403, path, &short.token, BOUND).await?;
    Ok(())
}

/// After `kill -9` in the outage: what was issued lives, what was revoked does not, and everything is decided as before.
async fn restarted(host: &Host) -> Result<()> {
    let (path, _) = host.secret("orders")?;
    let (kept, revoked) = (host.login("orders").await?, host.login("orders").await?);
    let gone = host
        .write("auth/token/revoke-self", &revoked.token, &json!({}))
        .await?;
    assert_eq!(gone.status, 204);
    host.daemon.kill9()?;
    host.daemon.start()?;
    host.daemon.wait_state("holdover", BOUND).await?;
    assert_eq!(host.read(path, &kept.token).await?.status, 200);
    assert_eq!(host.read(path, &revoked.token).await?.status, 403);
    assert_eq!(host.login("orders").await?.source, "replica");
    assert_eq!(host.ask(&login_request("removed")).await?.status, 503);
    limited_by_no_minute(host).await
}

/// An attested login is no guess: `limits.login_failures_per_minute_per_uid` is not about it.
async fn limited_by_no_minute(host: &Host) -> Result<()> {
    host.reconfigure(|config| config.set("limits.login_failures_per_minute_per_uid", 1))?;
    for _ in 0..20 {
        assert_eq!(host.ask(&login_request("nobody")).await?.status, 400);
    }
    assert_eq!(host.login("orders").await?.source, "replica");
    Ok(())
}

/// Waits until Holdover has stored what the narrowed role gives.
async fn until_narrowed(host: &Host) -> Result<()> {
    let after = Role::of_orders(&host.primary, "after").await?;
    after.proven_at(host).await?;
    // A standing token is minted anew where its role changed.
    harness::eventually(
        BOUND,
        "the narrowed role to be proven",
        async || match narrow_tokens(host).await {
            Ok(0) => Err("none has the narrowed policies".to_owned()),
            Ok(_) => Ok(()),
            Err(failure) => Err(failure.to_string()),
        },
    )
    .await?;
    // Workloads are stored before the AppRoles of the same cycle are asked about.
    after.destroy_secret_id(&host.primary).await?;
    after.until(host, |shown| shown["dead"] == 1).await
}

/// How many tokens of the role have its narrowed policies.
async fn narrow_tokens(host: &Host) -> Result<usize> {
    let root = host.primary.root();
    let listed = root.list("auth/token/accessors").await?.data()?;
    let mut count = 0;
    for accessor in listed["keys"].as_array().into_iter().flatten() {
        let body = json!({ "accessor": accessor });
        let answer = root.post("auth/token/lookup-accessor", &body).await?;
        let shown = &answer.body["data"];
        let ours = shown["path"] == "auth/token/create/narrowed";
        count += usize::from(ours && shown["policies"] == json!(["default", "orders"]));
    }
    Ok(count)
}
