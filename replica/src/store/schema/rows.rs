//! Rows as they lie in the file, read.

use std::sync::Arc;

use rusqlite::{OptionalExtension as _, Result, Row, params};

use super::{Database, HeaderRow};
use crate::{
    key::Keys,
    seal::Sealed,
    store::sums::Tallies,
    table::{At, RowKey, Table},
};

impl Database {
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

    /// In which version the row at `at` is there.
    pub(crate) fn version(&self, at: &At) -> Result<Option<u64>> {
        self.connection
            .prepare_cached("SELECT version FROM row WHERE tab = ?1 AND key = ?2")?
            .query_row(params![at.table.number(), at.key], |row| number(row, 0))
            .optional()
    }
}

/// SQLite's integers are signed; a number beyond is one that nobody wrote.
pub(super) fn signed(number: u64) -> Result<i64> {
    i64::try_from(number).map_err(|error| rusqlite::Error::ToSqlConversionFailure(error.into()))
}

/// An integer that is none below zero.
pub(crate) fn number(row: &Row<'_>, column: usize) -> Result<u64> {
    let number: i64 = row.get(column)?;
    u64::try_from(number).map_err(|_| rusqlite::Error::IntegralValueOutOfRange(column, number))
}

/// Version, epoch and payload, from `column` on.
pub(crate) fn sealed(row: &Row<'_>, column: usize) -> Result<Sealed> {
    let bytes = row.get_ref(column + 2)?.as_blob()?;
    Ok(Sealed {
        version: number(row, column)?,
        epoch: row.get(column + 1)?,
        bytes: Arc::from(bytes),
    })
}
