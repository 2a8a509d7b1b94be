//! Claims about a grant's settling at its use, on a real replica and a scripted primary.

use std::{future::Future, time::Duration};

use shared::{
    change::PolicySet,
    failover::{Phase, Recovery},
    grant::{Origin, Revocation, RevokeCause},
    identity::{Entity, Identity},
    name::EntityId,
    recovery::StandsFor,
    settings::Settings,
    time::WallTime,
    workload::OnRecovery,
};
use tokio::time::timeout;

use super::*;
use crate::{
    recovery::settle,
    samples::{
        self,
        bench::Bench,
        scripted::{self, Said, Scripted},
    },
};

const MINUTE: Duration = Duration::from_secs(60);

/// Longer than any of this takes.
const LONG: Duration = Duration::from_secs(30);

const GRANT: TokenDigest = TokenDigest([1; 32]);

/// A replica that an outage left a grant in, and the primary that is back.
struct Left {
    bench: Bench,
    primary: Arc<Scripted>,
    settler: Settler<Scripted>,
}

impl Left {
    /// Nothing of the workload was verified since.
    async fn over(on_recovery: OnRecovery) -> Self {
        Self::with(on_recovery, |grant| grant).await
    }

    /// The same with what `changed` makes of the grant.
    async fn with(on_recovery: OnRecovery, changed: impl FnOnce(Grant) -> Grant) -> Self {
        let bench = Bench::new(on_recovery);
        bench.outage().await;
        let mut authority = bench.authority();
        authority.verified_at = authority.verified_at.minus(MINUTE);
        let grant = changed(bench.grant(1, MINUTE));
        bench
            .store(vec![
                Change::Authority(Box::new(authority)),
                Change::Grant(Box::new(grant)),
            ])
            .await;
        bench.following().await;
        Self::of(bench)
    }

    fn of(bench: Bench) -> Self {
        let primary = Arc::new(Scripted::new(&bench.local));
        let settler = Settler::new(bench.local.clone(), Arc::clone(&primary));
        Self {
            bench,
            primary,
            settler,
        }
    }

    /// As after `kill -9`: with a primary that was asked nothing.
    fn restarted(self) -> Self {
        let Self {
            bench,
            primary,
            settler,
        } = self;
        drop((primary, settler));
        Self::of(bench.reopened())
    }

    async fn store(&self, changes: Vec<Change>) {
        self.bench.store(changes).await;
    }

    /// What the grant comes to at a use that needs the primary.
    async fn used(&self) -> Settlement {
        ended(self.settler.settle(GRANT)).await
    }

    fn settled(&self) -> Option<Settled> {
        self.bench.settled(1)
    }

    fn grant(&self) -> Grant {
        self.bench.local.view.grant(&GRANT).unwrap().grant.clone()
    }

    /// The token that is held for the grant.
    fn held(&self) -> Option<String> {
        let view = &self.bench.local.view;
        let held = view.credential(&CredentialName::Exchanged(GRANT))?;
        let opened = held.body.open(view.keys()).unwrap();
        Some(String::from_utf8(opened.expose().to_vec()).unwrap())
    }

    /// What the primary is to be told.
    fn queued(&self) -> Vec<RevocationTarget> {
        let queue = self.bench.local.view.queue();
        queue.iter().map(|queued| queued.target.clone()).collect()
    }

    async fn noted(&self, kind: EntryKind) -> usize {
        let (send, read) = tokio::sync::oneshot::channel();
        let sequencer = &self.bench.local.sequencer;
        sequencer.read_ledger(0, 1000, move |entries| drop(send.send(entries)));
        let (entries, _) = read.await.unwrap().unwrap();
        entries
            .iter()
            .filter(|entry| entry.entry.kind == kind)
            .count()
    }
}

async fn ended<T>(work: impl Future<Output = T>) -> T {
    timeout(LONG, work).await.unwrap()
}

