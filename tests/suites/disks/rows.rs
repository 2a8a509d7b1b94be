//! Rows of the replica that are damaged while the daemon is stopped: it starts, serves what does not
//! depend on them, names them, and is whole again once the primary answers.

use std::path::{Path, PathBuf};
use std::time::Duration;

use harness::Result;
use harness::client::raw::{Ask, Reply};
use harness::daemon::config::Workload;
use harness::eventually;
use harness::failure::Context;
use harness::host::{Host, Plan, READY, login_request, own_uid};
use rusqlite::Connection;
use serde_json::{Value, json};

use super::HOLDOVER;

/// How long a stop may take.
const STOP: Duration = Duration::from_secs(15);

fn replica(host: &Host) -> PathBuf {
    host.daemon.folder().join("state/replica.db")
}

pub(super) async fn start() -> Result<Host> {
    let orders = Workload::new("orders", "orders").uid(own_uid());
    let plan = Plan::new(HOLDOVER).workload(orders.issues("15m", "2h"));
    plan.set("failover.authority_interval", "1s").start().await
}

/// Tokens that Holdover has learned, which may read the secrets of `orders`.
pub(super) async fn learned<const N: usize>(host: &Host) -> Result<[String; N]> {
    let mut tokens = Vec::new();
    for _ in 0..N {
        tokens.push(learned_by(host, "orders").await?);
    }
    tokens.try_into().ok().context("as many tokens")
}

/// One that may by this policy.
async fn learned_by(host: &Host, policy: &str) -> Result<String> {
    let (path, _) = host.secret("orders")?;
    let wanted = json!({"policies": [policy], "ttl": "1h"});
    let root = host.primary.root();
    let made = root.post("auth/token/create", &wanted).await?.ok()?;
    let token = made["auth"]["client_token"].as_str().context("a token")?;
    assert_eq!(host.read(path, token).await?.status, 200);
    host.until_learned(token).await?;
    Ok(token.to_owned())
}

/// What the mirrored policies take.
async fn policies(host: &Host) -> Result<u64> {
    let page = host.daemon.admin(&Ask::get("/metrics")).await?.text();
    let mut lines = page.lines();
    let bytes = lines.find_map(|line| line.strip_prefix("holdover_memory_bytes{of=\"policies\"}"));
    Ok(bytes.context("the policies")?.trim().parse()?)
}

/// One more policy by which the secrets of `orders` may be read, once it is mirrored: the last that was stored.
async fn another_policy(host: &Host, name: &str) -> Result<()> {
    let before = policies(host).await?;
    let (path, _) = host.secret("orders")?;
    let text = json!({"policy": format!("path \"{path}\" {{ capabilities = [\"read\"] }}")});
    let root = host.primary.root();
    root.write(&format!("sys/policies/acl/{name}"), &text)
        .await?;
    eventually(READY, "the policy", async || match policies(host).await {
        Ok(bytes) if bytes > before => Ok(()),
        Ok(bytes) => Err(bytes.to_string()),
        Err(failure) => Err(failure.to_string()),
    })
    .await
}

/// Stops the daemon, does this to its file, and starts it again.
pub(super) async fn damaged(host: &Host, damage: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    host.daemon.terminate(STOP).await?;
    damage(&replica(host))?;
    host.daemon.start()?;
    host.daemon
        .wait_for("its status", READY, |_| true)
        .await
        .map(drop)
}

pub(super) async fn with_rows(host: &Host, sql: &str) -> Result<()> {
    damaged(host, |path| {
        let connection = Connection::open(path).context("the replica")?;
        connection.execute_batch(sql).context(sql)
    })
    .await
}

pub(super) fn reasons(status: &Value) -> String {
    status["reasons"].to_string()
}

/// Waits until nothing is wrong any more.
pub(super) async fn until_whole(host: &Host) -> Result<()> {
    let status = host.daemon.wait_ready(READY).await?;
    assert!(!reasons(&status).contains("damaged"), "{status}");
    Ok(())
}

pub(super) async fn statuses(host: &Host, tokens: &[String]) -> Result<Vec<u16>> {
    let (path, _) = host.secret("orders")?;
    let mut statuses = Vec::new();
    for token in tokens {
        statuses.push(host.read(path, token).await?.status);
    }
    statuses.sort_unstable();
    Ok(statuses)
}

pub(super) async fn login(host: &Host) -> Result<Reply> {
    host.ask(&login_request("orders")).await
}

#[tokio::test]
async fn rows_that_do_not_open_cost_what_they_are_of_and_are_read_anew_once_the_primary_answers()
-> Result<()> {
    let host = start().await?;
    let tokens: [String; 2] = learned(&host).await?;
    host.cut().await?;
    let workload_and_a_grant = "UPDATE row SET payload = zeroblob(40) WHERE tab = 1 OR tab = 5 AND id = \
                                (SELECT max(id) FROM row WHERE tab = 5)";
    with_rows(&host, workload_and_a_grant).await?;
    // Twice: no start makes good what was damaged.
    for _ in 0..2 {
        let status = host.daemon.wait_state("holdover", READY).await?;
        let reasons = reasons(&status);
        assert!(
            reasons.contains("authority of workloads (1 do not open: orders)"),
            "{reasons}"
        );
        assert!(
            reasons.contains("tokens of clients (1 do not open"),
            "{reasons}"
        );
        assert_eq!(statuses(&host, &tokens).await?, [200, 503]);
        let refused = login(&host).await?;
        assert_eq!(refused.status, 503, "{}", refused.text());
        assert!(
            refused.text().contains("the authority of workload orders"),
            "{}",
            refused.text()
        );
        host.daemon.terminate(STOP).await?;
        host.daemon.start()?;
    }
    host.restore().await?;
    until_whole(&host).await?;
    assert_eq!(statuses(&host, &tokens).await?, [200, 200]);
    for token in &tokens {
        host.until_learned(token).await?;
    }
    // Not only as long as the primary helps.
    host.cut().await?;
    assert_eq!(statuses(&host, &tokens).await?, [200, 200]);
    assert_eq!(login(&host).await?.status, 200);
    Ok(())
}

