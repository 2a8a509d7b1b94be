//! Sets of tables.

use super::Table;

/// Some of the tables.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) struct Tables(u32);

impl Tables {
    /// Those whose rows are counted and for which `is_in` holds.
    pub(crate) fn counted(is_in: impl Fn(Table) -> bool) -> Self {
        let mut tables = Self::default();
        let all = Table::ROWS.into_iter();
        all.filter(|table| table.is_counted() && is_in(*table))
            .for_each(|table| tables.insert(table));
        tables
    }

    pub(crate) fn contains(self, table: Table) -> bool {
        self.0 & bit(table) != 0
    }

    pub(crate) fn insert(&mut self, table: Table) {
        self.0 |= bit(table);
    }

    pub(crate) fn remove(&mut self, table: Table) {
        self.0 &= !bit(table);
    }

    pub(crate) fn is_empty(self) -> bool {
        self.0 == 0
    }

    #[must_use]
    pub(crate) fn and(self, others: Self) -> Self {
        Self(self.0 | others.0)
    }

    /// Whether any is in both.
    pub(crate) fn overlaps(self, others: Self) -> bool {
        self.0 & others.0 != 0
    }

    /// As it is stored: a bit for each number of a table.
    pub(crate) fn bits(self) -> u32 {
        self.0
    }

    /// What [`Tables::bits`] gave.
    pub(crate) fn of_bits(bits: u32) -> Self {
        Self(bits)
    }
}

fn bit(table: Table) -> u32 {
    1_u32.checked_shl(u32::from(table.number())).unwrap_or(0)
}
