//! Nothing is decided by policies, mounts or identities that the primary has not shown for longer than
//! `failover.policy_max_age`: `ready` says so before, and only what hangs on them is left to the primary.

use std::time::Duration;

use harness::bao::api::Api;
use harness::client::raw::Reply;
use harness::daemon::config::Workload;
use harness::host::{Host, Plan, RECOVERY, own_uid};
use harness::{Context, Result, world};
use serde_json::{Value, json};

use crate::HOLDOVER;

/// For what takes a few verifications and the age that they may have.
const SOON: Duration = Duration::from_secs(30);

const MAX: &str = "3s";

fn plan() -> Plan {
    let orders = Workload::new("orders", "orders").uid(own_uid());
    Plan::new(HOLDOVER)
        .workload(orders.issues("15m", "2h"))
        .set("failover.authority_interval", "500ms")
        .set("failover.policy_max_age", MAX)
}

/// Holdover's policy, of which the rule for `path` is about nothing.
fn without(policy: &str, path: &str) -> Result<String> {
    let rule = format!("path \"{path}\"");
    let less = policy.replace(&rule, &format!("path \"nowhere/{path}\""));
    match less == *policy {
        true => Err(harness::Failure::new(format!(
            "no rule for {path}: {policy}"
        ))),
        false => Ok(less),
    }
}

/// A token that Holdover knows, and that reads.
async fn known_token(host: &Host, token: String, path: &str) -> Result<String> {
    assert_eq!(host.read(path, &token).await?.status, 200);
    host.until_learned(&token).await?;
    Ok(token)
}

/// Waits until `ready` is false for a reason that names `what`, its age and the bound.
async fn told(host: &Host, what: &str) -> Result<Value> {
    let begins = format!("{what}: last verified ");
    let status = host
        .daemon
        .wait_for("the reason", SOON, |status| {
            let reasons = status["reasons"].as_array().into_iter().flatten();
            let mut reasons = reasons.filter_map(Value::as_str);
            reasons.any(|reason| reason.starts_with(&begins))
        })
        .await?;
    assert_eq!(status["ready"], false, "{status}");
    assert!(
        status["reasons"]
            .to_string()
            .contains("failover.policy_max_age is 3s"),
        "{status}"
    );
    Ok(status)
}

fn undecided(reply: &Reply, what: &str) {
    assert_eq!((reply.status, reply.source()), (503, Some("replica")));
    let text = format!("{what}: not verified within {MAX} before the outage");
    assert!(reply.text().contains(&text), "{}", reply.text());
}

