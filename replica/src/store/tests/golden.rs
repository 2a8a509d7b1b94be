//! The golden replica: a file that this format's first build made, with a fixed key.
//!
//! It must open for ever. And as long as the format is the same, this build writes it byte for byte: with seeded
//! randomness every row is determined. When this fails, the format changed: raise `FORMAT`, keep reading the old
//! one, say so in `docs/replica-format.md`, and make a new golden file with `HOLDOVER_GOLDEN=write`.

use super::*;

const SEED: u64 = 20_270_115;

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("golden")
}

/// What this build writes.
fn written() -> Home {
    let home = Home::made(SEED);
    let mut changes = everything();
    let mut entry = Entry::new(EntryKind::Grant, "allowed", T0);
    entry.token = Some(digest(1));
    changes.push(Change::Ledger(Box::new(entry)));
    home.store(changes);
    home
}

/// Every row of every table, as text.
fn dump(path: &Path) -> Vec<String> {
    let connection = rusqlite::Connection::open(path).unwrap();
    let tables = [
        "SELECT 'replica', hex(id), '', '', '', '' FROM replica",
        "SELECT 'slot', number, kind, hex(parameters), hex(salt), hex(wrapped) FROM slot",
        "SELECT 'header', generation, version, epoch, hex(payload), '' FROM header",
        "SELECT 'row', tab, hex(key), version, epoch, hex(payload) FROM row ORDER BY tab, key",
        "SELECT 'ledger', seq, hex(mac), version, epoch, hex(payload) FROM ledger ORDER BY seq",
    ];
    let mut rows = Vec::new();
    for sql in tables {
        let mut statement = connection.prepare(sql).unwrap();
        let mut found = statement.query([]).unwrap();
        while let Some(row) = found.next().unwrap() {
            let columns: Vec<String> = (0..6)
                .map(|column| match row.get_ref(column).unwrap() {
                    rusqlite::types::ValueRef::Integer(number) => number.to_string(),
                    text => text.as_str().unwrap().to_owned(),
                })
                .collect();
            rows.push(columns.join(" "));
        }
    }
    rows
}

/// A copy of the golden replica, with its key, where it may be written to.
fn golden() -> Home {
    copy_of("replica-1.db")
}

fn copy_of(name: &str) -> Home {
    use std::io::Write as _;
    let mut home = Home::empty(SEED);
    home.location.anchor = None;
    private::directory(private::parent(&home.location.path)).unwrap();
    let copy = fs::read(directory().join(name)).unwrap();
    private::create(&home.location.path)
        .unwrap()
        .write_all(&copy)
        .unwrap();
    let key = fs::read_to_string(directory().join("replica-1.key")).unwrap();
    let Source::File(path) = &home.source;
    assert_eq!(
        fs::read_to_string(path).unwrap(),
        key,
        "the seed gives the same key"
    );
    home
}

#[test]
fn the_golden_replica_opens_with_everything_in_it() {
    if std::env::var_os("HOLDOVER_GOLDEN").is_some_and(|what| what == "write") {
        let home = written();
        fs::create_dir_all(directory()).unwrap();
        fs::copy(&home.location.path, directory().join("replica-1.db")).unwrap();
        let Source::File(key) = &home.source;
        fs::copy(key, directory().join("replica-1.key")).unwrap();
    }
    let home = golden();
    let opened = home.open();
    assert_authority(&opened, 0, SEED);
    assert_eq!(opened.view.secrets().records.len(), 2);
    let report = opened.report;
    assert!(!report.ledger_cut && !report.values_changed && report.values_lost == 0);
}

#[test]
fn this_build_writes_the_golden_replica_byte_for_byte() {
    let (ours, golden) = (written(), golden());
    let (ours, golden) = (dump(&ours.location.path), dump(&golden.location.path));
    for (ours, golden) in ours.iter().zip(&golden) {
        assert_eq!(
            ours, golden,
            "the format changed: see the head of this file"
        );
    }
    assert_eq!(ours.len(), golden.len());
}

