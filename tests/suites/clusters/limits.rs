//! What a node does for clients, and what it refuses, whatever its place in the cluster.

use harness::bao::api::{Answer, Api};
use harness::{Context, Failure, Result, eventually};
use serde_json::{Map, Value, json};

use crate::stage::{BOUND, SECRET, Stage, errors};

const RENEW: &str = "auth/token/renew-self";

/// A token, with what it was asked to be.
async fn token(root: &Api, body: &Value) -> Result<String> {
    let minted = root.post("auth/token/create", body).await?;
    minted.text("/auth/client_token")
}

/// By how much a renewal moves the index that the active node has applied; and the answer.
async fn renewal(stage: &Stage, token: &str) -> Result<(u64, Answer)> {
    let active = stage.active().await?;
    let applied = async || {
        let applied = active.leader().await?["raft_applied_index"].as_u64();
        applied.context("an applied index")
    };
    let before = applied().await?;
    let answer = active.api(token).put(RENEW, &json!({})).await?;
    Ok((applied().await? - before, answer))
}

pub(crate) async fn a_refused_renewal_writes_nothing(stage: &Stage) -> Result<()> {
    let root = stage.cluster.root().await?;
    for fixed in [
        json!({ "policies": ["orders"], "renewable": false, "ttl": "1h" }),
        json!({ "policies": ["orders"], "type": "batch", "ttl": "1h" }),
    ] {
        let (writes, answer) = renewal(stage, &token(&root, &fixed).await?).await?;
        assert_eq!(
            (writes, answer.status),
            (0, 400),
            "{fixed}: {}",
            answer.body
        );
    }
    for kind in [json!({ "ttl": "1h" }), json!({ "period": "1h" })] {
        let (writes, answer) = renewal(stage, &token(&root, &kind).await?).await?;
        assert_eq!((writes, answer.status), (1, 200), "{kind}");
    }
    Ok(())
}

pub(crate) async fn a_standby_does_for_a_client_what_the_active_does(stage: &Stage) -> Result<()> {
    let (root, standby) = (stage.cluster.root().await?, stage.standby().await?);
    let token = token(&root, &json!({ "policies": ["orders"], "ttl": "1h" })).await?;
    let client = standby.api(&token);
    client
        .put(RENEW, &json!({}))
        .await?
        .ok()
        .context("renewal")?;
    let wrapped = client
        .clone()
        .with("x-vault-wrap-ttl", "1m")
        .get(SECRET)
        .await?;
    let wrapping = wrapped.text("/wrap_info/token")?;
    // Until it has that token, a standby says that there is none.
    stage.cluster.wait_caught_up().await?;
    let unwrapped = client
        .as_token(&wrapping)
        .post("sys/wrapping/unwrap", &json!({}))
        .await?;
    unwrapped.ok().context("unwrapping")?;
    let help = standby.root().get("secret/data/x?help=1").await?;
    assert_eq!(help.status, 200);
    Ok(())
}

pub(crate) async fn a_namespace_is_named_once_and_not_to_health(stage: &Stage) -> Result<()> {
    let root = stage.cluster.root().await?;
    root.write("sys/namespaces/team", &json!({})).await?;
    let inside = root.in_namespace("team");
    for path in ["sys/health", "sys/init"] {
        assert_eq!(inside.get(path).await?.status, 400, "{path}");
    }
    let both = eventually(BOUND, "the namespace", async || {
        match inside.get("sys/mounts").await? {
            Answer { status: 200, .. } => inside.get("team/sys/mounts").await,
            other => Err(Failure::new(other.body)),
        }
    });
    assert_eq!(both.await?.status, 404);
    Ok(())
}

pub(crate) async fn a_quota_says_when_to_come_back(stage: &Stage) -> Result<()> {
    let root = stage.cluster.root().await?;
    let headers = json!({ "enable_rate_limit_response_headers": true });
    root.write("sys/quotas/config", &headers).await?;
    let quota = json!({ "path": "secret/", "rate": 1, "interval": "1h" });
    root.write("sys/quotas/rate-limit/one", &quota).await?;
    let limited = eventually(BOUND, "the quota", async || {
        match root.get(SECRET).await? {
            limited if limited.status == 429 => Ok(limited),
            other => Err(Failure::new(other.body)),
        }
    })
    .await?;
    let wait = limited.header("retry-after").context("Retry-After")?;
    assert!(wait.parse::<u64>()? > 0, "{wait}");
    assert!(!errors(&limited).is_empty());
    root.delete("sys/quotas/rate-limit/one").await?.ok()?;
    stage.cluster.wait_for_read(SECRET).await
}

pub(crate) async fn a_body_of_too_many_keys_is_refused(stage: &Stage) -> Result<()> {
    let keys = (0..30_000).map(|nr| (format!("k{nr}"), Value::from(nr)));
    let body = json!({ "data": keys.collect::<Map<_, _>>() });
    let answer = stage.cluster.root().await?.post(SECRET, &body).await?;
    assert_eq!(answer.status, 400);
    assert!(errors(&answer).contains("exceed"), "{}", answer.body);
    Ok(())
}

pub(crate) async fn a_node_that_cannot_audit_says_that_it_is_well(stage: &Stage) -> Result<()> {
    let active = stage.active().await?;
    active.fill_audit(true)?;
    let refused = eventually(BOUND, "a full audit log", async || {
        match active.root().get(SECRET).await? {
            refused if refused.status == 500 => Ok(()),
            other => Err(Failure::new(other.body)),
        }
    });
    refused.await?;
    assert_eq!(active.api("").get("sys/health").await?.status, 200);
    assert_eq!(active.api("").get("sys/leader").await?.status, 200);
    active.fill_audit(false)?;
    stage.cluster.wait_for_read(SECRET).await
}
