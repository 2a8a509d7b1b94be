//! What can be read of a damaged file, in a new one.

use std::path::Path;

use rusqlite::Result;

use super::{remains::Remains, walk};
use crate::{
    entropy::{Entropy, unique_u64},
    key::{
        Keys, Sealer,
        epoch::{BLOCK, Budget, Reserve},
    },
    ledger::{self, Head, LedgerRow},
    private,
    seal::Sealed,
    store::{
        Location, OpenError, Storage as _, StoreError,
        anchor::{Anchor, AnchorState},
        fault::is_damage,
        header::Header,
        open::{GENERATIONS, Unapplied},
        reserve::{Record, ReserveFile},
        schema::Database,
        writer::{apply_rows, redo_ledger},
    },
    table::{At, Op},
};

/// No epoch comes after this one in an age: a row that claims a later one is not opened, for each costs a key.
const EPOCHS: u32 = 1 << 16;

impl Remains {
    /// Brings what can be read into a file at `new`; how many rows.
    pub(super) fn rebuild(
        self,
        location: &Location,
        new: &Path,
        entropy: &dyn Entropy,
    ) -> Result<u64, OpenError> {
        drop(private::create(new)?);
        self.into(location, new, entropy)
            .map_err(|source| OpenError::Rebuild {
                path: location.path.clone(),
                source,
            })
    }

    fn into(
        self,
        location: &Location,
        new: &Path,
        entropy: &dyn Entropy,
    ) -> Result<u64, StoreError> {
        let written = |source| StoreError::Database {
            action: "bring what can be read into a new file",
            source,
        };
        let mut database = Database::open(new).map_err(written)?;
        database.format(self.id, &self.slots).map_err(written)?;
        let keys = Keys::derive(self.root, self.id, EPOCHS);
        let header = header(&self.old, &keys).map_err(written)?;
        let mut rebuilt = Rebuilt {
            keys: &keys,
            database,
            rows: 0,
            version: 0,
            epoch: 1,
            ledger: Head::default(),
        };
        rebuilt.copy(&self.old).map_err(written)?;
        let last = Last::of(location, &keys, header);
        let (mut header, mut budget) = match last {
            Last {
                header: Some(header),
                kept,
                anchor,
            } => {
                let header = rebuilt.after(header, &kept, &anchor).map_err(written)?;
                let budget = kept.budget(&header, &anchor, entropy);
                (header, budget)
            }
            Last { kept, anchor, .. } => {
                rebuilt.refuse(&kept.records).map_err(written)?;
                rebuilt.unproven(location, &kept, &anchor, entropy)
            }
        };
        header.reserve = budget.reserve(BLOCK);
        let mut sealer = Sealer {
            keys: &keys,
            budget: &mut budget,
            entropy,
        };
        let row = header.seal(&mut sealer)?;
        rebuilt.database.commit(&row).map_err(written)?;
        Ok(rebuilt.rows)
    }
}

