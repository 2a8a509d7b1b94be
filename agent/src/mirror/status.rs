//! How the mirrors stand, for `status`, `ready` and the metrics.

use std::{sync::PoisonError, time::Duration};

use shared::{
    kv::Place,
    lease::LeaseHolder,
    name::WorkloadName,
    settings::{Mirror, MirrorPath},
    time::WallTime,
};

use super::{Mirrors, PassError};

/// How everything that is mirrored stands.
#[derive(Clone, PartialEq, Debug)]
pub struct Status {
    /// In the configuration's order.
    pub mirrors: Vec<MirrorStatus>,
    /// In the configuration's order.
    pub workloads: Vec<(WorkloadName, WorkloadStatus)>,
}

/// How one mirror stands.
#[derive(Clone, PartialEq, Debug)]
pub struct MirrorStatus {
    /// As configured.
    pub path: String,
    /// Keys or leases held now.
    pub count: u64,
    /// Of the least recently verified value; none until the first complete pass.
    pub age: Option<Duration>,
    /// Values older than this are not served.
    pub max_staleness: Duration,
    /// Failed passes in a row.
    pub errors: u32,
    /// Why the last pass failed, if it did.
    pub last_error: Option<String>,
    /// What makes the host not ready.
    pub reasons: Vec<String>,
    /// What an operator should know.
    pub findings: Vec<String>,
    /// How the last pass saw it.
    pub source: Option<MirrorSource>,
    /// Its pool, if it has one.
    pub pool: Option<PoolFill>,
}

/// How a pool stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PoolFill {
    /// As many are wanted.
    pub size: u32,
    /// Leases that nobody has.
    pub ready: u64,
    /// Leases that workloads took and that live.
    pub handed_out: u64,
    /// Since when fewer are ready than wanted, as passes saw it; none while they are all there.
    pub short_since: Option<WallTime>,
}

/// How a pass sees what there is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MirrorSource {
    /// LIST, folder by folder: KV v1 without SCAN.
    Folders,
    /// A lease is kept.
    Lease,
    /// LIST and one read of metadata per key: ten times more rarely.
    List,
    /// One read of metadata.
    Metadata,
    /// One read of what is kept.
    Read,
    /// One SCAN of detailed metadata.
    Scan,
}

/// How a workload's authority stands.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct WorkloadStatus {
    /// What makes the host not ready: why nothing could be issued for it. Empty once it was verified.
    pub reasons: Vec<String>,
}

/// What passes leave behind for [`MirrorStatus`].
#[derive(Clone, Default)]
pub(super) struct MirrorHealth {
    errors: u32,
    last_error: Option<String>,
    unsupported: bool,
    pub(super) source: Option<MirrorSource>,
    /// Since when a pool is short.
    pub(super) short_since: Option<WallTime>,
    /// Vanished keys that were kept.
    pub(super) withheld: usize,
    /// Keys whose change could not be fetched.
    pub(super) failed: usize,
    /// Keys whose value Holdover may not read.
    pub(super) denied: usize,
    /// Names in the listing that no request could be made for.
    pub(super) unreadable: usize,
}

impl MirrorHealth {
    pub(super) fn succeeded(&mut self) {
        self.errors = 0;
        self.last_error = None;
        self.unsupported = false;
    }

    pub(super) fn failed(&mut self, error: &PassError) {
        self.errors = self.errors.saturating_add(1);
        self.last_error = Some(error.to_string());
        self.unsupported = matches!(error, PassError::Unsupported(_));
    }

    fn reasons(&self) -> Vec<String> {
        let mut reasons = Vec::new();
        if let Some(error) = self.last_error.as_ref().filter(|_| self.unsupported) {
            reasons.push(error.clone());
        }
        if self.withheld > 0 {
            reasons.push(format!(
                "{} keys vanished at once and are kept: run mirror sync if that is right",
                self.withheld
            ));
        }
        if self.failed > 0 {
            reasons.push(format!("{} changed keys could not be read", self.failed));
        }
        if self.denied > 0 {
            reasons.push(format!(
                "Holdover may list {} keys that it may not read",
                self.denied
            ));
        }
        if self.unreadable > 0 {
            reasons.push(format!(
                "{} keys have names that no request can be made for",
                self.unreadable
            ));
        }
        reasons
    }