/// Builds before summed up the rows of all tables of a class.
#[test]
fn a_header_without_a_sum_for_each_table_is_read_and_the_next_commit_has_them() {
    let home = copy_of("replica-1-classes.db");
    let opened = home.open();
    assert_authority(&opened, 0, SEED);
    assert!(opened.view.damage().is_empty() && !opened.report.values_changed);
    drop(opened);
    assert!(home.open().view.damage().is_empty());
    home.sql("DELETE FROM row WHERE tab = 6");
    let damage = home.open().view.damage();
    let kinds: Vec<_> = damage.iter().map(|one| one.kind).collect();
    assert_eq!(kinds, [shared::damage::RowKind::Identity]);
}

/// Which of the tables it was that something was taken from, those headers do not say.
#[test]
fn a_row_that_is_missing_under_an_old_header_may_be_of_any_table() {
    let home = copy_of("replica-1-classes.db");
    home.sql("DELETE FROM row WHERE tab = 6");
    let opened = home.open();
    let authority = opened.view.authority();
    assert!(opened.view.grants().is_empty() && authority.policies.is_none());
    assert!(authority.cluster.is_none() && opened.view.secrets().records.is_empty());
    // What only refuses stays.
    assert!(opened.view.revocation(&digest(2)).is_some() && opened.queue.len() == 1);
}

/// Builds before kept whole policy sets in quarantine.
#[test]
fn a_policy_set_in_quarantine_is_read_as_its_policies_and_each_is_lifted_for_good() {
    let home = copy_of("replica-1-sets.db");
    let held = |opened: &Opened| -> Vec<String> {
        let authority = opened.view.authority();
        let all = authority.quarantines.values();
        all.inspect(|one| assert_eq!(one.text, None, "only an operator lifts it"))
            .map(|one| one.what.to_string())
            .collect()
    };
    let lift = |policy| {
        home.store(vec![Change::QuarantineLifted(
            samples::quarantine(policy).what,
        )])
    };
    assert_eq!(held(&home.open()), ["policy billing", "policy default"]);
    lift("billing");
    assert_eq!(held(&home.open()), ["policy default"]);
    lift("default");
    assert!(held(&home.open()).is_empty());
}

/// Builds before kept all policies in one row.
#[test]
fn policies_that_lie_in_one_row_are_read_and_the_next_commit_of_them_gives_each_its_own() {
    let home = copy_of("replica-1-together.db");
    let rows = |home: &Home| dump(&home.location.path).len();
    let (before, opened) = (rows(&home), home.open());
    assert_authority(&opened, 0, SEED);
    assert!(opened.view.damage().is_empty());
    let set = opened
        .view
        .authority()
        .policies
        .as_ref()
        .unwrap()
        .set
        .clone();
    drop(opened);
    assert_eq!(rows(&home), before);
    home.store(vec![Change::Policies(Box::new(set.clone()))]);
    assert_eq!(rows(&home), before + set.policies.len());
    let opened = home.open();
    assert_authority(&opened, 0, SEED);
    assert!(opened.view.damage().is_empty());
}

#[test]
fn of_policies_that_lie_in_one_row_all_are_lost_with_it_until_they_are_read_anew() {
    let home = copy_of("replica-1-together.db");
    let set = home
        .open()
        .view
        .authority()
        .policies
        .as_ref()
        .unwrap()
        .set
        .clone();
    home.sql("UPDATE row SET payload = zeroblob(40) WHERE tab = 14");
    let opened = home.open();
    let held = |opened: &Opened| {
        let authority = opened.view.authority();
        authority.policies.as_ref().map(|known| known.set.clone())
    };
    assert!(held(&opened).is_none_or(|held| !held.is_read() && held.policies.is_empty()));
    drop(opened);
    home.store(vec![Change::Policies(Box::new(set.clone()))]);
    let opened = home.open();
    assert!(opened.view.damage().is_empty());
    assert_eq!(held(&opened), Some(set));
}
