//! Writes by those who may only read: none of them takes a mirrored key from an outage, however it ends. One by somebody who may
//! write does, because the primary may have carried it out.

use std::time::Duration;

use harness::failure::Context;
use harness::host::{FAILOVER, Host};
use harness::{Result, world};
use serde_json::json;
use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;

use crate::rig::{SOON, gauge, plan, until};

const DOUBTED: &str = "holdover_entries{map=\"keys_doubted\"}";
const FORWARDS: &str = "holdover_entries{map=\"forwards\"}";

/// A body that is sent on before it is whole.
const ANNOUNCED: usize = 100_000;

/// Connections over which something was sent, and nothing is awaited.
struct Sent(Vec<UnixStream>);

impl Sent {
    async fn send(&mut self, host: &Host, says: &str) -> Result<()> {
        let mut stream = UnixStream::connect(host.daemon.socket()).await?;
        stream.write_all(says.as_bytes()).await?;
        self.0.push(stream);
        Ok(())
    }
}

fn head(path: &str, token: &str, length: usize) -> String {
    format!(
        "PUT /v1/{path} HTTP/1.1\r\nHost: h\r\nX-Vault-Token: {token}\r\nContent-Length: {length}\r\n\r\n"
    )
}

fn write(path: &str, token: &str) -> String {
    let body = r#"{"data":{"password":"another"}}"#;
    head(path, token, body.len()) + body
}

/// Most of a body, its end missing.
fn half(path: &str, token: &str) -> String {
    head(path, token, ANNOUNCED) + r#"{"data":{"a":""# + &"x".repeat(ANNOUNCED * 7 / 10)
}

/// A token that Holdover knows.
async fn known(host: &Host, role: &str, reads: &str) -> Result<String> {
    let token = world::token(&host.primary.root(), role).await?;
    host.until_status(200, reads, &token, SOON).await?;
    host.until_learned(&token).await?;
    Ok(token)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_may_only_read_takes_no_key_from_an_outage() -> Result<()> {
    let host = plan().start().await?;
    let (orders, _) = host.secret("orders")?;
    let (billing, _) = host.secret("billing")?;
    let mut others = host.world.below("billing").map(|secret| &secret.path);
    let begun = others.find(|path| *path != billing);
    let begun = begun.context("another secret")?.clone();
    let reader = known(&host, "billing", billing).await?;
    let root = host.primary.root();
    let policy = r#"path "secret/data/shop/billing/*" { capabilities = ["read", "update"] }"#;
    let fields = json!({ "policy": policy });
    root.post("sys/policies/acl/writer", &fields).await?;
    let fields =
        json!({ "allowed_policies": ["writer"], "orphan": true, "token_type": "default-service" });
    root.post("auth/token/roles/writer", &fields).await?;
    let writer = known(&host, "writer", billing).await?;
    until(&host, DOUBTED, |doubted| doubted == 0).await?;
    // Whoever sends and goes, while the primary answers.
    let before = gauge(&host, FORWARDS).await?;
    let mut gone = Sent(Vec::new());
    for _ in 0..20 {
        gone.send(&host, &write(orders, &reader)).await?;
        gone.send(&host, &half(&begun, &writer)).await?;
    }
    drop(gone);
    until(&host, FORWARDS, |on_their_way| on_their_way <= before).await?;
    // What is on its way as the primary hangs: over connections that were there, for over a new one nothing would be sent.
    let read = || host.read(orders, "");
    tokio::try_join!(read(), read(), read(), read(), read(), read())?;
    host.primary.stop()?;
    let mut sent = Sent(Vec::new());
    sent.send(&host, &write(billing, &writer)).await?;
    for _ in 0..8 {
        sent.send(&host, &write(orders, &reader)).await?;
        sent.send(&host, &half(&begun, &writer)).await?;
    }
    host.daemon.wait_state("holdover", FAILOVER).await?;
    for (path, token) in [(orders, ""), (&begun, reader.as_str())] {
        let reply = host.read(path, token).await?;
        let told = (reply.status, reply.source());
        assert_eq!(told, (200, Some("replica")), "{}", reply.text());
    }
    let reply = host
        .until_status(503, billing, &reader, Duration::from_secs(5))
        .await?;
    assert!(reply.text().contains("superseded"), "{}", reply.text());
    assert_eq!(gauge(&host, DOUBTED).await?, 1);
    host.primary.cont()
}
