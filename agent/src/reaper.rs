//! Makes the end of grants durable and visible. What refuses them in time is the check at use, not this.
//!
//! It wakes at the next deadline, at a step of the wall clock, and when the configuration changes; it also keeps
//! the mark of time.

pub mod lease;

use std::{collections::HashSet, sync::Arc, time::Duration};

use replica::{
    entropy::unique_u64,
    sequencer::Lane,
    view::{DeadAncestor, LiveGrant, View},
};
use shared::{
    change::{Change, Expects, QueuedRevocation, RevocationTarget},
    grant::{Grant, Revocation, RevokeCause, Settled},
    ledger::{Entry, EntryKind},
    name::{Accessor, TokenDigest},
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
    let mut marked: Option<(BootTime, bool)> = None;
    loop {
        let now = local.clock.now();
        let sweep = sweep(&local.view, now);
        for lateness in sweep.lateness {
            late(lateness);
        }
        revoke(&local, sweep.ended).await;
        lease::end_due(&local).await;
        local.commit_later(Lane::Mirror, sweep.forgotten);
        local.commit_later(Lane::Mirror, local.view.beyond(now));
        let every = if sweep.replica_lives {
            MARK_INTERVAL
        } else {
            IDLE_MARK_INTERVAL
        };
        let mark = local.clock.mark();
        // A reboot must find that the clock was ahead, and that it is not any more.
        let is_due = |(at, ahead)| now.boot.since(at) >= every || ahead != mark.ahead;
        if marked.is_none_or(is_due) {
            local.commit_later(Lane::Grant, vec![Change::Mark(mark)]);
            marked = Some((now.boot, mark.ahead));
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

/// Revokes every replica grant that lives.
pub async fn revoke_replica_grants(local: &Local, cause: RevokeCause) {
    let living = living_replica_grants(local).into_iter();
    revoke(local, living.map(|grant| (grant, cause)).collect()).await;
}

/// The replica grants that are neither revoked nor over.
fn living_replica_grants(local: &Local) -> Vec<Grant> {
    let now = local.clock.now();
    let grants = local.view.grants();
    let living = grants.iter().filter(|live| {
        live.grant.is_replica()
            && live.revoked.get().is_none()
            && !live.grant.deadline.passed_for_good(now)
    });
    living.map(|live| live.grant.clone()).collect()
}

/// What revokes every replica grant that lives, for whoever stores it together with why.
pub fn ends_of_replica_grants(local: &Local, cause: RevokeCause) -> Vec<Change> {
    let living = living_replica_grants(local).into_iter();
    let ended: Vec<_> = living.map(|grant| (grant, cause)).collect();
    revocations(local, &ended)
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
        let outcome = cause_name(*cause);
        let mut entry = Entry::new(EntryKind::Revocation, outcome, now.steady).about(grant);
        entry.outage = entry.outage.or_else(|| current.clone());
        entry.deadline = Some(grant.deadline.wall);
        let queued = to_report(local, grant, *cause, now);
        [
            Change::Revoked(Revocation::of(grant, *cause, now.steady)),
            Change::Ledger(Box::new(entry)),
        ]
        .into_iter()
        .chain(queued)
    });
    changes.collect()
}

/// The token behind an exchanged grant is an orphan at the primary, of nobody's there: it does not die with what the grant
/// hung on here, with its entity, or with a configuration that gives it less.
fn to_report(local: &Local, grant: &Grant, cause: RevokeCause, now: Now) -> Option<Change> {
    let Settled::Exchanged(accessor) = &grant.replica()?.settled else {
        return None;
    };
    match cause {
        RevokeCause::Configuration | RevokeCause::Parent | RevokeCause::Recovery => {}
        // It ends by itself, or the primary ended it.
        RevokeCause::Clock
        | RevokeCause::Expired
        | RevokeCause::OutageBound
        | RevokeCause::Primary => return None,
        // Who asked for it has it queued.
        RevokeCause::Operator | RevokeCause::Orphaning | RevokeCause::Requested => return None,
    }
    let id = unique_u64(local.entropy.as_ref()).inspect_err(|error| {
        tracing::error!(%error, "a revocation cannot be queued for the primary; its token ends by itself");
    });
    let target = RevocationTarget::Token(accessor.clone());
    Some(Change::Queue(Box::new(QueuedRevocation {
        namespace: Some(grant.namespace.clone()),
        peer: grant.peer.clone(),
        ..QueuedRevocation::own(id.ok()?, target, now.steady)
    })))
}

/// Has a changed configuration reach the grants that it lowers: those past their TTL go at once, the others get their
/// new deadline.
pub async fn lower(local: &Local, settings: &Settings) {
    let now = local.clock.now();
    let (mut ended, mut shortened) = (Vec::new(), Vec::new());
    for grant in living_replica_grants(local) {
        match policy_of(&grant, settings).and_then(|policy| grant.lowered(policy, now)) {
            Some(kept) if kept == grant => {}
            Some(kept) => shortened.push(Change::Grant(Box::new(kept))),
            None => ended.push((grant, RevokeCause::Configuration)),
        }
    }
    revoke(local, ended).await;
    if shortened.is_empty() {
        return;
    }
    let stored = local.commit(Lane::Revocation, shortened, Expects::default());
    if let Err(error) = stored.await {
        tracing::error!(%error, "lowered deadlines could not be stored");
    }
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

fn sweep(view: &View, now: Now) -> Sweep {
    let mut sweep = Sweep::default();
    let grants = view.grants();
    let needed = Needed::of(view, &grants);
    for live in &grants {
        let grant = &live.grant;
        if let Some(revocation) = live.revoked.get() {
            // Its token may live on at the primary, which may not know of it yet.
            let ended = revocation.at.max(grant.deadline.wall);
            if now.steady.since(ended) > REMEMBERED && !needed.is(grant) {
                sweep.forgotten.push(Change::GrantForgotten(grant.digest));
            }
        } else if is_orphaned_by_death(view, grant, now) {
            sweep.ended.push((grant.clone(), RevokeCause::Parent));
        } else if !grant.deadline.passed_for_good(now) {
            sweep.replica_lives |= grant.is_replica();
            let remaining = grant.deadline.remaining_for_good(now);
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

/// Which records of dead tokens still refuse something.
struct Needed {
    /// Others hang on these.
    parents: HashSet<TokenDigest>,
    /// The primary does not know yet that these are dead.
    untold: HashSet<Accessor>,
}

impl Needed {
    fn of(view: &View, grants: &[Arc<LiveGrant>]) -> Self {
        let untold = view.queue().into_iter();
        let untold = untold.filter_map(|queued| match &queued.target {
            RevocationTarget::Token(accessor) => Some(accessor.clone()),
            RevocationTarget::Lease(_) => None,
        });
        Self {
            parents: grants.iter().filter_map(|live| live.grant.parent).collect(),
            untold: untold.collect(),
        }
    }

    fn is(&self, grant: &Grant) -> bool {
        let untold = grant
            .at_primary()
            .is_some_and(|accessor| self.untold.contains(accessor));
        untold || self.parents.contains(&grant.digest)
    }
}

/// Whether what a grant hangs on is dead, for certain. A token of the primary that has ended by what is known here may
/// have been renewed elsewhere: its children of the primary's wait until it is forgotten; they are refused until then.
fn is_orphaned_by_death(view: &View, grant: &Grant, now: Now) -> bool {
    match view.dead_ancestor(grant, |deadline| deadline.passed_for_good(now)) {
        None => false,
        Some(DeadAncestor::Revoked) => true,
        Some(DeadAncestor::Ended(deadline)) => {
            grant.is_replica() || now.steady.since(deadline.wall) > REMEMBERED
        }
    }
}

fn policy_of<'a>(grant: &Grant, settings: &'a Settings) -> Option<&'a FailoverPolicy> {
    let peer = grant.peer.as_ref()?;
    settings
        .workload(&peer.workload)
        .map(|workload| &workload.failover)
}

/// A cause as the ledger writes it.
fn cause_name(cause: RevokeCause) -> &'static str {
    match cause {
        RevokeCause::Configuration => "configuration",
        RevokeCause::Clock => "clock",
        RevokeCause::Expired => "expired",
        RevokeCause::OutageBound => "outage_bound",
        RevokeCause::Operator => "operator",
        RevokeCause::Orphaning => "orphaning",
        RevokeCause::Parent => "parent",
        RevokeCause::Primary => "primary",
        RevokeCause::Recovery => "recovery",
        RevokeCause::Requested => "requested",
    }
}

#[cfg(test)]
mod tests {
    use shared::{
        grant::Origin,
        lease::LeaseHolder,
        name::{Accessor, TokenDigest},
        secret::SecretBytes,
        time::Deadline,
        workload::OnRecovery,
    };

    use super::*;
    use crate::samples::{self, bench::Bench};

    const HOUR: Duration = Duration::from_secs(3600);

    /// Three replica grants in a row, each hanging on the one before.
    fn family(bench: &Bench) -> [Grant; 3] {
        let mut grants = [1, 2, 3].map(|nr| bench.grant(nr, HOUR));
        grants[1].parent = Some(grants[0].digest);
        grants[2].parent = Some(grants[1].digest);
        grants
    }

    fn ended(bench: &Bench) -> Vec<(u8, RevokeCause)> {
        let sweep = sweep(&bench.local.view, bench.local.clock.now());
        let ended = sweep.ended.iter();
        let mut ended: Vec<_> = ended
            .map(|(grant, cause)| (grant.digest.0[0], *cause))
            .collect();
        ended.sort_by_key(|(nr, _)| *nr);
        ended
    }

    async fn stored(grants: [Grant; 3], more: Vec<Change>, bench: &Bench) {
        let grants = grants
            .into_iter()
            .map(|grant| Change::Grant(Box::new(grant)));
        bench.store(grants.chain(more).collect()).await;
    }

    #[tokio::test]
    async fn everything_that_hangs_on_a_revoked_token_is_revoked_and_stays_so() {
        let bench = Bench::new(OnRecovery::Exchange);
        let mut family = family(&bench);
        if let Origin::Replica(replica) = &mut family[2].origin {
            replica.settled = Settled::Exchanged(Accessor::parse("behind").unwrap());
        }
        let revoked = Revocation::of(
            &family[0],
            RevokeCause::Operator,
            bench.local.clock.now().steady,
        );
        stored(family.clone(), vec![Change::Revoked(revoked)], &bench).await;
        assert_eq!(
            ended(&bench),
            [(2, RevokeCause::Parent), (3, RevokeCause::Parent)]
        );
        let all = sweep(&bench.local.view, bench.local.clock.now()).ended;
        revoke(&bench.local, all).await;
        assert!(ended(&bench).is_empty());
        let told: Vec<_> = bench
            .local
            .view
            .queue()
            .iter()
            .map(|one| one.target.clone())
            .collect();
        assert_eq!(
            told,
            [RevocationTarget::Token(Accessor::parse("behind").unwrap())]
        );
        let again = bench.reopened();
        for grant in family {
            assert!(again.local.view.revocation(&grant.digest).is_some());
        }
    }

    #[tokio::test]
    async fn grants_end_with_what_they_hang_on_and_tokens_of_the_primary_wait() {
        let bench = Bench::new(OnRecovery::Exchange);
        let mut family = family(&bench);
        family[0].origin = Origin::Primary;
        family[0].deadline = Deadline::after(Duration::ZERO, bench.local.clock.now());
        family[1].origin = Origin::Primary;
        stored(family, vec![], &bench).await;
        assert_eq!(ended(&bench), [(3, RevokeCause::Parent)]);
    }

    #[tokio::test]
    async fn a_revocation_is_not_forgotten_before_its_token_has_ended_and_the_primary_knows() {
        let bench = Bench::new(OnRecovery::Exchange);
        let now = bench.local.clock.now();
        let long = 10 * REMEMBERED;
        let token = |nr: u8, left| Grant {
            origin: Origin::Primary,
            ..bench.grant(nr, left)
        };
        let mut grants = [
            token(1, HOUR),
            token(2, long),
            token(3, HOUR),
            token(4, HOUR),
        ];
        grants[3].parent = Some(grants[0].digest);
        let untold = RevocationTarget::Token(grants[2].accessor.clone());
        let revoked = grants[..3].iter().map(|grant| {
            Change::Revoked(Revocation::of(grant, RevokeCause::Requested, now.steady))
        });
        let mut changes: Vec<_> = revoked.collect();
        changes.push(Change::Queue(Box::new(QueuedRevocation::own(
            1, untold, now.steady,
        ))));
        let stored = grants
            .iter()
            .cloned()
            .map(|grant| Change::Grant(Box::new(grant)));
        bench.store(stored.chain(changes).collect()).await;
        let forgotten = |after: Duration| {
            let wall = now.wall.plus(after);
            let now = Now {
                wall,
                steady: wall,
                boot: now.boot.plus(after),
                ..now
            };
            let sweep = sweep(&bench.local.view, now);
            let mut forgotten: Vec<_> = sweep
                .forgotten
                .iter()
                .filter_map(|change| match change {
                    Change::GrantForgotten(digest) => Some(digest.0[0]),
                    _ => None,
                })
                .collect();
            forgotten.sort_unstable();
            forgotten
        };
        assert!(forgotten(REMEMBERED).is_empty());
        // The first is remembered for the one that hangs on it, the third for the primary.
        let past = REMEMBERED + 2 * HOUR;
        assert!(!forgotten(past).contains(&1) && !forgotten(past).contains(&3));
        assert!(!forgotten(past).contains(&2));
        assert!(forgotten(long + past).contains(&2));
        bench
            .store(vec![
                Change::QueueDone(1),
                Change::GrantForgotten(grants[3].digest),
            ])
            .await;
        assert_eq!(forgotten(past), [1, 3]);
    }

    #[tokio::test]
    async fn a_wall_clock_that_is_ahead_ends_nothing_and_has_nobody_look_again_at_once() {
        let bench = Bench::new(OnRecovery::Exchange);
        let grant = bench.grant(1, HOUR);
        bench.store(vec![Change::Grant(Box::new(grant))]).await;
        let sweep = sweep(&bench.local.view, samples::ahead(bench.local.clock.now()));
        assert!(sweep.ended.is_empty());
        assert!(sweep.next > Some(HOUR / 2), "{:?}", sweep.next);
    }

    #[tokio::test]
    async fn children_that_were_spared_live_on() {
        let bench = Bench::new(OnRecovery::Exchange);
        let family = family(&bench);
        let revoked = Revocation::of(
            &family[0],
            RevokeCause::Orphaning,
            bench.local.clock.now().steady,
        );
        stored(family, vec![Change::Revoked(revoked)], &bench).await;
        assert!(ended(&bench).is_empty());
    }

    #[tokio::test]
    async fn leases_of_a_revoked_token_are_dropped_and_told() {
        let bench = Bench::new(OnRecovery::Exchange);
        let now = bench.local.clock.now();
        let lease = |nr, holder| samples::lease(nr, holder, HOUR, now);
        let family = family(&bench);
        let leases = [
            lease(1, LeaseHolder::Token(family[0].digest)),
            lease(2, LeaseHolder::Token(family[1].digest)),
            lease(3, LeaseHolder::Shared),
            lease(4, LeaseHolder::Token(TokenDigest([9; 32]))),
        ];
        let leases = leases
            .map(|lease| Change::Lease(Box::new(lease), Some(SecretBytes::new(b"{}".to_vec()))));
        let revoked = Revocation::of(&family[0], RevokeCause::Requested, now.steady);
        let more = leases
            .into_iter()
            .chain([Change::Revoked(revoked)])
            .collect();
        stored(family, more, &bench).await;
        let all = sweep(&bench.local.view, now).ended;
        revoke(&bench.local, all).await;
        let left: Vec<_> = bench
            .local
            .view
            .secrets()
            .leases
            .keys()
            .map(ToString::to_string)
            .collect();
        assert_eq!(left, ["database/creds/x/3", "database/creds/x/4"]);
    }
}
