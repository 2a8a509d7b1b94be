//! The replica's answers are the primary's, but for what time and honesty change.

use harness::Result;
use harness::client::raw::{Ask, Reply};
use harness::host::Host;
use serde_json::{Value, json};

use crate::{plan, start};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_modelled_read_is_answered_as_the_primary_answered_it() -> Result<()> {
    let host = start(plan()).await?;
    let token = host.login("orders").await?.token;
    let asks = asks(&host, &token)?;
    let mut before = Vec::new();
    for ask in &asks {
        let reply = host.ask(ask).await?;
        assert_eq!(reply.source(), Some("primary"), "{}", ask.target);
        before.push(reply);
    }
    host.cut().await?;
    let mut different = Vec::new();
    for (ask, primary) in asks.iter().zip(&before) {
        let replica = host.ask(ask).await?;
        assert_eq!(replica.source(), Some("replica"), "{}", ask.target);
        let (was, is) = (essence(primary), essence(&replica));
        if was != is {
            let (method, target) = (&ask.method, &ask.target);
            different.push(format!(
                "{method} {target}\n  primary {was}\n  replica {is}"
            ));
        }
    }
    assert!(different.is_empty(), "{}", different.join("\n"));
    Ok(())
}

/// Reads, lists and look-ups that were mirrored or are modelled, allowed ones and refused ones.
fn asks(host: &Host, token: &str) -> Result<Vec<Ask>> {
    let (billing, _) = host.secret("billing")?;
    let get = [
        "secret/data/shop/orders/item-0000",
        "secret/data/shop/orders/twice",
        "secret/data/shop/orders/twice?version=2",
        "secret/data/shop/orders/twice?version=0",
        "secret/data/shop/orders/deleted",
        "secret/data/shop/orders/deep/er/one",
        "secret/data/shop/orders/no-such",
        "secret/data/shop/billing/public",
        "secret/data/shop/shared",
        "secret/metadata/shop/orders/item-0000",
        "secret/metadata/shop/orders/twice",
        "secret/metadata/shop/orders/no-such",
        "secret/metadata/shop/orders?list=true",
        "secret/metadata/shop/orders/?list=1",
        "secret/metadata/shop/orders/deep/?list=true",
        "secret/metadata/shop/orders/no-such/?list=true",
        "secret/metadata/shop/billing/?list=true",
        "auth/token/lookup-self",
        "sys/internal/ui/mounts/secret/shop/orders/item-0000",
        "sys/internal/ui/mounts/no-such-mount/x",
        "sys/internal/ui/mounts",
        "sys/seal-status",
        billing,
    ];
    let mut asks: Vec<Ask> = get
        .into_iter()
        .map(|path| Ask::get(&format!("/v1/{path}")))
        .collect();
    asks.push(Ask::new("LIST", "/v1/secret/metadata/shop/orders")?);
    asks.push(Ask::new("BREW", "/v1/secret/data/shop/orders/item-0000")?);
    asks.push(Ask::get("/v1/secret/metadata/shop/orders?list=maybe"));
    asks.push(Ask::get("/elsewhere"));
    let paths = json!({ "paths": [
        "secret/data/shop/orders/item-0000", billing, "secret/metadata/shop/orders/", "database/creds/orders",
        "auth/token/create/orders", "sys/mounts", "secret/data/elsewhere/one", "auth/token/lookup-self",
    ]});
    asks.push(Ask::post("/v1/sys/capabilities-self", &paths));
    asks.push(Ask::post("/v1/sys/capabilities-self", &json!({})));
    asks.into_iter().map(|ask| ask.token(token)).collect()
}

/// Status and body without what differs from answer to answer.
fn essence(reply: &Reply) -> Value {
    let mut body = reply.json().unwrap_or(Value::Null);
    if let Some(fields) = body.as_object_mut() {
        // Replica answers carry a warning, or an object where there is no envelope for one.
        let own = ["request_id", "warnings", "holdover"];
        fields.retain(|name, _| !own.contains(&name.as_str()));
    }
    if let Some(data) = body.get_mut("data").and_then(Value::as_object_mut) {
        // What was learned from a login is known to the second, and some seconds have passed.
        for learned in ["ttl", "expire_time"] {
            if let Some(value) = data.get_mut(learned) {
                *value = Value::Bool(!value.is_null());
            }
        }
    }
    json!({ "status": reply.status, "body": body })
}
