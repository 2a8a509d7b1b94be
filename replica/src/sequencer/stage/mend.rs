//! What was damaged: a row ends to be so when it is put anew or deleted, a kind when all that can be read of it was.

use shared::{
    damage::RowKind,
    quarantine::{Quarantine, Quarantined},
};

use super::{
    Stage,
    add::{Added, Adder},
};
use crate::{
    store::unexplained,
    table::{At, Table},
    view::{Known, Lost},
};

impl Stage<'_> {
    /// What is damaged as this stage leaves it, if it changes that.
    pub(in crate::sequencer) fn lost(&self) -> Option<&Lost> {
        self.known.as_ref().map(|known| &known.lost)
    }
}

impl Adder<'_, '_> {
    /// The row at `at` is put or deleted.
    pub(super) fn mend(&mut self, at: &At) {
        if self.is_lost(at) {
            self.stage.known().lost.mend(at);
        }
    }

    fn is_lost(&self, at: &At) -> bool {
        let authority = self.stage.view.authority();
        let known = self.stage.known.as_ref().unwrap_or(&authority.known);
        !known.lost.is_empty() && known.lost.has(at)
    }

    /// What is concluded from what is lost of this kind becomes rows of its own; the rest goes.
    pub(super) fn mended(&mut self, kind: RowKind) -> Added {
        match kind {
            RowKind::Block => self.keep_blocks()?,
            RowKind::Quarantine => self.keep_quarantines()?,
            RowKind::Revocation => self.keep_revocations()?,
            _ => {}
        }
        let left = self.stage.known().lost.mend_all(kind);
        for at in left {
            match at.table.body() {
                Some(_) => self.delete_with_body(at),
                None => self.delete(at),
            }
        }
        Ok(())
    }

    /// Where any may be missing, all that could be in quarantine is from here on.
    fn keep_quarantines(&mut self) -> Added {
        let lost = self.stage.known().lost.clone();
        let quarantines = self.stage.known().quarantines.clone();
        let within = self.within();
        let known = quarantines.values();
        let mut kept: Vec<Quarantine> = known
            .filter(|one| lost.has_row(&within.quarantine(&one.what)))
            .map(|one| Quarantine::clone(one))
            .collect();
        if lost.incomplete().contains(Table::Quarantine) {
            let all = self.quarantinable().into_iter();
            let more = all.filter(|what| !quarantines.contains_key(what));
            kept.extend(more.map(unexplained));
        }
        for one in kept {
            let at = self.within().quarantine(&one.what);
            self.know(at, one, Known::put_quarantine)?;
        }
        Ok(())
    }

    /// Every policy that is known, and every workload's issuing.
    fn quarantinable(&mut self) -> Vec<Quarantined> {
        let known = self.stage.known();
        let policies = known.policies.iter();
        let policies = policies.flat_map(|policies| policies.set.names().cloned());
        let policies: Vec<_> = policies.map(Quarantined::Policy).collect();
        let workloads = self.workloads().map(Quarantined::Issuing);
        policies.into_iter().chain(workloads).collect()
    }

    fn keep_revocations(&mut self) -> Added {
        for live in self.stage.view.grants() {
            let Some(revocation) = live.revoked.get() else {
                continue;
            };
            let at = At::revocation(self.keys, &live.grant.digest);
            if self.is_lost(&at) {
                self.put(at, revocation)?;
            }
        }
        Ok(())
    }
}
