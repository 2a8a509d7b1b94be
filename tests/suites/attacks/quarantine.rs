//! What begins a quarantine and what it holds: nothing that a client alone can send begins one, and a real disagreement
//! takes failover from nothing but what the policy behind it decides.

use std::collections::BTreeSet;
use std::time::Duration;

use harness::client::raw::Ask;
use harness::daemon::config::Workload;
use harness::failure::Context;
use harness::host::{Host, Plan, own_uid};
use harness::{Failure, Result, eventually, world};
use serde_json::{Value, json};

use crate::HOLDOVER;

/// For what takes a few cycles.
const SOON: Duration = Duration::from_secs(30);

/// What a workload may do that reads, and makes tokens of its own.
const READER: &str = r#"
path "secret/data/shop/orders/*" { capabilities = ["read"] }
path "auth/token/create" { capabilities = ["update"] }
path "auth/token/revoke-accessor" { capabilities = ["update"] }
path "auth/token/lookup" { capabilities = ["update"] }
path "sys/capabilities" { capabilities = ["update"] }
"#;

fn plan() -> Plan {
    let orders = Workload::new("orders", "orders").uid(own_uid());
    Plan::new(HOLDOVER)
        .workload(orders.issues("15m", "2h").set("auto_token", true))
        .set("failover.authority_interval", "1s")
        .set("parity.sample", 1.0)
}

async fn parity<P>(host: &Host<P>) -> Result<Value> {
    Ok(host.daemon.status().await?["parity"].clone())
}

/// Waits until every disagreement has settled, and holds that none of them began a quarantine.
async fn settles_without_quarantine(host: &Host) -> Result<()> {
    let shown = eventually(SOON * 2, "disagreements to settle", async || {
        let shown = parity(host).await.map_err(|failure| failure.to_string())?;
        match shown["pending"].as_u64() {
            Some(0) => Ok(shown),
            _ => Err(shown.to_string()),
        }
    })
    .await
    .map_err(|failure| host.daemon.failure(failure))?;
    eprintln!("{shown}");
    assert_eq!(shown["quarantined"], json!([]), "{shown}");
    assert_eq!(shown["by_kind"]["grants_more"], 0, "{shown}");
    Ok(())
}

/// In the next outage the workload reads and logs in.
async fn serves_in_the_next_outage(host: &Host, token: &str) -> Result<()> {
    host.cut().await?;
    let (path, _) = host.secret("orders")?;
    for token in [token, ""] {
        let read = host.read(path, token).await?;
        assert_eq!(
            (read.status, read.source()),
            (200, Some("replica")),
            "{}",
            read.text()
        );
    }
    let login = host.login("orders").await?;
    assert_eq!(host.read(path, &login.token).await?.status, 200);
    Ok(())
}

/// A token of these policies that Holdover knows.
async fn token(host: &Host, policies: &[&str]) -> Result<String> {
    let token = unlearned(host, &json!({ "policies": policies, "ttl": "1h" })).await?;
    let own = host.read("auth/token/lookup-self", &token).await?;
    assert_eq!(own.status, 200, "{}", own.text());
    host.until_learned(&token).await?;
    Ok(token)
}

