//! Grants as operators see them, and their revocation: in memory first, then durably, with an entry in the ledger.

use std::sync::Arc;

use http::StatusCode;
use replica::{
    entropy::{NoEntropy, unique_u64},
    sequencer::{Lane, SubmitError},
    view::LiveGrant,
};
use shared::{
    change::{Change, Expects, QueuedRevocation, RevocationTarget},
    grant::{Grant, Revocation, RevokeCause, Settled},
    lease::Assignee,
    ledger::{Entry, EntryKind},
    name::{Accessor, WorkloadName},
    settings::Settings,
    time::Now,
};

use crate::{
    local::Local,
    reaper::lease,
    status::{GrantList, GrantStatus, RevokeGrants, Revoked},
};

/// Grants revoked in one commit.
const BATCH: usize = 512;

/// Which grants.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Selector {
    /// The one of this accessor.
    Accessor(Accessor),
    /// Those given to peers of this user.
    Uid(u32),
    /// Those given to peers of this entry.
    Workload(WorkloadName),
}

/// Why nothing was revoked, or not all of it.
#[derive(Debug, thiserror::Error)]
pub enum RevokeError {
    /// Not exactly one of the three, or a text that is no name.
    #[error("give exactly one of accessor, workload and uid")]
    Ambiguous,
    /// There is no randomness to name what the primary is told.
    #[error(transparent)]
    Entropy(#[from] NoEntropy),
    /// No living grant has that accessor.
    #[error("no living grant has the accessor {0}; holdover grants list shows them")]
    NoGrant(Accessor),
    /// No such entry, so that a typing error is not taken for a done deed.
    #[error("no workload {0} is configured")]
    NoWorkload(WorkloadName),
    /// It holds in memory, but is not on disk.
    #[error(
        "the revocation holds here, but is not stored, and a restart before it is would undo it: {0}"
    )]
    Store(#[from] SubmitError),
}

impl RevokeError {
    /// The status that says it.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::Ambiguous => StatusCode::BAD_REQUEST,
            Self::NoGrant(_) | Self::NoWorkload(_) => StatusCode::NOT_FOUND,
            Self::Entropy(_) | Self::Store(_) => StatusCode::SERVICE_UNAVAILABLE,
        }
    }
}

impl Selector {
    /// Reads what was asked for.
    ///
    /// # Errors
    /// If it is not exactly one thing, or names a workload that is not configured.
    pub fn parse(asked: RevokeGrants, settings: &Settings) -> Result<Self, RevokeError> {
        let bad = |_| RevokeError::Ambiguous;
        match (asked.accessor, asked.workload, asked.uid) {
            (Some(accessor), None, None) => {
                Ok(Self::Accessor(Accessor::parse(&accessor).map_err(bad)?))
            }
            (None, Some(workload), None) => {
                let name = WorkloadName::parse(&workload).map_err(bad)?;
                match settings.workload(&name) {
                    Some(_) => Ok(Self::Workload(name)),
                    None => Err(RevokeError::NoWorkload(name)),
                }
            }
            (None, None, Some(uid)) => Ok(Self::Uid(uid)),
            _ => Err(RevokeError::Ambiguous),
        }
    }

    fn selects(&self, grant: &Grant) -> bool {
        let peer = grant.peer.as_ref();
        match self {
            Self::Accessor(accessor) => grant.accessor == *accessor,
            Self::Uid(uid) => peer.is_some_and(|peer| peer.uid == *uid),
            Self::Workload(name) => peer.is_some_and(|peer| peer.workload == *name),
        }
    }

    /// Whether it means all that this one has, leases taken out of pools included. Those of a single token end with
    /// the last token of their holder.
    fn means(&self, who: &Assignee) -> bool {
        match (self, who) {
            (Self::Uid(uid), Assignee::Workload(peer)) => peer.uid == *uid,
            (Self::Workload(name), Assignee::Workload(peer)) => peer.workload == *name,
            _ => false,
        }
    }
}

/// Every grant that lives, by the time of its end.
pub fn list(local: &Local) -> GrantList {
    let now = local.clock.now();
    let mut living: Vec<_> = living(local, now).collect();
    living.sort_by_key(|live| (live.grant.deadline.wall, live.grant.accessor.clone()));
    GrantList {
        grants: living.iter().map(|live| shown(&live.grant, now)).collect(),
    }
}

