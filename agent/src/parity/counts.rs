//! What comparing counts. Every label has few values, all of them there from the start.

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family},
    registry::Registry,
};
use replica::parity::Disagreement;

const AGREE: &str = "agree";
const NOT_COVERED: &str = "not_covered";

/// The counters. Cheap to clone.
#[derive(Clone)]
pub struct Counts {
    checks: Family<ResultLabel, Counter>,
    mismatches: Family<KindLabel, Counter>,
    causes: Family<CauseLabel, Counter>,
    dropped: Family<ReasonLabel, Counter>,
}

/// Why a request was not compared to an end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Dropped {
    /// The queue was full.
    NoRoom,
    /// What it was decided from changed meanwhile, or was not verified again in time.
    Unsettled,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct ResultLabel {
    result: &'static str,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct KindLabel {
    kind: &'static str,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct CauseLabel {
    cause: &'static str,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct ReasonLabel {
    reason: &'static str,
}

impl Default for Counts {
    fn default() -> Self {
        let counts = Self {
            checks: Family::default(),
            mismatches: Family::default(),
            causes: Family::default(),
            dropped: Family::default(),
        };
        for result in [AGREE, NOT_COVERED] {
            drop(counts.checks.get_or_create(&ResultLabel { result }));
        }
        for kind in Disagreement::ALL.map(Disagreement::name) {
            drop(counts.checks.get_or_create(&ResultLabel { result: kind }));
            drop(counts.mismatches.get_or_create(&KindLabel { kind }));
        }
        for dropped in [Dropped::NoRoom, Dropped::Unsettled] {
            let reason = dropped.name();
            drop(counts.dropped.get_or_create(&ReasonLabel { reason }));
        }
        counts
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
        registry.register(
            "parity_checks",
            "Live requests judged by the replica too, by what comparing the decisions came to",
            self.checks.clone(),
        );
        registry.register(
            "parity_mismatches",
            "Comparisons that disagree and stand, by kind",
            self.mismatches.clone(),
        );
        registry.register(
            "parity_undecidable",
            "Mismatches of the kind undecidable, by their cause",
            self.causes.clone(),
        );
        registry.register(
            "parity_dropped",
            "Requests that were to be compared and were not, by reason",
            self.dropped.clone(),
        );
    }

    /// Decisions that were compared, to an end.
    pub(super) fn checked(&self) -> u64 {
        let all = Disagreement::ALL.map(|kind| self.mismatches_of(kind));
        self.of(AGREE) + all.iter().sum::<u64>()
    }

    pub(super) fn mismatches_of(&self, kind: Disagreement) -> u64 {
        let kind = kind.name();
        self.mismatches.get_or_create(&KindLabel { kind }).get()
    }

    pub(super) fn not_covered(&self) -> u64 {
        self.of(NOT_COVERED)
    }

    pub(super) fn dropped(&self, why: Dropped) -> u64 {
        let reason = why.name();
        self.dropped.get_or_create(&ReasonLabel { reason }).get()
    }

    pub(super) fn agree(&self, times: u64) {
        let label = ResultLabel { result: AGREE };
        self.checks.get_or_create(&label).inc_by(times);
    }

    pub(super) fn leave(&self, times: u64) {
        let label = ResultLabel {
            result: NOT_COVERED,
        };
        self.checks.get_or_create(&label).inc_by(times);
    }

    pub(super) fn disagree(&self, kind: Disagreement, fields: &[&'static str], times: u64) {
        let name = kind.name();
        let label = ResultLabel { result: name };
        self.checks.get_or_create(&label).inc_by(times);
        let label = KindLabel { kind: name };
        self.mismatches.get_or_create(&label).inc_by(times);
        if let (Disagreement::Undecidable, Some(cause)) = (kind, fields.first()) {
            let label = CauseLabel { cause };
            self.causes.get_or_create(&label).inc_by(times);
        }
    }

    pub(super) fn drop_one(&self, why: Dropped) {
        self.drop_many(why, 1);
    }

    pub(super) fn drop_many(&self, why: Dropped, times: u64) {
        let reason = why.name();
        let label = ReasonLabel { reason };
        self.dropped.get_or_create(&label).inc_by(times);
    }

    fn of(&self, result: &'static str) -> u64 {
        self.checks.get_or_create(&ResultLabel { result }).get()
    }
}