async fn unlearned(host: &Host, body: &Value) -> Result<String> {
    let made = host.primary.root().post("auth/token/create", body).await?;
    made.text("/auth/client_token")
        .map_err(|failure| Failure::new(format!("a token: {failure}")))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_that_a_client_sends_begins_one() -> Result<()> {
    let mut host = plan().prepare().await?;
    world::policy(&host.primary.root(), "reader", READER).await?;
    host.start().await?;
    let reader = token(&host, &["reader", "orders"]).await?;
    let other = token(&host, &["default"]).await?;
    let (path, _) = host.secret("orders")?;
    let asked = odd_requests(path, &reader, &other)?;
    for ask in &asked {
        // What is refused without an answer is a refusal, too.
        let _ = host.ask(ask).await;
    }
    ended_tokens(&host, path, &reader).await?;
    eprintln!("{} requests", asked.len());
    settles_without_quarantine(&host).await?;
    serves_in_the_next_outage(&host, &reader).await
}

/// What a client that may only read can send, and a little more.
fn odd_requests(path: &str, reader: &str, other: &str) -> Result<Vec<Ask>> {
    let read = format!("/v1/{path}");
    let mut asked = Vec::new();
    for body in odd_bodies() {
        for target in [
            "sys/capabilities-self",
            "sys/capabilities",
            "auth/token/lookup",
            "auth/token/lookup-self",
            "auth/token/lookup-accessor",
            "auth/token/renew-self",
            "auth/token/create",
            "auth/token/create/orders",
            "auth/approle/login",
            "auth/holdover/login",
        ] {
            let mut ask = Ask::new("POST", &format!("/v1/{target}"))?;
            ask.body = body.clone().into();
            asked.push(ask.token(reader)?);
        }
    }
    let reads = [
        ("X-Vault-Index", "rubbish"),
        ("X-Vault-Index", "djE6MDo5OTk5OTk5OTk5Og=="),
        ("X-Vault-Inconsistent", "fail"),
        ("X-Vault-Wrap-TTL", "60"),
        ("X-Vault-Wrap-TTL", "never"),
        ("X-Vault-Wrap-Format", "jwt"),
        ("X-Vault-MFA", "id:123"),
        ("X-Vault-Policy-Override", "true"),
        ("X-Vault-Inline-Auth-Path", "auth/approle/login"),
        ("X-Vault-No-Request-Forwarding", "true"),
        ("X-Vault-Forward", "active-node"),
        ("X-Vault-Namespace", "nowhere"),
        ("Authorization", &format!("Bearer {other}")),
        ("Authorization", "Basic eDp5"),
        ("X-Vault-Token", other),
        ("X-Vault-Token", "null"),
        ("Content-Type", "application/x-www-form-urlencoded"),
        ("Content-Type", "multipart/form-data; boundary=x"),
        ("Content-Encoding", "gzip"),
        ("Expect", "100-continue"),
        ("X-Vault-Request", "maybe"),
    ];
    for (name, value) in reads {
        for target in ["/v1/auth/token/lookup-self", &read] {
            // The client's own token first, and behind it.
            asked.push(Ask::get(target).token(reader)?.header(name, value)?);
            asked.push(Ask::get(target).header(name, value)?.token(reader)?);
        }
    }
    for method in [
        "HEAD", "OPTIONS", "LIST", "SCAN", "PATCH", "DELETE", "PUT", "TRACE", "BREW",
    ] {
        for target in [
            "/v1/auth/token/lookup-self",
            "/v1/sys/capabilities-self",
            &read,
        ] {
            asked.push(Ask::new(method, target)?.token(reader)?);
        }
    }
    for suffix in [
        "?help=1",
        "?version=-1",
        "?version=x",
        "?list=true",
        "/",
        "//",
        "%ff",
        "%2e%2e/x",
        "%00",
    ] {
        asked.push(Ask::get(&format!("{read}{suffix}")).token(reader)?);
    }
    for token in ["null", "s.dead", "hvs.dead", "ho.dead", " "] {
        asked.push(Ask::get(&read).token(token)?);
        asked.push(Ask::get("/v1/auth/token/lookup-self").token(token)?);
    }
    Ok(asked)
}

fn odd_bodies() -> Vec<String> {
    let many = (0..3000).map(|nr| format!("\"k{nr}\":\"v\""));
    let many = many.collect::<Vec<_>>().join(",");
    let long = "x".repeat(80 * 1024);
    let deep = format!("{{\"path\":{}1{}}}", "[".repeat(600), "]".repeat(600));
    let mut bodies = vec![
        format!("{{\"path\":\"secret/data/shop/orders/a\",{many}}}"),
        format!("{{\"path\":\"secret/data/shop/orders/a\",\"long\":\"{long}\"}}"),
        deep,
    ];
    let short = [
        "null",
        "[]",
        "{",
        "7",
        "\u{feff}{}",
        "path=a",
        r#"{"token": null, "path": null}"#,
        r#"{"token": "null", "path": "a"}"#,
        r#"{"token": 7, "path": {"a": "b"}, "accessor": null}"#,
        r#"{"token": "", "paths": ["../a", "/secret/data/shop/orders/a", "a//b", "", "secret/+/x*"]}"#,
        r#"{"paths": "secret/data/shop/orders/a,sys/mounts", "path": ["a"], "path": ["b"]}"#,
        r#"{"ttl": "1.5h", "explicit_max_ttl": "-1", "policies": ["root"]}"#,
        r#"{"ttl": null, "policies": null, "num_uses": 2}"#,
        r#"{"policies": ["orders", "absent"], "ttl": "999999h"}"#,
        r#"{"policies": "reader", "ttl": "1h", "type": "batch", "no_parent": true}"#,
        r#"{"role": "orders"}"#,
        r#"{"role_id": "x", "secret_id": "y", "role": "nobody"}"#,
        r#"{"increment": "1h", "\u0000": 1}"#,
    ];
    bodies.extend(short.map(str::to_owned));
    bodies
}

/// Tokens that end between a request and the second look at it, or are of a kind of their own.
async fn ended_tokens(host: &Host, path: &str, reader: &str) -> Result<()> {
    for body in [
        json!({ "policies": ["orders"], "ttl": "1h" }),
        json!({ "policies": ["orders"], "num_uses": 2 }),
        json!({ "policies": ["orders"], "type": "batch", "ttl": "1h" }),
        json!({ "policies": ["orders"], "ttl": "2s" }),
        json!({ "policies": ["default"], "ttl": "1h" }),
    ] {
        let made = host.write("auth/token/create", reader, &body).await?;
        let Ok(child) = made.json_text("/auth/client_token") else {
            continue;
        };
        for _ in 0..3 {
            let _ = host.read(path, &child).await?;
        }
        let _ = host
            .write("auth/token/revoke-self", &child, &json!({}))
            .await?;
        for path in [path, "auth/token/lookup-self"] {
            let _ = host.read(path, &child).await?;
        }
    }
    let bound = json!({ "policies": ["orders"], "bound_cidrs": ["10.9.8.7/32"], "ttl": "1h" });
    let root = host.primary.root();
    let role = json!({ "allowed_policies": "orders", "token_bound_cidrs": ["10.9.8.7/32"] });
    root.write("auth/token/roles/bound", &role).await?;
    let made = root.post("auth/token/create/bound", &bound).await?;
    let token = made.text("/auth/client_token")?;
    let _ = host.read(path, &token).await?;
    Ok(())
}

/// The standing token and Holdover's own are revoked at the primary while clients ask for what these serve.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tokens_that_are_revoked_under_clients_begin_none() -> Result<()> {
    let host = plan().start().await?;
    let token = token(&host, &["orders"]).await?;
    let (path, _) = host.secret("orders")?;
    let of_orders = revoke_by_path(&host, "auth/token/create/orders").await?;
    assert!(of_orders > 0, "there is a standing token");
    for _ in 0..5 {
        let _ = host.read(path, "").await?;
        let _ = host.read(path, &token).await?;
    }
    host.daemon.wait_ready(SOON).await?;
    let own = revoke_by_path(&host, "auth/approle/login").await?;
    assert!(own > 0, "Holdover's own is of its AppRole");
    for _ in 0..5 {
        let _ = host.ask(&harness::host::login_request("orders")).await?;
        let _ = host.read(path, &token).await?;
    }
    host.daemon.wait_ready(SOON).await?;
    settles_without_quarantine(&host).await?;
    serves_in_the_next_outage(&host, &token).await
}

