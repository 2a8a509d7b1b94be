//! Writes in an outage: refused, and nothing is applied; where nobody can know, the answer says exactly that.

use harness::Result;
use harness::client::raw::Ask;
use harness::tap::Wire;
use serde_json::json;

use crate::{plan, start};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_in_an_outage_is_refused_and_never_applied() -> Result<()> {
    let host = start(plan()).await?;
    let token = host.login("orders").await?.token;
    host.cut().await?;
    let body = json!({ "data": { "password": "must not arrive" } });
    for (method, path) in [
        ("POST", "secret/data/elsewhere/two"),
        ("PUT", "secret/data/elsewhere/one"),
        ("PATCH", "secret/data/elsewhere/one"),
        ("DELETE", "secret/data/elsewhere/one"),
        ("POST", "secret/data/shop/orders/item-0000"),
    ] {
        let mut ask = Ask::new(method, &format!("/v1/{path}"))?.token(&token)?;
        ask.body = body.to_string().into();
        let reply = host.ask(&ask).await?;
        assert_eq!(
            (reply.status, reply.source()),
            (503, Some("replica")),
            "{method} {path}"
        );
    }
    host.restore().await?;
    let root = host.primary.root();
    assert_eq!(root.get("secret/data/elsewhere/two").await?.status, 404);
    let kept = root.get("secret/data/elsewhere/one").await?.data()?;
    assert_eq!(kept["data"]["password"], "a first value");
    assert_eq!(kept["metadata"]["version"], 1);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_of_unknown_outcome_is_504_and_says_so() -> Result<()> {
    let host = start(plan().wired().set("failover.probe_interval", "60s")).await?;
    let (tap, token) = (host.tap()?, host.login("orders").await?.token);
    let body = json!({ "data": { "password": "may have arrived" } });
    assert_eq!(
        host.write("secret/data/elsewhere/two", &token, &body)
            .await?
            .status,
        200
    );
    tap.set(Wire::Unanswered);
    let reply = host
        .write("secret/data/elsewhere/three", &token, &body)
        .await?;
    tap.set(Wire::Whole);
    assert_eq!(
        (reply.status, reply.source()),
        (504, Some("replica")),
        "{}",
        reply.text()
    );
    assert!(reply.text().contains("unknown"), "{}", reply.text());
    // It had arrived, in fact: that is why nothing else could be said.
    assert!(tap.broken() > 0);
    let root = host.primary.root();
    assert_eq!(root.get("secret/data/elsewhere/three").await?.status, 200);
    Ok(())
}
