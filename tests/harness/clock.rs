//! The one place where the harness reads a clock.
//!
//! Suites measure how long the daemon took, and bound their waits: both need real time. The daemon's own clock is
//! elsewhere and is never this one.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// A moment, on a clock that only goes forward.
#[allow(
    clippy::disallowed_methods,
    reason = "the harness's one reading of elapsed time"
)]
pub fn instant() -> Instant {
    Instant::now()
}

/// The wall clock, as time since the Unix epoch.
#[allow(
    clippy::disallowed_methods,
    reason = "the harness's one reading of the wall clock"
)]
pub fn wall() -> Duration {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
}

/// Measures from its making.
#[derive(Clone, Copy)]
pub struct Stopwatch(Instant);

impl Stopwatch {
    /// Starts now.
    pub fn start() -> Stopwatch {
        Stopwatch(instant())
    }

    /// Time since the start.
    pub fn elapsed(&self) -> Duration {
        instant().saturating_duration_since(self.0)
    }

    /// What is left of `bound`; zero once it has passed.
    pub fn left_of(&self, bound: Duration) -> Duration {
        bound.saturating_sub(self.elapsed())
    }

    /// Start of the measurement.
    pub fn started(&self) -> Instant {
        self.0
    }
}
