//! What a submission relied on, and what becomes of it where that no longer holds.

use super::*;

#[test]
fn a_grant_in_the_queue_is_refused_once_it_or_its_parent_is_revoked() {
    let home = Home::made(1);
    home.store(vec![granted(1)]);
    let held = Held::new(&home);
    held.enter(Lane::Mirror, vec![granted(9)], nothing());
    let child = submit(&held.sequencer, Lane::Grant, vec![granted(2)], live(&[1]));
    let itself = submit(&held.sequencer, Lane::Grant, vec![granted(3)], nothing());
    let free = submit(&held.sequencer, Lane::Grant, vec![granted(4)], nothing());
    submit(
        &held.sequencer,
        Lane::Revocation,
        vec![revoked(1), revoked(3)],
        nothing(),
    );
    held.release(9);
    assert_eq!(got(&child), Err(SubmitError::Conflict));
    assert_eq!(got(&itself), Err(SubmitError::Conflict));
    assert_eq!(got(&free), Ok(()));
    let view = held.sequencer.view();
    assert!(view.grant(&digest(2)).is_none() && view.grant(&digest(3)).is_none());
    held.sequencer.stop();
}

fn pooled(id: &str) -> Change {
    let lease = Lease {
        holder: LeaseHolder::Pooled,
        ..samples::lease(id)
    };
    Change::Lease(Box::new(lease), Some(SecretBytes::new(b"{}".to_vec())))
}

fn take(id: &str, by: u64) -> (Vec<Change>, Expects) {
    let (lease, by) = (LeaseId::parse(id).unwrap(), Assignee::Token(digest(by)));
    let pooled = Pooled {
        lease: lease.clone(),
        to: Some(by.clone()),
    };
    let expects = Expects {
        pooled: Some(pooled),
        ..Expects::default()
    };
    (vec![Change::LeaseTaken(lease, by)], expects)
}

#[test]
fn a_lease_leaves_its_pool_once_whoever_asks_at_the_same_moment() {
    const IDS: [&str; 2] = ["database/creds/orders/a", "database/creds/orders/b"];
    let home = Home::made(1);
    home.store(IDS.map(pooled).into());
    let held = Held::new(&home);
    held.enter(Lane::Mirror, vec![granted(9)], nothing());
    let ask = |id, by| {
        let (changes, expects) = take(id, by);
        submit(&held.sequencer, Lane::Grant, changes, expects)
    };
    let (first, second) = (ask(IDS[0], 1), ask(IDS[0], 2));
    let (another, own) = (ask(IDS[1], 1), ask(IDS[1], 2));
    held.release(9);
    assert_eq!(got(&first), Ok(()));
    assert_eq!(got(&second), Err(SubmitError::Conflict), "it is taken");
    assert_eq!(got(&another), Err(SubmitError::Conflict), "it has one");
    assert_eq!(got(&own), Ok(()));
    held.sequencer.stop();
    let secrets = home.open().view.secrets();
    for (id, by) in IDS.into_iter().zip([1, 2]) {
        let lease = &secrets.leases[&LeaseId::parse(id).unwrap()].lease;
        assert!(
            lease.is_assigned_to(&Assignee::Token(digest(by))),
            "{lease:?}"
        );
    }
}

#[test]
fn a_renewal_that_was_asked_for_before_does_not_put_a_lease_back() {
    const ID: &str = "database/creds/orders/a";
    let home = Home::made(1);
    home.store(vec![pooled(ID)]);
    let sequencer = home.open().start(|| now(1)).unwrap();
    let (changes, expects) = take(ID, 1);
    wait(&sequencer, Lane::Grant, changes, expects).unwrap();
    let who = Assignee::Token(digest(2));
    let id = LeaseId::parse(ID).unwrap();
    let detached = Change::LeaseDetached(id.clone(), who.clone());
    wait(&sequencer, Lane::Grant, vec![detached], nothing()).unwrap();
    let renewed = Lease {
        holder: LeaseHolder::Pooled,
        granted: 77,
        ..samples::lease(ID)
    };
    let renewed = Change::Lease(Box::new(renewed), None);
    wait(&sequencer, Lane::Mirror, vec![renewed], nothing()).unwrap();
    let replaced = Expects {
        pooled: Some(Pooled {
            lease: id.clone(),
            to: None,
        }),
        ..Expects::default()
    };
    let gone = vec![Change::LeaseGone(id.clone())];
    let refused = wait(&sequencer, Lane::Mirror, gone, replaced);
    assert_eq!(refused, Err(SubmitError::Conflict));
    let lease = sequencer.view().secrets().leases[&id].lease.clone();
    assert_eq!((lease.granted, lease.detached.clone()), (77, vec![who]));
    assert!(lease.is_assigned_to(&Assignee::Token(digest(1))));
    sequencer.stop();
}

