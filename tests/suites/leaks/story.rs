//! A life with everything in it that handles a secret: learned tokens, logins, leases, mistakes, an outage, restarts
//! and the end of it.

use std::time::Duration;

use harness::Result;
use harness::client::cli::User;
use harness::client::raw::{Ask, Reply};
use harness::host::Host;
use harness::world;
use serde_json::json;

use crate::evidence::Evidence;
use crate::secret;

/// A token that nobody issued, as clients send it after a mistake. It is a secret of theirs all the same.
const STRAY: &str = "s.StrayTokenOfSomebodyElse00";
/// A replica token that nobody issued.
const STRAY_REPLICA: &str = "ho.StrayReplicaTokenOfSomebodyElse000000000000";

pub(crate) async fn while_following(host: &Host, evidence: &mut Evidence) -> Result<()> {
    evidence.plant("stray token", STRAY)?;
    evidence.plant("stray replica token", STRAY_REPLICA)?;
    let root = host.primary.root();
    let learned = world::token(&root, "orders").await?;
    evidence.plant("learned token", &learned)?;
    let login = host.login("orders").await?;
    evidence.plant("attested token", &login.token)?;
    for token in [learned.as_str(), &login.token, ""] {
        uses(host, token, evidence).await?;
    }
    writes(host, evidence).await?;
    mistakes(host, &login.token, evidence).await?;
    wrapped(host, &login.token, evidence).await?;
    command_line(host, &login.token, evidence).await
}

pub(crate) async fn in_the_outage(host: &Host, evidence: &mut Evidence) -> Result<()> {
    let before = host.login("orders").await?;
    evidence.plant("token from before", &before.token)?;
    host.primary.kill9()?;
    // Before anybody has noticed: what falls back tells the log about it.
    let (path, password) = secret(host)?;
    let read = host.read(&path, &before.token).await?;
    assert!(read.text().contains(&password), "{}", read.text());
    host.cut().await?;
    let login = host.login("orders").await?;
    evidence.plant("replica token", &login.token)?;
    let other = host.login("orders").await?;
    evidence.plant("another replica token", &other.token)?;
    for token in [&before.token, &login.token, &other.token, ""] {
        uses(host, token, evidence).await?;
    }
    mistakes(host, &login.token, evidence).await?;
    command_line(host, &login.token, evidence).await?;
    host.daemon.kill9()?;
    host.daemon.start()?;
    host.daemon
        .wait_state("holdover", Duration::from_secs(15))
        .await?;
    uses(host, &login.token, evidence).await?;
    let revoked = host
        .write("auth/token/revoke-self", &other.token, &json!({}))
        .await?;
    assert_eq!(revoked.status, 204, "{}", revoked.text());
    let refused = host.read(&secret(host)?.0, &other.token).await?;
    assert_eq!(refused.status, 403);
    evidence.heard("a revoked token", &refused);
    host.daemon.terminate(Duration::from_secs(15)).await?;
    host.daemon.start()?;
    host.daemon
        .wait_state("holdover", Duration::from_secs(15))
        .await
        .map(drop)
}

pub(crate) async fn after_it(host: &Host, evidence: &mut Evidence) -> Result<()> {
    let login = host.login("orders").await?;
    evidence.plant("exchanged token", &login.token)?;
    host.restore().await?;
    uses(host, &login.token, evidence).await?;
    let fresh = host.login("orders").await?;
    evidence.plant("token from after", &fresh.token)?;
    uses(host, &fresh.token, evidence).await?;
    mistakes(host, &login.token, evidence).await
}

/// Reads a value, leased credentials and the token itself, and renews it.
async fn uses(host: &Host, token: &str, evidence: &mut Evidence) -> Result<()> {
    let (path, password) = secret(host)?;
    let read = host.read(&path, token).await?;
    assert!(read.text().contains(&password), "{}", read.text());
    let lease = host.read("database/creds/orders", token).await?;
    evidence.plant("database password", &lease.json_text("/data/password")?)?;
    let look = host.read("auth/token/lookup-self", token).await?;
    assert_eq!(look.status, 200, "{}", look.text());
    // Exchanged tokens cannot be renewed, and say so.
    let renewed = host
        .write("auth/token/renew-self", token, &json!({}))
        .await?;
    assert!(matches!(renewed.status, 200 | 400), "{}", renewed.text());
    Ok(())
}

