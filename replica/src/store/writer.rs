//! The one writer's hands: seals, counts, chains, and commits a group with the header that proves it. Where the file takes no
//! commit, what must last is kept in the reserve until it does.

use std::{fs::File, ops::RangeInclusive, path::PathBuf, sync::Arc};

use shared::{ledger::Entry, time::WallTime};

use super::{
    FailStop, Proof, Storage, StoreError,
    anchor::Anchor,
    fault::Remedy,
    header::Header,
    reserve::{Record, ReserveFile, Share},
};
use crate::{
    entropy::Entropy,
    key::{
        Keys, Sealer,
        epoch::{Budget, Limits},
    },
    ledger::{self, Chained, Head, LedgerRow},
    table::{At, Op},
};

/// What must be free before a disk that was full is tried again, in bytes: so that it is not full again at once.
const HEADROOM: u64 = 1 << 20;
/// Encryptions that a commit needs for itself: its header.
const OWN: u64 = 1;
/// Entries that are cut off the ledger in one statement.
const CUT: RangeInclusive<u64> = 16..=1024;
/// What an entry takes at least.
const LEAST_ENTRY: u64 = 256;

/// What writes to an open replica.
pub(crate) struct Writer {
    pub(crate) storage: FailStop,
    pub(crate) keys: Keys,
    pub(crate) entropy: Arc<dyn Entropy>,
    pub(crate) budget: Budget,
    pub(crate) limits: Limits,
    /// As the commit that is being made will have it.
    pub(crate) header: Header,
    /// As the last commit has it that the file took.
    pub(crate) committed: Header,
    /// The highest generation that was ever tried: none is tried twice.
    pub(crate) tried: u64,
    /// The generation of what was last made durable, in the file or in the reserve.
    pub(crate) durable: u64,
    pub(crate) reserve: ReserveFile,
    /// What the reserve holds, in order.
    pub(crate) kept: Vec<Record>,
    pub(crate) anchor: Option<Anchor>,
    /// The generation that the state file holds, as far as this process knows.
    pub(crate) anchored: u64,
    /// Bytes put since the last checkpoint.
    pub(crate) since_checkpoint: u64,
    /// Where the file lies.
    pub(crate) folder: PathBuf,
    /// What a start deletes, until that is committed.
    pub(crate) cleanup: Vec<Op>,
    /// Why the commit that every start makes failed, if it did.
    pub(crate) failing: Option<StoreError>,
    /// Held, not read: another process is refused by it.
    pub(crate) _lock: Option<File>,
}

impl Writer {
    /// Makes room for `wanted` encryptions, in a new epoch if the present one is over.
    pub(crate) fn prepare(&mut self, wanted: u64, now: WallTime) -> Result<(), StoreError> {
        if self.budget.roll(self.limits, now) {
            tracing::info!(
                epoch = self.budget.epoch(),
                "a new epoch of record keys begins"
            );
            self.keys.admit_epoch(self.budget.epoch());
        }
        self.header.stamp = self.header.stamp.max(Some(now));
        // The header of the commit that reserves, and that of the group itself.
        let wanted = wanted.saturating_add(2 * OWN);
        if self.budget.left() < wanted {
            self.commit_header(wanted)?;
        }
        Ok(())
    }

