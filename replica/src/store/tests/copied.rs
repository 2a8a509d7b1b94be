//! A copy in the place of a file that is not trusted: whole at every moment.

use super::*;
use crate::store::{copy, fault::Remedy};

fn rows(home: &Home) -> Vec<String> {
    let connection = rusqlite::Connection::open(&home.location.path).unwrap();
    let sql = "SELECT tab || ' ' || hex(key) || ' ' || version || ' ' || hex(payload) FROM row ORDER BY 1";
    let mut statement = connection.prepare(sql).unwrap();
    let rows = statement.query_map([], |row| row.get(0)).unwrap();
    rows.map(Result::unwrap).collect()
}

/// A replica with everything in it, and an entry of the ledger.
fn full() -> Home {
    let home = Home::made(1);
    let entry = Entry::new(EntryKind::State, "allowed", T0);
    let mut changes = everything();
    changes.push(Change::Ledger(Box::new(entry)));
    home.store(changes);
    home
}

#[test]
fn a_copy_has_every_row_is_another_file_and_is_written_to_from_then_on() {
    let home = full();
    let (before, inode) = (
        rows(&home),
        fs::metadata(&home.location.path).unwrap().ino(),
    );
    let mut opened = home.open();
    opened.writer.mend(Remedy::Copy).unwrap();
    let sequencer = opened.start(|| now(1)).unwrap();
    assert_ne!(fs::metadata(&home.location.path).unwrap().ino(), inode);
    wait(
        &sequencer,
        Lane::Grant,
        vec![granted(77)],
        Expects::default(),
    )
    .unwrap();
    sequencer.stop();
    assert_eq!(rows(&home).len(), before.len() + 1);
    assert!(before.iter().all(|row| rows(&home).contains(row)));
    let opened = home.open();
    assert!(opened.view.grant(&digest(77)).is_some());
    assert!(!opened.report.ledger_cut && !opened.report.values_changed);
    assert_eq!(opened.report.anchor, AnchorState::Agrees);
}

/// Where the copy fails for another reason, before it is whole and after, the file is not used again without one: a start would
/// put what is whole over what was committed since.
#[test]
fn a_copy_that_could_not_be_made_is_made_before_anything_is_committed() {
    for in_the_way in [".new", "-journal"] {
        let home = full();
        let path = home.location.path.clone();
        let inode = || fs::metadata(&path).unwrap().ino();
        let (before, way) = (inode(), private::beside(&path, in_the_way));
        let mut opened = home.open();
        fs::create_dir(&way).unwrap();
        for remedy in [Remedy::Copy, Remedy::InPlace, Remedy::Reopen] {
            assert!(
                opened.writer.mend(remedy).is_err(),
                "{in_the_way} {remedy:?}"
            );
        }
        fs::remove_dir(&way).unwrap();
        opened.writer.mend(Remedy::InPlace).unwrap();
        assert_ne!(inode(), before, "{in_the_way}");
        assert!(!copy::is_whole(&path), "{in_the_way}");
        let sequencer = opened.start(|| now(1)).unwrap();
        let changes = vec![granted(77)];
        wait(&sequencer, Lane::Grant, changes, Expects::default()).unwrap();
        sequencer.stop();
        let opened = home.open();
        assert!(opened.view.grant(&digest(77)).is_some(), "{in_the_way}");
    }
}

/// As after a crash at each step from the moment on at which the copy is whole.
#[test]
fn a_start_goes_on_from_a_copy_that_is_whole_and_passes_over_one_that_is_not() {
    let home = full();
    let opened = home.open();
    let path = home.location.path.clone();
    let whole = fs::read(&path).unwrap();
    drop(opened);
    let before = rows(&home);
    let place = |suffix: &str, content: &[u8]| {
        use std::io::Write as _;
        let path = private::beside(&path, suffix);
        let _ = fs::remove_file(&path);
        private::create(&path).unwrap().write_all(content).unwrap();
    };
    place(".new", &whole[..whole.len() / 2]);
    drop(home.open());
    assert_eq!(rows(&home), before, "half of a copy is none");
    let copied = fs::read(&path).unwrap();
    // A log with a commit in it that nobody was told of.
    let sequencer = home.start();
    wait(
        &sequencer,
        Lane::Grant,
        vec![granted(77)],
        Expects::default(),
    )
    .unwrap();
    let log = fs::read(private::beside(&path, "-wal")).unwrap();
    assert!(!log.is_empty());
    sequencer.stop();
    place(".mended", &copied);
    place("-wal", &log);
    let unanchored = home.location_without_anchor();
    let opened = Replica::open(
        &unanchored,
        std::slice::from_ref(&home.source),
        settings(),
        Arc::new(Seeded::new(1)),
    );
    let opened = opened.unwrap_or_else(|error| panic!("{error}"));
    assert!(opened.view.grant(&digest(77)).is_none());
    drop(opened);
    assert!(!copy::whole(&path).exists());
    assert_eq!(rows(&home), before);
}

/// The spoilt row is the mark of time.
#[test]
fn what_does_not_open_is_lost_at_the_next_start_and_nothing_else_is() {
    let home = full();
    let mut opened = home.open();
    // Beneath what is counted, as a page that was never written.
    let spoilt = Sealed {
        epoch: 1,
        version: 1,
        bytes: Arc::from([0; 40]),
    };
    let at = At::only(opened.view.keys(), Table::Mark);
    opened.writer.storage.put(&at, &spoilt).unwrap();
    opened.writer.commit_header(0).unwrap();
    opened.writer.mend(Remedy::Copy).unwrap();
    drop(opened);
    let opened = home.open();
    let damage = opened.view.damage();
    let kinds: Vec<_> = damage.iter().map(|one| one.kind).collect();
    assert_eq!(kinds, [RowKind::Mark]);
    assert!(opened.report.rolled_back && opened.mark.is_some());
}

#[test]
fn a_copy_that_finds_no_room_leaves_the_replica_as_it_was() {
    let home = full();
    let mut opened = home.open();
    let before = fs::metadata(&home.location.path).unwrap().ino();
    // Where the copy should be renamed to lies something that does not give way.
    let whole = copy::whole(&home.location.path);
    fs::create_dir_all(whole.join("in the way")).unwrap();
    let failed = opened.writer.mend(Remedy::Copy);
    assert!(matches!(failed, Err(StoreError::Copy(_))), "{failed:?}");
    fs::remove_dir_all(whole).unwrap();
    opened.writer.mend(Remedy::Copy).unwrap();
    assert_ne!(fs::metadata(&home.location.path).unwrap().ino(), before);
}

/// A page that cannot be read any more costs what is on it, and nothing has to be started anew for that.
#[test]
fn what_cannot_be_read_of_the_old_file_does_not_keep_the_rest_from_being_copied() {
    let home = full();
    home.store((10..200).map(granted).collect());
    let keys = home.open().view.keys().clone();
    for (kind, table) in [("index", "row"), ("table", "row")] {
        let page = match kind {
            "index" => salvaged::root(&home, kind, table),
            _ => salvaged::pages(&home, table)[2],
        };
        salvaged::spoil(&home, page, 0xaa);
        let path = &home.location.path;
        let mut from = schema::Database::open(path).unwrap();
        let header = Header::open(&keys, &from.header().unwrap()).unwrap();
        let proof = Proof {
            keys: &keys,
            header: &header,
        };
        copy::renew(&mut from, path, &proof).unwrap();
        drop(from);
        let opened = home.open();
        assert!(opened.report.salvage.is_none());
        assert_eq!(opened.view.damage().is_empty(), kind == "index", "{kind}");
    }
}
