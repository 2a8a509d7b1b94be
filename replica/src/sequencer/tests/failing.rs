//! What holds where the disk fails, and once it does not any more.

use rusqlite::ffi;

use super::*;

/// A disk that fails with any of these is mended.
const CODES: [i32; 8] = [
    ffi::SQLITE_CORRUPT,
    ffi::SQLITE_FULL,
    ffi::SQLITE_IOERR_DIR_FSYNC,
    ffi::SQLITE_IOERR_FSYNC,
    ffi::SQLITE_IOERR_READ,
    ffi::SQLITE_IOERR_WRITE,
    ffi::SQLITE_NOMEM,
    ffi::SQLITE_READONLY,
];

/// Waits until the store takes changes again.
fn mended(sequencer: &Sequencer) {
    for _ in 0..1000 {
        if sequencer.stats().failed.is_none() {
            return;
        }
        #[expect(clippy::disallowed_methods)]
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("{:?}", sequencer.stats().failed);
}

/// Every call to the disk fails once, by every kind of fault, each time from a fresh copy of the same beginning.
#[test]
fn wherever_the_disk_fails_nothing_is_half_applied_and_nothing_acknowledged_is_lost() {
    for code in CODES {
        let mut failing = 0;
        while fails_once(code, failing) {
            failing += 1;
        }
        assert!(failing >= 8, "only {failing} calls were made to fail");
    }
}

/// Whether a call was made to fail.
fn fails_once(code: i32, failing: u64) -> bool {
    let context = format!("code {code}, call {failing}");
    let home = Home::made(1);
    home.store(samples::everything());
    let calls = Arc::new(AtomicU64::new(0));
    let failed = Arc::new(AtomicBool::new(false));
    let (counter, flag) = (Arc::clone(&calls), Arc::clone(&failed));
    let sequencer = asking_with(&home, code, move |_| {
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
    assert!(
        matches!(&outcome, Ok(()) | Err(SubmitError::Failed(_))),
        "{outcome:?}"
    );
    let shown = sequencer.view().grant(&digest(11)).is_some();
    assert_eq!(shown, outcome.is_ok(), "{context}");
    let revoked = wait(&sequencer, Lane::Revocation, vec![revoked(1)], nothing());
    assert_eq!(revoked, Ok(()), "{context}");
    mended(&sequencer);
    let later = wait(&sequencer, Lane::Grant, vec![granted(12)], nothing());
    sequencer.stop();
    let opened = home.open();
    let there = opened.view.grant(&digest(11)).is_some();
    assert_eq!(there, outcome.is_ok(), "{context}");
    assert_eq!(there, opened.queue.is_empty(), "{context}");
    assert_eq!(there, opened.view.secrets().records.len() == 3, "{context}");
    assert!(opened.view.revocation(&digest(1)).is_some(), "{context}");
    assert_eq!(
        opened.view.grant(&digest(12)).is_some(),
        later.is_ok(),
        "{context}"
    );
    assert_eq!(opened.report.anchor, AnchorState::Agrees, "{context}");
    drop(opened);
    assert_eq!(!ledger(&home).is_empty(), there, "{context}");
    let failed = failed.load(Ordering::Relaxed);
    assert!(failed || (outcome.is_ok() && later.is_ok()), "{context}");
    failed
}

#[test]
fn while_the_disk_is_full_revocations_last_nothing_else_is_taken_and_then_all_goes_on() {
    let home = Home::made(1);
    home.store(vec![granted(1), granted(2), granted(3)]);
    let full = Arc::new(AtomicBool::new(true));
    let is_full = Arc::clone(&full);
    let sequencer = asking(&home, move |call| {
        call != Call::Commit || !is_full.load(Ordering::Relaxed)
    });
    let first = vec![revoked(1), said(EntryKind::Operator)];
    let first = wait(&sequencer, Lane::Revocation, first, nothing());
    assert_eq!(first, Ok(()), "the reserve keeps the first one too");
    let second = vec![revoked(2), outage()];
    assert_eq!(
        wait(&sequencer, Lane::Revocation, second, nothing()),
        Ok(())
    );
    let issued = wait(&sequencer, Lane::Grant, vec![granted(4)], nothing());
    let Err(SubmitError::Failed(why)) = issued else {
        panic!("{issued:?}");
    };
    assert!(why.contains("the disk is full since "), "{why}");
    assert_eq!(sequencer.stats().failed, Some(why));
    let mirrored = vec![samples::value("secret/data/new", 1, "{}")];
    let mirrored = wait(&sequencer, Lane::Mirror, mirrored, nothing());
    assert!(matches!(mirrored, Err(SubmitError::Failed(_))));
    let (done, paused) = mpsc::channel();
    sequencer.pause_issuing(true, move |result| done.send(result).unwrap());
    assert_eq!(paused.recv().unwrap(), Ok(()), "the fence stores nothing");
    sequencer.pause_issuing(false, |_| {});
    // As after a kill: what is on the disk now is opened elsewhere.
    let killed = copy(&home);
    let opened = killed.open();
    assert!(opened.view.revocation(&digest(1)).is_some());
    assert!(opened.view.revocation(&digest(2)).is_some());
    assert!(opened.view.authority().phase.is_outage());
    assert_eq!(opened.report.anchor, AnchorState::Agrees);
    drop(opened);
    assert_eq!(ledger(&killed).len(), 1);
    full.store(false, Ordering::Relaxed);
    mended(&sequencer);
    let later = wait(&sequencer, Lane::Grant, vec![granted(4)], nothing());
    assert_eq!(later, Ok(()));
    sequencer.stop();
    for again in [&home, &home] {
        let opened = again.open();
        let view = &opened.view;
        assert!(view.revocation(&digest(1)).is_some() && view.revocation(&digest(2)).is_some());
        assert!(view.revocation(&digest(3)).is_none() && view.grant(&digest(4)).is_some());
        assert_eq!(opened.report.anchor, AnchorState::Agrees);
        drop(opened);
        assert_eq!(ledger(again).len(), 1, "neither lost nor doubled");
    }
}

#[test]
fn a_revocation_without_a_place_binds_is_not_acknowledged_and_is_stored_once_there_is_one() {
    let home = Home::made(1);
    home.store(vec![granted(1)]);
    let bad = Arc::new(AtomicBool::new(true));
    let is_bad = Arc::clone(&bad);
    let opened = home.open();
    fs::remove_file(private::beside(&home.location.path, ".reserve")).unwrap();
    fs::create_dir(private::beside(&home.location.path, ".reserve")).unwrap();
    drop(opened);
    let sequencer = asking(&home, move |call| {
        call != Call::Commit || !is_bad.load(Ordering::Relaxed)
    });
    let first = wait(&sequencer, Lane::Revocation, vec![revoked(1)], nothing());
    assert!(matches!(first, Err(SubmitError::Failed(_))), "{first:?}");
    assert!(sequencer.view().revocation(&digest(1)).is_some());
    assert!(copy(&home).open().view.revocation(&digest(1)).is_none());
    bad.store(false, Ordering::Relaxed);
    mended(&sequencer);
    sequencer.stop();
    assert!(home.open().view.revocation(&digest(1)).is_some());
}

/// What is on the disk of `home` now, elsewhere.
fn copy(home: &Home) -> Home {
    let mut copy = Home::empty(1);
    let from = private::parent(&home.location.path);
    let to = private::parent(&copy.location.path);
    private::directory(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_file() {
            fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
        }
    }
    let anchor = copy.location.anchor.clone().unwrap();
    private::directory(private::parent(&anchor)).unwrap();
    fs::copy(home.location.anchor.as_ref().unwrap(), anchor).unwrap();
    copy.source = home.source.clone();
    copy
}
