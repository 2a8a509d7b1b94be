//! Files that SQLite cannot read: what is left of them is brought into a new file, and nothing counts for more because of it.

use super::*;
use crate::{
    store::{Salvage, copy, damaged, reserve::Share, salvage::place},
    table::Op,
};

const PAGE: usize = 4096;

fn full() -> Home {
    let home = Home::made(1);
    let mut changes = everything();
    changes.push(Change::Block(samples::block(
        shared::block::BlockCause::Rebooted,
    )));
    home.store(changes);
    home
}

/// On which page the table, or its index, begins.
pub(super) fn root(home: &Home, kind: &str, table: &str) -> usize {
    let connection = rusqlite::Connection::open(&home.location.path).unwrap();
    let sql = "SELECT rootpage FROM sqlite_schema WHERE type = ?1 AND tbl_name = ?2";
    let root: i64 = connection
        .query_row(sql, [kind, table], |row| row.get(0))
        .unwrap();
    usize::try_from(root - 1).unwrap()
}

/// Every page of the table.
pub(super) fn pages(home: &Home, table: &str) -> Vec<usize> {
    let whole = fs::read(&home.location.path).unwrap();
    let root = root(home, "table", table);
    let mut pages = vec![root];
    // An interior page of a table names its children.
    let page = &whole[root * PAGE..(root + 1) * PAGE];
    if page[0] == 5 {
        let number = |at: usize, bytes: usize| {
            let digits = page[at..at + bytes].iter();
            digits.fold(0, |number, digit| number << 8 | usize::from(*digit))
        };
        let cells = (0..number(3, 2)).map(|n| number(12 + 2 * n, 2));
        let children = cells.map(|cell| number(cell, 4));
        pages.extend(children.chain([number(8, 4)]).map(|child| child - 1));
    }
    pages
}

pub(super) fn spoil(home: &Home, page: usize, with: u8) {
    let mut bytes = fs::read(&home.location.path).unwrap();
    bytes[page * PAGE..(page + 1) * PAGE].fill(with);
    fs::write(&home.location.path, &bytes).unwrap();
}

fn salvaged(opened: &Opened) -> Salvage {
    opened.report.salvage.clone().unwrap()
}

/// It is as it was, or less; or nothing gives anything in it.
pub(super) fn assert_opened(opened: &Opened, at: usize, seed: u64) {
    let all = opened.view.damage().is_empty() && opened.view.grants().len() == 2;
    match (all, opened.view.authority().cluster.is_none()) {
        (true, _) => assert_authority(opened, at, seed),
        (false, false) => assert_no_more(opened, at, seed),
        (false, true) => assert_nothing(opened, &format!("byte {at}, seed {seed}")),
    }
}

fn assert_nothing(opened: &Opened, context: &str) {
    let view = &opened.view;
    assert!(opened.report.rolled_back, "{context}");
    assert!(view.grants().is_empty(), "{context}");
    assert!(view.secrets().records.is_empty(), "{context}");
    assert!(view.is_lost(&digest(1)), "{context}");
    assert_eq!(view.authority().blocks.all().count(), 3, "{context}");
}

/// What was made on the way is gone.
fn assert_tidy(home: &Home) {
    for left in [".rebuilt", ".grafted", ".mended", ".new"] {
        for log in ["", "-wal", "-journal"] {
            let left = private::beside(&home.location.path, &format!("{left}{log}"));
            assert!(!left.exists(), "{}", left.display());
        }
    }
}

#[test]
fn with_a_first_page_that_is_gone_nothing_is_lost() {
    let home = full();
    for with in [0, 0xff] {
        spoil(&home, 0, with);
        let opened = home.open();
        assert!(salvaged(&opened).rows.unwrap() > 20);
        assert!(
            opened.view.damage().is_empty(),
            "{:?}",
            opened.view.damage()
        );
        assert_authority(&opened, 0, 0);
        assert!(!opened.report.rolled_back && !opened.report.values_changed);
        assert_eq!(opened.view.authority().blocks.all().count(), 1);
        assert_tidy(&home);
    }
}

