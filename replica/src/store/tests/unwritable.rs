//! A place that must not be written to, or where nothing can be made: what can be read is served, and the rest is made up for.

use super::*;

fn open_unmade(home: &Home) -> Opened {
    let why = CreateError::Private(PrivateError::io(&home.location.path, "create")(
        rustix::io::Errno::ROFS.into(),
    ));
    assert!(why.is_unwritable());
    let opened = Replica::open_unmade(
        &home.location,
        std::slice::from_ref(&home.source),
        settings(),
        // Its folder in memory is to be nobody else's.
        Arc::new(crate::entropy::OsEntropy),
        why,
    );
    opened.unwrap_or_else(|error| panic!("{error}"))
}

/// Waits until a change is taken.
fn taken(sequencer: &Sequencer, n: u64) {
    for _ in 0..1000 {
        let stored = wait(sequencer, Lane::Grant, vec![granted(n)], Expects::default());
        if stored.is_ok() {
            return;
        }
        #[expect(clippy::disallowed_methods)]
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("{:?}", sequencer.stats().failed);
}

#[test]
fn a_replica_that_cannot_be_made_is_empty_and_made_once_it_can_be() {
    let home = Home::empty(1);
    let folder = private::parent(&home.location.path).to_owned();
    // Nothing can be made in what is no folder.
    fs::write(&folder, "").unwrap();
    let sequencer = open_unmade(&home).start(|| now(1)).unwrap();
    let refused = wait(
        &sequencer,
        Lane::Grant,
        vec![granted(1)],
        Expects::default(),
    );
    assert!(
        matches!(refused, Err(SubmitError::Failed(_))),
        "{refused:?}"
    );
    assert!(sequencer.view().grant(&digest(1)).is_none());
    fs::remove_file(&folder).unwrap();
    taken(&sequencer, 2);
    sequencer.stop();
    let opened = home.open();
    assert!(opened.view.grant(&digest(2)).is_some() && opened.view.grant(&digest(1)).is_none());
    assert_eq!(opened.report.anchor, AnchorState::Agrees);
}

#[test]
fn what_is_made_late_is_made_under_its_lock() {
    let home = Home::empty(1);
    let path = &home.location.path;
    let folder = private::parent(path).to_owned();
    fs::write(&folder, "").unwrap();
    let sequencer = open_unmade(&home).start(|| now(1)).unwrap();
    // There is a place from one moment to the next, and somebody is at it.
    let prepared = home.dir.path().join("prepared");
    private::directory(&prepared).unwrap();
    let held = lock(&prepared.join("replica.db")).unwrap().unwrap();
    let exchange = rustix::fs::RenameFlags::EXCHANGE;
    let here = rustix::fs::CWD;
    rustix::fs::renameat_with(here, &prepared, here, &folder, exchange).unwrap();
    until(|| {
        let why = sequencer.stats().failed;
        why.is_some_and(|why| why.contains("in use"))
    });
    assert!(!path.exists());
    drop(held);
    taken(&sequencer, 2);
    assert!(lock(path).unwrap().is_none(), "it has it from here on");
    sequencer.stop();
    assert!(home.open().view.grant(&digest(2)).is_some());
}

fn until(holds: impl Fn() -> bool) {
    for _ in 0..1000 {
        if holds() {
            return;
        }
        #[expect(clippy::disallowed_methods)]
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("it never holds");
}

#[test]
fn a_replica_that_another_made_meanwhile_is_left_alone() {
    let home = Home::empty(1);
    let folder = private::parent(&home.location.path).to_owned();
    fs::write(&folder, "").unwrap();
    let sequencer = open_unmade(&home).start(|| now(1)).unwrap();
    fs::remove_file(&folder).unwrap();
    Replica::create(&home.location, &home.source, &Seeded::new(2)).unwrap();
    let refused = wait(
        &sequencer,
        Lane::Grant,
        vec![granted(1)],
        Expects::default(),
    );
    assert!(
        matches!(refused, Err(SubmitError::Failed(_))),
        "{refused:?}"
    );
    sequencer.stop();
    assert!(home.open().view.grant(&digest(1)).is_none());
}
