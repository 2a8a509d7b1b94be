//! What the reserve holds, what of it is believed, and whom it has room for.

use std::{fs, sync::Arc};

use super::*;
use crate::{
    key::epoch::Budget,
    ledger::{Head, LedgerRow},
    samples::Seeded,
    table::{At, Op, Table},
};

fn sealed(version: u64) -> Sealed {
    Sealed {
        epoch: 1,
        version,
        bytes: Arc::from([7; 300]),
    }
}

fn record(generation: u64) -> Record {
    let at = |key| At {
        table: Table::Revocation,
        key: [key; 32],
    };
    Record {
        generation,
        reserve: Budget::fresh().reserve(0),
        ledger: Head::default(),
        ops: vec![Op::Put(at(1), sealed(generation)), Op::Delete(at(2))],
        entries: vec![LedgerRow {
            seq: generation,
            mac: [3; 32],
            sealed: sealed(9),
        }],
    }
}

struct Rig {
    dir: tempfile::TempDir,
    keys: Keys,
}

impl Rig {
    fn new() -> Self {
        Self {
            dir: tempfile::tempdir().unwrap(),
            keys: Keys::ephemeral(&Seeded::new(1)).unwrap(),
        }
    }

    fn open(&self) -> (ReserveFile, Vec<u64>) {
        let path = self.dir.path().join("replica.db");
        let (mut reserve, found) = ReserveFile::open(&path, &self.keys);
        reserve.make().unwrap();
        let generations = found.records.iter().map(|record| record.generation);
        (reserve, generations.collect())
    }

    /// Appends a record of generation `of`, which is the first after its ten.
    fn append(&self, reserve: &mut ReserveFile, of: u64, share: Share) -> bool {
        let sealing: (&Keys, &dyn Entropy) = (&self.keys, &Seeded::new(of));
        let appended = reserve.append(&record(of), of / 10 * 10, share, sealing);
        match appended {
            Ok(()) => true,
            Err(StoreError::ReserveFull) => false,
            Err(error) => panic!("{error}"),
        }
    }

    fn bytes(&self) -> Vec<u8> {
        fs::read(self.dir.path().join("replica.db.reserve")).unwrap()
    }
}

#[test]
fn records_are_found_again_in_order_until_they_are_cleared() {
    let rig = Rig::new();
    let (mut reserve, found) = rig.open();
    assert!(found.is_empty());
    assert_eq!(u64::try_from(rig.bytes().len()).unwrap(), SIZE);
    for of in [11, 12] {
        assert!(rig.append(&mut reserve, of, Share::Operator));
    }
    let (mut reserve, found) = rig.open();
    assert_eq!(found, [11, 12]);
    assert!(rig.append(&mut reserve, 13, Share::Operator), "it goes on");
    assert_eq!(rig.open().1, [11, 12, 13]);
    reserve.clear().unwrap();
    assert!(rig.open().1.is_empty());
    let (mut reserve, _) = rig.open();
    assert!(rig.append(&mut reserve, 21, Share::Operator));
    assert_eq!(rig.open().1, [21], "what lies behind is of before");
}

#[test]
fn a_torn_or_changed_record_ends_what_is_believed() {
    let rig = Rig::new();
    let (mut reserve, _) = rig.open();
    let mut ends = vec![0];
    for of in 11..14 {
        assert!(rig.append(&mut reserve, of, Share::Operator));
        ends.push(usize::try_from(reserve.end).unwrap());
    }
    let whole = rig.bytes();
    let path = rig.dir.path().join("replica.db.reserve");
    for at in (0..ends[3]).step_by(13) {
        let mut torn = whole.clone();
        torn[at] ^= 1;
        fs::write(&path, &torn).unwrap();
        let before = ends.iter().filter(|end| **end <= at).count() - 1;
        let found = rig.open().1;
        // Of the first record's frame nothing binds but what the seal does.
        assert_eq!(found, [11, 12, 13][..before], "byte {at}");
    }
}

#[test]
fn one_peer_and_what_clients_can_cause_leave_room_for_the_others_and_for_operators() {
    let rig = Rig::new();
    let (mut reserve, _) = rig.open();
    let mut fill = |share| {
        let mut taken = 0;
        while rig.append(&mut reserve, 11 + taken, share) {
            taken += 1;
        }
        taken
    };
    let (first, learned, second) = (
        fill(Share::Peer(1)),
        fill(Share::Learned),
        fill(Share::Peer(2)),
    );
    assert!(first > 40 && first == second && learned > first);
    let others: u64 = (3..100).map(|uid| fill(Share::Peer(uid))).sum();
    assert!(others > first);
    assert!(fill(Share::Own) > first, "what is Holdover's own has room");
    assert!(fill(Share::Operator) > first, "operators have the rest");
}