#[test]
fn with_a_damaged_index_nothing_is_lost() {
    let home = full();
    spoil(&home, root(&home, "index", "row"), 0xaa);
    let opened = home.open();
    assert!(opened.report.salvage.is_some() && opened.view.damage().is_empty());
    assert_authority(&opened, 0, 0);
    assert!(!opened.report.rolled_back && !opened.report.values_changed);
}

#[test]
fn rows_of_a_damaged_page_are_lost_by_their_kinds_and_all_others_are_there() {
    let home = Home::made(1);
    home.store((0..200).map(granted).collect());
    home.store(vec![
        revoked(7),
        Change::Block(samples::block(shared::block::BlockCause::Rebooted)),
    ]);
    let pages = pages(&home, "row");
    assert!(pages.len() > 4);
    spoil(&home, pages[2], 0xaa);
    for n in 0..2 {
        let opened = home.open();
        assert_eq!(opened.report.salvage.is_some(), n == 0);
        let kinds: Vec<RowKind> = opened.view.damage().iter().map(|one| one.kind).collect();
        assert_eq!(kinds, [RowKind::Grant], "a restart forgets nothing");
        // Any of them may be an older one.
        assert!(opened.view.grants().is_empty() && opened.view.is_lost(&digest(3)));
        assert!(opened.view.revocation(&digest(7)).is_some());
        assert_eq!(opened.view.authority().blocks.all().count(), 1);
    }
}

#[test]
fn without_its_header_only_what_refuses_is_believed() {
    for damage in [
        "DELETE FROM header",
        "DROP TABLE header",
        "UPDATE header SET payload = zeroblob(40)",
        "UPDATE header SET generation = generation + 1",
    ] {
        let home = full();
        home.sql(damage);
        let opened = home.open();
        assert!(salvaged(&opened).rows.unwrap() > 20, "{damage}");
        assert_nothing(&opened, damage);
        assert!(opened.view.revocation(&digest(2)).is_some(), "{damage}");
        drop(opened);
        // It is a replica like any other, and is filled anew.
        let cluster = everything().remove(0);
        home.store(vec![cluster, granted(11)]);
        let opened = home.open();
        assert!(opened.report.salvage.is_none() && opened.view.grant(&digest(11)).is_some());
    }
}

#[test]
fn a_table_that_is_gone_costs_what_was_in_it() {
    for (table, nothing) in [
        ("ledger", false),
        ("row", false),
        ("slot", true),
        ("replica", true),
    ] {
        let home = full();
        home.sql(&format!("DROP TABLE {table}"));
        let opened = home.open();
        let salvage = salvaged(&opened);
        assert!(
            salvage.why.contains("tables of it are missing"),
            "{salvage:?}"
        );
        assert_opened(&opened, 0, 0);
        assert!(nothing || salvage.rows.is_some(), "{table}");
        match table {
            "ledger" => assert_authority(&opened, 0, 0),
            _ => assert!(!opened.view.damage().is_empty() || salvage.rows.is_some()),
        }
    }
}

#[test]
fn of_a_file_that_was_cut_off_what_is_left_is_brought_over() {
    let home = full();
    let whole = fs::read(&home.location.path).unwrap();
    let anchor = fs::read(home.location.anchor.as_ref().unwrap()).unwrap();
    assert!(whole.len() > 3 * PAGE);
    for length in [whole.len() / 2, whole.len() - PAGE, PAGE, 1000, 0] {
        fs::write(&home.location.path, &whole[..length]).unwrap();
        fs::write(home.location.anchor.as_ref().unwrap(), &anchor).unwrap();
        let opened = home.open();
        let salvage = salvaged(&opened);
        assert_eq!(fs::read(&salvage.kept).unwrap(), whole[..length]);
        assert_opened(&opened, length, 0);
        assert_tidy(&home);
    }
}

