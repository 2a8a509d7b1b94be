//! What the cluster is and what is mounted where.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;
use shared::{
    change::{Change, Cluster, Mount},
    name::{ClusterId, MountAccessor},
    provenance::ForeignCluster,
};

use super::AuthorityPass;
use crate::upstream::{Request, UpstreamError};

#[derive(Deserialize)]
struct Seal {
    sealed: bool,
    #[serde(default)]
    cluster_id: Option<ClusterId>,
    #[serde(default)]
    cluster_name: String,
    #[serde(default)]
    version: String,
}

/// What of `sys/health` the rest does not show.
#[derive(Deserialize)]
struct ClusterHealth {
    #[serde(default)]
    replication_performance_mode: String,
}

impl AuthorityPass<'_> {
    /// Its id, version and mounts, as of now.
    pub(super) async fn cluster(&self) -> Result<Change, UpstreamError> {
        let upstream = &self.context.upstream;
        upstream.turn(self.urgency).await;
        let request = Request::read("sys/seal-status").of_cluster();
        let reply = upstream.send(&request, None).await?.success()?;
        let seal: Seal = reply.bare()?;
        let id = seal.cluster_id.filter(|_| !seal.sealed);
        let id = id.ok_or_else(|| reply.unexpected("sealed, or names no cluster"))?;
        if let Some(pinned) = upstream.link().pinned().filter(|pinned| *pinned != id) {
            return Err(ForeignCluster { pinned, found: id }.into());
        }
        let health = Request::read("sys/health").of_cluster();
        let health: ClusterHealth = upstream.send(&health, None).await?.success()?.bare()?;
        let mut mounts = self.mounts("sys/mounts", "").await?;
        mounts.extend(self.mounts("sys/auth", "auth/").await?);
        Ok(Change::Cluster(Box::new(Cluster {
            id,
            name: seal.cluster_name,
            version: seal.version,
            seal_status: reply.bare()?,
            performance_mode: health.replication_performance_mode,
            mounts,
            token_ttls: self.token_ttls().await?,
            verified_at: self.at,
        })))
    }

    /// Default and maximum TTL in effect for tokens, in seconds; none where Holdover may not ask.
    async fn token_ttls(&self) -> Result<Option<(u64, u64)>, UpstreamError> {
        #[derive(Deserialize)]
        struct Tune {
            default_lease_ttl: u64,
            max_lease_ttl: u64,
        }
        let request = Request::read("sys/mounts/auth/token/tune");
        let reply = self.ask(&request).await?;
        if matches!(reply.status(), 400 | 403..=405) {
            return Ok(None);
        }
        let tune: Tune = reply.success()?.data()?;
        Ok(Some((tune.default_lease_ttl, tune.max_lease_ttl)))
    }

    /// The mounts that `path` shows, by their paths below `below`.
    async fn mounts(
        &self,
        path: &str,
        below: &str,
    ) -> Result<BTreeMap<String, Mount>, UpstreamError> {
        let reply = self.ask(&Request::read(path)).await?.success()?;
        let shown: BTreeMap<String, Value> = reply.data()?;
        let text = |value: Option<&Value>| value.and_then(Value::as_str).map(str::to_owned);
        let mounts = shown.into_iter().map(|(at, shown)| {
            let accessor = text(shown.get("accessor")).unwrap_or_default();
            let mount = Mount {
                accessor: MountAccessor::parse(&accessor)
                    .map_err(|_| reply.unexpected("a mount without an accessor"))?,
                kind: shown
                    .get("type")
                    .and_then(Value::as_str)
                    .unwrap_or_default()
                    .into(),
                version: text(shown.pointer("/options/version")),
                shown,
            };
            Ok((format!("{below}{at}"), mount))
        });
        mounts.collect()
    }
}
