//! Epochs of record keys: how many encryptions are left under the present key, and when it ends.
//!
//! Every encryption takes the next number of one counter that never runs back; the number is the row's version.
//! Numbers are used only after a commit has put their end on disk, so a crash can skip some but repeat none, and
//! the count of an epoch is never too low. NIST SP 800-38D allows 2^32 random nonces a key; an epoch ends at half.

use std::time::Duration;

use shared::time::WallTime;

/// Numbers reserved at a time: one extra commit in so many encryptions at worst.
pub const BLOCK: u64 = 1 << 16;

/// So many numbers are passed over at least where some may have been taken that nobody knows of: more than a replica takes in an
/// age, and few enough that a million such starts do not use up what SQLite can store.
const BEYOND: u64 = 1 << 40;

/// Where an epoch ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// After this many encryptions.
    pub encryptions: u64,
    /// At this age.
    pub age: Duration,
}

impl Default for Limits {
    /// 2^31 encryptions or 30 days.
    fn default() -> Self {
        Self {
            encryptions: 1 << 31,
            age: Duration::from_secs(30 * 24 * 3600),
        }
    }
}

/// The counter, and the epoch that it is in.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Budget {
    epoch: u32,
    first: u64,
    began: Option<WallTime>,
    next: u64,
    reserved: u64,
}

/// What of a budget is on disk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Reserve {
    /// The epoch.
    pub epoch: u32,
    /// The first number of the epoch.
    pub first: u64,
    /// When the epoch began, once a clock was seen in it.
    pub began: Option<WallTime>,
    /// Every number below may have been used.
    pub reserved: u64,
}

impl Budget {
    /// The budget of a replica that is being made: its first block counts as reserved, for there is no row before
    /// the commit that says so.
    pub(crate) fn fresh() -> Self {
        Self {
            epoch: 1,
            first: 1,
            began: None,
            next: 1,
            reserved: 1 + BLOCK,
        }
    }

    /// One that is never written down, for a view without a store.
    pub(crate) fn unbounded() -> Self {
        Self {
            reserved: u64::MAX,
            ..Self::fresh()
        }
    }

    /// After a start: all that is reserved on disk may have been used. One number beyond is taken, for the header that
    /// reserves the next block; a start that fails before that commit uses it again, in a header only.
    pub(crate) fn resume(stored: Reserve) -> Self {
        Self {
            epoch: stored.epoch,
            first: stored.first,
            began: stored.began,
            next: stored.reserved,
            reserved: stored.reserved.saturating_add(1),
        }
    }

    /// The same after a start at which the file may be older than it was: what was sealed since took numbers that it knows nothing
    /// of. So it goes on far beyond, at a place that `random` chooses, lest two such starts go on at one. With that the epoch is
    /// over.
    pub(crate) fn resume_beyond(stored: Reserve, random: u64) -> Self {
        let beyond = BEYOND.saturating_add(random % BEYOND);
        Self::resume(Reserve {
            reserved: stored.reserved.saturating_add(beyond),
            ..stored
        })
    }

    /// The present epoch.
    pub(crate) fn epoch(&self) -> u32 {
        self.epoch
    }

    /// The next number; none beyond what is reserved on disk.
    pub(crate) fn take(&mut self) -> Option<u64> {
        let number = Some(self.next).filter(|next| *next < self.reserved)?;
        self.next += 1;
        Some(number)
    }

    /// The next number, for the header of the commit that puts a reservation on disk: after a start there is only one before
    /// it, and a disk that does not take that commit has it tried again. A start after that uses them again, in headers only.
    pub(crate) fn admit_header(&mut self) {
        self.reserved = self.reserved.max(self.next.saturating_add(1));
    }

    /// How many are left of what is reserved.
    pub(crate) fn left(&self) -> u64 {
        self.reserved.saturating_sub(self.next)
    }

