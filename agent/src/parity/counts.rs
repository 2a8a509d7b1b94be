//! What comparing counts. Every label has few values, all of them there from the start.

use prometheus_client::{
    metrics::{counter::Counter, family::Family},
    registry::Registry,
};
use replica::parity::Disagreement;

const AGREE: &str = "agree";
const NOT_COVERED: &str = "not_covered";

/// The counters. Cheap to clone.
#[derive(Clone)]
pub struct Counts {
    checks: Labelled,
    mismatches: Labelled,
    causes: Labelled,
    dropped: Labelled,
}

/// A counter for each value of one label.
#[derive(Clone)]
struct Labelled {
    label: &'static str,
    family: Family<[(&'static str, &'static str); 1], Counter>,
}

/// Why a request was not compared to an end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Dropped {
    /// The queue was full.
    NoRoom,
    /// What it was decided from changed meanwhile, or was not verified again in time.
    Unsettled,
}

impl Labelled {
    fn new(label: &'static str, values: impl IntoIterator<Item = &'static str>) -> Self {
        let family = Family::default();
        let labelled = Self { label, family };
        for value in values {
            labelled.add(value, 0);
        }
        labelled
    }

    fn add(&self, value: &'static str, times: u64) {
        self.family
            .get_or_create(&[(self.label, value)])
            .inc_by(times);
    }

    fn get(&self, value: &'static str) -> u64 {
        self.family.get_or_create(&[(self.label, value)]).get()
    }
}

impl Default for Counts {
    fn default() -> Self {
        let kinds = Disagreement::ALL.map(Disagreement::name);
        let dropped = [Dropped::NoRoom, Dropped::Unsettled];
        Self {
            checks: Labelled::new("result", [AGREE, NOT_COVERED].into_iter().chain(kinds)),
            mismatches: Labelled::new("kind", kinds),
            causes: Labelled::new("cause", []),
            dropped: Labelled::new("reason", dropped.map(Dropped::name)),
        }
    }
}

impl Dropped {
    fn name(self) -> &'static str {
        match self {
            Self::NoRoom => "no_room",
            Self::Unsettled => "unsettled",
        }
    }
}

impl Counts {
    /// Registers them under their names, without the prefix.
    pub fn register(&self, registry: &mut Registry) {
        for (name, help, counter) in [
            (
                "parity_checks",
                "Live requests judged by the replica too, by what comparing the decisions came to",
                &self.checks,
            ),
            (
                "parity_mismatches",
                "Comparisons that disagree and stand, by kind",
                &self.mismatches,
            ),
            (
                "parity_undecidable",
                "Mismatches of the kind undecidable, by their cause",
                &self.causes,
            ),
            (
                "parity_dropped",
                "Requests that were to be compared and were not, by reason",
                &self.dropped,
            ),
        ] {
            registry.register(name, help, counter.family.clone());
        }
    }

    /// Decisions that were compared, to an end.
    pub(super) fn checked(&self) -> u64 {
        let all = Disagreement::ALL.map(|kind| self.mismatches_of(kind));
        self.checks.get(AGREE) + all.iter().sum::<u64>()
    }

    pub(super) fn mismatches_of(&self, kind: Disagreement) -> u64 {
        self.mismatches.get(kind.name())
    }

    pub(super) fn not_covered(&self) -> u64 {
        self.checks.get(NOT_COVERED)
    }

    pub(super) fn dropped(&self, why: Dropped) -> u64 {
        self.dropped.get(why.name())
    }

    pub(super) fn agree(&self, times: u64) {
        self.checks.add(AGREE, times);
    }

    pub(super) fn leave(&self, times: u64) {
        self.checks.add(NOT_COVERED, times);
    }

    pub(super) fn disagree(&self, kind: Disagreement, fields: &[&'static str], times: u64) {
        self.checks.add(kind.name(), times);
        self.mismatches.add(kind.name(), times);
        if let (Disagreement::Undecidable, Some(cause)) = (kind, fields.first()) {
            self.causes.add(cause, times);
        }
    }

    pub(super) fn drop(&self, why: Dropped, times: u64) {
        self.dropped.add(why.name(), times);
    }
}
