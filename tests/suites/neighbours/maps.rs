//! What clients make grow: each has a bound and says how full it is, and what is over leaves nothing behind.

use harness::client::raw::Ask;
use harness::failure::Context;
use harness::host::{Host, RECOVERY, login_request};
use harness::{Result, eventually};
use serde_json::json;

use crate::rig::{gauge, plan, until};

const GRANTS: &str = "holdover_entries{map=\"grants\"}";
const CREDENTIALS: &str = "holdover_entries{map=\"credentials\"}";

async fn log_in(host: &Host) -> Result<(u16, String, String)> {
    let reply = host.daemon.client().send(&login_request("orders")).await?;
    let token = reply.json_text("/auth/client_token").unwrap_or_default();
    Ok((reply.status, token, reply.text()))
}

async fn revoke(host: &Host, token: &str) -> Result<u16> {
    let ask = Ask::post("/v1/auth/token/revoke-self", &json!({})).token(token)?;
    Ok(host.daemon.client().send(&ask).await?.status)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_workload_has_so_many_grants_and_their_credentials_go_with_them() -> Result<()> {
    let host = plan().set("limits.grants_per_workload", 3).start().await?;
    host.cut().await?;
    let mut tokens = Vec::new();
    for _ in 0..3 {
        let (status, token, text) = log_in(&host).await?;
        assert_eq!(status, 200, "{text}");
        tokens.push(token);
    }
    let (status, _, text) = log_in(&host).await?;
    assert_eq!(status, 429, "{text}");
    assert!(text.contains("limits.grants_per_workload"), "{text}");
    assert_eq!(gauge(&host, GRANTS).await?, 3);
    let first = tokens.pop().context("a token")?;
    assert_eq!(revoke(&host, &first).await?, 204);
    let (status, token, text) = log_in(&host).await?;
    assert_eq!(status, 200, "{text}");
    tokens.push(token);
    host.restore().await?;
    let before = gauge(&host, CREDENTIALS).await?;
    for token in &tokens {
        let look_up = Ask::get("/v1/sys/internal/ui/mounts").token(token)?;
        eventually(RECOVERY, "the primary's answer", async || {
            let reply = host.daemon.client().send(&look_up).await;
            match reply {
                Ok(reply) if (reply.status, reply.source()) == (200, Some("primary")) => Ok(()),
                Ok(reply) => Err(reply.text()),
                Err(failure) => Err(failure.to_string()),
            }
        })
        .await?;
    }
    until(&host, CREDENTIALS, |held| held == before + 3).await?;
    for token in &tokens {
        assert_eq!(revoke(&host, token).await?, 204);
    }
    until(&host, CREDENTIALS, |held| held == before).await?;
    until(&host, GRANTS, |held| held == 0).await.map(drop)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_that_can_grow_says_how_full_it_is() -> Result<()> {
    let host = plan().start().await?;
    let page = host.daemon.admin(&Ask::get("/metrics")).await?.text();
    let values = |name: &str| {
        let lines = page.lines().filter_map(|line| line.strip_prefix(name));
        let split = lines.filter_map(|line| line.rsplit_once(' '));
        let mut all: Vec<(String, u64)> = split
            .filter_map(|(of, value)| Some((of.to_owned(), value.parse().ok()?)))
            .collect();
        all.sort();
        all
    };
    for (name, least) in [("entries", 20), ("memory_bytes", 2)] {
        let has = values(&format!("holdover_{name}{{"));
        let most = values(&format!("holdover_{name}_bound{{"));
        assert!(has.len() >= least, "{has:?}");
        assert_eq!(has.len(), most.len());
        for ((of, has), (bounded, most)) in has.iter().zip(&most) {
            assert_eq!(of, bounded);
            assert!(has <= most, "{of}: {has} of {most}");
        }
    }
    let documented = include_str!("../../../docs/operations.md");
    for (of, _) in values("holdover_entries{") {
        let name = of.trim_start_matches("map=").trim_matches(['"', '}']);
        assert!(
            documented.contains(&format!("`{name}`")),
            "{name} is documented"
        );
    }
    Ok(())
}
