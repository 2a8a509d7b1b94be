//! Claims about doubts that arise and are answered in any order.

use proptest::prelude::*;

use super::*;
use crate::samples::{T0, place};

fn at(secs: u64) -> WallTime {
    T0.plus(std::time::Duration::from_secs(secs))
}

fn doubt(path: &str, since: u64, vanished: bool) -> Doubt {
    Doubt {
        of: Doubted::Key(place(path)),
        since: at(since),
        vanished,
    }
}

#[derive(Clone, Copy, Debug)]
enum Happens {
    Arises(u64),
    Answered(u64),
}

fn happens() -> impl Strategy<Value = Happens> {
    prop_oneof![
        (0u64..8).prop_map(Happens::Arises),
        (0u64..8).prop_map(Happens::Answered),
    ]
}

proptest! {
    /// Binding and publishing cross each other: whatever their order, a doubt that arose at the moment of the last
    /// answered question, or later, stands.
    #[test]
    fn an_answer_ends_no_doubt_that_is_as_late_as_its_question(events in proptest::collection::vec(happens(), 1..12)) {
        let of = Doubted::Key(place("secret/data/shop/a"));
        let mut doubts = Doubts::default();
        let (mut arose, mut asked, mut answered_last) = (None, None, false);
        for event in &events {
            match event {
                Happens::Arises(since) => {
                    doubts.add(&doubt("secret/data/shop/a", *since, false));
                    arose = arose.max(Some(*since));
                    answered_last = false;
                }
                Happens::Answered(at_) => {
                    doubts.answer(&of, at(*at_));
                    asked = asked.max(Some(*at_));
                    answered_last = asked == Some(*at_);
                }
            }
        }
        let stands = doubts.of(&place("secret/data/shop/a")).is_some();
        if arose.is_some() && arose >= asked {
            prop_assert!(stands, "{:?}", events);
        }
        if answered_last && arose < asked {
            prop_assert!(!stands, "{:?}", events);
        }
    }
}

#[test]
fn a_folder_has_the_doubts_that_lie_in_it() {
    let mut doubts = Doubts::default();
    for path in [
        "secret/data/shop",
        "secret/data/shop/a",
        "secret/data/shop/b/c",
        "secret/data/shop0",
    ] {
        doubts.add(&doubt(path, 1, false));
    }
    let below: Vec<_> = doubts
        .below(&place("secret/data/shop/"))
        .map(|(place, _)| place.path.as_str())
        .collect();
    assert_eq!(below, ["secret/data/shop/a", "secret/data/shop/b/c"]);
    assert_eq!((doubts.keys(), doubts.all().count()), (4, 4));
}

#[test]
fn doubts_of_one_key_add_up() {
    let mut doubts = Doubts::default();
    doubts.add(&doubt("secret/data/shop/a", 5, true));
    doubts.add(&doubt("secret/data/shop/a", 3, false));
    let merged = doubts.of(&place("secret/data/shop/a")).unwrap();
    assert_eq!((merged.since, merged.vanished), (at(5), true));
}

#[test]
fn mirrors_and_absences_are_told_apart() {
    let mut doubts = Doubts::default();
    let path = MirrorPath::parse("secret/data/shop/*");
    let of = |of: Doubted| Doubt {
        of,
        since: at(1),
        vanished: false,
    };
    doubts.add(&of(Doubted::Absence(path.configured())));
    assert!(doubts.is_absence_doubted(&path) && !doubts.is_mirror_doubted(&path));
    doubts.add(&of(Doubted::Mirror(path.configured())));
    doubts.answer(&Doubted::Absence(path.configured()), at(2));
    assert!(!doubts.is_absence_doubted(&path) && doubts.is_mirror_doubted(&path));
    assert!(!doubts.is_mirror_doubted(&MirrorPath::parse("secret/data/*")));
}
