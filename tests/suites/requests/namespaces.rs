//! With a namespace configured it is the one that requests mean, however they say so; what is another's is left to the
//! primary.

use harness::Result;
use harness::client::raw::{Ask, Client, Reply};
use harness::world;
use serde_json::{Value, json};

use crate::plan;

const TEAM: &str = "team";

fn in_namespace(ask: Ask, name: &str) -> Result<Ask> {
    ask.header("X-Vault-Namespace", name)
}

/// The ways in which a read of `path` can say that it is in the namespace.
fn ways(path: &str, token: &str) -> Result<Vec<(&'static str, Ask)>> {
    let plain = || Ask::get(&format!("/v1/{path}")).token(token);
    let inside = || Ask::get(&format!("/v1/{TEAM}/{path}")).token(token);
    Ok(vec![
        ("none", plain()?),
        ("header", in_namespace(plain()?, TEAM)?),
        ("slashes", in_namespace(plain()?, "/team/")?),
        ("path", inside()?),
        ("path from the root", in_namespace(inside()?, "root")?),
    ])
}

fn password(reply: &Reply) -> Result<Value> {
    Ok(reply.json()?["data"]["data"]["password"].take())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_configured_namespace_is_meant_and_served_however_it_is_named() -> Result<()> {
    let host = plan().in_namespace(TEAM).start().await?;
    let login = host.login("orders").await?;
    let (path, expected) = host.secret("orders")?;
    let brought = world::token(&host.primary.root().in_namespace(TEAM), "orders").await?;
    for source in ["primary", "replica"] {
        for token in [&login.token, &brought] {
            for (way, ask) in ways(path, token)? {
                let read = host.ask(&ask).await?;
                let outcome = (read.status, read.source());
                assert_eq!(outcome, (200, Some(source)), "{way}: {}", read.text());
                assert_eq!(password(&read)?, expected, "{way}");
            }
            for (way, ask) in ways("auth/token/lookup-self", token)? {
                let shown = host.ask(&ask).await?;
                assert_eq!((shown.status, shown.source()), (200, Some(source)), "{way}");
            }
        }
        if source == "primary" {
            host.until_learned(&brought).await?;
            host.cut().await?;
        }
    }
    let within = host.login("orders").await?;
    assert_eq!(within.policies, login.policies);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_another_namespaces_is_the_primarys_alone() -> Result<()> {
    let host = plan().tapped().in_namespace(TEAM).start().await?;
    let root = host.primary.root();
    // Of the same name and policies, in the root: it may not what it may in the namespace.
    world::policy(&root, "orders", harness::world::ORDERS_POLICY).await?;
    let theirs = json!({ "policies": ["orders"] });
    let theirs = root.post("auth/token/create", &theirs).await?;
    let theirs = theirs.text("/auth/client_token")?;
    let (path, _) = host.secret("orders")?;
    let get = |target: &str| Ask::get(&format!("/v1/{target}")).token(&theirs);
    let direct = Client::tcp(host.primary.address().trim_start_matches("http://"));
    let asks = [
        in_namespace(get("auth/token/lookup-self")?, "root")?,
        get("auth/token/lookup-self")?,
        get(path)?,
        in_namespace(get(path)?, "nowhere")?,
        in_namespace(get("sys/health")?, TEAM)?,
        get("sys/health?standbyok=true")?,
        get("sys/seal-status")?,
        get("team/team/sys/mounts")?,
    ];
    for ask in &asks {
        let through = host.ask(ask).await?;
        assert_eq!(through.source(), Some("primary"), "{}", ask.target);
        // A request without a namespace is another there than here.
        let named = ask.headers.contains_key("x-vault-namespace");
        let of_the_root = ask.target.starts_with("/v1/sys/") || ask.target.contains("team/");
        if named || of_the_root {
            let straight = direct.send(ask).await?;
            assert_eq!(through.status, straight.status, "{}", ask.target);
        }
    }
    host.cut().await?;
    for ask in [
        in_namespace(get(path)?, "root")?,
        in_namespace(get(path)?, "te am")?,
        get(path)?,
        get("auth/token/lookup-self")?,
    ] {
        let reply = host.ask(&ask).await?;
        let outcome = (reply.status, reply.source());
        assert_eq!(
            outcome,
            (503, Some("replica")),
            "{}: {}",
            ask.target,
            reply.text()
        );
    }
    for target in ["sys/health", "sys/seal-status", "sys/leader"] {
        assert_eq!(host.ask(&get(target)?).await?.status, 200, "{target}");
    }
    Ok(())
}

/// One path of each kind that is below `sys/` in the root alone.
const ROOT_ONLY: [&str; 24] = [
    "audit",
    "audit-hash/file",
    "config/auditing/request-headers",
    "config/cors",
    "config/reload/license",
    "config/state/sanitized",
    "config/ui/headers",
    "generate-root/attempt",
    "health",
    "host-info",
    "in-flight-req",
    "init",
    "internal/counters/activity",
    "internal/inspect/router/root",
    "loggers",
    "metrics",
    "pprof/heap",
    "quotas/config",
    "raw/core",
    "rekey/init",
    "replication/status",
    "seal",
    "storage/raft/configuration",
    "unseal",
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_root_alone_has_is_refused_in_the_namespace_as_the_primary_refuses_it()
-> Result<()> {
    let host = plan().in_namespace(TEAM).start().await?;
    let mut told = Vec::new();
    for path in ROOT_ONLY {
        let ask = in_namespace(Ask::get(&format!("/v1/sys/{path}")), TEAM)?;
        for ask in [ask.clone(), ask.token("s.abcdefghijklmnopqrstuvwx")?] {
            let said = host.ask(&ask).await?;
            assert_eq!(
                (said.status, said.source()),
                (400, Some("primary")),
                "{path}"
            );
            told.push((ask, said));
        }
    }
    host.cut().await?;
    for (ask, said) in told {
        let reply = host.ask(&ask).await?;
        assert_eq!(reply.source(), Some("replica"));
        let (ours, theirs) = ((reply.status, reply.json()?), (said.status, said.json()?));
        assert_eq!(ours, theirs, "{}", ask.target);
    }
    Ok(())
}
