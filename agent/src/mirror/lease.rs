//! Leased secrets: one lease of Holdover's own for each path, or a pool of them, renewed, replaced in time, never thrown
//! away because of a transport error.
//!
//! A replaced lease is revoked when what clients may have been told of it has passed, not before.

pub(super) mod leaving;
mod pool;

use std::{collections::BTreeMap, time::Duration};

use serde::Deserialize;
use shared::{
    backoff::LostAnswers,
    change::Change,
    kv::Place,
    lease::{Lease, LeaseCare, LeaseHolder},
    name::LeaseId,
    secret::SecretBytes,
    time::{Deadline, Now},
};

use super::{
    Occasion, PassError,
    context::MirrorContext,
    cycle::Pace,
    index::Quiet,
    path::PathAnswer,
    plain::{self, PlainAnswer},
};
use crate::{
    status::MirrorSource,
    upstream::{Reply, Request, UpstreamError},
};

/// A path whose answer cannot be mirrored is asked again after this long: reading it may create something.
const UNSUPPORTED_FOR: Duration = Duration::from_secs(3600);

/// The bounds of the pause between two new leases of one path.
const LEAST_PAUSE: Duration = Duration::from_secs(1);
const MOST_PAUSE: Duration = Duration::from_secs(60);

/// What the task remembers from pass to pass.
#[derive(Default)]
pub(super) struct LeaseMemory {
    quiet: Quiet,
    /// What each lease gave when it was new, as far as that is known; after a restart, what it gave last.
    full: BTreeMap<LeaseId, u64>,
    /// Replaced leases, and when what clients were told of them has passed.
    retiring: Vec<(LeaseId, Deadline)>,
    /// No new lease is asked for before this, and why.
    hold_off: Option<HoldOff>,
    /// New leases whose answers were lost.
    lost: LostAnswers,
    /// An answer that came without a lease: it is kept in another way.
    unleased: Option<PathAnswer>,
    /// How many leases the path's pool got lately.
    window: pool::Window,
}

impl LeaseMemory {
    /// The answer of the last pass, if that had no lease.
    pub(super) fn take_unleased(&mut self) -> Option<PathAnswer> {
        self.unleased.take()
    }

    fn full(&self, lease: &Lease) -> u64 {
        self.full.get(&lease.id).copied().unwrap_or(lease.granted)
    }

    /// Whether the last renewal gave so little that its max TTL must be near.
    fn is_worn(&self, lease: &Lease) -> bool {
        lease.granted < self.full(lease) / 2
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

/// `data` of a look-up.
#[derive(Deserialize)]
struct LeaseLookup {
    id: LeaseId,
    #[serde(rename = "expire_time")]
    _expire_time: String,
    ttl: u64,
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
        let (new, old) = (shown.wall, verified.deadline.wall);
        if new.since(old).max(old.since(new)) > Duration::from_secs(2) {
            verified.deadline = shown;
        }
        verified
    }
}

impl LeasePass<'_> {
    pub(super) async fn run(&self, memory: &mut LeaseMemory) -> Result<Pace, PassError> {
        self.context.go_on(self.occasion)?;
        self.revoke_retired(memory).await;
        self.context
            .with_health(self.place.path.as_str(), |health| {
                health.source = Some(MirrorSource::Lease);
            });
        let known = self.leases(|_| true);
        memory
            .full
            .retain(|id, _| known.iter().any(|lease| lease.id == *id));
        if self.size > 0 {
            return self.keep_pool(memory).await;
        }
        self.let_go_of_pool().await?;
        let Some(lease) = self.adopt_newest(memory).await? else {
            return self.replace(memory, None).await;
        };
        if self.is_of_another_token(&lease) {
            // However young it is.
            memory.hold_off = None;
            return self.replace(memory, Some(&lease)).await;
        }
        let care = lease.care(memory.full(&lease), self.spread(&lease), self.now());
        match care {
            _ if memory.is_worn(&lease) => self.replace(memory, Some(&lease)).await,
            LeaseCare::Wait(wait) => self.verify(memory, &lease, wait).await,
            LeaseCare::Renew => match self.renew(memory, &lease).await? {
                Some(renewed) => Ok(Pace::Soon(self.next_look(memory, &renewed))),
                None => self.replace(memory, Some(&lease)).await,
            },
            LeaseCare::Replace => self.replace(memory, Some(&lease)).await,
        }
    }

