//! What rows add up to: for each table a keyed multiset hash, so that a row which was removed, moved or put back in an
//! older version is noticed, and where.

use std::collections::BTreeMap;

use crate::{
    key::Keys,
    table::{Accounted, At, Table, Tables},
};

/// What rows add up to, as a commit says it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Sums {
    /// Each table by itself.
    Tables(Tallies),
    /// All tables of a class together, as earlier builds did.
    Classes { authority: Tally, values: Tally },
}

/// A tally for each table that has rows.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub(crate) struct Tallies(BTreeMap<Table, Tally>);

/// A keyed multiset hash over rows, and how many they are.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) struct Tally {
    pub(super) lanes: [u64; 4],
    pub(crate) rows: u64,
}

impl Tally {
    /// The row is there in this version.
    pub(crate) fn add(&mut self, keys: &Keys, at: &At, version: u64) {
        self.rows = self.rows.wrapping_add(1);
        for (lane, by) in self.lanes.iter_mut().zip(element(keys, at, version)) {
            *lane = lane.wrapping_add(by);
        }
    }

    /// The row is no longer there in this version.
    pub(crate) fn remove(&mut self, keys: &Keys, at: &At, version: u64) {
        self.rows = self.rows.wrapping_sub(1);
        for (lane, by) in self.lanes.iter_mut().zip(element(keys, at, version)) {
            *lane = lane.wrapping_sub(by);
        }
    }
}

impl Tally {
    #[must_use]
    fn plus(mut self, other: Self) -> Self {
        self.rows = self.rows.wrapping_add(other.rows);
        for (lane, by) in self.lanes.iter_mut().zip(other.lanes) {
            *lane = lane.wrapping_add(by);
        }
        self
    }
}

impl Tallies {
    /// The row is there in this version. Of tables that are not counted nothing is noted.
    pub(crate) fn add(&mut self, keys: &Keys, at: &At, version: u64) {
        if at.table.is_counted() {
            self.0.entry(at.table).or_default().add(keys, at, version);
        }
    }

    /// The row is no longer there in this version.
    pub(crate) fn remove(&mut self, keys: &Keys, at: &At, version: u64) {
        if at.table.is_counted() {
            let tally = self.0.entry(at.table).or_default();
            tally.remove(keys, at, version);
            if *tally == Tally::default() {
                self.0.remove(&at.table);
            }
        }
    }

    /// That of one table.
    pub(super) fn of(&self, table: Table) -> Tally {
        self.0.get(&table).copied().unwrap_or_default()
    }

    /// A table's is this.
    pub(super) fn set(&mut self, table: Table, tally: Tally) {
        self.0.insert(table, tally);
    }

    /// How many rows a table has.
    pub(crate) fn rows(&self, table: Table) -> u64 {
        self.of(table).rows
    }

    fn sum(&self, class: Accounted) -> Tally {
        let of_class = self
            .0
            .iter()
            .filter(|(table, _)| table.accounted() == class);
        of_class.fold(Tally::default(), |sum, (_, tally)| sum.plus(*tally))
    }
}

impl Sums {
    /// Those of a replica without rows.
    pub(super) fn none() -> Self {
        Self::Tables(Tallies::default())
    }

    /// The row is there in this version.
    pub(crate) fn add(&mut self, keys: &Keys, at: &At, version: u64) {
        match self {
            Self::Tables(tallies) => tallies.add(keys, at, version),
            Self::Classes { authority, values } => match at.table.accounted() {
                Accounted::Authority => authority.add(keys, at, version),
                Accounted::Value => values.add(keys, at, version),
                Accounted::Body | Accounted::Chain | Accounted::Loose => {}
            },
        }
    }

    /// The row is no longer there in this version.
    pub(crate) fn remove(&mut self, keys: &Keys, at: &At, version: u64) {
        match self {
            Self::Tables(tallies) => tallies.remove(keys, at, version),
            Self::Classes { authority, values } => match at.table.accounted() {
                Accounted::Authority => authority.remove(keys, at, version),
                Accounted::Value => values.remove(keys, at, version),
                Accounted::Body | Accounted::Chain | Accounted::Loose => {}
            },
        }
    }

    /// The tables whose rows are not those of the commit, where `found` are there.
    pub(crate) fn differing(&self, found: &Tallies) -> Tables {
        Tables::counted(|table| match self {
            Self::Tables(tallies) => tallies.of(table) != found.of(table),
            Self::Classes { authority, values } => {
                let class = table.accounted();
                let expected = match class {
                    Accounted::Authority => authority,
                    _ => values,
                };
                found.sum(class) != *expected
            }
        })
    }

    /// How many rows of a table there were, if that is known.
    pub(crate) fn rows(&self, table: Table) -> Option<u64> {
        match self {
            Self::Tables(tallies) => Some(tallies.rows(table)),
            Self::Classes { .. } => None,
        }
    }

    /// That of all tables of a class.
    pub(super) fn class(&self, class: Accounted) -> Tally {
        match self {
            Self::Tables(tallies) => tallies.sum(class),
            Self::Classes { authority, values } => match class {
                Accounted::Authority => *authority,
                _ => *values,
            },
        }
    }
}

fn element(keys: &Keys, at: &At, version: u64) -> [u64; 4] {
    let mac = keys.authority_mac(&[&[at.table.number()], &at.key, &version.to_le_bytes()]);
    let (lanes, _) = mac.as_chunks::<8>();
    let mut element = [0; 4];
    for (to, from) in element.iter_mut().zip(lanes) {
        *to = u64::from_le_bytes(*from);
    }
    element
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::samples::Seeded;

    fn at(key: u8) -> At {
        At {
            table: Table::Grant,
            key: [key; 32],
        }
    }

    proptest! {
        #[test]
        fn a_tally_tells_sets_apart_whatever_the_order(rows in prop::collection::btree_map(0u8..40, 0u64..5, 1..20), seed: u64) {
            let keys = Keys::ephemeral(&Seeded::new(seed)).unwrap();
            let sum = |rows: &mut dyn Iterator<Item = (&u8, &u64)>| {
                let mut tally = Tally::default();
                for (key, version) in rows {
                    tally.add(&keys, &at(*key), *version);
                }
                tally
            };
            let all = sum(&mut rows.iter());
            prop_assert_eq!(all, sum(&mut rows.iter().rev()));
            let (key, version) = rows.first_key_value().unwrap();
            prop_assert_ne!(all, sum(&mut rows.iter().skip(1)), "removed");
            let mut replayed = all;
            replayed.remove(&keys, &at(*key), *version);
            replayed.add(&keys, &at(*key), version + 100);
            prop_assert_ne!(all, replayed);
            let mut moved = all;
            moved.remove(&keys, &at(*key), *version);
            moved.add(&keys, &at(200), *version);
            prop_assert_ne!(all, moved);
        }
    }
}
