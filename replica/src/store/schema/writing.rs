//! The statements of the one writer, and what makes the file good again.

use std::path::Path;

use rusqlite::{OptionalExtension as _, Result, config::DbConfig, params};

use super::{
    Database, HeaderRow,
    rows::{number, sealed, signed},
};
use crate::{
    ledger::{self, LedgerRow},
    seal::Sealed,
    store::{Proof, Storage, StoreError, Trimmed, copy, fault::Remedy, header::Header},
    table::At,
};

impl Database {
    /// Opens the file anew, if it is still that of the last commit.
    fn reopen(&mut self, proof: &Proof<'_>) -> Result<(), StoreError> {
        let failed = |action| move |source| StoreError::Database { action, source };
        // Two connections of one process to one file would stand in each other's way.
        let (made, distrusted, lock) = (self.made.take(), self.distrusted, self.lock.take());
        let away = Self::away(&self.path, made).map_err(failed("let go of the file"))?;
        *self = Self {
            distrusted,
            lock,
            ..away
        };
        self.make()?;
        let opened = Self::as_of(&self.path, proof)?;
        *self = Self {
            distrusted,
            lock: self.lock.take(),
            ..opened
        };
        Ok(())
    }

    /// Puts in its place what is whole and is not there yet: a copy, or all of a file that has yet to be made.
    fn make(&mut self) -> Result<(), StoreError> {
        let Some(made) = &self.made else {
            return copy::finish(&self.path);
        };
        // Nobody could hold the lock of a file in a folder that was not there.
        if self.lock.is_none() {
            self.lock = Some(copy::claim(&self.path)?);
        }
        copy::finish(&self.path)?;
        copy::install(&self.path, made)
    }

    /// Goes on in a copy. What the old connection shows of the old file is good for another, if this one cannot be opened.
    fn renew(&mut self, proof: &Proof<'_>) -> Result<(), StoreError> {
        let path = self.path.clone();
        copy::renew(self, &path, proof)?;
        let renewed = Self::as_of(&path, proof)?;
        let lock = self.lock.take();
        let old = std::mem::replace(self, Self { lock, ..renewed });
        // What is closed must not write to what lies under its name now.
        let config = DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE;
        if let Err(error) = old.connection.set_db_config(config, true) {
            tracing::warn!(%error, "the old file is closed as one that was good");
        }
        Ok(())
    }

    /// The file at `path`, if it is that of the last commit.
    fn as_of(path: &Path, proof: &Proof<'_>) -> Result<Self, StoreError> {
        let failed = |action| move |source| StoreError::Database { action, source };
        let opened = Self::open(path).map_err(failed("open the file"))?;
        let row = opened.header().map_err(failed("read the file"))?;
        let header = Header::open(proof.keys, &row);
        match header.is_some_and(|header| header.generation == proof.header.generation) {
            true => Ok(opened),
            false => Err(StoreError::Changed),
        }
    }

    /// What entries on one side of a number count for against the spool's size.
    fn taken(&self, side: &str, number_of: i64) -> Result<u64> {
        let sql = format!("SELECT sum(length(payload)), count(*) FROM ledger WHERE {side}");
        self.connection.query_row(&sql, params![number_of], |row| {
            let length: Option<i64> = row.get(0)?;
            Ok(ledger::size(
                length.unwrap_or(0).unsigned_abs(),
                number(row, 1)?,
            ))
        })
    }

    pub(super) fn begin(&mut self) -> Result<()> {
        if !self.in_transaction {
            self.connection.execute_batch("BEGIN IMMEDIATE")?;
            self.in_transaction = true;
        }
        Ok(())
    }
}

impl Storage for Database {
    fn put(&mut self, at: &At, sealed: &Sealed) -> Result<Option<u64>> {
        self.begin()?;
        let before = self.version(at)?;
        let sql = "INSERT INTO row(tab, key, version, epoch, payload) VALUES (?1, ?2, ?3, ?4, ?5) \
                   ON CONFLICT(tab, key) DO UPDATE SET version = excluded.version, \
                   epoch = excluded.epoch, payload = excluded.payload";
        self.connection.prepare_cached(sql)?.execute(params![
            at.table.number(),
            at.key,
            signed(sealed.version)?,
            sealed.epoch,
            &*sealed.bytes
        ])?;
        Ok(before)
    }