fn served(reply: &Reply) {
    let by = (reply.status, reply.source());
    assert_eq!(by, (200, Some("replica")), "{}", reply.text());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn policies_that_may_not_be_read_any_more_decide_nothing_until_they_may_again() -> Result<()>
{
    let host = plan().start().await?;
    let root = host.primary.root();
    let (path, _) = host.secret("orders")?;
    let token = known_token(&host, world::token(&root, "orders").await?, path).await?;
    let less = without(&host.policy, "sys/policies/detailed/acl")?;
    world::policy(&root, "holdover", &less).await?;
    let status = told(&host, "policies").await?;
    assert_eq!(status["autonomy_seconds"], 0, "{status}");
    assert_eq!(status["autonomy_bound_by"], "authority orders", "{status}");
    assert_eq!(host.read(path, &token).await?.source(), Some("primary"));

    host.cut().await?;
    undecided(&host.read(path, &token).await?, "policies");
    undecided(
        &host.read("auth/token/lookup-self", &token).await?,
        "policies",
    );
    let login = host.ask(&harness::host::login_request("orders")).await?;
    undecided(&login, "policies");
    assert_eq!(host.read("sys/health", "").await?.status, 200);
    // The same after a restart.
    host.daemon.kill9()?;
    host.daemon.start()?;
    host.daemon.wait_state("holdover", SOON).await?;
    undecided(&host.read(path, &token).await?, "policies");

    host.primary.start_again().await?;
    world::policy(&root, "holdover", &host.policy).await?;
    host.daemon.wait_state("following", RECOVERY).await?;
    host.daemon.wait_ready(SOON).await?;
    host.cut().await?;
    // Longer than the bound: within an outage nothing grows older than it was when that began.
    tokio::time::sleep(Duration::from_secs(4)).await;
    served(&host.read(path, &token).await?);
    let status = host.daemon.status().await?;
    assert_eq!(status["ready"], true, "{status}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mounts_that_may_not_be_read_any_more_name_no_place() -> Result<()> {
    let host = plan().start().await?;
    let root = host.primary.root();
    let (path, _) = host.secret("orders")?;
    let token = known_token(&host, world::token(&root, "orders").await?, path).await?;
    let less = without(&host.policy, "sys/mounts")?;
    world::policy(&root, "holdover", &less).await?;
    let status = told(&host, "mounts").await?;
    assert!(
        !status["reasons"]
            .to_string()
            .contains("policies: last verified"),
        "policies can be read: {status}"
    );
    host.cut().await?;
    undecided(&host.read(path, &token).await?, "mounts");
    undecided(
        &host.read("sys/internal/ui/mounts", &token).await?,
        "mounts",
    );
    served(&host.read("auth/token/lookup-self", &token).await?);
    Ok(())
}

/// A token of an entity that has the policy `orders`; the entity.
async fn of_entity(root: &Api) -> Result<(String, String)> {
    let role = json!({
        "orphan": true, "renewable": true, "token_type": "default-service",
        "allowed_policies": ["default"], "allowed_entity_aliases": ["ann"],
    });
    root.write("auth/token/roles/people", &role).await?;
    let entity = json!({ "name": "ann", "policies": ["orders"] });
    let entity = root.post("identity/entity", &entity).await?;
    let entity = entity.text("/data/id")?;
    let mounts = root.get("sys/auth").await?.data()?;
    let accessor = mounts["token/"]["accessor"].as_str().context("a mount")?;
    let alias = json!({ "name": "ann", "canonical_id": entity, "mount_accessor": accessor });
    root.write("identity/entity-alias", &alias).await?;
    let asked = json!({ "entity_alias": "ann", "ttl": "1h" });
    let made = root.post("auth/token/create/people", &asked).await?;
    Ok((made.text("/auth/client_token")?, entity))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_identity_that_may_not_be_read_any_more_is_no_matter_of_others() -> Result<()> {
    let host = plan().start().await?;
    let root = host.primary.root();
    let (path, _) = host.secret("orders")?;
    let other = known_token(&host, world::token(&root, "orders").await?, path).await?;
    let (token, entity) = of_entity(&root).await?;
    let token = known_token(&host, token, path).await?;
    host.daemon.wait_ready(SOON).await?;
    let less = without(&host.policy, "identity/entity/id/+")?;
    world::policy(&root, "holdover", &less).await?;
    let what = format!("identity of entity {entity}");
    let status = told(&host, &what).await?;
    assert_ne!(status["autonomy_seconds"], 0, "{status}");
    host.cut().await?;
    undecided(&host.read(path, &token).await?, &what);
    served(&host.read(path, &other).await?);
    let login = host.login("orders").await?;
    served(&host.read(path, &login.token).await?);
    Ok(())
}

/// A primary that shows policies one by one, and one of them not at all.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_policy_that_may_not_be_read_any_more_is_no_matter_of_others() -> Result<()> {
    let mut host = plan().prepare().await?;
    let root = host.primary.root();
    let hidden = "path \"secret/data/shop/orders/*\" { capabilities = [\"read\"] }";
    world::policy(&root, "hidden", hidden).await?;
    // It has read the policy by then.
    host.start().await?;
    let (path, _) = host.secret("orders")?;
    let other = known_token(&host, world::token(&root, "orders").await?, path).await?;
    let body = json!({ "policies": ["hidden"], "ttl": "1h" });
    let token = root.post("auth/token/create", &body).await?;
    let token = known_token(&host, token.text("/auth/client_token")?, path).await?;
    let denied = without(&host.policy, "sys/policies/detailed/acl")?
        + "path \"sys/policies/acl\" { capabilities = [\"list\"] }\n\
           path \"sys/policies/acl/*\" { capabilities = [\"read\"] }\n\
           path \"sys/policies/acl/hidden\" { capabilities = [\"deny\"] }\n";
    world::policy(&root, "holdover", &denied).await?;
    let status = told(&host, "policy hidden").await?;
    assert_ne!(status["autonomy_seconds"], 0, "{status}");
    let findings = status["findings"].to_string();
    assert!(findings.contains("sys/policies/acl/hidden"), "{findings}");
    host.cut().await?;
    undecided(&host.read(path, &token).await?, "policy hidden");
    served(&host.read(path, &other).await?);
    let login = host.login("orders").await?;
    served(&host.read(path, &login.token).await?);
    Ok(())
}
