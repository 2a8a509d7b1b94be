//! Shares of the ledger's space, so that nobody can fill it for others.
//!
//! What was not delivered yet counts for an [`Owner`]. Of `ledger.max_size` (M), one sixteenth is kept for Holdover itself
//! (states, operators), one eighth for revocations that find no other room. Half of the rest is split evenly among the
//! configured workloads; of such a reserve, three quarters are for what they do and one for what is noted of them. The
//! other half is shared, and nobody gets more than a part of it:
//!
//! | | of the shared half, at most |
//! |---|---|
//! | what one workload does (grants, renewals, leases) | 1/2 |
//! | what is noted of one workload (reads, denials) | 1/4 |
//! | either, of one uid that is no workload's | 1/16, and all of them together 1/4 |
//! | everything that is noted | 1/2 |
//!
//! A grant also takes the room for the entry of its own end, so that a revocation of what was issued always has room. The
//! parts never add up to more than M, for any number of workloads; the more there are, the less each has of its own.

use alloc::{
    collections::{BTreeMap, BTreeSet},
    vec::Vec,
};

use super::claim::{Claim, Owner, Purpose};
use crate::name::WorkloadName;

/// Uids that are told apart; further ones count together.
pub const MAX_UIDS: usize = 1024;

/// More than a usual login takes: its entry, and room for that of its end.
pub const ROOM_OF_A_LOGIN: u64 = 2 << 10;

/// Why there is no room.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Full {
    /// What everybody shares is taken, and this owner's own reserve too.
    #[error(
        "the ledger is full for {owner}: its own reserve of {reserve} bytes is taken, and what all share"
    )]
    Shared {
        /// For whom.
        owner: Owner,
        /// What is kept for it alone.
        reserve: u64,
    },
    /// This owner has taken all that it may.
    #[error("the share of {owner} in the ledger is full: {used} of {most} bytes are taken")]
    Share {
        /// Whose.
        owner: Owner,
        /// What it has taken, with what is kept for ends of its grants.
        used: u64,
        /// The most that it may take.
        most: u64,
    },
}

/// What one owner has taken.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
struct Account {
    acts: u64,
    notes: u64,
    promised: u64,
}

impl Account {
    fn taken(self) -> u64 {
        self.acts.saturating_add(self.promised)
    }

    fn beyond(self, reserve: Reserve) -> Beyond {
        Beyond {
            acts: self.taken().saturating_sub(reserve.acts),
            notes: self.notes.saturating_sub(reserve.notes),
        }
    }

    fn part(&mut self, purpose: Purpose) -> &mut u64 {
        match purpose {
            Purpose::Act | Purpose::End | Purpose::PromisedEnd => &mut self.acts,
            Purpose::Note => &mut self.notes,
            Purpose::Promise => &mut self.promised,
        }
    }
}

/// What nobody else can take.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
struct Reserve {
    acts: u64,
    notes: u64,
}

/// What an owner has taken of what all share.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
struct Beyond {
    acts: u64,
    notes: u64,
}

impl Beyond {
    fn all(self) -> u64 {
        self.acts.saturating_add(self.notes)
    }
}

/// How `ledger.max_size` is divided.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
struct Division {
    host: u64,
    ends: u64,
    workload: Reserve,
    shared: u64,
}

impl Division {
    fn of(max: u64, workloads: usize) -> Self {
        let (host, ends) = (max / 16, max / 8);
        let rest = max.saturating_sub(host).saturating_sub(ends);
        let count = u64::try_from(workloads).unwrap_or(u64::MAX);
        let quarter = (rest / 2).checked_div(count).unwrap_or(0) / 4;
        let workload = Reserve {
            acts: quarter.saturating_mul(3),
            notes: quarter,
        };
        Self {
            host,
            ends,
            workload,
            shared: rest.saturating_sub(quarter.saturating_mul(4).saturating_mul(count)),
        }
    }
}

