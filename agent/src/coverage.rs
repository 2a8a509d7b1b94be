//! Coverage: of what passes through the socket, how much would have been served had the primary been dead, and why
//! not the rest. Per caller and path, never values.
//!
//! Counts are kept by hours, so that any last days can be told, and stored by [`keep`] every little while.

pub mod keep;
pub mod path;
pub mod place;
pub mod suggest;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    time::Duration,
};

use parking_lot::{Mutex, MutexGuard};
use shared::{
    coverage::{Caller, Carried, CoverageHour, CoverageKey, CoverageRow, Tally},
    time::WallTime,
};

/// Rows that are kept of an hour; what comes beyond them is counted in rows of their own, one for each verdict.
const ROWS: usize = 4096;

/// Rows that are kept of all hours; beyond them the oldest hours go.
const ALL_ROWS: usize = 32 * 1024;

/// Callers without an entry of whose tokens something is kept, of an hour.
const CARRIED: usize = 256;

/// How long an hour is kept.
const KEPT: Duration = Duration::from_secs(31 * 86_400);

/// What is counted by itself.
const HOUR: Duration = Duration::from_secs(3600);

/// Path of the rows that count what found no row.
const OVERFLOW: &str = "…";

/// What passed through the socket. Shared by every task.
#[derive(Default)]
pub struct Coverage {
    held: Mutex<HeldHours>,
}

#[derive(Default)]
struct HeldHours {
    hours: BTreeMap<WallTime, Hour>,
    /// Rows of all hours.
    rows: usize,
    unstored: Unstored,
    /// Whether some of it is on its way into the replica.
    storing: bool,
}

#[derive(Default)]
struct Hour {
    rows: HashMap<CoverageKey, Tally>,
    carried: BTreeMap<Caller, Carried>,
}

/// Hours whose row in the replica is not what is held here.
#[derive(Clone, Default)]
pub(crate) struct Unstored {
    changed: BTreeSet<WallTime>,
    gone: BTreeSet<WallTime>,
}

/// One request as it is counted.
pub(crate) struct CountedRequest {
    /// Who asked for what, and what an outage would have made of it.
    pub(crate) asked: CoverageKey,
    /// Whether the primary refused it.
    pub(crate) refused: bool,
    /// Whether its answer came with a lease.
    pub(crate) leased: bool,
    /// Why the verdict, in words.
    pub(crate) reason: String,
    /// What the token carries, of a caller without an entry.
    pub(crate) carried: Option<Carried>,
}

/// What was counted since some moment.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct CoverageSnapshot {
    /// Most asked first.
    pub rows: Vec<CoverageRow>,
    /// Callers that no entry matches, and what their tokens carry.
    pub carried: Vec<Carried>,
    /// When the oldest hour began that is held at all.
    pub oldest: Option<WallTime>,
    /// Whether all of it is in the replica, so that a crash would lose nothing.
    pub stored: bool,
}

impl Coverage {
    /// What an earlier run stored.
    pub fn resumed(stored: Vec<CoverageHour>) -> Self {
        let mut held = HeldHours::default();
        for hour in stored {
            let rows = hour.rows.into_iter().map(|row| (row.asked, row.tally));
            let carried = hour
                .carried
                .into_iter()
                .map(|one| (one.caller.clone(), one));
            let hour_held = Hour {
                rows: rows.collect(),
                carried: carried.collect(),
            };
            held.rows += hour_held.rows.len();
            held.hours.insert(hour.start, hour_held);
        }
        Self {
            held: Mutex::new(held),
        }
    }

    /// Counts a request.
    pub(crate) fn count(&self, one: CountedRequest, now: WallTime) {
        let mut held = self.lock();
        let start = hour_of(now);
        held.forget(now);
        let hour = held.hours.entry(start).or_default();
        let before = hour.rows.len();
        hour.count(one, now);
        let added = hour.rows.len() - before;
        held.rows += added;
        held.unstored.changed.insert(start);
    }

    /// What was asked for since `since`, most asked first.
    pub fn snapshot(&self, since: WallTime) -> CoverageSnapshot {
        let held = self.lock();
        let mut rows: BTreeMap<&CoverageKey, Tally> = BTreeMap::new();
        let mut carried: BTreeMap<&Caller, &Carried> = BTreeMap::new();
        for (_, hour) in held.hours.range(hour_of(since)..) {
            let recent = hour.rows.iter().filter(|(_, tally)| tally.last >= since);
            for (asked, tally) in recent {
                rows.entry(asked)
                    .and_modify(|sum| sum.add(tally))
                    .or_insert_with(|| tally.clone());
            }
            carried.extend(&hour.carried);
        }
        let mut rows: Vec<CoverageRow> = rows
            .into_iter()
            .map(|(asked, tally)| CoverageRow {
                asked: asked.clone(),
                tally,
            })
            .collect();
        rows.sort_by(|a, b| {
            let by_count = b.tally.requests.cmp(&a.tally.requests);
            by_count.then_with(|| (&a.asked.path, &a.asked).cmp(&(&b.asked.path, &b.asked)))
        });
        CoverageSnapshot {
            rows,
            carried: carried.into_values().cloned().collect(),
            oldest: held.hours.keys().next().copied(),
            stored: held.unstored.changed.is_empty() && !held.storing,
        }
    }

    fn lock(&self) -> MutexGuard<'_, HeldHours> {
        self.held.lock()
    }
}

impl HeldHours {
    /// Lets go of what is too old, and of the oldest where there is too much.
    fn forget(&mut self, now: WallTime) {
        let bound = now.minus(KEPT);
        while let Some(oldest) = self.hours.first_entry()
            && (*oldest.key() < bound || self.rows > ALL_ROWS)
            && *oldest.key() < hour_of(now)
        {
            let (start, hour) = oldest.remove_entry();
            self.rows = self.rows.saturating_sub(hour.rows.len());
            self.unstored.changed.remove(&start);
            self.unstored.gone.insert(start);
        }
    }

