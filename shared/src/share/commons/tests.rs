//! Claims about what is kept in common, whoever keeps how much.

use alloc::vec::Vec;

use proptest::prelude::*;

use super::{Amount, Commons, Growth};

const COMMON: Amount = Amount {
    entries: 160,
    bytes: 16_000,
};

fn amount(entries: u64, bytes: u64) -> Amount {
    Amount { entries, bytes }
}

fn keep(commons: &mut Commons, of: &str, entries: u64, bytes: u64) -> bool {
    commons.keep(of, Amount::default(), amount(entries, bytes), Growth::New)
}

#[test]
fn one_has_what_is_in_common_and_every_other_its_part() {
    let mut commons = Commons::new(COMMON, 4);
    assert!(keep(&mut commons, "a", 150, 15_000));
    assert!(!commons.has_room("a"));
    assert!(
        !keep(&mut commons, "a", 1, 1),
        "a sixteenth is left for what is kept"
    );
    let grown = amount(10, 1000);
    assert!(commons.keep("a", amount(5, 500), grown, Growth::Kept));
    assert!(!commons.keep("a", amount(5, 500), amount(30, 600), Growth::Kept));
    for other in ["b", "c", "d"] {
        assert!(commons.has_room(other));
        assert!(keep(&mut commons, other, 37, 3750));
        assert!(!keep(&mut commons, other, 1, 1));
    }
    assert!(commons.all().entries <= commons.most().entries);
    // What is smaller than before is kept whatever there is.
    assert!(commons.keep("b", amount(37, 3750), amount(37, 3700), Growth::Kept));
}

#[test]
fn what_was_counted_counts() {
    let mut commons = Commons::new(COMMON, 2);
    commons.set("a", amount(500, 1));
    assert!(!commons.has_room("a") && commons.has_room("b"));
    commons.set("a", amount(5, 1));
    assert_eq!(commons.all(), amount(5, 1));
    assert!(commons.has_room("a"));
    assert!(commons.all().is_below(amount(5, 2)) && !commons.all().is_below(amount(5, 1)));
}

proptest! {
    /// Whatever is kept and goes in whatever order: nobody's part is taken by others, and the whole has its bound.
    #[test]
    fn nobody_takes_another_s_part(
        acts in prop::collection::vec((0_usize..4, 0_u64..40, 0_u64..4000, any::<bool>()), 0..200),
    ) {
        let names = ["a", "b", "c", "d"];
        let mut commons = Commons::new(COMMON, names.len());
        let mut kept = Vec::from([Amount::default(); 4]);
        for (of, entries, bytes, is_new) in acts {
            let growth = if is_new { Growth::New } else { Growth::Kept };
            // All of it is replaced, or there is more.
            let from = if is_new { Amount::default() } else { kept[of] };
            let to = amount(entries, bytes);
            let after = kept[of] - from + to;
            let own = COMMON.map(|one| one / 4);
            let must = match growth {
                Growth::Kept => after.entries <= own.entries && after.bytes <= own.bytes,
                Growth::New => after.entries <= own.entries * 15 / 16 && after.bytes <= own.bytes * 15 / 16,
            };
            let did = commons.keep(names[of], from, to, growth);
            prop_assert!(did || !must, "its own part was not free");
            if did {
                kept[of] = after;
            }
            let all: Amount = kept.iter().copied().sum();
            prop_assert_eq!(commons.all(), all);
            prop_assert!(all.entries <= commons.most().entries && all.bytes <= commons.most().bytes);
        }
    }
}
