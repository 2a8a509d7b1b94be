//! Claims about shares, for any order of asking.

use alloc::{collections::BTreeMap, format, string::String, sync::Arc, vec::Vec};

use proptest::prelude::*;

use super::{
    Party, Sharer, Total,
    amounts::{Amounts, Short},
    entries::{Entries, beyond},
    seats::{NoSeat, Places, Seat, Seats, Waiting},
};
use crate::name::WorkloadName;

fn party(matched: bool, uid: u32) -> Party {
    Party {
        matched,
        uid,
        unit: Some(format!("u{}.service", uid / 4)),
    }
}

fn sharer(matched: bool, uid: u32) -> Sharer {
    Sharer::Party(Arc::new(party(matched, uid)))
}

/// Parties, and workloads whose names are those of units.
fn sharers() -> impl Strategy<Value = Sharer> {
    let workload = |nr: u32| Sharer::Workload(WorkloadName::parse(&format!("u{nr}")).unwrap());
    prop_oneof![
        3 => parties().prop_map(|party| Sharer::Party(Arc::new(party))),
        1 => (0_u32..3).prop_map(workload),
    ]
}

fn parties() -> impl Strategy<Value = Party> {
    (any::<bool>(), 0_u32..8).prop_map(|(matched, uid)| party(matched, uid))
}

fn places(all: u64, of_one: u64) -> Places {
    Places {
        total: Total { all, halved: true },
        of_one,
    }
}

#[test]
fn one_alone_gets_a_quarter_and_the_next_a_quarter_of_the_rest() {
    let total = Total::whole(64);
    let mut amounts = Amounts::default();
    let mut takes = |uid, amount| amounts.take(&sharer(true, uid), amount, total);
    assert_eq!(takes(1, 17), Err(Short::Of));
    assert_eq!(takes(1, 16), Ok(()));
    assert_eq!(takes(1, 1), Err(Short::OfShare));
    assert_eq!(takes(9, 12), Ok(()));
    assert_eq!(takes(9, 1), Err(Short::OfShare));
}

#[test]
fn many_users_of_one_unit_are_one() {
    let total = Total::whole(64);
    let mut amounts = Amounts::default();
    for uid in 0..4 {
        amounts.take(&sharer(true, uid), 4, total).unwrap();
    }
    assert_eq!(
        amounts.take(&sharer(true, 1), 1, total),
        Err(Short::OfShare)
    );
    assert_eq!(amounts.take(&sharer(true, 7), 8, total), Ok(()));
}

#[test]
fn idle_crowds_make_room_for_a_workload_and_for_whoever_has_nothing() {
    let (mut seats, places) = (Seats::default(), places(8, 8));
    let crowd: Vec<Seat> = (0..4)
        .map(|_| seats.take(&party(false, 1), places).unwrap().seat)
        .collect();
    assert_eq!(seats.take(&party(false, 1), places), Err(NoSeat::All));
    // Another user gets the place of the longest idle one, until both have as many.
    let given = seats.take(&party(false, 9), places).unwrap();
    assert_eq!(given.instead_of, Some(crowd[0]));
    let given = seats.take(&party(false, 9), places).unwrap();
    assert_eq!(given.instead_of, Some(crowd[1]));
    assert_eq!(seats.take(&party(false, 9), places), Err(NoSeat::All));
    // Workloads have all that is free, and then the places of those whom no entry matches.
    for _ in 0..4 {
        let given = seats.take(&party(true, 5), places).unwrap();
        assert_eq!(given.instead_of, None);
    }
    for _ in 0..4 {
        let given = seats.take(&party(true, 5), places).unwrap();
        assert!(given.instead_of.is_some());
    }
    assert_eq!(seats.take(&party(true, 5), places), Err(NoSeat::OfOne));
    assert_eq!(seats.take(&party(false, 2), places), Err(NoSeat::All));
    assert!(seats.take(&party(true, 2), places).is_ok());
}

#[test]
fn whoever_is_being_answered_keeps_its_place_and_the_idle_go_first() {
    let (mut seats, places) = (Seats::default(), places(4, 4));
    let [one, two] = [1, 1].map(|uid| seats.take(&party(false, uid), places).unwrap().seat);
    seats.waits(one, Waiting::Begun);
    seats.waits(two, Waiting::Idle);
    let given = seats.take(&party(false, 9), places).unwrap();
    assert_eq!(given.instead_of, Some(two));
    assert!(seats.is_answered(one));
    assert!(seats.is_answered(given.seat));
    assert!(!seats.is_answered(two), "its place is another's by now");
    assert_eq!(seats.take(&party(false, 2), places), Err(NoSeat::All));
    assert_eq!(seats.free_one(), None);
    seats.waits(one, Waiting::Idle);
    assert_eq!(seats.free_one(), Some(one));
    assert_eq!(seats.taken(), 1);
}

