//! What the driver starts: probes, settling, and the end of an outage that outlived its bound.

use std::sync::Arc;

use shared::{
    failover::{Cause, Outage, Probe, Recovery},
    grant::RevokeCause,
};

use tokio::sync::watch;

use crate::{
    config::Config,
    driver::Edge,
    link::Unavailable,
    local::{Local, Pending},
    reaper,
    recovery::{self, primary::LivePrimary},
    upstream::ProbeOutcome,
};

/// The primary's clock confirms ours if they agree within this.
const CLOCKS_AGREE_SECS: u64 = 60;

/// The edge between the machine and the primary that the configuration names.
pub(super) struct LiveEdge {
    primary: Arc<LivePrimary>,
    config: Arc<watch::Sender<Arc<Config>>>,
}

impl LiveEdge {
    /// Between the machine and `primary`, by the configuration in force.
    pub(super) fn new(
        primary: &Arc<LivePrimary>,
        config: &Arc<watch::Sender<Arc<Config>>>,
    ) -> Self {
        Self {
            primary: Arc::clone(primary),
            config: Arc::clone(config),
        }
    }
}

impl Edge for LiveEdge {
    fn probe(&self, audited: bool) -> Pending<'static, Probe> {
        let primary = Arc::clone(&self.primary);
        Box::pin(async move {
            let outcome = primary.upstream.probe(audited).await;
            let accepted = primary.upstream.addresses().accept();
            register(&primary.local, outcome, accepted)
        })
    }

    fn recover(&self, outage: Outage) -> Pending<'static, Recovery> {
        let primary = Arc::clone(&self.primary);
        let within = self.config.borrow().failover.settle_within;
        Box::pin(async move { recovery::settle(&primary.local, &primary, &outage, within).await })
    }

    fn exhaust(&self) {
        let local = self.primary.local.clone();
        tokio::spawn(async move {
            reaper::revoke_replica_grants(&local, RevokeCause::OutageBound).await;
        });
    }
}

/// Registers what a probe found, and says it as the machine knows it. A refusal is a decision: the primary serves.
/// `accepted`: whether an address accepted a connection.
fn register(local: &Local, outcome: ProbeOutcome, accepted: bool) -> Probe {
    let cause = match outcome {
        ProbeOutcome::Good {
            authenticated,
            server_time,
        } => {
            let clock_confirmed = confirm_clock(local, server_time);
            if authenticated {
                local.primary_seen(clock_confirmed);
            }
            return Probe::Good {
                audited: authenticated,
            };
        }
        ProbeOutcome::Refused | ProbeOutcome::Tokenless => {
            return Probe::Good { audited: true };
        }
        ProbeOutcome::Slowed { server_time } => {
            confirm_clock(local, server_time);
            return Probe::Good { audited: false };
        }
        ProbeOutcome::Foreign(foreign) => Cause::Unavailable(foreign.to_string()),
        ProbeOutcome::Failed(why @ Unavailable::Status { .. }) => {
            Cause::Unavailable(why.to_string())
        }
        ProbeOutcome::Failed(why) => Cause::Unreachable(why.to_string()),
    };
    Probe::Failed { cause, accepted }
}

/// Takes the wall clock for right where the primary's agrees with it. Whether it does.
fn confirm_clock(local: &Local, server_time: Option<i64>) -> bool {
    let ours = local.clock.wall().as_secs();
    let agrees = server_time.is_some_and(|theirs| theirs.abs_diff(ours) <= CLOCKS_AGREE_SECS);
    if agrees {
        local.clock.confirm();
    }
    agrees
}
