//! How what there is only so much of is shared among those who ask for it: places at the socket, bytes, entries of maps.
//!
//! Shares are counted by uid and by unit, for those whom a workload entry matches apart from all others: a process that
//! merely runs as a workload's user takes nothing of the workload's. Once there is an entry, those who match none have half
//! of everything between them.

use alloc::{collections::BTreeMap, string::String};

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

    /// What a party's class may have between them.
    fn of_class(self, matched: bool) -> u64 {
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
    uids: BTreeMap<u32, u64>,
    units: BTreeMap<String, u64>,
}

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

    /// What its user has, or its unit if that has more.
    fn of(&self, party: &Party) -> u64 {
        let class = self.class(party.matched);
        let of_uid = class.uids.get(&party.uid).copied().unwrap_or(0);
        let of_unit = party.unit.as_ref().and_then(|unit| class.units.get(unit));
        of_uid.max(of_unit.copied().unwrap_or(0))
    }

    /// What may still be had by the class of a party.
    fn free(&self, party: &Party, total: Total) -> u64 {
        let of_all = total.all.saturating_sub(self.all());
        let class = total.of_class(party.matched);
        of_all.min(class.saturating_sub(self.class(party.matched).all))
    }

    fn add(&mut self, party: &Party, amount: u64) {
        if amount == 0 {
            return;
        }
        let class = self.class_mut(party.matched);
        class.all = class.all.saturating_add(amount);
        let of_uid = class.uids.entry(party.uid).or_default();
        *of_uid = of_uid.saturating_add(amount);
        let Some(unit) = &party.unit else { return };
        match class.units.get_mut(unit) {
            Some(of_unit) => *of_unit = of_unit.saturating_add(amount),
            None => drop(class.units.insert(unit.clone(), amount)),
        }
    }

    fn sub(&mut self, party: &Party, amount: u64) {
        let class = self.class_mut(party.matched);
        class.all = class.all.saturating_sub(amount);
        if let Some(of_uid) = class.uids.get_mut(&party.uid) {
            *of_uid = of_uid.saturating_sub(amount);
            if *of_uid == 0 {
                class.uids.remove(&party.uid);
            }
        }
        let Some(unit) = &party.unit else { return };
        if let Some(of_unit) = class.units.get_mut(unit) {
            *of_unit = of_unit.saturating_sub(amount);
            if *of_unit == 0 {
                class.units.remove(unit);
            }
        }
    }
}
