//! Which roles were found to be gone, and when: what was read of one before that must not put it back.

use alloc::collections::BTreeMap;

use super::RoleKey;
use crate::time::WallTime;

/// Roles that are remembered each by itself. Readings are under way for seconds, so these are few.
const MOST: usize = 256;

/// When roles were found to be gone. Kept in memory alone: no reading outlives the process.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RolesGone {
    at: BTreeMap<RoleKey, WallTime>,
    /// Stands for all that had to make room: nothing that was read before counts of any role that is not known.
    all: WallTime,
}

impl Default for RolesGone {
    fn default() -> Self {
        Self {
            at: BTreeMap::new(),
            all: WallTime::EPOCH,
        }
    }
}

impl RolesGone {
    /// Notes that the primary has shown at `at` that there is no such role.
    pub fn note(&mut self, key: RoleKey, at: WallTime) {
        let found = self.at.entry(key).or_insert(at);
        *found = at.max(*found);
        while self.at.len() > MOST {
            self.forget_the_oldest();
        }
    }

    /// Whether the role was found to be gone after somebody began to read it at `asked_at`, or at the same moment.
    pub fn is_overtaken(&self, key: &RoleKey, asked_at: WallTime) -> bool {
        let found = self.at.get(key).copied().unwrap_or(self.all).max(self.all);
        found > WallTime::EPOCH && asked_at <= found
    }

    fn forget_the_oldest(&mut self) {
        let oldest = self.at.iter().min_by_key(|(_, at)| **at);
        if let Some((key, at)) = oldest.map(|(key, at)| (key.clone(), *at)) {
            self.all = self.all.max(at);
            self.at.remove(&key);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::name::{MountAccessor, RoleName};

    fn key(nr: usize) -> RoleKey {
        RoleKey {
            mount: MountAccessor::parse("auth_approle_1").unwrap(),
            name: RoleName::parse(&alloc::format!("role-{nr}")).unwrap(),
        }
    }

    fn at(secs: i64) -> WallTime {
        WallTime::from_secs(secs)
    }

    #[test]
    fn only_what_was_asked_for_later_brings_a_role_back() {
        let mut gone = RolesGone::default();
        assert!(!gone.is_overtaken(&key(1), at(1)));
        gone.note(key(1), at(10));
        gone.note(key(1), at(5));
        assert!(gone.is_overtaken(&key(1), at(10)) && !gone.is_overtaken(&key(1), at(11)));
        assert!(!gone.is_overtaken(&key(2), at(1)));
    }

    proptest! {
        #[test]
        fn however_many_are_gone_it_stays_small_and_none_comes_back(
            found in proptest::collection::vec((0..600usize, 1..1_000i64), 0..900),
        ) {
            let mut gone = RolesGone::default();
            for (nr, secs) in &found {
                gone.note(key(*nr), at(*secs));
                prop_assert!(gone.at.len() <= MOST);
            }
            for (nr, secs) in found {
                prop_assert!(gone.is_overtaken(&key(nr), at(secs)));
            }
        }
    }
}
