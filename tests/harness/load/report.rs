//! What a load saw.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use crate::failure::{Failure, Result};

/// Failures that are kept with their details; more are only counted.
const DETAILED: usize = 200;

/// What a load saw. Times count from its start.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Right answers by their `X-Holdover-Source`; `unnamed` is an answer without the header.
    pub by_source: BTreeMap<String, Answers>,
    /// How many requests failed: no answer in time, another status than 200, another body.
    pub failures: usize,
    /// The first of these, with details.
    pub details: Vec<Failed>,
    /// The longest time in which no request was in flight, between two that were.
    pub longest_pause: Duration,
    /// How long the load ran; zero until it was stopped.
    pub lasted: Duration,
    in_flight: usize,
    idle_since: Option<Duration>,
}

/// Right answers from one source.
#[derive(Clone, Debug, Default)]
pub struct Answers {
    /// From when each was due to its last byte.
    pub latencies: Latencies,
    /// When the first came.
    pub first: Duration,
    /// When the last came.
    pub last: Duration,
}

/// A request that failed.
#[derive(Clone, Debug)]
pub struct Failed {
    /// When it was due.
    pub at: Duration,
    /// How long it took to fail.
    pub after: Duration,
    /// Its target.
    pub target: String,
    /// Whether it was sent on a kept-alive connection.
    pub kept: bool,
    /// What went wrong: the transport's error, or status and body.
    pub why: Failure,
}

impl Report {
    /// Right answers of all sources.
    pub fn answered_total(&self) -> usize {
        self.by_source
            .values()
            .map(|answers| answers.latencies.count())
            .sum()
    }

    /// Right answers of one source: `primary`, `replica`.
    pub fn from(&self, source: &str) -> usize {
        self.by_source
            .get(source)
            .map_or(0, |answers| answers.latencies.count())
    }

    /// Requests that have begun and not ended.
    pub fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// The latencies of all sources together.
    pub fn latencies(&self) -> Latencies {
        Latencies(
            self.by_source
                .values()
                .flat_map(|a| a.latencies.0.iter().copied())
                .collect(),
        )
    }

    /// Fails, with the details, unless every request was answered rightly and there was one.
    pub fn flawless(&self) -> Result<()> {
        match (self.failures, self.answered_total()) {
            (0, 1..) => Ok(()),
            _ => Err(Failure::new(self)),
        }
    }

    pub(super) fn begins(&mut self, now: Duration) {
        self.in_flight += 1;
        if let Some(since) = self.idle_since.take() {
            self.longest_pause = self.longest_pause.max(now.saturating_sub(since));
        }
    }

    pub(super) fn answered(&mut self, source: String, now: Duration, latency: Duration) {
        let answers = self.by_source.entry(source).or_default();
        if answers.latencies.count() == 0 {
            answers.first = now;
        }
        answers.last = now;
        answers.latencies.record(latency);
        self.ends(now);
    }

    pub(super) fn failed(&mut self, failed: Failed, now: Duration) {
        self.failures += 1;
        if self.details.len() < DETAILED {
            self.details.push(failed);
        }
        self.ends(now);
    }

    fn ends(&mut self, now: Duration) {
        self.in_flight = self.in_flight.saturating_sub(1);
        if self.in_flight == 0 {
            self.idle_since = Some(now);
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} answered, {} failed in {:?}",
            self.answered_total(),
            self.failures,
            self.lasted
        )?;
        for (source, answers) in &self.by_source {
            let Answers {
                latencies,
                first,
                last,
            } = answers;
            writeln!(
                f,
                "  {source}: {latencies}; first at {first:?}, last at {last:?}"
            )?;
        }
        for failed in self.details.iter().take(20) {
            let Failed {
                at,
                after,
                target,
                kept,
                why,
            } = failed;
            let on = if *kept { "kept-alive" } else { "new" };
            writeln!(
                f,
                "  failed at {at:?} after {after:?} ({on} connection) {target}: {why}"
            )?;
        }
        write!(f, "  longest pause {:?}", self.longest_pause)
    }
}

/// Latencies of single requests.
#[derive(Clone, Debug, Default)]
pub struct Latencies(Vec<u32>);

impl Latencies {
    /// How many.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// The latency that this share of requests did not exceed: 0.99 for p99. Zero if there were none.
    pub fn quantile(&self, share: f64) -> Duration {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        let rank = (share.clamp(0.0, 1.0) * sorted.len() as f64).ceil() as usize;
        let found = sorted.get(rank.saturating_sub(1));
        Duration::from_micros(u64::from(found.copied().unwrap_or_default()))
    }

    /// The longest.
    pub fn max(&self) -> Duration {
        self.quantile(1.0)
    }

    fn record(&mut self, latency: Duration) {
        self.0
            .push(u32::try_from(latency.as_micros()).unwrap_or(u32::MAX));
    }
}

impl fmt::Display for Latencies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [p50, p99] = [0.5, 0.99].map(|share| self.quantile(share));
        write!(
            f,
            "{} (p50 {p50:?}, p99 {p99:?}, max {:?})",
            self.count(),
            self.max()
        )
    }
}
