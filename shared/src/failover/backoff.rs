//! The pauses between probes in an outage: 1 s, times 1.5 each, give or take a fifth, 30 s at most.

use core::time::Duration;

/// Where the growth stands. The default is its beginning.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Backoff {
    pause: Duration,
}

impl Backoff {
    /// The first pause.
    pub const FIRST: Duration = Duration::from_secs(1);
    /// The longest pause, before jitter.
    pub const CAP: Duration = Duration::from_secs(30);

    /// The next pause. `jitter` in 0..1 spreads it from four to six fifths.
    pub fn next(&mut self, jitter: f64) -> Duration {
        let pause = self.pause;
        self.pause = (pause * 3 / 2).min(Self::CAP);
        pause.mul_f64(0.8 + 0.4 * jitter.clamp(0.0, 1.0))
    }
}

impl Default for Backoff {
    fn default() -> Self {
        Self { pause: Self::FIRST }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_the_cap_and_no_further() {
        let mut backoff = Backoff::default();
        let pauses: alloc::vec::Vec<_> = (0..12).map(|_| backoff.next(0.5).as_millis()).collect();
        assert_eq!(pauses.get(..3), Some([1000, 1500, 2250].as_slice()));
        assert_eq!(pauses.last(), Some(&30_000));
    }

    #[test]
    fn jitter_stays_within_a_fifth() {
        assert_eq!(Backoff::default().next(0.0), Duration::from_millis(800));
        assert_eq!(Backoff::default().next(1.0), Duration::from_millis(1200));
    }
}