fn exchanged(nr: usize) -> Option<Settled> {
    Some(Settled::Exchanged(scripted::minted(nr)))
}

fn token(nr: usize) -> RevocationTarget {
    RevocationTarget::Token(scripted::minted(nr))
}

fn unreachable(outcome: &Settlement) -> bool {
    matches!(outcome, Settlement::Unreachable(_))
}

fn asks_to_wait(outcome: &Settlement) -> bool {
    matches!(outcome, Settlement::Later(_))
}

/// Whether it is what a client is told where the primary says this to what a judgement needs.
fn tells_of(said: Said, outcome: &Settlement) -> bool {
    match said {
        Said::Lost => unreachable(outcome),
        Said::Status(429) => asks_to_wait(outcome),
        _ => unread(outcome),
    }
}

fn unread(outcome: &Settlement) -> bool {
    matches!(outcome, Settlement::Unread(_))
}

#[tokio::test]
async fn each_on_recovery_settles_a_grant_in_its_own_way() {
    for (on_recovery, settled, asks, mints) in [
        (OnRecovery::Exchange, exchanged(1), 1, 1),
        (OnRecovery::Drain, Some(Settled::Draining), 1, 0),
        // Whatever the authority is.
        (OnRecovery::Revoke, None, 0, 0),
    ] {
        let left = Left::over(on_recovery).await;
        assert_eq!(left.used().await, Settlement::Settled, "{on_recovery:?}");
        assert_eq!(left.settled(), settled, "{on_recovery:?}");
        assert_eq!(left.primary.times("workload"), asks, "{on_recovery:?}");
        assert_eq!(left.primary.times("mint"), mints, "{on_recovery:?}");
        // What was settled is not asked about again, in this life or the next.
        let left = left.restarted();
        assert_eq!(left.used().await, Settlement::Settled, "{on_recovery:?}");
        assert_eq!(left.settled(), settled, "{on_recovery:?}");
        assert!(left.primary.questions().is_empty(), "{on_recovery:?}");
    }
}

#[tokio::test]
async fn a_judgement_mints_nothing_and_stores_nothing_of_an_exchange() {
    let left = Left::over(OnRecovery::Exchange).await;
    assert_eq!(ended(left.settler.judge(GRANT)).await, Judged::Exchange);
    assert_eq!(left.primary.questions(), ["workload"]);
    assert_eq!(left.settled(), Some(Settled::Not));
    let left = Left::over(OnRecovery::Drain).await;
    let drained = Judged::As(Settlement::Settled);
    assert_eq!(ended(left.settler.judge(GRANT)).await, drained);
    assert_eq!(left.settled(), Some(Settled::Draining));
}

#[tokio::test]
async fn the_exchanged_token_is_what_is_left_of_the_grant_and_is_held_sealed() {
    let left = Left::over(OnRecovery::Exchange).await;
    let before = left.grant();
    assert_eq!(left.used().await, Settlement::Settled);
    assert_eq!(left.held().as_deref(), Some("s.minted-1"));
    let after = left.grant();
    assert!(after.deadline.wall <= before.deadline.wall);
    assert_eq!(after.facts.policies, before.facts.policies);
    let [wanted] = &left.primary.minted()[..] else {
        panic!("one mint");
    };
    assert_eq!(wanted.policies, before.facts.policies);
    assert_eq!(wanted.stands_for, StandsFor::Workload(None));
    assert!(wanted.remaining <= MINUTE);
    assert_eq!(left.noted(EntryKind::Exchange).await, 1);
}

#[tokio::test]
async fn however_many_use_it_at_once_one_token_is_minted_and_all_get_it() {
    let left = Left::over(OnRecovery::Exchange).await;
    left.primary.says("mint", Said::AtTheGate);
    let uses: Vec<_> = (0..50)
        .map(|_| tokio::spawn(left.settler.settle(GRANT)))
        .collect();
    eventually(|| left.primary.times("mint") == 1).await;
    left.primary.gate.notify_one();
    for used in uses {
        assert_eq!(ended(used).await.unwrap(), Settlement::Settled);
    }
    assert_eq!(left.primary.questions(), ["workload", "mint"]);
}

