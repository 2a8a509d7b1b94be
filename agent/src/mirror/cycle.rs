//! When the next pass of a mirror is due: jittered, slower while it fails, spread at start and after an outage. Pure.

use std::time::Duration;

use shared::backoff::Backoff;

/// How often a paused task looks whether the outage is over. It asks nothing of anyone.
pub(super) const PAUSED_LOOK: Duration = Duration::from_millis(500);

/// At start, and after an outage, passes are spread over at most this.
const SPREAD: Duration = Duration::from_secs(5);

/// At start passes are spread over at most this: a value that is not mirrored yet is not there in an outage.
const START_SPREAD: Duration = Duration::from_secs(1);

/// What a pass says of the next one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Pace {
    /// No later than this.
    Soon(Duration),
    /// A pass costs a request per secret: ten intervals.
    Slow,
    /// The interval.
    Usual,
}

/// The rhythm of one task.
#[derive(Debug)]
pub(super) struct Cycle {
    interval: Duration,
    backoff: Backoff,
    state: LastPass,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum LastPass {
    Failing,
    Fresh,
    Steady,
}

impl Cycle {
    pub(super) fn new(interval: Duration) -> Self {
        Self {
            interval,
            backoff: Backoff::ATTEMPTS,
            state: LastPass::Fresh,
        }
    }

    pub(super) fn succeeded(&mut self) {
        self.state = LastPass::Steady;
        self.backoff = Backoff::ATTEMPTS;
    }

    pub(super) fn failed(&mut self) {
        self.state = LastPass::Failing;
    }

    /// How long to rest before the next pass. `jitter` in 0..1.
    ///
    /// The interval is an upper bound: jitter shortens it by up to a tenth. While passes fail, the pauses grow from a
    /// second to a minute, but for a longer interval no further than it.
    pub(super) fn pause(&mut self, pace: Pace, jitter: f64) -> Duration {
        let usual = |interval: Duration| interval.mul_f64(1.0 - 0.1 * jitter.clamp(0.0, 1.0));
        match (self.state, pace) {
            (LastPass::Fresh, _) => START_SPREAD
                .min(self.interval)
                .mul_f64(jitter.clamp(0.0, 1.0)),
            (LastPass::Failing, _) => self.backoff.next(jitter),
            (LastPass::Steady, Pace::Slow) => usual(self.interval * 10),
            (LastPass::Steady, Pace::Soon(soon)) => usual(self.interval).min(soon),
            (LastPass::Steady, Pace::Usual) => usual(self.interval),
        }
    }

    /// How long to wait when an outage is over.
    pub(super) fn after_outage(&self, jitter: f64) -> Duration {
        SPREAD.min(self.interval).mul_f64(jitter.clamp(0.0, 1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const INTERVAL: Duration = Duration::from_secs(30);

    #[test]
    fn the_first_pass_comes_soon_and_spread() {
        let mut cycle = Cycle::new(INTERVAL);
        assert_eq!(cycle.pause(Pace::Usual, 0.0), Duration::ZERO);
        assert_eq!(cycle.pause(Pace::Usual, 1.0), Duration::from_secs(1));
    }

    #[test]
    fn failures_do_not_make_a_storm_even_of_a_short_interval() {
        let mut cycle = Cycle::new(Duration::from_millis(100));
        cycle.succeeded();
        let (mut spent, mut passes) = (Duration::ZERO, 0);
        while spent < Duration::from_secs(600) {
            cycle.failed();
            spent += cycle.pause(Pace::Usual, 0.0);
            passes += 1;
        }
        assert!(passes < 30, "{passes}");
        cycle.succeeded();
        assert_eq!(cycle.pause(Pace::Usual, 0.0), Duration::from_millis(100));
    }

    proptest! {
        #[test]
        fn jitter_never_makes_a_pass_later_than_its_interval(jitter in 0.0f64..1.0, soon in 0u64..100) {
            let mut cycle = Cycle::new(INTERVAL);
            cycle.succeeded();
            let usual = cycle.pause(Pace::Usual, jitter);
            prop_assert!(usual <= INTERVAL && usual >= INTERVAL * 9 / 10);
            prop_assert!(cycle.pause(Pace::Soon(Duration::from_secs(soon)), jitter) <= INTERVAL);
            prop_assert!(cycle.after_outage(jitter) <= SPREAD);
        }
    }
}
