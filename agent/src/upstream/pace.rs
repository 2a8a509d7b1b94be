//! Pacing of Holdover's own requests: evenly spaced, never more than `requests_per_second`, the most urgent first, and recovery
//! no more than three of four while anything else waits.
//!
//! Requests are spaced rather than let through in bursts: a thousand hosts that wake together must not arrive
//! together. A 429 halves the rate, which then grows back within a minute.

use std::{ops::Range, time::Duration};

use parking_lot::Mutex;

use crate::clock::Stopwatch;

/// How urgent a request of Holdover's own is. The first class with anyone waiting goes first, but for what recovery leaves to
/// the others.
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
    order: Order,
}

/// Whose turn it is among those who wait. Pure.
///
/// What clients use after an outage can ask for far more than the budget, for minutes, and authority that is not verified
/// meanwhile would be too old for the next outage. So of four turns in a row one is not recovery's, if another class waits.
#[derive(Default)]
struct Order {
    /// How many wait, by class.
    waiting: [usize; 4],
    /// How many turns recovery has had since another class had one.
    in_a_row: u32,
}

impl Order {
    /// So many turns in a row are recovery's, at most, while another class waits.
    const OF_RECOVERY: u32 = 3;

    /// Whether another class goes before this one.
    fn is_passed_over(&self, urgency: Urgency) -> bool {
        let others = Urgency::Authority as usize;
        let is_left_to_others =
            self.in_a_row >= Self::OF_RECOVERY && self.waits_within(others..self.waiting.len());
        match (urgency, is_left_to_others) {
            (Urgency::Recovery, left) => left,
            (_, true) => self.waits_within(others..urgency as usize),
            (_, false) => self.waits_within(0..urgency as usize),
        }
    }

    fn waits_within(&self, classes: Range<usize>) -> bool {
        let waiting = self.waiting.get(classes).unwrap_or_default();
        waiting.iter().any(|count| *count > 0)
    }

    /// This class has had a turn.
    fn had_turn(&mut self, urgency: Urgency) {
        self.in_a_row = match urgency {
            Urgency::Recovery => self.in_a_row.saturating_add(1),
            Urgency::Authority | Urgency::Doubted | Urgency::Mirror => 0,
        };
    }

    fn enters(&mut self, urgency: Urgency) {
        if let Some(count) = self.waiting.get_mut(urgency as usize) {
            *count += 1;
        }
    }

    fn leaves(&mut self, urgency: Urgency) {
        if let Some(count) = self.waiting.get_mut(urgency as usize) {
            *count = count.saturating_sub(1);
        }
    }
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
        if let Some(left) = self.left(now) {
            return Err(left);
        }
        self.next = now + self.spacing();
        Ok(())
    }

    /// How long there is no turn to be had.
    fn left(&self, now: Duration) -> Option<Duration> {
        (now < self.next).then(|| self.next.saturating_sub(now))
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
                order: Order::default(),
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
        // Until there is a turn to be had everyone waits alike, so that it is taken at once by whose it is.
        if let Some(left) = pace.spacing.left(now) {
            return Err(left);
        }
        if pace.order.is_passed_over(urgency) {
            return Err(pace.spacing.spacing());
        }
        pace.spacing.take(now)?;
        pace.order.had_turn(urgency);
        Ok(())
    }
}

/// Someone waits in a class; a dropped request waits no longer.
struct PacedWaiting<'a>(&'a Pacer, Urgency);

impl<'a> PacedWaiting<'a> {
    fn enter(pacer: &'a Pacer, urgency: Urgency) -> Self {
        pacer.pace.lock().order.enters(urgency);
        Self(pacer, urgency)
    }
}

impl Drop for PacedWaiting<'_> {
    fn drop(&mut self) {
        self.0.pace.lock().order.leaves(self.1);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

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

    const ALL: [Urgency; 4] = [
        Urgency::Recovery,
        Urgency::Authority,
        Urgency::Doubted,
        Urgency::Mirror,
    ];

    /// Takes a turn for whose it is; none if nobody waits.
    fn turn(order: &mut Order) -> Option<Urgency> {
        let waiting = |class: &Urgency| order.waiting[*class as usize] > 0;
        let mut turns = ALL.into_iter().filter(waiting);
        let next = turns.find(|class| !order.is_passed_over(*class))?;
        order.leaves(next);
        order.had_turn(next);
        Some(next)
    }

    proptest! {
        /// Whatever comes and goes, no turn is lost, none has two owners, and of four while authority waits one is its own.
        #[test]
        fn authority_has_a_quarter_whatever_recovery_wants(
            comes in prop::collection::vec((0usize..4, 0usize..8), 1..400),
        ) {
            let (mut order, mut without) = (Order::default(), 0);
            for (class, many) in comes {
                for _ in 0..many {
                    order.enters(ALL[class]);
                }
                let waiting: Vec<_> = ALL.into_iter().filter(|class| order.waiting[*class as usize] > 0).collect();
                let owners = waiting.iter().filter(|class| !order.is_passed_over(**class)).count();
                prop_assert_eq!(owners, usize::from(!waiting.is_empty()));
                let had = turn(&mut order);
                without = match had {
                    Some(Urgency::Authority) => 0,
                    _ if waiting.contains(&Urgency::Authority) => without + 1,
                    _ => 0,
                };
                prop_assert!(without <= 3, "authority waited for {without} turns");
                // And recovery goes before everything but that quarter.
                if waiting.contains(&Urgency::Recovery) && had != Some(Urgency::Recovery) {
                    prop_assert_eq!(order.in_a_row, 0);
                    let next = turn(&mut order);
                    let goes_on = order.waiting[0] == 0 || next == Some(Urgency::Recovery);
                    prop_assert!(goes_on || next.is_none());
                }
            }
        }
    }

    #[test]
    fn recovery_and_authority_that_want_everything_share_it_three_to_one() {
        let mut order = Order::default();
        for class in ALL {
            (0..1000).for_each(|_| order.enters(class));
        }
        let had: Vec<_> = (0..400).filter_map(|_| turn(&mut order)).collect();
        let of = |class| had.iter().filter(|one| **one == class).count();
        let shares = ALL.map(of);
        assert_eq!(shares, [300, 100, 0, 0]);
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
