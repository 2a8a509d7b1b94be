//! Tokens that the primary withholds and the replica would have issued: the workload's issuing is left to the primary, and
//! nothing else is. What a client can send, or what merely ended, begins nothing.

use std::time::Duration;

use harness::client::raw::{Ask, Reply};
use harness::daemon::config::Workload;
use harness::host::{Host, Plan, own_uid};
use harness::{Result, eventually, world};
use serde_json::{Value, json};

use crate::HOLDOVER;

/// For what takes a few cycles.
const SOON: Duration = Duration::from_secs(30);

/// What makes tokens, and sees mounts.
const MAKER: &str = r#"
path "auth/token/create" { capabilities = ["update"] }
path "auth/token/create/orders" { capabilities = ["update"] }
"#;

/// A policy by its name at the primary, and by that which Holdover is told.
const LIED: (&str, &str) = ("\"made-there\"", "\"told-there\"");

fn plan() -> Plan {
    let orders = Workload::new("orders", "orders").uid(own_uid());
    Plan::new(HOLDOVER)
        .workload(orders.issues("15m", "2h"))
        .set("failover.authority_interval", "1s")
        .set("parity.sample", 1.0)
        .tapped()
}

/// Repeats what the primary refuses with this text until that is held against somebody; what is in quarantine then.
async fn until_quarantined(host: &Host, ask: &Ask, token: &str, refusal: &str) -> Result<Value> {
    let waited = eventually(SOON, "a quarantine", async || {
        // A refusal says nothing of its moment but what the answer before it on the same connection showed.
        let own = host.read("auth/token/lookup-self", token).await;
        own.map_err(|failure| failure.to_string())?;
        let reply = host.ask(ask).await.map_err(|failure| failure.to_string())?;
        if !reply.text().contains(refusal) {
            return Err(reply.text());
        }
        let status = host.daemon.status().await;
        let parity = status.map_err(|failure| failure.to_string())?["parity"].clone();
        match parity["quarantined"] == json!([]) {
            true => Err(parity.to_string()),
            false => Ok(parity["quarantined"].clone()),
        }
    });
    waited.await.map_err(|failure| host.daemon.failure(failure))
}

/// Waits until every disagreement has settled, and holds that none of them began a quarantine.
async fn settles_without_quarantine(host: &Host) -> Result<()> {
    let waited = eventually(SOON * 2, "disagreements to settle", async || {
        let status = host.daemon.status().await;
        let parity = status.map_err(|failure| failure.to_string())?["parity"].clone();
        match parity["pending"].as_u64() {
            Some(0) => Ok(parity),
            _ => Err(parity.to_string()),
        }
    });
    let parity = waited
        .await
        .map_err(|failure| host.daemon.failure(failure))?;
    assert_eq!(parity["quarantined"], json!([]), "{parity}");
    assert_eq!(parity["by_kind"]["grants_more"], 0, "{parity}");
    Ok(())
}

/// That it is the issuing of `orders` alone: in the next outage it issues nothing, and serves what its token reads.
async fn holds_issuing_alone(host: &Host, quarantined: &Value, token: &str) -> Result<()> {
    assert_eq!(
        quarantined.as_array().map(Vec::len),
        Some(1),
        "{quarantined}"
    );
    assert_eq!(quarantined[0]["workload"], "orders", "{quarantined}");
    host.cut().await?;
    let login = Ask::post("/v1/auth/holdover/login", &json!({ "role": "orders" }));
    let login = host.ask(&login).await?;
    assert_eq!(login.status, 503, "{}", login.text());
    assert!(login.text().contains("quarantined"), "{}", login.text());
    let (path, _) = host.secret("orders")?;
    let read = host.read(path, token).await?;
    assert_eq!(
        (read.status, read.source()),
        (200, Some("replica")),
        "{}",
        read.text()
    );
    Ok(())
}

