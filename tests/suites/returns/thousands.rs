//! However much was issued in an outage, its end takes as few requests, and no login fails meanwhile.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use harness::client::raw::{Ask, Client};
use harness::client::visitor::Visitor;
use harness::clock::Stopwatch;
use harness::gate::Asked;
use harness::host::{Login, Plan, login_request};
use harness::random::Seeded;
use harness::{Context, Failure, Result, place, together, world};
use serde_json::json;
use tokio::task::JoinSet;

use crate::HOLDOVER;
use crate::rig::{KEPT, SOON, Stage, entry, is_mint};

const VISITOR: &str = env!("CARGO_BIN_EXE_holdover-test-client");

/// The entries, each with a role and a policy of its name.
const TEAMS: [&str; 3] = ["orders", "billing", "stock"];

/// Who has no entry.
const STRANGER: u32 = 4499;

/// Connections on which tokens are issued at the same time.
const LANES: usize = 64;

/// Logins a second while the primary returns.
const PER_SECOND: u32 = 100;

/// What a client of a login waits.
const PATIENCE: Duration = Duration::from_secs(15);

/// Requests before the fence, but for look-ups: some, and some for each workload.
const MOST: usize = 20 + 4 * TEAMS.len();

/// Look-ups that fit into `settle_within`, 2 s, at 50 requests a second.
const LOOK_UPS: usize = 100;