/// What of the ledger's space is taken, and by whom.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Spool {
    max: u64,
    workloads: BTreeSet<WorkloadName>,
    division: Division,
    accounts: BTreeMap<Owner, Account>,
    uids: usize,
    entries: u64,
    promised: u64,
    /// Taken of what all share: by anybody, of that by notes, and by whom nothing is kept for.
    beyond: Beyond,
    beyond_of_others: u64,
}

/// One owner's figures, in bytes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ShareFigures {
    /// Whose.
    pub owner: Owner,
    /// What its entries take that were not delivered.
    pub used: u64,
    /// What is kept for ends of its grants.
    pub promised: u64,
    /// What nobody else can take.
    pub reserve: u64,
    /// The most that it may take.
    pub most: u64,
    /// Of these, the most that what it does may take; the rest is for what is noted of it. It is `taken`, `by_others` and
    /// `left` together, unless it has more than it may have.
    pub most_for_acts: u64,
    /// What it does has taken of that, with what is kept for ends of its grants.
    pub taken: u64,
    /// What others have taken of that, because all share it.
    pub by_others: u64,
    /// What it may still do.
    pub left: u64,
}

impl ShareFigures {
    /// Whether there is no room for another login.
    pub fn is_full(&self) -> bool {
        self.left < ROOM_OF_A_LOGIN
    }

    /// How much of the room for what it does is taken, by itself or by others, in percent.
    pub fn percent(&self) -> u64 {
        let taken = self.most_for_acts.saturating_sub(self.left);
        taken.saturating_mul(100) / self.most_for_acts.max(1)
    }
}

impl Spool {
    /// An empty one of `max` bytes, for nobody yet.
    pub fn new(max: u64) -> Self {
        Self {
            max,
            workloads: BTreeSet::new(),
            division: Division::of(max, 0),
            accounts: BTreeMap::new(),
            uids: 0,
            entries: 0,
            promised: 0,
            beyond: Beyond::default(),
            beyond_of_others: 0,
        }
    }

    /// Its size.
    pub fn max(&self) -> u64 {
        self.max
    }

    /// Divides it anew among these workloads. Where that leaves an owner with more than it may have, nothing is taken away from
    /// it, and no more given.
    pub fn divide(&mut self, workloads: impl IntoIterator<Item = WorkloadName>) {
        self.workloads = workloads.into_iter().collect();
        self.division = Division::of(self.max, self.workloads.len());
        let accounts = core::mem::take(&mut self.accounts);
        *self = Self {
            workloads: core::mem::take(&mut self.workloads),
            division: self.division,
            ..Self::new(self.max)
        };
        for (owner, account) in accounts {
            self.change(owner, |changed| *changed = account);
        }
    }

    /// Takes room for all of `claims`, or for none.
    ///
    /// # Errors
    /// If there is none for one of them.
    pub fn admit(&mut self, claims: &[Claim]) -> Result<(), Full> {
        for (nr, claim) in claims.iter().enumerate() {
            if let Err(full) = self.fits(claim) {
                claims
                    .iter()
                    .take(nr)
                    .for_each(|taken| self.give_back(taken));
                return Err(full);
            }
            self.take(claim);
        }
        Ok(())
    }

    /// Takes room without asking: of an entry that is there.
    pub fn take(&mut self, claim: &Claim) {
        let owner = self.told_apart(&claim.owner);
        self.change(owner, |account| {
            let part = account.part(claim.purpose);
            *part = part.saturating_add(claim.bytes);
        });
    }

    /// Gives room back: of an entry that was delivered, or did not come to be.
    pub fn give_back(&mut self, claim: &Claim) {
        let mut left = claim.bytes;
        let owner = self.told_apart(&claim.owner);
        // What counted as nobody's because there were too many is given back there.
        for owner in [owner, Owner::Unnamed] {
            self.change(owner, |account| {
                let part = account.part(claim.purpose);
                let given = left.min(*part);
                *part -= given;
                left -= given;
            });
        }
    }

