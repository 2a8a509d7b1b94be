//! A host with Holdover on it, beside a primary and a database: where most stories begin.
//!
//! Holdover logs in by AppRole and has exactly the rights that its own `config policy` printed. As root it runs as a
//! user of its own, as it would in production.

mod story;

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use toml::Value;

use crate::bao::api::Api;
use crate::bao::{DatabaseRole, Primary, Transport};
use crate::clock::Stopwatch;
use crate::cluster::Cluster;
use crate::daemon::Daemon;
use crate::daemon::config::{Config, Workload};
use crate::failure::{Context, Failure, Result};
use crate::place;
use crate::postgres::Postgres;
use crate::tap::Tap;
use crate::world::{self, World};

pub use story::{Login, Servers, login_request};

/// How long Holdover may take to be ready.
pub const READY: Duration = Duration::from_secs(60);
/// How long an outage may take to be noticed by the machine.
pub const FAILOVER: Duration = Duration::from_secs(20);
/// How long settling with a primary that is back may take, the wait for the next probe included.
pub const RECOVERY: Duration = Duration::from_secs(90);

/// The user that Holdover runs as where we may choose.
const HOLDOVER: (u32, u32) = (4300, 4300);

/// Our own uid: whom a workload entry matches if a test's own requests are to come from it.
pub fn own_uid() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// What the story needs. Defaults: five secrets a team, mirrored every second; no database.
pub struct Plan {
    executable: PathBuf,
    secrets: usize,
    database: Option<(Duration, Duration)>,
    transport: Transport,
    tapped: bool,
    fake_clock: bool,
    as_ourselves: bool,
    namespace: String,
    env: Vec<(String, String)>,
    config: Config,
}

impl Plan {
    /// For `executable`: suites pass `env!("CARGO_BIN_EXE_holdover-under-test")`.
    pub fn new(executable: impl AsRef<Path>) -> Plan {
        let config = Config::new()
            .mirror("secret/data/shop/*", &[("interval", "1s".into())])
            .set("failover.probe_interval", "1s")
            .set("failover.authority_interval", "5s");
        Plan {
            executable: executable.as_ref().to_owned(),
            secrets: 5,
            database: None,
            transport: Transport::Tls,
            tapped: false,
            fake_clock: false,
            as_ourselves: false,
            namespace: String::new(),
            env: Vec::new(),
            config,
        }
    }

    /// Plants this many secrets for each team.
    pub fn secrets(mut self, count: usize) -> Plan {
        self.secrets = count;
        self
    }

    /// Brings a PostgreSQL, and mirrors `database/creds/orders`, whose leases have these TTLs, in whole seconds.
    pub fn database(mut self, default_ttl: Duration, max_ttl: Duration) -> Plan {
        self.database = Some((default_ttl, max_ttl));
        self.mirror("database/creds/orders", &[])
    }

    /// The same with a pool of this size in place of the shared lease.
    pub fn pooled_database(mut self, default_ttl: Duration, max_ttl: Duration, pool: i64) -> Plan {
        self.database = Some((default_ttl, max_ttl));
        self.mirror("database/creds/orders", &[("pool", pool.into())])
    }

    /// Adds a workload entry.
    pub fn workload(self, workload: Workload) -> Plan {
        self.configured(|config| config.workload(workload))
    }

    /// Adds a mirror.
    pub fn mirror(self, path: &str, keys: &[(&str, Value)]) -> Plan {
        self.configured(|config| config.mirror(path, keys))
    }

    /// Takes every mirror out again: Holdover is a plain proxy.
    pub fn unmirrored(self) -> Plan {
        self.configured(|config| config.unset("mirror"))
    }

    /// Sets a key of the configuration.
    pub fn set(self, dotted: &str, value: impl Into<Value>) -> Plan {
        self.configured(|config| config.set(dotted, value))
    }

    /// Has Holdover reach the primary, over plain HTTP, through a wire that keeps what is said.
    pub fn tapped(mut self) -> Plan {
        self.transport = Transport::Plain;
        self.tapped = true;
        self
    }

