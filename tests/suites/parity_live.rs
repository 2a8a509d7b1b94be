//! Continuous parity, live: under a busy and mixed load replica and primary agree in everything; one planted
//! disagreement is caught, holds through an outage and a restart, and ends when its cause does.

#[path = "parity_live/load.rs"]
mod load;
#[path = "parity_live/others.rs"]
mod others;

use std::time::Duration;

use harness::balancer::Balancer;
use harness::cluster::Cluster;
use harness::daemon::config::Workload;
use harness::failure::Context;
use harness::host::{FAILOVER, Host, Plan, own_uid};
use harness::{Failure, Result, eventually, world};
use serde_json::{Value, json};

use others::Others;

const HOLDOVER: &str = env!("CARGO_BIN_EXE_holdover-under-test");

/// How long the load goes on: long enough for values to change between cycles of the mirror.
const BUSY: Duration = Duration::from_secs(6);

/// For what takes a few cycles.
const SOON: Duration = Duration::from_secs(30);

/// A policy that denies one path, and says so where the wire can find it.
const PLANTED: &str = r#"
path "secret/data/shop/billing/*" { capabilities = ["read"] }
path "secret/data/shop/billing/item-0000" { capabilities = ["deny"] } # planted
"#;
const HIDDEN: &str = "secret/data/shop/billing/item-0000";
const SHOWN: &str = "secret/data/shop/billing/item-0001";

fn plan() -> Plan {
    let orders = Workload::new("orders", "orders").uid(own_uid());
    Plan::new(HOLDOVER)
        .workload(orders.issues("15m", "2h"))
        .set("failover.authority_interval", "1s")
        .set("parity.sample", 1.0)
}

async fn parity<P>(host: &Host<P>) -> Result<Value> {
    Ok(host.daemon.status().await?["parity"].clone())
}

fn count(parity: &Value, name: &str) -> u64 {
    parity[name].as_u64().unwrap_or(u64::MAX)
}

