//! Tokens in an outage: looked up, renewed and revoked as at the primary, within the workload's bounds; and those of
//! the replica never leave the host.

use std::time::Duration;

use harness::Result;
use harness::canary::Canaries;
use harness::client::raw::{Ask, Reply};
use harness::host::{Host, Login};
use serde_json::{Value, json};

use crate::{plan, start};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_created_in_an_outage_reads_what_its_parent_may_and_dies_with_it() -> Result<()> {
    let host = start(plan()).await?;
    let (secret, _) = host.secret("orders")?;
    host.cut().await?;
    let parent = host.login("orders").await?;
    let orphan = created(&host, &parent, "auth/token/create/orders").await?;
    let child = created(&host, &parent, "auth/token/create").await?;
    for token in [&orphan, &child] {
        assert_eq!(host.read(secret, token).await?.status, 200);
    }
    // Its policies give no right to this one.
    let body = json!({ "ttl": "60s" });
    let denied = host
        .write("auth/token/create-orphan", &parent.token, &body)
        .await?;
    assert_eq!((denied.status, denied.source()), (403, Some("replica")));
    assert_eq!(host.daemon.status().await?["grants"]["replica"], 3);
    let gone = host
        .write("auth/token/revoke-self", &parent.token, &json!({}))
        .await?;
    assert_eq!(gone.status, 204);
    assert_eq!(host.read(secret, &orphan).await?.status, 200);
    assert_eq!(host.read(secret, &child).await?.status, 403);
    Ok(())
}

