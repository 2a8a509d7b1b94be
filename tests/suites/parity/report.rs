//! What was counted: decisions by feature, what was left undecided and why, and what differed.

use std::collections::BTreeMap;

use crate::{causes::Cause, judge::Verdict};

/// The counts of a run.
#[derive(Default)]
pub(crate) struct Report {
    pub(crate) decisions: u64,
    pub(crate) allows: u64,
    pub(crate) denies: u64,
    /// Whole answers that were compared, with status and body.
    pub(crate) answers: u64,
    pub(crate) undecided: BTreeMap<Cause, u64>,
    pub(crate) others: BTreeMap<Verdict, u64>,
    /// By the node that took the question, where there are several.
    pub(crate) nodes: BTreeMap<String, u64>,
    /// Questions put to the node that leads because another had failed at them.
    pub(crate) again: u64,
    /// By feature: allowed, denied, anything else.
    features: BTreeMap<String, [u64; 3]>,
}

impl Report {
    /// A decision in which both sides said the same.
    pub(crate) fn agreed<'f>(
        &mut self,
        verdict: Verdict,
        answer: bool,
        features: impl Iterator<Item = &'f str>,
    ) {
        self.decisions += 1;
        self.answers += u64::from(answer);
        let column = match verdict {
            Verdict::Allowed => {
                self.allows += 1;
                0
            }
            Verdict::Denied => {
                self.denies += 1;
                1
            }
            other => {
                *self.others.entry(other).or_default() += 1;
                2
            }
        };
        for feature in features {
            self.features.entry(feature.to_owned()).or_default()[column] += 1;
        }
    }

    /// A decision that is left to the primary for a listed cause.
    pub(crate) fn left(&mut self, cause: Cause) {
        self.decisions += 1;
        *self.undecided.entry(cause).or_default() += 1;
    }

    /// The node that answered took a question.
    pub(crate) fn asked(&mut self, node: &str) {
        *self.nodes.entry(node.to_owned()).or_default() += 1;
    }

    /// How many were left to the primary.
    pub(crate) fn undecided(&self) -> u64 {
        self.undecided.values().sum()
    }

    /// What a run must have been to count.
    ///
    /// # Panics
    /// If it decided one way too often, or too much was left undecided.
    pub(crate) fn assert_balanced(&self) {
        assert!(
            self.allows * 5 >= self.decisions,
            "too few allows: {self:?}"
        );
        assert!(
            self.denies * 5 >= self.decisions,
            "too few denies: {self:?}"
        );
        assert!(
            self.undecided() * 100 <= self.decisions,
            "too much undecided: {self:?}"
        );
    }
}

impl std::fmt::Debug for Report {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(
            f,
            "{} decisions: {} allowed, {} denied by policy, {} undecided {:?}, others {:?}; {} whole answers equal; by \
             node {:?}, {} of the leader in place of another",
            self.decisions,
            self.allows,
            self.denies,
            self.undecided(),
            self.undecided,
            self.others,
            self.answers,
            self.nodes,
            self.again,
        )?;
        writeln!(
            f,
            "{:<32} {:>9} {:>9} {:>9}",
            "feature", "allowed", "denied", "other"
        )?;
        for (feature, [allowed, denied, other]) in &self.features {
            writeln!(f, "{feature:<32} {allowed:>9} {denied:>9} {other:>9}")?;
        }
        Ok(())
    }
}
