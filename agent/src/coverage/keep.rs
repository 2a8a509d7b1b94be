//! Storing the counts: small hours often, large ones every minute, everything at an orderly stop.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use replica::sequencer::Lane;
use shared::{
    change::{Change, Expects},
    time::WallTime,
};

use super::{Coverage, Unstored};
use crate::local::Local;

/// How often counts are stored that are soon written.
const OFTEN: Duration = Duration::from_secs(10);

/// Every how many times of these the rest is stored too.
const MINUTE: u32 = 6;

/// An hour of more rows than this takes a while to seal and write.
const SMALL: usize = 512;

/// Stores what was counted, for ever.
pub async fn keep(local: Local, coverage: Arc<Coverage>) {
    for round in 1_u32.. {
        tokio::time::sleep(OFTEN).await;
        let largest = if round.is_multiple_of(MINUTE) {
            usize::MAX
        } else {
            SMALL
        };
        store(&local, &coverage, largest).await;
    }
}

/// Stores everything that was counted.
pub async fn flush(local: &Local, coverage: &Coverage) {
    store(local, coverage, usize::MAX).await;
}

/// Stores hours of at most `largest` rows. What cannot be stored is tried again the next time.
async fn store(local: &Local, coverage: &Coverage, largest: usize) {
    let (unstored, changes) = coverage.take_unstored(largest);
    if changes.is_empty() {
        coverage.stored(None);
        return;
    }
    let stored = local.commit(Lane::Mirror, changes, Expects::default());
    let failed = stored
        .await
        .inspect_err(|error| tracing::warn!(%error, "coverage could not be stored"));
    coverage.stored(failed.err().map(|_| unstored));
}

impl Coverage {
    /// What the replica does not have yet, in hours of at most `largest` rows, which counts as stored from here on.
    fn take_unstored(&self, largest: usize) -> (Unstored, Vec<Change>) {
        let mut held = self.lock();
        let all = std::mem::take(&mut held.unstored);
        let fits = |start: &WallTime| {
            let hour = held.hours.get(start);
            hour.is_none_or(|hour| hour.rows.len() <= largest)
        };
        let (changed, later): (BTreeSet<_>, BTreeSet<_>) = all.changed.into_iter().partition(fits);
        let hours = changed.iter().filter_map(|start| held.hour(*start));
        let stored = hours.map(|hour| Change::Coverage(Box::new(hour)));
        let gone = all.gone.iter().map(|start| Change::CoverageGone(*start));
        let changes = stored.chain(gone).collect();
        held.unstored.changed = later;
        held.storing = true;
        let taken = Unstored {
            changed,
            gone: all.gone,
        };
        (taken, changes)
    }

    /// What was taken is in the replica, but for what is handed back.
    fn stored(&self, failed: Option<Unstored>) {
        let mut held = self.lock();
        held.storing = false;
        if let Some(unstored) = failed {
            held.unstored.changed.extend(unstored.changed);
            held.unstored.gone.extend(unstored.gone);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::coverage::CountedRequest;
    use shared::coverage::{Caller, CoverageKey, Foretold};

    fn count(coverage: &Coverage, path: &str, secs: i64) {
        let asked = CoverageKey {
            caller: Caller::Others,
            operation: "read".into(),
            path: path.to_owned(),
            verdict: Foretold::Served,
        };
        let one = CountedRequest {
            asked,
            refused: false,
            leased: false,
            reason: String::new(),
            carried: None,
        };
        coverage.count(one, WallTime::from_secs(secs));
    }

    #[test]
    fn what_was_stored_is_not_stored_again_and_what_was_not_is() {
        let coverage = Coverage::default();
        count(&coverage, "a", 5);
        let (unstored, changes) = coverage.take_unstored(SMALL);
        assert!(matches!(&changes[..], [Change::Coverage(hour)] if hour.rows.len() == 1));
        assert!(coverage.take_unstored(SMALL).1.is_empty());
        assert!(!coverage.snapshot(WallTime::EPOCH).stored);
        coverage.stored(Some(unstored));
        assert!(!coverage.snapshot(WallTime::EPOCH).stored);
        assert_eq!(coverage.take_unstored(SMALL).1.len(), 1);
        coverage.stored(None);
        assert!(coverage.snapshot(WallTime::EPOCH).stored);
    }

    #[test]
    fn a_large_hour_waits_for_its_turn() {
        let coverage = Coverage::default();
        for number in 0..=SMALL {
            count(&coverage, &number.to_string(), 5);
        }
        assert!(coverage.take_unstored(SMALL).1.is_empty());
        assert_eq!(coverage.take_unstored(usize::MAX).1.len(), 1);
    }
}
