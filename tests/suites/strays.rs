//! Two thousand requests of every odd kind by a client that may only read, each compared in full: the primary and
//! Holdover before it give the same bytes the same answer, and nobody else notices anything, not now and not in the
//! outage that follows.
//!
//! `HOLDOVER_SEED` repeats a run, `HOLDOVER_STRAYS` makes it longer.

#[path = "strays/asked.rs"]
mod asked;
#[path = "strays/bodies.rs"]
mod bodies;
#[path = "strays/broken.rs"]
mod broken;
#[path = "strays/explained.rs"]
mod explained;
#[path = "strays/heads.rs"]
mod heads;
#[path = "strays/others.rs"]
mod others;
#[path = "strays/told.rs"]
mod told;
#[path = "strays/wire.rs"]
mod wire;

use std::sync::Arc;
use std::time::Duration;

use harness::client::raw::Ask;
use harness::daemon::config::Workload;
use harness::host::{Host, Plan, own_uid};
use harness::random::Seeded;
use harness::{Context, Result, eventually, world};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use asked::{Cast, Stray};
use explained::Comparison;
use others::Others;
use wire::{Ending, Heard, Way};

const HOLDOVER: &str = env!("CARGO_BIN_EXE_holdover-under-test");

/// Requests that are under way at the same time.
const LANES: usize = 8;

/// For what takes a few cycles.
const SOON: Duration = Duration::from_secs(60);

/// May read, and nothing else; one path is denied.
const READER: &str = r#"
path "secret/data/shop/*" { capabilities = ["read"] }
path "secret/metadata/shop/*" { capabilities = ["read", "list"] }
path "secret/data/shop/billing/item-0001" { capabilities = ["deny"] }
path "auth/token/lookup-self" { capabilities = ["read"] }
"#;