#[test]
fn with_any_page_damaged_it_opens_and_nothing_more_is_granted() {
    let home = full();
    let whole = fs::read(&home.location.path).unwrap();
    let anchor = fs::read(home.location.anchor.as_ref().unwrap()).unwrap();
    let mut salvaged = 0;
    for page in 0..whole.len() / PAGE {
        for (from, to) in [(0, PAGE), (0, 8), (1000, 3000)] {
            let mut bytes = whole.clone();
            bytes[page * PAGE + from..page * PAGE + to].fill(0x55);
            fs::write(&home.location.path, &bytes).unwrap();
            let _ = fs::remove_file(private::beside(&home.location.path, "-wal"));
            fs::write(home.location.anchor.as_ref().unwrap(), &anchor).unwrap();
            match home.try_open() {
                Ok(opened) => {
                    salvaged += usize::from(opened.report.salvage.is_some());
                    assert_opened(&opened, page, 0);
                }
                // What says whose it is stands in its place, and says something else.
                Err(error) => assert!(matches!(error, OpenError::Key { .. }), "{page}: {error}"),
            }
        }
    }
    assert!(salvaged > 5, "{salvaged}");
}

/// Where none ever was it is a wrong path; where one was it is kept.
#[test]
fn what_is_no_database_gives_way_to_an_empty_replica_only_where_one_was() {
    let home = Home::made(1);
    let nothing: [&[u8]; 3] = [&b"no database".repeat(1000), b"no database", b""];
    for nothing in nothing {
        fs::write(&home.location.path, nothing).unwrap();
        for _ in 0..2 {
            let refused = home.try_open();
            assert!(matches!(refused, Err(OpenError::NotADatabase(_))));
        }
        assert_eq!(fs::read(&home.location.path).unwrap(), nothing);
    }
    let home = full();
    // Nor does the anchor say where: it may be that of a replica in another place.
    let elsewhere = home.dir.path().join("replica").join("other");
    private::replace(&elsewhere, nothing[0]).unwrap();
    let location = Location {
        path: elsewhere.clone(),
        ..home.location.clone()
    };
    let refused = Replica::open(
        &location,
        std::slice::from_ref(&home.source),
        settings(),
        Arc::new(Seeded::new(1)),
    );
    assert!(matches!(refused, Err(OpenError::NotADatabase(_))));
    assert_eq!(fs::read(&elsewhere).unwrap(), nothing[0]);
    for (n, nothing) in nothing.into_iter().enumerate() {
        fs::write(&home.location.path, nothing).unwrap();
        let opened = home.open();
        let salvage = salvaged(&opened);
        assert!(salvage.rows.is_none());
        let name = format!("replica.db.damaged-{}", n + 1);
        assert!(salvage.kept.ends_with(name), "{salvage:?}");
        assert_eq!(fs::read(&salvage.kept).unwrap(), nothing);
        assert_nothing(&opened, "an empty one");
        drop(opened);
        assert!(
            home.open().report.rolled_back,
            "a restart does not forget it"
        );
    }
}

/// Keeps in the reserve what the file does not take: that token `n` is revoked.
pub(super) fn revoke_in_the_reserve(home: &Home, n: u64) {
    let mut opened = home.open();
    let at = At::revocation(opened.view.keys(), &digest(n));
    let revocation = samples::revocation(n, RevokeCause::Operator);
    let mut sealer = opened.writer.sealer();
    let sealed = sealer.seal_json(&at.subject(), &revocation).unwrap();
    let ops = vec![Op::Put(at, sealed)];
    opened.writer.keep(ops, &[], 0, Share::Operator).unwrap();
    opened.writer.write_anchor().unwrap();
}

#[test]
fn no_revocation_of_the_reserve_is_lost() {
    for damage in ["header", "index", "log"] {
        let home = full();
        revoke_in_the_reserve(&home, 1);
        match damage {
            "header" => home.sql("DELETE FROM header"),
            "index" => spoil(&home, root(&home, "index", "row"), 0xaa),
            _ => spoil(&home, 0, 0xaa),
        }
        for n in 0..2 {
            let opened = home.open();
            assert_eq!(opened.report.salvage.is_some(), n == 0);
            let is_live = opened.view.grant(&digest(1));
            let is_live = is_live.is_some_and(|live| live.revoked.get().is_none());
            assert!(opened.view.revocation(&digest(1)).is_some(), "{damage}");
            assert!(!is_live, "{damage}");
        }
    }
}