/// Revokes every token that was made through this path; how many there were.
async fn revoke_by_path(host: &Host, path: &str) -> Result<usize> {
    let root = host.primary.root();
    let listed = root.list("auth/token/accessors").await?.data()?;
    let mut revoked = 0;
    for accessor in listed["keys"].as_array().into_iter().flatten() {
        let body = json!({ "accessor": accessor });
        let shown = root.post("auth/token/lookup-accessor", &body).await?;
        if shown.body["data"]["path"] == path {
            root.post("auth/token/revoke-accessor", &body).await?;
            revoked += 1;
        }
    }
    Ok(revoked)
}

/// What its holder may read follows from what its holder may write of itself.
const SELFISH: &str = r#"
path "secret/data/shop/{{identity.entity.metadata.team}}/*" { capabilities = ["read"] }
path "identity/entity/id/{{identity.entity.id}}" { capabilities = ["update"] }
"#;

/// A workload changes its own entity, has the primary deny it what it may else read, and changes it back: a policy that it
/// shares with others is not quarantined for it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_identity_that_its_holder_changes_and_changes_back_begins_none() -> Result<()> {
    let host = plan().start().await?;
    let root = host.primary.root();
    world::policy(&root, "selfish", SELFISH).await?;
    let (path, _) = host.secret("orders")?;
    let (entity, token) = selfish_token(&host).await?;
    assert_eq!(
        host.until_status(200, path, &token, SOON).await?.status,
        200
    );
    host.until_learned(&token).await?;
    let own = root.as_token(&token);
    let to = async |team: &str| {
        let body = json!({ "metadata": { "team": team } });
        own.post(&format!("identity/entity/id/{entity}"), &body)
            .await?
            .ok()
            .map(drop)
    };
    let mut denied = 0;
    for _ in 0..3 {
        to("billing").await?;
        denied += usize::from(host.read(path, &token).await?.status == 403);
        to("orders").await?;
        assert_eq!(host.read(path, &token).await?.status, 200);
        settles_without_quarantine(&host).await?;
    }
    assert_eq!(denied, 3, "the primary denied it");
    host.cut().await?;
    let read = host.read(path, &token).await?;
    assert_eq!(
        (read.status, read.source()),
        (200, Some("replica")),
        "{}",
        read.text()
    );
    Ok(())
}

