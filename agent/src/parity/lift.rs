//! Ending a quarantine by an operator's word. What was seen before it begins none again: only a request that is answered
//! after it may, once that stood when judged again.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use replica::sequencer::{Lane, SubmitError};
use shared::{
    change::{Change, Expects},
    ledger::EntryKind,
    name::{PolicyName, WorkloadName},
    quarantine::{Quarantine, Quarantined},
    time::WallTime,
};
use tokio::sync::{Mutex, MutexGuard};

use super::{Parity, compare::entry, disputes::LONGEST};
use crate::local::Local;

/// Which quarantines.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum LiftChoice {
    /// Every one.
    All,
    /// This one.
    One(Quarantined),
}

/// Why nothing was lifted.
#[derive(Debug, thiserror::Error)]
pub enum LiftError {
    /// It is not in quarantine, so that a typing error is not taken for a done deed.
    #[error("{0} is not quarantined; holdover parity list shows what is")]
    NotQuarantined(Quarantined),
    /// The store did not take it.
    #[error("the lift could not be stored: {0}; the quarantine stands")]
    Store(#[from] SubmitError),
}

/// What operators lifted lately. Held while a quarantine is stored or lifted, so that neither undoes the other.
#[derive(Default)]
pub(super) struct Lifts {
    lately: Mutex<HashMap<Quarantined, WallTime>>,
    news: AtomicBool,
}

/// The same, held.
pub(super) struct Lifted<'a>(MutexGuard<'a, HashMap<Quarantined, WallTime>>);

impl Lifted<'_> {
    /// Whether `what` was lifted after an answer that was there at `answered_at`.
    pub(super) fn covers(&self, what: &Quarantined, answered_at: WallTime) -> bool {
        self.0
            .get(what)
            .is_some_and(|lifted| answered_at <= *lifted)
    }
}

impl Lifts {
    /// Whether something was lifted since this was last asked.
    pub(super) fn are_news(&self) -> bool {
        self.news.swap(false, Ordering::Relaxed)
    }
}

impl LiftChoice {
    /// The quarantine of a policy.
    pub fn policy(name: PolicyName) -> Self {
        Self::One(Quarantined::Policy(name))
    }

    /// The quarantine of a workload's issuing.
    pub fn workload(name: WorkloadName) -> Self {
        Self::One(Quarantined::Issuing(name))
    }
}

impl Parity {
    pub(super) async fn lifted(&self) -> Lifted<'_> {
        Lifted(self.0.lifts.lately.lock().await)
    }

    /// Ends quarantines, durably, as `operator` asked. Gives back those that it ended.
    ///
    /// # Errors
    /// If what was named is not in quarantine, or if the store does not take it.
    pub async fn lift(
        &self,
        local: &Local,
        which: &LiftChoice,
        operator: Option<u32>,
    ) -> Result<Vec<Arc<Quarantine>>, LiftError> {
        let mut lifted = self.lifted().await;
        let known = Arc::clone(&local.view.authority().known);
        let ended: Vec<_> = match which {
            LiftChoice::All => known.quarantines.values().cloned().collect(),
            LiftChoice::One(what) => match known.quarantines.get(what) {
                Some(one) => vec![Arc::clone(one)],
                None => return Err(LiftError::NotQuarantined(what.clone())),
            },
        };
        if ended.is_empty() {
            return Ok(ended);
        }
        let now = local.clock.now();
        let mut changes = Vec::new();
        for one in &ended {
            let mut entry = entry(EntryKind::Operator, "lifted", one, now);
            entry.uid = operator;
            changes.push(Change::QuarantineLifted(one.what.clone()));
            changes.push(Change::Ledger(Box::new(entry)));
        }
        local
            .commit(Lane::Revocation, changes, Expects::default())
            .await?;
        // No disagreement waits for longer.
        lifted.0.retain(|_, at| now.steady.since(*at) <= LONGEST);
        for one in &ended {
            lifted.0.insert(one.what.clone(), now.steady);
        }
        self.0.lifts.news.store(true, Ordering::Relaxed);
        Ok(ended)
    }
}