    /// What seals a group's rows.
    pub(crate) fn sealer(&mut self) -> Sealer<'_> {
        Sealer {
            keys: &self.keys,
            budget: &mut self.budget,
            entropy: &*self.entropy,
        }
    }

    /// Commits a group: all of it or, after a failure, nothing until the store is mended.
    pub(crate) fn commit(&mut self, ops: &[Op], entries: &[Entry]) -> Result<(), StoreError> {
        for op in ops {
            self.apply(op)?;
        }
        for entry in entries {
            self.append(entry)?;
        }
        self.commit_header(0)
    }

    /// Cuts entries off the ledger's beginning until it takes no more than `most` bytes, but none after `through`. The next
    /// commit makes that durable.
    pub(crate) fn cut(&mut self, most: u64, through: u64) -> Result<(), StoreError> {
        let end = through.saturating_add(1).min(self.header.ledger.next);
        while self.header.ledger.bytes > most && self.header.ledger.first < end {
            let beyond = self.header.ledger.bytes.saturating_sub(most) / LEAST_ENTRY;
            let entries = beyond.clamp(*CUT.start(), *CUT.end());
            let below = self.header.ledger.first.saturating_add(entries).min(end);
            let cut = self.storage.trim(below)?;
            let head = &mut self.header.ledger;
            head.first = below;
            head.before = cut.last.unwrap_or(head.before);
            head.bytes = head.bytes.saturating_sub(cut.bytes);
        }
        Ok(())
    }

    /// Entries from `from` on as they lie in the file, at most `limit`.
    pub(crate) fn rows(&mut self, from: u64, limit: usize) -> Result<Vec<LedgerRow>, StoreError> {
        self.storage.entries(from, limit)
    }

    /// Entries from `from` on, at most `limit`.
    pub(crate) fn entries(&mut self, from: u64, limit: usize) -> Result<Vec<Chained>, StoreError> {
        let head = &self.header.ledger;
        let from = from.max(head.first);
        // One more at the front, for the MAC before.
        let rows = self
            .storage
            .entries(from.saturating_sub(1), limit.saturating_add(1))?;
        let mut prev = head.before;
        let mut entries = Vec::with_capacity(rows.len());
        for row in rows {
            if row.seq >= from {
                entries.push(ledger::open(&self.keys, &row, prev)?);
            }
            prev = row.mac;
        }
        entries.truncate(limit);
        Ok(entries)
    }

    /// Puts the generation of what is durable into the state file, if one is configured.
    pub(crate) fn write_anchor(&mut self) -> Result<(), StoreError> {
        let generation = self.durable;
        let Some(anchor) = &self.anchor else {
            return Ok(());
        };
        if self.header.rolled_back || self.anchored == generation {
            return Ok(());
        }
        anchor
            .write(&self.keys, generation)
            .map_err(StoreError::Anchor)?;
        self.anchored = generation;
        Ok(())
    }

    /// Whether a disk that was full has room enough to go on; assumed where that cannot be told.
    pub(crate) fn has_room(&self) -> bool {
        let found = rustix::fs::statvfs(&self.folder);
        found.map_or(true, |found| {
            found.f_bavail.saturating_mul(found.f_frsize) >= HEADROOM
        })
    }

    /// Undoes what was not committed: it is as after the last commit, but that no number and no generation is used again.
    pub(crate) fn take_back(&mut self) {
        self.storage.roll_back();
        self.header = self.committed.clone();
        if let Some(last) = self.kept.last() {
            self.header.ledger = last.ledger.clone();
        }
    }

    /// Makes room for `wanted` encryptions while the file takes no commit.
    pub(crate) fn prepare_kept(&mut self, wanted: u64) -> Result<(), StoreError> {
        match self.budget.left() < wanted.saturating_add(OWN) {
            true => self.keep(Vec::new(), &[], wanted.saturating_add(OWN), Share::Own),
            false => Ok(()),
        }
    }

    /// Keeps a group in the reserve: durable when this returns, and in the next commit that the file takes.
    pub(crate) fn keep(
        &mut self,
        ops: Vec<Op>,
        entries: &[Entry],
        wanted: u64,
        share: Share,
    ) -> Result<(), StoreError> {
        let mut ledger = self.header.ledger.clone();
        let mut rows = Vec::with_capacity(entries.len());
        for entry in entries {
            rows.push(ledger::link(&mut ledger, entry, &mut self.sealer())?);
        }
        self.tried = self.tried.saturating_add(1);
        let record = Record {
            generation: self.tried,
            reserve: self.budget.reserve(wanted),
            ledger,
            ops,
            entries: rows,
        };
        let base = self.committed.generation;
        let sealing = (&self.keys, &*self.entropy);
        self.reserve.append(&record, base, share, sealing)?;
        self.budget.reserved(record.reserve);
        self.durable = record.generation;
        self.header.ledger = record.ledger.clone();
        self.kept.push(record);
        Ok(())
    }

    /// Makes the store good again: the file as it was at the last commit, and in it what the reserve holds.
    pub(crate) fn mend(&mut self, remedy: Remedy) -> Result<(), StoreError> {
        let proof = Proof {
            keys: &self.keys,
            header: &self.committed,
        };
        self.storage.mend(remedy, &proof)?;
        let redone = self.redo().and_then(|()| self.commit_header(0));
        if redone.is_err() {
            self.take_back();
        }
        redone?;
        self.write_anchor()
    }

    /// What follows once the file has taken a commit again: the reserve is empty, and there is one.
    pub(crate) fn renew_reserve(&mut self) {
        let renewed = self.reserve.clear();
        let made = self.reserve.make().map_err(StoreError::Reserve);
        if let Err(error) = renewed.and(made) {
            tracing::warn!(%error, "on a full disk no revocation would be kept");
        }
    }

    /// What the reserve holds becomes part of the next commit, and what a start deletes.
    pub(crate) fn redo(&mut self) -> Result<(), StoreError> {
        self.header = self.committed.clone();
        let cleanup = std::mem::take(&mut self.cleanup);
        let cleaned = cleanup.iter().try_for_each(|op| self.apply(op));
        self.cleanup = cleanup;
        cleaned?;
        let kept = std::mem::take(&mut self.kept);
        let redone = kept.iter().try_for_each(|record| self.redo_one(record));
        self.kept = kept;
        redone
    }

    fn redo_one(&mut self, record: &Record) -> Result<(), StoreError> {
        for op in &record.ops {
            self.apply(op)?;
        }
        let mut head = self.header.ledger.clone();
        self.storage.redo_ledger(&mut head, record)?;
        self.header.ledger = head;
        Ok(())
    }

    /// The primary was seen: what the replica says now is what counts.
    pub(crate) fn clear_rollback(&mut self) -> Result<(), StoreError> {
        if self.header.rolled_back {
            self.header.rolled_back = false;
            self.commit_header(0)?;
        }
        self.write_anchor()
    }

    /// Moves what the WAL holds into the file.
    pub(crate) fn checkpoint(&mut self) -> Result<(), StoreError> {
        self.since_checkpoint = 0;
        self.storage.checkpoint()
    }

    fn apply(&mut self, op: &Op) -> Result<(), StoreError> {
        if let Op::Put(_, sealed) = op {
            let size = u64::try_from(sealed.bytes.len()).unwrap_or(u64::MAX);
            self.since_checkpoint = self.since_checkpoint.saturating_add(size);
        }
        let (at, before, after) = match op {
            Op::Put(at, sealed) => (at, self.storage.put(at, sealed)?, Some(sealed.version)),
            Op::Delete(at) => (at, self.storage.delete(at)?, None),
        };
        count(&mut self.header, &self.keys, at, before, after);
        Ok(())
    }

    fn append(&mut self, entry: &Entry) -> Result<(), StoreError> {
        let mut head = self.header.ledger.clone();
        let row = ledger::link(&mut head, entry, &mut self.sealer())?;
        self.header.ledger = head;
        self.since_checkpoint = self.since_checkpoint.saturating_add(row.size());
        self.storage.append(&row)
    }

    /// Ends the transaction with a header that also reserves further encryptions where they run short. The reserve's records
    /// are in it, or there are none.
    pub(crate) fn commit_header(&mut self, wanted: u64) -> Result<(), StoreError> {
        let reserve = self.budget.reserve(wanted);
        self.tried = self.tried.max(self.header.generation).saturating_add(1);
        self.header.generation = self.tried;
        self.header.reserve = reserve;
        self.header.anchored = self.anchor.is_some() && (self.header.anchored || self.anchored > 0);
        let header = self.header.clone();
        self.budget.admit_header();
        let row = header.seal(&mut self.sealer())?;
        self.storage.commit(&row)?;
        self.budget.reserved(reserve);
        self.durable = header.generation;
        self.committed = header;
        self.kept.clear();
        self.cleanup.clear();
        Ok(())
    }
}