#[test]
fn where_nothing_is_left_for_anybody_a_stranger_makes_room_before_a_workload() {
    let (mut seats, places) = (Seats::default(), places(8, 8));
    let [workload, ..] = [1; 3].map(|uid| seats.take(&party(true, uid), places).unwrap().seat);
    let stranger = seats.take(&party(false, 2), places).unwrap().seat;
    assert_eq!(seats.free_one(), Some(stranger));
    assert_eq!(seats.free_one(), Some(workload));
}

#[test]
fn whoever_fills_a_map_loses_its_own_entries() {
    let mut entries = Entries::default();
    for key in 0..2 {
        assert_eq!(entries.used(&key, &"quiet", 8), None);
    }
    for key in 10..16 {
        assert_eq!(entries.used(&key, &"loud", 8), None);
    }
    assert_eq!(entries.used(&10, &"loud", 8), None, "it is there");
    for (key, gone) in (16..200).zip([11, 12, 13, 14, 15, 10].into_iter().chain(16..)) {
        assert_eq!(entries.used(&key, &"loud", 8), Some(gone));
    }
    assert_eq!(entries.len(), 8);
    assert!(entries.used(&2, &"quiet", 8).unwrap() > 100);
    entries.remove(&0);
    assert_eq!(entries.used(&3, &"other", 8), None);
}

#[test]
fn what_is_beyond_a_bound_is_of_whoever_has_most_and_not_used_for_longest() {
    let entries = [
        ("a", 5, 1),
        ("b", 9, 2),
        ("b", 2, 3),
        ("b", 7, 4),
        ("c", 1, 5),
    ];
    assert_eq!(beyond(entries, 5), [0; 0]);
    assert_eq!(beyond(entries, 4), [3]);
    assert_eq!(beyond(entries, 3), [3, 4]);
    assert_eq!(beyond(entries, 2).len(), 3);
    assert_eq!(beyond(entries, 0).len(), 5);
}