#[test]
fn a_crash_between_any_two_steps_leaves_a_replica_that_goes_on() {
    for steps in 0..=4 {
        let home = full();
        revoke_in_the_reserve(&home, 1);
        let path = home.location.path.clone();
        // The rebuilt one, as it is when it takes the place.
        let damaged = fs::read(&path).unwrap();
        spoil(&home, root(&home, "index", "row"), 0xaa);
        let spoiled = fs::read(&path).unwrap();
        assert_ne!(damaged, spoiled);
        drop(home.open());
        let rebuilt = fs::read(&path).unwrap();
        fs::write(&path, &spoiled).unwrap();
        for (_, name) in place::kept(&path) {
            fs::remove_file(name).unwrap();
        }
        let new = private::beside(&path, ".rebuilt");
        drop(private::create(&new).unwrap());
        if steps > 0 {
            fs::write(&new, &rebuilt).unwrap();
        }
        if steps > 1 {
            place::keep(&path).unwrap();
        }
        if steps > 2 {
            place::call_whole(&new, &path).unwrap();
        }
        if steps > 3 {
            copy::finish(&path).unwrap();
        }
        assert!(path.exists(), "{steps}");
        for _ in 0..2 {
            let opened = home.open();
            assert_eq!(opened.view.grants().len(), 2, "{steps}");
            assert!(opened.view.revocation(&digest(1)).is_some(), "{steps}");
            assert!(opened.view.damage().is_empty(), "{steps}");
        }
        let kept = super::super::damaged(&path);
        assert_eq!(kept.len(), 1, "{steps}: {kept:?}");
        assert_eq!(fs::read(&kept[0]).unwrap(), spoiled, "{steps}");
        assert_tidy(&home);
    }
}

