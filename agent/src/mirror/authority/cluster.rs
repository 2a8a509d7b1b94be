//! What the cluster is and what is mounted where.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;
use shared::{
    change::{Change, Cluster, Mount},
    name::{ClusterId, MountAccessor},
    provenance::ForeignCluster,
    strict::{Unique, present},
};

use super::AuthorityPass;
use crate::upstream::{Request, Said, UpstreamError};

#[derive(Deserialize)]
struct Seal {
    initialized: bool,
    sealed: bool,
    /// Absent while it is sealed.
    cluster_id: Option<ClusterId>,
    /// The same.
    cluster_name: Option<String>,
    version: String,
}

/// What of `sys/health` the rest does not show.
#[derive(Deserialize)]
struct ClusterHealth {
    cluster_id: ClusterId,
    replication_performance_mode: String,
    sealed: bool,
}

/// `data` of a mount's effective configuration.
#[derive(Deserialize)]
struct Tune {
    default_lease_ttl: u64,
    max_lease_ttl: u64,
}

/// What is read of a mount; all of it is kept.
#[derive(Deserialize)]
struct MountShown {
    accessor: MountAccessor,
    #[serde(deserialize_with = "present")]
    options: Option<BTreeMap<String, String>>,
    #[serde(rename = "type")]
    kind: String,
}

impl AuthorityPass<'_> {
    /// Its id, version and mounts, as of now.
    pub(super) async fn cluster(&self) -> Result<Change, UpstreamError> {
        let upstream = &self.context.upstream;
        upstream.turn(self.urgency).await;
        let request = Request::read("sys/seal-status").of_cluster();
        let status = upstream.send(&request, None).await?.shown()?;
        let seal: Seal = status.bare()?;
        let named = seal.cluster_id.zip(seal.cluster_name);
        let (id, name) = named
            .filter(|_| seal.initialized && !seal.sealed)
            .ok_or_else(|| status.unexpected("sealed, or names no cluster"))?;
        if let Some(pinned) = upstream.link().pinned().filter(|pinned| *pinned != id) {
            return Err(ForeignCluster { pinned, found: id }.into());
        }
        let health = Request::read("sys/health").of_cluster();
        let shown = upstream.send(&health, None).await?.shown()?;
        let health: ClusterHealth = shown.bare()?;
        if health.sealed || health.cluster_id != id {
            return Err(shown.unexpected("sealed, or another cluster than it just was"));
        }
        let mut mounts = self.mounts("sys/mounts", "").await?;
        mounts.extend(self.mounts("sys/auth", "auth/").await?);
        Ok(Change::Cluster(Box::new(Cluster {
            id,
            namespace: self.context.settings.namespace.clone(),
            name,
            version: seal.version,
            seal_status: status.bare()?,
            performance_mode: health.replication_performance_mode,
            mounts,
            token_ttls: self.token_ttls().await?,
            verified_at: self.at,
        })))
    }

    /// Default and maximum TTL in effect for tokens, in seconds; none where Holdover may not ask.
    async fn token_ttls(&self) -> Result<Option<(u64, u64)>, UpstreamError> {
        let request = Request::read("sys/mounts/auth/token/tune");
        let said = self.ask(&request).await?.said()?;
        let Said::Shown(shown) = said else {
            let refused = said.decision().map(|_| None);
            return refused.ok_or_else(|| said.unfit());
        };
        let tune: Tune = shown.data()?;
        Ok(Some((tune.default_lease_ttl, tune.max_lease_ttl)))
    }

    /// The mounts that `path` shows, by their paths below `below`.
    async fn mounts(
        &self,
        path: &str,
        below: &str,
    ) -> Result<BTreeMap<String, Mount>, UpstreamError> {
        let answer = self.ask(&Request::read(path)).await?.shown()?;
        let shown: Unique<String, Value> = answer.data()?;
        if shown.0.is_empty() || !shown.0.keys().all(|at| at.ends_with('/')) {
            return Err(answer.unexpected("no table of mounts"));
        }
        let mounts = shown.0.into_iter().map(|(at, shown)| {
            let read = MountShown::deserialize(&shown);
            let read = read.map_err(|_| answer.unexpected(format!("{at} is no mount")))?;
            let mount = Mount {
                accessor: read.accessor,
                kind: read.kind.as_str().into(),
                version: read
                    .options
                    .and_then(|mut options| options.remove("version")),
                shown,
            };
            Ok((format!("{below}{at}"), mount))
        });
        mounts.collect()
    }
}
