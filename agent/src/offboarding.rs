//! The end of what a host was entitled to: the trusted cluster refuses Holdover's own credential. A decision, not an
//! outage.
//!
//! That it is one is judged in [`shared::offboarding`]; here follows what it ends, and when. It is stored, so that neither
//! a restart nor an outage undoes it; only a credential that the primary accepts does, which the keeper of Holdover's own
//! token stores together with it.

use std::time::Duration;

use replica::{sequencer::Lane, view::View};
use shared::{
    change::{Change, Expects},
    grant::RevokeCause,
    ledger::{Entry, EntryKind},
    offboarding::Offboarded,
    time::{Now, WallTime},
};

use crate::{local::Local, reaper, upstream::Upstream};

/// How often Holdover looks whether reads end, and tries again what could not be stored.
const LOOK: Duration = Duration::from_secs(1);

/// As much is destroyed in one commit.
const AT_ONCE: usize = 1000;

/// Takes the entitlement away as soon as the primary did, and ends reads in time, until the daemon stops.
pub async fn watch(local: Local, upstream: Upstream) {
    let mut taken_away = upstream.own().taken_away();
    let mut is_stored = local.view.authority().offboarded.is_some();
    loop {
        if !*taken_away.borrow_and_update() {
            is_stored &= local.view.authority().offboarded.is_some();
        } else if !is_stored {
            is_stored = offboard(&local).await;
        }
        purge(&local).await;
        let _ = tokio::time::timeout(LOOK, taken_away.changed()).await;
    }
}

/// Stores that the host is entitled to nothing any more, and ends what goes at once: replica grants, and what others could
/// be issued from. All of it holds in memory when this returns; whether it is durable too is the answer.
pub async fn offboard(local: &Local) -> bool {
    let now = local.clock.now();
    let known = local.view.authority().offboarded;
    let since = known.unwrap_or(Offboarded { at: now.steady });
    tracing::error!(
        since = %since.at,
        "the primary refuses Holdover's own credential: the host is offboarded. Grants are revoked, nothing is issued, \
         reads from the replica end after failover.authority_max_age; give Holdover a credential that the primary accepts \
         to undo it"
    );
    let mut entry = Entry::new(EntryKind::Offboarding, "begun", now.steady);
    let bounds = local.view.authority().settings.bounds;
    entry.deadline = Some(since.reads_end(bounds.authority_max_age));
    let mut changes = vec![
        Change::Offboarded(Some(since)),
        Change::Ledger(Box::new(entry)),
    ];
    changes.extend(authority(&local.view, local.clock.now().steady));
    let committed = local.commit(Lane::Revocation, changes, Expects::default());
    let stored = committed.await;
    // Only now, because from here on nothing is issued any more that these would miss.
    reaper::revoke_replica_grants(local, RevokeCause::Primary).await;
    if let Err(error) = &stored {
        tracing::error!(%error, "offboarding holds in memory, but could not be stored: it is tried again");
    }
    stored.is_ok()
}

/// What grants are issued from.
fn authority(view: &View, now: WallTime) -> Vec<Change> {
    let authority = view.authority();
    let workloads = authority.workloads.keys().cloned();
    let roles = authority.approles.keys().cloned();
    let secret_ids = authority.secret_ids.keys().copied();
    workloads
        .map(Change::AuthorityGone)
        .chain(roles.map(|role| Change::AppRoleGone(role, now)))
        .chain(secret_ids.map(Change::SecretIdGone))
        .collect()
}

/// Destroys what is not read any more.
async fn purge(local: &Local) {
    let mut gone = ended(&local.view, local.clock.now());
    if gone.is_empty() {
        return;
    }
    tracing::warn!(
        count = gone.len(),
        "what was mirrored is destroyed: the host was offboarded"
    );
    while !gone.is_empty() {
        let rest = gone.split_off(gone.len().min(AT_ONCE));
        let some = std::mem::replace(&mut gone, rest);
        let committed = local.commit(Lane::Revocation, some, Expects::default());
        if let Err(error) = committed.await {
            tracing::error!(%error, "what is mirrored is not given any more, but could not be destroyed yet");
            return;
        }
    }
}

/// Everything mirrored, once the host was offboarded for so long that nothing of it is read any more.
fn ended(view: &View, now: Now) -> Vec<Change> {
    let authority = view.authority();
    let max_age = authority.settings.bounds.authority_max_age;
    let ends = |since: Offboarded| since.ends_reads_for_good(max_age, now);
    if !authority.offboarded.is_some_and(ends) {
        return Vec::new();
    }
    let secrets = view.secrets();
    let mirrors = authority.mirrors.keys().cloned().map(Change::MirrorGone);
    let keys = secrets.keys.keys().cloned().map(Change::KeyGone);
    let records = secrets.records.keys().cloned();
    let records = records.map(|(place, version)| Change::RecordGone(place, version));
    let leases = secrets.leases.keys().cloned().map(Change::LeaseGone);
    mirrors.chain(keys).chain(records).chain(leases).collect()
}

#[cfg(test)]
mod tests;
