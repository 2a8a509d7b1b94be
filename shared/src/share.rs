//! How what there is only so much of is shared among those who ask for it: places at the socket, bytes, entries of maps.
//!
//! Shares are counted by uid and by unit, for those whom a workload entry matches apart from all others: a process that
//! merely runs as a workload's user takes nothing of the workload's. Once there is an entry, those who match none have half
//! of everything between them.

use alloc::{borrow::ToOwned, collections::BTreeMap, string::String, sync::Arc};
use core::borrow::Borrow;

use crate::name::WorkloadName;

pub mod amounts;
pub mod commons;
pub mod entries;
pub mod lines;
pub mod seats;
pub mod turns;

#[cfg(test)]
mod tests;

/// Whom a share is counted to.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Party {
    /// Whether a workload entry matches.
    pub matched: bool,
    /// The user.
    pub uid: u32,
    /// The systemd unit.
    pub unit: Option<String>,
}

/// Who takes of an amount.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Sharer {
    /// Whoever asks for something.
    Party(Arc<Party>),
    /// A workload, for what is asked in its name: its services take nothing from others of the same user.
    Workload(WorkloadName),
}

/// By what a share is counted: each of these that is there has one.
#[derive(Clone, Copy)]
struct Counted<'a> {
    matched: bool,
    uid: Option<u32>,
    unit: Option<&'a str>,
    workload: Option<&'a str>,
}

impl<'a> From<&'a Party> for Counted<'a> {
    fn from(party: &'a Party) -> Self {
        Self {
            matched: party.matched,
            uid: Some(party.uid),
            unit: party.unit.as_deref(),
            workload: None,
        }
    }
}

impl<'a> From<&'a Sharer> for Counted<'a> {
    fn from(sharer: &'a Sharer) -> Self {
        match sharer {
            Sharer::Party(party) => (&**party).into(),
            Sharer::Workload(name) => Self {
                matched: true,
                uid: None,
                unit: None,
                workload: Some(name.as_str()),
            },
        }
    }
}

impl From<&Arc<Party>> for Sharer {
    fn from(party: &Arc<Party>) -> Self {
        Self::Party(Arc::clone(party))
    }
}

/// What there is of something.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Total {
    /// For all together.
    pub all: u64,
    /// Whether those whom no entry matches have half of it: so once there is an entry.
    pub halved: bool,
}

impl Total {
    /// All of it for everybody alike.
    pub const fn whole(all: u64) -> Self {
        Self { all, halved: false }
    }

    /// What those of a class may have between them.
    pub fn of_class(self, matched: bool) -> u64 {
        match self.halved && !matched {
            true => self.all / 2,
            false => self.all,
        }
    }
}

/// What each has.
#[derive(Clone, Default, Debug)]
struct Holdings {
    matched: ClassHoldings,
    others: ClassHoldings,
}

/// What each of a class has. Whoever has nothing is not in it.
#[derive(Clone, Default, Debug)]
struct ClassHoldings {
    all: u64,
    uids: Sums<u32>,
    units: Sums<String>,
    workloads: Sums<String>,
}

/// How much is counted to each, if anything is.
#[derive(Clone, Debug)]
struct Sums<K>(BTreeMap<K, u64>);

impl Holdings {
    fn class(&self, matched: bool) -> &ClassHoldings {
        match matched {
            true => &self.matched,
            false => &self.others,
        }
    }

    fn class_mut(&mut self, matched: bool) -> &mut ClassHoldings {
        match matched {
            true => &mut self.matched,
            false => &mut self.others,
        }
    }

    fn all(&self) -> u64 {
        self.matched.all.saturating_add(self.others.all)
    }

    /// What its user has, or its unit if that has more; or its workload.
    fn of<'a>(&self, by: impl Into<Counted<'a>>) -> u64 {
        let by = by.into();
        let class = self.class(by.matched);
        let counts = [
            by.uid.map(|uid| class.uids.of(&uid)),
            by.unit.map(|unit| class.units.of(unit)),
            by.workload.map(|name| class.workloads.of(name)),
        ];
        counts.into_iter().flatten().max().unwrap_or(0)
    }

    /// What may still be had by the class of somebody.
    fn free<'a>(&self, by: impl Into<Counted<'a>>, total: Total) -> u64 {
        let matched = by.into().matched;
        let of_all = total.all.saturating_sub(self.all());
        let of_class = total.of_class(matched);
        of_all.min(of_class.saturating_sub(self.class(matched).all))
    }

    fn add<'a>(&mut self, by: impl Into<Counted<'a>>, amount: u64) {
        self.count(by.into(), |has| has.saturating_add(amount));
    }

    fn sub<'a>(&mut self, by: impl Into<Counted<'a>>, amount: u64) {
        self.count(by.into(), |has| has.saturating_sub(amount));
    }

    fn count(&mut self, by: Counted<'_>, change: impl Fn(u64) -> u64) {
        let class = self.class_mut(by.matched);
        class.all = change(class.all);
        if let Some(uid) = by.uid {
            class.uids.set(&uid, &change);
        }
        if let Some(unit) = by.unit {
            class.units.set(unit, &change);
        }
        if let Some(name) = by.workload {
            class.workloads.set(name, &change);
        }
    }
}

impl<K> Default for Sums<K> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<K: Ord> Sums<K> {
    fn of<Q: Ord + ?Sized>(&self, key: &Q) -> u64
    where
        K: Borrow<Q>,
    {
        self.0.get(key).copied().unwrap_or(0)
    }

    fn set<Q: Ord + ToOwned<Owned = K> + ?Sized>(&mut self, key: &Q, change: impl Fn(u64) -> u64)
    where
        K: Borrow<Q>,
    {
        match change(self.of(key)) {
            0 => drop(self.0.remove(key)),
            now => match self.0.get_mut(key) {
                Some(has) => *has = now,
                None => drop(self.0.insert(key.to_owned(), now)),
            },
        }
    }
}
