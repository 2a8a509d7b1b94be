//! Pauses between attempts at something that keeps failing: each longer than the one before it, up to a cap.

use core::time::Duration;

use crate::time::BootTime;

/// Where the growth stands.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Backoff {
    pause: Duration,
    cap: Duration,
    /// How long a pause is, in percent of the one before it.
    growth: u32,
}

impl Backoff {
    /// Between probes in an outage: 1 s, times 1.5 each, 30 s at most.
    pub const PROBES: Self = Self::new(Duration::from_secs(1), 150, Duration::from_secs(30));

    /// Between attempts at anything else: the same up to a minute.
    pub const ATTEMPTS: Self = Self::new(Duration::from_secs(1), 150, Duration::from_secs(60));

    /// After answers that were lost: half a minute, doubled each time, a quarter of an hour at most.
    const LOST: Self = Self::new(Duration::from_secs(30), 200, Duration::from_secs(900));

    /// The `jitter` that leaves a pause as long as it is.
    pub const EVEN: f64 = 0.5;

    /// Pauses from `first` on, each `growth` percent of the one before it, up to `cap`.
    pub const fn new(first: Duration, growth: u32, cap: Duration) -> Self {
        Self {
            pause: first,
            cap,
            growth,
        }
    }

    /// The next pause. `jitter` in 0..1 spreads it from four to six fifths.
    pub fn next(&mut self, jitter: f64) -> Duration {
        self.next_within(self.cap, jitter)
    }

    /// The same, of no more than `most` before it is spread. It grows all the same, for when that bound is gone.
    pub fn next_within(&mut self, most: Duration, jitter: f64) -> Duration {
        let pause = self.pause.min(most);
        self.pause = (self.pause * self.growth / 100).min(self.cap);
        spread(pause, jitter)
    }
}

/// How long a request of Holdover's own is held back whose answers were lost though the primary is well: each may have made a
/// token or an account, or spent a use of a credential.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct LostAnswers {
    backoff: Backoff,
    held: Option<Held>,
}

#[derive(Clone, Copy, PartialEq, Debug)]
struct Held {
    until: BootTime,
    /// How often the primary had come back by then.
    returns: u64,
}

impl Default for LostAnswers {
    fn default() -> Self {
        Self {
            backoff: Backoff::LOST,
            held: None,
        }
    }
}

impl LostAnswers {
    /// One was lost `now`. `returns` counts how often the primary was away and has come back.
    pub fn lost(&mut self, returns: u64, now: BootTime, jitter: f64) {
        let until = now.plus(self.backoff.next(jitter));
        self.held = Some(Held { until, returns });
    }

    /// One came.
    pub fn came(&mut self) {
        *self = Self::default();
    }

    /// How long the request is held back from `now` on, if it is. That the primary was away since explains the loss.
    pub fn wait(&self, returns: u64, now: BootTime) -> Option<Duration> {
        let held = self.held.filter(|held| held.returns == returns)?;
        let wait = held.until.since(now);
        (!wait.is_zero()).then_some(wait)
    }
}

/// `pause`, spread by `jitter` in 0..1 from four to six fifths of it.
pub fn spread(pause: Duration, jitter: f64) -> Duration {
    pause.mul_f64(0.8 + 0.4 * jitter.clamp(0.0, 1.0))
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use super::*;

    #[test]
    fn pauses_grow_to_the_cap_and_no_further() {
        let mut backoff = Backoff::PROBES;
        let pauses: Vec<_> = (0..12)
            .map(|_| backoff.next(Backoff::EVEN).as_millis())
            .collect();
        assert_eq!(pauses.get(..3), Some([1000, 1500, 2250].as_slice()));
        assert_eq!(pauses.last(), Some(&30_000));
    }

    #[test]
    fn a_bound_holds_pauses_short_and_the_growth_goes_on_behind_it() {
        let (mut backoff, most) = (Backoff::PROBES, Duration::from_secs(5));
        let pauses: Vec<_> = (0..12)
            .map(|_| backoff.next_within(most, Backoff::EVEN).as_millis())
            .collect();
        assert_eq!(
            pauses.get(..5),
            Some([1000, 1500, 2250, 3375, 5000].as_slice())
        );
        assert_eq!(pauses.last(), Some(&5000));
        assert_eq!(backoff.next(Backoff::EVEN), Duration::from_secs(30));
    }

    #[test]
    fn jitter_stays_within_a_fifth() {
        assert_eq!({ Backoff::PROBES }.next(0.0), Duration::from_millis(800));
        assert_eq!({ Backoff::PROBES }.next(1.0), Duration::from_millis(1200));
    }

    #[test]
    fn what_is_lost_again_and_again_is_asked_for_ever_more_rarely() {
        let (mut lost, mut asked) = (LostAnswers::default(), 0);
        for second in 0..3600 {
            let now = BootTime::from_millis(second * 1000);
            if lost.wait(1, now).is_none() {
                lost.lost(1, now, Backoff::EVEN);
                asked += 1;
            }
        }
        assert!((5..10).contains(&asked), "{asked}");
        lost.came();
        assert_eq!(lost.wait(1, BootTime::from_millis(3_600_000)), None);
    }

    #[test]
    fn a_primary_that_was_away_explains_what_was_lost() {
        let mut lost = LostAnswers::default();
        let now = BootTime::from_millis(1000);
        lost.lost(1, now, Backoff::EVEN);
        assert_eq!(lost.wait(1, now), Some(Duration::from_secs(30)));
        assert_eq!(lost.wait(2, now), None);
    }

    /// What a renewal that always fails costs the primary: openbao#4011 saw 1,700 a second.
    #[test]
    fn an_hour_of_failures_is_less_than_a_hundred_attempts() {
        let (mut backoff, mut at, mut attempts) = (Backoff::ATTEMPTS, Duration::ZERO, 0);
        while at < Duration::from_secs(3600) {
            at += backoff.next(0.0);
            attempts += 1;
        }
        assert!(attempts < 100, "{attempts}");
        assert_eq!(backoff.next(Backoff::EVEN), Duration::from_secs(60));
    }
}
