//! Tokens that others create in an outage: none has a policy that the primary did not prove for its workload.

use harness::daemon::config::Workload;
use harness::host::{Host, Plan, own_uid};
use harness::{Result, world};
use serde_json::{Value, json};

use crate::HOLDOVER;

/// The right to create tokens with whatever policies.
const CHIEF: &str = r#"
path "auth/token/create"        { capabilities = ["update", "sudo"] }
path "auth/token/create-orphan" { capabilities = ["update", "sudo"] }
path "auth/token/create/*"      { capabilities = ["update", "sudo"] }
"#;

async fn start() -> Result<Host> {
    // Of another workload, whose role gives what orders may not have.
    let billing = Workload::new("billing", "billing").uid(own_uid() + 1);
    let orders = Workload::new("orders", "orders")
        .uid(own_uid())
        .set("auto_token", false)
        .issues("15m", "2h");
    let mut host = Plan::new(HOLDOVER)
        .workload(orders)
        .workload(billing)
        .prepare()
        .await?;
    world::policy(&host.primary.root(), "chief", CHIEF).await?;
    host.start().await?;
    Ok(host)
}

/// The token of somebody with sudo, who uses it as the orders workload.
async fn chief(host: &Host) -> Result<String> {
    let body = json!({ "policies": ["chief"], "ttl": "1h" });
    let root = host.primary.root();
    let token = root.post("auth/token/create", &body).await?;
    let token = token.text("/auth/client_token")?;
    assert_eq!(
        host.read("auth/token/lookup-self", &token).await?.status,
        200
    );
    host.until_learned(&token).await?;
    Ok(token)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sudo_gives_a_child_nothing_that_was_not_proven_for_its_workload() -> Result<()> {
    let host = start().await?;
    let chief = chief(&host).await?;
    host.cut().await?;
    let (billing, _) = host.secret("billing")?;
    let (orders, _) = host.secret("orders")?;
    let beyond = |policies: &[&str]| json!({ "policies": policies, "ttl": "5m" });
    for (place, body) in [
        ("create", beyond(&["billing"])),
        ("create", beyond(&["orders", "billing"])),
        ("create", beyond(&[])),
        ("create-orphan", beyond(&["billing"])),
        ("create-orphan", beyond(&["holdover"])),
        ("create/billing", beyond(&["billing"])),
    ] {
        let refused = created(&host, place, &chief, &body).await?;
        assert!(
            [400, 403, 503].contains(&refused.0),
            "{place} {body}: {refused:?}"
        );
    }
    for place in ["create", "create-orphan", "create/orders"] {
        let (status, token) = created(&host, place, &chief, &beyond(&["orders"])).await?;
        assert_eq!(status, 200, "{place}");
        assert_eq!(host.read(orders, &token).await?.status, 200, "{place}");
        assert_eq!(host.read(billing, &token).await?.status, 403, "{place}");
        // Nor does what it creates in turn.
        let (status, _) = created(&host, "create/billing", &token, &beyond(&["billing"])).await?;
        assert_ne!(status, 200);
    }
    Ok(())
}

/// The status of a creation, and the token that it gave.
async fn created(host: &Host, place: &str, by: &str, body: &Value) -> Result<(u16, String)> {
    let path = format!("auth/token/{place}");
    let reply = host.write(&path, by, body).await?;
    let token = reply.json_text("/auth/client_token").unwrap_or_default();
    Ok((reply.status, token))
}