    fn hour(&self, start: WallTime) -> Option<CoverageHour> {
        let hour = self.hours.get(&start)?;
        let mut rows: Vec<CoverageRow> = hour
            .rows
            .iter()
            .map(|(asked, tally)| CoverageRow {
                asked: asked.clone(),
                tally: tally.clone(),
            })
            .collect();
        rows.sort_by(|a, b| a.asked.cmp(&b.asked));
        Some(CoverageHour {
            start,
            rows,
            carried: hour.carried.values().cloned().collect(),
        })
    }
}

impl Hour {
    fn count(&mut self, one: CountedRequest, now: WallTime) {
        let mut asked = one.asked;
        if self.rows.len() >= ROWS && !self.rows.contains_key(&asked) {
            asked = CoverageKey {
                caller: Caller::Others,
                operation: "other".into(),
                path: OVERFLOW.to_owned(),
                verdict: asked.verdict,
            };
        }
        let tally = Tally {
            requests: 1,
            refused: u64::from(one.refused),
            leased: one.leased,
            last: now,
            reason: one.reason,
        };
        self.rows
            .entry(asked)
            .and_modify(|sum| sum.add(&tally))
            .or_insert(tally);
        if let Some(carried) = one.carried
            && (self.carried.len() < CARRIED || self.carried.contains_key(&carried.caller))
        {
            self.carried.insert(carried.caller.clone(), carried);
        }
    }
}

/// The beginning of the hour that `now` is in.
fn hour_of(now: WallTime) -> WallTime {
    let hour = i64::try_from(HOUR.as_secs()).unwrap_or(i64::MAX);
    WallTime::from_secs(now.as_secs().div_euclid(hour).saturating_mul(hour))
}

#[cfg(test)]
mod tests {
    use super::*;
    use shared::coverage::Foretold;

    fn counted(path: &str, verdict: Foretold) -> CountedRequest {
        CountedRequest {
            asked: CoverageKey {
                caller: Caller::Peer {
                    uid: 1000,
                    unit: None,
                },
                operation: "read".into(),
                path: path.to_owned(),
                verdict,
            },
            refused: false,
            leased: false,
            reason: String::new(),
            carried: None,
        }
    }

    fn at(hours: i64, secs: i64) -> WallTime {
        WallTime::from_secs(hours * 3600 + secs)
    }

    #[test]
    fn rows_are_bounded_and_nothing_goes_uncounted() {
        let coverage = Coverage::default();
        for number in 0..ROWS + 10 {
            let one = counted(&format!("secret/data/{number}"), Foretold::NotMirrored);
            coverage.count(one, at(1, 5));
        }
        let rows = coverage.snapshot(at(1, 5)).rows;
        assert_eq!(rows.len(), ROWS + 1);
        assert_eq!(
            (rows[0].asked.path.as_str(), rows[0].tally.requests),
            (OVERFLOW, 10)
        );
        assert!(coverage.snapshot(at(1, 6)).rows.is_empty());
    }

    #[test]
    fn the_same_of_several_hours_is_one_row_and_an_hour_outside_is_left_out() {
        let coverage = Coverage::default();
        for hour in [1, 2, 3] {
            coverage.count(counted("a", Foretold::Served), at(hour, 10));
        }
        let all = coverage.snapshot(at(0, 0));
        assert_eq!((all.rows.len(), all.rows[0].tally.requests), (1, 3));
        assert_eq!(all.oldest, Some(at(1, 0)));
        assert_eq!(coverage.snapshot(at(2, 0)).rows[0].tally.requests, 2);
        assert_eq!(coverage.snapshot(at(2, 11)).rows[0].tally.requests, 1);
    }

    #[test]
    fn an_hour_goes_after_a_month_and_the_oldest_go_where_there_are_too_many_rows() {
        let coverage = Coverage::default();
        coverage.count(counted("old", Foretold::Served), at(0, 0));
        coverage.count(counted("new", Foretold::Served), at(31 * 24 + 1, 0));
        let rows = coverage.snapshot(at(0, 0)).rows;
        assert_eq!(rows.len(), 1, "{rows:?}");
        let crowded = Coverage::default();
        for hour in 0..10_i64 {
            for number in 0..ROWS {
                let one = counted(&number.to_string(), Foretold::Served);
                crowded.count(one, at(hour, 0));
            }
        }
        let held = crowded.lock();
        assert_eq!((held.rows, held.hours.len()), (ALL_ROWS, ALL_ROWS / ROWS));
        assert!(held.unstored.gone.contains(&at(0, 0)));
    }

    #[test]
    fn what_was_stored_is_resumed_as_it_was() {
        let coverage = Coverage::default();
        let mut one = counted("a", Foretold::UnknownToken);
        one.carried = Some(Carried {
            caller: one.asked.caller.clone(),
            role: Some("app".to_owned()),
            policies: vec!["default".to_owned()],
        });
        coverage.count(one, at(4, 1));
        coverage.count(counted("b", Foretold::Served), at(5, 1));
        let stored: Vec<_> = [4, 5]
            .into_iter()
            .filter_map(|hour| coverage.lock().hour(at(hour, 0)))
            .collect();
        let resumed = Coverage::resumed(stored);
        let (before, after) = (coverage.snapshot(at(0, 0)), resumed.snapshot(at(0, 0)));
        assert!(!before.stored && after.stored);
        assert_eq!((after.rows, after.carried), (before.rows, before.carried));
    }
}
