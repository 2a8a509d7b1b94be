//! One server of a cluster: it can be killed, stopped, sealed, and cut off from clients, peers or its storage.

use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};

use super::config::{self, Settings};
use super::{Keys, PATIENCE, Processes, Storage};
use crate::bao::api::{Answer, Api};
use crate::failure::{Context, Failure, Result};
use crate::link::{Flow, Link, Origin, Switch};
use crate::place::Room;
use crate::port::Port;
use crate::process::{Launch, Process};
use crate::provision::Parts;

/// How long a server may take to end in order.
const ORDERLY_END: Duration = Duration::from_secs(20);
/// How long the harness waits for a node to say how it is. A stopped node never does.
const HEALTH: Duration = Duration::from_secs(1);

/// A node. Killed when dropped.
///
/// Clients and peers reach it over links, which can be cut. The harness itself reaches it past them.
pub struct Node {
    name: String,
    number: usize,
    process: Mutex<Option<Process>>,
    launch: Launch,
    ports: [Port; 2],
    ways: Ways,
    state: Mutex<Reach>,
    folder: PathBuf,
    shared: Shared,
}

/// How a node is to be reached: what was cut, and whether there is anything to reach.
struct Reach {
    up: bool,
    api: Flow,
    cluster: Flow,
}

/// What all nodes of a cluster have in common.
#[derive(Clone)]
pub(super) struct Shared {
    pub(super) http: reqwest::Client,
    pub(super) keys: Arc<OnceLock<Keys>>,
    pub(super) processes: Processes,
    /// Each node's switch between it and its peers.
    pub(super) switches: Arc<[Switch]>,
}

/// The ways to a node, and its way to the storage where that is elsewhere.
struct Ways {
    api: (Switch, Link),
    cluster: Link,
    storage: Option<(Switch, Link)>,
}

impl Node {
    /// Prepares the node of this number; nothing runs yet.
    pub(super) async fn prepare(
        number: usize,
        storage: &Storage,
        room: &Room,
        shared: &Shared,
    ) -> Result<Node> {
        let name = format!("node{number}");
        let folder = room.folder(&name, 0o700, None)?;
        let ports = [Port::reserve()?, Port::reserve()?];
        let ways = Ways::open(number, &ports, storage, shared).await?;
        let [api, cluster] = ports.each_ref().map(Port::number);
        let storage = match (storage, &ways.storage) {
            (Storage::Postgres(postgres), Some((_, link))) => {
                config::postgres(link.port(), postgres.password())
            }
            _ => config::raft(&folder, &name),
        };
        room.folder(&format!("{name}/raft"), 0o700, None)?;
        let text = config::text(&Settings {
            name: &name,
            folder: &folder,
            storage: &storage,
            api: (api, ways.api.1.port()),
            cluster: (cluster, ways.cluster.port()),
        });
        let config = room.file(&format!("{name}/server.hcl"), text, 0o600, None)?;
        let mut launch = Launch::new(&name, &Parts::get()?.bao, &folder.join("server.log"))
            .args(["server".into(), "-config".into(), config.into_os_string()])
            .env("HOME", &folder)
            .env("GOMAXPROCS", "1");
        launch.folder = folder.clone();
        Ok(Node {
            name,
            number,
            process: Mutex::new(None),
            launch,
            ports,
            ways,
            state: Mutex::new(Reach {
                up: false,
                api: Flow::Open,
                cluster: Flow::Open,
            }),
            folder,
            shared: shared.clone(),
        })
    }

    /// Its name in the cluster: `node0`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its place in the cluster, from 0.
    pub fn number(&self) -> usize {
        self.number
    }

    /// Its address as clients know it, and as peers name it in redirects; it leads over the link.
    pub fn address(&self) -> String {
        format!("https://{}", self.socket_address())
    }

    /// The same without a scheme: `127.0.0.1:PORT`.
    pub fn socket_address(&self) -> String {
        format!("127.0.0.1:{}", self.ways.api.1.port())
    }

    /// A client with this token, or with none if it is empty, as others reach the node: over the link.
    pub fn api(&self, token: &str) -> Api {
        Api::new(self.shared.http.clone(), &self.address(), token)
    }

