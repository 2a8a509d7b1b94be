//! What Holdover's policy lacks is told before an outage shows it.

use std::collections::BTreeSet;
use std::time::Duration;

use harness::client::raw::Ask;
use harness::daemon::config::Workload;
use harness::host::{Host, Plan, READY, own_uid};
use harness::{Context, Result, world};
use serde_json::{Value, json};

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

/// An AppRole of `orders`; its login.
async fn approle(host: &Host) -> Result<Ask> {
    let root = host.primary.root();
    let role = json!({ "token_policies": ["orders"], "token_ttl": "10m" });
    root.write("auth/approle/role/ci", &role).await?;
    let role_id = root.get("auth/approle/role/ci/role-id").await?;
    let secret_id = root
        .post("auth/approle/role/ci/secret-id", &json!({}))
        .await?;
    let body = json!({
        "role_id": role_id.text("/data/role_id")?,
        "secret_id": secret_id.text("/data/secret_id")?,
    });
    Ok(Ask::post("/v1/auth/approle/login", &body))
}

/// Whoever grants what is in use grants enough, and is asked for no more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rules_that_approle_logins_need_are_reasons_for_the_roles_in_use_until_these_are_granted()
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
    // Nobody logs in by AppRole yet.
    let told = host
        .daemon
        .wait_for("the missing rules", READY, |status| {
            let told = wanted.iter().all(|rule| names(&status["findings"], rule));
            told && status["ready"] == true
        })
        .await?;
    assert!(
        !texts(&told["reasons"])
            .iter()
            .any(|text| text.contains("refuses"))
    );
    let printed = missing(&host).await?;
    assert_eq!(paths(&printed), wanted, "{printed}");

    let login = approle(&host).await?;
    assert_eq!(host.ask(&login).await?.status, 200);
    let of_role = "auth/approle/role/+";
    let told = host
        .daemon
        .wait_for("the refused role", READY, |status| {
            names(&status["reasons"], of_role)
        })
        .await?;
    assert_eq!(told["ready"], false);
    let narrow = printed.replace(of_role, "auth/approle/role/ci");
    world::policy(&root, "holdover", &format!("{lacking}\n{narrow}")).await?;
    // The one before is not asked about again so soon.
    let login = approle(&host).await?;
    assert_eq!(host.ask(&login).await?.status, 200);
    let proven = |status: &Value| status["approle"][0]["secret_ids"] == 1;
    host.daemon
        .wait_for("a proven secret id", READY, proven)
        .await?;
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
