//! Turns of those who wait to be looked at: each process waits in a line of its own, behind it those of the same user, and the lines
//! take turns.
//!
//! So somebody who comes alone waits for one of each crowd, not for all of any: not for all of a crowd of the same user either, of
//! whom another process may be the workload. Users that a workload is known to run as have every other turn, and half of the room,
//! however many other users there are.

use alloc::collections::{BTreeMap, VecDeque};

/// How many may wait.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Room {
    /// In all.
    pub all: usize,
    /// Of one user.
    pub of_one: usize,
}

/// Who comes, as far as that is known of somebody who was not looked at.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Comer {
    /// Whether a workload is known to run as this user.
    pub expected: bool,
    /// The user.
    pub uid: u32,
    /// The process.
    pub pid: i32,
}

/// Those who wait.
#[derive(Debug)]
pub struct Turns<T> {
    /// Of users that a workload is known to run as.
    expected: Crowd<T>,
    /// Of all others.
    others: Crowd<T>,
    /// Whether the others are next.
    others_next: bool,
}

/// Users, and the processes of each.
type Crowd<T> = Round<u32, Round<i32, VecDeque<T>>>;

/// Lines that take turns.
#[derive(Debug)]
struct Round<K, L> {
    /// None is empty.
    lines: BTreeMap<K, L>,
    /// Each line, once: whose turn it is.
    order: VecDeque<K>,
    waiting: usize,
}

/// What can be waited in.
trait TurnLine: Default {
    type Who;

    fn len(&self) -> usize;

    /// Takes out whose turn it is.
    fn take(&mut self) -> Option<Self::Who>;

    /// Takes out the last of the longest line.
    fn take_last(&mut self) -> Option<Self::Who>;
}

/// There is no room.
struct NoTurn;

impl<T> TurnLine for VecDeque<T> {
    type Who = T;

    fn len(&self) -> usize {
        self.len()
    }

    fn take(&mut self) -> Option<T> {
        self.pop_front()
    }

    fn take_last(&mut self) -> Option<T> {
        self.pop_back()
    }
}

impl<K, L> Default for Round<K, L> {
    fn default() -> Self {
        Self {
            lines: BTreeMap::new(),
            order: VecDeque::new(),
            waiting: 0,
        }
    }
}

impl<K: Ord + Copy, L: TurnLine> TurnLine for Round<K, L> {
    type Who = L::Who;

    fn len(&self) -> usize {
        self.waiting
    }

    fn take(&mut self) -> Option<L::Who> {
        let key = self.order.pop_front()?;
        let line = self.lines.get_mut(&key)?;
        let next = line.take()?;
        self.waiting = self.waiting.saturating_sub(1);
        match line.len() {
            0 => drop(self.lines.remove(&key)),
            _ => self.order.push_back(key),
        }
        Some(next)
    }

    fn take_last(&mut self) -> Option<L::Who> {
        let longest = self.lines.iter().max_by_key(|(_, line)| line.len());
        let key = longest.map(|(key, _)| *key)?;
        self.take_last_of(key)
    }
}

impl<K: Ord + Copy, L: TurnLine> Round<K, L> {
    /// How many wait there.
    fn len_of(&self, key: K) -> usize {
        self.lines.get(&key).map_or(0, TurnLine::len)
    }

    /// Whether somebody makes room for one more of a line: the last of the longest, if that is longer than the other would be, or
    /// the other has nobody yet.
    fn makes_room(&self, key: K) -> bool {
        let own = self.len_of(key);
        let longest = self.lines.values().map(TurnLine::len).max().unwrap_or(0);
        longest > own.saturating_add(1) || (own == 0 && longest > 0)
    }

    /// One more waits in a line, where `put` puts it.
    fn put(&mut self, key: K, put: impl FnOnce(&mut L)) {
        let line = self.lines.entry(key).or_default();
        if line.len() == 0 {
            self.order.push_back(key);
        }
        put(line);
        self.waiting += 1;
    }

    fn take_last_of(&mut self, key: K) -> Option<L::Who> {
        let line = self.lines.get_mut(&key)?;
        let last = line.take_last()?;
        self.waiting = self.waiting.saturating_sub(1);
        if line.len() == 0 {
            self.lines.remove(&key);
            self.order.retain(|other| *other != key);
        }
        Some(last)
    }
}

impl<T> Default for Turns<T> {
    fn default() -> Self {
        Self {
            expected: Crowd::default(),
            others: Crowd::default(),
            others_next: false,
        }
    }
}

