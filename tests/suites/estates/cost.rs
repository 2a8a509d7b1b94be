//! What Holdover costs its primary: a cluster without a failure no more than one node.

use std::collections::BTreeMap;
use std::time::Duration;

use harness::audit::Audited;
use harness::balancer::Balancer;
use harness::client::raw::Ask;
use harness::cluster::Cluster;
use harness::daemon::config::Config;
use harness::recorder::Recorder;
use harness::{Context, Result, clock};
use serde_json::json;

use crate::rig::{Estate, READY, Site};

/// How long a start is counted, how long nobody asks for anything after it, and how long clients do then.
const START: Duration = Duration::from_secs(8);
const QUIET: Duration = Duration::from_secs(6);
const BUSY: Duration = Duration::from_secs(8);

/// What clients do once every second in that time.
const EVERY: Duration = Duration::from_secs(1);

/// The clients' write. A standby that is asked for one audits it and hands it on to the active node, which audits it too.
const RENEWAL: &str = "auth/token/renew-self";

const HEALTH: &str = "sys/health";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_costs_no_more_than_one_node() -> Result<()> {
    let one = Estate::of(Cluster::raft(1).await?).await?;
    let three = Estate::raft().await?;
    let balancer = Balancer::round_robin(&three.cluster.socket_addresses()).await?;
    // Beside one node each time, so that what the machine has to do slows both.
    for (name, addresses) in [
        ("three addresses", three.cluster.addresses()),
        ("behind a balancer", vec![balancer.address()]),
    ] {
        let alone = one.cluster.addresses();
        let (alone, cluster) = tokio::join!(spend(&one, &alone), spend(&three, &addresses));
        let (alone, cluster) = (alone?, cluster?);
        let dearer = compare(&alone, &cluster, addresses.len());
        assert!(dearer.is_empty(), "{name}: {dearer:#?}");
    }
    Ok(())
}

/// What was asked of the primary, by path.
type Counts = BTreeMap<String, usize>;

/// What a host costs in a while.
#[derive(Default)]
struct Cost {
    /// Requests that nodes have audited.
    audited: Counts,
    /// Requests on the wire.
    wire: Counts,
}

