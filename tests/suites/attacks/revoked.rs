//! What was acknowledged as revoked here is refused here, in every state, whether or not the primary can be told of it.

use std::time::Duration;

use harness::audit::Audited;
use harness::client::raw::Ask;
use harness::daemon::config::Workload;
use harness::host::{Host, Plan, RECOVERY, own_uid};
use harness::{Result, eventually, world};
use serde_json::{Value, json};

use crate::{HOLDOVER, cut, reopen};

/// How long anything may take that needs no outage to be noticed.
const SOON: Duration = Duration::from_secs(20);

/// By which Holdover tells the primary of a revoked token, and of a revoked lease.
const TOKENS: &str = "auth/token/revoke-accessor";
const LEASES: &str = "sys/leases/revoke";

/// What lets the orders team create tokens.
const CREATES: &str = r#"
path "auth/token/create"  { capabilities = ["update"] }
path "sys/leases/*"       { capabilities = ["update"] }
"#;

/// A host whose Holdover may not revoke anything at the primary.
async fn start(plan: Plan) -> Result<Host> {
    let orders = Workload::new("orders", "orders")
        .uid(own_uid())
        .set("auto_token", false)
        .issues("15m", "2h");
    let plan = plan.wired().workload(orders);
    let mut host = plan.prepare().await?;
    let root = host.primary.root();
    let policy = format!("{}{CREATES}", world::ORDERS_POLICY);
    world::policy(&root, "orders", &policy).await?;
    allow(&host, &[]).await?;
    host.start().await?;
    Ok(host)
}

/// Leaves Holdover these of its rights to revoke.
async fn allow(host: &Host, kept: &[&str]) -> Result<()> {
    let mut policy = host.policy.clone();
    for path in [TOKENS, LEASES] {
        assert!(policy.contains(path), "{policy}");
        if !kept.contains(&path) {
            policy = policy.replace(path, &format!("nothing/{path}"));
        }
    }
    world::policy(&host.primary.root(), "holdover", &policy).await
}

/// A token of the orders team, which Holdover knows.
async fn brought(host: &Host) -> Result<String> {
    let body = json!({ "policies": ["orders"], "ttl": "1h", "no_parent": true });
    let made = host.primary.root().post("auth/token/create", &body).await?;
    let token = made.text("/auth/client_token")?;
    let (path, _) = host.secret("orders")?;
    assert_eq!(host.read(path, &token).await?.status, 200);
    host.until_learned(&token).await?;
    Ok(token)
}

/// What the status lists of revocations, once that is as wanted.
async fn listed(host: &Host, wanted: impl Fn(&[Value]) -> bool) -> Result<Value> {
    let is = |status: &Value| {
        let all = status["revocations"].as_array();
        all.is_some_and(|all| wanted(all))
    };
    let status = host.daemon.wait_for("the revocations", SOON, is).await?;
    Ok(status)
}

/// Whether the primary itself still takes a token.
async fn lives(host: &Host, token: &str) -> Result<bool> {
    let looked = host
        .primary
        .api(token)
        .get("auth/token/lookup-self")
        .await?;
    Ok(looked.status == 200)
}

