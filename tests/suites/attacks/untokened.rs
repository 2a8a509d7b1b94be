//! Paths that the primary answers without looking at a token: a success there shows nothing of the token that came along.

use std::time::Duration;

use harness::client::raw::Ask;
use harness::daemon::config::Workload;
use harness::failure::Context;
use harness::host::{Host, Plan, own_uid};
use harness::{Result, world};
use serde_json::{Value, json};

use crate::{HOLDOVER, cut, reopen};

/// How long anything may take that needs no outage to be noticed.
const SOON: Duration = Duration::from_secs(20);

/// What anybody may ask, with any token or none: method, path and body.
const ASKS: [(&str, &str, &str); 27] = [
    ("GET", "pki/ca", ""),
    ("GET", "pki/ca/pem", ""),
    ("GET", "pki/ca_chain", ""),
    ("GET", "pki/cert/ca", ""),
    ("GET", "pki/crl", ""),
    ("GET", "pki/issuer/default/json", ""),
    ("LIST", "pki/issuers", ""),
    ("GET", "pki/acme/directory", ""),
    ("POST", "pki/ocsp", ""),
    ("GET", "certificates/of/ours/ca/pem", ""),
    ("GET", "ssh/public_key", ""),
    ("GET", "identity/oidc/.well-known/openid-configuration", ""),
    ("GET", "identity/oidc/.well-known/keys", ""),
    ("GET", "sys/health", ""),
    ("GET", "sys/seal-status", ""),
    ("GET", "sys/leader", ""),
    ("GET", "sys/init", ""),
    ("GET", "sys/internal/ui/mounts", ""),
    ("GET", "sys/internal/ui/namespaces", ""),
    ("GET", "sys/internal/specs/openapi", ""),
    ("GET", "sys/wrapping/pubkey", ""),
    ("POST", "sys/wrapping/lookup", r#"{"token":"s.none"}"#),
    (
        "POST",
        "auth/userpass/login/somebody",
        r#"{"password":"p"}"#,
    ),
    (
        "POST",
        "auth/jwt/oidc/auth_url",
        r#"{"redirect_uri":"http://x"}"#,
    ),
    ("GET", "secret/data/shop/shared?help=1", ""),
    ("HEAD", "pki/ca", ""),
    ("OPTIONS", "pki/ca", ""),
];

async fn start() -> Result<Host> {
    let orders = Workload::new("orders", "orders")
        .uid(own_uid())
        .set("auto_token", false);
    let mut host = Plan::new(HOLDOVER)
        .wired()
        .workload(orders)
        .set("primary.token_check_interval", "1h")
        .prepare()
        .await?;
    let root = host.primary.root();
    for (path, body) in [
        ("sys/mounts/pki", json!({ "type": "pki" })),
        ("sys/mounts/certificates/of/ours", json!({ "type": "pki" })),
        ("sys/mounts/ssh", json!({ "type": "ssh" })),
        ("sys/auth/userpass", json!({ "type": "userpass" })),
        ("sys/auth/jwt", json!({ "type": "jwt" })),
        (
            "pki/root/generate/internal",
            json!({ "common_name": "a.example" }),
        ),
        (
            "certificates/of/ours/root/generate/internal",
            json!({ "common_name": "b.example" }),
        ),
        ("ssh/config/ca", json!({ "generate_signing_key": true })),
        ("auth/userpass/users/somebody", json!({ "password": "p" })),
    ] {
        root.write(path, &body).await?;
    }
    host.start().await?;
    Ok(host)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revoked_token_is_not_kept_alive_where_nobody_looks_at_it() -> Result<()> {
    let host = start().await?;
    let root = host.primary.root();
    let body = json!({ "policies": ["orders"], "ttl": "1h" });
    let mut tokens = Vec::new();
    for _ in 0..2 {
        let token = root.post("auth/token/create", &body).await?;
        let token = token.text("/auth/client_token")?;
        let (path, _) = host.secret("orders")?;
        assert_eq!(host.read(path, &token).await?.status, 200);
        host.until_learned(&token).await?;
        tokens.push(token);
    }
    let [revoked, living] = tokens.as_slice() else {
        return Err(harness::Failure::new("two tokens"));
    };
    // So that after an outage only a forward can show that they live.
    let without = host.policy.replace("auth/token/lookup-accessor", "nothing");
    let without = without.replace("\"auth/token/lookup\"", "\"nothing/either\"");
    world::policy(&root, "holdover", &without).await?;
    cut(&host).await?;
    root.write("auth/token/revoke", &json!({ "token": revoked }))
        .await?;
    reopen(&host).await?;
    unproven(&host, 2).await?;

    let mut answered = 0;
    for (method, path, body) in ASKS {
        let reply = host.ask(&ask(method, path, body, revoked)?).await?;
        answered += usize::from((200..300).contains(&reply.status));
    }
    assert!(answered >= 15, "{answered} of them were answered at all");
    // The other one is proven by a read, so that all before it was taken in.
    let (path, _) = host.secret("orders")?;
    assert_eq!(host.read(path, living).await?.status, 200);
    unproven(&host, 1).await?;

    cut(&host).await?;
    assert_eq!(host.read(path, living).await?.status, 200);
    let refused = host.read(path, revoked).await?;
    assert!([403, 503].contains(&refused.status), "{}", refused.text());
    Ok(())
}

async fn unproven(host: &Host, count: u64) -> Result<()> {
    let is = |status: &Value| status["tokens_unproven"] == count;
    let what = format!("{count} unproven tokens");
    host.daemon.wait_for(&what, SOON, is).await.map(drop)
}

fn ask(method: &str, path: &str, body: &str, token: &str) -> Result<Ask> {
    let target = format!("/v1/{path}");
    let ask = match body {
        "" => Ask::new(method, &target)?,
        body => Ask::post(&target, &serde_json::from_str(body).context("a body")?),
    };
    ask.token(token)
}
