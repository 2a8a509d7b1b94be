//! What was damaged becomes whole once the primary has said again what stands: most of it by being read anew, which the
//! mirror does by itself. What nobody can read anew is concluded from here, so that it grants nothing, and let go.

use std::{sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use replica::{entropy::unique_u64, sequencer::Lane, view::LiveGrant};
use shared::{
    change::{Change, Expects, QueuedRevocation, RevocationTarget},
    damage::RowKind,
    failover::Phase,
    grant::{Grant, RevokeCause},
    ledger::{Entry, EntryKind},
    name::Accessor,
    settings,
    time::WallTime,
};

use crate::{local::Local, mirror::Mirrors, reaper};

/// How often it is looked for what is left.
const LOOK: Duration = Duration::from_millis(500);

/// Lets go of what was damaged as soon as nothing depends on it, until the daemon stops.
pub async fn run(local: Local, mirrors: Arc<ArcSwap<Mirrors>>) {
    loop {
        tokio::time::sleep(LOOK).await;
        let (phase, damaged) = {
            let authority = local.view.authority();
            (authority.phase.clone(), !authority.lost.is_empty())
        };
        // What was verified before the daemon started verified nothing of what it found to be lost.
        let passed = damaged.then(|| mirrors.load().authority_passed()).flatten();
        if phase == Phase::Following && passed.is_some() {
            mend(&local).await;
        }
    }
}

async fn mend(local: &Local) {
    if is_damaged(local, RowKind::Grant) {
        end_what_hangs_on_lost(local).await;
    }
    for kind in ready(local) {
        let mut changes = Vec::new();
        if kind == RowKind::Queue {
            changes = queued_anew(local);
        }
        let outcome = format!("damage mended: {kind}");
        let now = local.clock.now().steady;
        changes.push(Change::Mended(kind));
        changes.push(Change::Ledger(Box::new(Entry::new(
            EntryKind::State,
            outcome,
            now,
        ))));
        let stored = local.commit(Lane::Revocation, changes, Expects::default());
        match stored.await {
            Ok(()) => tracing::info!(%kind, "what was damaged in the replica is whole again"),
            Err(error) => tracing::warn!(%error, %kind, "damage could not be mended"),
        }
    }
}

fn is_damaged(local: &Local, kind: RowKind) -> bool {
    local.view.authority().lost.any_of(kind)
}

/// The kinds of which nothing more is to be waited for.
fn ready(local: &Local) -> Vec<RowKind> {
    let damage = local.view.damage().into_iter();
    let ready = damage.filter(|damage| match damage.kind {
        // What has a name is in use, and is read anew.
        RowKind::Authority | RowKind::Identity => damage.names.is_empty(),
        RowKind::AppRole
        | RowKind::Block
        | RowKind::Credential
        | RowKind::Lease
        | RowKind::Quarantine
        | RowKind::Queue
        | RowKind::SecretId => true,
        // Those of other namespaces; what is lost of this one was put anew.
        RowKind::Cluster | RowKind::Policies => is_seen(local),
        RowKind::Grant => !hangs_any_on_lost(local),
        // Until the primary has done what it is to be told, what is refused here is refused by this alone.
        RowKind::Revocation => local.view.queue().is_empty() && !is_damaged(local, RowKind::Queue),
        RowKind::Doubt => !is_any_mirror_doubted(local),
        // The next of each is put when it comes.
        RowKind::Mark | RowKind::Offboarded | RowKind::Phase => false,
    });
    ready.map(|damage| damage.kind).collect()
}

fn is_seen(local: &Local) -> bool {
    let authority = local.view.authority();
    let cluster = authority.cluster.as_ref();
    let mounts = cluster.is_some_and(|cluster| cluster.verified_at > WallTime::EPOCH);
    let policies = authority.policies.as_ref();
    mounts && policies.is_some_and(|known| known.set.is_read())
}

/// Whether one is doubted since before the start, as all are where a doubt is lost.
fn is_any_mirror_doubted(local: &Local) -> bool {
    let doubts = local.view.doubts();
    let authority = local.view.authority();
    let mut mirrors = authority.settings.mirrors.iter();
    mirrors.any(|mirror: &settings::Mirror| doubts.is_mirror_doubted(&mirror.path))
}

fn living_on_lost(local: &Local) -> impl Iterator<Item = Arc<LiveGrant>> {
    let grants = local.view.grants().into_iter();
    grants.filter(|live| live.revoked.get().is_none() && local.view.hangs_on_lost(&live.grant))
}

fn hangs_any_on_lost(local: &Local) -> bool {
    living_on_lost(local).next().is_some()
}

/// Whether it lives only the primary can say of its own tokens, which are learned anew when it accepts them; of the
/// replica's nobody can.
async fn end_what_hangs_on_lost(local: &Local) {
    let grants: Vec<Grant> = living_on_lost(local)
        .map(|live| live.grant.clone())
        .collect();
    let (ours, primarys): (Vec<_>, Vec<_>) = grants.into_iter().partition(Grant::is_replica);
    let ended = ours.into_iter().map(|grant| (grant, RevokeCause::Parent));
    reaper::revoke(local, ended.collect()).await;
    let forgotten = primarys
        .into_iter()
        .map(|grant| Change::GrantForgotten(grant.digest));
    let forgotten: Vec<Change> = forgotten.collect();
    if forgotten.is_empty() {
        return;
    }
    let stored = local.commit(Lane::Revocation, forgotten, Expects::default());
    if let Err(error) = stored.await {
        tracing::warn!(%error, "tokens that hang on damaged ones could not be forgotten");
    }
}

/// Which tokens the primary was to revoke is lost, so it is told of every one that was revoked here and may live there: it
/// does no harm to tell it twice. Of leases nothing is known any more; they end by themselves.
fn queued_anew(local: &Local) -> Vec<Change> {
    let now = local.clock.now();
    let queue = local.view.queue();
    let is_queued = |accessor: &Accessor| {
        queue.iter().any(|queued| match &queued.target {
            RevocationTarget::Token(target) => target == accessor,
            RevocationTarget::Lease(_) => false,
        })
    };
    let grants = local.view.grants();
    let revoked = grants.iter().filter(|live| live.revoked.get().is_some());
    let by_the_primary = |live: &LiveGrant| {
        let revocation = live.revoked.get();
        revocation.is_some_and(|revocation| revocation.cause == RevokeCause::Primary)
    };
    let living =
        revoked.filter(|live| !live.grant.deadline.passed_for_good(now) && !by_the_primary(live));
    let told = living.filter_map(|live| {
        let accessor = live.grant.at_primary()?;
        let id = unique_u64(local.entropy.as_ref()).ok()?;
        let target = RevocationTarget::Token(accessor.clone());
        let queued = QueuedRevocation {
            namespace: Some(live.grant.namespace.clone()),
            peer: live.grant.peer.clone(),
            ..QueuedRevocation::own(id, target, now.steady)
        };
        (!is_queued(accessor)).then(|| Change::Queue(Box::new(queued)))
    });
    told.collect()
}