#[tokio::test]
async fn who_uses_different_grants_of_one_workload_has_it_verified_once() {
    let left = Left::over(OnRecovery::Drain).await;
    let others = (2..=20).map(|nr| Change::Grant(Box::new(left.bench.grant(nr, MINUTE))));
    left.store(others.collect()).await;
    left.primary.says("workload", Said::AtTheGate);
    let uses: Vec<_> = (1..=20)
        .map(|nr| {
            let digest = TokenDigest([nr; 32]);
            tokio::spawn(left.settler.settle(digest))
        })
        .collect();
    eventually(|| left.primary.times("workload") == 1).await;
    left.primary.says("workload", Said::Yes);
    left.primary.gate.notify_one();
    for used in uses {
        assert_eq!(ended(used).await.unwrap(), Settlement::Settled);
    }
    assert_eq!(left.primary.questions(), ["workload"]);
}

#[tokio::test]
async fn a_client_that_goes_away_loses_no_token() {
    let left = Left::over(OnRecovery::Exchange).await;
    left.primary.says("mint", Said::AtTheGate);
    let used = tokio::spawn(left.settler.settle(GRANT));
    eventually(|| left.primary.times("mint") == 1).await;
    used.abort();
    assert!(used.await.is_err());
    left.primary.gate.notify_one();
    eventually(|| left.settled() == exchanged(1)).await;
    assert_eq!(left.used().await, Settlement::Settled);
    assert_eq!(left.primary.times("mint"), 1);
}

/// The configuration of the bench, changed.
fn reconfigured(left: &Left, change: impl FnOnce(&mut Settings)) -> Arc<Settings> {
    let mut settings = left.bench.config.settings.clone();
    change(&mut settings);
    Arc::new(settings)
}

#[tokio::test]
async fn nothing_is_stored_by_settings_that_changed_during_the_mint() {
    let left = Left::over(OnRecovery::Exchange).await;
    let lowered = reconfigured(&left, |settings| {
        let failover = &mut settings.workloads[0].failover;
        failover.on_recovery = OnRecovery::Drain;
        failover.max_ttl = MINUTE / 2;
    });
    left.primary.meanwhile(move |local| async move {
        local.sequencer.set_settings(&lowered);
        reaper::lower(&local, &lowered).await;
    });
    assert!(unread(&left.used().await));
    assert_eq!(left.settled(), Some(Settled::Not));
    assert_eq!(left.held(), None);
    assert_eq!(left.queued(), [token(1)], "nobody has the token");
    assert_eq!(left.used().await, Settlement::Settled);
    assert_eq!(left.settled(), Some(Settled::Draining));
    let remains = left.grant().deadline.remaining(left.bench.now());
    assert!(remains <= MINUTE / 2, "{remains:?}");
    assert_eq!(left.primary.times("mint"), 1);
}

#[tokio::test]
async fn a_grant_that_is_revoked_during_the_mint_stays_so_and_its_token_goes() {
    let left = Left::over(OnRecovery::Exchange).await;
    let grant = left.grant();
    left.primary.meanwhile(move |local| async move {
        reaper::revoke(&local, vec![(grant, RevokeCause::Operator)]).await;
    });
    assert_eq!(left.used().await, Settlement::Settled);
    assert_eq!(left.settled(), None);
    assert_eq!(left.held(), None);
    assert_eq!(left.queued(), [token(1)]);
}