/// Counts a row that was there in the version `before`, and is now in `after`.
fn count(header: &mut Header, keys: &Keys, at: &At, before: Option<u64>, after: Option<u64>) {
    before.inspect(|version| header.rows.remove(keys, at, *version));
    after.inspect(|version| header.rows.add(keys, at, *version));
}

/// Does to an open file what a record of the reserve says of its ledger, and to the ends of that. It is not committed.
///
/// The record speaks of the commit that it follows. Since then the file may have gone on: a commit that nobody was told of may be in
/// it after all, with entries of its own, or with the oldest cut off. Or it is an older file.
pub(crate) fn redo_ledger(
    storage: &mut dyn Storage,
    head: &mut Head,
    record: &Record,
) -> rusqlite::Result<()> {
    let said = &record.ledger;
    if said.first > head.first {
        let cut = storage.trim(said.first)?;
        head.bytes = head.bytes.saturating_sub(cut.bytes);
        (head.first, head.before) = (said.first, said.before);
    }
    let begins = record.entries.first().map_or(said.next, |row| row.seq);
    if !record.entries.is_empty() {
        let dropped = storage.drop_from(begins)?;
        // What no commit has was never counted.
        let counted = begins < head.next;
        head.bytes = head.bytes.saturating_sub(if counted { dropped } else { 0 });
    }
    for row in &record.entries {
        storage.append(row)?;
        head.bytes = head.bytes.saturating_add(row.size());
    }
    if !record.entries.is_empty() || said.next > head.next {
        (head.next, head.last) = (said.next, said.last);
    }
    Ok(())
}

/// Does to an open file what records of the reserve say of its rows, and to the tallies of `header`. It is not committed.
pub(crate) fn apply_rows(
    storage: &mut dyn Storage,
    header: &mut Header,
    keys: &Keys,
    kept: &[Record],
) -> rusqlite::Result<()> {
    for op in kept.iter().flat_map(|record| &record.ops) {
        let (at, before, after) = match op {
            Op::Put(at, sealed) => (at, storage.put(at, sealed)?, Some(sealed.version)),
            Op::Delete(at) => (at, storage.delete(at)?, None),
        };
        count(header, keys, at, before, after);
    }
    Ok(())
}
