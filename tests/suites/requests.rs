//! The workload socket speaks the primary's API: in an outage it answers what the primary would have, says that it is
//! not the primary, and refuses the rest with reasons that can be told apart.

#[path = "requests/certificate.rs"]
mod certificate;
#[path = "requests/forwarded.rs"]
mod forwarded;
#[path = "requests/marks.rs"]
mod marks;
#[path = "requests/namespaces.rs"]
mod namespaces;
#[path = "requests/refusals.rs"]
mod refusals;
#[path = "requests/same.rs"]
mod same;
#[path = "requests/tokens.rs"]
mod tokens;
#[path = "requests/writes.rs"]
mod writes;

use harness::daemon::config::Workload;
use harness::host::{Host, Plan, own_uid};
use harness::world::{self, ORDERS_POLICY};
use harness::{Result, eventually};
use serde_json::json;

const HOLDOVER: &str = env!("CARGO_BIN_EXE_holdover-under-test");

/// What orders may do besides: paths that are not mirrored, one that grows stale quickly, and writes.
const MORE: &str = r#"
path "secret/data/volatile/*"     { capabilities = ["read"] }
path "secret/data/elsewhere/*"    { capabilities = ["create", "update", "read", "delete", "patch"] }
path "secret/metadata/elsewhere/*" { capabilities = ["list"] }
path "transit/*"                  { capabilities = ["update"] }
path "sys/tools/hash/*"           { capabilities = ["update"] }
path "auth/token/create"          { capabilities = ["update"] }
"#;

/// A host whose own user is the orders workload; it is given no token unless it asks for one.
fn plan() -> Plan {
    let orders = Workload::new("orders", "orders")
        .uid(own_uid())
        .set("auto_token", false)
        .issues("15m", "2h");
    Plan::new(HOLDOVER)
        .workload(orders)
        .mirror(
            "secret/data/volatile/*",
            &[("interval", "1s".into()), ("max_staleness", "4s".into())],
        )
        .set("failover.probe_interval", "2s")
}

/// The plan's host, ready, with secrets in every condition that a secret can be in.
async fn start(plan: Plan) -> Result<Host> {
    let mut host = plan.prepare().await?;
    let root = host.primary.root();
    let policy = format!("{ORDERS_POLICY}{MORE}");
    world::policy(&root, "orders", &policy).await?;
    let value = |text: &str| json!({ "data": { "password": text } });
    for path in [
        "shop/orders/twice",
        "shop/orders/deleted",
        "shop/orders/deep/er/one",
        "volatile/one",
        "elsewhere/one",
    ] {
        let path = format!("secret/data/{path}");
        root.write(&path, &value("a first value")).await?;
    }
    let second = value("the second value");
    root.write("secret/data/shop/orders/twice", &second).await?;
    let gone = root.delete("secret/data/shop/orders/deleted").await?;
    gone.ok()?;
    root.write("sys/mounts/transit", &json!({ "type": "transit" }))
        .await?;
    root.write("transit/keys/one", &json!({})).await?;
    host.start().await?;
    Ok(host)
}

/// Waits until what was mirrored of `secret/data/volatile/*` is older than it may be.
async fn grown_stale(host: &Host, token: &str) -> Result<()> {
    let bound = std::time::Duration::from_secs(15);
    eventually(bound, "staleness", async || {
        let reply = host.read("secret/data/volatile/one", token).await;
        match reply.map_err(|failure| failure.to_string())? {
            stale if stale.status != 200 => Ok(()),
            fresh => Err(fresh.text()),
        }
    })
    .await
}