    /// The lease in hand. Of several, as a cut-off replacement leaves them, the newest; the others go.
    async fn adopt_newest(&self, memory: &mut LeaseMemory) -> Result<Option<Lease>, PassError> {
        let mut leases = self.leases(|lease| lease.holder == LeaseHolder::Shared);
        leases.sort_by_key(|lease| (lease.place == self.place, lease.issued_at));
        let newest = leases.pop_if(|lease| lease.place == self.place);
        self.retire(memory, leases).await?;
        Ok(newest)
    }

    /// Leaves shared leases to end: they are answered with no longer, and revoked when what clients were told has passed.
    async fn retire(&self, memory: &mut LeaseMemory, old: Vec<Lease>) -> Result<(), PassError> {
        let gone = old.iter().map(|old| Change::LeaseGone(old.id.clone()));
        let gone = gone.collect();
        // Remembered before it is forgotten in the replica, because nothing else would revoke it.
        let retiring = old.into_iter().map(|old| (old.id, old.deadline));
        memory.retiring.extend(retiring);
        self.context.commit(gone).await
    }

    /// Whether it hangs on a token of Holdover's own that is about to end, or has ended: the own token's successor
    /// does not keep what hangs on the one before.
    fn is_of_another_token(&self, lease: &Lease) -> bool {
        let own = self.context.upstream.own_times();
        own.is_some_and(|(issued_at, _)| lease.issued_at < issued_at)
    }

    /// Nothing is due: the primary still knows it.
    async fn verify(
        &self,
        memory: &mut LeaseMemory,
        lease: &Lease,
        wait: Duration,
    ) -> Result<Pace, PassError> {
        let now = self.now();
        let quiet = &mut memory.quiet;
        let index = quiet.observe(self.context, self.occasion.urgency());
        let index = index.await?;
        let mut verified = Lease {
            verified_at: now.steady,
            ..lease.clone()
        };
        if !quiet.holds(index.as_ref(), now.steady) {
            quiet.forget();
            let Some(shown) = self.look_up(lease).await? else {
                tracing::warn!(path = %self.place.path, "the primary no longer knows a lease of Holdover's own");
                return self.replace(memory, Some(lease)).await;
            };
            verified = shown;
            quiet.complete(index, now.steady);
        }
        self.commit_lease(verified, None, None).await?;
        Ok(Pace::Soon(wait))
    }

    /// The lease as the primary shows it; none where it does not know it any longer.
    async fn look_up(&self, lease: &Lease) -> Result<Option<Lease>, PassError> {
        let now = self.now();
        let answered = match self.ask_about(lease, "lookup").await?.shown() {
            Err(UpstreamError::Decision(no)) if no.says("invalid lease") => return Ok(None),
            answered => answered?,
        };
        let shown: LeaseLookup = answered.data()?;
        match shown.id == lease.id {
            true => Ok(Some(shown.of(lease.clone(), now))),
            false => Err(answered.unexpected("it is of another lease").into()),
        }
    }

