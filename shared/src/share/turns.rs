//! Turns of those who wait to be looked at: a user's crowd waits in a line of its own, and the lines take turns.
//!
//! So somebody who comes alone waits for one of each crowd, not for all of any.

use alloc::collections::{BTreeMap, VecDeque};

/// How many may wait.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Room {
    /// In all.
    pub all: usize,
    /// Of one user.
    pub of_one: usize,
}

/// Those who wait.
#[derive(Debug)]
pub struct Turns<T> {
    /// No line is empty.
    lines: BTreeMap<u32, VecDeque<T>>,
    /// Each user that has a line, once: whose turn it is.
    order: VecDeque<u32>,
    waiting: usize,
}

impl<T> Default for Turns<T> {
    fn default() -> Self {
        Self {
            lines: BTreeMap::new(),
            order: VecDeque::new(),
            waiting: 0,
        }
    }
}

impl<T> Turns<T> {
    /// `newcomer` waits behind the others of its user. Who has to go is returned: `newcomer`, if its user has as many as one
    /// may, or if there is no room and no line is longer than its own would be; otherwise the last of the longest line.
    pub fn wait(&mut self, uid: u32, newcomer: T, room: Room) -> Option<T> {
        let own = self.lines.get(&uid).map_or(0, VecDeque::len);
        if own >= room.of_one {
            return Some(newcomer);
        }
        let instead = match self.waiting >= room.all {
            true => match self.last_of_longest(own) {
                Some(last) => Some(last),
                None => return Some(newcomer),
            },
            false => None,
        };
        let line = self.lines.entry(uid).or_default();
        if line.is_empty() {
            self.order.push_back(uid);
        }
        line.push_back(newcomer);
        self.waiting += 1;
        instead
    }

    /// Takes out whose turn it is.
    pub fn take(&mut self) -> Option<T> {
        let uid = self.order.pop_front()?;
        let line = self.lines.get_mut(&uid)?;
        let next = line.pop_front()?;
        self.waiting = self.waiting.saturating_sub(1);
        match line.is_empty() {
            true => drop(self.lines.remove(&uid)),
            false => self.order.push_back(uid),
        }
        Some(next)
    }

    /// Whether nobody waits.
    pub fn is_empty(&self) -> bool {
        self.waiting == 0
    }

    /// Takes out the last of the longest line, if that is longer than a line of `own` and one more.
    fn last_of_longest(&mut self, own: usize) -> Option<T> {
        let line = self.lines.values_mut().max_by_key(|line| line.len())?;
        let is_longer = line.len() > own.saturating_add(1);
        let last = is_longer.then(|| line.pop_back()).flatten()?;
        self.waiting = self.waiting.saturating_sub(1);
        Some(last)
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use proptest::prelude::*;

    use super::*;

    const ROOM: Room = Room { all: 12, of_one: 6 };

    #[test]
    fn whoever_comes_alone_waits_for_one_of_each_crowd() {
        let mut turns = Turns::default();
        for nr in 0..5 {
            assert_eq!(turns.wait(1, (1, nr), ROOM), None);
            assert_eq!(turns.wait(2, (2, nr), ROOM), None);
        }
        assert_eq!(turns.wait(3, (3, 0), ROOM), None);
        let first: Vec<_> = (0..4).filter_map(|_| turns.take()).collect();
        assert_eq!(first, [(1, 0), (2, 0), (3, 0), (1, 1)]);
    }

    #[test]
    fn a_crowd_loses_its_own_and_makes_room_for_others() {
        let mut turns = Turns::default();
        for nr in 0..6 {
            assert_eq!(turns.wait(1, (1, nr), ROOM), None);
            assert_eq!(turns.wait(2, (2, nr), ROOM), None);
        }
        assert_eq!(turns.wait(1, (1, 6), ROOM), Some((1, 6)));
        assert!(
            turns
                .wait(3, (3, 0), ROOM)
                .is_some_and(|(uid, nr)| uid != 3 && nr == 5)
        );
        assert_eq!(
            turns
                .wait(4, (4, 0), Room { all: 0, of_one: 1 })
                .map(|(uid, _)| uid == 4),
            Some(false)
        );
    }

    proptest! {
        /// Nobody is lost or given twice, each user's come in order, and no more wait than may.
        #[test]
        fn everybody_comes_once_and_in_its_users_order(
            steps in proptest::collection::vec(proptest::option::weighted(0.7, 0_u32..4), 0..200),
        ) {
            let (mut turns, mut came, mut went) = (Turns::default(), Vec::new(), Vec::new());
            for (nr, step) in steps.iter().enumerate() {
                match step {
                    Some(uid) => went.extend(turns.wait(*uid, (*uid, nr), ROOM)),
                    None => came.extend(turns.take()),
                }
                prop_assert!(turns.waiting <= ROOM.all);
                let waiting: usize = turns.lines.values().map(VecDeque::len).sum();
                prop_assert_eq!(turns.waiting, waiting);
                prop_assert_eq!(turns.order.len(), turns.lines.len());
            }
            came.extend(core::iter::from_fn(|| turns.take()));
            prop_assert!(turns.is_empty());
            for uid in 0..4 {
                let own: Vec<_> = came.iter().filter(|(of, _)| *of == uid).collect();
                prop_assert!(own.is_sorted());
            }
            let mut all = came;
            all.extend(went);
            all.sort_by_key(|(_, nr)| *nr);
            let put: Vec<_> = steps.iter().enumerate().filter_map(|(nr, step)| step.map(|uid| (uid, nr))).collect();
            prop_assert_eq!(all, put);
        }
    }
}