    /// Begins a new epoch if the present one is over.
    pub(crate) fn roll(&mut self, limits: Limits, now: WallTime) -> bool {
        let began = *self.began.get_or_insert(now);
        let spent = self.next.saturating_sub(self.first);
        // What is reserved may be used without asking again, so an epoch ends a block early.
        let over = spent.saturating_add(BLOCK.min(limits.encryptions / 2)) >= limits.encryptions;
        if !over && now.since(began) < limits.age {
            return false;
        }
        self.epoch = self.epoch.saturating_add(1);
        self.first = self.next;
        self.began = Some(now);
        true
    }

    /// What the next commit should put on disk: a further block where less than half of one is left, or less than
    /// `wanted`.
    pub(crate) fn reserve(&self, wanted: u64) -> Reserve {
        let reserved = if self.left() < wanted.max(BLOCK / 2) {
            self.next.saturating_add(wanted).saturating_add(BLOCK)
        } else {
            self.reserved
        };
        Reserve {
            epoch: self.epoch,
            first: self.first,
            began: self.began,
            reserved,
        }
    }

    /// `stored` is on disk.
    pub(crate) fn reserved(&mut self, stored: Reserve) {
        self.reserved = self.reserved.max(stored.reserved);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: WallTime = WallTime::from_secs(1_000_000);

    #[test]
    fn nothing_is_used_before_it_is_reserved() {
        let mut budget = Budget::resume(Budget::fresh().reserve(0));
        assert_eq!(
            budget.take(),
            Some(1 + BLOCK),
            "for the header that reserves"
        );
        let stored = budget.reserve(3);
        assert_eq!(budget.take(), None, "not on disk yet");
        budget.reserved(stored);
        assert_eq!(budget.take(), Some(2 + BLOCK));
    }

    #[test]
    fn a_crash_skips_numbers_and_repeats_none() {
        let mut budget = Budget::fresh();
        let stored = budget.reserve(0);
        let used: Vec<u64> = (0..5).map(|_| budget.take().unwrap()).collect();
        let mut again = Budget::resume(stored);
        let next = again.reserve(1);
        again.reserved(next);
        assert!(used.iter().all(|number| *number < again.take().unwrap()));
    }

    #[test]
    fn what_may_be_older_goes_on_beyond_all_that_was_taken_since_and_in_a_new_epoch() {
        let stored = Budget::fresh().reserve(0);
        let mut budget = Budget::resume_beyond(stored, 7);
        assert!(budget.take().unwrap() >= stored.reserved + (1 << 40));
        assert!(budget.take().is_none(), "nothing is reserved yet");
        assert!(budget.roll(Limits::default(), NOW));
        assert!(budget.epoch() > stored.epoch);
        let other = Budget::resume_beyond(stored, 1 << 30);
        assert!(other.next.abs_diff(budget.next) > 1 << 29);
        // However often.
        let often = (0..1 << 20).fold(stored, |stored, _| {
            Budget::resume_beyond(stored, u64::MAX).reserve(1)
        });
        assert!(i64::try_from(often.reserved).is_ok());
    }

    #[test]
    fn an_epoch_ends_at_its_count_and_at_its_age() {
        let limits = Limits {
            encryptions: 100,
            age: Duration::from_secs(3600),
        };
        let mut budget = Budget::fresh();
        assert!(!budget.roll(limits, NOW));
        for _ in 0..50 {
            budget.take().unwrap();
        }
        assert!(
            budget.roll(limits, NOW),
            "half of a small limit is kept as reserve"
        );
        assert_eq!(budget.epoch(), 2);
        assert!(!budget.roll(limits, NOW.plus(Duration::from_secs(3599))));
        assert!(budget.roll(limits, NOW.plus(Duration::from_secs(3600))));
        assert_eq!(budget.epoch(), 3);
    }

    #[test]
    fn the_count_of_an_epoch_survives_a_restart() {
        let limits = Limits {
            encryptions: 4 * BLOCK,
            age: Duration::MAX,
        };
        let mut budget = Budget::fresh();
        let mut starts = 0;
        while !budget.roll(limits, NOW) {
            let stored = budget.reserve(1);
            budget = Budget::resume(stored);
            let stored = budget.reserve(1);
            budget.reserved(stored);
            starts += 1;
            assert!(starts < 10, "restarts never end the epoch");
        }
        assert!(budget.next - 1 <= limits.encryptions);
    }
}
