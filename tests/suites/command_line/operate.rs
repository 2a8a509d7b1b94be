//! Looking at a host, and taking away what it gave.

use harness::Result;
use harness::daemon::config::Workload;
use harness::host::{Host, Plan, own_uid};
use serde_json::Value;

use crate::{BOUND, DONE, FAILED, HOLDOVER, NOT_READY, ends};

async fn host() -> Result<Host> {
    let orders = Workload::new("orders", "orders").uid(own_uid());
    Plan::new(HOLDOVER)
        .workload(orders.issues("15m", "2h"))
        .start()
        .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn status_says_what_is_and_what_would_be() -> Result<()> {
    let host = host().await?;
    let status = json(&host, &["status", "--json"]).await?;
    assert_eq!(status["state"], "following");
    assert_eq!(
        (&status["ready"], &status["reasons"]),
        (&Value::Bool(true), &Value::Array(vec![]))
    );
    assert_eq!(status["outage"], Value::Null);
    let mirror = &status["mirrors"][0];
    assert_eq!(mirror["path"], "secret/data/shop/*");
    assert_eq!(
        mirror["count"].as_u64(),
        u64::try_from(host.world.secrets.len()).ok()
    );
    assert!(
        mirror["age_seconds"].is_u64() && mirror["errors"] == 0,
        "{mirror}"
    );
    assert_eq!(mirror["max_staleness_seconds"], 86_400);
    assert_eq!(status["addresses"][0]["healthy"], true);
    assert!(
        status["autonomy_seconds"]
            .as_u64()
            .is_some_and(|left| left > 40_000),
        "{status}"
    );
    assert!(
        status["autonomy_bound_by"]
            .as_str()
            .is_some_and(|by| !by.is_empty())
    );
    for name in ["since", "grants", "pools", "parity", "drill"] {
        assert!(status.get(name).is_some(), "status lacks {name}");
    }
    host.cut().await?;
    let status = json(&host, &["status", "--json"]).await?;
    assert_eq!(status["state"], "holdover");
    for name in ["id", "started_at", "cause"] {
        assert!(
            status["outage"][name].is_string(),
            "the outage lacks {name}: {status}"
        );
    }
    assert_eq!(status["addresses"][0]["healthy"], false);
    let screen = ends(&host.daemon, &["status"], DONE).await?.stdout;
    assert!(
        screen.contains("holdover") && screen.contains(status["outage"]["id"].as_str().unwrap())
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_that_could_not_take_over_is_not_ready_and_says_why() -> Result<()> {
    let host = host().await?;
    // A role that Holdover needs is gone: nothing could be issued for this workload.
    host.primary
        .root()
        .delete("auth/token/roles/orders")
        .await?
        .ok()?;
    host.daemon
        .wait_for("not to be ready", harness::host::READY, |s| {
            s["ready"] == false
        })
        .await?;
    let said = ends(&host.daemon, &["status"], NOT_READY).await?;
    assert!(
        said.stdout.contains("orders"),
        "no reason is given:\n{}",
        said.stdout
    );
    let status: Value = serde_json::from_str(
        &ends(&host.daemon, &["status", "--json"], NOT_READY)
            .await?
            .stdout,
    )?;
    assert!(
        status["reasons"]
            .as_array()
            .is_some_and(|reasons| !reasons.is_empty())
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_grant_is_listed_and_revoked_by_accessor_workload_or_uid() -> Result<()> {
    let host = host().await?;
    let following = host.login("orders").await?;
    revokes(
        &host,
        &following.accessor,
        &following.token,
        &[&following.accessor],
    )
    .await?;
    // It was the primary's: it is gone there too.
    let body = serde_json::json!({ "accessor": following.accessor });
    let root = host.primary.root();
    harness::eventually(BOUND, "the revocation at the primary", async || match root
        .post("auth/token/lookup-accessor", &body)
        .await
    {
        Ok(answer) if answer.status >= 400 => Ok(()),
        Ok(answer) => Err(answer.body.to_string()),
        Err(failure) => Err(failure.to_string()),
    })
    .await?;
    host.cut().await?;
    let uid = own_uid().to_string();
    for by in [&[][..], &["--workload", "orders"], &["--uid", &uid]] {
        let login = host.login("orders").await?;
        let by = if by.is_empty() {
            &[login.accessor.as_str()][..]
        } else {
            by
        };
        revokes(&host, &login.accessor, &login.token, by).await?;
    }
    host.daemon.kill9()?;
    host.daemon.start()?;
    host.daemon.wait_state("holdover", BOUND).await?;
    assert_eq!(host.daemon.status().await?["grants"]["replica"], 0);
    ends(
        &host.daemon,
        &["grants", "revoke", "no-such-accessor"],
        FAILED,
    )
    .await?;
    Ok(())
}

/// Lists the grant, revokes it so, and sees it refused and gone.
async fn revokes(host: &Host, accessor: &str, token: &str, by: &[&str]) -> Result<()> {
    let (path, _) = host.secret("orders")?;
    assert_eq!(host.read(path, token).await?.status, 200);
    let listed = ends(&host.daemon, &["grants", "list"], DONE).await?.stdout;
    assert!(listed.contains(accessor), "{listed}");
    let listed = json(host, &["grants", "list", "--json"]).await?.to_string();
    assert!(listed.contains(accessor) && !listed.contains(token));
    let revoke: Vec<&str> = ["grants", "revoke"].iter().chain(by).copied().collect();
    ends(&host.daemon, &revoke, DONE).await?;
    let refused = host.read(path, token).await?;
    assert_eq!(refused.status, 403, "{by:?}: {}", refused.text());
    let listed = json(host, &["grants", "list", "--json"]).await?.to_string();
    assert!(!listed.contains(accessor), "revoked and listed: {listed}");
    Ok(())
}

async fn json(host: &Host, args: &[&str]) -> Result<Value> {
    Ok(serde_json::from_str(
        &ends(&host.daemon, args, DONE).await?.stdout,
    )?)
}
