//! Every row of a table that can be read, though pages of it cannot.

use rusqlite::{Connection, Result, Row, Statement};

use crate::{
    ledger::LedgerRow,
    seal::Sealed,
    store::{
        fault::is_damage,
        schema::{
            Database,
            rows::{number, sealed},
        },
    },
    table::{At, Table},
};

/// So many numbers in a row at which nothing can be read are passed over; beyond, what is left is read from its end.
const MISSED: u32 = 100_000;

/// Every row that can be read, whatever its table.
///
/// # Errors
/// As [`walk`].
pub(in crate::store) fn rows(
    old: &Database,
    take: impl FnMut((At, Sealed)) -> Result<()>,
) -> Result<()> {
    let columns = ("row", "id", "tab, key, version, epoch, payload");
    walk(old.connection(), columns, row, take)
}

/// Every entry of the ledger that can be read.
///
/// # Errors
/// As [`walk`].
pub(in crate::store) fn entries(
    old: &Database,
    take: impl FnMut(LedgerRow) -> Result<()>,
) -> Result<()> {
    let columns = ("ledger", "seq", "mac, version, epoch, payload");
    walk(old.connection(), columns, entry, take)
}

/// Rows of `table` by the column `number`, which is the first that `parse` sees; then come `columns`. What is not formed like a
/// row is passed over.
///
/// # Errors
/// If the file cannot be read for another reason than that it is damaged, and those of `take`.
fn walk<T>(
    old: &Connection,
    (table, number, columns): (&str, &str, &str),
    parse: impl Fn(&Row<'_>) -> Result<T>,
    mut take: impl FnMut(T) -> Result<()>,
) -> Result<()> {
    let from = format!("SELECT {number}, {columns} FROM {table} NOT INDEXED WHERE {number} >= ?1");
    let prepared = |order: &str| old.prepare(&format!("{from} ORDER BY {number} {order}"));
    let (mut forward, mut backward) = match (prepared("ASC"), prepared("DESC")) {
        (Ok(forward), Ok(backward)) => (forward, backward),
        // A table that is not there has no rows.
        (Err(error), _) | (_, Err(error)) if is_damage(&error) => return Ok(()),
        (Err(error), _) | (_, Err(error)) => return Err(error),
    };
    let (mut next, mut missed) = (i64::MIN, 0);
    while missed < MISSED {
        let before = next;
        if pass(&mut forward, next, &mut next, &parse, &mut take)? {
            return Ok(());
        }
        missed = if next > before { 0 } else { missed + 1 };
        next = next.max(0).saturating_add(1);
    }
    pass(&mut backward, next, &mut 0, &parse, &mut take).map(drop)
}

/// Takes rows until there are no more, or one cannot be read: whether there are no more. After the last that was read comes `next`.
fn pass<T>(
    statement: &mut Statement<'_>,
    from: i64,
    next: &mut i64,
    parse: impl Fn(&Row<'_>) -> Result<T>,
    mut take: impl FnMut(T) -> Result<()>,
) -> Result<bool> {
    let mut rows = statement.query([from])?;
    loop {
        match rows.next() {
            Ok(None) => return Ok(true),
            Ok(Some(row)) => {
                *next = row.get::<_, i64>(0)?.saturating_add(1);
                if let Ok(parsed) = parse(row) {
                    take(parsed)?;
                }
            }
            Err(error) if is_damage(&error) => return Ok(false),
            Err(error) => return Err(error),
        }
    }
}

fn row(row: &Row<'_>) -> Result<(At, Sealed)> {
    let tab = number(row, 1)?;
    let mut tables = Table::ROWS.into_iter();
    let table = tables
        .find(|table| u64::from(table.number()) == tab)
        .ok_or(rusqlite::Error::QueryReturnedNoRows)?;
    let key = row.get(2)?;
    Ok((At { table, key }, sealed(row, 3)?))
}

fn entry(row: &Row<'_>) -> Result<LedgerRow> {
    Ok(LedgerRow {
        seq: number(row, 0)?,
        mac: row.get(1)?,
        sealed: sealed(row, 2)?,
    })
}
