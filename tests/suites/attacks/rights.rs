//! What Holdover's policy lacks is told before an outage shows it.

use std::collections::BTreeSet;
use std::time::Duration;

use harness::daemon::config::Workload;
use harness::host::{Host, Plan, READY, own_uid};
use harness::{Context, Result, world};
use serde_json::Value;

use crate::HOLDOVER;

const COMMAND: Duration = Duration::from_secs(20);

/// The policy without the rules whose path begins so.
fn without(policy: &str, beginning: &str) -> String {
    let begins = format!("path \"{beginning}");
    let blocks = policy.split("\n\n");
    let kept = blocks.filter(|block| !block.lines().any(|line| line.starts_with(&begins)));
    kept.collect::<Vec<_>>().join("\n\n")
}

fn paths(policy: &str) -> BTreeSet<String> {
    let lines = policy
        .lines()
        .filter_map(|line| line.strip_prefix("path \""));
    let paths = lines.filter_map(|line| line.split('"').next());
    paths.map(str::to_owned).collect()
}

async fn missing(host: &Host) -> Result<String> {
    let args = ["config", "policy", "--missing"];
    let said = host.daemon.cli(&args, COMMAND).await?;
    said.success()
}

fn texts(told: &Value) -> Vec<String> {
    let all = told.as_array().into_iter().flatten();
    all.filter_map(Value::as_str).map(str::to_owned).collect()
}

/// Whether one of these texts names a path of these rules, and the rule.
fn names(told: &Value, rule: &str) -> bool {
    let named = format!("{rule:?}");
    texts(told).iter().any(|text| text.contains(&named))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rules_that_approle_logins_need_in_an_outage_are_reasons_until_they_are_granted()
-> Result<()> {
    let orders = Workload::new("orders", "orders")
        .uid(own_uid())
        .issues("15m", "2h");
    let host = Plan::new(HOLDOVER).workload(orders).prepare().await?;
    let root = host.primary.root();
    let lacking = without(&host.policy, "auth/approle/role/");
    let lacking = without(&lacking, "auth/token/revoke-accessor");
    world::policy(&root, "holdover", &lacking).await?;
    host.daemon.start()?;
    let wanted: BTreeSet<_> = &paths(&host.policy) - &paths(&lacking);
    assert_eq!(wanted.len(), 5, "{wanted:?}");
    let told = host
        .daemon
        .wait_for("the missing rules", READY, |status| {
            wanted
                .iter()
                .all(|rule| names(&status["reasons"], rule) != names(&status["findings"], rule))
        })
        .await?;
    assert_eq!(told["ready"], false);
    for rule in &wanted {
        let is_reason = rule.starts_with("auth/approle/");
        assert_eq!(names(&told["reasons"], rule), is_reason, "{told:#}");
    }
    let printed = missing(&host).await?;
    assert_eq!(paths(&printed), wanted, "{printed}");
    world::policy(&root, "holdover", &format!("{lacking}\n{printed}")).await?;
    assert_eq!(missing(&host).await?, "");
    let told = host.daemon.wait_ready(READY).await?;
    let told = [&told["reasons"], &told["findings"]].map(texts).concat();
    let refused = told.iter().find(|text| text.contains("refuses Holdover"));
    assert_eq!(refused, None);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_that_is_refused_is_told_with_its_path_until_it_is_answered() -> Result<()> {
    let orders = Workload::new("orders", "orders")
        .uid(own_uid())
        .issues("15m", "2h");
    let host = Plan::new(HOLDOVER).workload(orders).start().await?;
    let root = host.primary.root();
    let denied = "auth/token/roles/orders";
    let lacking = without(&host.policy, denied);
    world::policy(&root, "holdover", &lacking).await?;
    let told = host
        .daemon
        .wait_for("the refused request", READY, |status| {
            names(&status["reasons"], denied)
        })
        .await?;
    let texts = texts(&told["reasons"]);
    let text = texts.iter().find(|text| text.contains("refuses Holdover"));
    let text = text.context("a reason")?;
    assert!(
        text.contains("read") && text.contains("config policy --missing"),
        "{text}"
    );
    world::policy(&root, "holdover", &host.policy).await?;
    host.daemon.wait_ready(READY).await?;
    // Where nobody can be asked, that is said, and it is not taken for nothing.
    host.primary.kill9()?;
    let args = ["config", "policy", "--missing"];
    let said = host.daemon.cli(&args, COMMAND).await?;
    assert_eq!(said.code, Some(1));
    assert!(
        said.stderr.contains("could not be asked what is lacking"),
        "{}",
        said.stderr
    );
    host.daemon.kill9()?;
    let said = host.daemon.cli(&args, COMMAND).await?;
    assert_eq!((said.code, said.stdout.as_str()), (Some(1), ""));
    Ok(())
}