    /// Has Holdover reach the primary, over TLS, through a wire that can be cut.
    pub fn wired(mut self) -> Plan {
        self.tapped = true;
        self
    }

    /// Puts Holdover's wall clock under the test's control.
    pub fn fake_clock(mut self) -> Plan {
        self.fake_clock = true;
        self
    }

    /// Has Holdover run as who runs the test, root or not: what it is to run within, only we can enter.
    pub fn as_ourselves(mut self) -> Plan {
        self.as_ourselves = true;
        self
    }

    /// Has everything in this namespace below the root, which is made: the world, Holdover's login, what is mirrored.
    pub fn in_namespace(mut self, name: &str) -> Plan {
        self.namespace = name.to_owned();
        self.set("primary.namespace", name)
    }

    /// Sets a variable of Holdover's environment.
    pub fn env(mut self, name: &str, value: &str) -> Plan {
        self.env.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Starts everything and waits until Holdover is ready.
    pub async fn start(self) -> Result<Host> {
        let mut host = self.prepare().await?;
        host.start().await?;
        Ok(host)
    }

    /// Everything but Holdover itself: servers run, the world is seeded, the configuration and login are in place.
    pub async fn prepare(self) -> Result<Host> {
        let watch = Stopwatch::start();
        let (primary, postgres) =
            tokio::try_join!(Primary::start(self.transport), self.postgres())?;
        let servers = watch.elapsed();
        let root = primary.root().in_namespace(&self.namespace);
        if !self.namespace.is_empty() {
            let namespace = format!("sys/namespaces/{}", self.namespace);
            primary
                .root()
                .write(&namespace, &serde_json::json!({}))
                .await?;
        }
        let world = World::seed_by(&root, self.secrets).await?;
        if let (Some(postgres), Some((default_ttl, max_ttl))) = (&postgres, self.database) {
            let role = DatabaseRole {
                name: "orders",
                default_ttl,
                max_ttl,
            };
            primary.enable_database(postgres, &role).await?;
        }
        let seeding = watch.elapsed().saturating_sub(servers);
        let tap = self.tap(&primary).await?;
        let took = Took {
            servers,
            seeding,
            ready: Duration::ZERO,
        };
        let (address, ca_file) = self.way(&primary, tap.as_ref());
        let installed = self.install(&[address], ca_file, &root).await?;
        let (daemon, policy, config) = installed;
        Ok(Host {
            primary,
            postgres,
            world,
            daemon,
            tap,
            policy,
            took,
            config: Mutex::new(config),
        })
    }

    /// Starts everything over a cluster that runs, by these of its addresses or of what is before it, and waits until
    /// Holdover is ready. What the plan says of a primary's transport, wire and database is not for clusters.
    pub async fn start_over(self, cluster: Cluster, addresses: &[String]) -> Result<Host<Cluster>> {
        let mut host = self.prepare_over(cluster, addresses).await?;
        host.start().await?;
        Ok(host)
    }

    /// Everything of [`Plan::start_over`] but Holdover's start.
    pub async fn prepare_over(
        self,
        cluster: Cluster,
        addresses: &[String],
    ) -> Result<Host<Cluster>> {
        let (watch, root) = (Stopwatch::start(), cluster.root().await?);
        let world = World::seed_by(&root, self.secrets).await?;
        cluster.wait_for_read("secret/data/shop/shared").await?;
        let took = Took {
            servers: Duration::ZERO,
            seeding: watch.elapsed(),
            ready: Duration::ZERO,
        };
        let installed = self.install(addresses, Some(cluster.ca_file()), &root);
        let (daemon, policy, config) = installed.await?;
        cluster.wait_caught_up().await?;
        Ok(Host {
            primary: cluster,
            postgres: None,
            world,
            daemon,
            tap: None,
            policy,
            took,
            config: Mutex::new(config),
        })
    }

    /// Holdover's host, with configuration and login in place; what `config policy` printed.
    async fn install(
        &self,
        addresses: &[String],
        ca_file: Option<&Path>,
        root: &Api,
    ) -> Result<(Daemon, String, Config)> {
        let of_its_own = place::is_root() && !self.as_ourselves;
        let daemon = Daemon::install(&self.executable, of_its_own.then_some(HOLDOVER))?;
        for (name, value) in &self.env {
            daemon.set_env(name, value);
        }
        if self.fake_clock {
            daemon.fake_clock()?;
        }
        let etc = daemon.folder().join("etc");
        let config = daemon
            .base_config()
            .merged(&self.config)
            .primary(addresses, ca_file)
            .approle(&etc.join("role_id"), &etc.join("secret_id"));
        daemon.configure(&config)?;
        let policy = printed_policy(&daemon).await?;
        world::holdover_login_by(root, &policy, &daemon).await?;
        Ok((daemon, policy, config))
    }

    async fn postgres(&self) -> Result<Option<Postgres>> {
        match self.database {
            Some(_) => Postgres::start().await.map(Some),
            None => Ok(None),
        }
    }

    async fn tap(&self, primary: &Primary) -> Result<Option<Tap>> {
        let address = primary.address();
        let target = address.rsplit('/').next().context("an address")?;
        match self.tapped {
            true => Tap::to(target).await.map(Some),
            false => Ok(None),
        }
    }

    /// The address by which Holdover reaches the primary, and the CA file where that is TLS.
    fn way<'a>(&self, primary: &'a Primary, tap: Option<&Tap>) -> (String, Option<&'a Path>) {
        let tls = self.transport == Transport::Tls;
        let address = match tap {
            Some(tap) if tls => format!("https://{}", tap.address()),
            Some(tap) => format!("http://{}", tap.address()),
            None => primary.address(),
        };
        (address, tls.then(|| primary.ca_file()))
    }

