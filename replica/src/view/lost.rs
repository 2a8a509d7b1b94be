//! What of the replica is damaged: rows that do not open, and tables of which rows are missing or were put back in an
//! older version.
//!
//! A row that does not open stays where it is until it is put anew or deleted, so that every start finds it again; that
//! of a table rows are missing is kept in the header. So nothing is forgotten by a restart, and nothing counts for more
//! because something else is gone: what was lost is undecidable, by the name that a request itself brings.

use std::{collections::BTreeSet, iter, sync::Arc};

use imbl::OrdSet;
use shared::{
    damage::{Damage, RowKind},
    grant::{Grant, Revocation, RevokeCause},
    name::{Accessor, TokenDigest, WorkloadName},
    quarantine::Quarantined,
    time::WallTime,
};

use super::{Authority, View};
use crate::table::{At, Table, Tables, Within};

/// Stands for what a row that does not open would have named.
const LOST: &str = "lost";

/// How many of what was lost are named one by one.
const NAMED: usize = 10;

/// What was lost, and was not read anew since.
#[derive(Clone, Default, Debug)]
pub struct Lost {
    rows: OrdSet<At>,
    incomplete: Tables,
}

impl Lost {
    /// Whether nothing was.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty() && self.incomplete.is_empty()
    }

    /// Whether anything of this kind was.
    pub fn any_of(&self, kind: RowKind) -> bool {
        let mut tables = Table::ROWS.into_iter();
        tables.any(|table| table.kept() == Some(kind) && self.any(table))
    }

    /// Whether what lies at `at` may have been.
    pub(crate) fn has(&self, at: &At) -> bool {
        self.incomplete.contains(at.table) || self.has_row(at)
    }

    /// Whether the row at `at` is there and does not open.
    pub(crate) fn has_row(&self, at: &At) -> bool {
        self.rows.contains(at)
    }

    /// Whether anything of this table was.
    pub(crate) fn any(&self, table: Table) -> bool {
        self.incomplete.contains(table) || self.of(table).next().is_some()
    }

    /// Rows of this table that do not open.
    pub(crate) fn of(&self, table: Table) -> impl Iterator<Item = &At> {
        let first = At {
            table,
            key: [0; 32],
        };
        let rows = self.rows.range(first..);
        rows.take_while(move |at| at.table == table)
    }

    /// The tables of which rows are missing.
    pub(crate) fn incomplete(&self) -> Tables {
        self.incomplete
    }

    pub(crate) fn put(&mut self, at: At) {
        self.rows.insert(at);
    }

    pub(crate) fn put_tables(&mut self, tables: Tables) {
        self.incomplete = self.incomplete.and(tables);
    }

    /// The row at `at` was put anew, or is no longer of use.
    pub(crate) fn mend(&mut self, at: &At) {
        self.rows.remove(at);
        if at.table.is_single() {
            self.incomplete.remove(at.table);
        }
    }

    /// All that is of this table was put anew: no row of it is missing any more.
    pub(crate) fn mend_table(&mut self, table: Table) {
        self.incomplete.remove(table);
    }

    /// Nothing of this kind is missed any more. The rows that are left of it.
    pub(crate) fn mend_all(&mut self, kind: RowKind) -> Vec<At> {
        let mut left = Vec::new();
        for table in Table::ROWS {
            if table.kept() == Some(kind) {
                left.extend(self.of(table).copied());
                self.incomplete.remove(table);
            }
        }
        for at in &left {
            self.rows.remove(at);
        }
        left
    }
}

impl Authority {
    /// Whether this is left to the primary, or may be.
    pub fn is_quarantined(&self, what: &Quarantined) -> bool {
        self.quarantines.contains_key(what) || self.lost.incomplete.contains(Table::Quarantine)
    }
}

impl View {
    /// There is no replica to be read: of everything there may have been anything.
    pub(crate) fn lose_everything(&self) {
        let all = Tables::counted(|_| true);
        self.bind(|authority| Arc::make_mut(&mut authority.known).lost.put_tables(all));
    }

    /// What is damaged, for people.
    pub fn damage(&self) -> Vec<Damage> {
        let authority = self.authority();
        let lost = &authority.lost;
        let mut all: Vec<Damage> = Vec::new();
        for table in Table::ROWS {
            let Some(kind) = table.kept().filter(|_| lost.any(table)) else {
                continue;
            };
            let rows = lost.of(table).count();
            let incomplete = lost.incomplete.contains(table);
            match all.iter_mut().find(|one| one.kind == kind) {
                Some(one) => {
                    one.rows = one.rows.max(rows);
                    one.incomplete |= incomplete;
                }
                None => all.push(Damage {
                    kind,
                    rows,
                    names: self.names_lost(&authority, kind),
                    incomplete,
                }),
            }
        }
        all
    }

