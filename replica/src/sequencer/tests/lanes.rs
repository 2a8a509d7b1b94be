//! Which lane goes first, what binds when, and how the sequencer ends.

use super::*;

#[test]
fn revocations_go_before_grants_and_grants_before_the_mirror() {
    let home = Home::made(1);
    let held = Held::new(&home);
    let first = held.enter(Lane::Grant, vec![granted(1)], nothing());
    let (order, answered) = mpsc::channel();
    let lanes = [Lane::Mirror, Lane::Grant, Lane::Revocation];
    let changes = [
        samples::value("secret/data/a", 1, "{}"),
        granted(2),
        revoked(1),
    ];
    for (lane, change) in lanes.into_iter().zip(changes) {
        let order = order.clone();
        held.sequencer
            .submit(lane, vec![change], nothing(), move |result| {
                order.send((lane, result)).unwrap();
            });
    }
    held.release(1);
    got(&first).unwrap();
    let order: Vec<_> = answered.iter().take(3).collect();
    let lanes = [Lane::Revocation, Lane::Grant, Lane::Mirror].map(|lane| (lane, Ok(())));
    assert_eq!(order, lanes);
    held.release(9);
    held.sequencer.stop();
}

#[test]
fn a_revocation_binds_at_once_and_a_grant_once_it_is_durable() {
    let home = Home::made(1);
    home.store(vec![granted(1)]);
    let held = Held::new(&home);
    let view = Arc::clone(held.sequencer.view());
    let grant = held.enter(Lane::Grant, vec![granted(2)], nothing());
    let revocation = submit(
        &held.sequencer,
        Lane::Revocation,
        vec![revoked(1)],
        nothing(),
    );
    assert!(
        view.grant(&digest(1)).unwrap().revoked.get().is_some(),
        "it binds"
    );
    assert!(revocation.try_recv().is_err(), "but is not durable");
    assert!(view.grant(&digest(2)).is_none());
    held.release(9);
    got(&grant).unwrap();
    got(&revocation).unwrap();
    assert!(view.grant(&digest(2)).is_some());
    held.sequencer.stop();
}

#[test]
fn a_refusal_of_a_token_binds_at_once_whatever_is_being_stored_of_it_and_lasts() {
    let home = Home::made(1);
    let held = Held::new(&home);
    let is_doubted = |sequencer: &Sequencer| {
        let live = sequencer.view().grant(&digest(1)).unwrap();
        live.is_doubted()
    };
    let known = held.enter(Lane::Grant, vec![samples::granted(1)], nothing());
    held.release(0);
    got(&known).unwrap();
    let renewed = held.enter(Lane::Grant, vec![samples::granted(1)], nothing());
    let refused_at = T0.plus(Duration::from_secs(1));
    let refused = Change::TokenDoubted(digest(1), refused_at);
    let doubt = submit(&held.sequencer, Lane::Revocation, vec![refused], nothing());
    assert!(is_doubted(&held.sequencer));
    assert!(doubt.try_recv().is_err(), "but is not durable");
    held.release(0);
    got(&renewed).unwrap();
    assert!(
        is_doubted(&held.sequencer),
        "what was on its way does not end it"
    );
    held.release(0);
    got(&doubt).unwrap();
    held.release(10);
    held.sequencer.stop();
    let sequencer = home.start();
    assert!(is_doubted(&sequencer));
    sequencer.stop();
}

#[test]
fn a_state_binds_at_once_and_in_the_order_it_was_said() {
    let home = Home::made(1);
    let held = Held::new(&home);
    let view = Arc::clone(held.sequencer.view());
    let first = held.enter(Lane::Grant, vec![granted(1)], nothing());
    submit(&held.sequencer, Lane::Revocation, vec![outage()], nothing());
    let following = samples::phase(Phase::Following, 5);
    let last = submit(
        &held.sequencer,
        Lane::Revocation,
        vec![following],
        nothing(),
    );
    assert_eq!(
        (view.authority().epoch, &view.authority().phase),
        (5, &Phase::Following)
    );
    held.release(9);
    got(&first).unwrap();
    got(&last).unwrap();
    assert_eq!(
        view.authority().phase,
        Phase::Following,
        "publishing changes nothing back"
    );
    held.sequencer.stop();
    let stored = home.open().phase;
    let phase = Phase::Following;
    assert_eq!(
        stored,
        Some(PhaseRecord {
            phase,
            epoch: 5,
            proven_from: None
        })
    );
}

