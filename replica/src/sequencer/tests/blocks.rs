//! What stands against issuing binds at once, outlives restarts, and is lifted on disk first.

use shared::block::{BlockCause, IssuingBlock};

use super::*;

fn block(since: u64) -> IssuingBlock {
    IssuingBlock {
        since: now(since).steady,
        ..samples::block(BlockCause::ClockBehind)
    }
}

fn standing(home: &Home) -> Vec<IssuingBlock> {
    let opened = home.open();
    let blocks = opened.view.authority().blocks.clone();
    blocks.all().collect()
}

fn marked() -> Change {
    Change::Mark(samples::mark(5))
}

#[test]
fn a_block_stands_from_when_it_is_found_and_over_restarts_until_it_is_lifted() {
    let home = Home::made(1);
    let held = Held::new(&home);
    let stored = held.enter(Lane::Revocation, vec![Change::Block(block(1))], nothing());
    assert!(
        held.sequencer
            .view()
            .authority()
            .issuing_blocked()
            .is_some()
    );
    let refused = submit(&held.sequencer, Lane::Grant, vec![granted(1)], issues());
    held.release(1);
    assert_eq!(
        (got(&stored), got(&refused)),
        (Ok(()), Err(SubmitError::Conflict))
    );
    held.sequencer.stop();
    home.store(vec![Change::Block(block(9))]);
    assert_eq!(standing(&home), [block(1)], "the older one stays");
    home.store(vec![Change::BlockLifted(BlockCause::ClockBehind)]);
    assert!(standing(&home).is_empty());
}

#[test]
fn what_could_not_be_stored_is_stored_with_the_mark_that_would_hide_it() {
    let home = Home::made(1);
    let sequencer = home.start();
    // As if the disk had taken nothing when it was found.
    sequencer.view().block_issuing(block(1));
    assert_eq!(
        wait(&sequencer, Lane::Grant, vec![marked()], nothing()),
        Ok(())
    );
    sequencer.stop();
    assert_eq!(standing(&home), [block(1)]);
}

#[test]
fn a_mark_brings_nothing_back_that_is_lifted_in_the_same_commit() {
    let home = Home::made(1);
    home.store(vec![Change::Block(block(1))]);
    let unit = vec![Change::BlockLifted(BlockCause::ClockBehind), marked()];
    home.store(unit);
    assert!(standing(&home).is_empty());
}

/// Wherever the disk fails, the mark of this boot is not there without what this boot stands in the way of, and what is still
/// on disk still stands.
#[test]
fn wherever_the_disk_fails_a_block_is_neither_lost_nor_lifted_by_halves() {
    for failing in 0.. {
        let home = Home::made(1);
        let calls = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&calls);
        let sequencer = asking(&home, move |_| {
            counter.fetch_add(1, Ordering::Relaxed) != failing
        });
        sequencer.view().block_issuing(block(1));
        let stored = wait(&sequencer, Lane::Grant, vec![marked()], nothing());
        let lift = vec![Change::BlockLifted(BlockCause::ClockBehind)];
        let lifted = wait(&sequencer, Lane::Grant, lift, nothing());
        let stands = sequencer.view().authority().issuing_blocked().is_some();
        assert_eq!(stands, lifted.is_err(), "call {failing}");
        sequencer.stop();
        let opened = home.open();
        let is_marked = opened.mark.is_some_and(|mark| mark == samples::mark(5));
        assert_eq!(is_marked, stored.is_ok(), "call {failing}");
        let on_disk = opened.view.authority().issuing_blocked().is_some();
        assert_eq!(on_disk, is_marked && lifted.is_err(), "call {failing}");
        if calls.load(Ordering::Relaxed) <= failing {
            assert!(failing >= 4, "only {failing} calls were made to fail");
            break;
        }
    }
}
