//! Amounts that nobody can take all of: whoever takes more must leave three times as much to the others as it has then.
//!
//! So one alone gets a quarter, each further one a quarter of what it finds, and however many there are, somebody who has
//! nothing yet finds something. No share need be set aside for anybody, and none lies idle.

use super::{Holdings, Party, Total};

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

impl Amounts {
    /// Gives `amount` more of `total` to `party`.
    ///
    /// # Errors
    /// If that is not there, or would leave too little to the others.
    pub fn take(&mut self, party: &Party, amount: u64, total: Total) -> Result<(), Short> {
        let has = self.taken.of(party);
        let left = self.taken.free(party, total).checked_sub(amount);
        let must_be_left = has.saturating_add(amount).saturating_mul(LEFT);
        match left {
            Some(left) if must_be_left <= left => {
                self.taken.add(party, amount);
                Ok(())
            }
            _ if has == 0 => Err(Short::Of),
            _ => Err(Short::OfShare),
        }
    }

    /// Takes `amount` back, which was given to `party`.
    pub fn give_back(&mut self, party: &Party, amount: u64) {
        self.taken.sub(party, amount);
    }

    /// What is taken in all.
    pub fn taken(&self) -> u64 {
        self.taken.all()
    }
}
