//! The ledger's space while it is open: what of it was delivered, and who has taken what of the rest.
//!
//! What was delivered counts for nobody: it is cut off, oldest first, where room is wanted. What the rest counts for is
//! kept in a row of its own now and then, with what was delivered, so that a start counts the last entries alone.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use shared::ledger::{
    claim::{Claim, Owner, Purpose, promise},
    share::{Full, ShareFigures, Spool},
};

use crate::{
    key::Keys,
    ledger::{Head, LedgerRow, open},
    view::View,
};

/// The row is written after so many entries: a start counts no more than these.
const NOTED_EVERY: u64 = 4096;

/// How full the ledger is.
#[derive(Debug)]
pub(crate) struct Room {
    spool: Spool,
    /// Entries up to this number were delivered.
    delivered: u64,
    /// What the row counts begins here.
    noted: u64,
    divided_for: Option<u64>,
    /// Grants may have ended since it was counted what is promised for their ends.
    promised_is_old: bool,
    /// What the group that is being stored has taken.
    staged: Vec<Claim>,
    dropped: u64,
}

/// What is kept of it.
#[derive(Serialize, Deserialize)]
pub(crate) struct RoomRow {
    delivered: u64,
    /// The number of the first entry that is not counted yet.
    next: u64,
    /// What each has taken, of acts and of notes.
    accounts: Vec<(Owner, u64, u64)>,
}

/// How full the ledger is, and who takes how much of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RoomFigures {
    /// The number of the last entry that was delivered; 0 before there is one.
    pub delivered: u64,
    /// Bytes that undelivered entries take.
    pub undelivered_bytes: u64,
    /// Bytes that are kept for ends of grants.
    pub promised_bytes: u64,
    /// Entries that found no room since the start: of notes, and of revocations beyond what is kept for them.
    pub dropped: u64,
    /// Every workload, Holdover itself, and who else has entries.
    pub shares: Vec<ShareFigures>,
}

impl Room {
    /// That of a ledger with these ends, and the number of the first entry that is to be counted with
    /// [`Room::count`]. A row that does not fit the ends is passed over: everything is counted, and delivered again.
    pub(crate) fn resume(row: Option<RoomRow>, head: &Head, max: u64) -> (Self, u64) {
        let fits = |row: &RoomRow| {
            let (delivered, next) = (row.delivered.saturating_add(1), row.next);
            head.first <= delivered && delivered <= next && next <= head.next
        };
        let row = row.filter(fits).unwrap_or(RoomRow {
            delivered: head.first.saturating_sub(1),
            next: head.first,
            accounts: Vec::new(),
        });
        let mut spool = Spool::new(max);
        for (owner, acts, notes) in row.accounts {
            for (purpose, bytes) in [(Purpose::Act, acts), (Purpose::Note, notes)] {
                let owner = owner.clone();
                spool.take(&Claim {
                    owner,
                    purpose,
                    bytes,
                });
            }
        }
        let room = Self {
            spool,
            delivered: row.delivered,
            noted: row.next,
            divided_for: None,
            promised_is_old: true,
            staged: Vec::new(),
            dropped: 0,
        };
        (room, row.next)
    }

    /// Counts an entry that is there.
    pub(crate) fn count(&mut self, keys: &Keys, row: &LedgerRow) {
        self.spool.take(&claim_of(keys, row));
    }

    /// Entries up to this number were delivered; `rows` are those that were not before.
    pub(crate) fn deliver(&mut self, keys: &Keys, rows: &[LedgerRow], through: u64) {
        for row in rows {
            self.spool.give_back(&claim_of(keys, row));
        }
        self.delivered = self.delivered.max(through);
    }

    /// Goes by the configuration that is in force, and at first by the grants that there are.
    pub(crate) fn follow(&mut self, view: &View) {
        let authority = view.authority();
        let version = authority.settings_version;
        if self.divided_for.is_none() {
            self.count_promised(view);
        }
        if self.divided_for != Some(version) {
            let workloads = authority.settings.workloads.iter();
            self.spool.divide(workloads.map(|entry| entry.name.clone()));
            self.divided_for = Some(version);
        }
    }

