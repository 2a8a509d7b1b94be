//! How the mirrors stand, for `status`, `ready` and the metrics.

use std::{
    fmt::{self, Display, Formatter},
    time::Duration,
};

use shared::{
    kv::{Doubted, Place},
    lease::LeaseHolder,
    name::WorkloadName,
    settings::{Mirror, MirrorPath},
    time::{Now, WallTime},
};

use super::{Mirrors, PassError};
use crate::status::{MirrorSource, MirrorStatus, PoolStatus, WholeSeconds};

/// What is in doubt for longer could not be read.
const LASTING: Duration = Duration::from_secs(10);

/// What passes leave behind for [`MirrorStatus`].
#[derive(Clone, Default)]
pub(super) struct MirrorHealth {
    errors: u64,
    last_error: Option<String>,
    unsupported: bool,
    pub(super) source: Option<MirrorSource>,
    /// Since when a pool is short.
    pub(super) short_since: Option<WallTime>,
    /// Vanished keys that were kept.
    pub(super) withheld: usize,
    /// Keys whose change could not be fetched, and why.
    pub(super) unread: UnreadPaths,
    /// Keys that there was no room for.
    pub(super) left_out: usize,
    /// Keys whose value Holdover may not read.
    pub(super) denied: usize,
    /// Names in the listing that no request could be made for.
    pub(super) unreadable: usize,
}

/// What could not be read: how much, and what was wrong with the first of it, by path and without values.
#[derive(Clone, Default)]
pub(super) struct UnreadPaths {
    count: usize,
    told: Vec<String>,
}

impl UnreadPaths {
    /// So many are told of.
    const TOLD: usize = 3;