/// The header of the last commit, if it can be read and opens.
fn header(old: &Database, keys: &Keys) -> Result<Option<Header>> {
    match old.header() {
        Ok(row) => Ok(Header::open(keys, &row)),
        Err(error) if is_damage(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

/// What is known of the last commit beside the rows.
struct Last {
    header: Option<Header>,
    /// What the reserve holds beyond it.
    kept: Unapplied,
    anchor: AnchorState,
}

impl Last {
    fn of(location: &Location, keys: &Keys, header: Option<Header>) -> Self {
        let (mut reserve, found) = ReserveFile::open(&location.path, keys);
        let kept = match &header {
            Some(header) => Unapplied::after(found, header, &mut reserve),
            // All of it may have been in the file, or not.
            None => Unapplied {
                records: found.records,
                is_younger: true,
            },
        };
        let anchor = location.anchor.as_deref().map(Anchor::at);
        let proven = header.as_ref().map_or(0, |header| kept.proven(header));
        let anchored = header.as_ref().is_none_or(|header| header.anchored);
        let compare = |anchor: &Anchor| anchor.compare(keys, proven, anchored);
        Self {
            anchor: anchor.as_ref().map_or(AnchorState::Unset, compare),
            header,
            kept,
        }
    }
}

/// The new file, and what was seen on the way.
struct Rebuilt<'k> {
    keys: &'k Keys,
    database: Database,
    rows: u64,
    /// The greatest number of the encryption counter, and the youngest epoch, of what opens.
    version: u64,
    epoch: u32,
    /// The ends of what is left of the ledger.
    ledger: Head,
}

impl Rebuilt<'_> {
    fn copy(&mut self, old: &Database) -> Result<()> {
        walk::rows(old, |(at, sealed)| self.put(&at, &sealed))?;
        walk::entries(old, |entry| self.append(&entry))
    }

    /// Puts a row, if none is there that is younger. One that does not open is told by its key what it was of.
    fn put(&mut self, at: &At, sealed: &Sealed) -> Result<()> {
        if self.keys.open(&at.subject(), sealed).is_ok() {
            self.saw(sealed);
        }
        let before = self.database.version(at)?;
        if before.is_none_or(|before| before < sealed.version) {
            self.database.put(at, sealed)?;
        }
        self.rows = self.rows.saturating_add(u64::from(before.is_none()));
        Ok(())
    }

    /// Puts an entry of the ledger, if it opens.
    fn append(&mut self, row: &LedgerRow) -> Result<()> {
        if ledger::open(self.keys, row, [0; 32]).is_err() {
            return Ok(());
        }
        self.saw(&row.sealed);
        self.rows = self.rows.saturating_add(1);
        self.ledger.go_on(row);
        self.database.append(row)
    }

    fn saw(&mut self, sealed: &Sealed) {
        self.version = self.version.max(sealed.version);
        self.epoch = self.epoch.max(sealed.epoch);
    }

    /// What comes after the commit of `header`: what the reserve holds, and whatever the anchor says against it.
    fn after(&mut self, header: Header, kept: &Unapplied, anchor: &AnchorState) -> Result<Header> {
        let mut next = header.clone();
        apply_rows(&mut self.database, &mut next, self.keys, &kept.records)?;
        for record in &kept.records {
            redo_ledger(&mut self.database, &mut next.ledger, record)?;
        }
        next.rolled_back |= kept.doubts(anchor);
        next.generation = kept.tried(&header, anchor).saturating_add(1);
        Ok(next)
    }

    /// What the reserve holds and the file may not: nothing of it takes the place of what is younger.
    fn refuse(&mut self, records: &[Record]) -> Result<()> {
        for record in records {
            for op in &record.ops {
                if let Op::Put(at, sealed) = op {
                    self.put(at, sealed)?;
                }
            }
            for row in &record.entries {
                self.append(row)?;
            }
        }
        Ok(())
    }

    /// A header that believes nothing of what was brought over, and repeats neither a number nor a generation.
    fn unproven(
        &self,
        location: &Location,
        kept: &Unapplied,
        anchor: &AnchorState,
        entropy: &dyn Entropy,
    ) -> (Header, Budget) {
        let seen = Reserve {
            epoch: self.epoch,
            first: self.version,
            began: None,
            reserved: self.version.saturating_add(1),
        };
        let mut header = Header::unproven(seen);
        let reserve = kept.reserve(&header);
        let random = unique_u64(entropy).unwrap_or(0);
        let budget = Budget::resume_beyond(reserve, random);
        header.generation = kept
            .tried(&header, anchor)
            .saturating_add(random % GENERATIONS);
        header.anchored = location.anchor.is_some();
        header.ledger = self.ledger.clone();
        (header, budget)
    }
}

impl Head {
    /// One that ends with `row`, which is the next that can be read. Of the oldest the MAC before it is not known: what is
    /// kept begins after it, if it is not the first ever.
    fn go_on(&mut self, row: &LedgerRow) {
        let next = row.seq.saturating_add(1);
        if self.next == 1 && row.seq > 1 {
            (self.first, self.before) = (next, row.mac);
        } else if next > self.next {
            self.bytes = self.bytes.saturating_add(row.size());
        }
        if next > self.next {
            (self.next, self.last) = (next, row.mac);
        }
    }
}
