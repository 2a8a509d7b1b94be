//! Coverage, live: a host that is a plain proxy is told what an outage would cost, takes what `config suggest` printed,
//! and serves the same commands of the same clients without its primary.

#[path = "coverage/kept.rs"]
mod kept;
#[path = "coverage/stranger.rs"]
mod stranger;
#[path = "coverage/visitor.rs"]
mod visitor;

use std::io::Write;
use std::time::Duration;

use harness::clock::Stopwatch;
use harness::daemon::config::Workload;
use harness::host::{Host, Plan, READY, own_uid};
use harness::{Context, Result, world};
use serde_json::{Value, json};

use crate::visitor::Visitor;

const HOLDOVER: &str = env!("CARGO_BIN_EXE_holdover-under-test");
const VISITOR: &str = env!("CARGO_BIN_EXE_holdover-test-client");
const BOUND: Duration = Duration::from_secs(15);

/// No mirror at all, and an entry for our own processes.
fn plain_proxy() -> Plan {
    let orders = Workload::new("orders", "orders").uid(own_uid());
    Plan::new(HOLDOVER)
        .database(Duration::from_secs(600), Duration::from_secs(3600))
        .unmirrored()
        .workload(orders.auto_token().issues("15m", "2h"))
}

/// Runs a command of Holdover's to its success; gives what it printed.
async fn printed(host: &Host, args: &[&str]) -> Result<String> {
    let said = host.daemon.cli(args, BOUND).await?;
    said.success()
        .context(format!("holdover {}", args.join(" ")))
}

async fn coverage(host: &Host, more: &[&str]) -> Result<Value> {
    let args = [&["coverage", "--json"], more].concat();
    Ok(serde_json::from_str(&printed(host, &args).await?)?)
}

/// The verdict and the reason of everything that was asked of `path`.
fn verdicts(report: &Value, path: &str) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let rows = report["rows"].as_array().into_iter().flatten();
    rows.filter(|row| row["path"] == path)
        .map(|row| (text(&row["verdict"]), text(&row["reason"])))
        .collect()
}

fn verdict(report: &Value, path: &str) -> String {
    let all = verdicts(report, path);
    assert_eq!(all.len(), 1, "{path}: {report}");
    all[0].0.clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_suggest_printed_makes_the_same_commands_work_without_the_primary() -> Result<()> {
    let host = plain_proxy().start().await?;
    let visitor = Visitor::at(&host)?;
    let before = visitor.calls().await?;
    let body = json!({ "data": { "user": "shop" } });
    let root = host.primary.root_token();
    let wrote = host.write("secret/data/other", root, &body).await?;
    assert_eq!(wrote.status, 200, "{}", wrote.text());
    let denied = host.read("secret/data/shop/billing/item-0000", "").await?;
    assert_eq!(denied.status, 403, "{}", denied.text());
    let login = host.login("orders").await?;
    let ended = host
        .write("auth/token/revoke-self", &login.token, &json!({}))
        .await?;
    assert_eq!(ended.status, 204, "{}", ended.text());
    told_what_would_fail(&host).await?;

    apply_what_is_suggested(&host).await?;
    let following = visitor.calls().await?;
    assert_eq!(following.secrets, before.secrets);
    assert!(verdicts(&coverage(&host, &[]).await?, "database/creds/orders").len() == 2);

    host.cut().await?;
    let watch = Stopwatch::start();
    let after = visitor.calls().await?;
    assert_eq!(after.secrets, before.secrets);
    let (postgres, login) = (host.postgres()?, &after.login);
    assert!(postgres.can_login(&login.0, &login.1).await?);
    let since = format!("{}s", watch.elapsed().as_secs() + 1);
    let report = coverage(&host, &["--since", &since]).await?;
    assert_eq!(report["percent"], 100.0, "{report}");
    assert!(report["requests"].as_u64() >= Some(6), "{report}");
    let screen = printed(&host, &["coverage", "--since", &since]).await?;
    assert!(screen.contains("(100 %)"), "{screen}");
    Ok(())
}

/// Each verdict that the calls so far must have, on the API and on the screen.
async fn told_what_would_fail(host: &Host) -> Result<()> {
    let report = coverage(host, &["--since", "1h"]).await?;
    for (path, wanted) in [
        ("secret/data/shop/orders/item-0000", "not_mirrored"),
        ("secret/data/shop/shared", "not_mirrored"),
        ("secret/metadata/shop/orders/", "not_mirrored"),
        ("database/creds/orders", "not_mirrored"),
        ("secret/data/other", "write"),
        ("secret/data/shop/billing/item-0000", "denied"),
        ("auth/token/lookup-self", "served"),
        ("auth/holdover/login", "served"),
        ("auth/token/revoke-self", "served"),
    ] {
        assert_eq!(verdict(&report, path), wanted, "{path}: {report}");
    }
    let (requests, served) = (report["requests"].as_u64(), report["served"].as_u64());
    assert!(served < requests && served > Some(0), "{report}");
    let screen = printed(host, &["coverage", "--workload", "orders"]).await?;
    for part in [
        "database/creds/orders",
        "no mirror covers",
        "config suggest",
    ] {
        assert!(screen.contains(part), "{part}:\n{screen}");
    }
    for secret in &host.world.secrets {
        let value = secret.data["data"]["password"].as_str().unwrap_or_default();
        assert!(!report.to_string().contains(value), "a value is in it");
    }
    Ok(())
}

/// Grants the policy as it was printed, appends the lines as they were printed, and waits for the mirrors.
async fn apply_what_is_suggested(host: &Host) -> Result<()> {
    let lines = printed(host, &["config", "suggest"]).await?;
    for path in ["\"secret/data/shop/orders/*\"", "\"database/creds/orders\""] {
        let wanted = format!("\n[[mirror]]\npath = {path}\n");
        assert!(lines.contains(&wanted), "{wanted}{lines}");
    }
    assert!(
        lines.contains("# - write secret/data/other, 1 request"),
        "{lines}"
    );
    assert!(!lines.contains("\"secret/data/*\""), "{lines}");
    let policy = printed(host, &["config", "suggest", "--policy"]).await?;
    let whole = format!("{}\n{policy}", host.policy);
    world::policy(&host.primary.root(), "holdover", &whole).await?;
    let mut file = std::fs::OpenOptions::new()
        .append(true)
        .open(host.daemon.config_file())?;
    file.write_all(format!("\n{lines}").as_bytes())?;
    printed(host, &["config", "check"]).await?;
    host.daemon.reload()?;
    host.daemon
        .wait_for("every mirror to be complete", READY, |status| {
            let mirrors = status["mirrors"].as_array().map_or(&[][..], Vec::as_slice);
            mirrors.len() >= 3 && mirrors.iter().all(|mirror| mirror["age_seconds"].is_u64())
        })
        .await?;
    host.daemon.wait_ready(READY).await?;
    let again = printed(host, &["config", "suggest"]).await?;
    assert!(again.contains("# No line is missing."), "{again}");
    let policy = printed(host, &["config", "suggest", "--policy"]).await?;
    assert_eq!(policy, "", "nothing is left to grant");
    Ok(())
}
