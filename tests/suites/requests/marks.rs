//! A client can always tell a replica's answer from the primary's, and how old it is.

use std::time::Duration;

use harness::client::raw::Reply;
use harness::host::Host;
use harness::{Result, eventually};
use serde_json::{Value, json};

use crate::{plan, start};

const BOUND: Duration = Duration::from_secs(10);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_replica_answer_says_that_it_is_one_and_how_old() -> Result<()> {
    let host = start(plan()).await?;
    let token = host.login("orders").await?.token;
    let forwarded = host.read("secret/data/shop/shared", &token).await?;
    assert_eq!(forwarded.source(), Some("primary"));
    for absent in ["x-holdover-age", "x-holdover-outage"] {
        assert_eq!(forwarded.header(absent), None, "{absent}");
    }
    let outage = host.cut().await?["outage"].clone();
    for path in [
        "secret/data/shop/shared",
        "secret/metadata/shop/orders?list=true",
        "auth/token/lookup-self",
        "sys/internal/ui/mounts/secret/shop",
    ] {
        let reply = host.read(path, &token).await?;
        assert_eq!(reply.status, 200, "{path}: {}", reply.text());
        marked(&reply, &outage, path);
        let warnings = reply.json()?["warnings"].clone();
        assert_eq!(
            warnings.as_array().map(Vec::len),
            Some(1),
            "{path}: {warnings}"
        );
    }
    let refused = host.read("secret/data/elsewhere/one", &token).await?;
    assert_eq!(refused.status, 503);
    marked(&refused, &outage, "a refusal");
    ages(&host, &token).await
}

/// The age counts from the value's last verification, in whole seconds, and grows.
async fn ages(host: &Host, token: &str) -> Result<()> {
    let first = age(&host.read("secret/data/shop/shared", token).await?);
    assert!(first < 30, "{first} s old right after the cutover");
    eventually(BOUND, "a greater age", async || {
        let reply = host.read("secret/data/shop/shared", token).await;
        match age(&reply.map_err(|failure| failure.to_string())?) {
            grown if grown >= first + 2 => Ok(()),
            same => Err(format!("{same} s")),
        }
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_remains_is_counted_anew_for_every_answer() -> Result<()> {
    let host = start(plan().database(Duration::from_secs(600), Duration::from_secs(3600))).await?;
    let token = host.login("orders").await?.token;
    let lease = host.read("database/creds/orders", &token).await?.json()?;
    assert_eq!(lease["lease_duration"], 600);
    host.cut().await?;
    let grant = host.login("orders").await?;
    let remaining = async || -> Result<[u64; 3]> {
        let lease = host.read("database/creds/orders", &token).await?.json()?;
        let renewed = renew(&host, &lease["lease_id"], &token).await?;
        assert!(renewed <= number(&lease["lease_duration"]), "a lease grew");
        let look = host.read("auth/token/lookup-self", &grant.token).await?;
        let ttl = number(&look.json()?["data"]["ttl"]);
        Ok([number(&lease["lease_duration"]), renewed, ttl])
    };
    let first = remaining().await?;
    assert!(
        first.iter().all(|left| (1..=900).contains(left)),
        "{first:?}"
    );
    eventually(BOUND, "less of everything", async || {
        let later = remaining().await?;
        match first.iter().zip(&later).all(|(was, is)| is + 2 <= *was) {
            true => Ok(()),
            false => Err(harness::Failure::new(format!("{first:?}, then {later:?}"))),
        }
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn health_and_its_like_are_answered_and_say_holdover() -> Result<()> {
    let host = start(plan()).await?;
    let status = host.cut().await?;
    let health = host.read("sys/health", "").await?;
    assert_eq!(health.status, 200, "{}", health.text());
    let body = health.json()?;
    assert_eq!(body["holdover"]["state"], "holdover");
    assert_eq!(body["holdover"]["outage"], status["outage"]["id"], "{body}");
    assert!(body["holdover"]["since"].is_string(), "{body}");
    for name in [
        "initialized",
        "sealed",
        "standby",
        "server_time_utc",
        "version",
        "cluster_id",
    ] {
        assert!(body.get(name).is_some(), "health lacks {name}: {body}");
    }
    for path in ["sys/seal-status", "sys/leader"] {
        let reply = host.read(path, "").await?;
        assert_eq!(
            (reply.status, reply.source()),
            (200, Some("replica")),
            "{path}"
        );
    }
    Ok(())
}

/// Renewing in an outage gives what remains, and a warning.
async fn renew(host: &Host, lease: &Value, token: &str) -> Result<u64> {
    let body = json!({ "lease_id": lease, "increment": 3600 });
    let reply = host.write("sys/leases/renew", token, &body).await?;
    assert_eq!(reply.status, 200, "{}", reply.text());
    let body = reply.json()?;
    assert!(body["warnings"].is_array(), "{body}");
    Ok(number(&body["lease_duration"]))
}

fn marked(reply: &Reply, outage: &Value, what: &str) {
    assert_eq!(reply.source(), Some("replica"), "{what}");
    assert_eq!(
        reply.header("x-holdover-outage"),
        outage["id"].as_str(),
        "{what}"
    );
    let json = reply.header("content-type");
    assert_eq!(json, Some("application/json"), "{what}");
    assert_eq!(reply.header("cache-control"), Some("no-store"), "{what}");
    age(reply);
}

fn age(reply: &Reply) -> u64 {
    let age = reply.header("x-holdover-age").unwrap_or_default();
    let seconds = age.parse();
    seconds.unwrap_or_else(|_| {
        panic!(
            "X-Holdover-Age: {age:?} on {}: {}",
            reply.status,
            reply.text()
        )
    })
}

fn number(value: &Value) -> u64 {
    value
        .as_u64()
        .unwrap_or_else(|| panic!("{value} is no number"))
}
