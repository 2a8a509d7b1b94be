//! The file as SQLite sees it: its schema, its pragmas, and the statements of the one writer.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use rusqlite::{Connection, OpenFlags, OptionalExtension as _, Result, Row, params};

use super::{
    Proof, Storage, StoreError, Trimmed, copy, fault::Remedy, header::Header, sums::Tallies,
};
use crate::{
    key::{Keys, ReplicaId, slot::Slot},
    ledger::{self, LedgerRow},
    seal::{FORMAT, Sealed},
    table::{At, RowKey, Table},
};

/// `HOLD`: what the file's `application_id` says.
const APPLICATION: i32 = 0x484f_4c44;

/// Pages that SQLite keeps, in KiB: what is hot is the write path alone, for reads come from the view.
const CACHE_KIB: i32 = 8 * 1024;

const SCHEMA: &str = "
CREATE TABLE replica(
  one INTEGER PRIMARY KEY CHECK(one = 1),
  id BLOB NOT NULL
) STRICT;
CREATE TABLE slot(
  number INTEGER PRIMARY KEY,
  kind TEXT NOT NULL,
  parameters BLOB NOT NULL,
  salt BLOB NOT NULL,
  wrapped BLOB NOT NULL
) STRICT;
CREATE TABLE header(
  one INTEGER PRIMARY KEY CHECK(one = 1),
  generation INTEGER NOT NULL,
  version INTEGER NOT NULL,
  epoch INTEGER NOT NULL,
  payload BLOB NOT NULL
) STRICT;
CREATE TABLE row(
  id INTEGER PRIMARY KEY,
  tab INTEGER NOT NULL,
  key BLOB NOT NULL,
  version INTEGER NOT NULL,
  epoch INTEGER NOT NULL,
  payload BLOB NOT NULL,
  UNIQUE(tab, key)
) STRICT;
CREATE TABLE ledger(
  seq INTEGER PRIMARY KEY,
  mac BLOB NOT NULL,
  version INTEGER NOT NULL,
  epoch INTEGER NOT NULL,
  payload BLOB NOT NULL
) STRICT;
";

/// The open file.
pub(crate) struct Database {
    path: PathBuf,
    connection: Connection,
    in_transaction: bool,
    /// Nothing is behind the connection: the file is opened once it can be.
    away: bool,
    /// All of the file, where it has yet to be made.
    made: Option<Vec<u8>>,
    /// What lies in the file may be lost: nothing is committed to it before it was copied, whatever else goes wrong meanwhile.
    distrusted: bool,
}

/// The header's row.
#[derive(Clone, Debug)]
pub(crate) struct HeaderRow {
    pub(crate) generation: u64,
    pub(crate) sealed: Sealed,
}

/// What the file says of itself, before any key is needed.
pub(crate) enum Recognised {
    /// A replica in the format of this build.
    Ours,
    /// A replica in a later format.
    Newer(i64),
    /// Something else.
    Other,
}