proptest! {
    /// Nobody with fewer than its part of a map loses an entry to others.
    #[test]
    fn few_entries_are_kept_whatever_others_do(
        used in prop::collection::vec((0_u32..3, 0_u32..60), 0..300),
    ) {
        const MOST: usize = 16;
        let (mut entries, mut have) = (Entries::default(), BTreeMap::<(u32, u32), u32>::new());
        for (owner, number) in used {
            let key = (owner, number);
            let gone = entries.used(&key, &owner, MOST);
            have.insert(key, owner);
            if let Some(gone) = gone {
                let of = have.remove(&gone).unwrap();
                let left = have.values().filter(|owner| **owner == of).count();
                prop_assert!(left + 1 >= MOST / 3, "{of} had {left}");
            }
            prop_assert_eq!(entries.len(), have.len());
            prop_assert!(have.len() <= MOST);
        }
    }

    /// What is said to be left for one is what it can take one by one, whatever others have.
    #[test]
    fn so_many_more_are_taken_one_by_one(
        taken in prop::collection::vec((sharers(), 1_u64..9), 0..60),
        halved: bool,
    ) {
        let total = Total { all: 100, halved };
        let mut amounts = Amounts::default();
        for (by, amount) in taken {
            let _ = amounts.take(&by, amount, total);
        }
        let one = sharer(false, 1);
        let left = amounts.left_for(&one, total);
        let mut found = 0;
        while amounts.take(&one, 1, total).is_ok() {
            found += 1;
        }
        prop_assert_eq!(found, left);
    }

    /// Those whom no entry matches take nothing of what a workload of the same user has as its share.
    #[test]
    fn whatever_strangers_of_a_user_take_its_workload_has_its_share(
        asked in prop::collection::vec((0_u32..40, 1_u64..4000), 0..200),
    ) {
        let total = Total { all: 4000, halved: true };
        let mut amounts = Amounts::default();
        for (uid, amount) in asked {
            let _ = amounts.take(&sharer(false, uid), amount, total);
        }
        for by in [sharer(true, 1), Sharer::Workload(WorkloadName::parse("orders").unwrap())] {
            prop_assert!(amounts.take(&by, 2000 / 4, total).is_ok());
            amounts.give_back(&by, 2000 / 4);
        }
    }

    /// However many take what they can get, somebody who has nothing finds something.
    #[test]
    fn however_many_hoard_something_is_left(
        asked in prop::collection::vec((sharers(), 1_u64..4000), 0..200),
        halved: bool,
    ) {
        const ALL: u64 = 40_000;
        let total = Total { all: ALL, halved };
        let mut amounts = Amounts::default();
        let mut have = BTreeMap::<(bool, String), u64>::new();
        for (by, amount) in asked {
            if amounts.take(&by, amount, total).is_ok() {
                let name = match &by {
                    Sharer::Party(party) => (party.matched, format!("{}", party.uid)),
                    Sharer::Workload(name) => (true, format!("{name:?}")),
                };
                *have.entry(name).or_default() += amount;
            }
        }
        let sum = |of: bool| have.iter().filter(|((is, _), _)| *is == of).map(|(_, n)| n).sum::<u64>();
        prop_assert_eq!(amounts.taken(), sum(true) + sum(false));
        if halved {
            prop_assert!(sum(false) <= ALL / 2);
        }
        let hoarders = u32::try_from(have.len()).unwrap();
        let left = ALL - amounts.taken();
        prop_assert!(left >= ALL * 3_u64.pow(hoarders) / 4_u64.pow(hoarders), "{left} {have:?}");
        let fresh = sharer(true, 1000);
        prop_assert!(amounts.take(&fresh, left / 4, total).is_ok());
    }

    /// What is given back can be taken again, and nobody who has nothing is remembered.
    #[test]
    fn what_is_given_back_is_there(taken in prop::collection::vec((sharers(), 1_u64..9), 0..60)) {
        let total = Total { all: 100, halved: true };
        let (mut amounts, mut given) = (Amounts::default(), Vec::new());
        for (party, amount) in taken {
            if amounts.take(&party, amount, total).is_ok() {
                given.push((party, amount));
            }
        }
        for (party, amount) in given {
            amounts.give_back(&party, amount);
        }
        prop_assert_eq!(amounts.taken(), 0);
        prop_assert_eq!(format!("{amounts:?}"), format!("{:?}", Amounts::default()));
    }

    /// In any order of coming, speaking and going: bounds hold, and a workload with no place gets one unless every other
    /// place is a workload's that is being answered.
    #[test]
    fn there_is_a_place_for_a_workload(
        acts in prop::collection::vec((0_u8..4, parties(), any::<prop::sample::Index>()), 0..300),
        all in 2_u64..24,
        of_one in 1_u64..12,
    ) {
        let (mut seats, places) = (Seats::default(), places(all, of_one));
        let mut held = BTreeMap::<Seat, (Party, bool)>::new();
        for (act, party, which) in acts {
            let chosen = (!held.is_empty()).then(|| *held.keys().nth(which.index(held.len())).unwrap());
            match (act, chosen) {
                (1, Some(seat)) => {
                    let _ = seats.is_answered(seat);
                    held.get_mut(&seat).unwrap().1 = true;
                }
                (2, Some(seat)) => {
                    seats.waits(seat, Waiting::Idle);
                    held.get_mut(&seat).unwrap().1 = false;
                }
                (3, Some(seat)) => {
                    seats.leave(seat);
                    held.remove(&seat);
                }
                _ => {
                    let Ok(given) = seats.take(&party, places) else { continue };
                    if let Some(other) = given.instead_of {
                        let (gone, busy) = held.remove(&other).unwrap();
                        prop_assert!(!busy, "one that is being answered made room");
                        prop_assert!(party.matched || !gone.matched);
                    }
                    held.insert(given.seat, (party, false));
                }
            }
            let count = |is: &dyn Fn(&Party) -> bool| held.values().filter(|(of, _)| is(of)).count() as u64;
            prop_assert_eq!(seats.taken(), held.len() as u64);
            prop_assert!(count(&|_| true) <= all);
            prop_assert!(count(&|of| !of.matched) <= all / 2);
            for uid in 0..8 {
                for matched in [true, false] {
                    prop_assert!(count(&|of| of.matched == matched && of.uid == uid) <= of_one);
                }
            }
        }
        let stuck = held.values().all(|(of, busy)| *busy && of.matched) || held.values().all(|(_, busy)| *busy);
        let fresh = Party { matched: true, uid: 1000, unit: None };
        prop_assert!(seats.take(&fresh, places).is_ok() || (stuck && held.len() as u64 == all));
    }
}