/// Waits until every disagreement has settled.
async fn settled<P>(host: &Host<P>) -> Result<Value> {
    let bound = Duration::from_secs(60);
    eventually(bound, "disagreements to settle", async || {
        let parity = parity(host).await.map_err(|failure| failure.to_string())?;
        match count(&parity, "pending") {
            0 => Ok(parity),
            _ => Err(parity.to_string()),
        }
    })
    .await
    .map_err(|failure| host.daemon.failure(failure))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_busy_mixed_load_is_judged_as_the_primary_judged_it() -> Result<()> {
    let host = plan().secrets(20).start().await?;
    let asked = load::busy(&host, BUSY).await?;
    let parity = settled(&host).await?;
    eprintln!("{asked} requests: {parity}");
    assert_eq!(count(&parity, "mismatches"), 0, "{parity}");
    assert!(count(&parity, "checked") >= 2000, "{parity}");
    assert!(count(&parity, "not_covered") > 0, "{parity}");
    let lost = count(&parity, "unsettled") + count(&parity, "dropped");
    assert!(lost * 20 <= count(&parity, "checked"), "{parity}");
    let status = host.daemon.status().await?;
    assert_eq!(status["ready"], true, "{status}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_busy_load_is_judged_as_three_nodes_behind_a_balancer_judged_it() -> Result<()> {
    let cluster = Cluster::raft(3).await?;
    let balancer = Balancer::round_robin(&cluster.socket_addresses()).await?;
    let host = plan().secrets(20);
    let host = host.start_over(cluster, &[balancer.address()]).await?;
    // Whichever node is asked: what it has not heard of yet is no disagreement.
    let denying = load::MIXED.to_owned();
    let granting = denying.replace("deny", "read");
    let others = Others::start(&host, "mixed", [granting, denying]).await?;
    let asked = load::busy(&host, BUSY).await?;
    let changes = others.stop().await?;
    let parity = settled(&host).await?;
    eprintln!("{asked} requests, {changes} changes: {parity}");
    assert_eq!(count(&parity, "mismatches"), 0, "{parity}");
    assert_eq!(parity["quarantined"], json!([]), "{parity}");
    assert!(count(&parity, "checked") >= 1000, "{parity}");
    assert!(changes >= 10, "{changes}");
    let status = host.daemon.status().await?;
    assert_eq!(status["ready"], true, "{status}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_planted_disagreement_is_caught_and_held_until_it_is_gone() -> Result<()> {
    let mut host = plan().tapped().prepare().await?;
    let root = host.primary.root();
    world::policy(&root, "planted", PLANTED).await?;
    // To Holdover alone the primary seems to allow what it denies.
    let (said, told) = (r#"[\"deny\"] } # planted"#, r#"[\"read\"] } # planted"#);
    host.tap()?.lie(said, told)?;
    host.start().await?;
    let planted = token(&host, "planted").await?;
    let orders = token(&host, "orders").await?;
    let (path, _) = host.secret("orders")?;
    let path = path.to_owned();
    for (token, path) in [(&planted, SHOWN), (&orders, &path)] {
        assert_eq!(host.read(path, token).await?.status, 200);
        host.until_learned(token).await?;
    }
    assert_eq!(parity(&host).await?["quarantined"], json!([]));

    let denied = host.read(HIDDEN, &planted).await?;
    assert_eq!((denied.status, denied.source()), (403, Some("primary")));
    let status = host
        .daemon
        .wait_for("the quarantine", SOON, |status| {
            status["parity"]["quarantined"] != json!([])
        })
        .await?;
    is_told(&host, &status, &planted).await?;

    host.cut().await?;
    held(&host, &planted, &orders, &path).await?;
    host.daemon.kill9()?;
    host.daemon.start()?;
    host.daemon.wait_state("holdover", FAILOVER).await?;
    held(&host, &planted, &orders, &path).await?;

    host.restore().await?;
    assert_ne!(parity(&host).await?["quarantined"], json!([]));
    host.tap()?.tell_the_truth();
    world::policy(&root, "planted", PLANTED).await?;
    eventually(SOON, "the quarantine to end", async || {
        let again = host.read(HIDDEN, &planted).await;
        assert!(again.is_ok_and(|again| again.status == 403));
        let status = host
            .daemon
            .status()
            .await
            .map_err(|failure| failure.to_string())?;
        match status["ready"] == true && status["parity"]["quarantined"] == json!([]) {
            true => Ok(()),
            false => Err(status.to_string()),
        }
    })
    .await
    .map_err(|failure| host.daemon.failure(failure))?;
    host.cut().await?;
    let read = host.read(SHOWN, &planted).await?;
    assert_eq!((read.status, read.source()), (200, Some("replica")));
    assert_eq!(host.read(HIDDEN, &planted).await?.status, 403);
    Ok(())
}

/// Denied to Holdover alone, and what no parser reads.
const REFUSED: &str = r#"path "secret/data/shop/shared" { capabilities = ["read"] } # refused"#;
const BROKEN: &str = r#"path "secret/data/shop/shared" { capabilities = ["read"] } # broken"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn other_disagreements_are_counted_by_kind_and_quarantine_nothing() -> Result<()> {
    let mut host = plan().tapped().prepare().await?;
    for (name, text, told) in [
        ("refused", REFUSED, r#"[\"deny\"] } # refused"#),
        ("broken", BROKEN, r#"[\"rude\"] } # broken"#),
    ] {
        world::policy(&host.primary.root(), name, text).await?;
        let said = told.replace("deny", "read").replace("rude", "read");
        host.tap()?.lie(&said, told)?;
    }
    host.start().await?;
    for policy in ["refused", "broken"] {
        let token = token(&host, policy).await?;
        let read = "secret/data/shop/shared";
        assert_eq!(host.read(read, &token).await?.status, 200);
        host.until_learned(&token).await?;
        assert_eq!(host.read(read, &token).await?.status, 200);
    }
    let counted = |status: &Value| {
        let kinds = &status["parity"]["by_kind"];
        kinds["refuses_more"] == 1 && kinds["undecidable"] == 1
    };
    let status = host
        .daemon
        .wait_for("both to be counted", SOON, counted)
        .await?;
    assert_eq!(status["parity"]["mismatches"], 2, "{status}");
    assert_eq!(status["parity"]["quarantined"], json!([]));
    assert_eq!(status["ready"], true, "{status}");
    assert!(
        status["findings"].to_string().contains("parity: 2 of"),
        "{status}"
    );
    let metrics = harness::client::raw::Ask::get("/metrics");
    let metrics = host.daemon.admin(&metrics).await?.text();
    for line in [
        "holdover_parity_mismatches_total{kind=\"refuses_more\"} 1",
        "holdover_parity_undecidable_total{cause=\"policy\"} 1",
    ] {
        assert!(metrics.lines().any(|one| one == line), "{line}\n{metrics}");
    }
    Ok(())
}

/// `ready`, status, metrics and log say which policies, where and how, and hold neither value nor token.
async fn is_told(host: &Host, status: &Value, token: &str) -> Result<()> {
    assert_eq!(status["ready"], false, "{status}");
    let reasons = status["reasons"].to_string();
    assert!(reasons.contains("policy planted since"), "{reasons}");
    assert!(
        reasons.contains("holdover parity lift planted"),
        "{reasons}"
    );
    assert!(reasons.contains(HIDDEN), "{reasons}");
    let shown = &status["parity"]["quarantined"];
    assert_eq!(shown.as_array().map(Vec::len), Some(1), "{shown}");
    let shown = &shown[0];
    assert_eq!(shown["policy"], "planted");
    assert_eq!(
        (&shown["primary"], &shown["replica"]),
        (&json!(403), &json!(200))
    );
    assert_eq!(status["parity"]["by_kind"]["grants_more"], 1, "{status}");
    assert_eq!(status["parity"]["mismatches"], 1, "{status}");
    let metrics = harness::client::raw::Ask::get("/metrics");
    let metrics = host.daemon.admin(&metrics).await?.text();
    for line in [
        "holdover_parity_mismatches_total{kind=\"grants_more\"} 1",
        "holdover_parity_checks_total{result=\"grants_more\"} 1",
        "holdover_quarantined 1",
    ] {
        assert!(metrics.lines().any(|one| one == line), "{line}\n{metrics}");
    }
    let screen = host.daemon.cli(&["status"], SOON).await?;
    let screen = format!("{screen:?}");
    assert!(screen.contains("QUARANTINED"), "{screen}");
    let log = std::fs::read_to_string(host.daemon.log())?;
    let line = log.lines().find(|line| line.contains("quarantined"));
    let line = line.context("the log says nothing of it")?;
    assert!(line.contains("planted") && line.contains(HIDDEN), "{line}");
    let password = host.world.secrets.iter().find(|one| one.path == HIDDEN);
    let password = password.and_then(|one| one.data["data"]["password"].as_str());
    let password = password.context("the secret")?;
    for told in [log.as_str(), &metrics, &screen, &status.to_string()] {
        assert!(!told.contains(password) && !told.contains(token));
    }
    Ok(())
}

/// What the policy decides is left to the primary; what another one does for the same token is served, and so are others.
async fn held(host: &Host, planted: &str, orders: &str, path: &str) -> Result<()> {
    for path in [SHOWN, HIDDEN] {
        let refused = host.read(path, planted).await?;
        assert_eq!(refused.status, 503, "{path}: {}", refused.text());
        assert!(refused.text().contains("quarantined"), "{}", refused.text());
    }
    let own = host.read("auth/token/lookup-self", planted).await?;
    assert_eq!((own.status, own.source()), (200, Some("replica")));
    let served = host.read(path, orders).await?;
    assert_eq!((served.status, served.source()), (200, Some("replica")));
    let status = host.daemon.status().await?;
    assert_eq!(status["ready"], false, "{status}");
    Ok(())
}

async fn token(host: &Host, policy: &str) -> Result<String> {
    let body = json!({ "policies": [policy], "ttl": "1h" });
    let made = host.primary.root().post("auth/token/create", &body).await?;
    made.text("/auth/client_token")
        .map_err(|failure| Failure::new(format!("a token of {policy}: {failure}")))
}
