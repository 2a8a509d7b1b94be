//! Room of which everybody has a share, so that nobody's faults take it from others.
//!
//! Nobody takes more than is left for all others: one alone gets half of it, two a third each, and so on. So who has taken
//! nothing finds room, however much the others would have.

use std::{collections::HashMap, hash::Hash, sync::Arc};

use parking_lot::Mutex;

/// So much room, shared by those who take of it. Cheap to clone.
pub(crate) struct Shares<K>(Arc<Room<K>>);

struct Room<K> {
    size: usize,
    /// How much each has taken. As many as there are who have taken something, so bounded by the size.
    taken: Mutex<HashMap<K, usize>>,
}

/// A place that is taken until this is dropped.
pub(crate) struct TakenPlace<K: Eq + Hash> {
    of: Arc<Room<K>>,
    by: K,
}

/// How many more places one may take who has taken `own`, where `left` are free.
pub(crate) fn more_for(own: usize, left: usize) -> usize {
    // Each that is taken is one more of its own, and one less for all others.
    left.saturating_add(1).saturating_sub(own) / 2
}

impl<K: Clone + Eq + Hash> Shares<K> {
    pub(crate) fn of(size: usize) -> Self {
        Self(Arc::new(Room {
            size,
            taken: Mutex::default(),
        }))
    }

    /// A place for `by`; none while its share is taken.
    pub(crate) fn take(&self, by: &K) -> Option<TakenPlace<K>> {
        let mut taken = self.0.taken.lock();
        let left = self.0.size.saturating_sub(taken.values().sum());
        let own = taken.get(by).copied().unwrap_or_default();
        if more_for(own, left) == 0 {
            return None;
        }
        taken.insert(by.clone(), own + 1);
        Some(TakenPlace {
            of: Arc::clone(&self.0),
            by: by.clone(),
        })
    }
}

impl<K> Shares<K> {
    /// How many places are taken, and how many there are.
    pub(crate) fn filled(&self) -> (usize, usize) {
        (self.0.taken.lock().values().sum(), self.0.size)
    }
}

#[cfg(test)]
impl<K: Eq + Hash> Shares<K> {
    /// How many places one has taken.
    pub(crate) fn taken(&self, by: &K) -> usize {
        self.0.taken.lock().get(by).copied().unwrap_or_default()
    }
}

impl<K> Clone for Shares<K> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<K: Eq + Hash> Drop for TakenPlace<K> {
    fn drop(&mut self) {
        let mut taken = self.of.taken.lock();
        if let Some(own) = taken.get_mut(&self.by) {
            *own = own.saturating_sub(1);
            if *own == 0 {
                taken.remove(&self.by);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// All that `by` can take.
    fn all_for(by: u32, shares: &Shares<u32>) -> Vec<TakenPlace<u32>> {
        std::iter::from_fn(|| shares.take(&by)).collect()
    }

    #[test]
    fn one_takes_half_and_the_next_a_part_of_what_is_left() {
        let shares = Shares::of(1024);
        let one = all_for(1, &shares);
        let other = all_for(2, &shares);
        assert_eq!((one.len(), other.len()), (512, 256));
        assert!(shares.take(&1).is_none());
        drop(one);
        assert!(shares.take(&1).is_some());
        drop(other);
        assert!(shares.0.taken.lock().is_empty());
    }

    #[test]
    fn room_is_bounded_and_the_last_of_it_is_for_newcomers() {
        let shares = Shares::of(8);
        let taken: Vec<_> = (0..20).flat_map(|by| all_for(by, &shares)).collect();
        assert_eq!(taken.len(), 8);
        assert!(shares.take(&99).is_none());
    }

    proptest! {
        /// What is said to be left for one is what it can take, whatever others have.
        #[test]
        fn so_many_more_are_taken_one_by_one(size in 0usize..200, others in 0usize..200, own in 0usize..200) {
            let shares = Shares::of(size);
            let _others: Vec<_> = all_for(1, &shares).into_iter().take(others).collect();
            let _own: Vec<_> = all_for(2, &shares).into_iter().take(own).collect();
            let (taken, left) = {
                let taken = shares.0.taken.lock();
                let own = taken.get(&2).copied().unwrap_or_default();
                (own, size - taken.values().sum::<usize>())
            };
            let more = all_for(2, &shares);
            prop_assert_eq!(more.len(), more_for(taken, left));
        }
    }
}
