//! What the reserve says of the ledger, in a file that has gone another way since: the chain has both ends, and what it takes is
//! counted right.

use super::*;
use crate::{
    ledger::{self, Chained, Head},
    store::reserve::Share,
};

fn entry() -> Entry {
    Entry::new(EntryKind::State, "allowed", T0)
}

/// The ledger as a start finds it: its ends, what it holds, and what that takes.
fn ledger(home: &Home) -> (Head, Vec<Chained>, u64) {
    let mut opened = home.open();
    let head = opened.writer.header.ledger.clone();
    let rows = opened.writer.rows(0, 1000).unwrap();
    assert!(
        rows.first().is_none_or(|row| row.seq == head.first),
        "nothing lies before its beginning"
    );
    let bytes = rows.iter().map(crate::ledger::LedgerRow::size).sum();
    let entries = opened.writer.entries(head.first, 1000).unwrap();
    (head, entries, bytes)
}

fn assert_whole(home: &Home, context: &str) -> Head {
    let (head, entries, bytes) = ledger(home);
    let keys = home.open().view.keys().clone();
    assert_eq!(
        ledger::verify(&keys, &head, &entries),
        Ok(()),
        "{context}: {head:?}"
    );
    assert_eq!(head.bytes, bytes, "{context}");
    head
}

#[test]
fn a_commit_that_nobody_was_told_of_is_reckoned_with() {
    for (cut, more, kept) in [(5, 0, 1), (0, 3, 1), (5, 3, 2), (20, 0, 1), (20, 4, 0)] {
        let context = format!("{cut} cut, {more} more, {kept} kept");
        let home = Home::made(1);
        home.store((0..20).map(|_| Change::Ledger(Box::new(entry()))).collect());
        let reserve = private::beside(&home.location.path, ".reserve");
        // For the writer the commit failed, and it goes on in the reserve.
        let mut opened = home.open();
        opened.writer.tried += 1000;
        let entries = vec![entry(); kept];
        let kept = opened.writer.keep(Vec::new(), &entries, 0, Share::Own);
        kept.unwrap();
        drop(opened);
        let records = fs::read(&reserve).unwrap();
        fs::remove_file(&reserve).unwrap();
        // It was in the file after all.
        let mut opened = home.open();
        if cut > 0 {
            opened.writer.cut(0, cut).unwrap();
        }
        opened.writer.commit(&[], &vec![entry(); more]).unwrap();
        drop(opened);
        fs::write(&reserve, records).unwrap();
        let head = assert_whole(&home, &context);
        assert!(head.first > cut && head.next > 20, "{context}");
    }
}

#[test]
fn of_an_older_file_the_oldest_are_cut_off_as_they_were_later() {
    let home = Home::made(1);
    home.store((0..20).map(|_| Change::Ledger(Box::new(entry()))).collect());
    let old = fs::read(&home.location.path).unwrap();
    let mut opened = home.open();
    opened.writer.cut(0, 5).unwrap();
    opened.writer.commit(&[], &[]).unwrap();
    let kept = opened.writer.keep(Vec::new(), &[entry()], 0, Share::Own);
    kept.unwrap();
    drop(opened);
    fs::write(&home.location.path, old).unwrap();
    let opened = home.open();
    assert!(opened.report.rolled_back);
    drop(opened);
    let head = assert_whole(&home, "an older file");
    assert_eq!((head.first, head.next), (6, 22));
}

/// Entries that are gone keep none from being cut off.
#[test]
fn where_entries_are_missing_the_rest_is_cut_off_all_the_same() {
    let home = Home::made(1);
    home.store((0..30).map(|_| Change::Ledger(Box::new(entry()))).collect());
    home.sql("DELETE FROM ledger WHERE seq < 25");
    let mut opened = home.open();
    opened.writer.cut(0, 28).unwrap();
    opened.writer.commit(&[], &[entry()]).unwrap();
    drop(opened);
    let (head, entries, _) = ledger(&home);
    assert_eq!((head.first, head.next), (29, 32));
    assert_eq!(entries.len(), 3);
}
