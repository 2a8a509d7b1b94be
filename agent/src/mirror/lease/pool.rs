//! Pools: leases kept ready, each for one workload in an outage, in place of one that all share.
//!
//! Nobody was told of a lease in its pool, so that one which is replaced can be revoked at once; the only hurry that it
//! may meet is a workload that takes it at that very moment, and then it stays with the workload.

use std::{collections::BTreeMap, time::Duration};

use replica::{entropy::NoEntropy, sequencer::Lane, sequencer::SubmitError};
use serde_json::json;
use shared::{
    change::{Change, Expects, Pooled, QueuedRevocation, RevocationTarget},
    lease::{Lease, LeaseCare, LeaseHolder},
    name::LeaseId,
    time::{Deadline, Now},
};

use super::{LEAST_PAUSE, LeaseLookup, LeaseMemory, LeasePass, MOST_PAUSE};
use crate::mirror::{Occasion, PassError, cycle::Pace};

/// New leases of one pass: each is an account at some backend, and a large pool fills over several passes.
const MOST_NEW: u32 = 8;

/// Leases looked up in one pass, those verified longest ago first.
const MOST_LOOKED_UP: usize = 32;

/// What the task remembers of a pool from pass to pass.
#[derive(Default)]
pub(super) struct Filling {
    /// What each lease gave when it was new, as far as that is known.
    full: BTreeMap<LeaseId, u64>,
    /// Leases got in the present window, and when that is over: a backend whose leases die at once is not asked for
    /// more than twice the pool in it.
    got: u32,
    window: Option<Deadline>,
}

/// What a pass makes of a pool.
#[derive(Default)]
struct Plan {
    /// They stay as they are.
    good: Vec<Lease>,
    /// They are to be renewed.
    due: Vec<Lease>,
    /// Others take their place; the one that ends first is last.
    worn: Vec<Lease>,
}

