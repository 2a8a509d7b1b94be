//! Pauses between attempts at something that keeps failing: each longer than the one before it, up to a cap.

use core::time::Duration;

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
