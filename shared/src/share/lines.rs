//! Entries of a bounded map that hang on one another: one goes only after all that hang on it, and nobody is spared for having
//! built a long line of them.
//!
//! Whoever has more than its share makes room, from the ends of its lines inwards. Whoever has no more loses nothing, so what
//! stays beyond the bound is what something hangs on that must stay.

use alloc::{
    collections::{BTreeMap, BTreeSet},
    vec::Vec,
};

/// An entry, and what it hangs on.
#[derive(Clone, Debug)]
pub struct LineEntry<O, T, K> {
    /// What names it.
    pub key: K,
    /// The entry that it hangs on, if there is such a one here.
    pub above: Option<K>,
    /// Whose it is.
    pub owner: O,
    /// When it was used last: of one owner's, the least recently used makes room first.
    pub used: T,
    /// What becomes of it.
    pub hold: Hold,
}

/// What becomes of an entry where room is wanted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Hold {
    /// It takes room, and may go.
    Counts,
    /// It takes room, and stays.
    CountsAndStays,
    /// It takes none here, and goes only to free what it hangs on.
    Free,
    /// It takes none here, and stays.
    Stays,
}

impl Hold {
    const fn counts(self) -> bool {
        matches!(self, Self::Counts | Self::CountsAndStays)
    }

    const fn stays(self) -> bool {
        matches!(self, Self::CountsAndStays | Self::Stays)
    }
}

/// What one of so many may have of `most`, whatever the others do.
pub const fn share(most: usize, owners: usize) -> usize {
    match owners {
        0 => most,
        owners => most / owners,
    }
}

/// Those that make room so that `most` are left, in an order in which none goes before what hangs on it: always one of whoever has
/// most then, as long as that is more than its [`share`].
pub fn peel<O: Ord, T: Ord, K: Ord + Copy>(entries: &[LineEntry<O, T, K>], most: usize) -> Vec<K> {
    let counted = entries.iter().filter(|entry| entry.hold.counts()).count();
    if counted <= most {
        return Vec::new();
    }
    let mut lines = Lines::of(entries);
    let share = share(most, lines.by_count.len());
    let (mut left, mut gone) = (counted, Vec::new());
    while left > most
        && let Some(entry) = lines.next_beyond(share)
    {
        left -= usize::from(entry.hold.counts());
        lines.remove(entry);
        gone.push(entry.key);
    }
    gone
}

/// An end of a line that may go, in the order in which one owner's do: what takes room first, then by use.
type End<'e, T, K> = (bool, &'e T, K);

/// What one owner has.
struct Owned<'e, T, K> {
    count: usize,
    ends: BTreeSet<End<'e, T, K>>,
}

/// The entries that are left, whose they are, and what hangs on each.
struct Lines<'e, O, T, K> {
    entries: BTreeMap<K, &'e LineEntry<O, T, K>>,
    /// How many hang on an entry.
    below: BTreeMap<K, usize>,
    owners: BTreeMap<&'e O, Owned<'e, T, K>>,
    /// Those who have an end that may go, by how many entries they have.
    by_count: BTreeSet<(usize, &'e O)>,
}

impl<'e, O: Ord, T: Ord, K: Ord + Copy> Lines<'e, O, T, K> {
    fn of(all: &'e [LineEntry<O, T, K>]) -> Self {
        let entries: BTreeMap<K, _> = all.iter().map(|entry| (entry.key, entry)).collect();
        let (mut below, mut owners) = (BTreeMap::new(), BTreeMap::new());
        for entry in entries.values() {
            if let Some(above) = entry.above {
                *below.entry(above).or_default() += 1;
            }
            let owned: &mut Owned<'_, T, K> = owners.entry(&entry.owner).or_default();
            owned.count += usize::from(entry.hold.counts());
        }
        let by_count = owners.iter().map(|(owner, owned)| (owned.count, *owner));
        let by_count = by_count.filter(|(count, _)| *count > 0).collect();
        let mut lines = Self {
            entries,
            below,
            owners,
            by_count,
        };
        for entry in all {
            lines.may_go(entry);
        }
        lines
    }

    /// The next to go: an end of whoever has most, and more than `share`. Who has none that may go is passed over, until
    /// another's end that hung on one of its own has gone.
    fn next_beyond(&mut self, share: usize) -> Option<&'e LineEntry<O, T, K>> {
        while let Some((count, owner)) = self.by_count.last().copied()
            && count > share
        {
            let end = self.owners.get(owner).and_then(|owned| owned.ends.first());
            match end {
                Some((_, _, key)) => return self.entries.get(key).copied(),
                None => self.by_count.remove(&(count, owner)),
            };
        }
        None
    }

    fn remove(&mut self, entry: &'e LineEntry<O, T, K>) {
        self.entries.remove(&entry.key);
        if let Some(owned) = self.owners.get_mut(&entry.owner) {
            self.by_count.remove(&(owned.count, &entry.owner));
            owned.ends.remove(&end(entry));
            owned.count -= usize::from(entry.hold.counts());
            self.by_count.insert((owned.count, &entry.owner));
        }
        let Some(above) = entry.above else { return };
        if let Some(below) = self.below.get_mut(&above) {
            *below -= 1;
        }
        if let Some(above) = self.entries.get(&above).copied() {
            self.may_go(above);
        }
    }

    /// Notes an entry that may go, if it is one.
    fn may_go(&mut self, entry: &'e LineEntry<O, T, K>) {
        let is_end = self.below.get(&entry.key).is_none_or(|below| *below == 0);
        // What takes no room is worth removing only where it is in the way.
        let frees = entry.hold.counts() || entry.above.is_some();
        if !is_end || !frees || entry.hold.stays() {
            return;
        }
        if let Some(owned) = self.owners.get_mut(&entry.owner) {
            owned.ends.insert(end(entry));
            self.by_count.insert((owned.count, &entry.owner));
        }
    }
}

impl<T, K> Default for Owned<'_, T, K> {
    fn default() -> Self {
        Self {
            count: 0,
            ends: BTreeSet::new(),
        }
    }
}

fn end<O, T, K: Copy>(entry: &LineEntry<O, T, K>) -> End<'_, T, K> {
    (!entry.hold.counts(), &entry.used, entry.key)
}

#[cfg(test)]
mod tests;