/// A token that `parent` creates at `path`, for a minute.
async fn created(host: &Host, parent: &Login, path: &str) -> Result<String> {
    let body = json!({ "ttl": "60s", "meta": { "for": "a job" } });
    let reply = host.write(path, &parent.token, &body).await?;
    assert_eq!((reply.status, reply.source()), (200, Some("replica")));
    let auth = reply.json()?["auth"].clone();
    assert_eq!(auth["policies"], json!(parent.policies), "{path}");
    assert_eq!(auth["metadata"], json!({ "for": "a job" }), "{path}");
    assert!(auth["lease_duration"].as_u64().unwrap() <= 60, "{path}");
    let token = auth["client_token"].as_str().unwrap_or_default();
    assert!(token.starts_with("ho."), "no mark");
    Ok(token.to_owned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_token_looks_like_one_of_the_primary_s() -> Result<()> {
    let host = start(plan()).await?;
    let before = host.login("orders").await?;
    let theirs = look(&host, &before).await?;
    host.cut().await?;
    let within = host.login("orders").await?;
    assert!(within.token.starts_with("ho."), "no mark");
    assert_eq!(within.policies, before.policies);
    assert_eq!(within.ttl.as_secs(), 900);
    let ours = look(&host, &within).await?;
    let names = |data: &Value| -> Vec<String> {
        data.as_object()
            .into_iter()
            .flatten()
            .map(|(name, _)| name.clone())
            .collect()
    };
    assert_eq!(names(&ours), names(&theirs));
    for name in [
        "policies",
        "type",
        "orphan",
        "num_uses",
        "entity_id",
        "renewable",
    ] {
        assert_eq!(ours[name], theirs[name], "{name}");
    }
    assert_eq!(
        (&ours["accessor"], &ours["id"]),
        (&json!(within.accessor), &json!(within.token))
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revoked_token_stays_revoked_here_and_at_the_primary() -> Result<()> {
    let host = start(plan()).await?;
    let before = host.login("orders").await?;
    host.cut().await?;
    let within = host.login("orders").await?;
    let (path, _) = host.secret("orders")?;
    for login in [&before, &within] {
        assert_eq!(host.read(path, &login.token).await?.status, 200);
        let revoked = host
            .write("auth/token/revoke-self", &login.token, &json!({}))
            .await?;
        assert_eq!(revoked.status, 204, "{}", revoked.text());
    }
    for restarted in [false, true] {
        if restarted {
            host.daemon.kill9()?;
            host.daemon.start()?;
            host.daemon
                .wait_state("holdover", harness::host::FAILOVER)
                .await?;
        }
        for login in [&before, &within] {
            let reply = host.read(path, &login.token).await?;
            assert_eq!(reply.status, 403, "{restarted}: {}", reply.text());
        }
    }
    // What was revoked here is revoked there, once there is a there.
    host.restore().await?;
    let root = host.primary.root();
    let body = json!({ "accessor": before.accessor });
    let gone = root.post("auth/token/lookup-accessor", &body).await?;
    assert!(gone.status >= 400, "{}", gone.body);
    for login in [&before, &within] {
        assert_eq!(host.read(path, &login.token).await?.status, 403);
    }
    Ok(())
}

/// Nobody but its holder's refused request tells that the token behind it is gone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_exchanged_token_is_dead_once_the_one_behind_it_was_revoked_and_is_refused() -> Result<()>
{
    let host = start(plan()).await?;
    let (path, _) = host.secret("orders")?;
    host.cut().await?;
    let within = host.login("orders").await?;
    host.restore().await?;
    let exchanged = host.read_of_primary(path, &within.token).await?;
    assert_eq!(exchanged.status, 200);
    let root = host.primary.root();
    let listed = root.list("auth/token/accessors").await?.data()?;
    let mut behind = Vec::new();
    for accessor in listed["keys"].as_array().into_iter().flatten() {
        let body = json!({ "accessor": accessor });
        let shown = root.post("auth/token/lookup-accessor", &body).await?;
        let shown = &shown.body["data"];
        // Logins and standing tokens may be renewed.
        if shown["path"] == "auth/token/create/orders" && shown["renewable"] == false {
            behind.push(body);
        }
    }
    assert_eq!(behind.len(), 1, "{behind:?}");
    root.write("auth/token/revoke-accessor", &behind[0]).await?;
    let refused = host.read(path, &within.token).await?;
    assert_eq!((refused.status, refused.source()), (403, Some("primary")));
    let grants = Ask::get("/v1/grants");
    let ended = harness::eventually(Duration::from_secs(20), "its end", async || {
        let shown = host.daemon.admin(&grants).await;
        let shown = shown.map_err(|failure| failure.to_string())?.text();
        match shown.contains(&within.accessor) {
            true => Err(shown),
            false => Ok(()),
        }
    });
    ended
        .await
        .map_err(|failure| host.daemon.failure(failure))?;
    host.cut().await?;
    assert_eq!(host.read(path, &within.token).await?.status, 403);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_renewal_in_an_outage_extends_only_what_the_replica_issued() -> Result<()> {
    let host = start(plan()).await?;
    let before = host.login("orders").await?;
    let root = host.primary.root();
    let body = json!({ "renewable": false });
    let fixed = root.post("auth/token/create/orders", &body).await?;
    let fixed = fixed.text("/auth/client_token")?;
    let (path, _) = host.secret("orders")?;
    assert_eq!(host.read(path, &fixed).await?.status, 200);
    host.until_learned(&fixed).await?;
    host.cut().await?;
    let (renewed, warnings) = renew(&host, &before).await?;
    assert!(
        renewed <= before.ttl.as_secs() && warnings > 0,
        "{renewed} s, {warnings} warnings"
    );
    let within = host.login("orders").await?;
    let (renewed, _) = renew(&host, &within).await?;
    assert!((890..=900).contains(&renewed), "{renewed} s of 15 m");
    let refused = host
        .write("auth/token/renew-self", &fixed, &json!({}))
        .await?;
    assert_eq!(refused.status, 400, "{}", refused.text());
    assert!(
        refused.text().contains("not renewable"),
        "{}",
        refused.text()
    );
    Ok(())
}

/// In no header, no URL and no body, in no state.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_token_never_reaches_the_primary() -> Result<()> {
    let host = start(plan().tapped()).await?;
    host.cut().await?;
    let (exchanged, ended) = (host.login("orders").await?, host.login("orders").await?);
    let revoked = host
        .write("auth/token/revoke-self", &ended.token, &json!({}))
        .await?;
    assert_eq!(revoked.status, 204);
    host.restore().await?;
    let (rest, last) = exchanged.token.split_at(exchanged.token.len() - 1);
    let unknown = format!("{rest}{}", if last == "A" { "B" } else { "A" });
    let mut canaries = Canaries::default();
    let mut wrong = Vec::new();
    for (name, token) in [
        ("exchanged", &exchanged.token),
        ("ended", &ended.token),
        ("unknown", &unknown),
    ] {
        canaries.plant(name, token.as_bytes())?;
        let wanted = if name == "exchanged" { 200 } else { 403 };
        for (what, reply) in presented(&host, token).await? {
            if reply.status != wanted {
                wrong.push(format!("{name}, {what}: {} {}", reply.status, reply.text()));
            }
        }
        for ask in smuggled(token, &exchanged.token)? {
            let reply = host.ask(&ask).await?;
            // Answered here, or swapped; passed on never.
            if !matches!(reply.status, 200 | 204 | 400 | 403) {
                let (method, target) = (&ask.method, &ask.target);
                wrong.push(format!(
                    "{name}, {method} {target}: {} {}",
                    reply.status,
                    reply.text()
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    for sent in host.tap()?.sent() {
        canaries
            .search_bytes("the wire to the primary", &sent)?
            .clean()?;
        let shown = String::from_utf8_lossy(&sent);
        assert!(
            !shown.contains("ho."),
            "a replica token's mark on the wire: {shown}"
        );
    }
    Ok(())
}

/// Where a token belongs: reads that are mirrored, and one that is not.
async fn presented(host: &Host, token: &str) -> Result<Vec<(&'static str, Reply)>> {
    let (path, _) = host.secret("orders")?;
    let bearer =
        Ask::get(&format!("/v1/{path}")).header("Authorization", &format!("Bearer {token}"))?;
    Ok(vec![
        ("mirrored", host.read(path, token).await?),
        ("as bearer", host.ask(&bearer).await?),
        (
            "unmirrored",
            host.read("secret/data/elsewhere/one", token).await?,
        ),
        ("look-up", host.read("auth/token/lookup-self", token).await?),
    ])
}

/// Where a token may also be: in the URL and in the token field of a body.
fn smuggled(token: &str, bearer: &str) -> Result<Vec<Ask>> {
    let field = json!({ "token": token });
    [
        Ask::get(&format!("/v1/auth/token/lookup?token={token}")),
        Ask::get(&format!("/v1/secret/data/elsewhere/{token}")),
        Ask::post("/v1/auth/token/lookup", &field),
        Ask::post("/v1/auth/token/renew", &field),
        Ask::post(
            "/v1/sys/capabilities",
            &json!({ "token": token, "paths": ["secret/data/shop/shared"] }),
        ),
    ]
    .into_iter()
    .map(|ask| ask.token(bearer))
    .collect()
}

/// What a look-up of a token by itself shows.
async fn look(host: &Host, login: &Login) -> Result<Value> {
    let shown = host.read("auth/token/lookup-self", &login.token).await?;
    Ok(shown.json()?["data"].take())
}

/// Seconds that a renewal gave, and how many warnings.
async fn renew(host: &Host, login: &Login) -> Result<(u64, usize)> {
    let body = json!({ "increment": "100h" });
    let reply = host
        .write("auth/token/renew-self", &login.token, &body)
        .await?;
    assert_eq!(reply.status, 200, "{}", reply.text());
    let body = reply.json()?;
    let seconds = body["auth"]["lease_duration"].as_u64().unwrap_or_default();
    Ok((seconds, body["warnings"].as_array().map_or(0, Vec::len)))
}