#[test]
fn a_grant_in_mid_commit_is_taken_back_when_its_parent_is_revoked() {
    let home = Home::made(1);
    home.store(vec![granted(1)]);
    let held = Held::new(&home);
    let child = held.enter(Lane::Grant, vec![granted(2)], live(&[1]));
    submit(
        &held.sequencer,
        Lane::Revocation,
        vec![revoked(1)],
        nothing(),
    );
    held.release(9);
    assert_eq!(got(&child), Err(SubmitError::Conflict));
    let view = Arc::clone(held.sequencer.view());
    let cause = view.revocation(&digest(2)).unwrap().cause;
    assert_eq!(cause, RevokeCause::Parent);
    held.sequencer.stop();
    let opened = home.open();
    assert_eq!(
        opened.view.revocation(&digest(2)).unwrap().cause,
        RevokeCause::Parent
    );
    drop(opened);
    let entries = ledger(&home);
    assert_eq!(
        entries.last().map(|entry| entry.entry.kind),
        Some(EntryKind::Revocation)
    );
}

#[test]
fn a_grant_or_renewal_in_mid_commit_is_taken_back_when_the_fence_comes_down() {
    let home = Home::made(1);
    home.store(vec![outage(), granted(1)]);
    let held = Held::new(&home);
    let expects = Expects {
        epoch: Some(4),
        ..issues()
    };
    let longer = Change::Grant(Box::new(grant(1, 9000)));
    let both = held.enter(Lane::Grant, vec![granted(2), longer], expects);
    let following = samples::phase(Phase::Following, 5);
    submit(
        &held.sequencer,
        Lane::Revocation,
        vec![following],
        nothing(),
    );
    held.release(9);
    assert_eq!(got(&both), Err(SubmitError::Conflict));
    held.sequencer.stop();
    let restarted = home.open().view;
    for view in [held.sequencer.view(), &restarted] {
        assert_eq!(
            view.revocation(&digest(2)).unwrap().cause,
            RevokeCause::Recovery
        );
        let renewed = view.grant(&digest(1)).unwrap();
        assert!(renewed.revoked.get().is_none());
        assert_eq!(renewed.grant, grant(1, 3600), "as before the renewal");
    }
}

fn by_settings(version: u64) -> Expects {
    Expects {
        settings: Some(version),
        ..Expects::default()
    }
}

#[test]
fn a_grant_in_the_queue_is_refused_once_the_settings_that_it_was_decided_by_are_replaced() {
    let home = Home::made(1);
    let held = Held::new(&home);
    let version = held.sequencer.view().authority().settings_version;
    held.enter(Lane::Mirror, vec![granted(9)], nothing());
    let before = submit(
        &held.sequencer,
        Lane::Grant,
        vec![granted(2)],
        by_settings(version),
    );
    held.sequencer.set_settings(&samples::settings());
    let version = held.sequencer.view().authority().settings_version;
    let after = submit(
        &held.sequencer,
        Lane::Grant,
        vec![granted(3)],
        by_settings(version),
    );
    held.release(9);
    assert_eq!(got(&before), Err(SubmitError::Conflict));
    assert_eq!(got(&after), Ok(()));
    assert!(held.sequencer.view().grant(&digest(2)).is_none());
    held.sequencer.stop();
}

#[test]
fn a_grant_or_renewal_in_mid_commit_is_taken_back_when_the_settings_are_replaced() {
    let home = Home::made(1);
    home.store(vec![granted(1)]);
    let held = Held::new(&home);
    let version = held.sequencer.view().authority().settings_version;
    let longer = Change::Grant(Box::new(grant(1, 9000)));
    let both = held.enter(Lane::Grant, vec![granted(2), longer], by_settings(version));
    held.sequencer.set_settings(&samples::settings());
    held.release(9);
    assert_eq!(got(&both), Err(SubmitError::Conflict));
    held.sequencer.stop();
    let restarted = home.open().view;
    for view in [held.sequencer.view(), &restarted] {
        let cause = view.revocation(&digest(2)).unwrap().cause;
        assert_eq!(cause, RevokeCause::Configuration);
        let renewed = view.grant(&digest(1)).unwrap();
        assert_eq!(renewed.grant, grant(1, 3600), "as before the renewal");
    }
}