#[tokio::test]
async fn where_a_record_of_a_token_is_missing_no_token_of_before_is_served_and_new_ones_are()
-> Result<()> {
    let host = start().await?;
    let tokens: [String; 2] = learned(&host).await?;
    host.cut().await?;
    let before = host.login("orders").await?.token;
    with_rows(
        &host,
        "DELETE FROM row WHERE tab = 5 AND id = (SELECT min(id) FROM row WHERE tab = 5)",
    )
    .await?;
    let status = host.daemon.wait_state("holdover", READY).await?;
    let told = "tokens of clients (rows are missing or were replaced)";
    assert!(reasons(&status).contains(told), "{status}");
    assert_eq!(statuses(&host, &tokens).await?, [503, 503]);
    let (path, _) = host.secret("orders")?;
    assert_eq!(host.read(path, &before).await?.status, 503);
    let after = host.login("orders").await?.token;
    assert_eq!(host.read(path, &after).await?.status, 200);
    host.restore().await?;
    until_whole(&host).await?;
    assert_eq!(statuses(&host, &tokens).await?, [200, 200]);
    assert_eq!(host.read(path, &after).await?.status, 200);
    // Of that one nobody knows anything: its holder logs in again.
    assert_eq!(host.read(path, &before).await?.status, 403);
    Ok(())
}

#[tokio::test]
async fn with_all_that_decides_damaged_while_the_primary_answers_it_is_whole_within_moments()
-> Result<()> {
    let host = start().await?;
    let [token] = learned(&host).await?;
    with_rows(
        &host,
        "UPDATE row SET payload = zeroblob(40) WHERE tab NOT IN (7, 11, 13, 17, 18)",
    )
    .await?;
    let (path, _) = host.secret("orders")?;
    assert_eq!(host.read(path, &token).await?.status, 200);
    until_whole(&host).await?;
    assert_eq!(host.read(path, &token).await?.status, 200);
    host.until_learned(&token).await?;
    host.cut().await?;
    assert_eq!(host.read(path, &token).await?.status, 200);
    assert_eq!(login(&host).await?.status, 200);
    Ok(())
}

/// The names of all are written behind the one that is new.
const THE_NEW_POLICY: &str = "UPDATE row SET payload = zeroblob(40) WHERE tab = 14 AND version = \
                              (SELECT version FROM row WHERE tab = 14 ORDER BY version DESC LIMIT 1 OFFSET 1)";

#[tokio::test]
async fn a_policy_that_does_not_open_costs_the_tokens_that_name_it_and_is_read_anew() -> Result<()>
{
    let host = start().await?;
    another_policy(&host, "another").await?;
    let by_orders = learned_by(&host, "orders").await?;
    let by_another = learned_by(&host, "another").await?;
    let (path, _) = host.secret("orders")?;
    let both = [by_orders.clone(), by_another.clone()];
    host.cut().await?;
    assert_eq!(statuses(&host, &both).await?, [200, 200]);
    with_rows(&host, THE_NEW_POLICY).await?;
    for _ in 0..2 {
        let status = host.daemon.wait_state("holdover", READY).await?;
        let told = "policies (1 do not open: another)";
        assert!(reasons(&status).contains(told), "{status}");
        assert_eq!(host.read(path, &by_orders).await?.status, 200);
        assert_eq!(login(&host).await?.status, 200);
        let refused = host.read(path, &by_another).await?;
        assert_eq!(refused.status, 503, "{}", refused.text());
        let told = "policy another in the replica: damaged";
        assert!(refused.text().contains(told), "{}", refused.text());
        host.daemon.terminate(STOP).await?;
        host.daemon.start()?;
    }
    host.restore().await?;
    until_whole(&host).await?;
    host.cut().await?;
    assert_eq!(statuses(&host, &both).await?, [200, 200]);
    Ok(())
}

#[tokio::test]
async fn names_of_policies_that_do_not_open_cost_nothing() -> Result<()> {
    let host = start().await?;
    let [token] = learned(&host).await?;
    host.cut().await?;
    with_rows(
        &host,
        "UPDATE row SET payload = zeroblob(40) WHERE tab = 14 AND version = \
         (SELECT max(version) FROM row WHERE tab = 14)",
    )
    .await?;
    let status = host.daemon.wait_state("holdover", READY).await?;
    assert!(
        reasons(&status).contains("policies (1 do not open)"),
        "{status}"
    );
    assert_eq!(statuses(&host, &[token]).await?, [200]);
    assert_eq!(login(&host).await?.status, 200);
    host.restore().await?;
    until_whole(&host).await
}