/// From the start, while nobody asks, while clients ask.
type Costs = [(&'static str, Cost); 3];

async fn spend(estate: &Estate, addresses: &[String]) -> Result<Costs> {
    let mut recorders = Vec::new();
    for address in addresses {
        recorders.push(Recorder::before(address, estate.cluster.authority()).await?);
    }
    let recorded: Vec<_> = recorders.iter().map(Recorder::address).collect();
    let site = estate.prepared(&recorded, Config::new()).await?;
    let mut meter = Meter::new(estate, &recorders).await?;
    let began = clock::instant();
    site.daemon.start()?;
    site.daemon.wait_ready(READY).await?;
    tokio::time::sleep_until((began + START).into()).await;
    let start = meter.read()?;
    tokio::time::sleep_until((began + START + QUIET).into()).await;
    let quiet = meter.read()?;
    let until = began + START + QUIET + BUSY;
    busy(estate, &site, until.into()).await?;
    let busy = meter.read()?;
    site.daemon.kill9()?;
    Ok([("start", start), ("quiet", quiet), ("busy", busy)])
}

/// Logins, reads, denials and writes, the same number whatever they take.
async fn busy(estate: &Estate, site: &Site, until: tokio::time::Instant) -> Result<()> {
    let (path, password) = estate.secret()?;
    let mut ticks = tokio::time::interval(EVERY);
    for _ in 1..BUSY.as_secs() {
        ticks.tick().await;
        let login = site.login().await?;
        for _ in 0..3 {
            let (status, body) = site.read(path, &login.token).await?;
            assert!(status == 200 && body.contains(password), "{status} {body}");
        }
        let (status, _) = site.read("secret/data/elsewhere", &login.token).await?;
        assert_eq!(status, 403);
        let paths = json!({ "paths": [path] });
        let ask = Ask::post("/v1/sys/capabilities-self", &paths).token(&login.token)?;
        let client = site.daemon.client().within(Duration::from_secs(15));
        assert_eq!(client.send(&ask).await?.status, 200);
        let renew = Ask::post(&format!("/v1/{RENEWAL}"), &json!({})).token(&login.token)?;
        assert_eq!(client.send(&renew).await?.status, 200);
    }
    tokio::time::sleep_until(until).await;
    Ok(())
}

/// Counts what reaches the nodes of an estate.
struct Meter<'a> {
    estate: &'a Estate,
    recorders: &'a [Recorder],
    /// The number of the active node.
    leader: usize,
    /// Entries of each node's log that were counted before.
    counted: Vec<usize>,
    /// What was on the wire by then.
    recorded: Counts,
}

impl<'a> Meter<'a> {
    async fn new(estate: &'a Estate, recorders: &'a [Recorder]) -> Result<Meter<'a>> {
        let leader = estate.cluster.active().await.context("no node is active")?;
        let mut meter = Meter {
            estate,
            recorders,
            leader: leader.number(),
            counted: vec![0; estate.cluster.nodes().len()],
            recorded: Counts::new(),
        };
        meter.read()?;
        Ok(meter)
    }

    /// What came since the last time.
    fn read(&mut self) -> Result<Cost> {
        let mut cost = Cost::default();
        for (node, counted) in self.estate.cluster.nodes().iter().zip(&mut self.counted) {
            let entries = Audited::read(&node.audit_log())?;
            for entry in entries.iter().skip(*counted) {
                let handed_on = entry.path == RENEWAL && node.number() != self.leader;
                if entry.kind == "request" && !handed_on {
                    *cost.audited.entry(group(&entry.path)).or_default() += 1;
                }
            }
            *counted = entries.len();
        }
        let mut recorded = Counts::new();
        for exchange in self.recorders.iter().flat_map(Recorder::exchanges) {
            let path = exchange.target.split('?').next().unwrap_or_default();
            let path = group(path.trim_start_matches("/v1/"));
            *recorded.entry(path).or_default() += 1;
        }
        cost.wire = recorded.clone();
        for (path, before) in std::mem::replace(&mut self.recorded, recorded) {
            if let Some(count) = cost.wire.get_mut(&path) {
                *count -= before;
            }
        }
        Ok(cost)
    }
}

/// Secrets of one mount together.
fn group(path: &str) -> String {
    match path.split_once("/shop/") {
        Some((mount, _)) => format!("{mount}/shop/…"),
        None => path.to_owned(),
    }
}

/// What the cluster was asked for more often than the one node.
///
/// Passes are jittered, and each reads what was written before it: so a few more are the same. What proves connections and
/// looks after addresses by `sys/health`, which is not audited and needs no token, is another matter: a fresh connection to
/// a standby is asked twice, and each address is looked after by itself.
fn compare(alone: &Costs, cluster: &Costs, addresses: usize) -> Vec<String> {
    let mut dearer = Vec::new();
    for ((when, one), (_, three)) in alone.iter().zip(cluster) {
        for (how, one, three) in [
            ("audited", &one.audited, &three.audited),
            ("on the wire", &one.wire, &three.wire),
        ] {
            for (path, count) in three {
                let alone = one.get(path).copied().unwrap_or_default();
                let most = match path.as_str() {
                    HEALTH => 2 * addresses * alone,
                    _ => alone + (alone / 5).max(3),
                };
                if *count > most {
                    dearer.push(format!("{when}, {how}, {path}: {count}, alone {alone}"));
                }
            }
            let sum = |counts: &Counts| counts.values().sum::<usize>();
            eprintln!("{when}, {how}: {}, alone {}", sum(three), sum(one));
        }
    }
    dearer
}
