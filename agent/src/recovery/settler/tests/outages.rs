//! A second outage in the middle of settling what the first one left.

use shared::{change::PhaseRecord, failover::Outage, name::OutageId};

use super::*;

/// Another outage than the one that the grant is of.
fn second(local: &Local) -> Outage {
    Outage {
        id: OutageId::parse("o2").unwrap(),
        ..samples::outage(local.clock.now())
    }
}

/// The replica is in charge from here on.
async fn cut_over(local: Local) {
    let record = PhaseRecord {
        phase: Phase::Holdover(second(&local)),
        epoch: local.view.authority().epoch + 1,
        proven_from: local.view.authority().proven_from,
    };
    let changes = vec![Change::Phase(record)];
    let stored = local.commit(Lane::Revocation, changes, Expects::default());
    stored.await.unwrap();
}

fn is_decided_by(left: &Left) -> bool {
    let from = left.bench.local.view.authority().proven_from.unwrap();
    let grant = left.grant();
    left.bench
        .local
        .view
        .unproven(&grant, from)
        .next()
        .is_none()
}

/// The token that came over is behind the grant: in that outage it is one of the primary's, proven by its mint.
#[tokio::test]
async fn a_grant_that_is_exchanged_while_the_next_outage_begins_is_exchanged_in_it() {
    let left = Left::over(OnRecovery::Exchange).await;
    let before = left.grant();
    left.primary.meanwhile(cut_over);
    assert_eq!(left.used().await, Settlement::Settled);
    assert!(left.bench.local.view.authority().phase.is_outage());
    assert_eq!(left.settled(), exchanged(1));
    assert_eq!(left.held().as_deref(), Some("s.minted-1"));
    assert!(left.grant().deadline.wall <= before.deadline.wall);
    assert!(is_decided_by(&left));
    assert!(left.queued().is_empty());
}

#[tokio::test]
async fn what_was_exchanged_in_the_middle_is_so_after_a_restart_and_after_that_outage() {
    let left = Left::over(OnRecovery::Exchange).await;
    let deadline = left.grant().deadline;
    left.primary.meanwhile(cut_over);
    left.used().await;
    let left = left.restarted();
    assert!(left.bench.local.view.authority().phase.is_outage());
    assert_eq!(left.settled(), exchanged(1));
    assert_eq!(left.held().as_deref(), Some("s.minted-1"));
    assert!(left.grant().deadline.wall <= deadline.wall);
    left.bench.following().await;
    assert_eq!(left.used().await, Settlement::Settled);
    assert!(left.primary.questions().is_empty(), "one token for a grant");
    assert!(!is_decided_by(&left), "a third outage waits for its proof");
}

#[tokio::test]
async fn a_mint_that_is_lost_with_the_primary_is_judged_anew_after_the_next_outage() {
    let left = Left::over(OnRecovery::Exchange).await;
    left.primary.says("mint", Said::Lost);
    left.primary.meanwhile(cut_over);
    assert!(unreachable(&left.used().await));
    assert_eq!(left.settled(), Some(Settled::Not));
    let left = left.restarted();
    left.bench.following().await;
    assert_eq!(left.used().await, Settlement::Settled);
    assert_eq!(left.primary.questions(), ["workload", "mint"]);
    assert_eq!(left.settled(), exchanged(1));
}

#[tokio::test]
async fn a_grant_that_is_given_up_in_the_next_outage_is_given_no_token() {
    let left = Left::over(OnRecovery::Exchange).await;
    let grant = left.grant();
    left.primary.meanwhile(move |local| async move {
        cut_over(local.clone()).await;
        reaper::revoke(&local, vec![(grant, RevokeCause::Requested)]).await;
    });
    left.used().await;
    assert_eq!(left.settled(), None);
    assert_eq!(left.queued(), [token(1)]);
    let left = left.restarted();
    assert_eq!(left.settled(), None);
    assert_eq!(left.queued(), [token(1)]);
}

#[tokio::test]
async fn what_recovery_verified_is_not_asked_for_again_at_the_first_use() {
    let bench = Bench::new(OnRecovery::Exchange);
    let outage = bench.outage().await;
    let grant = Change::Grant(Box::new(bench.grant(1, MINUTE)));
    bench.store(vec![grant]).await;
    let (began, left) = (bench.now().steady, Left::of(bench));
    let local = &left.bench.local;
    let ended = settle(local, &left.primary, &outage, LONG).await;
    assert_eq!(ended, Recovery::Done);
    local.sequencer.pause_issuing(false, |_| {});
    let fence = PhaseRecord {
        phase: Phase::Following,
        epoch: 2,
        proven_from: Some(began),
    };
    left.store(vec![Change::Phase(fence)]).await;
    assert_eq!(left.used().await, Settlement::Settled);
    let questions = ["prove", "workload", "renew", "logins", "mint"];
    assert_eq!(left.primary.questions(), questions);
}
