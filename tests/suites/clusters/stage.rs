//! What the facts are asked of: a seeded cluster, and clients that ask for consistency.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use harness::bao::api::{Answer, Api};
use harness::cluster::{Cluster, Node};
use harness::world::World;
use harness::{Context, Failure, Result};
use serde_json::{Value, json};

/// How long a cluster may take for what befalls it.
pub(crate) const BOUND: Duration = Duration::from_secs(60);
/// What is not answered within this is said to hang. What is answered takes some milliseconds.
pub(crate) const HANGS: Duration = Duration::from_secs(2);
/// A secret of the world.
pub(crate) const SECRET: &str = "secret/data/shop/shared";
/// A path without a secret.
pub(crate) const MISSING: &str = "secret/data/shop/none";
/// What a standby says that knows no leader.
pub(crate) const NO_LEADER: &str = "local node not active but active cluster node not found";

/// A cluster with a world on it.
pub(crate) struct Stage {
    pub(crate) cluster: Cluster,
    /// Its cluster id.
    pub(crate) id: String,
    /// An index that no node has.
    pub(crate) beyond_any: String,
}

impl Stage {
    pub(crate) async fn on(cluster: Cluster) -> Result<Stage> {
        World::seed_by(&cluster.root().await?, 1).await?;
        cluster.wait_for_read(SECRET).await?;
        Ok(Stage {
            id: cluster.id().await?,
            beyond_any: cluster.beyond_any().await?,
            cluster,
        })
    }

    pub(crate) async fn active(&self) -> Result<&Node> {
        self.cluster.wait_for_leader(BOUND).await
    }

    pub(crate) async fn standby(&self) -> Result<&Node> {
        let standbys = self.cluster.standbys().await;
        standbys.into_iter().next().context("no standby")
    }

    /// The client, asking for what no node has reached; and what to do where that is not there.
    pub(crate) fn beyond(&self, client: Api, otherwise: &str) -> Api {
        client
            .with("x-vault-index", &self.beyond_any)
            .with("x-vault-inconsistent", otherwise)
    }

    /// The client, asking for the active node's own answer.
    pub(crate) fn current(&self, client: Api) -> Api {
        self.beyond(client, "forward-active-node")
    }

    /// A token of the orders team, known to every node.
    pub(crate) async fn known_token(&self) -> Result<String> {
        let root = self.cluster.root().await?;
        let token = harness::world::token(&root, "orders").await?;
        self.cluster.wait_caught_up().await?;
        Ok(token)
    }

    /// Writes the secret.
    pub(crate) async fn write_secret(&self, value: &str) -> Result<()> {
        let body = json!({ "data": { "value": value } });
        self.cluster.root().await?.write(SECRET, &body).await?;
        Ok(())
    }
}

/// The secret's value in an answer.
pub(crate) fn value(answer: &Answer) -> &str {
    let value = answer.body.pointer("/data/data/value");
    value.and_then(Value::as_str).unwrap_or_default()
}

/// Cluster id and value of an answer's index.
pub(crate) fn index(answer: &Answer) -> Result<Option<(String, String)>> {
    let Some(text) = answer.header("x-vault-index") else {
        return Ok(None);
    };
    let said: Value = serde_json::from_slice(&STANDARD.decode(text)?)?;
    let part = |name: &str| said[name].as_str().map(str::to_owned).context(&said);
    Ok(Some((part("cluster")?, part("value")?)))
}

/// An index header of any cluster and value.
pub(crate) fn encoded(cluster: &str, value: &Value) -> String {
    STANDARD.encode(json!({ "cluster": cluster, "value": value }).to_string())
}

/// The errors of an answer, as one text.
pub(crate) fn errors(answer: &Answer) -> String {
    let errors = answer.body["errors"].as_array().into_iter().flatten();
    errors.filter_map(Value::as_str).collect()
}

/// The answer, within the time after which it would be said to hang.
pub(crate) async fn prompt(asked: impl Future<Output = Result<Answer>>) -> Result<Answer> {
    let answer = tokio::time::timeout(HANGS, asked).await;
    answer.map_err(|_| Failure::new("it hangs"))?
}

/// Whether there is no answer.
pub(crate) async fn hangs(asked: impl Future<Output = Result<Answer>>) -> bool {
    tokio::time::timeout(HANGS, asked).await.is_err()
}