#[tokio::test]
async fn a_grant_whose_parent_is_revoked_during_the_mint_is_given_no_token() {
    let (left, parent) = hanging_on(Origin::Primary).await;
    left.store(vec![Change::Proven(parent.digest, left.bench.now().steady)])
        .await;
    left.primary.meanwhile(move |local| async move {
        reaper::revoke(&local, vec![(parent, RevokeCause::Operator)]).await;
    });
    let outcome = left.used().await;
    assert!(unread(&outcome), "{outcome:?}");
    assert_eq!(left.settled(), Some(Settled::Not));
    assert_eq!(left.queued(), [token(1)]);
    assert_eq!(left.used().await, Settlement::Settled, "it is dead");
    assert_eq!(left.primary.times("mint"), 1);
}

#[tokio::test]
async fn what_else_was_changed_of_a_grant_during_the_mint_is_kept() {
    let left = Left::over(OnRecovery::Exchange).await;
    let mut spared = left.grant();
    if let Origin::Replica(replica) = &mut spared.origin {
        replica.spared = true;
    }
    left.primary.meanwhile(move |local| async move {
        let changed = vec![Change::Grant(Box::new(spared))];
        let stored = local.commit(Lane::Revocation, changed, Expects::default());
        stored.await.unwrap();
    });
    assert_eq!(left.used().await, Settlement::Settled);
    assert_eq!(left.settled(), exchanged(1));
    assert!(left.grant().replica().unwrap().spared);
}

#[tokio::test]
async fn a_grant_that_was_settled_otherwise_during_the_mint_stays_so() {
    let left = Left::over(OnRecovery::Exchange).await;
    let drained = left.grant().settled(Settled::Draining);
    left.primary.meanwhile(move |local| async move {
        let changed = vec![Change::Grant(Box::new(drained))];
        let stored = local.commit(Lane::Revocation, changed, Expects::default());
        stored.await.unwrap();
    });
    assert_eq!(left.used().await, Settlement::Settled);
    assert_eq!(left.settled(), Some(Settled::Draining));
    assert_eq!(left.queued(), [token(1)]);
}

#[tokio::test]
async fn after_a_crash_between_mint_and_commit_it_is_minted_anew() {
    let left = Left::over(OnRecovery::Exchange).await;
    // The store stops while the token is under way: nothing of it is durable.
    left.primary
        .meanwhile(|local| async move { local.sequencer.stop() });
    assert!(unread(&left.used().await));
    let left = left.restarted();
    assert_eq!(left.settled(), Some(Settled::Not));
    assert_eq!(left.held(), None);
    assert_eq!(left.used().await, Settlement::Settled);
    assert_eq!(left.settled(), exchanged(1));
    assert_eq!(left.primary.times("mint"), 1);
}

#[tokio::test]
async fn a_mint_whose_outcome_is_unknown_is_tried_three_times_and_the_ledger_says_so() {
    for said in [Said::Lost, Said::Status(500)] {
        let left = Left::over(OnRecovery::Exchange).await;
        left.primary.says("mint", said);
        for _ in 0..2 {
            assert!(unreachable(&left.used().await), "{said:?}");
            assert_eq!(left.settled(), Some(Settled::Not), "{said:?}");
        }
        assert_eq!(left.used().await, Settlement::Settled, "{said:?}");
        assert_eq!(left.settled(), Some(Settled::Draining), "{said:?}");
        assert_eq!(left.primary.times("mint"), 3, "{said:?}");
        assert_eq!(left.noted(EntryKind::Unknown).await, 3, "{said:?}");
        assert!(left.settler.0.unknown.lock().is_empty());
    }
}

#[tokio::test]
async fn an_unknown_outcome_that_is_followed_by_a_known_one_is_forgotten() {
    let left = Left::over(OnRecovery::Exchange).await;
    left.primary.says("mint", Said::Lost);
    assert!(unreachable(&left.used().await));
    left.primary.says("mint", Said::Yes);
    assert_eq!(left.used().await, Settlement::Settled);
    assert_eq!(left.settled(), exchanged(2));
    assert!(left.settler.0.unknown.lock().is_empty());
}

