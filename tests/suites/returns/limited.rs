//! A rate quota at the primary that another client uses up: it is no outage, it is kept to, and everything is settled all
//! the same.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use harness::bao::api::Api;
use harness::clock::Stopwatch;
use harness::daemon::config::Workload;
use harness::host::{Host, Plan, RECOVERY, own_uid};
use harness::tap::Wire;
use harness::{Result, eventually, world};
use serde_json::json;
use tokio::task::JoinHandle;

use crate::{HOLDOVER, approle::AppRole};

/// The primary's rate of requests in all, and the other client's.
const QUOTA: u32 = 5;
const OTHERS: u32 = 20;
/// How long the quota is watched.
const WATCHED: Duration = Duration::from_secs(10);
/// How long settling may take beside the other client.
const BOUND: Duration = Duration::from_secs(120);

const UNMIRRORED: &str = "secret/data/apart/config";
const APART: &str = r#"path "secret/data/apart/config" { capabilities = ["read"] }"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_quota_that_another_client_uses_up_keeps_no_outage_alive() -> Result<()> {
    let (host, app) = host().await?;
    let tap = host.tap()?;
    tap.set(Wire::Cut);
    host.daemon.wait_state("holdover", BOUND).await?;
    let mut tokens = Vec::new();
    for _ in 0..3 {
        tokens.push(host.login("orders").await?.token);
        let login = host.ask(&app.login()).await?;
        tokens.push(login.json_text("/auth/client_token")?);
    }
    // What was used lately is settled ahead, though nobody uses it again.
    let (path, _) = host.secret("orders")?;
    for token in &tokens {
        assert_eq!(host.read(path, token).await?.status, 200);
    }
    let root = host.primary.root();
    let quota = json!({ "rate": QUOTA, "interval": "1s" });
    root.write("sys/quotas/rate-limit/all", &quota).await?;
    let greedy = Greedy::at(&root);
    greedy.until_limited().await?;

    tap.set(Wire::Whole);
    host.daemon.wait_state("following", RECOVERY).await?;
    let (before, watch) = (limited(&host)?, Stopwatch::start());
    while watch.elapsed() < WATCHED {
        let status = host.daemon.status().await?;
        assert!(
            status["outage"].is_null(),
            "{}",
            host.daemon.failure(status)
        );
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    // After each of them nothing is asked for a second, but for what was under way.
    let limited = limited(&host)? - before;
    let bound = 2 * usize::try_from(WATCHED.as_secs())?;
    assert!(limited <= bound, "{limited} answers of 429");
    // The other client is done; the quota stays.
    drop(greedy);
    host.daemon
        .wait_for("all to be settled", BOUND, |status| {
            status["grants"]["unsettled"] == 0
        })
        .await?;
    unlimited(&root).await?;
    for token in &tokens {
        let reply = host.read(UNMIRRORED, token).await?;
        let outcome = (reply.status, reply.source());
        assert_eq!(outcome, (200, Some("primary")), "{}", reply.text());
    }
    Ok(())
}

/// A host behind a wire, and an AppRole that was used on it.
async fn host() -> Result<(Host, AppRole)> {
    let orders = Workload::new("orders", "orders")
        .uid(own_uid())
        .issues("15m", "2h");
    let mut host = Plan::new(HOLDOVER)
        .tapped()
        .workload(orders)
        .prepare()
        .await?;
    let root = host.primary.root();
    root.write(UNMIRRORED, &json!({ "data": { "name": "value" } }))
        .await?;
    world::policy(&root, "apart", APART).await?;
    let role = world::TokenRole {
        name: "orders",
        policies: &["orders", "apart"],
        explicit_max_ttl: None,
    };
    world::token_role(&root, &role).await?;
    host.start().await?;
    let fields = json!({ "token_policies": ["orders", "apart"], "token_ttl": "10m" });
    let app = AppRole::make(&root, "app", &fields).await?;
    app.proven_at(&host.daemon).await?;
    Ok((host, app))
}

/// How many answers of 429 have reached Holdover.
fn limited(host: &Host) -> Result<usize> {
    let said = b"HTTP/1.1 429 ";
    let received = host.tap()?.received();
    let heads = received.iter().flat_map(|bytes| bytes.windows(said.len()));
    Ok(heads.filter(|head| head == said).count())
}

async fn unlimited(root: &Api) -> Result<()> {
    eventually(BOUND, "the quota's end", async || {
        match root.delete("sys/quotas/rate-limit/all").await {
            Ok(answer) if answer.status == 204 => Ok(()),
            Ok(answer) => Err(answer.body.to_string()),
            Err(failure) => Err(failure.to_string()),
        }
    })
    .await
}

/// Another client, which asks for more than the quota allows.
struct Greedy {
    refused: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl Greedy {
    fn at(root: &Api) -> Greedy {
        let (api, refused) = (root.clone(), Arc::new(AtomicUsize::new(0)));
        let counted = refused.clone();
        let task = tokio::spawn(async move {
            let mut pace = tokio::time::interval(Duration::from_secs(1) / OTHERS);
            loop {
                pace.tick().await;
                let answer = api.get("secret/data/shop/shared").await;
                let is_refused = answer.is_ok_and(|answer| answer.status == 429);
                counted.fetch_add(usize::from(is_refused), Ordering::Relaxed);
            }
        });
        Greedy { refused, task }
    }

    /// Waits until it has used the quota up.
    async fn until_limited(&self) -> Result<()> {
        eventually(BOUND, "an answer of 429", async || {
            match self.refused.load(Ordering::Relaxed) {
                0 => Err("none"),
                _ => Ok(()),
            }
        })
        .await
    }
}

impl Drop for Greedy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_used_and_could_not_be_judged_is_settled_ahead_of_its_next_use() -> Result<()> {
    let (host, app) = host().await?;
    let (tap, root) = (host.tap()?, host.primary.root());
    tap.set(Wire::Cut);
    host.daemon.wait_state("holdover", BOUND).await?;
    let login = host.ask(&app.login()).await?;
    let token = login.json_text("/auth/client_token")?;
    // What the login rests on may not be read for now. Nobody remembers that the token was ever used.
    let rule = r#"path "identity/entity/id/+""#;
    assert!(host.policy.contains(rule), "{}", host.policy);
    let without = host.policy.replace(rule, r#"path "nothing""#);
    world::policy(&root, "holdover", &without).await?;
    host.daemon.kill9()?;
    host.daemon.start()?;
    tap.set(Wire::Whole);
    host.daemon.wait_state("following", RECOVERY).await?;
    let reply = host.read(UNMIRRORED, &token).await?;
    assert_eq!(
        (reply.status, reply.source()),
        (503, Some("replica")),
        "{}",
        reply.text()
    );
    assert_eq!(host.daemon.status().await?["grants"]["unsettled"], 1);
    world::policy(&root, "holdover", &host.policy).await?;
    host.daemon
        .wait_for("it to be settled", BOUND, |status| {
            status["grants"]["unsettled"] == 0
        })
        .await?;
    assert_eq!(
        host.read(UNMIRRORED, &token).await?.source(),
        Some("primary")
    );
    Ok(())
}
