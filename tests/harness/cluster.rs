//! A real cluster: several OpenBao servers, by raft or on one PostgreSQL, each to be killed, stopped, sealed or cut off.
//!
//! Everything between the nodes, and between clients and a node, passes links ([`crate::link`]), because they can be
//! cut without root. The nodes tell each other the links' addresses.

mod config;
mod node;
mod sockets;

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU32;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use self::node::Shared;
use crate::authority::Authority;
use crate::bao::api::Api;
use crate::client::raw::Client;
use crate::clock::Stopwatch;
use crate::failure::{Context, Failure, Result};
use crate::link::{Flow, Switch};
use crate::place::Room;
use crate::postgres::Postgres;
use crate::provision::Parts;
use crate::together::together;

pub use node::Node;

/// How long a cluster or a node of it may take for what it is told before the harness gives up.
const PATIENCE: Duration = Duration::from_secs(60);

/// The process of each node; 0 before its first start.
type Processes = Arc<[AtomicU32]>;

/// What initialisation gave.
struct Keys {
    unseal_key: String,
    root_token: String,
}

/// Where the nodes keep what they are told.
enum Storage {
    Raft,
    Postgres(Postgres),
}

/// A cluster: initialised, unsealed, with a leader and standbys that have all it has. Killed when dropped.
pub struct Cluster {
    nodes: Vec<Node>,
    storage: Storage,
    keys: Arc<OnceLock<Keys>>,
    authority: Authority,
    ca: PathBuf,
    _room: Room,
}

impl Cluster {
    /// Starts `count` raft nodes; node 0 leads. About six seconds for three.
    pub async fn raft(count: usize) -> Result<Cluster> {
        Cluster::raft_under(&Authority::make()?, count).await
    }

    /// The same with certificates of this authority, as for another cluster at the address of a first one.
    pub async fn raft_under(authority: &Authority, count: usize) -> Result<Cluster> {
        let cluster = Cluster::prepare(authority, count, Storage::Raft).await?;
        start(&cluster.nodes).await?;
        let first = cluster.initialise().await?;
        // By default a new node must be well for ten seconds before it may vote.
        let eager = json!({ "server_stabilization_time": "100ms" });
        first
            .root()
            .write("sys/storage/raft/autopilot/configuration", &eager)
            .await?;
        let joins = cluster.nodes.iter().skip(1);
        together(joins.map(|node| cluster.join(node, first))).await?;
        cluster.wait_voters(first).await?;
        cluster.wait_caught_up().await?;
        Ok(cluster)
    }

    /// Starts `count` nodes on one PostgreSQL; node 0 leads.
    pub async fn postgres(count: usize) -> Result<Cluster> {
        let storage = Storage::Postgres(Postgres::start().await?);
        let cluster = Cluster::prepare(&Authority::make()?, count, storage).await?;
        // The first makes the tables; two at once would fall over each other.
        let (first, rest) = cluster.nodes.split_at(1);
        start(first).await?;
        cluster.initialise().await?;
        start(rest).await?;
        together(rest.iter().map(Node::unseal)).await?;
        Ok(cluster)
    }

    /// All nodes.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// The node of this number, from 0.
    ///
    /// # Panics
    /// If there is none.
    pub fn node(&self, number: usize) -> &Node {
        &self.nodes[number]
    }

    /// The nodes' addresses as clients know them, as in `[primary] addresses`.
    pub fn addresses(&self) -> Vec<String> {
        self.nodes.iter().map(Node::address).collect()
    }

    /// The same without a scheme, for balancers.
    pub fn socket_addresses(&self) -> Vec<String> {
        self.nodes.iter().map(Node::socket_address).collect()
    }

    /// The CA that all its certificates hang from.
    pub fn ca_file(&self) -> &Path {
        &self.ca
    }

    /// Whose certificates the nodes have; a balancer before them needs one of the same.
    pub fn authority(&self) -> &Authority {
        &self.authority
    }

    /// The root token.
    pub fn root_token(&self) -> &str {
        self.keys.get().map_or("", |keys| &keys.root_token)
    }

    /// The database, where the nodes are on one.
    pub fn database(&self) -> Option<&Postgres> {
        match &self.storage {
            Storage::Postgres(postgres) => Some(postgres),
            Storage::Raft => None,
        }
    }

    /// A client, with connections of its own, of something that stands before the nodes: `https://127.0.0.1:PORT`.
    ///
    /// # Panics
    /// If the cluster's own CA cannot be read.
    pub fn client(&self, address: &str, token: &str) -> Api {
        let http = crate::bao::client_trusting(&self.authority.ca).expect("the cluster's own CA");
        Api::new(http, address, token)
    }

