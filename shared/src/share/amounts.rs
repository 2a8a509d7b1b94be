//! Amounts that nobody can take all of: whoever takes more must leave three times as much to the others as it has then.
//!
//! So one alone gets a quarter, each further one a quarter of what it finds, and however many there are, somebody who has
//! nothing yet finds something. No share need be set aside for anybody, and none lies idle.

use super::{Holdings, Sharer, Total};

/// How many times what one has must be left to the others.
pub const LEFT: u64 = 3;

/// What of something is taken, and by whom.
#[derive(Clone, Default, Debug)]
pub struct Amounts {
    taken: Holdings,
}

/// Why something is not given.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Short {
    /// There is too little left for anybody.
    Of,
    /// Whoever asks has its share.
    OfShare,
}

/// How much more whoever `has` so much may take, where `free` is left for it.
pub fn more(has: u64, free: u64) -> u64 {
    // Each that is taken is one less for the others, and takes so many more to be left.
    free.saturating_sub(has.saturating_mul(LEFT)) / (LEFT + 1)
}

impl Amounts {
    /// Gives `amount` more of `total` to `by`.
    ///
    /// # Errors
    /// If that is not there, or would leave too little to the others.
    pub fn take(&mut self, by: &Sharer, amount: u64, total: Total) -> Result<(), Short> {
        match amount <= self.left_for(by, total) {
            true => {
                self.taken.add(by, amount);
                Ok(())
            }
            false if self.taken.of(by) == 0 => Err(Short::Of),
            false => Err(Short::OfShare),
        }
    }

    /// How much more of `total` one may take now.
    pub fn left_for(&self, by: &Sharer, total: Total) -> u64 {
        more(self.taken.of(by), self.taken.free(by, total))
    }

    /// Takes `amount` back, which was given to `by`.
    pub fn give_back(&mut self, by: &Sharer, amount: u64) {
        self.taken.sub(by, amount);
    }

    /// What is taken in all.
    pub fn taken(&self) -> u64 {
        self.taken.all()
    }
}