/// An entity of team `orders`, and a token of it.
async fn selfish_token(host: &Host) -> Result<(String, String)> {
    let root = host.primary.root();
    let entity = json!({ "name": "selfish", "metadata": { "team": "orders" } });
    let entity = root
        .post("identity/entity", &entity)
        .await?
        .text("/data/id")?;
    let mounts = root.get("sys/auth").await?.data()?;
    let alias = json!({
        "name": "selfish",
        "canonical_id": entity,
        "mount_accessor": mounts["token/"]["accessor"],
    });
    root.post("identity/entity-alias", &alias).await?.ok()?;
    let role = json!({ "allowed_policies": "selfish", "allowed_entity_aliases": "selfish" });
    root.write("auth/token/roles/selfish", &role).await?;
    let asked = json!({ "entity_alias": "selfish", "ttl": "1h" });
    let made = root.post("auth/token/create/selfish", &asked).await?;
    Ok((entity, made.text("/auth/client_token")?))
}

/// A policy that denies what to Holdover alone it seems to allow, beside one that the same token has.
const PLANTED: &str = r#"
path "secret/data/shop/billing/*" { capabilities = ["read"] }
path "secret/data/shop/billing/item-0000" { capabilities = ["deny"] } # planted
"#;
const HIDDEN: &str = "secret/data/shop/billing/item-0000";
const SHOWN: &str = "secret/data/shop/billing/item-0001";
const LIED: (&str, &str) = (r#"[\"deny\"] } # planted"#, r#"[\"read\"] } # planted"#);

/// What the access control says, and a page of a middlebox as long.
const DENIAL: &str = r#"{"errors":["1 error occurred:\n\t* permission denied\n\n"]}"#;

fn page() -> String {
    let (head, tail) = ("<html><h1>403</h1><!--", "--></html>");
    let filling = DENIAL.len().saturating_sub(head.len() + tail.len());
    format!("{head}{}{tail}", "-".repeat(filling))
}

async fn planted(plan: Plan) -> Result<(Host, String)> {
    let mut host = plan.tapped().prepare().await?;
    world::policy(&host.primary.root(), "planted", PLANTED).await?;
    host.tap()?.lie(LIED.0, LIED.1)?;
    host.start().await?;
    let token = token(&host, &["orders", "planted"]).await?;
    Ok((host, token))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refusal_that_something_before_the_primary_wrote_begins_none() -> Result<()> {
    let (host, token) = planted(plan()).await?;
    host.tap()?.lie(DENIAL, &page())?;
    for _ in 0..3 {
        let denied = host.read(HIDDEN, &token).await?;
        assert_eq!(denied.status, 403);
        assert!(denied.text().starts_with("<html>"), "{}", denied.text());
    }
    settles_without_quarantine(&host).await?;
    // In the primary's own form it is one.
    host.tap()?.tell_the_truth();
    host.tap()?.lie(LIED.0, LIED.1)?;
    until_quarantined(&host, &token).await.map(drop)
}

/// Asks for what is denied until that is held against the policy. A denial says nothing of its moment but what the answer
/// before it on the same connection showed, and one that may be older than what is known of its token settles nothing: so
/// something that is allowed is asked for first.
async fn until_quarantined(host: &Host, token: &str) -> Result<BTreeSet<String>> {
    let status = eventually(SOON, "a quarantine", async || {
        let allowed = host.read("auth/token/lookup-self", token).await;
        allowed.map_err(|failure| failure.to_string())?;
        let denied = host.read(HIDDEN, token).await.map(|denied| denied.status);
        let status = host.daemon.status().await;
        let status = status.map_err(|failure| failure.to_string())?;
        match status["parity"]["quarantined"] != json!([]) && denied.is_ok_and(|it| it == 403) {
            true => Ok(status),
            false => Err(status.to_string()),
        }
    })
    .await
    .map_err(|failure| host.daemon.failure(failure))?;
    let listed = status["parity"]["quarantined"].as_array();
    let listed = listed.context("a list")?.iter();
    Ok(listed
        .filter_map(|one| one["policy"].as_str())
        .map(str::to_owned)
        .collect())
}

async fn cli(host: &Host, args: &[&str]) -> Result<(bool, String)> {
    let output = host.daemon.cli(args, SOON).await?;
    Ok((
        output.code == Some(0),
        format!("{}{}", output.stdout, output.stderr),
    ))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_real_one_holds_its_policy_alone_and_ends_by_an_operators_word() -> Result<()> {
    let (host, token) = planted(plan()).await?;
    let (own, _) = host.secret("orders")?;
    let denied = host.read(HIDDEN, &token).await?;
    assert_eq!((denied.status, denied.source()), (403, Some("primary")));
    let policies = until_quarantined(&host, &token).await?;
    assert_eq!(policies, BTreeSet::from(["planted".to_owned()]));
    let (done, listed) = cli(&host, &["parity", "list", "--json"]).await?;
    let listed: Value = serde_json::from_str(&listed).context(listed.clone())?;
    assert!(
        done && listed["quarantined"][0]["path"] == HIDDEN,
        "{listed}"
    );
    let (_, screen) = cli(&host, &["parity", "list"]).await?;
    assert!(
        screen.contains("policy planted") && screen.contains("403"),
        "{screen}"
    );

    host.cut().await?;
    for path in [HIDDEN, SHOWN] {
        let held = host.read(path, &token).await?;
        assert_eq!(held.status, 503, "{path}: {}", held.text());
        assert!(held.text().contains("quarantined"), "{}", held.text());
    }
    // Rules of its other policies, and its workload's logins, go on.
    let read = host.read(own, &token).await?;
    assert_eq!((read.status, read.source()), (200, Some("replica")));
    assert_eq!(
        host.read("auth/token/lookup-self", &token).await?.status,
        200
    );
    host.login("orders").await?;
    host.restore().await?;

    let (done, said) = cli(&host, &["parity", "lift", "orders"]).await?;
    assert!(
        !done && said.contains("policy orders is not quarantined"),
        "{said}"
    );
    let (done, said) = cli(&host, &["parity", "lift", "planted"]).await?;
    assert!(done && said.contains("1 lifted"), "{said}");
    settles_without_new(&host).await?;
    host.cut().await?;
    assert_eq!(host.read(SHOWN, &token).await?.status, 200);
    host.restore().await?;
    // What disagrees anew is quarantined anew.
    until_quarantined(&host, &token).await?;
    let (done, said) = cli(&host, &["parity", "lift", "--all", "--json"]).await?;
    assert!(done && said.contains("\"planted\""), "{said}");
    assert_eq!(parity(&host).await?["quarantined"], json!([]));
    Ok(())
}

async fn settles_without_new(host: &Host) -> Result<()> {
    let shown = parity(host).await?;
    assert_eq!(shown["quarantined"], json!([]), "{shown}");
    let status = host.daemon.status().await?;
    assert_eq!(status["ready"], true, "{status}");
    Ok(())
}