impl LeasePass<'_> {
    /// One pass over the pool of this path: what is due is renewed, what is worn replaced, what is missing got.
    pub(super) async fn keep_pool(&self, work: &mut LeaseMemory) -> Result<Pace, PassError> {
        self.retire_shared(work).await?;
        self.verify_pool(work).await?;
        let mut plan = self.plan(work);
        for lease in std::mem::take(&mut plan.due) {
            match self.renew_pooled(work, &lease).await? {
                Some(renewed) => plan.good.push(renewed),
                None => plan.worn.push(lease),
            }
        }
        let missing = match self.occasion {
            // Settling renews what is about to end. What is missing is got afterwards, when hosts are spread again.
            Occasion::Recovery => Ok(Some(LEAST_PAUSE)),
            Occasion::Cycle | Occasion::Operator => self.fill(work, &mut plan).await,
        };
        self.note_fill();
        let next = self.next(work, &plan.good);
        Ok(match missing? {
            Some(pause) => Pace::Soon(next.min(pause)),
            None => Pace::Soon(next),
        })
    }

    /// What the leases of the pool come to now.
    fn plan(&self, work: &mut LeaseMemory) -> Plan {
        let now = self.now();
        let pool = self.pool();
        work.filling
            .full
            .retain(|id, _| pool.iter().any(|lease| lease.id == *id));
        let mut plan = Plan::default();
        for lease in pool {
            let full = work.filling.full(&lease);
            let outlived = lease.place != self.place
                || self.is_of_another_token(&lease)
                || lease.granted < full / 2;
            match lease.care(full, lease.spread(), now) {
                _ if outlived => plan.worn.push(lease),
                LeaseCare::Wait(_) => plan.good.push(lease),
                LeaseCare::Renew => plan.due.push(lease),
                LeaseCare::Replace => plan.worn.push(lease),
            }
        }
        // A smaller pool than before keeps what lives longest.
        plan.good
            .sort_by_key(|lease| std::cmp::Reverse(lease.deadline.wall));
        let surplus = plan.good.len().min(self.size());
        plan.worn.extend(plan.good.split_off(surplus));
        plan.worn
            .sort_by_key(|lease| std::cmp::Reverse(lease.deadline.wall));
        plan
    }

    /// Gets what is missing, and lets what is worn go once something is in its place. Says after what pause to go on
    /// where not all of it was got.
    async fn fill(
        &self,
        work: &mut LeaseMemory,
        plan: &mut Plan,
    ) -> Result<Option<Duration>, PassError> {
        let mut got = 0;
        while plan.good.len() < self.size() {
            let now = self.now();
            self.held_off(work, now)?;
            if let Some(left) = work.filling.left(self.size, now) {
                return Ok(Some(left));
            }
            if got == MOST_NEW {
                return Ok(Some(LEAST_PAUSE));
            }
            let lease = self.add(work, now).await?;
            plan.good.push(lease);
            got += 1;
            if let Some(old) = plan.worn.pop() {
                self.let_go(&old).await?;
            }
        }
        while let Some(old) = plan.worn.pop() {
            self.let_go(&old).await?;
        }
        Ok(None)
    }

    /// Gets one more lease.
    async fn add(&self, work: &mut LeaseMemory, now: Now) -> Result<Lease, PassError> {
        let (lease, body) = self
            .acquire_or_hold_off(work, LeaseHolder::Pooled, true, now)
            .await?;
        work.filling.note(&lease, now);
        work.quiet.forget();
        if let Err(error) = self.commit_lease(lease.clone(), Some(body), None).await {
            // Nothing remembers it, so it must not live on.
            let _ = self.revoke(&lease.id).await;
            return Err(error);
        }
        Ok(lease)
    }

    /// Renews; none where that is no longer to be had.
    async fn renew_pooled(
        &self,
        work: &mut LeaseMemory,
        lease: &Lease,
    ) -> Result<Option<Lease>, PassError> {
        let Some(renewed) = self.ask_to_renew(lease).await? else {
            return Ok(None);
        };
        let full = work.filling.full(lease).max(renewed.granted);
        work.filling.full.insert(lease.id.clone(), full);
        work.quiet.forget();
        self.commit_lease(renewed.clone(), None, None).await?;
        Ok(Some(renewed))
    }

    /// Takes a lease out of the pool and has it revoked, unless a workload took it meanwhile.
    async fn let_go(&self, lease: &Lease) -> Result<(), PassError> {
        let now = self.now();
        let mut changes = vec![Change::LeaseGone(lease.id.clone())];
        if !lease.deadline.passed_for_good(now) {
            let target = RevocationTarget::Lease(lease.id.clone());
            let queued = QueuedRevocation::own(self.unique()?, target, now.steady);
            changes.push(Change::Queue(Box::new(queued)));
        }
        let pooled = Pooled {
            lease: lease.id.clone(),
            to: None,
        };
        let expects = Expects {
            pooled: Some(pooled),
            ..Expects::default()
        };
        let local = &self.context.local;
        match local.commit(Lane::Mirror, changes, expects).await {
            Ok(()) | Err(SubmitError::Conflict) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// A path that is shared holds no pool.
    pub(super) async fn let_go_of_pool(&self) -> Result<(), PassError> {
        for lease in self.pool() {
            self.let_go(&lease).await?;
        }
        Ok(())
    }

    /// A path that has a pool shares nothing: what clients were told of a shared lease passes, and then it goes.
    async fn retire_shared(&self, work: &mut LeaseMemory) -> Result<(), PassError> {
        let shared = self.leases(|lease| lease.holder == LeaseHolder::Shared);
        let gone = shared.iter().map(|old| Change::LeaseGone(old.id.clone()));
        let gone = gone.collect();
        work.retiring
            .extend(shared.into_iter().map(|old| (old.id, old.deadline)));
        self.context.commit(gone).await
    }

    /// Sees that the primary still knows the leases of this path, those included that workloads hold.
    async fn verify_pool(&self, work: &mut LeaseMemory) -> Result<(), PassError> {
        let now = self.now();
        let mut known = self.leases(|lease| {
            lease.holder.is_own() && lease.place == self.place && !lease.deadline.passed(now)
        });
        if known.is_empty() {
            return Ok(());
        }
        let upstream = &self.context.upstream;
        let index = work
            .quiet
            .observe(upstream, self.occasion.urgency())
            .await?;
        if work.quiet.holds(index.as_ref(), now.steady) {
            for lease in &mut known {
                lease.verified_at = now.steady;
            }
            return self.commit_verified(known).await;
        }
        work.quiet.forget();
        known.sort_by_key(|lease| lease.verified_at);
        let all = known.len() <= MOST_LOOKED_UP;
        known.truncate(MOST_LOOKED_UP);
        for lease in known {
            self.look_up(lease).await?;
        }
        if all {
            work.quiet.complete(index, now.steady);
        }
        Ok(())
    }

    async fn look_up(&self, lease: Lease) -> Result<(), PassError> {
        let now = self.now();
        let body = json!({ "lease_id": lease.id.as_str() });
        let request = crate::upstream::Request::write("sys/leases/lookup", &body).repeatable();
        let reply = self.ask(&request).await?;
        if reply.status() == 400 {
            tracing::warn!(path = %self.place.path, "the primary no longer knows a lease of a pool");
            let gone = Change::LeaseGone(lease.id);
            return self.context.commit(vec![gone]).await;
        }
        let shown: LeaseLookup = reply.success()?.data()?;
        self.commit_verified(vec![shown.of(lease, now)]).await
    }

    async fn commit_verified(&self, leases: Vec<Lease>) -> Result<(), PassError> {
        let changes = leases
            .into_iter()
            .map(|lease| Change::Lease(Box::new(lease), None));
        self.context.commit(changes.collect()).await
    }

    /// When to look again for the sake of these.
    fn next(&self, work: &LeaseMemory, good: &[Lease]) -> Duration {
        let now = self.now();
        let due = good.iter().map(|lease| {
            match lease.care(work.filling.full(lease), lease.spread(), now) {
                LeaseCare::Wait(wait) => wait,
                LeaseCare::Renew | LeaseCare::Replace => LEAST_PAUSE,
            }
        });
        due.min().unwrap_or(MOST_PAUSE).max(LEAST_PAUSE)
    }

    /// Since when the pool is short, for `status`.
    fn note_fill(&self) {
        let (ready, now) = (self.pool().len(), self.now());
        let is_short = ready < self.size();
        self.context
            .with_health(self.place.path.as_str(), |health| {
                health.short_since = match is_short {
                    true => health.short_since.or(Some(now.steady)),
                    false => None,
                };
            });
    }

    /// The leases in the pool, of whatever mount the path had.
    fn pool(&self) -> Vec<Lease> {
        self.leases(|lease| lease.holder == LeaseHolder::Pooled)
    }

    fn leases(&self, wanted: impl Fn(&Lease) -> bool) -> Vec<Lease> {
        let secrets = self.context.local.view.secrets();
        let held = secrets.leases.values().map(|held| &held.lease);
        let of_path = held.filter(|lease| lease.place.path == self.place.path);
        of_path.filter(|lease| wanted(lease)).cloned().collect()
    }

    fn size(&self) -> usize {
        usize::try_from(self.size).unwrap_or(usize::MAX)
    }

    /// An id that no other has.
    fn unique(&self) -> Result<u64, NoEntropy> {
        let mut bytes = [0; 8];
        self.context.local.entropy.fill(&mut bytes)?;
        Ok(u64::from_le_bytes(bytes))
    }
}

impl Filling {
    fn full(&self, lease: &Lease) -> u64 {
        self.full.get(&lease.id).copied().unwrap_or(lease.granted)
    }

    /// A new lease was got.
    fn note(&mut self, lease: &Lease, now: Now) {
        self.full.insert(lease.id.clone(), lease.granted);
        self.got = self.got.saturating_add(1);
        let pause = Duration::from_secs(lease.granted) / 4;
        self.window
            .get_or_insert(Deadline::after(pause.clamp(LEAST_PAUSE, MOST_PAUSE), now));
    }

    /// How long to wait for the next new lease of a pool of `size`, if not none.
    fn left(&mut self, size: u32, now: Now) -> Option<Duration> {
        let window = self.window?;
        if window.passed(now) {
            (self.got, self.window) = (0, None);
            return None;
        }
        (self.got >= size.saturating_mul(2)).then(|| window.remaining(now).max(LEAST_PAUSE))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::{self, at};

    fn lease(id: &str, granted: u64) -> Lease {
        Lease {
            id: LeaseId::parse(id).unwrap(),
            ..samples::lease(0, LeaseHolder::Pooled, Duration::from_secs(granted), at(0))
        }
    }

    #[test]
    fn a_backend_whose_leases_die_at_once_gives_twice_the_pool_a_window() {
        let mut filling = Filling::default();
        for nr in 0..8 {
            assert_eq!(filling.left(4, at(0)), None, "{nr}");
            filling.note(&lease(&format!("database/creds/x/{nr}"), 20), at(0));
        }
        assert_eq!(filling.left(4, at(0)), Some(Duration::from_secs(5)));
        assert_eq!(filling.left(4, at(3)), Some(Duration::from_secs(2)));
        assert_eq!(filling.left(4, at(5)), None);
        assert_eq!(filling.left(4, at(5)), None);
    }

    #[test]
    fn leases_of_one_moment_are_renewed_at_many() {
        let waits = (0..50).map(|nr| {
            let lease = lease(
                &format!("database/creds/x/pYeJqgvtSV6IUyWXGtn5OR{nr:02}"),
                1000,
            );
            match lease.care(1000, lease.spread(), at(0)) {
                LeaseCare::Wait(wait) => wait.as_secs(),
                other => panic!("{other:?}"),
            }
        });
        let mut waits: Vec<_> = waits.collect();
        waits.sort_unstable();
        assert!(waits[0] >= 560 && waits[49] <= 660, "{waits:?}");
        // Spread over the tenth of a life that is there for it.
        assert!(waits[0] < 580 && waits[49] > 640, "{waits:?}");
        waits.dedup();
        assert!(waits.len() > 30, "{waits:?}");
    }
}
