//! Logins that only the primary could judge lock nobody out.

use std::time::Duration;

use harness::client::raw::Ask;
use harness::daemon::config::Workload;
use harness::host::{Host, Plan, own_uid};
use harness::{Context, Result, eventually};
use serde_json::json;

use crate::HOLDOVER;

const BOUND: Duration = Duration::from_secs(20);

fn login(role_id: &str, secret_id: &str) -> Ask {
    let body = json!({ "role_id": role_id, "secret_id": secret_id });
    Ask::post("/v1/auth/approle/login", &body)
}

/// An AppRole whose secret id the primary accepted through the socket, and Holdover has verified.
async fn proven(host: &Host) -> Result<(String, String)> {
    let root = host.primary.root();
    let role = json!({ "token_policies": ["orders"] });
    root.write("auth/approle/role/ci", &role).await?;
    let role_id = root.get("auth/approle/role/ci/role-id").await?;
    let role_id = role_id.text("/data/role_id")?;
    let made = root
        .post("auth/approle/role/ci/secret-id", &json!({}))
        .await?;
    let secret_id = made.text("/data/secret_id")?;
    let online = host.ask(&login(&role_id, &secret_id)).await?;
    assert_eq!(online.status, 200, "{}", online.text());
    eventually(BOUND, "the secret id to be verified", async || {
        let status = host.daemon.status().await.map_err(|f| f.to_string())?;
        match status["approle"][0]["secret_ids"] == 1 {
            true => Ok(()),
            false => Err(status["approle"].to_string()),
        }
    })
    .await?;
    Ok((role_id, secret_id))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn forty_logins_that_only_the_primary_could_judge_lock_nobody_out() -> Result<()> {
    let orders = Workload::new("orders", "orders")
        .uid(own_uid())
        .issues("15m", "2h");
    let host = Plan::new(HOLDOVER).workload(orders).start().await?;
    let (role_id, secret_id) = proven(&host).await.context("the AppRole")?;
    host.cut().await?;
    for nr in 0..40 {
        let guess = login(&role_id, &format!("00000000-0000-0000-0000-{nr:012}"));
        let reply = host.ask(&guess).await?;
        assert_eq!(reply.status, 503, "{nr}: {}", reply.text());
    }
    let attested = host.login("orders").await?;
    assert_eq!(attested.source, "replica");
    let right = host.ask(&login(&role_id, &secret_id)).await?;
    let outcome = (right.status, right.source());
    assert_eq!(outcome, (200, Some("replica")), "{}", right.text());
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_secret_id_is_no_guess_for_whom_it_was_accepted_from_over_a_restart_too() -> Result<()> {
    let orders = Workload::new("orders", "orders")
        .uid(own_uid())
        .issues("15m", "2h");
    let host = Plan::new(HOLDOVER).workload(orders).start().await?;
    let (role_id, secret_id) = proven(&host).await.context("the AppRole")?;
    host.cut().await?;
    host.daemon.kill9()?;
    host.daemon.start()?;
    host.daemon.wait_state("holdover", BOUND).await?;
    for nr in 0..8 {
        let guess = login(&role_id, &format!("00000000-0000-0000-0000-{nr:012}"));
        let reply = host.ask(&guess).await?;
        assert_eq!(reply.status, 503, "{nr}: {}", reply.text());
    }
    let right = host.ask(&login(&role_id, &secret_id)).await?;
    let outcome = (right.status, right.source());
    assert_eq!(outcome, (200, Some("replica")), "{}", right.text());
    Ok(())
}
