//! Entries of a bounded map of which each is somebody's: the one that makes room is the least recently used of whoever has
//! most, so that nobody can fill it for others.

use alloc::{collections::BTreeMap, vec::Vec};

/// Which entries there are, whose, and in which order they were used. Their values are kept elsewhere.
#[derive(Clone, Debug)]
pub struct Entries<O, K> {
    turns: u64,
    entries: BTreeMap<K, (O, u64)>,
    owners: BTreeMap<O, BTreeMap<u64, K>>,
}

impl<O, K> Default for Entries<O, K> {
    fn default() -> Self {
        Self {
            turns: 0,
            entries: BTreeMap::new(),
            owners: BTreeMap::new(),
        }
    }
}

impl<O: Ord + Clone, K: Ord + Clone> Entries<O, K> {
    /// `key` is used, and `owner`'s from here on. If there were more than `most` then, another one is no more: that one is
    /// returned.
    pub fn used(&mut self, key: &K, owner: &O, most: usize) -> Option<K> {
        self.remove(key);
        let gone = (self.entries.len() >= most).then(|| self.first_of_most());
        let gone = gone.flatten().inspect(|gone| self.remove(gone));
        self.turns = self.turns.wrapping_add(1);
        self.entries
            .insert(key.clone(), (owner.clone(), self.turns));
        let of_owner = self.owners.entry(owner.clone()).or_default();
        of_owner.insert(self.turns, key.clone());
        gone
    }

    /// `key` is no more.
    pub fn remove(&mut self, key: &K) {
        let Some((owner, turn)) = self.entries.remove(key) else {
            return;
        };
        if let Some(of_owner) = self.owners.get_mut(&owner) {
            of_owner.remove(&turn);
            if of_owner.is_empty() {
                self.owners.remove(&owner);
            }
        }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The least recently used one of whoever has most.
    fn first_of_most(&self) -> Option<K> {
        let most = self.owners.values().max_by_key(|entries| entries.len());
        most?.first_key_value().map(|(_, key)| key.clone())
    }
}

/// Those that make room so that `most` are left, where each is somebody's and was used at some time: in the order in which they
/// do, the least recently used of whoever has most then.
pub fn beyond<O: Ord, T: Ord, K>(
    entries: impl IntoIterator<Item = (O, T, K)>,
    most: usize,
) -> Vec<K> {
    let mut owners: BTreeMap<O, Vec<(T, K)>> = BTreeMap::new();
    let mut all = 0_usize;
    for (owner, used, key) in entries {
        owners.entry(owner).or_default().push((used, key));
        all += 1;
    }
    let mut by_count: BTreeMap<usize, Vec<Vec<(T, K)>>> = BTreeMap::new();
    for mut of_owner in owners.into_values() {
        // The least recently used is taken first, from the end.
        of_owner.sort_by(|(one, _), (other, _)| other.cmp(one));
        by_count.entry(of_owner.len()).or_default().push(of_owner);
    }
    let mut gone = Vec::new();
    while all - gone.len() > most
        && let Some((count, mut owners)) = by_count.pop_last()
    {
        let of_owner = owners.pop();
        if !owners.is_empty() {
            by_count.insert(count, owners);
        }
        let Some(mut of_owner) = of_owner else {
            continue;
        };
        gone.extend(of_owner.pop().map(|(_, key)| key));
        by_count.entry(of_owner.len()).or_default().push(of_owner);
    }
    gone
}