#[tokio::test]
async fn unknown_outcomes_are_not_kept_of_what_ended_otherwise() {
    let left = Left::over(OnRecovery::Exchange).await;
    let other = Change::Grant(Box::new(left.bench.grant(2, MINUTE)));
    left.store(vec![other]).await;
    left.primary.says("mint", Said::Lost);
    assert!(unreachable(&left.used().await));
    let ends = Revocation::of(&left.grant(), RevokeCause::Expired, left.bench.now().steady);
    left.store(vec![Change::Revoked(ends)]).await;
    let other = TokenDigest([2; 32]);
    let used = left.settler.settle(other);
    assert!(unreachable(&ended(used).await));
    let unknown = left.settler.0.unknown.lock();
    assert_eq!(unknown.keys().copied().collect::<Vec<_>>(), [other]);
}

#[tokio::test]
async fn what_cannot_be_minted_exactly_drains() {
    for said in [Said::Gone, Said::Status(400), Said::Status(404)] {
        let left = Left::over(OnRecovery::Exchange).await;
        left.primary.says("mint", said);
        assert_eq!(left.used().await, Settlement::Settled, "{said:?}");
        assert_eq!(left.settled(), Some(Settled::Draining), "{said:?}");
    }
}

#[tokio::test]
async fn a_mint_that_is_refused_to_holdover_itself_is_tried_again_and_nothing_is_stored() {
    for status in [403, 429] {
        let left = Left::over(OnRecovery::Exchange).await;
        left.primary.says("mint", Said::Status(status));
        for _ in 0..4 {
            let outcome = left.used().await;
            match status {
                403 => assert_eq!(outcome, Settlement::Drains),
                _ => assert!(asks_to_wait(&outcome), "{outcome:?}"),
            }
            assert_eq!(left.settled(), Some(Settled::Not), "{status}");
        }
        left.primary.says("mint", Said::Yes);
        assert_eq!(left.used().await, Settlement::Settled, "{status}");
        assert_eq!(left.settled(), exchanged(5), "{status}");
        assert_eq!(left.noted(EntryKind::Unknown).await, 0, "{status}");
    }
}

#[tokio::test]
async fn nothing_is_minted_for_as_long_as_the_primary_asks() {
    for (wait, over) in [(LONG, false), (Duration::from_millis(10), true)] {
        let left = Left::over(OnRecovery::Exchange).await;
        left.primary.says("mint", Said::Wait(wait));
        assert!(asks_to_wait(&left.used().await));
        left.primary.says("mint", Said::Yes);
        match over {
            true => eventually_settled(&left).await,
            false => assert!(asks_to_wait(&left.used().await)),
        }
        assert_eq!(left.primary.times("mint"), 1 + usize::from(over));
    }
}

#[tokio::test]
async fn where_the_replica_takes_nothing_not_every_use_mints() {
    let left = Left::over(OnRecovery::Exchange).await;
    assert_eq!(ended(left.settler.judge(GRANT)).await, Judged::Exchange);
    left.bench.local.sequencer.stop();
    assert!(unread(&left.used().await));
    for _ in 0..3 {
        assert!(asks_to_wait(&left.used().await));
    }
    assert_eq!(left.primary.times("mint"), 1);
    // Nobody gets it, and the queue takes nothing either.
    assert_eq!(left.primary.revoked(), [token(1)]);
}

#[tokio::test]
async fn a_mint_of_which_nothing_was_done_does_not_count_as_one_of_unknown_outcome() {
    let left = Left::over(OnRecovery::Exchange).await;
    left.primary.says("mint", Said::Status(412));
    for _ in 0..4 {
        assert!(unreachable(&left.used().await));
        assert_eq!(left.settled(), Some(Settled::Not));
    }
    assert_eq!(left.noted(EntryKind::Unknown).await, 0);
}

