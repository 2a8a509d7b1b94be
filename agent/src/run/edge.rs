//! What the driver starts: probes, settling, and the end of an outage that outlived its bound.

use std::{future::Future, pin::Pin, sync::Arc};

use replica::sequencer::Lane;
use shared::{
    change::{Change, Expects},
    failover::{Cause, Outage, Probe, Recovery},
    grant::{Grant, RevokeCause},
};

use super::settle::Settling;
use crate::{
    driver::Edge,
    local::Local,
    reaper,
    recovery::{self, Primary},
    upstream::{ProbeOutcome, Unavailable, UpstreamError},
};

/// The primary's clock confirms ours if they agree within this.
const CLOCKS_AGREE_SECS: u64 = 60;

/// The daemon's edge.
pub(super) struct Daemon {
    pub(super) settling: Arc<Settling>,
}

impl Edge for Daemon {
    fn probe(&self, audited: bool) -> Pin<Box<dyn Future<Output = Probe> + Send>> {
        let settling = Arc::clone(&self.settling);
        Box::pin(async move {
            let outcome = settling.upstream.probe(audited).await;
            judge(&settling.local, outcome)
        })
    }

    fn recover(&self, outage: Outage) -> Pin<Box<dyn Future<Output = Recovery> + Send>> {
        let settling = Arc::clone(&self.settling);
        Box::pin(async move {
            match settling.prove().await {
                // Not an outage: the trusted cluster took our credential away.
                Err(UpstreamError::Decision { status: 403, .. }) => {
                    offboard(&settling.local).await;
                    Recovery::Done
                }
                _ => recovery::settle(&settling.local, settling.as_ref(), &outage).await,
            }
        })
    }

    fn exhaust(&self) {
        let local = self.settling.local.clone();
        tokio::spawn(async move {
            let ended = living_replica_grants(&local, RevokeCause::OutageBound);
            reaper::revoke(&local, ended).await;
        });
    }
}

/// Every replica grant that lives, to be revoked for `cause`.
pub(super) fn living_replica_grants(
    local: &Local,
    cause: RevokeCause,
) -> Vec<(Grant, RevokeCause)> {
    let now = local.clock.now();
    let grants = local.view.grants();
    let living = grants.iter().filter(|live| {
        live.grant.is_replica()
            && live.revoked.get().is_none()
            && !live.grant.deadline.passed_for_good(now)
    });
    living.map(|live| (live.grant.clone(), cause)).collect()
}

/// Offboarding: replica grants go, and nothing is issued until authority is verified again.
pub(super) async fn offboard(local: &Local) {
    tracing::error!(
        "the primary refuses Holdover's own credential: grants are revoked, issuing stops"
    );
    reaper::revoke(local, living_replica_grants(local, RevokeCause::Primary)).await;
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
    if let Err(error) = local
        .commit(Lane::Revocation, changes, Expects::default())
        .await
    {
        tracing::error!(%error, "offboarding could not be stored");
    }
}

/// What the machine is told of a probe. A refusal is a decision: the primary serves.
fn judge(local: &Local, outcome: ProbeOutcome) -> Probe {
    match outcome {
        ProbeOutcome::Good {
            authenticated,
            server_time,
        } => {
            primary_seen(local, server_time);
            Probe::Good {
                audited: authenticated,
            }
        }
        ProbeOutcome::Refused => Probe::Good { audited: true },
        ProbeOutcome::Foreign { pinned, found } => {
            Probe::Failed(Cause::Unavailable(foreign(&pinned, &found)))
        }
        ProbeOutcome::Failed(outage) => Probe::Failed(match outage {
            Unavailable::Status { .. } => Cause::Unavailable(outage.to_string()),
            _ => Cause::Unreachable(outage.to_string()),
        }),
    }
}

fn foreign(pinned: &str, found: &str) -> String {
    format!("cluster {found} answers, but the replica trusts {pinned}")
}

/// The primary was seen: what was doubted until then is doubted no longer. Where its clock agrees with ours, the wall
/// clock is right.
fn primary_seen(local: &Local, server_time: Option<i64>) {
    let ours = local.clock.wall().as_secs();
    let agrees = server_time.is_some_and(|theirs| theirs.abs_diff(ours) <= CLOCKS_AGREE_SECS);
    if agrees {
        let grants_live = !living_replica_grants(local, RevokeCause::Clock).is_empty();
        local.clock.confirm(grants_live);
    }
    let (doubted, blocked) = {
        let authority = local.view.authority();
        (authority.rolled_back, authority.issuing_blocked.is_some())
    };
    if blocked && !local.clock.rebooted_behind() {
        local.view.block_issuing(None);
    }
    if doubted {
        local.sequencer.clear_rollback(|result| {
            if let Err(error) = result {
                tracing::warn!(%error, "that the primary was seen could not be stored");
            }
        });
    }
}
