//! Leased secrets: one lease of Holdover's own for each path, or a pool of them, renewed, replaced in time, never thrown
//! away because of a transport error.
//!
//! A replaced lease is revoked when what clients may have been told of it has passed, not before.

mod pool;

use std::time::Duration;

use serde::Deserialize;
use serde_json::json;
use shared::{
    change::{Change, CredentialName},
    kv::Place,
    lease::{Lease, LeaseCare, LeaseHolder},
    name::LeaseId,
    secret::SecretBytes,
    time::{Deadline, Now},
};

use super::{
    Occasion, PassError, context::MirrorContext, cycle::Pace, index::Quiet, path::Answered,
};
use crate::status::MirrorSource;
use crate::upstream::{Reply, Request, UpstreamError};

/// A path whose answer cannot be mirrored is asked again after this long: reading it may create something.
const UNSUPPORTED_FOR: Duration = Duration::from_secs(3600);

/// The bounds of the pause between two new leases of one path.
const LEAST_PAUSE: Duration = Duration::from_secs(1);
const MOST_PAUSE: Duration = Duration::from_secs(60);

/// What the task remembers from pass to pass.
#[derive(Default)]
pub(super) struct LeaseMemory {
    quiet: Quiet,
    /// What the lease in hand gave when it was new; after a restart, what it gave last.
    full: Option<(LeaseId, u64)>,
    /// Replaced leases, and when what clients were told of them has passed.
    retiring: Vec<(LeaseId, Deadline)>,
    /// No new lease is asked for before this, and why.
    hold_off: Option<HoldOff>,
    /// An answer that came without a lease: it is kept in another way.
    unleased: Option<Answered>,
    /// How the path's pool fills.
    filling: pool::Filling,
}

impl LeaseMemory {
    /// The answer of the last pass, if that had no lease.
    pub(super) fn take_unleased(&mut self) -> Option<Answered> {
        let unleased = self.unleased.take();
        if unleased.is_some() {
            self.hold_off = None;
        }
        unleased
    }
}

struct HoldOff {
    until: Deadline,
    place: Place,
    unsupported: Option<String>,
}

/// One pass.
pub(super) struct LeasePass<'a> {
    pub(super) context: &'a MirrorContext,
    pub(super) place: Place,
    /// Leases kept ready; none are where one is shared.
    pub(super) size: u32,
    pub(super) occasion: Occasion,
}

#[derive(Deserialize)]
struct LeaseLookup {
    ttl: u64,
    #[serde(default)]
    renewable: bool,
}

impl LeaseLookup {
    /// The lease as it stands `now`.
    fn of(&self, lease: Lease, now: Now) -> Lease {
        let mut verified = Lease {
            verified_at: now.steady,
            renewable: self.renewable,
            ..lease
        };
        // Somebody else may have renewed it. What is shown is cut to whole seconds: never shorten by that.
        let shown = Deadline::after(Duration::from_secs(self.ttl + 1), now);
        if shown.wall.since(verified.deadline.wall) > Duration::from_secs(2)
            || verified.deadline.wall.since(shown.wall) > Duration::from_secs(2)
        {
            verified.deadline = shown;
        }
        verified
    }
}