    fn delete(&mut self, at: &At) -> Result<Option<u64>> {
        self.begin()?;
        let before = self.version(at)?;
        if before.is_some() {
            self.connection
                .prepare_cached("DELETE FROM row WHERE tab = ?1 AND key = ?2")?
                .execute(params![at.table.number(), at.key])?;
        }
        Ok(before)
    }

    fn append(&mut self, row: &LedgerRow) -> Result<()> {
        self.begin()?;
        // An entry there already is one that was put there by somebody else.
        let sql = "INSERT OR REPLACE INTO ledger VALUES (?1, ?2, ?3, ?4, ?5)";
        self.connection.prepare_cached(sql)?.execute(params![
            signed(row.seq)?,
            row.mac,
            signed(row.sealed.version)?,
            row.sealed.epoch,
            &*row.sealed.bytes
        ])?;
        Ok(())
    }

    fn commit(&mut self, header: &HeaderRow) -> Result<()> {
        self.begin()?;
        let sql = "INSERT OR REPLACE INTO header VALUES (1, ?1, ?2, ?3, ?4)";
        self.connection.prepare_cached(sql)?.execute(params![
            signed(header.generation)?,
            signed(header.sealed.version)?,
            header.sealed.epoch,
            &*header.sealed.bytes
        ])?;
        self.connection.execute_batch("COMMIT")?;
        self.in_transaction = false;
        Ok(())
    }

    fn entries(&mut self, from: u64, limit: usize) -> Result<Vec<LedgerRow>> {
        let sql = "SELECT version, epoch, payload, seq, mac FROM ledger WHERE seq >= ?1 \
                   ORDER BY seq LIMIT ?2";
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let mut statement = self.connection.prepare_cached(sql)?;
        let rows = statement.query_map(params![signed(from)?, limit], |row| {
            Ok(LedgerRow {
                seq: number(row, 3)?,
                mac: row.get(4)?,
                sealed: sealed(row, 0)?,
            })
        })?;
        rows.collect()
    }

    fn trim(&mut self, below: u64) -> Result<Trimmed> {
        self.begin()?;
        let below = signed(below)?;
        let bytes = self.taken("seq < ?1", below)?;
        // The last that is there: what is missing must not keep others from being cut.
        let sql = "SELECT mac FROM ledger WHERE seq < ?1 ORDER BY seq DESC LIMIT 1";
        let last = self
            .connection
            .query_row(sql, params![below], |row| row.get(0))
            .optional()?;
        self.connection
            .execute("DELETE FROM ledger WHERE seq < ?1", params![below])?;
        Ok(Trimmed { bytes, last })
    }

    fn checkpoint(&mut self) -> Result<()> {
        self.connection
            .query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()))
    }

    fn drop_from(&mut self, from: u64) -> Result<u64> {
        self.begin()?;
        let from = signed(from)?;
        let dropped = self.taken("seq >= ?1", from)?;
        let sql = "DELETE FROM ledger WHERE seq >= ?1";
        self.connection.execute(sql, params![from])?;
        Ok(dropped)
    }

    fn roll_back(&mut self) -> Result<()> {
        self.in_transaction = false;
        // SQLite may have undone it by itself.
        match self.connection.is_autocommit() {
            true => Ok(()),
            false => self.connection.execute_batch("ROLLBACK"),
        }
    }

    fn mend(&mut self, remedy: Remedy, proof: &Proof<'_>) -> Result<(), StoreError> {
        self.distrusted |= remedy == Remedy::Copy;
        // What is whole takes its place before anything is committed: a start would put it there, over what came since.
        let is_copied = copy::is_whole(&self.path);
        if self.away || is_copied || remedy == Remedy::Reopen {
            self.reopen(proof)?;
        }
        if self.distrusted && !is_copied {
            self.renew(proof)?;
        }
        self.distrusted = false;
        self.begin_writing().map_err(|source| StoreError::Database {
            action: "begin to write",
            source,
        })
    }
}