/// A new value goes through the socket, and is mirrored before it is counted on.
async fn writes(host: &Host, evidence: &mut Evidence) -> Result<()> {
    let value = format!("canary-written-{}", harness::random::hex::<12>()?);
    evidence.plant("written value", &value)?;
    let body = json!({ "data": { "password": value } });
    let path = "secret/data/shop/orders/written";
    let written = host.write(path, host.primary.root_token(), &body).await?;
    assert_eq!(written.status, 200, "{}", written.text());
    let mirrored = |status: &serde_json::Value| {
        let shop = status["mirrors"].as_array().into_iter().flatten();
        let count = shop
            .filter(|mirror| mirror["path"] == "secret/data/shop/*")
            .find_map(|mirror| mirror["count"].as_u64());
        count == Some(u64::try_from(host.world.secrets.len() + 1).unwrap())
    };
    let bound = Duration::from_secs(15);
    host.daemon
        .wait_for("the written value in the mirror", bound, mirrored)
        .await
        .map(drop)
}

/// Whatever a client gets wrong, the answer repeats nothing of it.
async fn mistakes(host: &Host, token: &str, evidence: &mut Evidence) -> Result<()> {
    let (path, password) = secret(host)?;
    let (foreign, _) = host.secret("billing")?;
    let body = json!({ "data": { "password": password } });
    let asks: Vec<(&str, Ask)> = vec![
        (
            "a stray token",
            Ask::get(&format!("/v1/{path}")).token(STRAY)?,
        ),
        (
            "a stray replica token",
            Ask::get(&format!("/v1/{path}")).token(STRAY_REPLICA)?,
        ),
        (
            "a forbidden path",
            Ask::get(&format!("/v1/{foreign}")).token(token)?,
        ),
        (
            "a forbidden write",
            Ask::post(&format!("/v1/{path}"), &body).token(token)?,
        ),
        (
            "a replica token in the URL",
            Ask::get(&format!("/v1/auth/token/lookup?token={STRAY_REPLICA}")).token(token)?,
        ),
        (
            "a stray token to be looked up",
            Ask::post("/v1/auth/token/lookup", &json!({ "token": STRAY })).token(token)?,
        ),
        (
            "a path out of form",
            Ask::get(&format!("/v1/{path}/../x")).token(token)?,
        ),
        (
            "a login with a stray secret",
            Ask::post(
                "/v1/auth/approle/login",
                &json!({ "role_id": "none", "secret_id": STRAY }),
            ),
        ),
        (
            "no JSON",
            broken_json(&format!("/v1/{path}"), &password).token(token)?,
        ),
    ];
    for (what, ask) in asks {
        let reply = host.ask(&ask).await?;
        assert!(
            reply.status >= 300,
            "{what}: {} {}",
            reply.status,
            reply.text()
        );
        evidence.heard(what, &reply);
    }
    Ok(())
}

fn broken_json(target: &str, secret: &str) -> Ask {
    Ask {
        body: format!("{{\"data\": {{\"password\": \"{secret}\"").into(),
        ..Ask::post(target, &json!({}))
    }
}

/// What is wrapped passes by and is not learned.
async fn wrapped(host: &Host, token: &str, evidence: &mut Evidence) -> Result<()> {
    let (path, _) = secret(host)?;
    let ask = Ask::get(&format!("/v1/{path}"))
        .token(token)?
        .header("X-Vault-Wrap-TTL", "60")?;
    let reply: Reply = host.ask(&ask).await?;
    evidence.plant("wrapping token", &reply.json_text("/wrap_info/token")?)
}

async fn command_line(host: &Host, token: &str, evidence: &mut Evidence) -> Result<()> {
    let user = User::ourselves()?
        .at_socket(&host.daemon.socket())
        .env("BAO_TOKEN", token);
    let read = ["kv", "get", "secret/shop/orders/item-0000"];
    user.bao(&read).await?.success()?;
    let lease = ["read", "-field=password", "database/creds/orders"];
    let password = user.bao(&lease).await?.success()?;
    evidence.plant("database password of the command line", password.trim())
}