#[tokio::test]
async fn a_workload_that_cannot_be_verified_has_its_grants_drain_for_now() {
    for status in [403, 404, 429] {
        let left = Left::over(OnRecovery::Exchange).await;
        left.primary.says("workload", Said::Status(status));
        let outcome = left.used().await;
        match status {
            429 => assert!(asks_to_wait(&outcome), "{outcome:?}"),
            _ => assert_eq!(outcome, Settlement::Drains, "{status}"),
        }
        assert_eq!(
            left.settled(),
            Some(Settled::Not),
            "nothing of it is stored"
        );
        assert_eq!(left.primary.times("mint"), 0, "{status}");
        left.primary.says("workload", Said::Yes);
        eventually_settled(&left).await;
        assert_eq!(left.settled(), exchanged(1), "{status}");
    }
}

#[tokio::test]
async fn a_grant_waits_for_another_token_of_holdovers_own_and_nothing_is_settled_without_it() {
    for question in ["workload", "mint"] {
        let left = Left::over(OnRecovery::Exchange).await;
        left.primary.says(question, Said::RefusesToken);
        for _ in 0..4 {
            // What is mirrored is read meanwhile; a refusal of Holdover's own token is none of a client's.
            let outcome = left.used().await;
            assert!(asks_to_wait(&outcome), "{question}: {outcome:?}");
            assert_eq!(left.settled(), Some(Settled::Not), "{question}");
        }
        assert_eq!(left.noted(EntryKind::Unknown).await, 0, "{question}");
        left.primary.says(question, Said::Yes);
        eventually_settled(&left).await;
        assert!(
            matches!(left.settled(), Some(Settled::Exchanged(_))),
            "{question}"
        );
    }
}

#[tokio::test]
async fn a_primary_that_does_not_answer_is_told_as_such_and_asked_at_the_next_use() {
    for said in [Said::Lost, Said::Status(500)] {
        let left = Left::over(OnRecovery::Exchange).await;
        left.primary.says("workload", said);
        for _ in 0..2 {
            let outcome = left.used().await;
            let told = if said == Said::Lost {
                unreachable
            } else {
                unread
            };
            assert!(told(&outcome), "{said:?}: {outcome:?}");
        }
        // What it failed at is not asked again at once: a client that insists must not wear it out.
        let asked = if said == Said::Lost { 2 } else { 1 };
        assert_eq!(left.primary.times("workload"), asked, "{said:?}");
        assert_eq!(left.settled(), Some(Settled::Not), "{said:?}");
        left.primary.says("workload", Said::Yes);
        eventually_settled(&left).await;
        assert_eq!(left.settled(), exchanged(1), "{said:?}");
    }
}

#[tokio::test]
async fn a_grant_whose_role_the_primary_took_away_is_revoked() {
    let left = Left::over(OnRecovery::Exchange).await;
    left.primary.says("workload", Said::Gone);
    assert_eq!(left.used().await, Settlement::Settled);
    assert_eq!(left.settled(), None);
    let left = left.restarted();
    assert_eq!(left.settled(), None);
}

#[tokio::test]
async fn a_grant_keeps_no_policy_that_the_primary_took_from_its_workload() {
    let both = ["orders", "more"].map(|name| shared::name::PolicyName::parse(name).unwrap());
    let left = Left::with(OnRecovery::Exchange, |mut grant| {
        grant.facts.policies = both.to_vec();
        grant
    })
    .await;
    assert_eq!(left.used().await, Settlement::Settled);
    assert_eq!(left.grant().facts.policies, both[..1]);
    let [wanted] = &left.primary.minted()[..] else {
        panic!("one mint");
    };
    assert_eq!(wanted.policies, both[..1]);
}

