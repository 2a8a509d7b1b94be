//! The only way to the disk, and what makes it refuse after its first failure.

use super::{StoreError, schema::HeaderRow};
use crate::{ledger::LedgerRow, seal::Sealed, table::At};

/// The only way to the disk. Calls up to a commit are one transaction; what was not committed never was.
pub(crate) trait Storage: Send {
    /// Puts a row; the version of the one that it replaces.
    fn put(&mut self, at: &At, sealed: &Sealed) -> Result<Option<u64>, StoreError>;
    /// Deletes a row; its version.
    fn delete(&mut self, at: &At) -> Result<Option<u64>, StoreError>;
    /// Puts an entry at the ledger's end.
    fn append(&mut self, row: &LedgerRow) -> Result<(), StoreError>;
    /// Deletes entries below a number, of which there are some.
    fn trim(&mut self, below: u64) -> Result<Trimmed, StoreError>;
    /// Puts the header and makes everything since the last commit durable.
    fn commit(&mut self, header: &HeaderRow) -> Result<(), StoreError>;
    /// Committed entries from a number on.
    fn entries(&mut self, from: u64, limit: usize) -> Result<Vec<LedgerRow>, StoreError>;
    /// Bounds the log of commits; nothing becomes more or less durable by it.
    fn checkpoint(&mut self) -> Result<(), StoreError>;
}

/// What was cut off the ledger's beginning.
pub(crate) struct Trimmed {
    /// What it counted for against the spool's size.
    pub(crate) bytes: u64,
    /// The MAC of the last entry that went.
    pub(crate) last: [u8; 32],
}

/// Storage that refuses everything after its first failure.
pub(crate) struct FailStop {
    inner: Box<dyn Storage>,
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
        call: impl FnOnce(&mut dyn Storage) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        if self.failed {
            return Err(StoreError::Stopped);
        }
        let result = call(&mut *self.inner);
        self.failed = result.is_err();
        result
    }
}

impl Storage for FailStop {
    fn put(&mut self, at: &At, sealed: &Sealed) -> Result<Option<u64>, StoreError> {
        self.run(|storage| storage.put(at, sealed))
    }

    fn delete(&mut self, at: &At) -> Result<Option<u64>, StoreError> {
        self.run(|storage| storage.delete(at))
    }

    fn append(&mut self, row: &LedgerRow) -> Result<(), StoreError> {
        self.run(|storage| storage.append(row))
    }

    fn trim(&mut self, below: u64) -> Result<Trimmed, StoreError> {
        self.run(|storage| storage.trim(below))
    }

    fn commit(&mut self, header: &HeaderRow) -> Result<(), StoreError> {
        self.run(|storage| storage.commit(header))
    }

    fn entries(&mut self, from: u64, limit: usize) -> Result<Vec<LedgerRow>, StoreError> {
        self.run(|storage| storage.entries(from, limit))
    }

    fn checkpoint(&mut self) -> Result<(), StoreError> {
        self.run(|storage| storage.checkpoint())
    }
}
