//! Claims about settling, on a real replica and a scripted primary that fails where it is told to.

use shared::{
    change::{HeldBy, QueuedRevocation, RevocationTarget},
    grant::{Grant, Origin, Revocation, RevokeCause, Settled},
    name::{Accessor, LeaseId, Namespace, PolicyName, TokenDigest},
    offboarding::Offboarded,
    quarantine::{Quarantine, Quarantined},
    time::WallTime,
    workload::OnRecovery,
};

use super::*;
use crate::samples::{
    self,
    bench::Bench,
    scripted::{Said, Scripted},
};

const MINUTE: Duration = Duration::from_secs(60);

/// Longer than any test of what comes of steps takes.
const LONG: Duration = Duration::from_secs(30);

/// A primary token that was proven before the outage, and used.
fn of_primary(nr: u8, bench: &Bench) -> Grant {
    let now = bench.now();
    Grant {
        verified_at: now.steady.minus(MINUTE),
        ..samples::grant(nr, Origin::Primary, MINUTE, now)
    }
}

fn queued(id: u64, target: RevocationTarget, by: Option<&Grant>, at: WallTime) -> Change {
    Change::Queue(Box::new(QueuedRevocation {
        requested_by: by.map(|grant| grant.digest),
        peer: by.and_then(|grant| grant.peer.clone()),
        ..QueuedRevocation::own(id, target, at)
    }))
}

fn a_lease() -> RevocationTarget {
    RevocationTarget::Lease(LeaseId::parse("database/creds/x/y").unwrap())
}

/// What gives every step something to do: a revocation of its own, one of another's that policy allows, a primary token, and
/// a grant of the outage.
async fn with_something_for_each_step() -> (Bench, Outage) {
    let bench = Bench::new(OnRecovery::Exchange);
    let outage = bench.outage().await;
    let now = bench.now();
    let allowing = "path \"sys/leases/revoke\" { capabilities = [\"update\"] }";
    let grant = bench.grant(1, MINUTE);
    let token = RevocationTarget::Token(Accessor::parse("given-up").unwrap());
    bench
        .store(vec![
            Change::Policies(Box::new(samples::policies("orders", allowing, 1, now))),
            Change::Grant(Box::new(grant.clone())),
            Change::Grant(Box::new(of_primary(9, &bench))),
            queued(1, token, None, now.steady),
            queued(2, a_lease(), Some(&grant), now.steady),
        ])
        .await;
    (bench, outage)
}

/// What they ask for where all goes well.
const STEPS: [&str; 7] = [
    "prove", "revoke", "workload", "renew", "revoke", "token", "logins",
];

async fn settled(bench: &Bench, primary: &Arc<Scripted>, outage: &Outage) -> Recovery {
    settle(&bench.local, primary, outage, LONG).await
}

fn is_paused(bench: &Bench) -> bool {
    bench.local.view.authority().paused
}

#[tokio::test]
async fn steps_come_in_their_order_and_no_grant_is_among_them() {
    let (bench, outage) = with_something_for_each_step().await;
    let primary = Arc::new(Scripted::new(&bench.local));
    assert_eq!(settled(&bench, &primary, &outage).await, Recovery::Done);
    assert_eq!(primary.questions(), STEPS);
    assert_eq!(
        bench.settled(1),
        Some(Settled::Not),
        "it is judged at its use"
    );
    assert!(is_paused(&bench), "nothing is issued after the fence");
}

#[tokio::test]
async fn no_step_that_is_refused_keeps_the_outage_or_the_others() {
    for refused in ["revoke", "workload", "renew", "token", "logins"] {
        for status in [403, 404, 429, 500] {
            let (bench, outage) = with_something_for_each_step().await;
            let primary = Arc::new(Scripted::new(&bench.local));
            primary.says(refused, Said::Status(status));
            let ended = settled(&bench, &primary, &outage).await;
            assert_eq!(ended, Recovery::Done, "{status} to {refused}");
            assert_eq!(primary.questions(), STEPS, "{status} to {refused}");
            assert!(is_paused(&bench), "{status} to {refused}");
        }
    }
}

