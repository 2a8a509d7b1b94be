//! The ledger's space: one workload that fills its share takes no login from another, and what journald took makes room.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use harness::client::raw::{Ask, Reply};
use harness::daemon::config::Workload;
use harness::host::{FAILOVER, Host, Plan, READY, login_request, own_uid};
use harness::{Context, Result, eventually};
use serde_json::{Value, json};

use crate::HOLDOVER;

/// How long everything may take to be delivered.
const DELIVERY: Duration = Duration::from_secs(30);

/// More logins than any ledger of this size has room for.
const TOO_MANY: usize = 3000;

/// A host with two workloads, both ours, and the smallest ledger that there is.
fn plan() -> Plan {
    let entry = |name: &str| {
        Workload::new(name, name)
            .uid(own_uid())
            .set("auto_token", false)
            .issues("15m", "2h")
    };
    Plan::new(HOLDOVER)
        .workload(entry("orders"))
        .workload(entry("billing"))
        .set("failover.probe_interval", "250ms")
        .set("ledger.max_size", "1MiB")
}

/// The token of a login that must be answered by the replica.
async fn login(host: &Host, workload: &str) -> Result<String> {
    let login = host.login(workload).await?;
    assert_eq!(login.source, "replica");
    Ok(login.token)
}

/// Logs in until that is refused: the tokens, and the refusal.
async fn fill(host: &Host, workload: &str) -> Result<(Vec<String>, Reply)> {
    let mut tokens = Vec::new();
    for _ in 0..TOO_MANY {
        let reply = host.ask(&login_request(workload)).await?;
        if reply.status != 200 {
            return Ok((tokens, reply));
        }
        tokens.push(reply.json_text("/auth/client_token")?);
    }
    Err(host.daemon.failure("it never fills"))
}

async fn is_refused(host: &Host, workload: &str) -> Result<()> {
    let reply = host.ask(&login_request(workload)).await?;
    assert_eq!(reply.status, 429, "{}", reply.text());
    let said = format!("the share of workload {workload} in the ledger is full");
    assert!(reply.text().contains(&said), "{}", reply.text());
    Ok(())
}

/// Everything that a workload does in an outage, done once.
async fn lives(host: &Host, workload: &str) -> Result<()> {
    let token = login(host, workload).await?;
    let (path, _) = host.secret(workload)?;
    assert_eq!(host.read(path, &token).await?.status, 200);
    let renewed = host
        .write("auth/token/renew-self", &token, &json!({}))
        .await?;
    assert_eq!(renewed.status, 200, "{}", renewed.text());
    let revoked = host
        .write("auth/token/revoke-self", &token, &json!({}))
        .await?;
    assert_eq!(revoked.status, 204, "{}", revoked.text());
    assert_eq!(host.read(path, &token).await?.status, 403);
    Ok(())
}

async fn ledger(host: &Host) -> Result<Value> {
    let ledger = host.daemon.status().await?["ledger"].clone();
    let number = |name: &str| ledger[name].as_u64().context(ledger.to_string());
    assert!(number("bytes")? <= number("max_bytes")?, "{ledger}");
    Ok(ledger)
}

