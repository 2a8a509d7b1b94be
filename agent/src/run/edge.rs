//! What the driver starts: probes, settling, and the end of an outage that outlived its bound.

use std::{future::Future, pin::Pin, sync::Arc};

use shared::{
    failover::{Cause, Outage, Probe, Recovery},
    grant::RevokeCause,
};

use super::settle::Settling;
use crate::{
    driver::Edge,
    local::Local,
    reaper, recovery,
    upstream::{ProbeOutcome, Unavailable},
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
        Box::pin(async move { recovery::settle(&settling.local, settling.as_ref(), &outage).await })
    }

    fn exhaust(&self) {
        let local = self.settling.local.clone();
        tokio::spawn(async move {
            reaper::revoke_replica_grants(&local, RevokeCause::OutageBound).await;
        });
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
        ProbeOutcome::Foreign(foreign) => Probe::Failed(Cause::Unavailable(foreign.to_string())),
        ProbeOutcome::Failed(outage) => Probe::Failed(match outage {
            Unavailable::Status { .. } => Cause::Unavailable(outage.to_string()),
            _ => Cause::Unreachable(outage.to_string()),
        }),
    }
}

/// The primary was seen: what was doubted until then is doubted no longer. Where its clock agrees with ours, the wall
/// clock is right.
fn primary_seen(local: &Local, server_time: Option<i64>) {
    let ours = local.clock.wall().as_secs();
    let agrees = server_time.is_some_and(|theirs| theirs.abs_diff(ours) <= CLOCKS_AGREE_SECS);
    if agrees {
        let grants_live = !reaper::living_replica_grants(local).is_empty();
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
