//! Revocations that the primary has yet to hear of: reported at once while it is in charge, and by recovery after an
//! outage.
//!
//! Each was acknowledged, and what it is about is refused here until the primary has done it, or says that it is gone. So none is
//! given up, whatever end of it is known here where somebody may have renewed it; and none keeps another one, or an outage's
//! end, waiting: what could not be done is tried again by itself, ever more rarely. What bounds the queue is what clients may
//! add to it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use replica::{entropy, view::View};
use shared::{
    acl::{AclRequest, Decision as AclDecision, Operation},
    backoff::Backoff,
    change::{Change, HeldBy, QueuedRevocation, RevocationTarget},
    failover::Phase,
    grant::RevokeCause,
    ledger::{Entry, EntryKind},
    name::PolicyName,
    time::BootTime,
};
use tokio::{task::JoinSet, time::timeout};

use super::{SettleError, commit, primary::Primary};
use crate::local::Local;

/// How often the queue is looked at while following.
const LOOK: Duration = Duration::from_millis(250);

/// As many are reported at the same time, so that one which hangs holds up few.
const AT_ONCE: usize = 8;

/// Recovery reports for this long; the rest is reported while following.
const WITHIN: Duration = Duration::from_secs(1);

/// Reports what is queued while the primary is in charge, until the daemon stops.
pub async fn report_while_following<P: Primary + 'static>(local: Local, primary: Arc<P>) {
    let mut tries = Tries::default();
    loop {
        tokio::time::sleep(LOOK).await;
        if local.view.authority().phase != Phase::Following {
            continue; // Recovery reports it.
        }
        let mut reports = JoinSet::new();
        for queued in tries.due(&reachable(&local.view), local.clock.now().boot) {
            let (local, primary) = (local.clone(), Arc::clone(&primary));
            reports.spawn(async move {
                let reported = report(&local, primary.as_ref(), &queued).await;
                (queued.id, reported)
            });
        }
        while let Some(ended) = reports.join_next().await {
            let Ok((id, reported)) = ended else {
                continue;
            };
            if let Err(error) = reported {
                tracing::warn!(%error, id, "what became of a revocation could not be stored");
            }
            let (now, jitter) = (
                local.clock.now().boot,
                entropy::jitter(local.entropy.as_ref()),
            );
            tries.tried(id, now, jitter);
        }
    }
}

/// When each queued revocation is tried next. Bounded by the queue.
#[derive(Default)]
struct Tries(BTreeMap<u64, (BootTime, Backoff)>);

impl Tries {
    /// Those of `queue` that are due at `now`, those not tried yet first.
    fn due(
        &mut self,
        queue: &[Arc<QueuedRevocation>],
        now: BootTime,
    ) -> Vec<Arc<QueuedRevocation>> {
        let ids: BTreeSet<u64> = queue.iter().map(|queued| queued.id).collect();
        self.0.retain(|id, _| ids.contains(id));
        let next = |queued: &QueuedRevocation| self.0.get(&queued.id).map(|(next, _)| *next);
        let mut due: Vec<_> = queue
            .iter()
            .filter(|queued| next(queued).is_none_or(|next| next <= now))
            .cloned()
            .collect();
        due.sort_by_key(|queued| next(queued));
        due.truncate(AT_ONCE);
        due
    }

    fn tried(&mut self, id: u64, now: BootTime, jitter: f64) {
        let (next, backoff) = self.0.entry(id).or_insert((now, Backoff::ATTEMPTS));
        *next = now.plus(backoff.next(jitter));
    }
}

/// What is queued of the configured namespace: what is of another waits until that is configured again.
fn reachable(view: &View) -> Vec<Arc<QueuedRevocation>> {
    let authority = view.authority();
    let mut queue = view.queue();
    queue.retain(|queued| queued.is_of(&authority.settings.namespace));
    queue
}

/// What is queued: revocations that a token asked for about itself or that nobody's policy stands behind, and the
/// others.
pub(super) fn queued(local: &Local) -> (Vec<QueuedRevocation>, Vec<QueuedRevocation>) {
    let queue = reachable(&local.view);
    let queue = queue.iter().map(|queued| (**queued).clone());
    queue.partition(|queued| is_own(&local.view, queued))
}

/// Reports as many of them as can be told in time; the others stay queued.
///
/// # Errors
/// If what became of one could not be stored.
pub(super) async fn report_all<P: Primary>(
    local: &Local,
    primary: &P,
    queue: Vec<QueuedRevocation>,
) -> Result<(), SettleError> {
    let all = async {
        for queued in queue {
            report(local, primary, &queued).await?;
        }
        Ok(())
    };
    timeout(WITHIN, all).await.unwrap_or(Ok(()))
}

/// Has the primary carry it out, if whoever asked for it may still. What is done is taken off the queue; what is not says why.
async fn report<P: Primary>(
    local: &Local,
    primary: &P,
    queued: &QueuedRevocation,
) -> Result<(), SettleError> {
    let allowed = is_own(&local.view, queued) || is_allowed(local, queued);
    let held_by = match allowed {
        true => tell(primary, queued).await,
        false => Some(HeldBy::Policy),
    };
    match held_by {
        Some(why) if !is_over(local, primary, queued, why).await => held(local, queued, why).await,
        _ => commit(local, vec![Change::QueueDone(queued.id)]).await,
    }
}

