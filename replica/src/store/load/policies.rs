//! Policies: which there are, what each says, and when they were read. What does not open costs one of them, as long as it is
//! known which.

use std::collections::{BTreeMap, BTreeSet};

use shared::{
    change::{PolicySet, PolicyText},
    name::PolicyName,
    time::WallTime,
};

use super::Loader;
use crate::{
    seal::{SealError, Sealed},
    table::{At, PoliciesRow, PoliciesSeenRow, Table},
};

/// What was read of them, row by row.
#[derive(Default)]
pub(super) struct PolicyRows {
    texts: BTreeMap<PolicyName, PolicyText>,
    names: Option<BTreeSet<PolicyName>>,
    /// All of them, from one row of an earlier build.
    together: Option<BTreeMap<PolicyName, PolicyText>>,
    seen: Option<PoliciesSeenRow>,
}

impl PolicyRows {
    fn is_empty(&self) -> bool {
        self.texts.is_empty()
            && self.names.is_none()
            && self.together.is_none()
            && self.seen.is_none()
    }

    /// Takes out those that opened and that the primary does not have any more, by the names of all.
    fn take_stale(&mut self) -> Vec<PolicyName> {
        let (names, together) = (&self.names, self.together.is_some());
        let is_stale = |name: &PolicyName| {
            together || names.as_ref().is_some_and(|names| !names.contains(name))
        };
        let stale = self.texts.extract_if(.., |name, _| is_stale(name));
        stale.map(|(name, _)| name).collect()
    }
}

impl Loader<'_> {
    /// A row of policies, or of when they were read.
    pub(super) fn policies(&mut self, at: At, sealed: &Sealed) -> Result<(), SealError> {
        let only = self.within().only(at.table);
        if at.table == Table::PoliciesSeen {
            let seen = self.open(&at, sealed)?;
            if self.is_ours(at, only) {
                self.policies.seen = Some(seen);
            }
            return Ok(());
        }
        let row: PoliciesRow<'static> = self.open(&at, sealed)?;
        let expected = match &row {
            PoliciesRow::One { name, .. } => self.within().policy(name),
            PoliciesRow::Names(_) | PoliciesRow::Together(_) => only,
        };
        if !self.is_ours(at, expected) {
            return Ok(());
        }
        let rows = &mut self.policies;
        match row {
            PoliciesRow::One { name, policy } => {
                rows.texts.insert(name.into_owned(), policy.into_owned());
            }
            PoliciesRow::Names(names) => rows.names = Some(names),
            PoliciesRow::Together(all) => rows.together = Some(all),
        }
        Ok(())
    }

    /// What the rows come to. A policy whose row does not open exists, and was never read; where it is not known which those are,
    /// or when any was read, none was.
    pub(super) fn put_policies(&mut self) {
        let mut rows = std::mem::take(&mut self.policies);
        if rows.is_empty() {
            return;
        }
        for name in rows.take_stale() {
            let at = self.within().policy(&name);
            self.loaded.disbelieved.push(at);
        }
        self.miss_rows_of_policies(&rows);
        let is_told = self.is_told_which(&rows);
        let names = rows.names.unwrap_or_default();
        self.known.policies_together = rows.together.is_some();
        let texts = rows.together.unwrap_or(rows.texts);
        let lost: Vec<_> = names
            .into_iter()
            .filter(|name| !texts.contains_key(name))
            .collect();
        let seen = rows.seen.unwrap_or(PoliciesSeenRow::All(WallTime::EPOCH));
        let mut set: PolicySet = seen.with(texts);
        if !is_told {
            set.verified_at = WallTime::EPOCH;
        }
        let never = lost.into_iter().map(|name| (name, WallTime::EPOCH));
        set.unread.extend(never);
        self.known.put_policies(set);
    }

    /// The one without the other says nothing.
    fn miss_rows_of_policies(&mut self, rows: &PolicyRows) {
        let is_there = [
            (
                Table::Policies,
                rows.names.is_some() || rows.together.is_some(),
            ),
            (Table::PoliciesSeen, rows.seen.is_some()),
        ];
        for (table, _) in is_there.into_iter().filter(|(_, there)| !there) {
            let at = self.within().only(table);
            self.lost.put(at);
        }
    }

    /// Whether it is known which policies there are: by their names, or by each of them.
    fn is_told_which(&self, rows: &PolicyRows) -> bool {
        let by_name = rows.names.is_some() || rows.together.is_some();
        by_name || !rows.texts.is_empty() && self.lost.of(Table::Policies).count() == 1
    }
}