impl Database {
    /// Opens an existing file for this process alone.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(path, flags)?;
        // Before the first access, so that the WAL's index is in memory and not in a file.
        connection.pragma_update(None, "locking_mode", "EXCLUSIVE")?;
        connection.pragma_update(None, "trusted_schema", "OFF")?;
        connection.pragma_update(None, "cell_size_check", "ON")?;
        connection.pragma_update(None, "temp_store", "MEMORY")?;
        connection.pragma_update(None, "cache_size", -CACHE_KIB)?;
        connection.set_prepared_statement_cache_capacity(16);
        Ok(Self {
            path: path.into(),
            connection,
            in_transaction: false,
            away: false,
            made: None,
            distrusted: false,
        })
    }

    /// In the place of a file that cannot be opened for writing yet, or that is `made` once it can be.
    pub(crate) fn away(path: &Path, made: Option<Vec<u8>>) -> Result<Self> {
        Ok(Self {
            path: path.into(),
            connection: Connection::open_in_memory()?,
            in_transaction: false,
            away: true,
            made,
            distrusted: false,
        })
    }

    /// From here on nothing is acknowledged before it is synced, and no commit waits for a checkpoint.
    pub(crate) fn begin_writing(&mut self) -> Result<()> {
        let mode: String =
            self.connection
                .pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get(0))?;
        if mode != "wal" {
            return Err(rusqlite::Error::InvalidQuery);
        }
        self.connection.pragma_update(None, "synchronous", "FULL")?;
        self.connection
            .pragma_update(None, "wal_autocheckpoint", 0)?;
        Ok(())
    }

    /// Writes the schema, the replica's id and its slots into an empty file.
    pub(crate) fn format(&mut self, id: ReplicaId, slots: &[Slot]) -> Result<()> {
        let transaction = self.connection.transaction()?;
        transaction.execute_batch(SCHEMA)?;
        transaction.pragma_update(None, "application_id", APPLICATION)?;
        transaction.pragma_update(None, "user_version", FORMAT)?;
        transaction.execute("INSERT INTO replica VALUES (1, ?1)", params![id.0])?;
        for slot in slots {
            transaction.execute(
                "INSERT INTO slot VALUES (?1, ?2, ?3, ?4, ?5)",
                params![
                    slot.number,
                    slot.kind,
                    slot.parameters,
                    slot.salt,
                    slot.wrapped
                ],
            )?;
        }
        transaction.commit()
    }

    /// What this file is.
    pub(crate) fn recognise(&self) -> Result<Recognised> {
        let pragma = |name| {
            self.connection
                .pragma_query_value(None, name, |row| row.get::<_, i64>(0))
        };
        let format = pragma("user_version")?;
        Ok(match pragma("application_id")? {
            id if id != i64::from(APPLICATION) => Recognised::Other,
            _ if format > i64::from(FORMAT) => Recognised::Newer(format),
            _ if format == i64::from(FORMAT) => Recognised::Ours,
            _ => Recognised::Other,
        })
    }

    pub(crate) fn id(&self) -> Result<ReplicaId> {
        let sql = "SELECT id FROM replica";
        self.connection
            .query_row(sql, [], |row| Ok(ReplicaId(row.get(0)?)))
    }

    pub(crate) fn slots(&self) -> Result<Vec<Slot>> {
        let sql = "SELECT number, kind, parameters, salt, wrapped FROM slot ORDER BY number";
        let mut statement = self.connection.prepare(sql)?;
        let slots = statement.query_map([], |row| {
            Ok(Slot {
                number: row.get(0)?,
                kind: row.get(1)?,
                parameters: row.get(2)?,
                salt: row.get(3)?,
                wrapped: row.get(4)?,
            })
        })?;
        slots.collect()
    }

    pub(crate) fn header(&self) -> Result<HeaderRow> {
        let sql = "SELECT version, epoch, payload, generation FROM header";
        self.connection.query_row(sql, [], |row| {
            Ok(HeaderRow {
                generation: number(row, 3)?,
                sealed: sealed(row, 0)?,
            })
        })
    }

    /// What the rows add up to. What is not formed like a row is none.
    pub(crate) fn count(&self, keys: &Keys) -> Result<Tallies> {
        let mut tallies = Tallies::default();
        let sql = "SELECT version, key, epoch FROM row WHERE tab = ?1";
        for table in Table::ROWS.into_iter().filter(|table| table.is_counted()) {
            let mut statement = self.connection.prepare_cached(sql)?;
            let mut rows = statement.query(params![table.number()])?;
            while let Some(row) = rows.next()? {
                let formed = (
                    number(row, 0),
                    row.get::<_, RowKey>(1),
                    row.get::<_, u32>(2),
                );
                if let (Ok(version), Ok(key), Ok(_)) = formed {
                    tallies.add(keys, &At { table, key }, version);
                }
            }
        }
        Ok(tallies)
    }

    /// Deletes, with the next commit, what is not formed like a row: nobody would find it to replace it.
    pub(crate) fn discard_malformed(&mut self) -> Result<()> {
        self.begin()?;
        let sql = "DELETE FROM row WHERE length(key) <> 32 OR version < 0 OR epoch NOT BETWEEN 0 AND 4294967295";
        self.connection.execute(sql, []).map(drop)
    }

    /// Every row of `table`, each with the row of its body where the table has such. What is not formed like a row is passed
    /// over.
    pub(crate) fn rows(
        &self,
        table: Table,
        mut each: impl FnMut(At, Sealed, Option<Sealed>),
    ) -> Result<()> {
        let sql = "SELECT m.version, m.epoch, m.payload, m.key, b.version, b.epoch, b.payload \
                   FROM row m LEFT JOIN row b ON b.tab = ?2 AND b.key = m.key WHERE m.tab = ?1";
        let body = table.body().map_or(-1, |body| i64::from(body.number()));
        let mut statement = self.connection.prepare(sql)?;
        let mut rows = statement.query(params![table.number(), body])?;
        while let Some(row) = rows.next()? {
            if let (Ok(key), Ok(main)) = (row.get::<_, RowKey>(3), sealed(row, 0)) {
                each(At { table, key }, main, sealed(row, 4).ok());
            }
        }
        Ok(())
    }

    /// The number and MAC of the ledger's last entry.
    pub(crate) fn ledger_end(&self) -> Result<Option<(u64, [u8; 32])>> {
        let sql = "SELECT seq, mac FROM ledger ORDER BY seq DESC LIMIT 1";
        self.connection
            .query_row(sql, [], |row| Ok((number(row, 0)?, row.get(1)?)))
            .optional()
    }

    /// Opens the file anew, if it is still that of the last commit.
    fn reopen(&mut self, proof: &Proof<'_>) -> Result<(), StoreError> {
        let failed = |action| move |source| StoreError::Database { action, source };
        // Two connections of one process to one file would stand in each other's way.
        let (made, distrusted) = (self.made.take(), self.distrusted);
        let away = Self::away(&self.path, made).map_err(failed("let go of the file"))?;
        *self = Self { distrusted, ..away };
        copy::finish(&self.path)?;
        if let Some(made) = &self.made {
            copy::install(&self.path, made)?;
        }
        let opened = Self::as_of(&self.path, proof)?;
        *self = Self {
            distrusted,
            ..opened
        };
        Ok(())
    }

    /// Goes on in a copy. What the old connection shows of the old file is good for another, if this one cannot be opened.
    fn renew(&mut self, proof: &Proof<'_>) -> Result<(), StoreError> {
        let path = self.path.clone();
        copy::renew(self, &path, proof)?;
        let renewed = Self::as_of(&path, proof)?;
        let old = std::mem::replace(self, renewed);
        // What is closed must not write to what lies under its name now.
        let config = rusqlite::config::DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE;
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

    fn begin(&mut self) -> Result<()> {
        if !self.in_transaction {
            self.connection.execute_batch("BEGIN IMMEDIATE")?;
            self.in_transaction = true;
        }
        Ok(())
    }

    fn version(&self, at: &At) -> Result<Option<u64>> {
        self.connection
            .prepare_cached("SELECT version FROM row WHERE tab = ?1 AND key = ?2")?
            .query_row(params![at.table.number(), at.key], |row| number(row, 0))
            .optional()
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
        let sql = "SELECT sum(length(payload)), count(*) FROM ledger WHERE seq < ?1";
        let below = signed(below)?;
        let (length, entries) = self.connection.query_row(sql, params![below], |row| {
            let length: Option<i64> = row.get(0)?;
            Ok((length.unwrap_or(0).unsigned_abs(), number(row, 1)?))
        })?;
        // The last that is there: one that is missing must not keep others from being cut.
        let sql = "SELECT mac FROM ledger WHERE seq < ?1 ORDER BY seq DESC LIMIT 1";
        let last = self
            .connection
            .query_row(sql, params![below], |row| row.get(0))?;
        self.connection
            .execute("DELETE FROM ledger WHERE seq < ?1", params![below])?;
        Ok(Trimmed {
            bytes: ledger::size(length, entries),
            last,
        })
    }

    fn checkpoint(&mut self) -> Result<()> {
        self.connection
            .query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()))
    }

    fn drop_from(&mut self, from: u64) -> Result<()> {
        self.begin()?;
        let sql = "DELETE FROM ledger WHERE seq >= ?1";
        self.connection.execute(sql, params![signed(from)?])?;
        Ok(())
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

/// SQLite's integers are signed; a number beyond is one that nobody wrote.
fn signed(number: u64) -> Result<i64> {
    i64::try_from(number).map_err(|error| rusqlite::Error::ToSqlConversionFailure(error.into()))
}

fn number(row: &Row<'_>, column: usize) -> Result<u64> {
    let number: i64 = row.get(column)?;
    u64::try_from(number).map_err(|_| rusqlite::Error::IntegralValueOutOfRange(column, number))
}

/// Version, epoch and payload, from `column` on.
fn sealed(row: &Row<'_>, column: usize) -> Result<Sealed> {
    let bytes = row.get_ref(column + 2)?.as_blob()?;
    Ok(Sealed {
        version: number(row, column)?,
        epoch: row.get(column + 1)?,
        bytes: Arc::from(bytes),
    })
}