    /// The lease renewed; none where it is not known any more, or past its max TTL.
    async fn renew(
        &self,
        memory: &mut LeaseMemory,
        lease: &Lease,
    ) -> Result<Option<Lease>, PassError> {
        let now = self.now();
        let answered = match self.ask_about(lease, "renew").await?.shown() {
            Err(UpstreamError::Decision(no)) if no.is_bad_request() => return Ok(None),
            answered => answered?,
        };
        let envelope = answered.envelope()?;
        let granted = envelope.lease_duration;
        if envelope.lease_id != lease.id.as_str() || granted == 0 {
            return Err(answered.unexpected("it is of another lease").into());
        }
        let renewed = Lease {
            renewable: envelope.renewable,
            granted,
            renewed_at: now.steady,
            deadline: Deadline::after(Duration::from_secs(granted), now),
            verified_at: now.steady,
            ..lease.clone()
        };
        let full = memory.full(lease).max(granted);
        memory.full.insert(lease.id.clone(), full);
        memory.quiet.forget();
        self.commit_lease(renewed.clone(), None, None).await?;
        Ok(Some(renewed))
    }

    /// What the primary answers about a lease at `sys/leases/`.
    async fn ask_about(&self, lease: &Lease, what: &str) -> Result<Reply, UpstreamError> {
        let fields = [("lease_id", lease.id.as_str())];
        let request = Request::fields(format!("sys/leases/{what}"), &fields).repeatable();
        self.ask(&request).await
    }

    /// Gets a new lease in place of `old`, which stays what it is if that fails.
    async fn replace(
        &self,
        memory: &mut LeaseMemory,
        old: Option<&Lease>,
    ) -> Result<Pace, PassError> {
        self.held_off(memory, self.now())?;
        let lease = self.get_new(memory, LeaseHolder::Shared, old).await?;
        let retiring = old.map(|old| (old.id.clone(), old.deadline));
        memory.retiring.extend(retiring);
        Ok(Pace::Soon(self.next_look(memory, &lease)))
    }

    /// A new lease, stored in place of `old`. A path that can have none is not asked again for long.
    async fn get_new(
        &self,
        memory: &mut LeaseMemory,
        holder: LeaseHolder,
        old: Option<&Lease>,
    ) -> Result<Lease, PassError> {
        let now = self.now();
        if self.occasion.is_own() {
            self.context.may_ask(&memory.lost)?;
        }
        let acquired = self.acquire(memory, holder, now).await;
        let path = self.place.path.as_str();
        self.context.came_to(&mut memory.lost, &acquired, path);
        if let Err(PassError::Unsupported(why)) = &acquired {
            let why = Some(why.clone());
            memory.hold_off = Some(self.hold_off(UNSUPPORTED_FOR, why, now));
        }
        let (lease, body) = acquired?;
        let pause = Duration::from_secs(lease.granted) / 4;
        let pause = pause.clamp(LEAST_PAUSE, MOST_PAUSE);
        match lease.holder {
            LeaseHolder::Pooled => memory.window.note(pause, now),
            _ => memory.hold_off = Some(self.hold_off(pause, None, now)),
        }
        memory.full.insert(lease.id.clone(), lease.granted);
        memory.quiet.forget();
        if let Err(error) = self.commit_lease(lease.clone(), Some(body), old).await {
            // Nothing remembers it, so it must not live on.
            let _ = self.revoke(&lease.id).await;
            return Err(error);
        }
        Ok(lease)
    }