#[tokio::test]
async fn a_primary_that_cannot_serve_keeps_the_outage_and_issuing_goes_on() {
    for (question, at) in [("prove", 1), ("workload", 3), ("renew", 4)] {
        let (bench, outage) = with_something_for_each_step().await;
        let primary = Arc::new(Scripted::new(&bench.local));
        primary.says(question, Said::Lost);
        let ended = settled(&bench, &primary, &outage).await;
        assert!(
            matches!(ended, Recovery::Failed(_)),
            "{question}: {ended:?}"
        );
        assert_eq!(primary.questions(), STEPS[..at], "{question}");
        assert!(!is_paused(&bench), "{question}");
    }
}

#[tokio::test]
async fn a_step_that_hangs_is_left_behind_and_the_fence_comes() {
    for hangs in ["revoke", "workload", "renew", "token", "logins"] {
        let (bench, outage) = with_something_for_each_step().await;
        let primary = Arc::new(Scripted::new(&bench.local));
        primary.says(hangs, Said::Hangs);
        let within = Duration::from_millis(50);
        let ended = settle(&bench.local, &primary, &outage, within);
        let ended = tokio::time::timeout(LONG, ended).await;
        assert_eq!(ended, Ok(Recovery::Done), "{hangs}");
        assert!(is_paused(&bench), "{hangs}");
    }
}