/// A lease leaves its pool under `expects` while `meanwhile` happens: nobody is given it, and the primary is told.
fn lease_taken_back(before: Vec<Change>, expects: Expects, meanwhile: impl FnOnce(&Sequencer)) {
    const ID: &str = "database/creds/orders/a";
    let home = Home::made(1);
    home.store(before.into_iter().chain([pooled(ID)]).collect());
    let held = Held::new(&home);
    let (changes, pooled) = take(ID, 1);
    let expects = Expects {
        pooled: pooled.pooled,
        ..expects
    };
    let taken = held.enter(Lane::Grant, changes, expects);
    meanwhile(&held.sequencer);
    held.release(9);
    assert_eq!(got(&taken), Err(SubmitError::Conflict));
    held.sequencer.stop();
    let restarted = home.open().view;
    let id = LeaseId::parse(ID).unwrap();
    for view in [held.sequencer.view(), &restarted] {
        assert!(!view.secrets().leases.contains_key(&id));
        assert!(view.is_lease_revoked_here(&id));
        assert_eq!(view.queue().len(), 1);
    }
    let last = ledger(&home).pop().unwrap().entry;
    assert_eq!(last.kind, EntryKind::Revocation);
    assert_eq!(last.path.as_deref(), Some(ID));
}

#[test]
fn a_lease_whose_settings_are_replaced_in_mid_commit_is_given_to_nobody() {
    let home = Home::made(1);
    let just_opened = home.open().view.authority().settings_version;
    lease_taken_back(vec![], by_settings(just_opened), |sequencer| {
        sequencer.set_settings(&samples::settings());
    });
}

#[test]
fn a_lease_in_mid_commit_is_given_to_nobody_when_the_fence_comes_down() {
    let expects = Expects {
        epoch: Some(4),
        ..issues()
    };
    lease_taken_back(vec![outage()], expects, |sequencer| {
        let following = samples::phase(Phase::Following, 5);
        submit(sequencer, Lane::Revocation, vec![following], nothing());
    });
}

#[test]
fn a_lease_in_mid_commit_is_given_to_nobody_when_whoever_asked_is_revoked() {
    lease_taken_back(vec![granted(1)], live(&[1]), |sequencer| {
        submit(sequencer, Lane::Revocation, vec![revoked(1)], nothing());
    });
}

fn offboard(sequencer: &Sequencer) {
    let change = Change::Offboarded(Some(Offboarded { at: T0 }));
    submit(sequencer, Lane::Revocation, vec![change], nothing());
}

#[test]
fn a_lease_in_mid_commit_is_given_to_nobody_when_this_host_is_offboarded() {
    lease_taken_back(vec![], nothing(), offboard);
}

#[test]
fn a_grant_in_mid_commit_is_taken_back_when_this_host_is_offboarded() {
    let home = Home::made(1);
    home.store(vec![outage()]);
    let held = Held::new(&home);
    let grant = held.enter(Lane::Grant, vec![granted(2)], issues());
    offboard(&held.sequencer);
    held.release(9);
    assert_eq!(got(&grant), Err(SubmitError::Conflict));
    let cause = held.sequencer.view().revocation(&digest(2)).unwrap().cause;
    assert_eq!(cause, RevokeCause::Primary);
    held.sequencer.stop();
}

#[test]
fn what_a_change_relied_on_is_judged_when_it_is_committed() {
    let home = Home::made(1);
    let short = Change::Grant(Box::new(grant(7, 1)));
    home.store(vec![granted(1), short]);
    let sequencer = home.start();
    let submit = |expects| wait(&sequencer, Lane::Grant, vec![granted(2)], expects);
    let epoch = |epoch| Expects {
        epoch: Some(epoch),
        ..Expects::default()
    };
    let conflict = Err(SubmitError::Conflict);
    assert_eq!(submit(epoch(3)), conflict);
    assert_eq!(submit(live(&[1, 8])), conflict, "a grant that is not there");
    assert_eq!(submit(live(&[7])), conflict, "a grant that is past");
    assert_eq!(submit(issues()), conflict, "the primary is in charge");
    wait(&sequencer, Lane::Revocation, vec![outage()], nothing()).unwrap();
    assert_eq!(submit(issues()), Ok(()));
    assert_eq!(submit(live(&[1])), Ok(()));
    assert_eq!(submit(epoch(4)), Ok(()));
    let revoke_self = || wait(&sequencer, Lane::Revocation, vec![revoked(1)], live(&[1]));
    assert_eq!(revoke_self(), Ok(()));
    assert_eq!(
        revoke_self(),
        conflict,
        "the second time it is dead already"
    );
    sequencer.stop();
}

