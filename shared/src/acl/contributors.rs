//! Which policies stand behind which rule. Rules are many and the sets of policies behind them few: each set is kept
//! once.

use alloc::{boxed::Box, collections::BTreeMap, sync::Arc, vec::Vec};

/// Number of a set in its [`ContributorSets`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct SetId(usize);

/// Sets of policies, by number.
#[derive(Clone, Debug, Default)]
pub(super) struct ContributorSets(Vec<ContributorSet>);

#[derive(Clone, Debug)]
struct ContributorSet {
    /// In the order in which they were merged.
    names: Box<[Arc<str>]>,
    quarantined: bool,
}

/// Sets under way, as one policy after the other is merged.
#[derive(Default)]
pub(super) struct ContributorMerge {
    sets: ContributorSets,
    /// The policy that is being merged, and whether it is in quarantine.
    merging: Option<(Arc<str>, bool)>,
    /// What it makes of the sets before it.
    grown: BTreeMap<Option<SetId>, SetId>,
}

impl ContributorSets {
    /// The names of a set.
    pub(super) fn names(&self, id: SetId) -> &[Arc<str>] {
        self.0.get(id.0).map_or(&[], |set| &set.names)
    }

    /// Whether one of the set is in quarantine.
    pub(super) fn is_quarantined(&self, id: SetId) -> bool {
        self.0.get(id.0).is_some_and(|set| set.quarantined)
    }
}

impl ContributorMerge {
    /// What is merged from here on comes from this policy.
    pub(super) fn begin(&mut self, policy: &str, quarantined: bool) {
        self.merging = Some((policy.into(), quarantined));
        self.grown.clear();
    }

    /// The set of a rule that had `before`, with the policy that is being merged.
    pub(super) fn with(&mut self, before: Option<SetId>) -> SetId {
        if let Some(grown) = self.grown.get(&before) {
            return *grown;
        }
        let mut names = before.map_or_else(Vec::new, |id| self.sets.names(id).to_vec());
        let mut quarantined = before.is_some_and(|id| self.sets.is_quarantined(id));
        if let Some((merging, is_in)) = &self.merging {
            names.push(Arc::clone(merging));
            quarantined |= *is_in;
        }
        let grown = SetId(self.sets.0.len());
        self.sets.0.push(ContributorSet {
            names: names.into(),
            quarantined,
        });
        self.grown.insert(before, grown);
        // A policy may have several rules for one path, and contributes once.
        self.grown.insert(Some(grown), grown);
        grown
    }

    pub(super) fn finish(self) -> ContributorSets {
        self.sets
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use super::*;

    #[test]
    fn rules_of_the_same_policies_share_one_set() {
        let mut merge = ContributorMerge::default();
        merge.begin("a", false);
        let of_a = merge.with(None);
        assert_eq!(merge.with(None), of_a);
        assert_eq!(merge.with(Some(of_a)), of_a);
        merge.begin("b", true);
        let of_both = merge.with(Some(of_a));
        assert_eq!(merge.with(Some(of_a)), of_both);
        let of_b = merge.with(None);
        let sets = merge.finish();
        let names = |id| {
            sets.names(id)
                .iter()
                .map(|name| &**name)
                .collect::<Vec<_>>()
        };
        assert_eq!(
            [names(of_a), names(of_b), names(of_both)],
            [vec!["a"], vec!["b"], vec!["a", "b"]]
        );
        assert_eq!(
            [of_a, of_b, of_both].map(|id| sets.is_quarantined(id)),
            [false, true, true]
        );
        assert_eq!(sets.0.len(), 3);
    }
}
