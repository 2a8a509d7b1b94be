//! Policies: each has a row of its own, so that what is damaged is one of them, and what is written is what changed.

use std::{borrow::Cow, collections::BTreeSet};

use shared::change::PolicySet;

use super::add::{Added, Adder};
use crate::table::{PoliciesRow, PoliciesSeenRow, Table};

impl Adder<'_, '_> {
    /// A verification that changed nothing rewrites its time alone.
    pub(super) fn policies(&mut self, set: PolicySet) -> Added {
        let known = self.stage.known();
        let before = known.policies.clone();
        let before = before.as_deref().map(|before| &before.set);
        let is_kept = !known.policies_together
            && !known.lost.any(Table::Policies)
            && before.is_some_and(|before| before.policies == set.policies);
        if !is_kept {
            self.policy_rows(before, &set)?;
        }
        let seen = self.within().only(Table::PoliciesSeen);
        self.put(seen, &PoliciesSeenRow::of(&set))?;
        self.stage.known().put_policies(set);
        Ok(())
    }

    /// Puts what differs or was damaged, and deletes what is gone. The names lie where earlier builds had all of them.
    fn policy_rows(&mut self, before: Option<&PolicySet>, set: &PolicySet) -> Added {
        let known = self.stage.known();
        let (together, lost) = (known.policies_together, known.lost.clone());
        for (name, policy) in &set.policies {
            let at = self.within().policy(name);
            let is_kept = !together
                && !lost.has(&at)
                && before.is_some_and(|before| before.policies.get(name) == Some(policy));
            if !is_kept {
                let (name, policy) = (Cow::Borrowed(name), Cow::Borrowed(policy));
                self.put(at, &PoliciesRow::One { name, policy })?;
            }
        }
        let before = before.into_iter();
        let before = before.flat_map(|before| before.policies.keys().chain(before.unread.keys()));
        for name in before.filter(|name| !set.policies.contains_key(*name)) {
            self.delete(self.within().policy(name));
        }
        let names: BTreeSet<_> = set.policies.keys().cloned().collect();
        let only = self.within().only(Table::Policies);
        self.put(only, &PoliciesRow::Names(names))?;
        let known = self.stage.known();
        known.policies_together = false;
        known.lost.mend_table(Table::Policies);
        Ok(())
    }
}
