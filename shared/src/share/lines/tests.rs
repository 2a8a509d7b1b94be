//! Claims about lines of entries, however they hang together.

use alloc::{
    collections::{BTreeMap, BTreeSet},
    vec::Vec,
};

use proptest::prelude::*;

use super::{Hold, LineEntry, peel, share};

fn entry(key: u32, above: Option<u32>, owner: u8, hold: Hold) -> LineEntry<u8, u32, u32> {
    LineEntry {
        key,
        above,
        owner,
        used: key,
        hold,
    }
}

/// `keys`, each hanging on the one before it.
fn line(keys: core::ops::Range<u32>, owner: u8) -> Vec<LineEntry<u8, u32, u32>> {
    let first = keys.start;
    let above = |key: u32| (key > first).then(|| key - 1);
    keys.map(|key| entry(key, above(key), owner, Hold::Counts))
        .collect()
}

#[test]
fn a_line_is_peeled_from_its_end_and_others_lose_nothing() {
    let mut entries = line(0..20, 1);
    entries.extend((100..108).map(|key| entry(key, None, 2, Hold::Counts)));
    assert_eq!(peel(&entries, 28), [0; 0]);
    assert_eq!(
        peel(&entries, 16),
        [19, 18, 17, 16, 15, 14, 13, 12, 11, 10, 9, 8]
    );
}

#[test]
fn what_something_hangs_on_that_stays_counts_for_its_owner() {
    let mut entries = line(0..10, 1);
    entries.push(entry(50, Some(7), 3, Hold::Stays));
    entries.extend((20..30).map(|key| entry(key, None, 1, Hold::Counts)));
    entries.extend((100..106).map(|key| entry(key, None, 2, Hold::Counts)));
    // Its other entries go, used lately or not; those below which something stays do not, and another's do not instead.
    let gone: BTreeSet<u32> = peel(&entries, 12).into_iter().collect();
    assert_eq!(gone, [8, 9].into_iter().chain(20..30).collect());
}

#[test]
fn what_takes_no_room_goes_only_where_it_is_in_the_way() {
    let entries = [
        entry(1, None, 1, Hold::Counts),
        entry(2, None, 1, Hold::Counts),
        entry(3, Some(1), 1, Hold::Free),
        entry(4, None, 1, Hold::Free),
    ];
    assert_eq!(peel(&entries, 1), [2]);
    assert_eq!(peel(&entries, 0), [2, 3, 1]);
}

#[test]
fn what_hangs_on_another_s_is_lost_only_by_whoever_has_more_than_its_share() {
    let mut entries = line(0..10, 1);
    entries.extend(line(100..106, 2));
    // The second's line hangs on the first's.
    entries[10].above = Some(9);
    assert_eq!(peel(&entries, 4), [105, 104, 103, 102]);
    // Where nobody has a share, both go, the lower one first.
    let gone = peel(&entries, 1);
    assert_eq!(gone.len(), 15);
    assert_eq!((gone[5], gone[6], gone[14]), (100, 9, 1));
}

fn holds() -> impl Strategy<Value = Hold> {
    prop_oneof![
        8 => Just(Hold::Counts),
        1 => Just(Hold::CountsAndStays),
        1 => Just(Hold::Free),
        1 => Just(Hold::Stays),
    ]
}

/// Each hangs on one before it or on none: lines, bushes, and what hangs on another's.
fn forests() -> impl Strategy<Value = Vec<LineEntry<u8, u32, u32>>> {
    let one = (
        any::<Option<prop::sample::Index>>(),
        0_u8..4,
        0_u32..50,
        holds(),
    );
    prop::collection::vec(one, 1..120).prop_map(|all| {
        let numbered = (0_u32..).zip(all);
        let entries = numbered.map(|(key, (above, owner, used, hold))| LineEntry {
            above: above.and_then(|above| {
                key.checked_sub(1)
                    .map(|last| above.index(last as usize + 1) as u32)
            }),
            key,
            owner,
            used,
            hold,
        });
        entries.collect()
    })
}

proptest! {
    /// Nobody within its share loses anything; nothing goes that stays, or before what hangs on it; and what is left beyond the
    /// bound is below something that stays, or that is somebody's who is within its share.
    #[test]
    fn nobody_loses_anything_for_another(entries in forests(), most in 0_usize..60) {
        let gone = peel(&entries, most);
        let by_key: BTreeMap<u32, _> = entries.iter().map(|entry| (entry.key, entry)).collect();
        let mut have = BTreeMap::<u8, usize>::new();
        for entry in entries.iter().filter(|entry| entry.hold.counts()) {
            *have.entry(entry.owner).or_default() += 1;
        }
        let share = share(most, have.len());
        let mut left: BTreeSet<u32> = by_key.keys().copied().collect();
        for key in gone {
            let entry = by_key[&key];
            prop_assert!(!entry.hold.stays());
            prop_assert!(left.iter().all(|other| by_key[other].above != Some(key)));
            let of_owner = have.get_mut(&entry.owner).unwrap();
            prop_assert!(*of_owner > share);
            *of_owner -= usize::from(entry.hold.counts());
            prop_assert!(left.remove(&key));
        }
        if have.values().sum::<usize>() <= most {
            return Ok(());
        }
        let is_pinned = |of: &u32| {
            let stays = |key: &u32| {
                let entry = by_key[key];
                entry.hold.stays() || have.get(&entry.owner).is_none_or(|has| *has <= share)
            };
            let hangs_on = |mut key: u32| loop {
                if key == *of { return true; }
                let Some(above) = by_key[&key].above else { return false };
                key = above;
            };
            left.iter().any(|key| stays(key) && hangs_on(*key))
        };
        let beyond = left.iter().filter(|key| {
            let entry = by_key[*key];
            entry.hold.counts() && have[&entry.owner] > share
        });
        for key in beyond {
            prop_assert!(is_pinned(key), "{key} could have gone");
        }
    }

    /// Where nothing must stay, the bound holds, whatever hangs on what.
    #[test]
    fn nothing_is_left_beyond_where_nothing_must_stay(mut entries in forests(), most in 0_usize..60) {
        for entry in &mut entries {
            entry.hold = Hold::Counts;
            entry.owner = 1;
        }
        prop_assert_eq!(peel(&entries, most).len(), entries.len().saturating_sub(most));
    }
}