    /// A client of something that stands before the nodes, `https://127.0.0.1:PORT`, which sends what it is told to.
    pub fn raw_client(&self, address: &str) -> Result<Client> {
        Client::tls(&crate::front::bare(address)?, &self.authority.ca)
    }

    /// Its cluster id.
    pub async fn id(&self) -> Result<String> {
        let leader = self.wait_for_leader(PATIENCE).await?;
        let status = leader.direct("").get("sys/seal-status").await?;
        status.text("/cluster_id")
    }

    /// An `X-Vault-Index` that no node will ever reach, in the form that this cluster's own have.
    pub async fn beyond_any(&self) -> Result<String> {
        let value = match self.storage {
            Storage::Raft => "9223372036854775807",
            Storage::Postgres(_) => "FFFFFFFF/FFFFFFFF",
        };
        let index = json!({ "cluster": self.id().await?, "value": value });
        Ok(STANDARD.encode(index.to_string()))
    }

    /// The node that is active now, if one is.
    pub async fn active(&self) -> Option<&Node> {
        let healths = self.healths().await;
        let active = healths.iter().position(|status| *status == Some(200))?;
        self.nodes.get(active)
    }

    /// The nodes that are standbys now.
    pub async fn standbys(&self) -> Vec<&Node> {
        let healths = self.healths().await;
        let standby = |(node, status)| (status == Some(429)).then_some(node);
        self.nodes.iter().zip(healths).filter_map(standby).collect()
    }

    /// Waits until one node is active; gives that node.
    pub async fn wait_for_leader(&self, bound: Duration) -> Result<&Node> {
        self.wait_for_leader_but(None, bound).await
    }

    /// Waits until a node other than `old` is active and `old` is not; gives that node. A node that was cut off goes on
    /// believing in itself for a moment.
    pub async fn wait_for_leader_after(&self, old: &Node, bound: Duration) -> Result<&Node> {
        self.wait_for_leader_but(Some(old), bound).await
    }

    /// A client of the active node with the root token, past all links.
    pub async fn root(&self) -> Result<Api> {
        Ok(self.wait_for_leader(PATIENCE).await?.root())
    }

    /// Makes the active node step down, and waits until a node has become active after that: often the same.
    pub async fn step_down(&self) -> Result<&Node> {
        let old = self.wait_for_leader(PATIENCE).await?;
        let since = old.leader().await?["active_time"].take();
        let answer = old.root().put("sys/step-down", &json!({})).await?;
        answer.ok().context("step-down")?;
        crate::eventually(PATIENCE, "the next leader", async || {
            let new = self.active().await.context("no node is active")?;
            match new.leader().await?["active_time"] == since {
                true => Err(Failure::new("still the one that stepped down")),
                false => Ok(new),
            }
        })
        .await
    }

    /// Makes the active node step down until another one leads; gives that node.
    pub async fn move_leader(&self) -> Result<&Node> {
        let old = self.wait_for_leader(PATIENCE).await?;
        let watch = Stopwatch::start();
        while watch.elapsed() < PATIENCE {
            let new = self.step_down().await?;
            if new.number() != old.number() {
                return Ok(new);
            }
        }
        Err(Failure::new(format!(
            "{} was elected again and again for {PATIENCE:?}",
            old.name()
        )))
    }

    /// Restarts every node in order, standbys first, and waits after each until the cluster is whole.
    pub async fn rolling_restart(&self) -> Result<()> {
        let mut order: Vec<&Node> = self.standbys().await;
        order.push(self.wait_for_leader(PATIENCE).await?);
        for node in order {
            node.restart().await?;
            self.wait_for_leader(PATIENCE).await?;
            self.wait_caught_up().await?;
        }
        Ok(())
    }

    /// Waits until every node that runs unsealed has applied what the leader had applied at the call. On PostgreSQL
    /// there is nothing to catch up with.
    pub async fn wait_caught_up(&self) -> Result<()> {
        let leader = self.wait_for_leader(PATIENCE).await?;
        let Some(mark) = applied(&leader.leader().await?) else {
            return Ok(());
        };
        for node in self.standbys().await {
            let what = format!("{} to catch up with {mark}", node.name());
            crate::eventually(PATIENCE, &what, async || match node.leader().await {
                Ok(said) if applied(&said) >= Some(mark) => Ok(()),
                Ok(said) => Err(said.to_string()),
                Err(failure) => Err(failure.to_string()),
            })
            .await?;
        }
        Ok(())
    }