#[test]
fn a_log_of_the_damaged_file_is_read_and_kept_with_it() {
    let home = full();
    let sequencer = home.start();
    wait(
        &sequencer,
        Lane::Grant,
        vec![granted(7)],
        Expects::default(),
    )
    .unwrap();
    let wal = private::beside(&home.location.path, "-wal");
    let (file, log) = (
        fs::read(&home.location.path).unwrap(),
        fs::read(&wal).unwrap(),
    );
    sequencer.stop();
    let mut spoiled = file;
    spoiled[..100].fill(0xaa);
    fs::write(&home.location.path, &spoiled).unwrap();
    fs::write(&wal, &log).unwrap();
    fs::set_permissions(&wal, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let opened = home.open();
    assert!(opened.view.grant(&digest(7)).is_some());
    assert!(opened.view.damage().is_empty());
    // The log may have its first page, and then nothing was lost to begin with.
    if let Some(salvage) = &opened.report.salvage {
        assert_eq!(
            fs::read(private::beside(&salvage.kept, "-wal")).unwrap(),
            log
        );
    }
}

#[test]
fn the_first_and_the_last_few_damaged_files_are_kept_and_no_more() {
    let home = full();
    for n in 1..=7_u64 {
        spoil(&home, root(&home, "index", "row"), 0xaa);
        assert!(home.open().report.salvage.is_some());
        let kept = place::kept(&home.location.path);
        let numbers: Vec<u64> = kept.into_iter().map(|(number, _)| number).collect();
        let expected: Vec<u64> = match n {
            1..=4 => (1..=n).collect(),
            _ => vec![1, n - 2, n - 1, n],
        };
        assert_eq!(numbers, expected);
    }
    assert_eq!(damaged(&home.location.path).len(), place::KEPT);
}

#[test]
fn what_cannot_be_written_beside_it_leaves_the_damaged_file_as_it_is_however_often() {
    let home = full();
    spoil(&home, root(&home, "index", "row"), 0xaa);
    let spoiled = fs::read(&home.location.path).unwrap();
    for in_the_way in [".rebuilt", ".mended"] {
        let in_the_way = private::beside(&home.location.path, in_the_way);
        fs::create_dir_all(in_the_way.join("there")).unwrap();
        for _ in 0..5 {
            assert!(home.try_open().is_err());
            assert_eq!(fs::read(&home.location.path).unwrap(), spoiled);
        }
        assert!(damaged(&home.location.path).len() <= 1);
        fs::remove_dir_all(in_the_way).unwrap();
    }
    assert!(home.open().report.salvage.is_some());
    assert_eq!(damaged(&home.location.path).len(), 1);
}

#[test]
fn a_key_that_cannot_be_read_is_waited_for() {
    let home = full();
    spoil(&home, root(&home, "index", "row"), 0xaa);
    let key = home.dir.path().join("key");
    let away = home.dir.path().join("away");
    fs::rename(&key, &away).unwrap();
    assert!(matches!(home.try_open(), Err(OpenError::Key { .. })));
    spoil(&home, 0, 0xaa);
    assert!(matches!(home.try_open(), Err(OpenError::Key { .. })));
    assert!(damaged(&home.location.path).is_empty());
    fs::rename(&away, &key).unwrap();
    assert!(home.open().view.damage().is_empty());
}

#[test]
fn a_damaged_copy_of_an_earlier_time_is_still_told_by_the_anchor() {
    let home = full();
    let old = fs::read(&home.location.path).unwrap();
    home.store(vec![revoked(1)]);
    fs::write(&home.location.path, &old).unwrap();
    spoil(&home, root(&home, "index", "row"), 0xaa);
    let opened = home.open();
    assert!(opened.report.salvage.is_some() && opened.report.rolled_back);
    drop(opened);
    assert!(
        home.open().report.rolled_back,
        "a restart does not forget it"
    );
}

/// Every version that rows and headers of the file have, with their table, key and epoch.
fn sealed(home: &Home) -> std::collections::BTreeMap<(i64, Vec<u8>, i64, i64), Vec<u8>> {
    let connection = rusqlite::Connection::open(&home.location.path).unwrap();
    let sql = "SELECT tab, key, version, epoch, payload FROM row UNION ALL \
               SELECT 0, generation, version, epoch, payload FROM header UNION ALL \
               SELECT 15, seq, version, epoch, payload FROM ledger";
    let mut statement = connection.prepare(sql).unwrap();
    let rows = statement.query_map([], |row| {
        let key: rusqlite::types::Value = row.get(1)?;
        let key = format!("{key:?}").into_bytes();
        Ok(((row.get(0)?, key, row.get(2)?, row.get(3)?), row.get(4)?))
    });
    rows.unwrap().map(Result::unwrap).collect()
}

/// What was sealed after `old` was copied, and what after the copy was put back, is never of one place, version and epoch.
#[test]
fn after_a_rollback_nothing_is_sealed_twice_in_one_place_and_version() {
    type Rollback = fn(&Home, Vec<u8>);
    let rollbacks: [Rollback; 4] = [
        |_, _| {},
        |home, _| fs::remove_file(home.location.anchor.as_ref().unwrap()).unwrap(),
        |home, _| fs::write(home.location.anchor.as_ref().unwrap(), "another").unwrap(),
        |home, _| home.sql("DELETE FROM header"),
    ];
    for (n, rollback) in rollbacks.into_iter().enumerate() {
        let home = full();
        let old = fs::read(&home.location.path).unwrap();
        let change = |text: &str| {
            let value = samples::value("secret/data/shop/db", 3, text);
            vec![granted(5), revoked(5), value]
        };
        home.store(change(r#"{"of":"one"}"#));
        let one = sealed(&home);
        let generation = home.open().report.generation;
        fs::write(&home.location.path, &old).unwrap();
        rollback(&home, old);
        let opened = home.open();
        assert!(opened.report.rolled_back, "{n}");
        assert!(
            opened.writer.durable > generation,
            "{n}: no generation twice"
        );
        let sequencer = opened.start(|| now(1)).unwrap();
        let other = change(r#"{"of":"other"}"#);
        wait(&sequencer, Lane::Mirror, other, Expects::default()).unwrap();
        assert!(sequencer.stats().epoch > 1, "{n}");
        sequencer.stop();
        for (place, payload) in sealed(&home) {
            assert!(
                one.get(&place).is_none_or(|before| *before == payload),
                "{n}: {place:?} was sealed twice"
            );
        }
    }
}