/// The role of `orders`, and a token of the same workload, have a policy that Holdover takes for another one.
async fn maker() -> Result<(Host, String)> {
    let mut host = plan().prepare().await?;
    let root = host.primary.root();
    world::policy(&root, "maker", MAKER).await?;
    let text = "path \"secret/data/none\" { capabilities = [\"read\"] }";
    world::policy(&root, "made-there", text).await?;
    let policies = json!({ "allowed_policies": ["orders", "maker", "made-there"] });
    root.write("auth/token/roles/orders", &policies).await?;
    host.tap()?.lie(LIED.0, LIED.1)?;
    host.start().await?;
    let body = json!({ "policies": ["orders", "maker", "made-there"], "ttl": "1h" });
    let made = root.post("auth/token/create", &body).await?;
    let token = made.text("/auth/client_token")?;
    let own = host.read("auth/token/lookup-self", &token).await?;
    assert!(own.text().contains("told-there"), "{}", own.text());
    host.until_learned(&token).await?;
    Ok((host, token))
}

fn create(path: &str, token: &str, policies: &[&str]) -> Result<Ask> {
    let body = json!({ "policies": policies, "ttl": "5m" });
    Ask::post(path, &body).token(token)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_child_that_the_primary_withholds_is_left_to_it() -> Result<()> {
    let (host, token) = maker().await?;
    let within = host
        .ask(&create("/v1/auth/token/create", &token, &["orders"])?)
        .await?;
    assert_eq!(within.status, 200, "{}", within.text());
    settles_without_quarantine(&host).await?;
    let beyond = create("/v1/auth/token/create", &token, &["told-there"])?;
    let refusal = "child policies must be subset of parent";
    let quarantined = until_quarantined(&host, &beyond, &token, refusal).await?;
    holds_issuing_alone(&host, &quarantined, &token).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_that_its_role_withholds_is_left_to_the_primary() -> Result<()> {
    let (host, token) = maker().await?;
    let beyond = create("/v1/auth/token/create/orders", &token, &["told-there"])?;
    let refusal = "must be subset of the role's allowed policies";
    let quarantined = until_quarantined(&host, &beyond, &token, refusal).await?;
    holds_issuing_alone(&host, &quarantined, &token).await
}

/// What refuses the form of a request, or what both sides refuse, is no sign.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_client_asks_of_the_token_store_begins_none() -> Result<()> {
    let mut host = plan().prepare().await?;
    let root = host.primary.root();
    world::policy(&root, "maker", MAKER).await?;
    host.start().await?;
    let made = json!({ "policies": ["orders", "maker"], "ttl": "1h" });
    let made = root.post("auth/token/create", &made).await?;
    let token = made.text("/auth/client_token")?;
    host.read("auth/token/lookup-self", &token).await?;
    host.until_learned(&token).await?;
    let mut refused = 0;
    for body in [
        json!({ "policies": ["billing"] }),
        json!({ "policies": ["root"] }),
        json!({ "policies": ["ORDERS", " orders ", "response-wrapping"] }),
        json!({ "no_parent": true }),
        json!({ "period": "1h" }),
        json!({ "id": "chosen" }),
        json!({ "entity_alias": "somebody" }),
        json!({ "num_uses": -1 }),
        json!({ "num_uses": 1 }),
        json!({ "type": "batch", "explicit_max_ttl": "1h" }),
        json!({ "ttl": "-1" }),
        json!({ "ttl": "1d12h" }),
        json!({ "policies": ["orders"], "renewable": false, "explicit_max_ttl": "30s" }),
        json!({ "policies": ["\u{212a}", "ord\u{e9}rs"] }),
    ] {
        for path in ["create", "create/orders", "create/nobody", "create-orphan"] {
            let ask = Ask::post(&format!("/v1/auth/token/{path}"), &body).token(&token)?;
            refused += usize::from(host.ask(&ask).await?.status != 200);
        }
    }
    assert!(refused > 30, "{refused}");
    settles_without_quarantine(&host).await
}

/// An AppRole of `orders`, with its role id; what it logs in with.
async fn approle(host: &Host) -> Result<Ask> {
    let root = host.primary.root();
    let role = json!({ "token_policies": ["orders"], "token_ttl": "10m" });
    root.write("auth/approle/role/ci", &role).await?;
    let role_id = json!({ "role_id": "role-id-told" });
    root.write("auth/approle/role/ci/role-id", &role_id).await?;
    let made = root
        .post("auth/approle/role/ci/secret-id", &json!({}))
        .await?;
    let secret_id = made.text("/data/secret_id")?;
    let body = json!({ "role_id": "role-id-told", "secret_id": secret_id });
    Ok(Ask::post("/v1/auth/approle/login", &body))
}

/// Logs in once, and waits until an outage could go by that; the token.
async fn proven(host: &Host, login: &Ask) -> Result<String> {
    let reply: Reply = host.ask(login).await?;
    assert_eq!(reply.status, 200, "{}", reply.text());
    let waited = eventually(SOON, "a proven secret id", async || {
        let status = host.daemon.status().await;
        let shown = status.map_err(|failure| failure.to_string())?["approle"].clone();
        match shown[0]["secret_ids"] == 1 {
            true => Ok(()),
            false => Err(shown.to_string()),
        }
    });
    waited
        .await
        .map_err(|failure| host.daemon.failure(failure))?;
    let token = reply.json_text("/auth/client_token")?;
    host.until_learned(&token).await?;
    Ok(token)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_login_that_the_primary_refuses_for_good_is_left_to_it() -> Result<()> {
    let host = plan().start().await?;
    let login = approle(&host).await?;
    host.tap()?.lie("role-id-real", "role-id-told")?;
    let token = proven(&host, &login).await?;
    // By all that Holdover is shown, the pair stands.
    let role_id = json!({ "role_id": "role-id-real" });
    host.primary
        .root()
        .write("auth/approle/role/ci/role-id", &role_id)
        .await?;
    let refusal = "invalid role or secret ID";
    let quarantined = until_quarantined(&host, &login, &token, refusal).await?;
    holds_issuing_alone(&host, &quarantined, &token).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_secret_id_that_ended_begins_none() -> Result<()> {
    let host = plan().start().await?;
    let login = approle(&host).await?;
    let token = proven(&host, &login).await?;
    let root = host.primary.root();
    let accessors = root.list("auth/approle/role/ci/secret-id").await?.data()?;
    let accessor = json!({ "secret_id_accessor": accessors["keys"][0] });
    let path = "auth/approle/role/ci/secret-id-accessor/destroy";
    root.write(path, &accessor).await?;
    for _ in 0..3 {
        host.read("auth/token/lookup-self", &token).await?;
        let refused = host.ask(&login).await?;
        assert_eq!(refused.status, 400, "{}", refused.text());
    }
    settles_without_quarantine(&host).await?;
    host.cut().await?;
    assert_eq!(host.ask(&login).await?.status, 400);
    host.login("orders").await.map(drop)
}

/// A rule that denies what to Holdover alone it seems to allow, below a mount that no other policy is about.
const HIDING: &str = "path \"hidden/a\" { capabilities = [\"deny\"] } # hiding\n";
const SHOWING: (&str, &str) = (r#"[\"deny\"] } # hiding"#, r#"[\"read\"] } # hiding"#);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mount_that_the_primary_does_not_show_is_held_against_the_policy_that_shows_it()
-> Result<()> {
    let mut host = plan().prepare().await?;
    let root = host.primary.root();
    root.write("sys/mounts/hidden", &json!({ "type": "kv" }))
        .await?;
    world::policy(&root, "hiding", HIDING).await?;
    host.tap()?.lie(SHOWING.0, SHOWING.1)?;
    host.start().await?;
    for path in [
        "/v1/sys/internal/ui/mounts",
        "/v1/sys/internal/ui/mounts/hidden",
    ] {
        let made = json!({ "policies": ["orders", "hiding"], "ttl": "1h" });
        let made = root.post("auth/token/create", &made).await?;
        let token = made.text("/auth/client_token")?;
        host.read("auth/token/lookup-self", &token).await?;
        host.until_learned(&token).await?;
        let ask = Ask::get(path).token(&token)?;
        let quarantined = until_quarantined(&host, &ask, &token, "").await?;
        assert_eq!(
            quarantined.as_array().map(Vec::len),
            Some(1),
            "{quarantined}"
        );
        assert_eq!(quarantined[0]["policy"], "hiding", "{quarantined}");
        let lifted = host.daemon.cli(&["parity", "lift", "hiding"], SOON).await?;
        assert_eq!(lifted.code, Some(0), "{}", lifted.stderr);
    }
    Ok(())
}
