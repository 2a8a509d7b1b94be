//! What every pass needs: the primary, the replica and the configuration, and where it leaves how it went.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use parking_lot::Mutex;
use replica::sequencer::Lane;
use shared::{
    change::{Change, Cluster, Expects},
    name::WorkloadName,
    settings::Settings,
    time::{Now, WallTime},
};

use super::{
    Occasion, PassError,
    cycle::{self, Cycle, Pace},
    room::MirrorRoom,
    status::{MirrorHealth, UnreadPaths},
};
use crate::{local::Local, upstream::Upstream};

/// The surroundings of every pass, shared by all tasks of the mirrors.
pub(super) struct MirrorContext {
    pub(super) upstream: Upstream,
    pub(super) local: Local,
    pub(super) settings: Arc<Settings>,
    /// Paths that are never mirrored: where the ledger is shipped to.
    pub(super) excluded: Vec<String>,
    /// By configured path.
    pub(super) health: Mutex<BTreeMap<String, MirrorHealth>>,
    /// What of authority, identities, roles and tokens could not be read when it was last asked for, by kind.
    pub(super) unread: Mutex<BTreeMap<&'static str, UnreadPaths>>,
    /// Why nothing can be issued for a workload, as its last verification said; empty where it could.
    pub(super) failures: Mutex<BTreeMap<WorkloadName, Vec<String>>>,
    /// Between two verifications of authority.
    pub(super) authority_interval: Duration,
    /// When the last verification of authority ended that went through.
    pub(super) authority_passed: Mutex<Option<WallTime>>,
    /// For mirrored values.
    pub(super) room: MirrorRoom,
}

impl MirrorContext {
    pub(super) fn now(&self) -> Now {
        self.local.clock.now()
    }

    /// None until the primary was seen for the first time.
    pub(super) fn cluster(&self) -> Option<Arc<Cluster>> {
        let cluster = self.local.view.authority().cluster.clone();
        // Of one that is only trusted, the mounts are yet to be seen.
        cluster.filter(|cluster| cluster.verified_at > WallTime::EPOCH)
    }

    /// Whether `path` is one that is never mirrored: the ledger's, or below it.
    pub(super) fn is_excluded(&self, path: &str) -> bool {
        self.excluded.iter().any(|excluded| {
            path.strip_prefix(excluded.as_str())
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        })
    }

    /// In an outage only recovery asks, and after offboarding nobody; nor while what is read could not be kept.
    pub(super) fn is_paused(&self) -> bool {
        let authority = self.local.view.authority();
        let by_primary = authority.phase.is_outage() || authority.offboarded.is_some();
        by_primary || self.local.sequencer.is_mending()
    }

    /// # Errors
    /// If an outage began or the host was offboarded, but for a pass that somebody asked for.
    pub(super) fn go_on(&self, occasion: Occasion) -> Result<(), PassError> {
        if occasion.is_own() && self.is_paused() {
            return Err(PassError::Paused);
        }
        Ok(())
    }

    /// Waits until there is a token to ask with, and no outage.
    pub(super) async fn until_it_can_ask(&self) {
        while self.is_paused() || self.upstream.own_token().is_none() {
            tokio::time::sleep(cycle::PAUSED_LOOK).await;
        }
    }

    /// Runs passes until the daemon stops, each when it is due, or when what `woken` makes ends. `failure` says what a
    /// failed one could not do.
    pub(super) async fn keep<F, W>(
        &self,
        interval: Duration,
        failure: &str,
        pass: impl Fn() -> F,
        woken: impl Fn() -> W,
    ) where
        F: Future<Output = Result<Pace, PassError>>,
        W: Future<Output = ()>,
    {
        let mut cycle = Cycle::new(interval);
        let mut pace = Pace::Usual;
        loop {
            let early = woken();
            self.rest(&mut cycle, pace, early).await;
            let passed = pass().await;
            match &passed {
                // The last two asked nothing of the primary.
                Ok(_) | Err(PassError::Paused | PassError::Unsupported(_)) => cycle.succeeded(),
                Err(error) => {
                    cycle.failed();
                    tracing::warn!(%error, "{failure}");
                }
            }
            pace = passed.unwrap_or(Pace::Usual);
        }
    }

    /// Rests until the next pass is due, or `early` ends, and the primary is in charge again.
    pub(super) async fn rest(
        &self,
        cycle: &mut Cycle,
        pace: Pace,
        early: impl Future<Output = ()>,
    ) {
        let pause = cycle.pause(pace, self.upstream.jitter());
        let _ = tokio::time::timeout(pause, early).await;
        if !self.is_paused() {
            return;
        }
        while self.is_paused() {
            tokio::time::sleep(cycle::PAUSED_LOOK).await;
        }
        // Everyone comes back at the same moment: spread out again.
        tokio::time::sleep(cycle.after_outage(self.upstream.jitter())).await;
    }

    pub(super) async fn commit(&self, changes: Vec<Change>) -> Result<(), PassError> {
        if changes.is_empty() {
            return Ok(());
        }
        self.commit_in(Lane::Mirror, changes).await
    }

    pub(super) async fn commit_in(
        &self,
        lane: Lane,
        changes: Vec<Change>,
    ) -> Result<(), PassError> {
        self.commit_expecting(lane, changes, Expects::default())
            .await
    }

    pub(super) async fn commit_expecting(
        &self,
        lane: Lane,
        changes: Vec<Change>,
        expects: Expects,
    ) -> Result<(), PassError> {
        let committed = self.local.commit(lane, changes, expects);
        committed.await.map_err(PassError::Store)
    }

    /// What could not be read of this kind now, for the status.
    pub(super) fn note(&self, kind: &'static str, unread: UnreadPaths) {
        self.unread.lock().insert(kind, unread);
    }

    pub(super) fn with_health<T>(&self, path: &str, act: impl FnOnce(&mut MirrorHealth) -> T) -> T {
        act(self.health.lock().entry(path.to_owned()).or_default())
    }
}