async fn restart(host: &Host) -> Result<()> {
    host.daemon.kill9()?;
    host.daemon.start()?;
    host.daemon.wait_state("holdover", FAILOVER).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_workload_that_fills_its_share_takes_no_login_from_another() -> Result<()> {
    let host = plan().start().await?;
    host.cut().await?;
    let (tokens, refusal) = fill(&host, "orders").await?;
    assert!(tokens.len() > 50, "{} logins", tokens.len());
    assert_eq!(refusal.status, 429, "{}", refusal.text());
    // Whatever else it can have written down.
    let token = tokens.first().context("a token")?;
    let (path, _) = host.secret("orders")?;
    for nr in 0..200 {
        host.write("auth/token/renew-self", token, &json!({}))
            .await?;
        host.read(&format!("{path}?nr={nr}"), token).await?;
        host.read(&format!("secret/data/shop/orders/none-{nr}"), token)
            .await?;
        host.read("secret/data/elsewhere", token).await?;
    }
    for token in tokens.iter().skip(1) {
        let reply = host
            .write("auth/token/revoke-self", token, &json!({}))
            .await?;
        assert_eq!(reply.status, 204, "{}", reply.text());
    }
    // An end takes less than is kept for it.
    fill(&host, "orders").await?;
    is_refused(&host, "orders").await?;
    lives(&host, "billing").await?;

    let status = host.daemon.status().await?;
    let reason = "workload orders: the ledger has no room for it";
    assert!(status["reasons"].to_string().contains(reason), "{status:#}");
    assert!(
        !status["reasons"]
            .to_string()
            .contains("workload billing: the ledger")
    );
    assert_eq!(status["autonomy_bound_by"], "ledger_space");
    let page = host.daemon.admin(&Ask::get("/metrics")).await?.text();
    let left = "holdover_ledger_share_left_bytes{workload=\"billing\"} ";
    let left = page.lines().find_map(|line| line.strip_prefix(left));
    assert!(
        left.is_some_and(|left| left.parse::<u64>().is_ok_and(|left| left > 100_000)),
        "{page}"
    );

    restart(&host).await?;
    is_refused(&host, "orders").await?;
    lives(&host, "billing").await?;
    host.restore().await?;
    host.cut().await?;
    is_refused(&host, "orders").await?;
    lives(&host, "billing").await?;
    ledger(&host).await?;
    Ok(())
}

/// What journald would hold: the messages that came to its socket.
#[derive(Clone, Default)]
struct Journal(Arc<Mutex<Vec<String>>>);

impl Journal {
    /// Listens at `path` until the test ends.
    fn listen(path: &PathBuf) -> Result<Self> {
        let socket = UnixDatagram::bind(path).context("bind the journal's socket")?;
        let mode = std::fs::Permissions::from_mode(0o666);
        std::fs::set_permissions(path, mode).context("open the journal's socket")?;
        let journal = Self::default();
        let messages = journal.clone();
        std::thread::spawn(move || {
            let mut message = vec![0; 1 << 20];
            while let Ok(length) = socket.recv(&mut message) {
                let text = String::from_utf8_lossy(&message[..length]).into_owned();
                messages.all().push(text);
            }
        });
        Ok(journal)
    }

    fn all(&self) -> std::sync::MutexGuard<'_, Vec<String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Every entry that came, by its number; one that came twice must be the same.
    fn entries(&self) -> Result<BTreeMap<u64, Value>> {
        let mut entries = BTreeMap::new();
        for message in self.all().iter() {
            let mut lines = message.lines();
            let entry = lines.find_map(|line| line.strip_prefix("HOLDOVER_ENTRY="));
            let entry: Value = serde_json::from_str(entry.context(message.clone())?)?;
            let seq = entry["seq"].as_u64().context(message.clone())?;
            if let Some(before) = entries.insert(seq, entry.clone()) {
                assert_eq!(before, entry);
            }
        }
        Ok(entries)
    }
}

/// Everything but reads that were not written down yet is delivered.
async fn delivered(host: &Host) -> Result<()> {
    eventually(DELIVERY, "everything to be delivered", async || {
        let ledger = ledger(host).await.map_err(|failure| failure.to_string())?;
        let all = ledger["undelivered_bytes"] == 0;
        all.then_some(()).ok_or(ledger.to_string())
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_journald_took_makes_room_and_nothing_is_missing_there() -> Result<()> {
    let mut host = plan().prepare().await?;
    let socket = host.daemon.folder().join("journal");
    host.daemon.set_env("HOLDOVER_JOURNAL", &socket);
    host.start().await?;
    host.cut().await?;
    let (mut tokens, _) = fill(&host, "orders").await?;
    for token in &tokens {
        host.write("auth/token/revoke-self", token, &json!({}))
            .await?;
    }
    tokens.extend(fill(&host, "orders").await?.0);
    is_refused(&host, "orders").await?;
    let untaken = "journald does not take the ledger's entries";
    let is_told = |status: &Value| status["findings"].to_string().contains(untaken);
    host.daemon.wait_for("a finding", READY, is_told).await?;

    // journald is there, and Holdover dies while it sends.
    let journal = Journal::listen(&socket)?;
    eventually(DELIVERY, "the first entries", async || {
        let came = journal.all().len();
        (came > 0).then_some(()).ok_or(came)
    })
    .await?;
    restart(&host).await?;
    delivered(&host).await?;
    tokens.extend(fill(&host, "orders").await?.0);
    lives(&host, "billing").await?;
    delivered(&host).await?;

    // Reads are written down a moment after they were answered, and are delivered then.
    let (entries, ledger) = eventually(DELIVERY, "every entry", async || {
        let ledger = ledger(&host).await.map_err(|failure| failure.to_string())?;
        let entries = journal.entries().map_err(|failure| failure.to_string())?;
        let next = ledger["next"].as_u64().ok_or(ledger.to_string())?;
        match entries.keys().copied().eq(1..next) {
            true => Ok((entries, ledger)),
            false => Err(format!("{} of {next}", entries.len())),
        }
    })
    .await?;
    let mut before = Value::String("0".repeat(64));
    for entry in entries.values() {
        assert_eq!(entry["prev"], before, "the chain");
        before = entry["mac"].clone();
    }
    let of_kind = |kind: &str| {
        entries
            .values()
            .filter(|entry| entry["kind"] == kind)
            .count()
    };
    assert_eq!(of_kind("grant"), tokens.len() + 1);
    let messages = journal.all().concat();
    assert!(
        tokens
            .iter()
            .all(|token| !messages.contains(token.as_str()))
    );
    assert!(messages.contains("MESSAGE=The replica issued a token to workload orders (uid "));
    assert_eq!(ledger["delivered_to"], "journald");
    assert_eq!(ledger["problem"], Value::Null);
    Ok(())
}
