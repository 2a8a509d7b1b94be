//! A host before a cluster, and clients that never pause.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use harness::client::raw::Ask;
use harness::cluster::Cluster;
use harness::daemon::Daemon;
use harness::daemon::config::{Config, Workload};
use harness::host::{Login, login_request, own_uid};
use harness::link::Flow;
use harness::world::{self, World};
use harness::{Context, Failure, Result, clock, place};
use shared::time::WallTime;
use tokio::task::JoinHandle;

/// How long Holdover may take from its start until it is ready.
pub(crate) const READY: Duration = Duration::from_secs(10);
/// How long it may take until it follows again once the network is back.
pub(crate) const FOLLOWING: Duration = Duration::from_secs(10);
/// How long an outage may take to be noticed.
pub(crate) const FAILOVER: Duration = Duration::from_secs(20);
/// How long anything else may take that is waited for.
pub(crate) const BOUND: Duration = Duration::from_secs(30);

/// The user that Holdover runs as where we may choose.
const HOLDOVER_USER: (u32, u32) = (4300, 4300);

/// A cluster with the shop in it.
pub(crate) struct Estate {
    pub(crate) cluster: Cluster,
    pub(crate) world: World,
}

impl Estate {
    /// Three raft nodes.
    pub(crate) async fn raft() -> Result<Estate> {
        Estate::of(Cluster::raft(3).await?).await
    }

    /// A shop in this cluster.
    pub(crate) async fn of(cluster: Cluster) -> Result<Estate> {
        let world = World::seed_by(&cluster.root().await?, 5).await?;
        cluster.wait_caught_up().await?;
        Ok(Estate { cluster, world })
    }

    /// The addresses of its nodes in this order.
    pub(crate) fn addresses(&self, order: &[usize]) -> Vec<String> {
        let address = |number: &usize| self.cluster.node(*number).address();
        order.iter().map(address).collect()
    }

    /// A host with these addresses of the primary, started and ready.
    pub(crate) async fn host(&self, addresses: &[String]) -> Result<Site> {
        let site = self.prepared(addresses, Config::new()).await?;
        site.daemon.start()?;
        site.daemon.wait_ready(READY).await?;
        Ok(site)
    }

    /// The same, not started, with more in its configuration.
    pub(crate) async fn prepared(&self, addresses: &[String], more: Config) -> Result<Site> {
        let daemon = Daemon::install(
            std::path::Path::new(crate::HOLDOVER),
            place::is_root().then_some(HOLDOVER_USER),
        )?;
        let etc = daemon.folder().join("etc");
        let orders = Workload::new("orders", "orders").uid(own_uid());
        let config = daemon
            .base_config()
            .mirror("secret/data/shop/*", &[("interval", "1s".into())])
            .set("failover.probe_interval", "1s")
            .set("failover.authority_interval", "5s")
            .workload(orders.issues("15m", "2h"))
            .merged(&more)
            .primary(addresses, Some(self.cluster.ca_file()))
            .approle(&etc.join("role_id"), &etc.join("secret_id"));
        daemon.configure(&config)?;
        let policy = daemon.cli(&["config", "policy"], BOUND).await?;
        let root = self.cluster.root().await?;
        world::holdover_login_by(&root, &policy.stdout, &daemon).await?;
        self.cluster.wait_caught_up().await?;
        Ok(Site { daemon })
    }

    /// Cuts every node's API, or opens it.
    pub(crate) async fn cut_all(&self, how: Flow) -> Result<()> {
        self.cluster.cut_apis(how).await
    }

    /// One secret of the orders team: its path and its password.
    pub(crate) fn secret(&self) -> Result<(&str, &str)> {
        let mut items = self
            .world
            .below("orders")
            .filter(|one| one.path.contains("/item-"));
        let secret = items.next().context("orders has no secret")?;
        let password = secret.data["data"]["password"].as_str();
        Ok((&secret.path, password.context("a secret without password")?))
    }
}

/// A host.
pub(crate) struct Site {
    pub(crate) daemon: Daemon,
}

impl Site {
    /// Logs in by attestation, as ourselves.
    pub(crate) async fn login(&self) -> Result<Login> {
        let asked = clock::instant();
        let client = self.daemon.client().within(Duration::from_secs(15));
        let reply = client.send(&login_request("orders")).await;
        let login = reply.and_then(|reply| Login::of(&reply, asked));
        login.map_err(|failure| self.daemon.failure(format!("login: {failure}")))
    }

    /// The same right after connections were closed, which may have taken along the answer to one login: that is sent once.
    pub(crate) async fn login_after_close(&self) -> Result<Login> {
        match self.login().await {
            Err(failure) if is_unknown(&failure.to_string()) => self.login().await,
            told => told,
        }
    }

    /// Reads an API path; the status and the body.
    pub(crate) async fn read(&self, path: &str, token: &str) -> Result<(u16, String)> {
        let ask = Ask::get(&format!("/v1/{path}")).token(token)?;
        let client = self.daemon.client().within(Duration::from_secs(15));
        let reply = client.send(&ask).await?;
        Ok((reply.status, reply.text()))
    }

