//! Pools: leases kept ready, each for one workload in an outage, in place of one that all share.
//!
//! Nobody was told of a lease in its pool, so that one which is replaced can be revoked at once; the only hurry that it
//! may meet is a workload that takes it at that very moment, and then it stays with the workload.

use std::time::Duration;

use replica::{
    entropy::{NoEntropy, unique_u64},
    sequencer::{Lane, SubmitError},
};
use shared::{
    change::{Change, Expects, Pooled, QueuedRevocation, RevocationTarget},
    lease::{Lease, LeaseCare, LeaseHolder},
    time::{Deadline, Now},
};

use super::{LEAST_PAUSE, LeaseMemory, LeasePass, MOST_PAUSE};
use crate::mirror::{Occasion, PassError, cycle::Pace};

/// New leases of one pass: each is an account at some backend, and a large pool fills over several passes.
const MOST_NEW: u32 = 8;

/// Leases looked up in one pass, those verified longest ago first.
const MOST_LOOKED_UP: usize = 32;

/// How many leases a pool got lately: a backend whose leases die at once is not asked for more than twice the pool in one
/// window.
#[derive(Default)]
pub(super) struct Window {
    got: u32,
    ends: Option<Deadline>,
}

/// What a pass makes of a pool.
#[derive(Default)]
struct PoolPlan {
    /// They stay as they are.
    good: Vec<Lease>,
    /// They are to be renewed.
    due: Vec<Lease>,
    /// Others take their place; the one that ends first is last.
    worn: Vec<Lease>,
}

