//! Places at a table that is full most of the time because many sit there and want nothing: connections.
//!
//! A place is not kept for those who may come. Instead, one who finds none gets that of the longest waiting of those who
//! have most, as long as they have more. To wait is to be expected to speak next; whoever is being answered keeps its place.

use alloc::collections::{BTreeMap, BTreeSet};

use super::{Holdings, Party, Total};

/// The number of a place, which is never given twice.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Seat(u64);

/// How many places there are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Places {
    /// In all, and for whom.
    pub total: Total,
    /// For one user, and for one unit, as a workload and otherwise.
    pub of_one: u64,
}

/// What whoever has a place is about.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Waiting {
    /// It has said nothing, or was answered.
    Idle,
    /// It has begun to say something.
    Begun,
}

/// A place that was given.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Given {
    /// It.
    pub seat: Seat,
    /// Whose place it was until now.
    pub instead_of: Option<Seat>,
}

/// Why none was.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NoSeat {
    /// All are taken, and by nobody who has more and waits.
    All,
    /// Whoever asks has as many as one may.
    OfOne,
}

/// Who sits where.
#[derive(Default, Debug)]
pub struct Seats {
    taken: Holdings,
    seats: BTreeMap<Seat, (Party, Option<Turn>)>,
    waiting: BTreeMap<Party, BTreeSet<(Turn, Seat)>>,
    turns: u64,
    given: u64,
}

/// Since when somebody waits, as a number: less is longer, and the idle before all others.
type Turn = (Waiting, u64);

impl Seats {
    /// Gives a place to `party`, which waits there.
    ///
    /// # Errors
    /// If it has as many as one may, or all are taken and nobody has to make room.
    pub fn take(&mut self, party: &Party, places: Places) -> Result<Given, NoSeat> {
        if self.taken.of(party) >= places.of_one {
            return Err(NoSeat::OfOne);
        }
        let instead_of = match self.taken.free(party, places.total) {
            0 => Some(self.makes_room(party, places.total).ok_or(NoSeat::All)?),
            _ => None,
        };
        instead_of.inspect(|seat| self.leave(*seat));
        self.given = self.given.wrapping_add(1);
        let seat = Seat(self.given);
        self.taken.add(party, 1);
        self.seats.insert(seat, (party.clone(), None));
        self.waits(seat, Waiting::Idle);
        Ok(Given { seat, instead_of })
    }

    /// Whoever sits there is expected to speak.
    pub fn waits(&mut self, seat: Seat, waiting: Waiting) {
        self.turns = self.turns.wrapping_add(1);
        self.set(seat, Some((waiting, self.turns)));
    }

    /// Whoever sits there is being answered, if the place is still theirs.
    #[must_use]
    pub fn is_answered(&mut self, seat: Seat) -> bool {
        self.set(seat, None);
        self.seats.contains_key(&seat)
    }

    /// The place is free. So it may be already.
    pub fn leave(&mut self, seat: Seat) {
        self.set(seat, None);
        if let Some((party, _)) = self.seats.remove(&seat) {
            self.taken.sub(&party, 1);
        }
    }

    /// Frees the place of the longest waiting of those who have most: of those whom no entry matches, if one of them waits.
    pub fn free_one(&mut self) -> Option<Seat> {
        let of_others = self.first_of(|party, _| !party.matched);
        let seat = of_others.or_else(|| self.first_of(|_, _| true))?;
        self.leave(seat);
        Some(seat)
    }

    /// Places that are taken.
    pub fn taken(&self) -> u64 {
        self.taken.all()
    }

    fn set(&mut self, seat: Seat, turn: Option<Turn>) {
        let Some((party, before)) = self.seats.get_mut(&seat) else {
            return;
        };
        let before = core::mem::replace(before, turn);
        if let (Some(before), Some(of_party)) = (before, self.waiting.get_mut(party)) {
            of_party.remove(&(before, seat));
            if of_party.is_empty() && turn.is_none() {
                self.waiting.remove(party);
            }
        }
        let Some(turn) = turn else { return };
        match self.waiting.get_mut(party) {
            Some(of_party) => drop(of_party.insert((turn, seat))),
            None => drop(self.waiting.insert(party.clone(), [(turn, seat)].into())),
        }
    }

    /// Whose place `party` gets. A workload gets one of those whom no entry matches, whatever they have; they never get a
    /// workload's. Among their own, whoever would still have as many as the other keeps what it has.
    fn makes_room(&self, party: &Party, total: Total) -> Option<Seat> {
        let has = self.taken.of(party);
        let outranks = |other: &Party| total.halved && party.matched && !other.matched;
        self.first_of(|other, _| outranks(other)).or_else(|| {
            self.first_of(|other, others| {
                let has_more = others > has.saturating_add(1) || has == 0;
                other.matched == party.matched && has_more
            })
        })
    }

    /// The longest waiting of those who have most of such as may be asked.
    fn first_of(&self, may_be: impl Fn(&Party, u64) -> bool) -> Option<Seat> {
        let waiting = self.waiting.iter().map(|(party, seats)| {
            let first = seats.first();
            (self.taken.of(party), party, first)
        });
        let may_be = waiting.filter(|(has, party, _)| may_be(party, *has));
        let most = may_be.max_by(|(one, _, first), (other, _, second)| {
            one.cmp(other).then_with(|| second.cmp(first))
        });
        most.and_then(|(_, _, first)| first.map(|(_, seat)| *seat))
    }
}