/// Every grant that lives, in no order.
pub fn living(local: &Local, now: Now) -> impl Iterator<Item = Arc<LiveGrant>> {
    let all = local.view.grants().into_iter();
    all.filter(move |live| live.revoked.get().is_none() && !live.grant.deadline.passed(now))
}

/// Revokes what `selector` takes, those included that are being issued meanwhile. `operator` asked for it.
///
/// # Errors
/// If there is nothing to revoke by that accessor, or if the store did not take it.
pub async fn revoke(
    local: &Local,
    selector: &Selector,
    operator: Option<u32>,
) -> Result<Revoked, RevokeError> {
    let mut accessors = revoke_visible(local, selector, operator).await?;
    // What was on its way when the command came is visible once the grants' lane has been through.
    local
        .commit(Lane::Grant, Vec::new(), Expects::default())
        .await?;
    accessors.extend(revoke_visible(local, selector, operator).await?);
    if let (Selector::Accessor(accessor), true) = (selector, accessors.is_empty()) {
        return Err(RevokeError::NoGrant(accessor.clone()));
    }
    Ok(Revoked {
        revoked: u64::try_from(accessors.len()).unwrap_or(u64::MAX),
        accessors,
    })
}

async fn revoke_visible(
    local: &Local,
    selector: &Selector,
    operator: Option<u32>,
) -> Result<Vec<String>, RevokeError> {
    let now = local.clock.now();
    let found: Vec<_> = living(local, now)
        .filter(|live| selector.selects(&live.grant))
        .collect();
    for batch in found.chunks(BATCH) {
        let mut changes = Vec::new();
        for live in batch {
            let queue_id = unique_u64(local.entropy.as_ref())?;
            changes.extend(changes_for(&live.grant, operator, queue_id, now));
        }
        local
            .commit(Lane::Revocation, changes, Expects::default())
            .await?;
    }
    lease::end_of(local, |who| selector.means(who)).await;
    let accessors = found.iter().map(|live| live.grant.accessor.to_string());
    Ok(accessors.collect())
}

/// What revoking one grant stores: its end, the operator's entry, and what the primary is to be told.
fn changes_for(grant: &Grant, operator: Option<u32>, queue_id: u64, now: Now) -> Vec<Change> {
    let mut entry = Entry::new(EntryKind::Operator, "revoked", now.steady).about(grant);
    // The operator's, not the holder's.
    (entry.uid, entry.unit) = (operator, None);
    entry.deadline = Some(grant.deadline.wall);
    let revocation = Revocation::of(grant, RevokeCause::Operator, now.steady);
    let mut changes = vec![Change::Revoked(revocation), Change::Ledger(Box::new(entry))];
    changes.extend(grant.at_primary().cloned().map(|accessor| {
        let target = RevocationTarget::Token(accessor);
        Change::Queue(Box::new(QueuedRevocation {
            namespace: Some(grant.namespace.clone()),
            ..QueuedRevocation::own(queue_id, target, now.steady)
        }))
    }));
    changes
}

fn shown(grant: &Grant, now: Now) -> GrantStatus {
    let peer = grant.peer.as_ref();
    let replica = grant.replica();
    let settled = replica.and_then(|replica| match replica.settled {
        Settled::Not => None,
        Settled::Draining => Some("draining"),
        Settled::Exchanged(_) => Some("exchanged"),
    });
    let policies = grant.facts.all_policies();
    GrantStatus {
        accessor: grant.accessor.to_string(),
        origin: grant.origin_name().to_owned(),
        workload: peer.map(|peer| peer.workload.to_string()),
        uid: peer.map(|peer| peer.uid),
        unit: peer.and_then(|peer| peer.unit.clone()),
        display_name: grant.facts.display_name.clone(),
        policies: policies.iter().map(ToString::to_string).collect(),
        renewable: grant.facts.renewable,
        expires_at: grant.deadline.wall.to_string(),
        ttl_seconds: grant.deadline.remaining(now).as_secs(),
        verified_at: grant.verified_at.to_string(),
        outage: replica.map(|replica| replica.outage.to_string()),
        settled: settled.map(str::to_owned),
    }
}