/// Why the primary did not do it; none if it did.
async fn tell<P: Primary>(primary: &P, queued: &QueuedRevocation) -> Option<HeldBy> {
    let error = primary.revoke(queued).await.err()?;
    let (id, path) = (queued.id, queued.path());
    // Where it is Holdover's own token that was refused, nothing was said of its rights.
    if error.is_denial() && !error.is_of_own_token() {
        let rule = queued.rule();
        tracing::error!(%error, id, rule, "Holdover has no right to a revocation that it acknowledged: add the rule to its policy");
        return Some(HeldBy::Rights);
    }
    tracing::warn!(%error, id, path, "a revocation is reported to the primary later");
    Some(HeldBy::Failure)
}

/// Whether what it is about is gone, though nobody could revoke it. Where the primary failed, it will say so at the next try.
async fn is_over<P: Primary>(
    local: &Local,
    primary: &P,
    queued: &QueuedRevocation,
    why: HeldBy,
) -> bool {
    let now = local.clock.now();
    let is_worth_asking = match queued.target {
        // One that nobody renewed is gone by then; before, it lives as far as anybody knows.
        RevocationTarget::Lease(_) => queued.may_be_over(now),
        RevocationTarget::Token(_) => true,
    };
    let asked = why != HeldBy::Failure && is_worth_asking;
    queued.is_over(now) || asked && primary.says_dead(&queued.target).await
}

/// Notes why it was not done, once for each reason.
async fn held(local: &Local, queued: &QueuedRevocation, why: HeldBy) -> Result<(), SettleError> {
    if queued.held_by == Some(why) {
        return Ok(());
    }
    let mut changes = vec![Change::Queue(Box::new(QueuedRevocation {
        held_by: Some(why),
        ..queued.clone()
    }))];
    if why == HeldBy::Policy {
        let now = local.clock.now().steady;
        let mut entry =
            Entry::new(EntryKind::Revocation, "withheld", now).of_peer(queued.peer.as_ref());
        let authority = local.view.authority();
        entry.outage = authority.phase.outage().map(|outage| outage.id.clone());
        entry.token = queued.requested_by;
        changes.push(Change::Ledger(Box::new(entry)));
    }
    commit(local, changes).await
}

fn is_own(view: &View, queued: &QueuedRevocation) -> bool {
    let Some(requester) = queued.requested_by else {
        return true;
    };
    match &queued.target {
        RevocationTarget::Lease(_) => false,
        RevocationTarget::Token(accessor) => view.grant(&requester).is_some_and(|live| {
            [Some(&live.grant.accessor), live.grant.at_primary()].contains(&Some(accessor))
        }),
    }
}

/// Whether whoever asked for it may now: the policies allow it, and the primary ended neither the token nor its entity.
///
/// Quarantine is left out of it. That leaves to the primary what the replica might give too much of, and this takes away: it
/// was acknowledged, what it is about is refused here already, and held up it would only live on at the primary.
fn is_allowed(local: &Local, queued: &QueuedRevocation) -> bool {
    let requester = queued
        .requested_by
        .and_then(|token| local.view.grant(&token));
    let Some(live) = requester else {
        return false;
    };
    let facts = &live.grant.facts;
    let authority = local.view.authority().without_quarantines();
    let known = facts.entity_id.as_ref();
    let known = known.and_then(|entity| authority.identity(entity));
    let ended = live
        .revoked
        .get()
        .is_some_and(|revoked| matches!(revoked.cause, RevokeCause::Primary | RevokeCause::Parent));
    if ended || known.is_some_and(|known| !known.stands()) {
        return false;
    }
    let identity = match known {
        Some(known) => {
            let names = known.policies();
            let parsed = names.iter().map(|name| PolicyName::parse(name));
            parsed.filter_map(Result::ok).collect()
        }
        None => facts.identity_policies.clone(),
    };
    let (now, entity) = (local.clock.now().wall, facts.entity_id.as_ref());
    let compiled = local
        .view
        .acl_for(&authority, &facts.policies, &identity, entity, now);
    let Ok(acl) = &compiled.acl else {
        return false;
    };
    // A token may have been named by its string, whatever it is named by when it is reported.
    let by_string = match queued.target {
        RevocationTarget::Lease(_) => None,
        RevocationTarget::Token(_) => Some("auth/token/revoke"),
    };
    let mut paths = [Some(queued.path()), by_string].into_iter().flatten();
    paths.any(|path| {
        let request = AclRequest {
            namespace: "",
            path,
            operation: Operation::Update,
            data: &serde_json::Map::new(),
            wrap_ttl: None,
            help: false,
        };
        matches!(acl.decide(&request), AclDecision::Allow(_))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use shared::{name::Accessor, time::WallTime};

    #[test]
    fn what_was_never_tried_goes_first_and_what_fails_is_tried_ever_more_rarely() {
        let target = || RevocationTarget::Token(Accessor::parse("a").unwrap());
        let queue: Vec<_> = (0..20)
            .map(|id| Arc::new(QueuedRevocation::own(id, target(), WallTime::EPOCH)))
            .collect();
        let mut tries = Tries::default();
        let at = |secs: u64| BootTime::from_millis(secs * 1000);
        let due = |tries: &mut Tries, secs| {
            let due = tries.due(&queue, at(secs));
            due.iter().map(|queued| queued.id).collect::<Vec<_>>()
        };
        let mut seen = BTreeSet::new();
        for _ in 0..3 {
            for id in due(&mut tries, 0) {
                seen.insert(id);
                tries.tried(id, at(0), 0.5);
            }
        }
        assert_eq!(seen.len(), 20, "none keeps another one waiting");
        assert!(due(&mut tries, 0).is_empty());
        let mut tried = 0;
        for second in 0..3600 {
            for id in due(&mut tries, second) {
                tried += usize::from(id == 7);
                tries.tried(id, at(second), 0.5);
            }
        }
        assert!((30..100).contains(&tried), "{tried}");
    }
}
