//! The end of what a host was entitled to: the trusted cluster refuses Holdover's own credential. A decision, not an
//! outage.

use std::time::Duration;

use replica::sequencer::Lane;
use shared::{
    change::{Change, Expects},
    grant::RevokeCause,
    time::BootTime,
};

use crate::{local::Local, reaper, upstream::Upstream};

/// How often Holdover looks whether its own credential stays refused.
const LOOK: Duration = Duration::from_secs(5);

/// Replica grants go, and nothing is issued until authority is verified again.
pub async fn offboard(local: &Local) {
    tracing::error!(
        "the primary refuses Holdover's own credential: grants are revoked, issuing stops"
    );
    reaper::revoke_replica_grants(local, RevokeCause::Primary).await;
    let changes = {
        let authority = local.view.authority();
        let workloads = authority.workloads.keys().cloned();
        let roles = authority.approles.keys().cloned();
        let secret_ids = authority.secret_ids.keys().copied();
        workloads
            .map(Change::AuthorityGone)
            .chain(roles.map(Change::AppRoleGone))
            .chain(secret_ids.map(Change::SecretIdGone))
            .collect()
    };
    let committed = local.commit(Lane::Revocation, changes, Expects::default());
    if let Err(error) = committed.await {
        tracing::error!(%error, "offboarding could not be stored");
    }
}

/// A credential that the trusted cluster refuses for `authority_max_age` on end: reads end too.
pub async fn watch(local: Local, upstream: Upstream) {
    let mut refused_since: Option<BootTime> = None;
    loop {
        tokio::time::sleep(LOOK).await;
        let now = local.clock.now();
        if !upstream.own().is_refused() {
            refused_since = None;
            continue;
        }
        let since = *refused_since.get_or_insert(now.boot);
        let (patience, mirrors) = {
            let authority = local.view.authority();
            let mirrors: Vec<String> = authority.mirrors.keys().cloned().collect();
            (authority.settings.bounds.authority_max_age, mirrors)
        };
        if now.boot.since(since) < patience {
            continue;
        }
        offboard(&local).await;
        let gone = mirrors.into_iter().map(Change::MirrorGone).collect();
        local.commit_later(Lane::Revocation, gone);
    }
}