/// How many grants an outage leaves at most; `HOLDOVER_RETURNS_GRANTS` says otherwise.
fn many() -> Result<usize> {
    match std::env::var("HOLDOVER_RETURNS_GRANTS") {
        Ok(text) => text.parse().context(text),
        Err(_) => Ok(9_000),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thousands_of_grants_keep_no_outage_alive_and_cost_nothing_until_they_are_used()
-> Result<()> {
    let mut seed = Seeded::start("grants that are used")?;
    let stage = start().await?;
    let few = an_outage_of(&stage, 100).await?;
    let many = an_outage_of(&stage, many()?).await?;
    eprintln!("before the fence: {:?} and {:?}", few.asked, many.asked);
    // No request for each grant: what little there is between them is chance.
    for outage in [&few, &many] {
        assert!(outage.others() <= MOST, "{:?}", outage.asked);
        assert!(outage.look_ups() <= LOOK_UPS, "{:?}", outage.asked);
    }
    let before = stage.mints().len();
    assert_eq!(before, 0, "minted for what nobody uses");
    let mut used = picked(few.grants, 10, &mut seed);
    used.extend(picked(many.grants, 60, &mut seed));
    for grants in [&used[..4], &used[used.len() - 4..]] {
        refused_to_others(&stage, grants).await?;
    }
    assert_eq!(stage.mints().len(), 0, "minted for another peer");
    first_uses(&stage, &used).await?;
    assert_eq!(stage.mints().len(), used.len(), "one for each that is used");
    Ok(())
}

/// Three workloads of our own user, mirrored and asked for at the usual rhythm and within the usual budget.
async fn start() -> Result<Stage> {
    let plan = Plan::new(HOLDOVER)
        .unmirrored()
        .mirror("secret/data/shop/*", &[])
        .set("failover.probe_interval", "5s")
        .set("failover.authority_interval", "1m");
    let plan = TEAMS
        .iter()
        .map(|team| entry(team))
        .fold(plan, Plan::workload);
    let mut stage = Stage::prepare(plan).await?;
    let reads = "path \"secret/data/shop/shared\" { capabilities = [\"read\"] }\n";
    world::policy(&stage.host.primary.root(), "stock", reads).await?;
    stage.role("stock", &["stock", "keeps"]).await?;
    stage.host.start().await?;
    Ok(stage)
}

/// What an outage came to.
struct Outage {
    /// What it left, with the entry of each.
    grants: Vec<(&'static str, Login)>,
    /// What Holdover asked from the first good answer until the outage was over, by target.
    asked: BTreeMap<String, usize>,
}

impl Outage {
    fn look_ups(&self) -> usize {
        let asked = self.asked.iter();
        let look_ups = asked.filter(|(target, _)| target.contains("auth/token/lookup-accessor"));
        look_ups.map(|(_, count)| count).sum()
    }

    fn others(&self) -> usize {
        self.asked.values().sum::<usize>() - self.look_ups()
    }
}

/// An outage in which so many grants are issued, and its end while others log in.
async fn an_outage_of(stage: &Stage, count: usize) -> Result<Outage> {
    stage.gate.shut();
    // Whoever asks has the machine look.
    stage.issued("orders").await?;
    stage.cut().await?;
    let watch = Stopwatch::start();
    let grants = issued(stage, count).await?;
    eprintln!("{count} grants issued in {:?}", watch.elapsed());
    let logins = Logins::start(stage);
    logins.until_answered(20).await?;
    let (from, watch) = (stage.gate.count(), Stopwatch::start());
    stage.reopen().await?;
    eprintln!("following after {:?}", watch.elapsed());
    logins.until_answered(100).await?;
    logins.flawless(stage).await?;
    let asked = stage.gate.asked();
    let asked = until_the_fence(asked.get(from..).context("the tape")?)?;
    Ok(Outage { grants, asked })
}

/// Logins of all teams in turn, on many connections.
async fn issued(stage: &Stage, count: usize) -> Result<Vec<(&'static str, Login)>> {
    let next = AtomicUsize::new(0);
    let lane = async || {
        let client = stage.host.daemon.client().within(PATIENCE);
        let mut connection = client.connect().await?;
        let mut issued = Vec::new();
        loop {
            let nr = next.fetch_add(1, Ordering::Relaxed);
            if nr >= count {
                return Ok(issued);
            }
            let team = TEAMS[nr % TEAMS.len()];
            let asked = harness::clock::instant();
            let reply = connection.send(&login_request(team)).await?;
            let login = Login::of(&reply, asked)?;
            assert_eq!(login.source, "replica");
            issued.push((team, login));
        }
    };
    let lanes = together((0..LANES).map(|_| lane())).await;
    let lanes = lanes.map_err(|failure: Failure| stage.host.daemon.failure(failure))?;
    Ok(lanes.into_iter().flatten().collect())
}

/// What Holdover asked from the first good answer on until the primary was asked for a client's sake again, by target.
///
/// Not what shows the cluster on connections that were opened for clients, and no probes of health: these have a
/// rhythm, and nothing to do with what is settled.
fn until_the_fence(asked: &[Asked]) -> Result<BTreeMap<String, usize>> {
    let good = asked.iter().position(|one| one.status == Some(200));
    let asked = asked
        .get(good.context("no good answer")?..)
        .unwrap_or_default();
    let is_login = |one: &Asked| one.target.starts_with("/v1/auth/token/create/");
    let fence = asked.iter().position(is_login);
    let (asked, _) = asked.split_at(fence.context("no login was forwarded")?);
    let own = asked.iter().filter(|one| !one.is_of_health());
    let own: BTreeSet<usize> = own.map(|one| one.connection).collect();
    let mut targets = BTreeMap::new();
    for one in asked.iter().filter(|one| own.contains(&one.connection)) {
        *targets.entry(one.target.clone()).or_default() += 1;
    }
    Ok(targets)
}

/// Logins at a rate, each started on time, however long the others take.
struct Logins {
    shared: Arc<Shared>,
    task: tokio::task::JoinHandle<Vec<String>>,
}

#[derive(Default)]
struct Shared {
    stopping: AtomicBool,
    answered: AtomicUsize,
}

impl Logins {
    fn start(stage: &Stage) -> Logins {
        let client = stage.host.daemon.client().within(PATIENCE);
        let shared = Arc::new(Shared::default());
        let task = tokio::spawn(at_rate(client, shared.clone()));
        Logins { shared, task }
    }

    /// Waits until so many more were answered.
    async fn until_answered(&self, more: usize) -> Result<()> {
        let answered = || self.shared.answered.load(Ordering::SeqCst);
        let wanted = answered() + more;
        harness::eventually(SOON, "answers to logins", async || match answered() {
            count if count >= wanted => Ok(()),
            count => Err(format!("{} missing", wanted - count)),
        })
        .await
    }

    /// Starts no more; none may have failed.
    async fn flawless(self, stage: &Stage) -> Result<()> {
        self.shared.stopping.store(true, Ordering::SeqCst);
        let failed = self.task.await?;
        match failed.first() {
            None => Ok(()),
            Some(first) => {
                let text = format!("{} logins failed, the first: {first}", failed.len());
                Err(stage.host.daemon.failure(text))
            }
        }
    }
}

/// How those that failed did.
async fn at_rate(client: Client, shared: Arc<Shared>) -> Vec<String> {
    let mut ticks = tokio::time::interval(Duration::from_secs(1) / PER_SECOND);
    let mut running: JoinSet<std::result::Result<(), String>> = JoinSet::new();
    let mut failed = Vec::new();
    for nr in 0.. {
        ticks.tick().await;
        if shared.stopping.load(Ordering::SeqCst) {
            break;
        }
        let (client, shared) = (client.clone(), shared.clone());
        let ask = login_request(TEAMS[nr % TEAMS.len()]);
        running.spawn(async move {
            let reply = client
                .send(&ask)
                .await
                .map_err(|failure| failure.to_string())?;
            shared.answered.fetch_add(1, Ordering::SeqCst);
            match reply.status {
                200 => Ok(()),
                status => Err(format!("{status}: {}", reply.text())),
            }
        });
        while let Some(Ok(ended)) = running.try_join_next() {
            failed.extend(ended.err());
        }
    }
    while let Some(ended) = running.join_next().await {
        failed.extend(ended.unwrap_or_else(|error| Err(error.to_string())).err());
    }
    failed
}

fn picked<T: Clone>(mut from: Vec<T>, count: usize, seed: &mut Seeded) -> Vec<T> {
    let picks = (0..count.min(from.len())).map(|_| from.swap_remove(seed.index(from.len())));
    picks.collect()
}

/// What a team may read.
fn readable<'s>(stage: &'s Stage, team: &str) -> Result<&'s str> {
    match team {
        "stock" => Ok("secret/data/shop/shared"),
        team => stage.host.secret(team).map(|(path, _)| path),
    }
}

/// To a user that has no entry they are worth nothing.
async fn refused_to_others(stage: &Stage, grants: &[(&str, Login)]) -> Result<()> {
    if !place::is_root() {
        eprintln!("not root: nobody else is here to try");
        return Ok(());
    }
    let stranger = Visitor::new(Path::new(VISITOR), STRANGER, STRANGER)?;
    let mut asks = Vec::new();
    for (team, login) in grants {
        let read = Ask::get(&format!("/v1/{}", readable(stage, team)?));
        let write = Ask::post(&format!("/v1/{KEPT}"), &json!({ "data": {} }));
        for ask in [read, write] {
            asks.push(ask.token(&login.token)?);
        }
    }
    let socket = stage.host.daemon.socket();
    for refused in stranger.send_all(&socket, &asks, PATIENCE).await? {
        assert_eq!(refused.status, 403, "{}", stage.told(&refused));
    }
    Ok(())
}

/// Reads are answered by either side, writes by the primary; each at the first try.
async fn first_uses(stage: &Stage, grants: &[(&str, Login)]) -> Result<()> {
    let next = AtomicUsize::new(0);
    let lane = async || {
        loop {
            let nr = next.fetch_add(1, Ordering::Relaxed);
            let Some((team, login)) = grants.get(nr) else {
                return Ok(());
            };
            // Every other one reads first.
            if nr.is_multiple_of(2) {
                let read = stage
                    .host
                    .read(readable(stage, team)?, &login.token)
                    .await?;
                assert_eq!(read.status, 200, "{team}: {}", stage.told(&read));
            }
            let kept = stage.keep(&login.token).await?;
            let outcome = (kept.status, kept.source());
            assert_eq!(outcome, (200, Some("primary")), "{}", stage.told(&kept));
        }
    };
    together((0..8).map(|_| lane())).await.map(drop)
}

#[test]
fn what_is_asked_before_the_fence_is_counted_from_the_first_good_answer_on() -> Result<()> {
    let asked = |connection, target: &str, status| Asked {
        connection,
        method: http::Method::GET,
        target: target.to_owned(),
        body: bytes::Bytes::new(),
        status,
    };
    let tape = [
        asked(0, "/v1/sys/health", None),
        asked(0, "/v1/sys/policies/acl", Some(503)),
        asked(1, "/v1/sys/health", Some(200)),
        asked(1, "/v1/sys/policies/acl", Some(403)),
        asked(2, "/v1/sys/health", Some(200)),
        asked(1, "/v1/sys/health", Some(200)),
        asked(3, "/v1/sys/health", Some(200)),
        asked(4, "/v1/sys/health", Some(200)),
        asked(2, "/v1/auth/token/create/orders", None),
        asked(1, "/v1/sys/policies/acl", Some(200)),
        asked(3, "/v1/auth/token/create/orders", Some(200)),
    ];
    let counted = until_the_fence(&tape)?;
    assert_eq!(counted.get("/v1/sys/health"), Some(&2));
    assert_eq!(counted.get("/v1/sys/policies/acl"), Some(&1));
    assert!(!tape.iter().any(is_mint));
    Ok(())
}
