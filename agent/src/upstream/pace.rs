//! Pacing of Holdover's own requests: evenly spaced, never more than `requests_per_second`, authority first.
//!
//! Requests are spaced rather than let through in bursts: a thousand hosts that wake together must not arrive
//! together. A 429 halves the rate, which then grows back within a minute.

use std::time::Duration;

use parking_lot::Mutex;

use crate::clock::Stopwatch;

/// How urgent a request of Holdover's own is. The first class with anyone waiting goes first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Urgency {
    /// What is asked to settle after an outage.
    Recovery,
    /// Authority of workloads, and what keeps tokens and leases alive.
    Authority,
    /// Keys that may be superseded: until they are read, an outage would not have them.
    Doubted,
    /// Everything else.
    Mirror,
}

/// Lets requests through at a bounded rate.
pub struct Pacer {
    pace: Mutex<PacerQueue>,
    watch: Stopwatch,
}

struct PacerQueue {
    spacing: Spacing,
    waiting: [usize; 4],
}

/// Even spacing, and how it reacts to a 429. Pure: moments are durations since some start.
#[derive(Clone, Copy, Debug)]
struct Spacing {
    /// Requests a second, at most.
    full: f64,
    /// Requests a second, now.
    rate: f64,
    /// When the rate was last brought up to date.
    seen: Duration,
    /// When the next request may go.
    next: Duration,
}

impl Spacing {
    /// The slowest that 429s can make it: one request in ten seconds.
    const FLOOR: f64 = 0.1;
    /// In which time the rate grows from nothing to full.
    const REGROWTH: f64 = 60.0;
    /// The longest `Retry-After` that is obeyed.
    const LONGEST_PAUSE: Duration = Duration::from_secs(120);

    fn new(per_second: u32) -> Self {
        let full = f64::from(per_second.max(1));
        Self {
            full,
            rate: full,
            seen: Duration::ZERO,
            next: Duration::ZERO,
        }
    }

    /// Takes the turn at `now`, or says how long to wait for it.
    fn take(&mut self, now: Duration) -> Result<(), Duration> {
        let grown = now.saturating_sub(self.seen).as_secs_f64() * self.full / Self::REGROWTH;
        self.rate = (self.rate + grown).min(self.full);
        self.seen = now;
        if now < self.next {
            return Err(self.next.saturating_sub(now));
        }
        self.next = now + self.spacing();
        Ok(())
    }

    fn slow_down(&mut self, now: Duration, retry_after: Option<Duration>) {
        self.rate = (self.rate / 2.0).max(Self::FLOOR);
        let pause = retry_after.unwrap_or_default().min(Self::LONGEST_PAUSE);
        self.next = self.next.max(now + pause.max(self.spacing()));
    }

    fn spacing(&self) -> Duration {
        Duration::from_secs_f64(self.rate.recip())
    }
}

impl Pacer {
    /// At most `per_second` requests; 0 counts as 1.
    pub fn new(per_second: u32) -> Self {
        Self {
            pace: Mutex::new(PacerQueue {
                spacing: Spacing::new(per_second),
                waiting: [0; 4],
            }),
            watch: Stopwatch::start(),
        }
    }

    /// Waits for a turn.
    pub async fn admit(&self, urgency: Urgency) {
        let _waiting = PacedWaiting::enter(self, urgency);
        while let Err(wait) = self.try_take(urgency) {
            tokio::time::sleep(wait).await;
        }
    }

    /// The primary answered 429.
    pub fn slow_down(&self, retry_after: Option<Duration>) {
        let now = self.watch.elapsed();
        self.pace.lock().spacing.slow_down(now, retry_after);
    }

    fn try_take(&self, urgency: Urgency) -> Result<(), Duration> {
        let now = self.watch.elapsed();
        let pace = &mut *self.pace.lock();
        let urgent = pace.waiting.iter().take(urgency as usize);
        if urgent.sum::<usize>() > 0 {
            return Err(pace.spacing.spacing());
        }
        pace.spacing.take(now)
    }
}

/// Someone waits in a class; a dropped request waits no longer.
struct PacedWaiting<'a>(&'a Pacer, Urgency);

impl<'a> PacedWaiting<'a> {
    fn enter(pacer: &'a Pacer, urgency: Urgency) -> Self {
        if let Some(count) = pacer.pace.lock().waiting.get_mut(urgency as usize) {
            *count += 1;
        }
        Self(pacer, urgency)
    }
}

impl Drop for PacedWaiting<'_> {
    fn drop(&mut self) {
        if let Some(count) = self.0.pace.lock().waiting.get_mut(self.1 as usize) {
            *count = count.saturating_sub(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many requests a spacing lets through between two moments, polled every millisecond.
    fn through(spacing: &mut Spacing, from: u64, to: u64) -> usize {
        (from..to)
            .filter(|ms| spacing.take(Duration::from_millis(*ms)).is_ok())
            .count()
    }

    #[test]
    fn no_second_holds_more_requests_than_the_rate_even_after_a_rest() {
        let mut spacing = Spacing::new(50);
        assert_eq!(through(&mut spacing, 0, 1000), 50);
        assert_eq!(through(&mut spacing, 60_000, 61_000), 50);
    }

    #[test]
    fn a_429_halves_the_rate_and_a_minute_restores_it() {
        let mut spacing = Spacing::new(100);
        spacing.slow_down(Duration::ZERO, None);
        let first = through(&mut spacing, 0, 1000);
        assert!((45..60).contains(&first), "{first}");
        for _ in 0..40 {
            spacing.slow_down(Duration::from_secs(1), None);
        }
        assert!(spacing.rate >= Spacing::FLOOR);
        assert_eq!(through(&mut spacing, 90_000, 91_000), 100);
    }

    #[test]
    fn retry_after_is_obeyed_but_not_for_ever() {
        let mut spacing = Spacing::new(10);
        spacing.slow_down(Duration::ZERO, Some(Duration::from_secs(5)));
        spacing.slow_down(Duration::from_secs(1), None);
        assert_eq!(through(&mut spacing, 0, 5000), 0);
        assert!(spacing.take(Duration::from_secs(5)).is_ok());
        spacing.slow_down(Duration::from_secs(5), Some(Duration::from_secs(86_400)));
        assert!(spacing.take(Duration::from_secs(126)).is_ok());
    }

    #[tokio::test]
    async fn authority_goes_before_a_mirror_that_waited_longer() {
        let pacer = std::sync::Arc::new(Pacer::new(20));
        pacer.admit(Urgency::Mirror).await;
        let order = std::sync::Arc::new(Mutex::new(Vec::new()));
        let mut tasks = Vec::new();
        for urgency in [Urgency::Mirror, Urgency::Authority] {
            let (pacer, order) = (pacer.clone(), order.clone());
            tasks.push(tokio::spawn(async move {
                pacer.admit(urgency).await;
                order.lock().push(urgency);
            }));
            tokio::task::yield_now().await;
        }
        for task in tasks {
            task.await.unwrap();
        }
        assert_eq!(*order.lock(), [Urgency::Authority, Urgency::Mirror]);
    }
}