    /// What is promised for ends from here on, by owner.
    pub fn set_promised(&mut self, promised: &BTreeMap<Owner, u64>) {
        let with_some = self.accounts.iter().filter(|(_, of)| of.promised > 0);
        let before: Vec<_> = with_some.map(|(owner, _)| owner.clone()).collect();
        for owner in before {
            self.change(owner, |account| account.promised = 0);
        }
        for (owner, bytes) in promised {
            self.take(&Claim {
                owner: owner.clone(),
                purpose: Purpose::Promise,
                bytes: *bytes,
            });
        }
    }

    /// What entries take that were not delivered.
    pub fn entries(&self) -> u64 {
        self.entries
    }

    /// What is kept for ends of grants.
    pub fn promised(&self) -> u64 {
        self.promised
    }

    /// Who has entries that were not delivered: what they take, of acts and of notes.
    pub fn accounts(&self) -> impl Iterator<Item = (&Owner, u64, u64)> {
        let accounts = self.accounts.iter();
        accounts.map(|(owner, account)| (owner, account.acts, account.notes))
    }

    /// The figures of every workload, of Holdover itself, and of whoever else has entries.
    pub fn figures(&self) -> Vec<ShareFigures> {
        let workloads = self.workloads.iter().cloned().map(Owner::Workload);
        let mut owners: BTreeSet<Owner> = workloads.chain([Owner::Host]).collect();
        owners.extend(self.accounts.keys().cloned());
        owners.into_iter().map(|owner| self.figure(owner)).collect()
    }

    fn figure(&self, owner: Owner) -> ShareFigures {
        let account = self.account(&owner);
        let reserve = self.reserve(&owner);
        let beyond = account.beyond(reserve);
        let (most_acts, most_notes) = (
            self.most_beyond(&owner, Purpose::Act),
            self.most_beyond(&owner, Purpose::Note),
        );
        let own = reserve.acts.saturating_sub(account.taken());
        let shared = self.left_of_shared(&owner, Purpose::Act);
        let shared = shared.min(most_acts.saturating_sub(beyond.acts));
        let room = self
            .max
            .saturating_sub(self.entries.saturating_add(self.promised));
        let most_for_acts = reserve.acts.saturating_add(most_acts);
        let (taken, left) = (account.taken(), own.saturating_add(shared).min(room));
        ShareFigures {
            used: account.acts.saturating_add(account.notes),
            promised: account.promised,
            reserve: reserve.acts.saturating_add(reserve.notes),
            most: [reserve.acts, reserve.notes, most_acts, most_notes]
                .into_iter()
                .fold(0, u64::saturating_add),
            most_for_acts,
            taken,
            by_others: most_for_acts.saturating_sub(taken).saturating_sub(left),
            left,
            owner,
        }
    }

    fn fits(&self, claim: &Claim) -> Result<(), Full> {
        // What was promised is kept, even where the whole was made smaller than what is in it since.
        if claim.purpose == Purpose::PromisedEnd {
            return Ok(());
        }
        let owner = self.told_apart(&claim.owner);
        let reserve = self.reserve(&owner);
        let before = self.account(&owner);
        let mut after = before;
        let part = after.part(claim.purpose);
        *part = part.saturating_add(claim.bytes);
        let shared = |owner| Full::Shared {
            owner,
            reserve: reserve.acts,
        };
        let all = self.entries.saturating_add(self.promised);
        if all.saturating_add(claim.bytes) > self.max {
            return Err(shared(owner));
        }
        let (was, is) = (before.beyond(reserve), after.beyond(reserve));
        let grown = is.all().saturating_sub(was.all());
        if grown == 0 {
            return Ok(());
        }
        let most = self.most_beyond(&owner, claim.purpose);
        let (beyond, used, own) = match claim.purpose {
            Purpose::Note => (is.notes, before.notes, reserve.notes),
            _ => (is.acts, before.taken(), reserve.acts),
        };
        if beyond > most {
            let most = own.saturating_add(most);
            return Err(Full::Share { owner, used, most });
        }
        match grown <= self.left_of_shared(&owner, claim.purpose) {
            true => Ok(()),
            false => Err(shared(owner)),
        }
    }

