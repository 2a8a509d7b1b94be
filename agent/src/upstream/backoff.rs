//! Pauses between attempts at something that keeps failing.

use std::time::Duration;

/// 1 s, times 1.5 each, give or take a fifth, 60 s at most.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct Backoff {
    pause: Duration,
}

impl Backoff {
    const FIRST: Duration = Duration::from_secs(1);
    const CAP: Duration = Duration::from_secs(60);

    /// The next pause. `jitter` in 0..1 spreads it from four to six fifths.
    pub(crate) fn next(&mut self, jitter: f64) -> Duration {
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

    /// What a renewal that always fails costs the primary: openbao#4011 saw 1,700 a second.
    #[test]
    fn an_hour_of_failures_is_less_than_a_hundred_attempts() {
        let (mut backoff, mut at, mut attempts) = (Backoff::default(), Duration::ZERO, 0);
        while at < Duration::from_secs(3600) {
            at += backoff.next(0.0);
            attempts += 1;
        }
        assert!(attempts < 100, "{attempts}");
        assert_eq!(backoff.next(0.5), Backoff::CAP);
    }
}