async fn is_refused(host: &Host, token: &str) -> Result<()> {
    let (path, _) = host.secret("orders")?;
    for path in [
        path,
        "auth/token/lookup-self",
        "secret/data/elsewhere",
        "sys/internal/ui/mounts/secret",
    ] {
        let refused = host.read(path, token).await?;
        assert_eq!(refused.status, 403, "{path}: {}", refused.text());
    }
    // No path here, and one to the primary.
    let odd = host.read(&path.replacen('/', "%2F", 1), token).await?;
    assert!([400, 403].contains(&odd.status), "{}", odd.text());
    for path in ["auth/token/renew-self", "auth/token/create"] {
        let refused = host.write(path, token, &json!({})).await?;
        assert_eq!(refused.status, 403, "{path}: {}", refused.text());
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_gave_itself_up_stays_refused_though_holdover_cannot_tell_the_primary() -> Result<()> {
    let host = start(Plan::new(HOLDOVER)).await?;
    let token = brought(&host).await?;
    cut(&host).await?;
    let child = host
        .write("auth/token/create", &token, &json!({ "ttl": "10m" }))
        .await?;
    let child = child.json_text("/auth/client_token")?;
    let gone = host
        .write("auth/token/revoke-self", &token, &json!({}))
        .await?;
    assert_eq!(gone.status, 204, "{}", gone.text());
    is_refused(&host, &token).await?;
    reopen(&host).await?;
    assert!(lives(&host, &token).await?, "nothing to be shown");
    is_refused(&host, &token).await?;
    is_refused(&host, &child).await?;
    let lacking = |all: &[Value]| all.first().is_some_and(|one| one["held_by"] == "rights");
    let status = listed(&host, lacking).await?;
    let one = &status["revocations"][0];
    assert_eq!(one["path"], TOKENS, "{one}");
    assert!(one["missing_rule"].to_string().contains(TOKENS), "{one}");
    assert!(
        status["findings"].to_string().contains(TOKENS),
        "{}",
        status["findings"]
    );
    host.daemon.kill9()?;
    host.daemon.start()?;
    host.daemon.wait_ready(RECOVERY).await?;
    is_refused(&host, &token).await?;
    cut(&host).await?;
    is_refused(&host, &token).await?;
    reopen(&host).await?;
    is_refused(&host, &token).await?;
    // Nothing is lost: once the rule is there, it is done.
    allow(&host, &[TOKENS]).await?;
    listed(&host, |all| all.is_empty()).await?;
    assert!(!lives(&host, &token).await?);
    is_refused(&host, &token).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_operator_revoked_stays_refused_with_what_hangs_on_it() -> Result<()> {
    let host = start(Plan::new(HOLDOVER)).await?;
    let token = brought(&host).await?;
    let made = host
        .write("auth/token/create", &token, &json!({ "ttl": "10m" }))
        .await?;
    assert_eq!((made.status, made.source()), (200, Some("primary")));
    let child = made.json_text("/auth/client_token")?;
    host.until_learned(&child).await?;
    let accessor = host.read("auth/token/lookup-self", &token).await?;
    let accessor = accessor.json_text("/data/accessor")?;
    let revoke = Ask::post("/v1/grants/revoke", &json!({ "accessor": accessor }));
    assert_eq!(host.daemon.admin(&revoke).await?.status, 200);
    for one in [&token, &child] {
        is_refused(&host, one).await?;
        assert!(lives(&host, one).await?);
    }
    listed(&host, |all| !all.is_empty()).await?;
    cut(&host).await?;
    reopen(&host).await?;
    for one in [&token, &child] {
        is_refused(&host, one).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revocation_that_cannot_be_told_holds_up_no_other_and_its_lease_is_not_served_again()
-> Result<()> {
    let (ttl, max) = (Duration::from_secs(600), Duration::from_secs(3600));
    let host = start(Plan::new(HOLDOVER).database(ttl, max)).await?;
    let (holder, other) = (brought(&host).await?, brought(&host).await?);
    let leased = host.read("database/creds/orders", &holder).await?;
    assert_eq!(
        (leased.status, leased.source()),
        (200, Some("primary")),
        "{}",
        leased.text()
    );
    let lease = leased.json_text("/lease_id")?;
    allow(&host, &[TOKENS]).await?;
    cut(&host).await?;
    let named = json!({ "lease_id": lease });
    let given_up = host.write(LEASES, &holder, &named).await?;
    assert_eq!(
        (given_up.status, given_up.source()),
        (204, Some("replica")),
        "{}",
        given_up.text()
    );
    let gone = host
        .write("auth/token/revoke-self", &other, &json!({}))
        .await?;
    assert_eq!(gone.status, 204);
    reopen(&host).await?;
    // Both were told of; the one that cannot be done comes first.
    let done = eventually(SOON, "the token to be revoked", async || {
        match lives(&host, &other).await {
            Ok(false) => Ok(()),
            lives => Err(format!("{lives:?}")),
        }
    });
    done.await.map_err(|failure| host.daemon.failure(failure))?;
    let one = listed(&host, |all| all.len() == 1 && all[0]["held_by"] == "rights").await?;
    let one = &one["revocations"][0];
    assert_eq!(
        (&one["lease"], &one["path"]),
        (&json!(lease), &json!(LEASES))
    );
    for path in ["sys/leases/lookup", "sys/leases/renew"] {
        let refused = host.write(path, &holder, &named).await?;
        assert_eq!(refused.status, 400, "{path}: {}", refused.text());
    }
    cut(&host).await?;
    let again = host.read("database/creds/orders", &holder).await?;
    assert!(!again.text().contains(&lease), "{}", again.text());
    reopen(&host).await?;
    allow(&host, &[TOKENS, LEASES]).await?;
    listed(&host, |all| all.is_empty()).await.map(drop)
}

/// How often Holdover was refused the revocation of a lease, as the primary's audit log has it.
fn refusals(host: &Host) -> Result<usize> {
    let audited = Audited::read(host.primary.audit_log())?;
    let refused = audited.iter().filter(|one| {
        let by_holdover = one.policies.iter().any(|policy| policy == "holdover");
        one.kind == "response" && one.path == LEASES && by_holdover && one.error.is_some()
    });
    Ok(refused.count())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revoked_lease_that_its_holder_renewed_at_the_primary_stays_refused_past_its_known_end()
-> Result<()> {
    let (ttl, max) = (Duration::from_secs(10), Duration::from_secs(3600));
    let host = start(Plan::new(HOLDOVER).database(ttl, max)).await?;
    let root = host.primary.root();
    let holder = brought(&host).await?;
    let leased = host.read("database/creds/orders", &holder).await?;
    assert_eq!(leased.source(), Some("primary"), "{}", leased.text());
    let lease = leased.json_text("/lease_id")?;
    let named = json!({ "lease_id": lease });
    cut(&host).await?;
    let given_up = host.write(LEASES, &holder, &named).await?;
    let by = (given_up.status, given_up.source());
    assert_eq!(by, (204, Some("replica")), "{}", given_up.text());
    let longer = json!({ "lease_id": lease, "increment": 600 });
    let renewed = host
        .primary
        .api(&holder)
        .put("sys/leases/renew", &longer)
        .await?;
    assert_eq!(renewed.status, 200);
    // It has ended by then, as far as this host knows.
    tokio::time::sleep(ttl).await;
    reopen(&host).await?;
    // Twice, because what is done is not tried again.
    let before = refusals(&host)?;
    let tried = eventually(SOON, "Holdover to try twice", async || {
        match refusals(&host) {
            Ok(now) if now >= before + 2 => Ok(()),
            now => Err(format!("{now:?} after {before}")),
        }
    });
    tried
        .await
        .map_err(|failure| host.daemon.failure(failure))?;
    let is_held = |all: &[Value]| all.len() == 1 && all[0]["held_by"] == "rights";
    listed(&host, is_held).await?;
    cut(&host).await?;
    let refused = host.write("sys/leases/lookup", &holder, &named).await?;
    assert_eq!(refused.status, 400, "{}", refused.text());
    reopen(&host).await?;
    // What is gone there is done, whoever did it.
    let shown = root.put("sys/leases/lookup", &named).await?;
    assert_eq!(shown.status, 200, "it lives at the primary");
    assert!(root.put(LEASES, &named).await?.status < 300);
    listed(&host, |all| all.is_empty()).await.map(drop)
}
