//! What the replica may leave undecided though the primary decides, all of it; and what a run saw.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Mutex, PoisonError};

/// Every cause, by the end of its text.
const CAUSES: [(&str, &str); 6] = [
    (
        "chosen ids",
        "the id of a token cannot be chosen in an outage",
    ),
    ("batch tokens", "batch tokens are made by the primary alone"),
    (
        "limited uses",
        "tokens with a limited number of uses are not issued in an outage",
    ),
    (
        "periodic tokens",
        "periodic tokens are not issued in an outage",
    ),
    (
        "bound addresses",
        "tokens bound to addresses are not issued in an outage",
    ),
    (
        "roles that are not mirrored",
        "the token role is not mirrored: only those of configured workloads are",
    ),
];

/// The cause that a 503 names, if it is one of those.
pub(crate) fn cause(text: &str) -> Option<&'static str> {
    let mut causes = CAUSES.iter();
    causes
        .find(|(_, end)| text.ends_with(end))
        .map(|(name, _)| *name)
}

/// What a run saw.
#[derive(Default)]
pub(crate) struct Tally {
    seen: Mutex<Seen>,
}

#[derive(Default)]
struct Seen {
    /// By operation and status.
    steps: BTreeMap<(String, u16), usize>,
    undecided: BTreeMap<&'static str, usize>,
    warned: usize,
    cut: usize,
    cascades: usize,
    late: usize,
}

impl Tally {
    fn with(&self, act: impl FnOnce(&mut Seen)) {
        act(&mut self.seen.lock().unwrap_or_else(PoisonError::into_inner));
    }

    pub(crate) fn step(&self, operation: &str, status: u16) {
        self.with(|seen| {
            *seen
                .steps
                .entry((operation.to_owned(), status))
                .or_default() += 1
        });
    }

    pub(crate) fn undecided(&self, cause: &'static str) {
        self.with(|seen| *seen.undecided.entry(cause).or_default() += 1);
    }

    /// The primary warned, and the replica with it.
    pub(crate) fn warned(&self) {
        self.with(|seen| seen.warned += 1);
    }

    /// The workload's bounds gave less than the primary.
    pub(crate) fn cut(&self) {
        self.with(|seen| seen.cut += 1);
    }

    /// A token was seen dead because of one above it.
    pub(crate) fn cascade(&self) {
        self.with(|seen| seen.cascades += 1);
    }

    pub(crate) fn late(&self) {
        self.with(|seen| seen.late += 1);
    }

    /// That the run says something: enough of everything was seen, and little was left undecided.
    pub(crate) fn assert_telling(&self, most_undecided: usize) {
        self.with(|seen| {
            let all: usize = seen.steps.values().sum();
            let undecided: usize = seen.undecided.values().sum();
            let of = |status: u16| -> usize {
                let steps = seen.steps.iter();
                steps
                    .filter(|((_, seen), _)| *seen / 100 == status)
                    .map(|(_, count)| count)
                    .sum()
            };
            assert!(
                undecided * 100 <= all * most_undecided,
                "{undecided} of {all} undecided"
            );
            assert!(
                of(2) * 5 >= all && of(4) * 5 >= all,
                "{all} steps say little"
            );
            assert!(seen.warned > 0 && seen.cut > 0 && seen.cascades > 0);
        });
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        for ((operation, status), count) in &seen.steps {
            writeln!(f, "{count:>8} {operation} {status}")?;
        }
        writeln!(
            f,
            "{:>8} warned alike, {} cut by the workload's bounds",
            seen.warned, seen.cut
        )?;
        writeln!(f, "{:>8} dead with what they hung on", seen.cascades)?;
        for (cause, count) in &seen.undecided {
            writeln!(f, "{count:>8} undecided: {cause}")?;
        }
        writeln!(f, "{:>8} sequences begun anew", seen.late)
    }
}
