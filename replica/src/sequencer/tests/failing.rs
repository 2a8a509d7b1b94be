//! What holds where the disk fails.

use super::*;

/// Every call to the disk fails once, each time from a fresh copy of the same beginning.
#[test]
fn wherever_the_disk_fails_nothing_is_half_applied_and_nothing_is_acknowledged() {
    for failing in 0.. {
        let home = Home::made(1);
        home.store(samples::everything());
        let calls = Arc::new(AtomicU64::new(0));
        let failed = Arc::new(AtomicBool::new(false));
        let (counter, flag) = (Arc::clone(&calls), Arc::clone(&failed));
        let sequencer = asking(&home, move |_| {
            let fails = counter.fetch_add(1, Ordering::Relaxed) == failing;
            flag.fetch_or(fails, Ordering::Relaxed);
            !fails
        });
        let unit = vec![
            granted(11),
            samples::value("secret/data/new", 1, "{}"),
            said(EntryKind::Grant),
            Change::QueueDone(9),
        ];
        let outcome = wait(&sequencer, Lane::Grant, unit, nothing());
        let later = wait(&sequencer, Lane::Grant, vec![granted(12)], nothing());
        sequencer.stop();
        let first_failed = outcome.is_err();
        if first_failed {
            assert!(
                matches!(&outcome, Err(SubmitError::Failed(_))),
                "{outcome:?}"
            );
            assert!(
                matches!(&later, Err(SubmitError::Failed(_))),
                "fail stop: {later:?}"
            );
            assert!(
                sequencer.view().grant(&digest(11)).is_none(),
                "call {failing}"
            );
        }
        if !failed.load(Ordering::Relaxed) {
            assert!(failing >= 8, "only {failing} calls were made to fail");
            break;
        }
        let opened = home.open();
        let there = opened.view.grant(&digest(11)).is_some();
        assert_eq!(there, opened.queue.is_empty(), "call {failing}");
        assert_eq!(
            there,
            opened.view.secrets().records.len() == 3,
            "call {failing}"
        );
        assert_eq!(there, !first_failed, "call {failing}");
        assert_eq!(opened.view.grant(&digest(12)).is_some(), later.is_ok());
        drop(opened);
        assert_eq!(!ledger(&home).is_empty(), there, "call {failing}");
    }
}

#[test]
fn revocations_and_states_bind_even_when_the_disk_has_failed() {
    let home = Home::made(1);
    home.store(vec![granted(1), granted(2)]);
    let sequencer = asking(&home, |call| call != Call::Commit);
    let first = wait(&sequencer, Lane::Revocation, vec![revoked(1)], nothing());
    assert!(matches!(first, Err(SubmitError::Failed(_))));
    let second = wait(
        &sequencer,
        Lane::Revocation,
        vec![revoked(2), outage()],
        nothing(),
    );
    assert!(matches!(second, Err(SubmitError::Failed(_))));
    let view = sequencer.view();
    assert!(view.revocation(&digest(1)).is_some() && view.revocation(&digest(2)).is_some());
    assert!(view.authority().phase.is_outage());
    let issued = wait(&sequencer, Lane::Grant, vec![granted(3)], issues());
    assert!(matches!(issued, Err(SubmitError::Failed(_))));
    assert!(sequencer.stats().failed.is_some());
    sequencer.stop();
}