#[test]
fn a_refused_submission_leaves_nothing_and_its_neighbours_alone() {
    let home = Home::made(1);
    let held = Held::new(&home);
    held.enter(Lane::Mirror, vec![granted(9)], nothing());
    let bad = vec![
        granted(2),
        samples::value("secret/data/a", 1, "{}"),
        said(EntryKind::Grant),
    ];
    let bad = submit(&held.sequencer, Lane::Grant, bad, live(&[77]));
    let good = submit(&held.sequencer, Lane::Grant, vec![granted(3)], nothing());
    let child = submit(&held.sequencer, Lane::Grant, vec![granted(4)], live(&[3]));
    held.release(9);
    assert_eq!(got(&bad), Err(SubmitError::Conflict));
    assert_eq!(got(&good), Ok(()));
    assert_eq!(got(&child), Ok(()), "its parent came in the same commit");
    assert_eq!(held.sequencer.stats().commits, 2);
    held.sequencer.stop();
    let opened = home.open();
    assert!(opened.view.grant(&digest(2)).is_none() && opened.view.secrets().records.is_empty());
    assert!(opened.view.grant(&digest(3)).is_some());
    drop(opened);
    assert!(ledger(&home).is_empty());
}

#[test]
fn after_a_pause_is_answered_no_grant_appears() {
    let home = Home::made(1);
    home.store(vec![outage()]);
    let held = Held::new(&home);
    let before = held.enter(Lane::Grant, vec![granted(1)], issues());
    let (done, paused) = mpsc::channel();
    held.sequencer
        .pause_issuing(true, move |result| done.send(result).unwrap());
    let after = submit(&held.sequencer, Lane::Grant, vec![granted(2)], issues());
    assert!(paused.try_recv().is_err(), "one is still on its way");
    held.release(9);
    paused.recv().unwrap().unwrap();
    assert_eq!(got(&before), Ok(()));
    assert_eq!(got(&after), Err(SubmitError::Paused));
    held.sequencer.pause_issuing(false, |_| {});
    let again = submit(&held.sequencer, Lane::Grant, vec![granted(3)], issues());
    assert_eq!(got(&again), Ok(()));
    held.sequencer.stop();
}

/// Children are issued while their parent is revoked with everything under it: none survives.
#[test]
fn no_child_survives_the_revocation_of_its_parent_whatever_the_timing() {
    let home = Home::made(1);
    let sequencer = home.start();
    let outcomes = Mutex::new(HashMap::new());
    for parent in (0..40).map(|n| n * 1000) {
        wait(&sequencer, Lane::Grant, vec![granted(parent)], nothing()).unwrap();
        thread::scope(|scope| {
            for child in 1..=4 {
                let (sequencer, outcomes) = (&sequencer, &outcomes);
                scope.spawn(move || {
                    let n = parent + child;
                    let done = wait(sequencer, Lane::Grant, vec![granted(n)], live(&[parent]));
                    outcomes.lock().unwrap().insert(n, done);
                });
            }
            scope.spawn(|| {
                let done = submit(
                    &sequencer,
                    Lane::Revocation,
                    vec![revoked(parent)],
                    nothing(),
                );
                for live in sequencer.view().grants() {
                    if (1..=4).any(|child| live.grant.digest == digest(parent + child)) {
                        let revocation = samples::revocation(0, RevokeCause::Parent);
                        let revocation = shared::grant::Revocation {
                            digest: live.grant.digest,
                            ..revocation
                        };
                        let change = Change::Revoked(revocation);
                        submit(&sequencer, Lane::Revocation, vec![change], nothing());
                    }
                }
                got(&done).unwrap();
            });
        });
    }
    sequencer.stop();
    let opened = home.open();
    for (n, outcome) in outcomes.into_inner().unwrap() {
        for view in [sequencer.view(), &opened.view] {
            let lives = view.grant(&digest(n)).is_some() && view.revocation(&digest(n)).is_none();
            assert!(!lives, "child {n}, answered {outcome:?}");
        }
    }
}
