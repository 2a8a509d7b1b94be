//! Attempts at a token of Holdover's own, counted, so that whoever needs one waits for those that are due and for no others.

use tokio::sync::watch;

/// How many attempts were asked for, and how many of these have ended. The first is asked for by the start.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Attempts {
    asked: u64,
    ended: u64,
}

impl Attempts {
    /// Nothing has ended yet.
    pub(super) const START: Self = Self { asked: 1, ended: 0 };

    /// Whether one is under way, or due at once.
    pub(crate) fn is_due(self) -> bool {
        self.ended < self.asked
    }

    /// Whether the first has ended.
    pub(crate) fn is_first_over(self) -> bool {
        self.ended > 0
    }

    /// One more is due, though one may be under way: it may have begun too early.
    pub(super) fn ask(&mut self) {
        self.asked = self.asked.saturating_add(1);
    }

    /// One begins, which stands for all that were asked for. Gives what [`Attempts::end`] takes.
    pub(super) fn begin(&mut self) -> u64 {
        if !self.is_due() {
            self.ask();
        }
        self.asked
    }

    /// The one that began with this has ended.
    pub(super) fn end(&mut self, begun: u64) {
        self.ended = self.ended.max(begun);
    }
}

/// Waits until the first attempt has ended.
pub(super) async fn first_over(mut attempts: watch::Receiver<Attempts>) {
    // Whoever counts them is gone with the daemon.
    let _ = attempts.wait_for(|attempts| attempts.is_first_over()).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_attempt_stands_for_all_that_were_asked_for_before_it_and_for_none_after() {
        let mut attempts = Attempts::START;
        assert!(attempts.is_due() && !attempts.is_first_over());
        let first = attempts.begin();
        attempts.ask();
        attempts.ask();
        attempts.end(first);
        assert!(attempts.is_due() && attempts.is_first_over());
        let second = attempts.begin();
        attempts.end(second);
        assert!(!attempts.is_due());
        // One that a timer began.
        let third = attempts.begin();
        assert!(attempts.is_due());
        attempts.end(third);
        assert!(!attempts.is_due());
    }
}
