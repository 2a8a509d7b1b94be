//! What the replica holds of a mirror, and what becomes of it where a pass did not see it. Pure.

use std::{collections::BTreeMap, sync::Arc};

use shared::{
    change::Change,
    kv::{KvKey, MirrorState, Place, Record},
    name::RequestPath,
};

/// At least so many keys must vanish at once to be withheld, and more than half of those held.
const MANY: usize = 10;

/// What is held of a mirror, by data path.
pub(super) type HeldKeys = BTreeMap<RequestPath, HeldKey>;

/// What is held of one key.
pub(super) struct HeldKey {
    pub(super) key: Arc<KvKey>,
    pub(super) records: Vec<Record>,
}

/// Whether so many vanished at once that it looks like a mistake.
pub(super) fn are_many(vanished: usize, held: usize) -> bool {
    vanished >= MANY && vanished * 2 > held
}

/// What is held stays as it is, and as old as it is: the pass does not count as its verification, those before it do.
/// `last` is the last pass that was complete.
pub(super) fn uncovered(held: Option<&HeldKey>, last: Option<&MirrorState>) -> Vec<Change> {
    let records = held.into_iter().flat_map(|held| &held.records);
    let covered = records.filter(|record| record.covered);
    let uncovered = covered.map(|record| Record {
        covered: false,
        verified_at: record.verified(last),
        ..record.clone()
    });
    uncovered
        .map(|record| Change::Record(Box::new(record), None))
        .collect()
}

/// That a key is there, of which nothing else is known: its absence would be answered with 404.
pub(super) fn exists(place: Place) -> Change {
    Change::Key(Box::new(KvKey {
        place,
        current: 0,
        versions: BTreeMap::new(),
        metadata: String::new(),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use shared::{
        kv::{Form, VersionState},
        name::{MountAccessor, Namespace},
        time::WallTime,
    };

    #[test]
    fn what_vanished_keeps_its_body_and_its_age_and_stops_counting_as_covered() {
        let place = Place {
            namespace: Namespace::default(),
            mount: MountAccessor::parse("kv_1").unwrap(),
            path: RequestPath::parse("secret/data/a").unwrap(),
        };
        let record = |version, covered| Record {
            place: place.clone(),
            version: Some(version),
            state: VersionState::Live,
            verified_at: WallTime::EPOCH,
            covered,
            form: Form::default(),
        };
        let held = HeldKey {
            key: Arc::new(KvKey {
                place: place.clone(),
                current: 2,
                versions: BTreeMap::new(),
                metadata: String::new(),
            }),
            records: vec![record(1, false), record(2, true)],
        };
        let last = MirrorState {
            path: "secret/data/*".to_owned(),
            mount: place.mount.clone(),
            verified_at: WallTime::from_secs(7),
            fingerprint: String::new(),
            partial: false,
        };
        let as_old = Record {
            verified_at: last.verified_at,
            ..record(2, false)
        };
        match uncovered(Some(&held), Some(&last)).as_slice() {
            [Change::Record(changed, None)] => assert_eq!(**changed, as_old),
            _ => panic!("not one record without a body"),
        }
    }

    #[test]
    fn many_at_once_is_ten_and_more_than_half() {
        assert!(!are_many(9, 9));
        assert!(are_many(10, 10));
        assert!(are_many(11, 20));
        assert!(!are_many(10, 20));
    }
}