impl<T> Turns<T> {
    /// `newcomer` waits behind the others of its process. Who has to go is returned: the last of the longest line, or `newcomer`, if
    /// that would be the longest.
    ///
    /// At the bound of one user those are the lines of its processes. Where there is no room in all they are the users of the kind
    /// that has more than half of it, or of the newcomer's own; an expected one finds room as long as others wait.
    pub fn wait(&mut self, who: Comer, newcomer: T, room: Room) -> Option<T> {
        let Ok(gone) = self.make_room(who, room) else {
            return Some(newcomer);
        };
        self.crowds(who).0.put(who.uid, |of_user| {
            of_user.put(who.pid, |line| line.push_back(newcomer));
        });
        gone
    }

    /// Takes out whose turn it is.
    pub fn take(&mut self) -> Option<T> {
        let others_first = self.others_next;
        self.others_next = !others_first;
        match others_first {
            true => self.others.take().or_else(|| self.expected.take()),
            false => self.expected.take().or_else(|| self.others.take()),
        }
    }

    /// Whether nobody waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn len(&self) -> usize {
        self.expected.len() + self.others.len()
    }

    /// Those of a newcomer's kind, and those of the other.
    fn crowds(&mut self, who: Comer) -> (&mut Crowd<T>, &mut Crowd<T>) {
        match who.expected {
            true => (&mut self.expected, &mut self.others),
            false => (&mut self.others, &mut self.expected),
        }
    }

    /// Makes room for one more; who goes for it, if somebody has to.
    fn make_room(&mut self, who: Comer, room: Room) -> Result<Option<T>, NoTurn> {
        let is_full = self.len() >= room.all;
        let (own, other) = self.crowds(who);
        if own.len_of(who.uid) >= room.of_one {
            let of_user = own.lines.get(&who.uid);
            let makes_room = of_user.is_some_and(|of_user| of_user.makes_room(who.pid));
            return gone(makes_room.then(|| own.take_last_of(who.uid)));
        }
        if !is_full {
            return Ok(None);
        }
        if other.len() > room.all / 2 {
            return gone(Some(other.take_last()));
        }
        if own.makes_room(who.uid) {
            return gone(Some(own.take_last()));
        }
        gone(who.expected.then(|| other.take_last()))
    }
}