    /// One more. What does not name the path itself is told with it.
    pub(super) fn add(&mut self, path: impl Display, why: impl Display) {
        self.count += 1;
        if self.told.len() < Self::TOLD {
            let (path, why) = (path.to_string(), why.to_string());
            self.told.push(match why.contains(&path) {
                true => why,
                false => format!("{path}: {why}"),
            });
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Both together.
    pub(super) fn and(mut self, other: Self) -> Self {
        self.count += other.count;
        self.told.extend(other.told);
        self.told.truncate(Self::TOLD);
        self
    }
}

impl Display for UnreadPaths {
    fn fmt(&self, text: &mut Formatter<'_>) -> fmt::Result {
        text.write_str(&self.told.join("; "))?;
        match self.count.saturating_sub(self.told.len()) {
            0 => Ok(()),
            more => write!(text, "; and {more} more"),
        }
    }
}

impl MirrorHealth {
    /// A pass went through. What it could not read of single keys counts as a failure all the same.
    pub(super) fn succeeded(&mut self) {
        self.unsupported = false;
        let failed = !self.unread.is_empty();
        self.last_error = failed.then(|| self.unread.to_string());
        self.errors = match failed {
            true => self.errors.saturating_add(1),
            false => 0,
        };
    }

    pub(super) fn failed(&mut self, error: &PassError) {
        self.errors = self.errors.saturating_add(1);
        self.last_error = Some(error.to_string());
        self.unsupported = matches!(error, PassError::Unsupported(_));
    }

    fn reasons(&self) -> Vec<String> {
        let unsupported = self.last_error.iter().filter(|_| self.unsupported).cloned();
        let counted = [
            (
                self.withheld,
                "keys vanished at once and are kept: run `holdover mirror sync` if that is right",
            ),
            (self.unread.count, "changed keys could not be read"),
            (self.denied, "keys are listed that Holdover may not read"),
            (self.unreadable, "keys have names that cannot be requested"),
        ];
        let counted = counted.into_iter().filter(|(keys, _)| *keys > 0);
        let counted = counted.map(|(keys, what)| format!("{keys} {what}"));
        unsupported.chain(counted).collect()
    }

    fn findings(&self, path: &str) -> Vec<String> {
        let left_out = (self.left_out > 0).then(|| {
            format!(
                "{} keys of {path} find no room and are not mirrored: mirror fewer paths or versions, or divide them among hosts",
                self.left_out
            )
        });
        self.listed_finding().into_iter().chain(left_out).collect()
    }

    fn listed_finding(&self) -> Option<String> {
        let text = match self.source {
            Some(MirrorSource::List) => {
                "SCAN of detailed metadata is refused: keys are listed one by one, ten times more rarely, and what \
                 vanishes is not purged"
            }
            Some(MirrorSource::Folders) => {
                "SCAN is refused: keys are listed folder by folder, and what vanishes is not purged"
            }
            _ => return None,
        };
        Some(text.to_owned())
    }
}

impl Mirrors {
    /// How every mirror stands now, in the configuration's order.
    pub fn statuses(&self) -> Vec<MirrorStatus> {
        let now = self.context.now();
        self.configured()
            .map(|mirror| self.status_of(mirror, now))
            .collect()
    }

    /// Why nothing can be issued for a workload, as its last verification said. Empty once it was verified.
    pub fn failures(&self, workload: &WorkloadName) -> Vec<String> {
        let unseen = || vec!["its authority has not been verified since the start".to_owned()];
        let known = self.context.failures.lock();
        known.get(workload).cloned().unwrap_or_else(unseen)
    }

    /// What could not be read when it was last asked for, beside mirrored paths: its kind, its path and what is wrong.
    pub fn unread(&self) -> Vec<String> {
        let kinds = self.context.unread.lock();
        let unread = kinds.iter().filter(|(_, unread)| !unread.is_empty());
        unread
            .map(|(kind, unread)| format!("{kind} could not be read: {unread}"))
            .collect()
    }

    fn status_of(&self, mirror: &Mirror, now: Now) -> MirrorStatus {
        let path = mirror.path.configured();
        let (count, oldest) = self.held(&mirror.path);
        let health = self.context.with_health(&path, |health| health.clone());
        let (doubted, lasting) = self.doubted(mirror, now);
        let lasting = (lasting > 0).then(|| {
            format!(
                "{lasting} keys of {path} may be superseded and could not be read since: an outage answers 503 for them"
            )
        });
        MirrorStatus {
            count,
            doubted,
            left_out: health.left_out as u64,
            age: oldest.map(|oldest| WholeSeconds(now.wall.since(oldest))),
            max_staleness: WholeSeconds(mirror.max_staleness),
            errors: health.errors,
            reasons: health.reasons(),
            findings: health.findings(&path).into_iter().chain(lasting).collect(),
            last_error: health.last_error,
            source: health.source,
            pool: (mirror.pool > 0).then(|| self.pool_of(mirror, health.short_since, now)),
            path,
        }
    }

    fn pool_of(&self, mirror: &Mirror, short_since: Option<WallTime>, now: Now) -> PoolStatus {
        let secrets = self.context.local.view.secrets();
        let leases = secrets.leases.values().map(|held| &held.lease);
        let living = leases.filter(|lease| {
            mirror.path.covers(lease.place.path.as_str()) && !lease.deadline.passed(now)
        });
        let mut pool = PoolStatus {
            path: mirror.path.configured(),
            size: u64::from(mirror.pool),
            short_since,
            ..PoolStatus::default()
        };
        for lease in living {
            match lease.holder {
                LeaseHolder::Assigned(_) => pool.handed_out += 1,
                LeaseHolder::Pooled => pool.ready += 1,
                LeaseHolder::Shared | LeaseHolder::Token(_) => {}
            }
        }
        pool
    }

    /// How much of a mirror is in doubt, and how much of that for longer than a read takes. A whole mirror counts as all
    /// that is kept of it.
    fn doubted(&self, mirror: &Mirror, now: Now) -> (u64, u64) {
        let doubts = self.context.local.view.doubts();
        let path = mirror.path.configured();
        let (mut all, mut lasting) = (0, 0);
        for doubt in doubts.all() {
            let keys = match &doubt.of {
                Doubted::Absence(of) if *of == path => 1,
                Doubted::Key(place) if mirror.path.covers(place.path.as_str()) => 1,
                Doubted::Mirror(of) if *of == path => self.held(&mirror.path).0.max(1),
                _ => 0,
            };
            all += keys;
            if now.steady.since(doubt.since) > LASTING {
                lasting += keys;
            }
        }
        (all, lasting)
    }

    /// How many keys or leases are held of `path`, and when the least recently verified was verified; none until a
    /// pass was complete.
    fn held(&self, path: &MirrorPath) -> (u64, Option<WallTime>) {
        let count = |held: usize| u64::try_from(held).unwrap_or(u64::MAX);
        let view = &self.context.local.view;
        let secrets = view.secrets();
        let covers = |place: &Place| path.covers(place.path.as_str());
        let leases = secrets.leases.values().map(|held| &held.lease);
        let leases = leases.filter(|lease| lease.holder.is_own() && covers(&lease.place));
        let leases: Vec<_> = leases.map(|lease| lease.verified_at).collect();
        if !leases.is_empty() {
            return (count(leases.len()), leases.into_iter().min());
        }
        let keys = secrets.keys.keys().filter(|place| covers(place)).count();
        let kept = secrets.records.keys().filter(|(place, version)| {
            version.is_none() && covers(place) && !secrets.keys.contains_key(place)
        });
        let state = view.authority().mirrors.get(&path.configured()).cloned();
        let oldest = state.map(|state| {
            let records = secrets.records.values().map(|held| &held.record);
            let records = records.filter(|record| covers(&record.place));
            let verified = records.map(|record| record.verified(Some(&state)));
            verified.min().unwrap_or(state.verified_at)
        });
        (count(keys + kept.count()), oldest)
    }
}