    fn findings(&self) -> Vec<String> {
        let text = match self.source {
            Some(MirrorSource::List) => {
                "SCAN of detailed metadata is refused: keys are listed one by one, ten times more rarely, and what \
                 vanishes is not purged"
            }
            Some(MirrorSource::Folders) => {
                "SCAN is refused: keys are listed folder by folder, and what vanishes is not purged"
            }
            _ => return Vec::new(),
        };
        vec![text.to_owned()]
    }
}

impl Mirrors {
    /// How everything stands, now.
    pub fn status(&self) -> Status {
        let now = self.now();
        let mirrors = self.configured().map(|mirror| self.status_of(mirror, now));
        let known = self.0.workloads.lock();
        let known = known.unwrap_or_else(PoisonError::into_inner);
        let workloads = self.0.settings.workloads.iter().map(|workload| {
            let status = known.get(&workload.name).cloned();
            (
                workload.name.clone(),
                status.unwrap_or_else(WorkloadStatus::unseen),
            )
        });
        Status {
            mirrors: mirrors.collect(),
            workloads: workloads.collect(),
        }
    }

    fn status_of(&self, mirror: &Mirror, now: WallTime) -> MirrorStatus {
        let path = mirror.path.configured();
        let (count, oldest) = self.held(&mirror.path);
        let health = self.with_health(&path, |health| health.clone());
        MirrorStatus {
            count,
            age: oldest.map(|oldest| now.since(oldest)),
            max_staleness: mirror.max_staleness,
            errors: health.errors,
            last_error: health.last_error.clone(),
            reasons: health.reasons(),
            findings: health.findings(),
            source: health.source,
            pool: (mirror.pool > 0).then(|| self.fill_of(mirror, health.short_since)),
            path,
        }
    }

    fn fill_of(&self, mirror: &Mirror, short_since: Option<WallTime>) -> PoolFill {
        let now = self.0.local.clock.now();
        let secrets = self.0.local.view.secrets();
        let leases = secrets.leases.values().map(|held| &held.lease);
        let living = leases.filter(|lease| {
            mirror.path.covers(lease.place.path.as_str()) && !lease.deadline.passed(now)
        });
        let mut fill = PoolFill {
            size: mirror.pool,
            ready: 0,
            handed_out: 0,
            short_since,
        };
        for lease in living {
            match lease.holder {
                LeaseHolder::Assigned(_) => fill.handed_out += 1,
                LeaseHolder::Pooled => fill.ready += 1,
                LeaseHolder::Shared | LeaseHolder::Token(_) => {}
            }
        }
        fill
    }

    /// How many keys or leases are held of `path`, and when the least recently verified was verified; none until a
    /// pass was complete.
    fn held(&self, path: &MirrorPath) -> (u64, Option<WallTime>) {
        let view = &self.0.local.view;
        let state = view.authority().mirrors.get(&path.configured()).cloned();
        let secrets = view.secrets();
        let covers = |place: &Place| path.covers(place.path.as_str());
        let leases: Vec<_> = secrets
            .leases
            .values()
            .map(|held| &held.lease)
            .filter(|lease| lease.holder.is_own() && covers(&lease.place))
            .collect();
        if !leases.is_empty() {
            let oldest = leases.iter().map(|lease| lease.verified_at).min();
            return (u64::try_from(leases.len()).unwrap_or(u64::MAX), oldest);
        }
        let keys = secrets.keys.keys().filter(|place| covers(place)).count();
        let kept = secrets.records.keys().filter(|(place, version)| {
            version.is_none() && covers(place) && !secrets.keys.contains_key(place)
        });
        let count = keys + kept.count();
        let records = secrets
            .records
            .values()
            .filter(|held| covers(&held.record.place));
        let oldest = state.map(|state| {
            let verified = records.map(|held| held.record.verified(Some(&state)));
            verified.min().unwrap_or(state.verified_at)
        });
        (u64::try_from(count).unwrap_or(u64::MAX), oldest)
    }
}

impl WorkloadStatus {
    fn unseen() -> Self {
        Self {
            reasons: vec!["its authority has not been verified since the start".to_owned()],
        }
    }
}