impl LeasePass<'_> {
    pub(super) async fn run(&self, work: &mut LeaseMemory) -> Result<Pace, PassError> {
        self.context.go_on(self.occasion)?;
        self.revoke_retired(work).await;
        self.set_source();
        if self.size > 0 {
            return self.keep_pool(work).await;
        }
        self.let_go_of_pool().await?;
        let Some(lease) = self.adopt_newest(work).await? else {
            return self.replace(work, None).await;
        };
        if self.is_of_another_token(&lease) {
            // However young it is.
            work.hold_off = None;
            return self.replace(work, Some(&lease)).await;
        }
        if self.is_worn(work, &lease) {
            return self.replace(work, Some(&lease)).await;
        }
        match lease.care(full(work, &lease), self.jitter(), self.now()) {
            LeaseCare::Wait(wait) => self.verify(work, &lease, wait).await,
            LeaseCare::Renew => self.renew(work, &lease).await,
            LeaseCare::Replace => self.replace(work, Some(&lease)).await,
        }
    }

    /// The lease in hand. Of several, as a cut-off replacement leaves them, the newest; the others go.
    async fn adopt_newest(&self, work: &mut LeaseMemory) -> Result<Option<Lease>, PassError> {
        let secrets = self.context.local.view.secrets();
        let held = secrets.leases.values().map(|held| &held.lease);
        let mine = |lease: &&Lease| {
            lease.holder == LeaseHolder::Shared && lease.place.path == self.place.path
        };
        let mut leases: Vec<_> = held.filter(mine).cloned().collect();
        leases.sort_by_key(|lease| (lease.place == self.place, lease.issued_at));
        let newest = leases.pop().filter(|lease| lease.place == self.place);
        let changes = leases.iter().map(|old| Change::LeaseGone(old.id.clone()));
        let changes: Vec<_> = changes.collect();
        work.retiring
            .extend(leases.into_iter().map(|old| (old.id, old.deadline)));
        self.context.commit(changes).await?;
        Ok(newest)
    }

    /// Whether it hangs on a token of Holdover's own that is about to end, or has ended.
    fn is_of_another_token(&self, lease: &Lease) -> bool {
        let own = self.context.local.view.credential(&CredentialName::Own);
        own.is_some_and(|own| lease.issued_at < own.issued_at)
    }

    /// Whether the last renewal gave so little that its max TTL must be near.
    fn is_worn(&self, work: &LeaseMemory, lease: &Lease) -> bool {
        lease.granted < full(work, lease) / 2
    }

    /// Nothing is due: the primary still knows it.
    async fn verify(
        &self,
        work: &mut LeaseMemory,
        lease: &Lease,
        wait: Duration,
    ) -> Result<Pace, PassError> {
        let now = self.now();
        let index = work
            .quiet
            .observe(&self.context.upstream, self.occasion.urgency())
            .await?;
        let mut verified = Lease {
            verified_at: now.steady,
            ..lease.clone()
        };
        if !work.quiet.holds(index.as_ref(), now.steady) {
            work.quiet.forget();
            let body = json!({ "lease_id": lease.id.as_str() });
            let request = Request::write("sys/leases/lookup", &body).repeatable();
            let reply = self.ask(&request).await?;
            if reply.status() == 400 {
                tracing::warn!(path = %self.place.path, "the primary no longer knows a lease of Holdover's own");
                return self.replace(work, Some(lease)).await;
            }
            let shown: LeaseLookup = reply.success()?.data()?;
            verified = shown.of(verified, now);
            work.quiet.complete(index, now.steady);
        }
        self.commit_lease(verified, None, None).await?;
        Ok(Pace::Soon(wait))
    }

    async fn renew(&self, work: &mut LeaseMemory, lease: &Lease) -> Result<Pace, PassError> {
        let now = self.now();
        let Some(renewed) = self.ask_to_renew(lease).await? else {
            return self.replace(work, Some(lease)).await;
        };
        let full = full(work, lease).max(renewed.granted);
        work.full = Some((lease.id.clone(), full));
        work.quiet.forget();
        let next = due(&renewed, full, self.jitter(), now);
        self.commit_lease(renewed, None, None).await?;
        Ok(next)
    }

    /// The lease renewed; none where it is not known any more, or past its max TTL.
    async fn ask_to_renew(&self, lease: &Lease) -> Result<Option<Lease>, PassError> {
        let now = self.now();
        let body = json!({ "lease_id": lease.id.as_str() });
        let request = Request::write("sys/leases/renew", &body).repeatable();
        let reply = self.ask(&request).await?;
        if reply.status() == 400 {
            return Ok(None);
        }
        let reply = reply.success()?;
        let envelope = reply.envelope()?;
        let granted = envelope.lease_duration;
        Ok(Some(Lease {
            renewable: envelope.renewable,
            granted,
            renewed_at: now.steady,
            deadline: Deadline::after(Duration::from_secs(granted), now),
            verified_at: now.steady,
            ..lease.clone()
        }))
    }

    /// Gets a new lease in place of `old`, which stays what it is if that fails.
    async fn replace(
        &self,
        work: &mut LeaseMemory,
        old: Option<&Lease>,
    ) -> Result<Pace, PassError> {
        let now = self.now();
        self.held_off(work, now)?;
        let (lease, body) = self
            .acquire_or_hold_off(work, LeaseHolder::Shared, old.is_some(), now)
            .await?;
        let granted = Duration::from_secs(lease.granted);
        let pause = (granted / 4).clamp(LEAST_PAUSE, MOST_PAUSE);
        work.hold_off = Some(self.hold_off(pause, None, now));
        let (id, full) = (lease.id.clone(), lease.granted);
        let next = due(&lease, full, self.jitter(), now);
        if let Err(error) = self.commit_lease(lease, Some(body), old).await {
            // Nothing remembers it, so it must not live on.
            let _ = self.revoke(&id).await;
            return Err(error);
        }
        work.full = Some((id, full));
        work.quiet.forget();
        work.retiring
            .extend(old.map(|old| (old.id.clone(), old.deadline)));
        Ok(next)
    }

    /// A new lease. What can have none is not asked again for long.
    async fn acquire_or_hold_off(
        &self,
        work: &mut LeaseMemory,
        holder: LeaseHolder,
        in_place_of_one: bool,
        now: Now,
    ) -> Result<(Lease, SecretBytes), PassError> {
        let acquired = self.acquire(work, holder, in_place_of_one, now).await;
        if let Err(PassError::Unsupported(why)) = &acquired {
            work.hold_off = Some(self.hold_off(UNSUPPORTED_FOR, Some(why.clone()), now));
        }
        acquired
    }

    async fn acquire(
        &self,
        work: &mut LeaseMemory,
        holder: LeaseHolder,
        in_place_of_one: bool,
        now: Now,
    ) -> Result<(Lease, SecretBytes), PassError> {
        let request = Request::read(self.place.path.as_str()).creating();
        let mut reply = self.ask(&request).await?;
        if in_place_of_one {
            // A refusal does not turn the path into one without leases.
            reply = reply.success()?;
        }
        // A body of another kind has no lease in it.
        let envelope = reply.envelope().ok();
        let id = envelope.and_then(|envelope| LeaseId::parse(&envelope.lease_id).ok());
        let Some(id) = id else {
            let at = now.steady;
            work.unleased = Some(Answered { reply, at });
            return Err(self.unsupported("answers without a lease"));
        };
        let reply = reply.success()?;
        let envelope = reply.envelope()?;
        if envelope.wrap_info.is_some() || envelope.auth.is_some() {
            return Err(self.unsupported("answers with a token or a wrapping"));
        }
        let data = envelope.data.filter(|data| data.get() != "null");
        let data = data.ok_or_else(|| reply.unexpected("a lease without data"))?;
        let body = SecretBytes::filled(|bytes| bytes.extend_from_slice(data.get().as_bytes()));
        let granted = envelope.lease_duration;
        let lease = Lease {
            id,
            place: self.place.clone(),
            holder,
            detached: Vec::new(),
            answers_reads: true,
            renewable: envelope.renewable,
            granted,
            issued_at: now.steady,
            renewed_at: now.steady,
            deadline: Deadline::after(Duration::from_secs(granted), now),
            verified_at: now.steady,
        };
        Ok((lease, body))
    }

    fn unsupported(&self, what: &str) -> PassError {
        let path = self.place.path.as_str();
        PassError::Unsupported(format!("{path} {what}: such paths are not supported yet"))
    }

    async fn commit_lease(
        &self,
        lease: Lease,
        body: Option<SecretBytes>,
        old: Option<&Lease>,
    ) -> Result<(), PassError> {
        let mut changes = vec![Change::Lease(Box::new(lease), body)];
        changes.extend(old.map(|old| Change::LeaseGone(old.id.clone())));
        self.context.commit(changes).await
    }

    /// A new lease is not asked for again and again: each is an account at some backend.
    fn held_off(&self, work: &LeaseMemory, now: Now) -> Result<(), PassError> {
        let Some(hold_off) = work.hold_off.as_ref().filter(|hold_off| {
            hold_off.place == self.place
                && !hold_off.until.passed(now)
                && self.occasion == Occasion::Cycle
        }) else {
            return Ok(());
        };
        Err(match &hold_off.unsupported {
            Some(why) => PassError::Unsupported(why.clone()),
            None => PassError::TooSoon,
        })
    }

    fn hold_off(&self, pause: Duration, unsupported: Option<String>, now: Now) -> HoldOff {
        HoldOff {
            until: Deadline::after(pause, now),
            place: self.place.clone(),
            unsupported,
        }
    }

    async fn revoke_retired(&self, work: &mut LeaseMemory) {
        let now = self.now();
        let mut kept = Vec::new();
        for (id, told) in work.retiring.drain(..) {
            if !told.passed(now) {
                kept.push((id, told));
            } else if let Err(error) = self.revoke(&id).await {
                tracing::warn!(%error, path = %self.place.path, "a replaced lease is not revoked yet");
                if error.is_unavailable() {
                    kept.push((id, told));
                }
            }
        }
        work.retiring = kept;
    }

    async fn revoke(&self, id: &LeaseId) -> Result<(), UpstreamError> {
        let upstream = &self.context.upstream;
        upstream.revoke_lease(id, self.occasion.urgency()).await
    }

    async fn ask(&self, request: &Request) -> Result<Reply, UpstreamError> {
        let upstream = &self.context.upstream;
        upstream.ask(request, self.occasion.urgency()).await
    }

    fn set_source(&self) {
        self.context
            .with_health(self.place.path.as_str(), |health| {
                health.source = Some(MirrorSource::Lease);
            });
    }

    fn jitter(&self) -> f64 {
        self.context.upstream.host_jitter()
    }

    fn now(&self) -> Now {
        self.context.now()
    }
}