fn count() -> Result<usize> {
    match std::env::var("HOLDOVER_STRAYS") {
        Ok(text) => text.parse().context(format!("HOLDOVER_STRAYS={text}")),
        Err(_) => Ok(2000),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strays_are_answered_as_by_the_primary_and_nobody_else_notices() -> Result<()> {
    let strays = Workload::new("strays", "billing").uid(own_uid());
    let host = Plan::new(HOLDOVER)
        .workload(strays.issues("15m", "2h").set("auto_token", false))
        .workload(Others::workload())
        .set("failover.authority_interval", "1s")
        .set("parity.sample", 1.0)
        .tapped()
        .start()
        .await?;
    let others = Others::meet(&host).await?;
    others.are_served(&host, "primary").await?;
    let cast = cast(&host).await?;
    let readers: Vec<_> = cast.readers.to_vec();
    let compared = put(&host, cast, count()?).await?;
    eprintln!("{}", compared.summary());
    compared.or_fail()?;

    let status = settled(&host).await?;
    untouched(&host, &status).await?;
    others.are_served(&host, "primary").await?;
    host.cut().await?;
    others.are_served(&host, "replica").await?;
    // Not even those who asked.
    for reader in &readers {
        let read = host.read("secret/data/shop/shared", reader).await?;
        let by = (read.status, read.source());
        assert_eq!(by, (200, Some("replica")), "{}", read.text());
    }
    let login = host.login("strays").await?;
    assert_eq!(login.source, "replica");
    let status = host.daemon.status().await?;
    assert_eq!(status["ready"], true, "{status}");
    Ok(())
}

/// Who asks: tokens that may read, and what is none, or no longer one.
async fn cast(host: &Host) -> Result<Cast> {
    let root = host.primary.root();
    world::policy(&root, "reader", READER).await?;
    let mut made = Vec::new();
    for more in [
        json!({}),
        json!({ "no_default_policy": true }),
        json!({ "type": "batch" }),
        json!({}),
    ] {
        let mut body = json!({ "policies": ["reader"], "ttl": "2h", "no_parent": true });
        let fields = body.as_object_mut().context("fields")?;
        fields.extend(more.as_object().cloned().unwrap_or_default());
        made.push(root.post("auth/token/create", &body).await?.ok()?);
    }
    let text = |nr: usize, name: &str| {
        let text = made[nr]["auth"][name].as_str();
        text.map(str::to_owned).context(name.to_owned())
    };
    let dead = text(3, "client_token")?;
    let revoked = json!({ "token": dead });
    root.post("auth/token/revoke", &revoked).await?.ok()?;
    let readers = [text(0, "client_token")?, text(1, "client_token")?];
    for reader in &readers {
        let read = host.read("secret/data/shop/shared", reader).await?;
        assert_eq!(read.status, 200);
        host.until_learned(reader).await?;
    }
    Ok(Cast {
        readers,
        batch: text(2, "client_token")?,
        dead,
        accessor: text(0, "accessor")?,
    })
}

/// Puts so many to both sides.
async fn put(host: &Host, cast: Cast, count: usize) -> Result<Comparison> {
    let mut seeded = Seeded::start("strays")?;
    let strays: Vec<Stray> = (0..count)
        .map(|nr| Stray::drawn(&cast, nr, &mut seeded.fork()))
        .collect();
    let strays = Arc::new(strays);
    let (ours, theirs) = (
        Way::Unix(host.daemon.socket()),
        Way::of_url(&host.primary.address())?,
    );
    let mut lanes = JoinSet::new();
    for lane in 0..LANES {
        let (strays, ours, theirs) = (Arc::clone(&strays), ours.clone(), theirs.clone());
        lanes.spawn(async move {
            let mut compared = Comparison::default();
            for stray in strays.iter().skip(lane).step_by(LANES) {
                let heard = ours.ask(stray).await?;
                match stray.ending {
                    Ending::Whole => compared.add(stray, &heard, &theirs.ask(stray).await?),
                    // What a server makes of half a request is its own matter.
                    Ending::Cut | Ending::Hangs => compared.leave(stray),
                }
            }
            Ok::<_, harness::Failure>(compared)
        });
    }
    let mut all = Comparison::default();
    for lane in lanes.join_all().await {
        all.join(lane?);
    }
    match host.daemon.running() {
        true => Ok(all),
        false => Err(host.daemon.failure("the daemon has ended")),
    }
}

/// Waits until every disagreement has settled.
async fn settled(host: &Host) -> Result<Value> {
    eventually(SOON, "disagreements to settle", async || {
        let status = host.daemon.status().await.map_err(|f| f.to_string())?;
        match &status["parity"]["pending"] {
            pending if *pending == 0 => Ok(status),
            _ => Err(status["parity"].to_string()),
        }
    })
    .await
    .map_err(|failure| host.daemon.failure(failure))
}

/// Nothing is in quarantine, nobody is locked out, and nothing has grown.
async fn untouched(host: &Host, status: &Value) -> Result<()> {
    let parity = &status["parity"];
    eprintln!("parity: {parity}");
    assert_eq!(parity["quarantined"], json!([]), "{parity}");
    assert_eq!(parity["by_kind"]["grants_more"], 0, "{parity}");
    assert_eq!(status["ready"], true, "{status}");
    assert_eq!(status["state"], "following", "{status}");
    let metrics = host.daemon.admin(&Ask::get("/metrics")).await?.text();
    let series = metrics
        .lines()
        .filter(|line| !line.starts_with('#'))
        .count();
    assert!(series < told::MOST_SERIES, "{series} series\n{metrics}");
    told::descriptors_are_given_back(host).await?;
    let coverage = host.daemon.admin(&Ask::get("/v1/coverage")).await?;
    assert_eq!(coverage.status, 200, "{}", coverage.text());
    assert!(
        coverage.body.len() < told::MOST_BYTES,
        "{}",
        coverage.body.len()
    );
    Ok(())
}

/// Nothing at all, where an answer was due, is an answer of its own: the connection was closed.
fn shown(heard: &Heard) -> String {
    match heard {
        Heard::Answer(answer) => {
            let body = String::from_utf8_lossy(&answer.body);
            let body: String = body.chars().take(200).collect();
            format!("{} {body:?} by {:?}", answer.status, answer.source)
        }
        Heard::Closed => "closed".to_owned(),
        Heard::Silence => "silence".to_owned(),
    }
}