    /// The most that an owner may take of what all share.
    fn most_beyond(&self, owner: &Owner, purpose: Purpose) -> u64 {
        let Division { shared, ends, .. } = self.division;
        let most = match (self.has_reserve(owner), purpose) {
            (true, Purpose::Note) => shared / 4,
            (true, _) => shared / 2,
            (false, _) => shared / 16,
        };
        match purpose {
            Purpose::End => most.saturating_add(ends / 4),
            _ => most,
        }
    }

    /// What is left of what all share, for this owner and purpose.
    fn left_of_shared(&self, owner: &Owner, purpose: Purpose) -> u64 {
        let Division { shared, ends, .. } = self.division;
        let (of_all, of_others) = match purpose {
            Purpose::End => (
                shared.saturating_add(ends),
                (shared / 4).saturating_add(ends / 2),
            ),
            _ => (shared, shared / 4),
        };
        let mut left = of_all.saturating_sub(self.beyond.all());
        if purpose == Purpose::Note {
            left = left.min((shared / 2).saturating_sub(self.beyond.notes));
        }
        match self.has_reserve(owner) {
            true => left,
            false => left.min(of_others.saturating_sub(self.beyond_of_others)),
        }
    }

    fn has_reserve(&self, owner: &Owner) -> bool {
        match owner {
            Owner::Host => true,
            Owner::Workload(name) => self.workloads.contains(name),
            Owner::Uid(_) | Owner::Unnamed => false,
        }
    }

    fn reserve(&self, owner: &Owner) -> Reserve {
        match owner {
            Owner::Host => Reserve {
                acts: self.division.host,
                notes: 0,
            },
            of if self.has_reserve(of) => self.division.workload,
            _ => Reserve::default(),
        }
    }

    fn account(&self, owner: &Owner) -> Account {
        self.accounts.get(owner).copied().unwrap_or_default()
    }

    /// As whose it counts.
    fn told_apart(&self, owner: &Owner) -> Owner {
        let is_new = matches!(owner, Owner::Uid(_)) && !self.accounts.contains_key(owner);
        match is_new && self.uids >= MAX_UIDS {
            true => Owner::Unnamed,
            false => owner.clone(),
        }
    }

    fn change(&mut self, owner: Owner, by: impl FnOnce(&mut Account)) {
        let (before, reserve) = (self.account(&owner), self.reserve(&owner));
        let mut after = before;
        by(&mut after);
        let entries = |of: Account| of.acts.saturating_add(of.notes);
        moved(&mut self.entries, entries(before), entries(after));
        moved(&mut self.promised, before.promised, after.promised);
        let (was, is) = (before.beyond(reserve), after.beyond(reserve));
        moved(&mut self.beyond.acts, was.acts, is.acts);
        moved(&mut self.beyond.notes, was.notes, is.notes);
        if !self.has_reserve(&owner) {
            moved(&mut self.beyond_of_others, was.all(), is.all());
        }
        let is_uid = matches!(owner, Owner::Uid(_));
        let was_there = match after == Account::default() {
            true => self.accounts.remove(&owner),
            false => self.accounts.insert(owner, after),
        };
        if is_uid {
            let is_there = after != Account::default();
            self.uids = self.uids.saturating_add(usize::from(is_there));
            self.uids = self.uids.saturating_sub(usize::from(was_there.is_some()));
        }
    }
}

/// A sum of which one part was `before` and is `after`.
fn moved(sum: &mut u64, before: u64, after: u64) {
    *sum = sum.saturating_sub(before).saturating_add(after);
}

#[cfg(test)]
mod tests;