#[test]
fn what_waits_together_is_one_commit_and_one_publication() {
    let home = Home::made(1);
    let held = Held::new(&home);
    held.enter(Lane::Mirror, vec![granted(0)], nothing());
    let answers: Vec<_> = (1..=100)
        .map(|n| {
            let value = samples::value(&format!("secret/data/{n}"), 1, "{}");
            submit(
                &held.sequencer,
                Lane::Grant,
                vec![granted(n), value],
                nothing(),
            )
        })
        .collect();
    held.release(9);
    assert!(answers.iter().all(|answer| got(answer).is_ok()));
    assert_eq!(held.sequencer.stats().commits, 2);
    held.sequencer.stop();
}

#[test]
fn a_lane_that_is_full_says_so_and_leaves_the_others_open() {
    let home = Home::made(1);
    let held = Held::new(&home);
    held.enter(Lane::Grant, vec![granted(1)], nothing());
    let big = "x".repeat(20 << 20);
    let answers: Vec<_> = (0..5)
        .map(|n| {
            let value = samples::value(&format!("secret/data/{n}"), 1, &big);
            // Refused when its turn comes: what is measured here is the wait.
            submit(&held.sequencer, Lane::Mirror, vec![value], live(&[77]))
        })
        .collect();
    let busy = answers
        .iter()
        .filter(|answer| answer.try_recv() == Ok(Err(SubmitError::Busy)));
    assert_eq!(busy.count(), 2);
    let revocation = submit(
        &held.sequencer,
        Lane::Revocation,
        vec![revoked(1)],
        nothing(),
    );
    assert!(revocation.try_recv().is_err(), "it waits");
    held.release(9);
    assert_eq!(got(&revocation), Ok(()));
    held.sequencer.stop();
}

#[test]
fn stopping_stores_what_waits_and_takes_nothing_more() {
    let home = Home::made(1);
    let sequencer = home.start();
    let answers: Vec<_> = (0..50)
        .map(|n| submit(&sequencer, Lane::Mirror, vec![granted(n)], nothing()))
        .collect();
    sequencer.stop();
    assert!(answers.iter().all(|answer| got(answer).is_ok()));
    let late = submit(&sequencer, Lane::Grant, vec![granted(99)], nothing());
    assert_eq!(got(&late), Err(SubmitError::Stopped));
    sequencer.stop();
    assert_eq!(home.open().view.grants().len(), 50);
}

#[test]
fn changed_settings_are_published_and_survive_commits() {
    let home = Home::made(1);
    let sequencer = home.start();
    let mut settings = shared::settings::Settings::clone(&samples::settings());
    settings.bounds.issue_after_reboot = true;
    sequencer.set_settings(&Arc::new(settings));
    wait(&sequencer, Lane::Mirror, samples::everything(), nothing()).unwrap();
    assert!(
        sequencer
            .view()
            .authority()
            .settings
            .bounds
            .issue_after_reboot
    );
    sequencer.stop();
}

#[test]
fn a_receipt_that_panics_harms_nobody_else() {
    let home = Home::made(1);
    let held = Held::new(&home);
    held.enter(Lane::Mirror, vec![granted(9)], nothing());
    let panics = |_| panic!("in a receipt");
    held.sequencer
        .submit(Lane::Grant, vec![granted(1)], nothing(), panics);
    let together = submit(&held.sequencer, Lane::Grant, vec![granted(2)], nothing());
    held.release(9);
    assert_eq!(got(&together), Ok(()));
    let later = submit(&held.sequencer, Lane::Grant, vec![granted(3)], nothing());
    assert_eq!(got(&later), Ok(()));
    assert!(held.sequencer.view().grant(&digest(1)).is_some());
    held.sequencer.stop();
}
