//! What is asked: one server, or three behind one address.

use std::path::Path;

use harness::{
    Context, Result,
    balancer::Balancer,
    bao::{Primary, api::Api},
    client::raw::Client,
    cluster::Cluster,
};

/// The primary.
pub(crate) enum Server {
    /// One that keeps everything in memory.
    Alone(Primary),
    /// Three raft nodes, of which each connection gets the next.
    Balanced(Cluster, Balancer),
}

impl Server {
    pub(crate) async fn alone() -> Result<Server> {
        Ok(Server::Alone(Primary::start_in_memory().await?))
    }

    pub(crate) async fn balanced() -> Result<Server> {
        let cluster = Cluster::raft(3).await?;
        let balancer = Balancer::round_robin(&cluster.socket_addresses()).await?;
        Ok(Server::Balanced(cluster, balancer))
    }

    /// The root token's client: where several nodes are, of the one that leads.
    pub(crate) async fn root(&self) -> Result<Api> {
        match self {
            Server::Alone(primary) => Ok(primary.root()),
            Server::Balanced(cluster, _) => cluster.root().await,
        }
    }

    /// As in `[primary] addresses`.
    pub(crate) fn addresses(&self) -> Vec<String> {
        match self {
            Server::Alone(primary) => primary.addresses(),
            Server::Balanced(_, balancer) => vec![balancer.address()],
        }
    }

    /// The CA of its certificate, where it has one.
    pub(crate) fn ca_file(&self) -> Option<&Path> {
        match self {
            Server::Alone(_) => None,
            Server::Balanced(cluster, _) => Some(cluster.ca_file()),
        }
    }

    /// A client of its address.
    pub(crate) fn client(&self) -> Result<Client> {
        match self {
            Server::Alone(primary) => {
                let address = primary.address();
                Ok(Client::tcp(address.trim_start_matches("http://")))
            }
            Server::Balanced(cluster, balancer) => cluster.raw_client(&balancer.address()),
        }
    }

    /// A client of the node that leads, where there are several. A standby leaves some requests to it with a 500: the
    /// wrapping of a look-up, which it cannot store, and help for a token whose policies it cannot put together.
    pub(crate) async fn leader(&self) -> Result<Option<Client>> {
        match self {
            Server::Alone(_) => Ok(None),
            Server::Balanced(cluster, _) => {
                let leader = cluster.active().await.context("no node is active")?;
                cluster.raw_client(&leader.address()).map(Some)
            }
        }
    }

    /// Waits until what was written so far is seen by whichever node answers.
    pub(crate) async fn caught_up(&self) -> Result<()> {
        match self {
            Server::Alone(_) => Ok(()),
            Server::Balanced(cluster, _) => cluster.wait_caught_up().await,
        }
    }
}