/// Who goes, if there is somebody.
fn gone<T>(gone: Option<Option<T>>) -> Result<Option<T>, NoTurn> {
    gone.flatten().map(Some).ok_or(NoTurn)
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use proptest::prelude::*;

    use super::*;

    const ROOM: Room = Room { all: 12, of_one: 6 };

    fn comer(uid: u32, pid: i32) -> Comer {
        Comer {
            expected: false,
            uid,
            pid,
        }
    }

    fn expected(uid: u32, pid: i32) -> Comer {
        Comer {
            expected: true,
            ..comer(uid, pid)
        }
    }

    #[test]
    fn whoever_comes_alone_waits_for_one_of_each_crowd() {
        let mut turns = Turns::default();
        for nr in 0..5 {
            assert_eq!(turns.wait(comer(1, 1), (1, nr), ROOM), None);
            assert_eq!(turns.wait(comer(2, 2), (2, nr), ROOM), None);
        }
        assert_eq!(turns.wait(comer(3, 3), (3, 0), ROOM), None);
        let first: Vec<_> = (0..4).filter_map(|_| turns.take()).collect();
        assert_eq!(first, [(1, 0), (2, 0), (3, 0), (1, 1)]);
    }

    #[test]
    fn a_crowd_loses_its_own_and_makes_room_for_others() {
        let mut turns = Turns::default();
        for nr in 0..6 {
            assert_eq!(turns.wait(comer(1, 1), (1, nr), ROOM), None);
            assert_eq!(turns.wait(comer(2, 2), (2, nr), ROOM), None);
        }
        assert_eq!(turns.wait(comer(1, 1), (1, 6), ROOM), Some((1, 6)));
        assert!(
            turns
                .wait(comer(3, 3), (3, 0), ROOM)
                .is_some_and(|(uid, nr)| uid != 3 && nr == 5)
        );
        let none = Room { all: 0, of_one: 1 };
        assert_eq!(
            Turns::default().wait(expected(4, 4), 4, none),
            Some(4),
            "nobody is there to go"
        );
    }

    #[test]
    fn a_process_that_fills_its_users_lines_makes_room_for_another_of_the_same_user() {
        for expected in [false, true] {
            let who = |pid| Comer {
                expected,
                ..comer(1, pid)
            };
            let mut turns = Turns::default();
            for nr in 0..ROOM.of_one {
                assert_eq!(turns.wait(who(7), (7, nr), ROOM), None);
            }
            assert_eq!(turns.wait(who(7), (7, 6), ROOM), Some((7, 6)));
            assert_eq!(turns.wait(who(8), (8, 0), ROOM), Some((7, 5)));
            assert_eq!(turns.wait(who(7), (7, 7), ROOM), Some((7, 7)));
            let first: Vec<_> = (0..3).filter_map(|_| turns.take()).collect();
            assert_eq!(first, [(7, 0), (8, 0), (7, 1)]);
        }
    }

    #[test]
    fn who_is_expected_finds_room_where_every_other_user_has_one() {
        let mut turns = Turns::default();
        for uid in 100..112 {
            assert_eq!(turns.wait(comer(uid, 1), uid, ROOM), None);
        }
        for nr in 0..3 {
            let gone = turns.wait(expected(1, 7), nr, ROOM);
            assert!(gone.is_some_and(|uid| uid >= 100), "{gone:?}");
        }
        // However many users come, they displace no more than each other.
        for uid in 200..1200 {
            let gone = turns.wait(comer(uid, 1), uid, ROOM);
            assert!(gone.is_some_and(|uid| uid >= 100), "{gone:?}");
        }
        let first: Vec<_> = (0..5).filter_map(|_| turns.take()).collect();
        assert!(first.iter().step_by(2).eq(&[0, 1, 2]), "{first:?}");
    }

    #[test]
    fn a_crowd_of_an_expected_user_leaves_others_half() {
        let room = Room {
            of_one: ROOM.all,
            ..ROOM
        };
        let mut turns = Turns::default();
        for nr in 0..12 {
            assert_eq!(turns.wait(expected(1, nr), (1, nr), room), None);
        }
        for uid in 100..106 {
            let gone = turns.wait(comer(uid, 1), (uid, 0), room);
            assert!(gone.is_some_and(|(uid, _)| uid == 1), "{gone:?}");
        }
        assert_eq!(turns.take(), Some((1, 0)));
        assert_eq!(turns.take(), Some((100, 0)));
    }

    fn step() -> impl Strategy<Value = Option<Comer>> {
        let comer = (0_u32..4, 0_i32..3).prop_map(|(uid, pid)| Comer {
            expected: uid == 0,
            uid,
            pid,
        });
        proptest::option::weighted(0.7, comer)
    }

    proptest! {
        /// Nobody is lost or given twice, each process's come in order, and no more wait than may.
        #[test]
        fn everybody_comes_once_and_in_its_processs_order(
            steps in proptest::collection::vec(step(), 0..200),
            of_one in 1_usize..8,
        ) {
            let room = Room { of_one, ..ROOM };
            let (mut turns, mut came, mut went) = (Turns::default(), Vec::new(), Vec::new());
            for (nr, step) in steps.iter().enumerate() {
                match step {
                    Some(who) => went.extend(turns.wait(*who, (who.uid, who.pid, nr), room)),
                    None => came.extend(turns.take()),
                }
                prop_assert!(turns.len() <= room.all);
                for crowd in [&turns.expected, &turns.others] {
                    let waiting: usize = crowd.lines.values().map(TurnLine::len).sum();
                    prop_assert_eq!(crowd.waiting, waiting);
                    prop_assert_eq!(crowd.order.len(), crowd.lines.len());
                    for of_user in crowd.lines.values() {
                        prop_assert!((1..=of_one).contains(&of_user.waiting));
                        let waiting: usize = of_user.lines.values().map(VecDeque::len).sum();
                        prop_assert_eq!(of_user.waiting, waiting);
                        prop_assert_eq!(of_user.order.len(), of_user.lines.len());
                    }
                }
            }
            came.extend(core::iter::from_fn(|| turns.take()));
            prop_assert!(turns.is_empty());
            for (uid, pid) in (0..4).flat_map(|uid| (0..3).map(move |pid| (uid, pid))) {
                let own: Vec<_> = came.iter().filter(|who| (who.0, who.1) == (uid, pid)).collect();
                prop_assert!(own.is_sorted());
            }
            let mut all = came;
            all.extend(went);
            all.sort_by_key(|(_, _, nr)| *nr);
            let put = steps.iter().enumerate().filter_map(|(nr, step)| step.map(|who| (who.uid, who.pid, nr)));
            prop_assert_eq!(all, put.collect::<Vec<_>>());
        }
    }
}
