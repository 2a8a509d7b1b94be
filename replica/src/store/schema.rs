//! The file as SQLite sees it: its schema, its pragmas, and the statements of the one writer.

use std::{
    fs::File,
    path::{Path, PathBuf},
};

use rusqlite::{Connection, OpenFlags, Result, config::DbConfig, params};

use super::fault::is_missing;
use crate::{
    key::{ReplicaId, slot::Slot},
    seal::{FORMAT, Sealed},
};

pub(crate) mod rows;
mod writing;

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

/// Every table with its columns.
const TABLES: [&str; 5] = [
    "SELECT one, id FROM replica",
    "SELECT number, kind, parameters, salt, wrapped FROM slot",
    "SELECT one, generation, version, epoch, payload FROM header",
    "SELECT id, tab, key, version, epoch, payload FROM row",
    "SELECT seq, mac, version, epoch, payload FROM ledger",
];

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
    /// The lock of a file that this has made. Held, not read.
    lock: Option<File>,
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
        // What is only looked at is not changed by that.
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
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
            lock: None,
        })
    }

    /// Opens a file that is damaged, to take out what can be read: as far as it goes, and without a change to it.
    pub(super) fn open_damaged(path: &Path) -> Result<Self> {
        let opened = Self::open(path)?;
        // So SQLite reads a file that is shorter than it says.
        opened
            .connection
            .pragma_update(None, "writable_schema", "ON")?;
        Ok(opened)
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
            lock: None,
        })
    }

    /// From here on nothing is acknowledged before it is synced, and no commit waits for a checkpoint.
    pub(crate) fn begin_writing(&mut self) -> Result<()> {
        let config = DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE;
        self.connection.set_db_config(config, false)?;
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

    /// Whether every table is there, with its columns.
    pub(crate) fn has_tables(&self) -> Result<bool> {
        for sql in TABLES {
            match self.connection.prepare(sql) {
                Err(error) if is_missing(&error) => return Ok(false),
                prepared => drop(prepared?),
            }
        }
        Ok(true)
    }

    /// The connection, for what takes rows as they lie.
    pub(super) fn connection(&self) -> &Connection {
        &self.connection
    }
}
