//! Makes the end of grants durable and visible. What refuses them in time is the check at use, not this.
//!
//! It wakes at the next deadline, at a step of the wall clock, and when the configuration changes; it also keeps
//! the mark of time.

pub mod lease;

use std::{sync::Arc, time::Duration};

use replica::{sequencer::Lane, view::LiveGrant};
use shared::{
    change::{Change, Expects},
    grant::{Grant, Revocation, RevokeCause},
    ledger::{Entry, EntryKind},
    settings::Settings,
    time::{BootTime, Now},
    workload::FailoverPolicy,
};

use crate::{
    clock::timer::{BootTimer, ClockSteps},
    local::Local,
};

/// The mark is committed this often while replica grants live.
pub const MARK_INTERVAL: Duration = Duration::from_secs(10);

/// The mark is committed this often otherwise.
pub const IDLE_MARK_INTERVAL: Duration = Duration::from_secs(60);

/// A grant that ended this long ago is forgotten; until then its token is known to be dead.
pub const REMEMBERED: Duration = Duration::from_secs(24 * 3600);

/// No longer than this passes between two looks, whatever the deadlines say.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// Runs until the daemon stops. `late` is told how late each durable revocation came.
///
/// # Errors
/// If there is no timer to be had.
pub async fn run(local: Local, late: impl Fn(Duration) + Send + Sync) -> std::io::Result<()> {
    let (timer, steps) = (BootTimer::new()?, ClockSteps::new()?);
    let mut marked: Option<BootTime> = None;
    loop {
        let now = local.clock.now();
        let grants = local.view.grants();
        let sweep = sweep(&grants, now);
        for lateness in sweep.lateness {
            late(lateness);
        }
        revoke(&local, sweep.ended).await;
        lease::end_due(&local).await;
        local.commit_later(Lane::Mirror, sweep.forgotten);
        let every = if sweep.replica_lives {
            MARK_INTERVAL
        } else {
            IDLE_MARK_INTERVAL
        };
        if marked.is_none_or(|at| now.boot.since(at) >= every) {
            local.commit_later(Lane::Grant, vec![Change::Mark(local.clock.mark())]);
            marked = Some(now.boot);
        }
        let next = now.boot.plus(
            sweep
                .next
                .map_or(LOOK_INTERVAL, |next| next.min(LOOK_INTERVAL)),
        );
        tokio::select! {
            end = timer.until(next) => end?,
            end = steps.stepped() => {
                end?;
                tracing::warn!(state = ?local.clock.state(), "the wall clock was stepped");
            }
        }
    }
}

/// Revokes `ended` in memory, then durably, with an entry each.
pub async fn revoke(local: &Local, ended: Vec<(Grant, RevokeCause)>) {
    if ended.is_empty() {
        return;
    }
    let changes = revocations(local, &ended);
    let committed = local
        .commit(Lane::Revocation, changes, Expects::default())
        .await;
    if let Err(error) = committed {
        tracing::error!(%error, "revocations hold in memory, but could not be stored");
    }
    lease::end_due(local).await;
}

/// The same without waiting for the disk: they hold in memory when this returns.
pub fn revoke_later(local: &Local, ended: &[(Grant, RevokeCause)]) {
    local.commit_later(Lane::Revocation, revocations(local, ended));
}

fn revocations(local: &Local, ended: &[(Grant, RevokeCause)]) -> Vec<Change> {
    let now = local.clock.now();
    let current = local
        .view
        .authority()
        .phase
        .outage()
        .map(|outage| outage.id.clone());
    let changes = ended.iter().flat_map(|(grant, cause)| {
        let mut entry = entry(grant, *cause, now);
        let issued_in = grant.replica().map(|replica| replica.outage.clone());
        entry.outage = issued_in.or_else(|| current.clone());
        [
            Change::Revoked(revocation(grant, *cause, now)),
            Change::Ledger(Box::new(entry)),
        ]
    });
    changes.collect()
}

/// What a changed configuration ends: grants past their lowered TTL go at once, the others get their new deadline.
pub fn lowered(grants: &[Arc<LiveGrant>], settings: &Settings, now: Now) -> Lowered {
    let mut lowered = Lowered::default();
    for live in grants.iter().filter(|live| live.revoked.get().is_none()) {
        let grant = &live.grant;
        if !grant.is_replica() || grant.deadline.passed_for_good(now) {
            continue;
        }
        match policy_of(grant, settings).and_then(|policy| grant.lowered(policy, now)) {
            Some(kept) if kept == *grant => {}
            Some(kept) => lowered.shortened.push(Change::Grant(Box::new(kept))),
            None => lowered
                .ended
                .push((grant.clone(), RevokeCause::Configuration)),
        }
    }
    lowered
}

/// What [`lowered`] found.
#[derive(Default)]
pub struct Lowered {
    /// To be revoked.
    pub ended: Vec<(Grant, RevokeCause)>,
    /// With an earlier deadline than before.
    pub shortened: Vec<Change>,
}

/// One look at every grant.
#[derive(Default)]
struct Sweep {
    ended: Vec<(Grant, RevokeCause)>,
    forgotten: Vec<Change>,
    lateness: Vec<Duration>,
    replica_lives: bool,
    next: Option<Duration>,
}

fn sweep(grants: &[Arc<LiveGrant>], now: Now) -> Sweep {
    let mut sweep = Sweep::default();
    for live in grants {
        let grant = &live.grant;
        if let Some(revocation) = live.revoked.get() {
            if now.steady.since(revocation.at) > REMEMBERED {
                sweep.forgotten.push(Change::GrantForgotten(grant.digest));
            }
        } else if !grant.deadline.passed_for_good(now) {
            sweep.replica_lives |= grant.is_replica();
            let remaining = grant.deadline.remaining(now);
            sweep.next = Some(sweep.next.map_or(remaining, |next| next.min(remaining)));
        } else if grant.is_replica() {
            sweep.lateness.push(now.steady.since(grant.deadline.wall));
            sweep.ended.push((grant.clone(), RevokeCause::Expired));
        } else if now.steady.since(grant.deadline.wall) > REMEMBERED {
            sweep.forgotten.push(Change::GrantForgotten(grant.digest));
        }
    }
    sweep
}

fn policy_of<'a>(grant: &Grant, settings: &'a Settings) -> Option<&'a FailoverPolicy> {
    let peer = grant.peer.as_ref()?;
    settings
        .workload(&peer.workload)
        .map(|workload| &workload.failover)
}

fn revocation(grant: &Grant, cause: RevokeCause, now: Now) -> Revocation {
    Revocation {
        digest: grant.digest,
        accessor: grant.accessor.clone(),
        cause,
        at: now.steady,
    }
}

fn entry(grant: &Grant, cause: RevokeCause, now: Now) -> Entry {
    let mut entry = Entry::new(EntryKind::Revocation, cause_name(cause), now.steady)
        .of_peer(grant.peer.as_ref());
    entry.accessor = Some(grant.accessor.clone());
    entry.token = Some(grant.digest);
    entry.deadline = Some(grant.deadline.wall);
    entry
}

/// A cause as the ledger writes it.
fn cause_name(cause: RevokeCause) -> &'static str {
    match cause {
        RevokeCause::Configuration => "configuration",
        RevokeCause::Clock => "clock",
        RevokeCause::Expired => "expired",
        RevokeCause::OutageBound => "outage_bound",
        RevokeCause::Operator => "operator",
        RevokeCause::Parent => "parent",
        RevokeCause::Primary => "primary",
        RevokeCause::Recovery => "recovery",
        RevokeCause::Requested => "requested",
    }
}
