//! What was done lately is not done again: one throttle for look-ups and verifications.

use std::{collections::HashMap, hash::Hash, time::Duration};

use parking_lot::Mutex;
use shared::time::BootTime;

/// Keys and when each was last used, bounded in number.
pub(crate) struct Recently<K> {
    period: Duration,
    capacity: usize,
    used: Mutex<HashMap<K, BootTime>>,
}

impl<K: Eq + Hash> Recently<K> {
    /// One use per key and `period`; at most `capacity` keys are remembered.
    pub(crate) fn new(period: Duration, capacity: usize) -> Self {
        Self {
            period,
            capacity,
            used: Mutex::default(),
        }
    }

    /// Whether `key` was used within the period, or could not be remembered as used.
    pub(crate) fn is_too_soon(&self, key: &K, now: BootTime) -> bool {
        let mut used = self.used.lock();
        if used.len() >= self.capacity && !used.contains_key(key) {
            used.retain(|_, at| now.since(*at) < self.period);
            return used.len() >= self.capacity;
        }
        used.get(key).is_some_and(|at| now.since(*at) < self.period)
    }

    /// Whether `key` is remembered as used within the period.
    pub(crate) fn was_used(&self, key: &K, now: BootTime) -> bool {
        let used = self.used.lock();
        used.get(key).is_some_and(|at| now.since(*at) < self.period)
    }

    /// `key` is used now.
    pub(crate) fn used(&self, key: K, now: BootTime) {
        self.used.lock().insert(key, now);
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
        recently.used(1, at(5));
        assert!(recently.is_too_soon(&1, at(64)));
        assert!(!recently.is_too_soon(&2, at(64)));
        assert!(!recently.is_too_soon(&1, at(65)));
    }

    #[test]
    fn keys_are_bounded_and_old_ones_make_room() {
        let recently = Recently::new(Duration::from_secs(60), 2);
        recently.used(1, at(1));
        recently.used(2, at(1));
        assert!(recently.is_too_soon(&3, at(2)));
        assert!(!recently.is_too_soon(&3, at(61)));
    }
}
