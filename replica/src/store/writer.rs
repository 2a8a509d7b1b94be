//! The one writer's hands: seals, counts, chains, and commits a group with the header that proves it.

use std::{fs::File, ops::RangeInclusive, sync::Arc};

use shared::{ledger::Entry, time::WallTime};

use super::{
    FailStop, StoreError,
    anchor::Anchor,
    header::{Header, Tally},
};
use crate::{
    entropy::Entropy,
    key::{
        Keys, Sealer,
        epoch::{Budget, Limits},
    },
    ledger::{self, Chained, LedgerRow},
    table::{Accounted, Op, Table},
};

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
    pub(crate) header: Header,
    pub(crate) anchor: Option<Anchor>,
    /// The generation that the state file holds, as far as this process knows.
    pub(crate) anchored: u64,
    /// Bytes put since the last checkpoint.
    pub(crate) since_checkpoint: u64,
    /// Held, not read: another process is refused by it.
    pub(crate) _lock: File,
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

    /// Commits a group: all of it or, after a failure, nothing ever again.
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
            head.before = cut.last;
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

    /// Puts the last commit's generation into the state file, if one is configured.
    pub(crate) fn write_anchor(&mut self) -> Result<(), StoreError> {
        let generation = self.header.generation;
        let Some(anchor) = &self.anchor else {
            return Ok(());
        };
        if self.header.rolled_back || self.anchored == generation {
            return Ok(());
        }
        anchor.write(&self.keys, generation)?;
        self.anchored = generation;
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
        let (at, before, after) = match op {
            Op::Put(at, sealed) => {
                let size = u64::try_from(sealed.bytes.len()).unwrap_or(u64::MAX);
                self.since_checkpoint = self.since_checkpoint.saturating_add(size);
                (at, self.storage.put(at, sealed)?, Some(sealed.version))
            }
            Op::Delete(at) => (at, self.storage.delete(at)?, None),
        };
        let keys = &self.keys;
        if let Some(tally) = tally(&mut self.header, at.table) {
            before.inspect(|version| tally.remove(keys, at, *version));
            after.inspect(|version| tally.add(keys, at, *version));
        }
        Ok(())
    }

    fn append(&mut self, entry: &Entry) -> Result<(), StoreError> {
        let mut head = self.header.ledger.clone();
        let row = ledger::link(&mut head, entry, &mut self.sealer())?;
        self.header.ledger = head;
        self.since_checkpoint = self.since_checkpoint.saturating_add(row.size());
        self.storage.append(&row)
    }

    /// Ends the transaction with a header that also reserves further encryptions where they run short.
    pub(crate) fn commit_header(&mut self, wanted: u64) -> Result<(), StoreError> {
        let reserve = self.budget.reserve(wanted);
        self.header.generation += 1;
        self.header.reserve = reserve;
        self.header.anchored = self.anchor.is_some() && (self.header.anchored || self.anchored > 0);
        let header = self.header.clone();
        let row = header.seal(&mut self.sealer())?;
        self.storage.commit(&row)?;
        self.budget.reserved(reserve);
        Ok(())
    }
}

/// The tally that rows of `table` count in.
pub(crate) fn tally(header: &mut Header, table: Table) -> Option<&mut Tally> {
    match table.accounted() {
        Accounted::Authority => Some(&mut header.authority),
        Accounted::Value => Some(&mut header.values),
        Accounted::Body | Accounted::Chain | Accounted::Loose => None,
    }
}