    /// Of what was lost of a kind, that which has a name that somebody still uses: a row's key does not tell it.
    fn names_lost(&self, authority: &Authority, kind: RowKind) -> Vec<String> {
        let within = self.within(authority);
        let settings = &authority.settings;
        let candidates: Vec<(At, String)> = match kind {
            RowKind::AppRole => {
                let roles = authority.secret_ids.values().map(|known| &known.role);
                let named = roles.map(|role| (within.approle(role), role.name.to_string()));
                named.collect()
            }
            RowKind::Authority => {
                let names = settings.workloads.iter().map(|entry| &entry.name);
                let named = names.map(|name| (within.authority(name), name.to_string()));
                named.collect()
            }
            RowKind::Identity => {
                let grants = self.grants();
                let entities = grants
                    .iter()
                    .filter_map(|live| live.grant.facts.entity_id.clone());
                let named = entities.map(|entity| (within.identity(&entity), entity.to_string()));
                named.collect()
            }
            RowKind::Policies => {
                let unread = authority.policies.iter();
                let unread = unread.flat_map(|known| known.set.unread.keys());
                let named = unread.map(|name| (within.policy(name), name.to_string()));
                named.collect()
            }
            RowKind::Quarantine => {
                let all = authority.quarantines.keys();
                let named = all.map(|what| (within.quarantine(what), what.to_string()));
                named.collect()
            }
            _ => Vec::new(),
        };
        let lost = candidates
            .into_iter()
            .filter(|(at, _)| authority.lost.has_row(at));
        let names: BTreeSet<String> = lost.map(|(_, name)| name).collect();
        names.into_iter().take(NAMED).collect()
    }

    /// Keys of rows of the configured namespace.
    pub(crate) fn within<'a>(&'a self, authority: &'a Authority) -> Within<'a> {
        Within {
            keys: self.keys(),
            namespace: &authority.settings.namespace,
        }
    }

    /// Whether the record of a token is damaged, or may be, so that whether it lives cannot be told.
    pub fn is_lost(&self, digest: &TokenDigest) -> bool {
        let authority = self.authority();
        let lost = &authority.lost;
        lost.any(Table::Grant)
            && self.grant(digest).is_none()
            && lost.has(&At::grant(self.keys(), digest))
    }

    /// Whether what the primary proved of a workload is damaged.
    pub fn is_authority_lost(&self, workload: &WorkloadName) -> bool {
        let authority = self.authority();
        let at = self.within(&authority).authority(workload);
        authority.lost.has(&at) && !authority.workloads.contains_key(workload)
    }

    /// Whether the identity is damaged of an AppRole login that this was given to: then it may be another by now, or gone.
    pub fn is_login_identity_lost(&self, grant: &Grant) -> bool {
        let authority = self.authority();
        let login = grant.replica().and_then(|replica| replica.approle.as_ref());
        let entity = grant.facts.entity_id.as_ref().filter(|_| login.is_some());
        entity.is_some_and(|entity| {
            authority.identity(entity).is_none()
                && authority.lost.any(Table::Identity)
                && authority
                    .lost
                    .has(&self.within(&authority).identity(entity))
        })
    }

    /// Whether a token that `grant` hangs on is lost: with it `grant` may be dead, or may never have been proved.
    pub fn hangs_on_lost(&self, grant: &Grant) -> bool {
        let authority = self.authority();
        if !authority.lost.any(Table::Grant) {
            return false;
        }
        let above = self.ancestors(grant).map(|live| live.grant.parent);
        let mut above = iter::once(grant.parent).chain(above).flatten();
        above.any(|digest| self.revocation(&digest).is_none() && self.is_lost(&digest))
    }

    /// Refuses the grants whose revocations are lost.
    pub(crate) fn strike_what_was_lost(&self) {
        if !self.authority().lost.any(Table::Revocation) {
            return;
        }
        for live in self.grants() {
            if let Some(revocation) = self.lost_revocation(&live.grant.digest) {
                let accessor = live.grant.accessor.clone();
                self.strike(&Revocation {
                    accessor,
                    ..revocation
                });
            }
        }
    }

    /// The revocation of which only the row is left, if this token's is: it does not say by whom, so that nothing that hangs
    /// on the token was spared.
    pub(super) fn lost_revocation(&self, digest: &TokenDigest) -> Option<Revocation> {
        let authority = self.authority();
        let is_lost = authority.lost.any(Table::Revocation)
            && authority.lost.has_row(&At::revocation(self.keys(), digest));
        let accessor = is_lost.then(|| Accessor::parse(LOST).ok()).flatten()?;
        Some(Revocation {
            digest: *digest,
            accessor,
            cause: RevokeCause::Operator,
            at: WallTime::EPOCH,
        })
    }
}