#[tokio::test]
async fn what_was_left_behind_goes_on_after_the_fence() {
    let (bench, outage) = with_something_for_each_step().await;
    let primary = Arc::new(Scripted::new(&bench.local));
    primary.says("renew", Said::AtTheGate);
    let within = Duration::from_millis(50);
    let ended = settle(&bench.local, &primary, &outage, within).await;
    assert_eq!(ended, Recovery::Done);
    primary.gate.notify_one();
    let all_asked = async {
        while primary.questions() != STEPS {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(LONG, all_asked).await.unwrap();
}

#[tokio::test]
async fn as_much_is_asked_with_nine_thousand_grants_as_with_nine() {
    let mut asked = Vec::new();
    for many in [9u16, 9_000] {
        let bench = Bench::new(OnRecovery::Exchange);
        let outage = bench.outage().await;
        let grants: Vec<Grant> = (0..many)
            .map(|nr| {
                let mut digest = [7; 32];
                digest[..2].copy_from_slice(&nr.to_le_bytes());
                Grant {
                    digest: TokenDigest(digest),
                    accessor: Accessor::parse(&format!("of-{nr}")).unwrap(),
                    ..bench.grant(1, MINUTE)
                }
            })
            .collect();
        for some in grants.chunks(500) {
            let some = some.iter().cloned();
            let some = some.map(|grant| Change::Grant(Box::new(grant)));
            bench.store(some.collect()).await;
        }
        let primary = Arc::new(Scripted::new(&bench.local));
        assert_eq!(settled(&bench, &primary, &outage).await, Recovery::Done);
        asked.push(primary.questions());
    }
    assert_eq!(asked[0], asked[1]);
    assert_eq!(asked[0], ["prove", "workload", "renew", "logins"]);
}

#[tokio::test]
async fn of_the_primarys_tokens_only_some_are_asked_about_and_those_first_that_grants_hang_on() {
    let bench = Bench::new(OnRecovery::Exchange);
    let outage = bench.outage().await;
    let tokens = (1..=200).map(|nr| of_primary(nr, &bench));
    let child = Grant {
        parent: Some(TokenDigest([77; 32])),
        ..bench.grant(201, MINUTE)
    };
    let all = tokens.chain([child]);
    bench
        .store(all.map(|grant| Change::Grant(Box::new(grant))).collect())
        .await;
    let primary = Arc::new(Scripted::new(&bench.local));
    assert_eq!(settled(&bench, &primary, &outage).await, Recovery::Done);
    assert_eq!(primary.times("token"), 64);
    assert_eq!(primary.tokens()[0], TokenDigest([77; 32]));
}

#[tokio::test]
async fn only_a_refusal_of_holdovers_own_credential_offboards() {
    for (why, offboards) in [
        (ProveError::OwnCredentialRefused, true),
        (ProveError::Unavailable(Unavailable::Timeout), false),
    ] {
        let bench = Bench::new(OnRecovery::Exchange);
        let outage = bench.outage().await;
        let authority = Change::Authority(Box::new(bench.authority()));
        let grant = Change::Grant(Box::new(bench.grant(1, MINUTE)));
        bench.store(vec![authority, grant]).await;
        let primary = Arc::new(Scripted::new(&bench.local));
        primary.proves(Err(why.clone()));
        let ended = settled(&bench, &primary, &outage).await;
        assert_eq!(ended == Recovery::Done, offboards, "{why}");
        assert_eq!(bench.settled(1).is_none(), offboards, "{why}");
        let workloads = &bench.local.view.authority().workloads;
        assert_eq!(workloads.is_empty(), offboards, "{why}");
        assert_eq!(primary.questions(), ["prove"], "{why}");
    }
}

/// What is asked for where another token of Holdover's own has to be had first.
fn steps_with_another_token() -> Vec<&'static str> {
    let (first, rest) = STEPS.split_at(1);
    [first, &["own"], rest].concat()
}

#[tokio::test]
async fn another_token_that_comes_in_time_is_settled_with_before_the_fence() {
    let (bench, outage) = with_something_for_each_step().await;
    let primary = Arc::new(Scripted::new(&bench.local));
    primary.proves(Ok(Contact::Tokenless));
    assert_eq!(settled(&bench, &primary, &outage).await, Recovery::Done);
    assert_eq!(primary.questions(), steps_with_another_token());
}

#[tokio::test]
async fn another_token_is_waited_for_behind_the_fence_and_nothing_is_asked_without_it() {
    let (bench, outage) = with_something_for_each_step().await;
    let primary = Arc::new(Scripted::new(&bench.local));
    primary.proves(Ok(Contact::Tokenless));
    primary.says("own", Said::AtTheGate);
    let within = Duration::from_millis(50);
    let ended = settle(&bench.local, &primary, &outage, within);
    let ended = tokio::time::timeout(LONG, ended).await;
    assert_eq!(ended, Ok(Recovery::Done));
    assert!(is_paused(&bench));
    assert_eq!(primary.questions(), ["prove", "own"]);
    assert_eq!(bench.local.view.queue().len(), 2, "nothing is given up");
    bench.following().await;
    primary.gate.notify_one();
    let all_asked = async {
        while primary.questions() != steps_with_another_token() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(LONG, all_asked).await.unwrap();
}

#[tokio::test]
async fn what_waits_for_another_token_ends_with_the_next_outage_and_with_all_rights() {
    let since = Offboarded {
        at: WallTime::EPOCH,
    };
    for ends in [None, Some(since)] {
        let (bench, outage) = with_something_for_each_step().await;
        let primary = Arc::new(Scripted::new(&bench.local));
        primary.proves(Ok(Contact::Tokenless));
        primary.says("own", Said::Hangs);
        match ends {
            None => bench.enter(Phase::Holdover(outage)).await,
            Some(since) => bench.store(vec![Change::Offboarded(Some(since))]).await,
        }
        let (serves, seen) = oneshot::channel();
        let steps = contact_and_steps(bench.local.clone(), Arc::clone(&primary), serves);
        let ended = tokio::time::timeout(LONG, steps).await.unwrap();
        assert!(ended.is_ok() && seen.await.is_ok());
        let asked = primary.questions();
        let mut steps = asked.iter().filter(|asked| STEPS[1..].contains(asked));
        assert_eq!(steps.next(), None);
    }
}

#[tokio::test]
async fn a_primary_that_never_shows_that_it_serves_keeps_the_outage_and_is_left_alone() {
    let (bench, outage) = with_something_for_each_step().await;
    let primary = Arc::new(Scripted::new(&bench.local));
    primary.says("prove", Said::AtTheGate);
    let within = Duration::from_millis(50);
    let ended = settle(&bench.local, &primary, &outage, within);
    let ended = tokio::time::timeout(LONG, ended).await.unwrap();
    assert_eq!(ended, Recovery::Failed(ProveError::Unproven.to_string()));
    assert!(!is_paused(&bench));
    // Nobody holds it but the test, once nothing of this try is left.
    let left_alone = async {
        while Arc::strong_count(&primary) > 1 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(LONG, left_alone).await.unwrap();
    assert_eq!(primary.questions(), ["prove"]);
}

/// The primary dies at each question in turn, and Holdover is restarted: the outage goes on, nothing is lost, and the next
/// try ends as if nothing had happened.
#[tokio::test]
async fn settling_that_was_cut_off_anywhere_is_taken_up_again() {
    for dies_at in 0..STEPS.len() {
        let (bench, outage) = with_something_for_each_step().await;
        let primary = Arc::new(Scripted::dying_at(&bench.local, dies_at));
        let first = settled(&bench, &primary, &outage).await;
        // What is left to be told then is told while following, if the primary is not gone.
        let told_later = dies_at >= 4;
        let is_done = first == Recovery::Done;
        assert_eq!(is_done, told_later, "at {dies_at}: {first:?}");
        assert_eq!(is_paused(&bench), told_later, "at {dies_at}");
        let bench = bench.reopened();
        assert!(bench.local.view.authority().phase.is_outage());
        let primary = Arc::new(Scripted::new(&bench.local));
        let again = settled(&bench, &primary, &outage).await;
        assert_eq!(again, Recovery::Done, "at {dies_at}");
        assert!(bench.local.view.queue().is_empty(), "at {dies_at}");
        assert_eq!(primary.times("workload"), 1, "at {dies_at}");
        assert_eq!(bench.settled(1), Some(Settled::Not), "at {dies_at}");
        let proven = bench.local.view.grant(&TokenDigest([9; 32])).unwrap();
        assert!(
            proven.grant.verified_at >= outage.started_at,
            "at {dies_at}"
        );
    }
}

#[tokio::test]
async fn the_primary_is_told_of_own_revocations_and_not_of_those_that_policy_no_longer_allows() {
    let bench = Bench::new(OnRecovery::Exchange);
    let outage = bench.outage().await;
    let (grant, at) = (bench.grant(1, MINUTE), bench.now().steady);
    let itself = RevocationTarget::Token(grant.accessor.clone());
    bench
        .store(vec![
            Change::Grant(Box::new(grant.clone())),
            queued(1, itself.clone(), Some(&grant), at),
            queued(2, a_lease(), Some(&grant), at),
        ])
        .await;
    let primary = Arc::new(Scripted::new(&bench.local));
    assert_eq!(settled(&bench, &primary, &outage).await, Recovery::Done);
    assert_eq!(primary.revoked(), [itself]);
    // Acknowledged all the same: what it is about stays refused, and an operator sees why.
    let left = bench.local.view.queue();
    let left: Vec<_> = left.iter().map(|one| (one.id, one.held_by)).collect();
    assert_eq!(left, [(2, Some(HeldBy::Policy))]);
}

#[tokio::test]
async fn the_token_behind_an_exchanged_one_is_given_up_with_it() {
    let bench = Bench::new(OnRecovery::Exchange);
    let outage = bench.outage().await;
    let behind = Accessor::parse("of-the-primary").unwrap();
    let exchanged = Settled::Exchanged(behind.clone());
    let grant = bench.grant(1, MINUTE).settled(exchanged);
    let given_up = queued(
        1,
        RevocationTarget::Token(behind),
        Some(&grant),
        grant.verified_at,
    );
    let revoked = Revocation::of(&grant, RevokeCause::Requested, bench.now().steady);
    bench
        .store(vec![
            Change::Grant(Box::new(grant)),
            Change::Revoked(revoked),
            given_up,
        ])
        .await;
    let primary = Arc::new(Scripted::new(&bench.local));
    assert_eq!(settled(&bench, &primary, &outage).await, Recovery::Done);
    assert!(bench.local.view.queue().is_empty());
}

#[tokio::test]
async fn a_revocation_that_is_not_done_stays_and_says_why_and_keeps_no_outage_alive() {
    for (status, why) in [
        (403, HeldBy::Rights),
        (400, HeldBy::Failure),
        (500, HeldBy::Failure),
    ] {
        let bench = Bench::new(OnRecovery::Exchange);
        let outage = bench.outage().await;
        let at = bench.now().steady;
        let both = [1, 2].map(|id| {
            let accessor = Accessor::parse(&format!("a{id}")).unwrap();
            queued(id, RevocationTarget::Token(accessor), None, at)
        });
        bench.store(both.into()).await;
        let primary = Arc::new(Scripted::new(&bench.local));
        primary.says("revoke", Said::Status(status));
        assert_eq!(settled(&bench, &primary, &outage).await, Recovery::Done);
        assert_eq!(primary.times("revoke"), 2, "the first holds nobody up");
        let again = bench.reopened();
        let left = again.local.view.queue();
        let left: Vec<_> = left.iter().map(|one| one.held_by).collect();
        assert_eq!(left, [Some(why), Some(why)], "after {status}");
    }
}

#[tokio::test]
async fn nothing_that_is_said_of_one_token_keeps_an_outage_alive() {
    for said in [
        Said::Yes,
        Said::Gone,
        Said::Status(403),
        Said::Status(429),
        Said::Lost,
    ] {
        let bench = Bench::new(OnRecovery::Exchange);
        let outage = bench.outage().await;
        let token = Change::Grant(Box::new(of_primary(9, &bench)));
        bench.store(vec![token]).await;
        let primary = Arc::new(Scripted::new(&bench.local));
        primary.says("token", said);
        assert_eq!(settled(&bench, &primary, &outage).await, Recovery::Done);
        let revoked = bench.local.view.revocation(&TokenDigest([9; 32]));
        assert_eq!(revoked.is_some(), said == Said::Gone, "{said:?}");
    }
}

fn in_quarantine(policy: &str) -> Change {
    Change::Quarantine(Box::new(Quarantine {
        what: Quarantined::Policy(PolicyName::parse(policy).unwrap()),
        since: WallTime::EPOCH,
        operation: "read".into(),
        path: "secret/data/shop/db".into(),
        primary: 403,
        replica: 200,
        fields: Vec::new(),
        text: None,
        of_sets: Vec::new(),
    }))
}

#[tokio::test]
async fn a_revocation_that_a_policy_in_quarantine_allows_is_told() {
    let (bench, outage) = with_something_for_each_step().await;
    bench.store(vec![in_quarantine("orders")]).await;
    let primary = Arc::new(Scripted::new(&bench.local));
    assert_eq!(settled(&bench, &primary, &outage).await, Recovery::Done);
    assert_eq!(primary.times("revoke"), 2);
    assert!(bench.local.view.queue().is_empty());
}

#[tokio::test]
async fn a_revoked_lease_past_its_known_end_is_kept_until_the_primary_says_that_it_is_gone() {
    for (renewable, is_gone, left) in [(true, false, 1), (true, true, 0), (false, false, 0)] {
        let bench = Bench::new(OnRecovery::Exchange);
        let outage = bench.outage().await;
        let ended = bench.now().steady.minus(MINUTE);
        let queued = QueuedRevocation::own(1, a_lease(), ended).ending(ended, renewable);
        bench.store(vec![Change::Queue(Box::new(queued))]).await;
        let primary = Arc::new(Scripted::new(&bench.local));
        primary.says("revoke", Said::Status(403));
        if is_gone {
            primary.says("dead", Said::Yes);
        }
        assert_eq!(settled(&bench, &primary, &outage).await, Recovery::Done);
        let queue = bench.local.view.queue();
        assert_eq!(queue.len(), left, "renewable {renewable}, gone {is_gone}");
    }
}

#[tokio::test]
async fn a_revocation_of_another_namespace_waits_until_that_is_configured_again() {
    let bench = Bench::new(OnRecovery::Exchange);
    let outage = bench.outage().await;
    let at = bench.local.clock.now().steady;
    let queued = [(1, None), (2, Some("team"))].map(|(id, namespace)| {
        let target = RevocationTarget::Token(Accessor::parse("a").unwrap());
        Change::Queue(Box::new(QueuedRevocation {
            namespace: namespace.map(Namespace::parse),
            ..QueuedRevocation::own(id, target, at)
        }))
    });
    bench.store(queued.into()).await;
    let primary = Arc::new(Scripted::new(&bench.local));
    assert_eq!(settled(&bench, &primary, &outage).await, Recovery::Done);
    let left = bench.local.view.queue();
    let left: Vec<_> = left.iter().map(|one| (one.id, one.held_by)).collect();
    assert_eq!(left, [(2, None)]);
}
