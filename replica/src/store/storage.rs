//! The only way to the disk, and what makes it refuse after a failure until it was mended.

use rusqlite::Result;

use super::{
    Proof, StoreError, fault::Remedy, reserve::Record, schema::HeaderRow, writer::redo_ledger,
};
use crate::{
    ledger::{Head, LedgerRow},
    seal::Sealed,
    table::At,
};

/// The only way to the disk. Calls up to a commit are one transaction; what was not committed never was.
pub(crate) trait Storage: Send {
    /// Puts a row; the version of the one that it replaces.
    fn put(&mut self, at: &At, sealed: &Sealed) -> Result<Option<u64>>;
    /// Deletes a row; its version.
    fn delete(&mut self, at: &At) -> Result<Option<u64>>;
    /// Puts an entry at the ledger's end.
    fn append(&mut self, row: &LedgerRow) -> Result<()>;
    /// Deletes entries below a number.
    fn trim(&mut self, below: u64) -> Result<Trimmed>;
    /// Puts the header and makes everything since the last commit durable.
    fn commit(&mut self, header: &HeaderRow) -> Result<()>;
    /// Committed entries from a number on.
    fn entries(&mut self, from: u64, limit: usize) -> Result<Vec<LedgerRow>>;
    /// Bounds the log of commits; nothing becomes more or less durable by it.
    fn checkpoint(&mut self) -> Result<()>;
    /// Drops ledger entries from a number on; what they counted for against the spool's size.
    fn drop_from(&mut self, from: u64) -> Result<u64>;
    /// Undoes what was not committed.
    fn roll_back(&mut self) -> Result<()>;
    /// Makes it good again as it was at the last commit, which `proof` is of.
    fn mend(&mut self, remedy: Remedy, proof: &Proof<'_>) -> Result<(), StoreError>;
}

/// What was cut off the ledger's beginning.
pub(crate) struct Trimmed {
    /// What it counted for against the spool's size.
    pub(crate) bytes: u64,
    /// The MAC of the last entry that went, if any was there.
    pub(crate) last: Option<[u8; 32]>,
}

/// Storage that refuses every change after a failure, until it was mended.
pub(crate) struct FailStop {
    pub(crate) inner: Box<dyn Storage>,
    failed: bool,
}

impl FailStop {
    pub(crate) fn new(inner: Box<dyn Storage>) -> Self {
        Self {
            inner,
            failed: false,
        }
    }

    fn run<T>(
        &mut self,
        action: &'static str,
        call: impl FnOnce(&mut dyn Storage) -> Result<T>,
    ) -> Result<T, StoreError> {
        if self.failed {
            return Err(StoreError::Stopped);
        }
        let result = call(&mut *self.inner);
        self.failed = result.is_err();
        result.map_err(database(action))
    }

    pub(crate) fn put(&mut self, at: &At, sealed: &Sealed) -> Result<Option<u64>, StoreError> {
        self.run("write a row", |storage| storage.put(at, sealed))
    }

    pub(crate) fn delete(&mut self, at: &At) -> Result<Option<u64>, StoreError> {
        self.run("delete a row", |storage| storage.delete(at))
    }

    pub(crate) fn append(&mut self, row: &LedgerRow) -> Result<(), StoreError> {
        self.run("write a ledger entry", |storage| storage.append(row))
    }

    pub(crate) fn trim(&mut self, below: u64) -> Result<Trimmed, StoreError> {
        self.run("delete ledger entries", |storage| storage.trim(below))
    }

    pub(crate) fn commit(&mut self, header: &HeaderRow) -> Result<(), StoreError> {
        self.run("commit", |storage| storage.commit(header))
    }

    /// As [`redo_ledger`].
    pub(crate) fn redo_ledger(
        &mut self,
        head: &mut Head,
        record: &Record,
    ) -> Result<(), StoreError> {
        self.run("redo ledger entries", |storage| {
            redo_ledger(storage, head, record)
        })
    }

    /// Entries of the ledger. That they cannot be read stands against no change.
    pub(crate) fn entries(
        &mut self,
        from: u64,
        limit: usize,
    ) -> Result<Vec<LedgerRow>, StoreError> {
        let read = self.inner.entries(from, limit);
        read.map_err(database("read the ledger"))
    }

    pub(crate) fn checkpoint(&mut self) -> Result<(), StoreError> {
        self.run("checkpoint", |storage| storage.checkpoint())
    }

    /// Undoes what was not committed. It refuses as before.
    pub(crate) fn roll_back(&mut self) {
        self.failed = true;
        if let Err(error) = self.inner.roll_back() {
            tracing::warn!(%error, "what was not committed is undone when the store is mended");
        }
    }

    /// Takes changes again, if it can be made good.
    pub(crate) fn mend(&mut self, remedy: Remedy, proof: &Proof<'_>) -> Result<(), StoreError> {
        self.inner
            .roll_back()
            .map_err(database("undo what was not committed"))?;
        self.inner.mend(remedy, proof)?;
        self.failed = false;
        Ok(())
    }
}

fn database(action: &'static str) -> impl FnOnce(rusqlite::Error) -> StoreError {
    move |source| StoreError::Database { action, source }
}