    /// A client with this token that reaches the node whatever is cut.
    pub fn direct(&self, token: &str) -> Api {
        let [api, _] = &self.ports;
        let address = format!("https://127.0.0.1:{}", api.number());
        Api::new(self.shared.http.clone(), &address, token)
    }

    /// A client with the root token that reaches the node whatever is cut.
    pub fn root(&self) -> Api {
        self.direct(self.shared.keys.get().map_or("", |keys| &keys.root_token))
    }

    /// Its folder: storage, configuration and logs.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Its audit log: one JSON object a line.
    pub fn audit_log(&self) -> PathBuf {
        self.folder.join("audit.log")
    }

    /// Fills the disk of its audit log, or empties it again: it refuses all that it would audit while it is full.
    pub fn fill_audit(&self, full: bool) -> Result<()> {
        let (log, kept) = (self.audit_log(), self.folder.join("audit.log.kept"));
        if full {
            std::fs::rename(&log, &kept)?;
            std::os::unix::fs::symlink("/dev/full", &log)?;
        } else {
            std::fs::rename(&kept, &log)?;
        }
        self.with_process(|process| process.signal(nix::sys::signal::Signal::SIGHUP))
    }

    /// What it says of itself to `sys/health`; none if it says nothing within a second.
    pub async fn health(&self) -> Option<Answer> {
        let client = self.direct("");
        let asked = tokio::time::timeout(HEALTH, client.get("sys/health"));
        asked.await.ok()?.ok()
    }

    /// What it answers at `sys/leader`.
    pub async fn leader(&self) -> Result<Value> {
        self.direct("").get("sys/leader").await?.ok()
    }

    /// Cuts its API off from all clients.
    pub async fn cut_api(&self, how: Flow) -> Result<()> {
        self.reach(|reach| reach.api = how);
        self.ways.api.1.settled().await
    }

    /// Cuts it off from its peers, both ways; its API stays.
    pub async fn cut_cluster(&self, how: Flow) -> Result<()> {
        self.reach(|reach| reach.cluster = how);
        self.ways.cluster.settled().await
    }

    /// Cuts it off from its storage, where that is a database.
    pub async fn cut_storage(&self, how: Flow) -> Result<()> {
        let way = self.ways.storage.as_ref();
        let (switch, link) = way.context("raft is the node's own storage")?;
        switch.set(how);
        link.settled().await
    }

    /// Opens all ways again.
    pub async fn restore(&self) -> Result<()> {
        self.cut_api(Flow::Open).await?;
        self.cut_cluster(Flow::Open).await?;
        match self.ways.storage {
            Some(_) => self.cut_storage(Flow::Open).await,
            None => Ok(()),
        }
    }

    /// `kill -9`. Its listeners are gone shortly after.
    pub fn kill9(&self) -> Result<()> {
        self.reach(|reach| reach.up = false);
        self.with_process(Process::kill9)
    }

    /// SIGSTOP: connections open, nothing answers.
    pub fn stop(&self) -> Result<()> {
        self.with_process(Process::stop)
    }

    /// SIGCONT after [`Node::stop`].
    pub fn cont(&self) -> Result<()> {
        self.with_process(Process::cont)
    }

    /// Starts it again, after any end, and unseals it.
    pub async fn start_again(&self) -> Result<()> {
        self.start_sealed().await?;
        self.unseal().await
    }

    /// Starts it again and leaves it sealed.
    pub async fn start_sealed(&self) -> Result<()> {
        let _ = self.kill9();
        self.launch()?;
        self.wait_up().await
    }

    /// Ends it in order and starts it again.
    pub async fn restart(&self) -> Result<()> {
        self.with_process(Process::terminate)?;
        let process = self.slot().take().context("it was not started")?;
        process
            .exited(ORDERLY_END)
            .await
            .map_err(|failure| process.failure(failure))?;
        self.reach(|reach| reach.up = false);
        self.start_again().await
    }

    /// Seals it. The active node is told to; a standby refuses that and is started again instead.
    pub async fn seal(&self) -> Result<()> {
        let answer = self.root().put("sys/seal", &json!({})).await?;
        if answer.status >= 400 {
            return self.start_sealed().await;
        }
        self.wait_health("a sealed node", |status| status == 503)
            .await
    }