    /// When the primary last proved the token of this accessor, if that lives here.
    pub(crate) async fn verified_at(&self, accessor: &str) -> Result<Option<WallTime>> {
        let listed = self.daemon.admin(&Ask::get("/v1/grants")).await?.json()?;
        let mut grants = listed["grants"].as_array().into_iter().flatten();
        let Some(grant) = grants.find(|grant| grant["accessor"] == accessor) else {
            return Ok(None);
        };
        let at = grant["verified_at"].as_str();
        let at = at.and_then(WallTime::parse_rfc3339);
        at.context(format!("when it was verified: {grant}"))
            .map(Some)
    }

    /// Cuts the API of all nodes; once Holdover is in charge.
    pub(crate) async fn outage(&self, estate: &Estate) -> Result<()> {
        estate.cut_all(Flow::Silent).await?;
        self.daemon.wait_state("holdover", FAILOVER).await.map(drop)
    }

    /// The field of one address in the status.
    pub(crate) async fn shown(&self, address: &str, field: &str) -> Result<serde_json::Value> {
        let status = self.daemon.status().await?;
        let addresses = status["addresses"].as_array().context("addresses")?;
        let one = addresses.iter().find(|one| one["address"] == address);
        Ok(one.context("the address")?[field].clone())
    }
}

/// Clients that log in and read with what they got, without a pause longer than that between two requests.
pub(crate) struct Clients {
    stop: Arc<AtomicBool>,
    working: JoinHandle<Report>,
}

/// How clients fared.
#[derive(Debug, Default)]
pub(crate) struct Report {
    pub(crate) logins: usize,
    pub(crate) reads: usize,
    /// Logins that were told that nobody knows what came of them.
    pub(crate) unknown: usize,
    /// The longest that a login with its three reads took.
    pub(crate) longest: Duration,
    pub(crate) failed: Vec<(Duration, String)>,
}

impl Clients {
    /// Starts them on `site`, reading `path`, whose password is `password`.
    pub(crate) fn start(site: &Site, path: &str, password: &str) -> Clients {
        let stop: Arc<AtomicBool> = Arc::default();
        let client = site.daemon.client().within(Duration::from_secs(15));
        let (path, password) = (path.to_owned(), password.to_owned());
        let stopping = stop.clone();
        let working = tokio::spawn(async move {
            let (began, mut report) = (clock::instant(), Report::default());
            // One whose first answers were taken along has told nothing yet.
            let is_mute = |report: &Report| {
                report.logins == 0 && report.failed.is_empty() && report.unknown < 3
            };
            while !stopping.load(Ordering::Acquire) || is_mute(&report) {
                let turn = clock::instant();
                if let Err(failure) = once(&client, &path, &password, &mut report).await {
                    report.failed.push((since(began), failure.to_string()));
                }
                report.longest = report.longest.max(since(turn));
                // In an outage each login is a grant, and settling takes its time for each.
                tokio::time::sleep(Duration::from_millis(300)).await;
            }
            report
        });
        Clients { stop, working }
    }

    /// Stops them.
    ///
    /// # Errors
    /// If any of their requests failed, or they made too few to tell anything.
    pub(crate) async fn flawless(self, site: &Site) -> Result<Report> {
        self.flawless_over(site, 0).await
    }

    /// The same where so many times all connections were closed: each time may have taken along the answer to a login, which is
    /// sent once.
    pub(crate) async fn flawless_over(self, site: &Site, closed: usize) -> Result<Report> {
        self.stop.store(true, Ordering::Release);
        let report = self.working.await.context("the clients")?;
        if !report.failed.is_empty() || report.logins == 0 || report.unknown > closed {
            return Err(site.daemon.failure(format!("{report:#?}")));
        }
        Ok(report)
    }
}

async fn once(
    client: &harness::client::raw::Client,
    path: &str,
    password: &str,
    report: &mut Report,
) -> Result<()> {
    let asked = clock::instant();
    let login = client.send(&login_request("orders")).await?;
    if login.status == 504 && is_unknown(&login.text()) {
        report.unknown += 1;
        return Ok(());
    }
    let login = Login::of(&login, asked)?;
    report.logins += 1;
    for _ in 0..3 {
        let ask = Ask::get(&format!("/v1/{path}")).token(&login.token)?;
        let read = client.send(&ask).await?;
        if read.status != 200 || !read.text().contains(password) {
            return Err(Failure::new(format!(
                "a read with a token of {:?} ago: {} {}",
                since(asked),
                read.status,
                read.text()
            )));
        }
        report.reads += 1;
    }
    Ok(())
}

/// Whether this says that nobody knows what came of a request.
fn is_unknown(text: &str) -> bool {
    text.contains("carried out is unknown")
}

fn since(began: Instant) -> Duration {
    clock::instant().saturating_duration_since(began)
}