/// The grant hangs on one of this origin, which nothing has proven since the outage.
async fn hanging_on(origin: Origin) -> (Left, Grant) {
    let left = Left::with(OnRecovery::Exchange, |grant| Grant {
        parent: Some(TokenDigest([9; 32])),
        ..grant
    })
    .await;
    let parent = Grant {
        verified_at: left.bench.now().steady.minus(MINUTE),
        origin,
        ..left.bench.grant(9, MINUTE)
    };
    left.store(vec![Change::Grant(Box::new(parent.clone()))])
        .await;
    (left, parent)
}

#[tokio::test]
async fn what_a_grant_hangs_on_is_proven_before_it() {
    for (said, settled, mints) in [
        (Said::Yes, exchanged(1), 1),
        // It is dead with it, which the reaper makes durable.
        (Said::Gone, Some(Settled::Not), 0),
    ] {
        let (left, _) = hanging_on(Origin::Primary).await;
        left.primary.says("token", said);
        assert_eq!(left.used().await, Settlement::Settled, "{said:?}");
        assert_eq!(left.settled(), settled, "{said:?}");
        assert_eq!(left.primary.times("mint"), mints, "{said:?}");
        assert_eq!(left.primary.questions()[0], "token", "{said:?}");
    }
    for said in [
        Said::Status(403),
        Said::RefusesToken,
        Said::Status(429),
        Said::Lost,
    ] {
        let (left, _) = hanging_on(Origin::Primary).await;
        left.primary.says("token", said);
        let outcome = left.used().await;
        assert!(tells_of(said, &outcome), "{outcome:?}");
        assert_eq!(left.settled(), Some(Settled::Not), "{said:?}");
        assert_eq!(left.primary.questions(), ["token"], "{said:?}");
        left.primary.says("token", Said::Yes);
        eventually_settled(&left).await;
        assert_eq!(left.settled(), exchanged(1), "{said:?}");
    }
}

#[tokio::test]
async fn a_long_line_is_proven_from_the_top_down_and_goes_on_at_the_next_use() {
    let left = Left::with(OnRecovery::Drain, |grant| Grant {
        parent: Some(TokenDigest([2; 32])),
        ..grant
    })
    .await;
    let last = 2 + u8::try_from(NEEDS).unwrap();
    let at = left.bench.now().steady.minus(MINUTE);
    // Each of them is an orphan at the primary, that hangs on the next one here.
    let line = (2..=last).map(|nr| {
        let behind = Accessor::parse(&format!("behind-{nr}")).unwrap();
        let grant = Grant {
            verified_at: at,
            parent: (nr < last).then(|| TokenDigest([nr + 1; 32])),
            ..left.bench.grant(nr, MINUTE)
        };
        Change::Grant(Box::new(grant.settled(Settled::Exchanged(behind))))
    });
    left.store(line.collect()).await;
    assert!(unread(&left.used().await));
    assert_eq!(left.used().await, Settlement::Settled);
    let asked: Vec<u8> = left.primary.tokens().iter().map(|one| one.0[0]).collect();
    let from_the_top: Vec<u8> = (2..=last).rev().collect();
    assert_eq!(asked, from_the_top);
    assert_eq!(left.settled(), Some(Settled::Draining));
}

#[tokio::test]
async fn a_grant_of_a_grant_that_is_left_goes_by_that_ones_workload_too() {
    let (left, mut parent) = hanging_on(Origin::Primary).await;
    parent.origin = left.grant().origin;
    left.store(vec![Change::Grant(Box::new(parent))]).await;
    left.primary.says("workload", Said::Gone);
    assert_eq!(left.used().await, Settlement::Settled);
    assert_eq!(left.settled(), None, "it dies with what it hangs on");
    assert_eq!(left.primary.times("mint"), 0);
}

mod logins;
mod outages;

/// Until it holds.
async fn eventually(holds: impl Fn() -> bool) {
    let reached = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    ended(reached).await;
}

/// Used until it is settled.
async fn eventually_settled(left: &Left) {
    let settled = async {
        while left.used().await != Settlement::Settled {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    ended(settled).await;
}