    /// Unseals it, and waits until it is active or a standby.
    pub async fn unseal(&self) -> Result<()> {
        let keys = self.shared.keys.get().context("not initialised")?;
        let body = json!({ "key": keys.unseal_key });
        let unsealed = self.direct("").put("sys/unseal", &body).await?;
        unsealed
            .ok()
            .context(format!("unsealing {}", self.name()))?;
        self.wait_health("an unsealed node", |status| matches!(status, 200 | 429))
            .await
    }

    /// The end of the server's log.
    pub fn log_tail(&self, lines: usize) -> String {
        crate::process::tail(&self.launch.log, lines)
    }

    /// Starts the process.
    pub(super) fn launch(&self) -> Result<()> {
        let process = self.launch.start()?;
        if let Some(id) = self.shared.processes.get(self.number) {
            id.store(process.id(), Ordering::SeqCst);
        }
        *self.slot() = Some(process);
        Ok(())
    }

    /// Waits until it listens, and lets others reach it.
    pub(super) async fn wait_up(&self) -> Result<()> {
        self.wait_health("server up", |_| true).await?;
        self.reach(|reach| reach.up = true);
        self.ways.api.1.settled().await?;
        self.ways.cluster.settled().await
    }

    /// Waits until its health has such a status.
    pub(super) async fn wait_health(&self, what: &str, holds: impl Fn(u16) -> bool) -> Result<()> {
        let waited = crate::eventually(PATIENCE, what, async || match self.health().await {
            Some(answer) if holds(answer.status) => Ok(()),
            Some(answer) => Err(format!("health {}: {}", answer.status, answer.body)),
            None => Err("no answer".to_owned()),
        });
        waited.await.map_err(|failure| {
            let tail = self.log_tail(40);
            Failure::new(format!("{}: {failure}\n--- server log\n{tail}", self.name))
        })
    }

    /// Changes how it is to be reached. Where nothing listens a connection is refused, unless it gets nowhere anyway.
    fn reach(&self, change: impl FnOnce(&mut Reach)) {
        let mut reach = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut reach);
        let seen = |cut: Flow| match cut {
            Flow::Open if !reach.up => Flow::Refused,
            cut => cut,
        };
        self.ways.api.0.set(seen(reach.api));
        self.peers().set(seen(reach.cluster));
    }

    fn peers(&self) -> &Switch {
        &self.shared.switches[self.number]
    }

    fn slot(&self) -> std::sync::MutexGuard<'_, Option<Process>> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn with_process(&self, act: impl Fn(&Process) -> Result<()>) -> Result<()> {
        let slot = self.slot();
        act(slot
            .as_ref()
            .context(format!("{} was not started", self.name))?)
    }
}

impl Ways {
    async fn open(
        number: usize,
        ports: &[Port; 2],
        storage: &Storage,
        shared: &Shared,
    ) -> Result<Ways> {
        let nobody: Origin = Arc::new(|_, _| None);
        let [api, cluster] = ports.each_ref().map(Port::number);
        let clients = Switch::default();
        let api = Link::to(api, &clients, nobody.clone()).await?;
        let peers = &shared.switches[number];
        let cluster = Link::to(cluster, peers, shared.peers()).await?;
        let storage = match storage {
            Storage::Postgres(postgres) => {
                let switch = Switch::default();
                let link = Link::to(postgres.port(), &switch, nobody).await?;
                Some((switch, link))
            }
            Storage::Raft => None,
        };
        Ok(Ways {
            api: (clients, api),
            cluster,
            storage,
        })
    }
}

impl Shared {
    /// Whose connection it is, among the nodes: so that cutting a node cuts what it opened to its peers.
    fn peers(&self) -> Origin {
        let (processes, switches) = (self.processes.clone(), self.switches.clone());
        Arc::new(move |client, listener| {
            let ids: Vec<u32> = processes
                .iter()
                .map(|id| id.load(Ordering::SeqCst))
                .collect();
            let node = super::sockets::holder(client, listener, &ids)?;
            switches.get(node).cloned()
        })
    }
}
