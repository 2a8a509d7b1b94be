//! Whose the grants are: so many of each user, of whatever kind, so that one who has its share is told from all others at once.

use std::collections::BTreeMap;

use parking_lot::{Mutex, MutexGuard};

use shared::share::lines::share;

/// A user, or that nobody knows whose it is.
pub type Owner = Option<u32>;

/// How many grants each has. Whoever has none is not in it.
#[derive(Default)]
pub(super) struct Owners {
    counts: Mutex<OwnerCounts>,
}

/// So many of each.
#[derive(Default)]
pub(super) struct OwnerCounts(BTreeMap<Owner, usize>);

impl Owners {
    /// Held while grants come, go, or change hands, so that each is counted once: for a few instructions, never over a wait.
    pub(super) fn lock(&self) -> MutexGuard<'_, OwnerCounts> {
        self.counts.lock()
    }
}

impl OwnerCounts {
    pub(super) fn add(&mut self, owner: Owner) {
        *self.0.entry(owner).or_default() += 1;
    }

    pub(super) fn remove(&mut self, owner: Owner) {
        let Some(count) = self.0.get_mut(&owner) else {
            return;
        };
        *count -= 1;
        if *count == 0 {
            self.0.remove(&owner);
        }
    }

    pub(super) fn all(&self) -> usize {
        self.0.values().sum()
    }

    /// Whether `owner` has less than its share of `most`.
    pub(super) fn has_share_left(&self, owner: Owner, most: usize) -> bool {
        let has = self.0.get(&owner).copied().unwrap_or(0);
        let others = self.0.len() - usize::from(has > 0);
        has < share(most, others + 1)
    }
}

impl FromIterator<Owner> for OwnerCounts {
    fn from_iter<I: IntoIterator<Item = Owner>>(owners: I) -> Self {
        let mut counts = Self::default();
        owners.into_iter().for_each(|owner| counts.add(owner));
        counts
    }
}
