//! Power loss: the log may end anywhere, whole or in the middle of a page, and what follows may be garbage.

use shared::change::{QueuedRevocation, RevocationTarget};

use super::*;

/// Two rows that belong together, in one submission.
fn pair(n: u64) -> Vec<Change> {
    let queued = |id| {
        Change::Queue(Box::new(QueuedRevocation::own(
            id,
            RevocationTarget::Token(Accessor::parse("a").unwrap()),
            T0,
        )))
    };
    vec![queued(2 * n), queued(2 * n + 1)]
}

#[test]
fn a_log_cut_anywhere_holds_every_acknowledged_change_and_no_half_of_one() {
    let home = Home::made(1);
    let sequencer = home.start();
    let wal = private::beside(&home.location.path, "-wal");
    let length = |path: &Path| usize::try_from(fs::metadata(path).unwrap().len()).unwrap();
    let mut acknowledged = vec![length(&wal)];
    for n in 0..12 {
        wait(&sequencer, Lane::Grant, pair(n), Expects::default()).unwrap();
        acknowledged.push(length(&wal));
    }
    let (file, log) = (
        fs::read(&home.location.path).unwrap(),
        fs::read(&wal).unwrap(),
    );
    sequencer.stop();
    assert!(acknowledged.is_sorted() && log.len() >= acknowledged[12]);
    let seed = 7;
    let random = Seeded::new(seed);
    let mut seen = std::collections::BTreeSet::new();
    for round in 0..rounds(80) {
        let mut at = [0; 8];
        random.fill(&mut at).unwrap();
        let cut = match round {
            // Exactly at and around each acknowledgement, then anywhere.
            0..=12 => acknowledged[usize::try_from(round).unwrap()],
            13..=25 => acknowledged[usize::try_from(round - 13).unwrap()] - 1,
            _ => usize::try_from(u64::from_le_bytes(at)).unwrap() % log.len(),
        };
        let mut torn = log[..cut].to_vec();
        if round % 2 == 1 {
            torn.extend_from_slice(&[at, at].concat().repeat(300));
        }
        let kept = acknowledged.iter().filter(|end| **end <= cut).count();
        let found = reopened(&home, &file, &torn);
        let context = format!("cut at {cut}, round {round}, seed {seed}");
        let pairs = found.len() / 2;
        let whole: Vec<u64> = (0..2 * u64::try_from(pairs).unwrap()).collect();
        assert_eq!(found, whole, "half a submission: {context}");
        assert!(pairs + 1 >= kept, "{pairs} of {kept}: {context}");
        seen.insert(pairs);
    }
    assert!(seen.len() > 8, "{seen:?}");
}

/// The ids that a replica of this file and log holds.
fn reopened(home: &Home, file: &[u8], log: &[u8]) -> Vec<u64> {
    let copy = Home {
        dir: tempfile::tempdir().unwrap(),
        location: home.location.clone(),
        source: home.source.clone(),
    };
    let path = copy.dir.path().join("replica.db");
    for (path, content) in [(path.clone(), file), (private::beside(&path, "-wal"), log)] {
        use std::io::Write as _;
        private::create(&path).unwrap().write_all(content).unwrap();
    }
    let location = Location {
        path,
        anchor: None,
        ledger_max: 0,
    };
    let opened = Replica::open(
        &location,
        std::slice::from_ref(&copy.source),
        settings(),
        Arc::new(Seeded::new(3)),
    );
    match opened {
        Ok(opened) => opened.queue.iter().map(|queued| queued.id).collect(),
        Err(error) => panic!("{error}"),
    }
}