    fn configured(mut self, change: impl FnOnce(Config) -> Config) -> Plan {
        self.config = change(self.config);
        self
    }
}

/// The world of a story, over one server or a cluster. Everything in it ends with it.
pub struct Host<P = Primary> {
    /// The primary.
    pub primary: P,
    /// The database, where the plan has one.
    pub postgres: Option<Postgres>,
    /// What was planted at the primary.
    pub world: World,
    /// Holdover.
    pub daemon: Daemon,
    /// The wire to the primary, where the plan has one.
    pub tap: Option<Tap>,
    /// What `config policy` printed: the rights that Holdover has.
    pub policy: String,
    /// How long the preparations took.
    pub took: Took,
    config: Mutex<Config>,
}

/// How long the preparations took.
#[derive(Clone, Copy, Debug)]
pub struct Took {
    /// Until primary and database were up.
    pub servers: Duration,
    /// Seeding them.
    pub seeding: Duration,
    /// From Holdover's start until it was ready; zero before.
    pub ready: Duration,
}

impl<P> Host<P> {
    /// Starts Holdover and waits until it is ready.
    pub async fn start(&mut self) -> Result<()> {
        let watch = Stopwatch::start();
        self.daemon.start()?;
        self.daemon.wait_ready(READY).await?;
        self.took.ready = watch.elapsed();
        Ok(())
    }

    /// Changes the configuration file, which a running Holdover watches.
    pub fn reconfigure(&self, change: impl FnOnce(Config) -> Config) -> Result<()> {
        let mut config = self.config.lock().unwrap_or_else(PoisonError::into_inner);
        *config = change(config.clone());
        self.daemon.configure(&config)
    }

    /// The database, which the plan must have.
    pub fn postgres(&self) -> Result<&Postgres> {
        self.postgres
            .as_ref()
            .context("the plan has no database: call Plan::database")
    }

    /// The wire, which the plan must have.
    pub fn tap(&self) -> Result<&Tap> {
        self.tap
            .as_ref()
            .context("the plan has no wire: call Plan::tapped or Plan::wired")
    }
}

async fn printed_policy(daemon: &Daemon) -> Result<String> {
    let bound = Duration::from_secs(10);
    let said = daemon.cli(&["config", "policy"], bound).await?;
    let policy = said.success().context("holdover config policy")?;
    match policy.contains("path ") {
        true => Ok(policy),
        false => Err(Failure::new(format!(
            "holdover config policy printed no policy: {policy:?}"
        ))),
    }
}
