//! Space of which each has a part of its own, and which all have in common besides: what is kept there is never taken back, so
//! whoever comes later must find its part free whatever the others keep.
//!
//! One may keep more as long as that is within its own part, or as long as all together keep no more than what is in common. So
//! all together keep no more than twice that, and nobody's part can be another's.

use alloc::{collections::BTreeMap, string::String};
use core::ops::{Add, Sub};

/// How much there is of something.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Amount {
    /// How many.
    pub entries: u64,
    /// What they take.
    pub bytes: u64,
}

/// What is to be kept.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Growth {
    /// More of what is kept already: it may use all there is.
    Kept,
    /// What was not kept before: it leaves a sixteenth, so that what is kept can grow, and what has just gone for want of room
    /// does not come back at once.
    New,
}

/// Who keeps how much.
#[derive(Debug)]
pub struct Commons {
    common: Amount,
    own: Amount,
    used: BTreeMap<String, Amount>,
    all: Amount,
}

impl Commons {
    /// Nothing kept yet: so much in common, and the same once more in as many parts as there are `sharers`.
    pub fn new(common: Amount, sharers: usize) -> Self {
        let sharers = (sharers as u64).max(1);
        Self {
            own: common.map(|one| one / sharers),
            common,
            used: BTreeMap::new(),
            all: Amount::default(),
        }
    }

    /// What `of` keeps, as it was counted.
    pub fn set(&mut self, of: &str, used: Amount) {
        let before = self.used.insert(of.into(), used).unwrap_or_default();
        self.all = self.all - before + used;
    }

    /// `of` keeps `to` in place of `from`, if there is room for it. There always is for less.
    #[must_use]
    pub fn keep(&mut self, of: &str, from: Amount, to: Amount, growth: Growth) -> bool {
        let used = self.used_by(of);
        let (mine, all) = (used - from + to, self.all - from + to);
        let (own, common) = (growth.part(self.own), growth.part(self.common));
        let fits = |amount: fn(&Amount) -> u64| {
            amount(&to) <= amount(&from)
                || amount(&mine) <= amount(&own)
                || amount(&all) <= amount(&common)
        };
        let fits = fits(|of| of.entries) && fits(|of| of.bytes);
        if fits {
            self.set(of, mine);
        }
        fits
    }

    /// Whether there is room for the smallest thing that `of` does not keep yet.
    pub fn has_room(&self, of: &str) -> bool {
        let (used, all) = (self.used_by(of), self.all);
        let (own, common) = (Growth::New.part(self.own), Growth::New.part(self.common));
        (used.entries < own.entries || all.entries < common.entries)
            && (used.bytes < own.bytes || all.bytes < common.bytes)
    }

    /// What all keep.
    pub fn all(&self) -> Amount {
        self.all
    }

    /// What all can keep at the most.
    pub fn most(&self) -> Amount {
        self.common.map(|one| one.saturating_mul(2))
    }

    fn used_by(&self, of: &str) -> Amount {
        self.used.get(of).copied().unwrap_or_default()
    }
}

impl Growth {
    fn part(self, of: Amount) -> Amount {
        match self {
            Self::Kept => of,
            Self::New => of.map(|one| one - one / 16),
        }
    }
}

impl Amount {
    /// Whether it is less than `other` in anything.
    pub fn is_below(self, other: Self) -> bool {
        self.entries < other.entries || self.bytes < other.bytes
    }

    fn map(self, change: impl Fn(u64) -> u64) -> Self {
        Self {
            entries: change(self.entries),
            bytes: change(self.bytes),
        }
    }
}

impl Add for Amount {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            entries: self.entries.saturating_add(other.entries),
            bytes: self.bytes.saturating_add(other.bytes),
        }
    }
}

impl Sub for Amount {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        Self {
            entries: self.entries.saturating_sub(other.entries),
            bytes: self.bytes.saturating_sub(other.bytes),
        }
    }
}

impl core::iter::Sum for Amount {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        all.fold(Self::default(), Add::add)
    }
}

#[cfg(test)]
mod tests;
