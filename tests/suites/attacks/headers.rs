//! Of a client's headers the primary, and a proxy before it, gets those that it reads, and those that the operator names.

use std::time::Duration;

use harness::client::raw::Ask;
use harness::host::{Host, Plan};
use harness::{Result, eventually};
use toml::Value;

use crate::HOLDOVER;

/// Headers by which clients have lied to what stands before a vault, or to what it is built on.
const STRAY: [&str; 8] = [
    "X-Forwarded-For",
    "X-Original-URL",
    "X-Rewrite-URL",
    "X-HTTP-Method-Override",
    "X-Tenant",
    "Cookie",
    "Range",
    "Via",
];

/// What the API has.
const READ: [&str; 6] = [
    "X-Vault-Request",
    "X-Vault-Index",
    "X-Vault-Inconsistent",
    "X-Vault-Of-Its-Own",
    "If-None-Match",
    "Traceparent",
];

/// The head of a request that arrived with `mark` in its target, in lower case.
async fn arrived(host: &Host, mark: &str, names: &[&str]) -> Result<String> {
    let mut ask = Ask::get(&format!("/v1/sys/health?{mark}"));
    for name in names {
        ask = ask.header(name, "stray")?;
    }
    let reply = host.ask(&ask).await?;
    assert_eq!(reply.source(), Some("primary"), "{}", reply.text());
    let sent = host.tap()?.sent();
    let texts = sent.iter().map(|bytes| String::from_utf8_lossy(bytes));
    let heads: Vec<String> = texts
        .flat_map(|text| {
            text.split("\r\n\r\n")
                .map(str::to_lowercase)
                .collect::<Vec<_>>()
        })
        .collect();
    let head = heads.into_iter().find(|head| head.contains(mark));
    Ok(head.unwrap_or_else(|| panic!("{mark} did not arrive")))
}

fn has(head: &str, name: &str) -> bool {
    head.contains(&format!("\r\n{}: ", name.to_lowercase()))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_nobody_named_does_not_reach_the_primary_and_is_counted() -> Result<()> {
    let host = Plan::new(HOLDOVER).tapped().start().await?;
    let head = arrived(&host, "mark=stray", &STRAY).await?;
    for name in STRAY {
        assert!(!has(&head, name), "{name} in {head}");
    }
    let head = arrived(&host, "mark=read", &READ).await?;
    for name in READ {
        assert!(has(&head, name), "{name} not in {head}");
    }
    let metrics = host.daemon.admin(&Ask::get("/metrics")).await?.text();
    for name in STRAY {
        let name = name.to_lowercase();
        let line = format!("holdover_headers_dropped_total{{name=\"{name}\"}} 1");
        assert!(metrics.contains(&line), "{line}");
    }
    // Clients make up as many as they like: the table of names does not grow with them.
    for round in 0..10 {
        let names: Vec<String> = (0..20)
            .map(|nr| format!("X-Made-Up-{round}-{nr}"))
            .collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        arrived(&host, &format!("mark=round-{round}"), &names).await?;
    }
    let metrics = host.daemon.admin(&Ask::get("/metrics")).await?.text();
    let counted = metrics.matches("holdover_headers_dropped_total{").count();
    assert!(counted <= 17, "{counted} names: no room for other users");
    host.reconfigure(|config| {
        let named = Value::Array(vec!["X-Tenant".into()]);
        config.set("listener.forward_headers", named)
    })?;
    let mut round = 0;
    eventually(
        Duration::from_secs(15),
        "the named header to pass",
        async || {
            round += 1;
            let head = arrived(&host, &format!("mark=named-{round}"), &STRAY).await;
            let head = head.map_err(|failure| failure.to_string())?;
            let passed: Vec<&str> = STRAY.into_iter().filter(|name| has(&head, name)).collect();
            match passed.as_slice() {
                ["X-Tenant"] => Ok(()),
                others => Err(format!("{others:?}")),
            }
        },
    )
    .await
}
