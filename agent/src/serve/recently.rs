//! What was done lately is not done again: one throttle for look-ups and verifications.

use std::{collections::HashMap, hash::Hash, time::Duration};

use parking_lot::Mutex;
use shared::{share::entries::Entries, time::BootTime};

/// Keys and when each was last used, bounded in number. Beyond, one of the user with most of them is forgotten, which may be
/// done again then.
pub(crate) struct Recently<K> {
    period: Duration,
    most: usize,
    known: Mutex<Known<K>>,
}

struct Known<K> {
    used: HashMap<K, BootTime>,
    entries: Entries<u32, K>,
}

impl<K: Eq + Hash + Ord + Clone> Recently<K> {
    /// One use per key and `period`; at most `most` keys are remembered.
    pub(crate) fn new(period: Duration, most: usize) -> Self {
        let known = Known {
            used: HashMap::new(),
            entries: Entries::default(),
        };
        Self {
            period,
            most,
            known: Mutex::new(known),
        }
    }

    /// Whether `key` was used within the period.
    pub(crate) fn is_too_soon(&self, key: &K, now: BootTime) -> bool {
        let known = self.known.lock();
        let used = known.used.get(key);
        used.is_some_and(|at| now.since(*at) < self.period)
    }

    /// `key` is used now, by this user.
    pub(crate) fn used(&self, key: K, uid: u32, now: BootTime) {
        let known = &mut *self.known.lock();
        if let Some(gone) = known.entries.used(&key, &uid, self.most) {
            known.used.remove(&gone);
        }
        known.used.insert(key, now);
    }

    /// How many are remembered, and how many can be.
    pub(crate) fn filled(&self) -> (usize, usize) {
        (self.known.lock().used.len(), self.most)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> BootTime {
        BootTime::from_millis(seconds * 1000)
    }

    #[test]
    fn a_key_is_due_again_after_its_period() {
        let recently = Recently::new(Duration::from_secs(60), 2);
        assert!(!recently.is_too_soon(&1, at(5)));
        recently.used(1, 7, at(5));
        assert!(recently.is_too_soon(&1, at(64)));
        assert!(!recently.is_too_soon(&2, at(64)));
        assert!(!recently.is_too_soon(&1, at(65)));
    }

    #[test]
    fn keys_are_bounded_and_those_of_whoever_has_most_make_room() {
        let recently = Recently::new(Duration::from_secs(60), 4);
        recently.used(1, 7, at(1));
        for key in 10..100 {
            recently.used(key, 8, at(1));
        }
        assert_eq!(recently.filled(), (4, 4));
        assert!(
            recently.is_too_soon(&1, at(2)),
            "one user's flood is not another's"
        );
        assert!(recently.is_too_soon(&99, at(2)));
        assert!(!recently.is_too_soon(&10, at(2)), "the oldest of the flood");
    }
}