    /// Waits until every node that runs reads `path` for itself: a standby answers 400 for a new KV mount until it has
    /// seen that the active node has set the mount up.
    pub async fn wait_for_read(&self, path: &str) -> Result<()> {
        let reads = self.nodes.iter().map(async |node| {
            let what = format!("{} to read {path}", node.name());
            crate::eventually(PATIENCE, &what, async || {
                match node.root().get(path).await {
                    Ok(answer) if answer.status == 200 => Ok(()),
                    Ok(answer) => Err(answer.body.to_string()),
                    Err(failure) => Err(failure.to_string()),
                }
            })
            .await
        });
        together(reads).await.map(drop)
    }

    /// Cuts every node's API off from all clients, or opens all of them again.
    pub async fn cut_apis(&self, how: Flow) -> Result<()> {
        let cuts = self.nodes.iter().map(|node| node.cut_api(how));
        together(cuts).await.map(drop)
    }

    async fn prepare(authority: &Authority, count: usize, storage: Storage) -> Result<Cluster> {
        Parts::get()?;
        let room = Room::make()?;
        let ca = room.file("ca.pem", &authority.ca, 0o644, None)?;
        let shared = Shared {
            http: crate::bao::client_trusting(&authority.ca)?,
            keys: Arc::default(),
            processes: (0..count).map(|_| AtomicU32::new(0)).collect(),
            switches: (0..count).map(|_| Switch::default()).collect(),
        };
        let mut nodes = Vec::new();
        for number in 0..count {
            let node = Node::prepare(number, &storage, &room, &shared).await?;
            let file = |name: &str| format!("{}/{name}", node.name());
            room.file(&file("server.pem"), &authority.certificate, 0o644, None)?;
            room.file(&file("server.key"), &authority.key, 0o600, None)?;
            nodes.push(node);
        }
        Ok(Cluster {
            nodes,
            storage,
            keys: shared.keys,
            authority: authority.clone(),
            ca,
            _room: room,
        })
    }

    /// Initialises the first node, which is active then.
    async fn initialise(&self) -> Result<&Node> {
        let first = self.nodes.first().context("a cluster has a node")?;
        let body = json!({ "secret_shares": 1, "secret_threshold": 1 });
        let answer = first.direct("").put("sys/init", &body).await?;
        let answer = answer.ok().context("init")?;
        let text = |pointer: &str| {
            let text = answer.pointer(pointer).and_then(Value::as_str);
            text.map(str::to_owned)
                .context(format!("{pointer} of init"))
        };
        let keys = Keys {
            unseal_key: text("/keys_base64/0")?,
            root_token: text("/root_token")?,
        };
        let unused = self.keys.set(keys);
        unused.map_err(|_| Failure::new("initialised twice"))?;
        first.unseal().await?;
        first
            .wait_health("an active node", |status| status == 200)
            .await?;
        Ok(first)
    }

    async fn join(&self, node: &Node, leader: &Node) -> Result<()> {
        let body = json!({
            "leader_api_addr": leader.address(),
            "leader_ca_cert": self.authority.ca,
        });
        let joined = node.direct("").post("sys/storage/raft/join", &body).await?;
        joined.ok().context(format!("{} joins", node.name()))?;
        node.unseal().await
    }

    /// Until then the loss of a node may be the loss of the cluster.
    async fn wait_voters(&self, leader: &Node) -> Result<()> {
        let path = "sys/storage/raft/configuration";
        crate::eventually(PATIENCE, "every node to vote", async || {
            let said = leader.root().get(path).await?.data()?;
            let servers = said.pointer("/config/servers").and_then(Value::as_array);
            let votes = |server: &&Value| server["voter"] == true;
            let voters = servers.into_iter().flatten().filter(votes).count();
            match voters == self.nodes.len() {
                true => Ok(()),
                false => Err(Failure::new(said)),
            }
        })
        .await
    }

    async fn wait_for_leader_but(&self, old: Option<&Node>, bound: Duration) -> Result<&Node> {
        let old = old.map(Node::number);
        crate::eventually(bound, "a leader", async || {
            let healths = self.healths().await;
            let mut active =
                (0..healths.len()).filter(|node| healths.get(*node) == Some(&Some(200)));
            match (active.next(), active.next()) {
                (Some(one), None) if Some(one) != old => Ok(self.node(one)),
                _ => Err(format!("health of each: {healths:?}")),
            }
        })
        .await
    }

    /// The status of each node's health, all asked at once.
    async fn healths(&self) -> Vec<Option<u16>> {
        let asked = self
            .nodes
            .iter()
            .map(async |node| Ok(node.health().await.map(|answer| answer.status)));
        together(asked).await.unwrap_or_default()
    }
}

async fn start(nodes: &[Node]) -> Result<()> {
    nodes.iter().try_for_each(Node::launch)?;
    together(nodes.iter().map(Node::wait_up)).await.map(drop)
}

fn applied(leader: &Value) -> Option<u64> {
    leader["raft_applied_index"].as_u64()
}