impl LeasePass<'_> {
    /// One pass over the pool of this path: what is due is renewed, what is worn replaced, what is missing got. What goes
    /// wrong with one lease keeps none of the others from that.
    pub(super) async fn keep_pool(&self, memory: &mut LeaseMemory) -> Result<Pace, PassError> {
        self.retire_shared(memory).await?;
        let mut failed = Failed::default();
        failed.take(self.verify_pool(memory).await)?;
        let mut plan = self.plan(memory);
        for lease in std::mem::take(&mut plan.due) {
            match failed.take(self.renew(memory, &lease).await)? {
                Some(Some(renewed)) => plan.good.push(renewed),
                Some(None) => plan.worn.push(lease),
                None => plan.good.push(lease),
            }
        }
        let missing = match self.occasion {
            // Recovery renews what is about to end. What is missing is got afterwards, because then hosts are spread.
            Occasion::Recovery => Ok(Some(LEAST_PAUSE)),
            Occasion::Anew | Occasion::Cycle | Occasion::Operator => {
                self.fill(memory, &mut plan).await
            }
        };
        self.note_fill();
        let looks = plan.good.iter().map(|lease| self.next_look(memory, lease));
        let next = looks.min().unwrap_or(MOST_PAUSE).max(LEAST_PAUSE);
        let missing = missing?;
        failed.tell()?;
        Ok(match missing {
            Some(pause) => Pace::Soon(next.min(pause)),
            None => Pace::Soon(next),
        })
    }

    /// What the leases of the pool come to now.
    fn plan(&self, memory: &LeaseMemory) -> PoolPlan {
        let now = self.now();
        let mut plan = PoolPlan::default();
        for lease in self.pool() {
            let outlived = lease.place != self.place
                || self.is_of_another_token(&lease)
                || memory.is_worn(&lease);
            match lease.care(memory.full(&lease), self.spread(&lease), now) {
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
        memory: &mut LeaseMemory,
        plan: &mut PoolPlan,
    ) -> Result<Option<Duration>, PassError> {
        let mut got = 0;
        while plan.good.len() < self.size() {
            let now = self.now();
            self.held_off(memory, now)?;
            if let Some(left) = memory.window.left(self.size, now) {
                return Ok(Some(left));
            }
            if got == MOST_NEW {
                return Ok(Some(LEAST_PAUSE));
            }
            let lease = self.get_new(memory, LeaseHolder::Pooled, None).await?;
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

    /// Takes a lease out of the pool and has it revoked. One that a workload took meanwhile stays with it: the writer, which
    /// sees both, decides, because this view may be older than what was just handed out.
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

    /// A path that has a pool shares nothing.
    async fn retire_shared(&self, memory: &mut LeaseMemory) -> Result<(), PassError> {
        let shared = self.leases(|lease| lease.holder == LeaseHolder::Shared);
        self.retire(memory, shared).await
    }

    /// Sees that the primary still knows the leases of this path, those included that workloads hold.
    async fn verify_pool(&self, memory: &mut LeaseMemory) -> Result<(), PassError> {
        let now = self.now();
        let mut known = self.leases(|lease| {
            lease.holder.is_own()
                && lease.place == self.place
                && !lease.deadline.passed_for_good(now)
        });
        if known.is_empty() {
            return Ok(());
        }
        let quiet = &mut memory.quiet;
        let index = quiet.observe(self.context, self.occasion.urgency());
        let index = index.await?;
        if quiet.holds(index.as_ref(), now.steady) {
            for lease in &mut known {
                lease.verified_at = now.steady;
            }
            let known = known.into_iter();
            let changes = known.map(|lease| Change::Lease(Box::new(lease), None));
            return self.context.commit(changes.collect()).await;
        }
        quiet.forget();
        known.sort_by_key(|lease| lease.verified_at);
        let all = known.len() <= MOST_LOOKED_UP;
        known.truncate(MOST_LOOKED_UP);
        let mut failed = Failed::default();
        for lease in known {
            match failed.take(self.look_up(&lease).await)? {
                Some(Some(shown)) => self.commit_lease(shown, None, None).await?,
                Some(None) => {
                    tracing::warn!(path = %self.place.path, "the primary no longer knows a lease of a pool");
                    let gone = Change::LeaseGone(lease.id);
                    self.context.commit(vec![gone]).await?;
                }
                None => {}
            }
        }
        failed.tell()?;
        if all {
            quiet.complete(index, now.steady);
        }
        Ok(())
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

    fn size(&self) -> usize {
        usize::try_from(self.size).unwrap_or(usize::MAX)
    }

    /// An id that no other has.
    fn unique(&self) -> Result<u64, NoEntropy> {
        unique_u64(self.context.local.entropy.as_ref())
    }
}

/// The first of what went wrong with single leases.
#[derive(Default)]
struct Failed(Option<PassError>);

impl Failed {
    /// What it is, or none where it went wrong.
    ///
    /// # Errors
    /// If nothing else is worth asking.
    fn take<T>(&mut self, one: Result<T, PassError>) -> Result<Option<T>, PassError> {
        match one {
            Ok(one) => Ok(Some(one)),
            Err(error) if error.ends_pass() => Err(error),
            Err(error) => {
                self.0.get_or_insert(error);
                Ok(None)
            }
        }
    }

    /// # Errors
    /// If anything went wrong.
    fn tell(self) -> Result<(), PassError> {
        self.0.map_or(Ok(()), Err)
    }
}

impl Window {
    /// A new lease was got; `pause` is how long a window is.
    pub(super) fn note(&mut self, pause: Duration, now: Now) {
        self.got = self.got.saturating_add(1);
        self.ends.get_or_insert(Deadline::after(pause, now));
    }

    /// How long to wait for the next new lease of a pool of `size`, if not none.
    fn left(&mut self, size: u32, now: Now) -> Option<Duration> {
        let ends = self.ends?;
        if ends.passed_for_good(now) {
            *self = Self::default();
            return None;
        }
        (self.got >= size.saturating_mul(2)).then(|| ends.remaining_for_good(now).max(LEAST_PAUSE))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use shared::name::LeaseId;

    use crate::samples::{self, at};

    fn lease(id: &str, granted: u64) -> Lease {
        Lease {
            id: LeaseId::parse(id).unwrap(),
            ..samples::lease(0, LeaseHolder::Pooled, Duration::from_secs(granted), at(0))
        }
    }

    #[test]
    fn a_backend_whose_leases_die_at_once_gives_twice_the_pool_a_window() {
        let mut window = Window::default();
        for nr in 0..8 {
            assert_eq!(window.left(4, at(0)), None, "{nr}");
            window.note(Duration::from_secs(5), at(0));
        }
        assert_eq!(window.left(4, at(0)), Some(Duration::from_secs(5)));
        let left = Some(Duration::from_secs(2));
        assert_eq!(window.left(4, at(3)), left);
        assert_eq!(window.left(4, samples::ahead(at(3))), left);
        assert_eq!(window.left(4, at(5)), None);
        assert_eq!(window.left(4, at(5)), None);
    }

    #[test]
    fn a_wall_clock_that_is_ahead_wears_no_lease_out() {
        let lease = lease("database/creds/x/1", 1000);
        let care = lease.care(1000, 0.0, at(10));
        assert_eq!(care, LeaseCare::Wait(Duration::from_secs(650)));
        assert_eq!(lease.care(1000, 0.0, samples::ahead(at(10))), care);
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