    async fn acquire(
        &self,
        memory: &mut LeaseMemory,
        holder: LeaseHolder,
        now: Now,
    ) -> Result<(Lease, SecretBytes), PassError> {
        let request = Request::read(self.place.path.as_str()).creating();
        let said = self.ask(&request).await?.said()?;
        let path = &self.place.path;
        // Where a lease is held, an answer without one does not turn the path into one without leases.
        let leased = !self.leases(|lease| lease.holder.is_own()).is_empty()
            && self.occasion != Occasion::Operator;
        let new = match plain::of(&said, path) {
            Ok(PlainAnswer::Leased(new)) => new,
            Ok(PlainAnswer::Token) if !leased => {
                let why =
                    format!("{path} answers with a token or a wrapping: it cannot be mirrored");
                return Err(PassError::Unsupported(why));
            }
            Ok(PlainAnswer::Kept(_)) | Err(UpstreamError::Decision(_)) if !leased => {
                let at = now.steady;
                memory.unleased = Some(PathAnswer { said, at });
                memory.hold_off = None;
                return Err(PassError::Unleased);
            }
            Ok(_) => {
                return Err(UpstreamError::Malformed {
                    path: path.to_string(),
                    what: "no lease in it, where one is held".to_owned(),
                }
                .into());
            }
            Err(error) => {
                if let Some(stray) = plain::stray_lease(&said, path) {
                    // Nothing remembers it, so it must not live on.
                    let _ = self.revoke(&stray).await;
                }
                return Err(error.into());
            }
        };
        let granted = new.granted;
        let lease = Lease {
            id: new.id,
            place: self.place.clone(),
            holder,
            detached: Vec::new(),
            answers_reads: true,
            renewable: new.renewable,
            granted,
            issued_at: now.steady,
            renewed_at: now.steady,
            deadline: Deadline::after(Duration::from_secs(granted), now),
            verified_at: now.steady,
        };
        Ok((lease, new.data))
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
    fn held_off(&self, memory: &LeaseMemory, now: Now) -> Result<(), PassError> {
        match &memory.hold_off {
            Some(hold_off)
                if self.occasion.is_own()
                    && hold_off.place == self.place
                    && !hold_off.until.passed_for_good(now) =>
            {
                let unsupported = hold_off.unsupported.clone();
                Err(unsupported.map_or(PassError::TooSoon, PassError::Unsupported))
            }
            _ => Ok(()),
        }
    }

    fn hold_off(&self, pause: Duration, unsupported: Option<String>, now: Now) -> HoldOff {
        HoldOff {
            until: Deadline::after(pause, now),
            place: self.place.clone(),
            unsupported,
        }
    }

    async fn revoke_retired(&self, memory: &mut LeaseMemory) {
        let now = self.now();
        let mut kept = Vec::new();
        for (id, told) in memory.retiring.drain(..) {
            if !told.passed_for_good(now) {
                kept.push((id, told));
            } else if let Err(error) = self.revoke(&id).await {
                tracing::warn!(%error, path = %self.place.path, "a replaced lease is not revoked yet");
                if error.is_unavailable() {
                    kept.push((id, told));
                }
            }
        }
        memory.retiring = kept;
    }

    async fn revoke(&self, id: &LeaseId) -> Result<(), UpstreamError> {
        let upstream = &self.context.upstream;
        upstream.revoke_lease(id, self.occasion.urgency()).await
    }

    async fn ask(&self, request: &Request) -> Result<Reply, UpstreamError> {
        let upstream = &self.context.upstream;
        upstream.ask(request, self.occasion.urgency()).await
    }

    /// When to look again for the sake of this lease.
    fn next_look(&self, memory: &LeaseMemory, lease: &Lease) -> Duration {
        match lease.care(memory.full(lease), self.spread(lease), self.now()) {
            LeaseCare::Wait(wait) => wait,
            LeaseCare::Renew | LeaseCare::Replace => LEAST_PAUSE,
        }
    }

    /// Where between 0 and 1 renewals are spread: hosts over a shared lease, leases over a pool.
    fn spread(&self, lease: &Lease) -> f64 {
        match lease.holder {
            LeaseHolder::Pooled => lease.spread(),
            _ => self.context.upstream.host_jitter(),
        }
    }

    /// Leases of this path, of whatever mount it had in the configured namespace.
    fn leases(&self, wanted: impl Fn(&Lease) -> bool) -> Vec<Lease> {
        let secrets = self.context.local.view.secrets();
        let held = secrets.leases.values().map(|held| &held.lease);
        let here = |lease: &&Lease| {
            (&lease.place.namespace, &lease.place.path) == (&self.place.namespace, &self.place.path)
        };
        let of_path = held.filter(here);
        of_path.filter(|lease| wanted(lease)).cloned().collect()
    }

    fn now(&self) -> Now {
        self.context.now()
    }
}