    /// Takes room for all of `claims`, or for none. What was promised for ends that came to be is looked at once more before it
    /// refuses.
    pub(crate) fn admit(&mut self, claims: Vec<Claim>, view: &View) -> Result<(), Full> {
        match self.spool.admit(&claims) {
            Err(_) if self.promised_is_old => {
                self.count_promised(view);
                self.spool.admit(&claims)?;
            }
            outcome => outcome?,
        }
        self.staged.extend(claims);
        Ok(())
    }

    /// What the group that is being stored adds to the ledger, in bytes.
    pub(crate) fn staged(&self) -> u64 {
        let entries = self.staged_entries();
        entries.fold(0, |sum, claim| claim.bytes.saturating_add(sum))
    }

    fn staged_entries(&self) -> impl Iterator<Item = &Claim> {
        let staged = self.staged.iter();
        staged.filter(|claim| claim.purpose != Purpose::Promise)
    }

    /// The group is stored and published. `ended`: grants ended by it.
    pub(crate) fn stored(&mut self, ended: bool) {
        self.staged.clear();
        self.promised_is_old |= ended;
    }

    /// The group did not come to be.
    pub(crate) fn failed(&mut self) {
        for claim in std::mem::take(&mut self.staged) {
            self.spool.give_back(&claim);
        }
    }

    /// An entry found no room.
    pub(crate) fn dropped(&mut self) {
        self.dropped = self.dropped.saturating_add(1);
    }

    /// The row, if it is time for one.
    pub(crate) fn due(&mut self, head: &Head) -> Option<RoomRow> {
        (head.next.saturating_sub(self.noted) >= NOTED_EVERY).then(|| self.row(head))
    }

    /// The row to be written with what is staged, onto a ledger with these ends.
    pub(crate) fn row(&mut self, head: &Head) -> RoomRow {
        let staged = self.staged_entries().count();
        let staged = u64::try_from(staged).unwrap_or(u64::MAX);
        self.noted = head.next.saturating_add(staged);
        let accounts = self.spool.accounts();
        RoomRow {
            delivered: self.delivered,
            next: self.noted,
            accounts: accounts
                .map(|(owner, acts, notes)| (owner.clone(), acts, notes))
                .collect(),
        }
    }

    /// Entries up to this number were delivered.
    pub(crate) fn delivered(&self) -> u64 {
        self.delivered
    }

    /// `[ledger] max_size`.
    pub(crate) fn max(&self) -> u64 {
        self.spool.max()
    }

    /// What status shows.
    pub(crate) fn figures(&mut self, view: &View) -> RoomFigures {
        self.follow(view);
        self.count_promised(view);
        RoomFigures {
            delivered: self.delivered,
            undelivered_bytes: self.spool.entries(),
            promised_bytes: self.spool.promised(),
            dropped: self.dropped,
            shares: self.spool.figures(),
        }
    }

    fn count_promised(&mut self, view: &View) {
        let mut promised: BTreeMap<Owner, u64> = BTreeMap::new();
        for live in view.grants() {
            if live.grant.is_replica() && live.revoked.get().is_none() {
                let Claim { owner, bytes, .. } = promise(&live.grant);
                let sum = promised.entry(owner).or_default();
                *sum = sum.saturating_add(bytes);
            }
        }
        self.spool.set_promised(&promised);
        // Not in the view yet.
        let staged = self.staged.iter();
        for claim in staged.filter(|claim| claim.purpose == Purpose::Promise) {
            self.spool.take(claim);
        }
        self.promised_is_old = false;
    }
}

/// The room that an entry takes. One that does not open counts for nobody who could be named.
fn claim_of(keys: &Keys, row: &LedgerRow) -> Claim {
    let entry = open(keys, row, [0; 32]).ok().map(|chained| chained.entry);
    Claim {
        owner: entry.as_ref().map_or(Owner::Unnamed, |entry| entry.owner()),
        purpose: entry.map_or(Purpose::Act, |entry| entry.purpose()),
        bytes: row.size(),
    }
}
