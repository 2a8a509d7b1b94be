//! Epochs of record keys, across restarts.

use super::*;

#[test]
fn a_new_epoch_begins_by_itself_and_old_rows_stay_readable() {
    let home = Home::made(1);
    let mut opened = home.open();
    opened.writer.limits.encryptions = 8;
    let sequencer = opened.start(|| now(1)).unwrap();
    for n in 0..10 {
        let value = samples::value(&format!("secret/data/{n}"), 1, "{}");
        wait(&sequencer, Lane::Mirror, vec![value], Expects::default()).unwrap();
    }
    assert!(sequencer.stats().epoch > 3, "{}", sequencer.stats().epoch);
    let view = Arc::clone(sequencer.view());
    sequencer.stop();
    let opened = home.open();
    for view in [&view, &opened.view] {
        let secrets = view.secrets();
        let epochs: std::collections::BTreeSet<_> = secrets
            .records
            .values()
            .map(|held| held.body.sealed.epoch)
            .collect();
        assert!(epochs.len() > 2, "{epochs:?}");
        assert!(
            secrets
                .records
                .values()
                .all(|held| held.body.open(view.keys()).is_ok())
        );
    }
}

#[test]
fn an_epoch_ends_at_its_age() {
    let home = Home::made(1);
    let day = std::sync::atomic::AtomicU64::new(0);
    let clock = move || now(day.fetch_add(1, std::sync::atomic::Ordering::Relaxed) * 24 * 3600);
    let sequencer = home.open().start(clock).unwrap();
    for n in 0..31 {
        assert_eq!(sequencer.stats().epoch, 1, "day {n}");
        wait(
            &sequencer,
            Lane::Grant,
            vec![granted(n)],
            Expects::default(),
        )
        .unwrap();
    }
    assert_eq!(sequencer.stats().epoch, 2);
    sequencer.stop();
    home.open();
}