/// What the lease gave when it was new, as far as that is known.
fn full(work: &LeaseMemory, lease: &Lease) -> u64 {
    match &work.full {
        Some((id, full)) if *id == lease.id => *full,
        _ => lease.granted,
    }
}

/// When to look next.
fn due(lease: &Lease, full: u64, jitter: f64, now: Now) -> Pace {
    match lease.care(full, jitter, now) {
        LeaseCare::Wait(wait) => Pace::Soon(wait),
        LeaseCare::Renew | LeaseCare::Replace => Pace::Soon(LEAST_PAUSE),
    }
}

impl MirrorContext {
    /// Leases of Holdover's own whose path left the configuration: revoked and forgotten.
    pub(super) async fn forget_leases(&self) {
        let secrets = self.local.view.secrets();
        let configured = |lease: &Lease| {
            let path = lease.place.path.as_str();
            self.settings
                .mirrors
                .iter()
                .any(|mirror| mirror.path.covers(path))
        };
        let held = secrets.leases.values().map(|held| &held.lease);
        // What a workload took out of a pool is that workload's until it ends.
        let gone = held.filter(|lease| {
            matches!(lease.holder, LeaseHolder::Pooled | LeaseHolder::Shared) && !configured(lease)
        });
        for id in gone.map(|lease| &lease.id) {
            // Where the primary cannot be asked its own deadline ends it.
            let revoked = self
                .upstream
                .revoke_lease(id, crate::upstream::pace::Urgency::Mirror);
            if let Err(error) = revoked.await {
                tracing::warn!(%error, "a lease that left the configuration could not be revoked");
            }
            if let Err(error) = self.commit(vec![Change::LeaseGone(id.clone())]).await {
                tracing::warn!(%error, "a lease that left the configuration is still in the replica");
            }
        }
    }
}
