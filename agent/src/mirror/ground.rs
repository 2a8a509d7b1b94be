//! What every pass over kept values stands on: one mirror, the mount under it, what the replica holds of it, and what
//! becomes of what vanished. Only own reads purge anything.

use std::{
    collections::BTreeMap,
    sync::{Arc, atomic::AtomicBool},
};

use shared::{
    change::Change,
    kv::{MirrorState, Place},
    name::{MountAccessor, RequestPath},
    settings::Mirror,
    time::WallTime,
};

use super::{
    Occasion, PassError,
    context::MirrorContext,
    index::{Index, Quiet},
    kv::{
        compare::{self, HeldKey, Known},
        read::Reader,
    },
    status::MirrorHealth,
};

/// One mirror and what is under it.
pub(super) struct Ground<'a> {
    pub(super) context: &'a Arc<MirrorContext>,
    pub(super) mirror: &'a Mirror,
    /// The mount.
    pub(super) mount: MountAccessor,
    /// What the paths of its values begin with; the path itself, where there is one.
    pub(super) literal: String,
    /// Whether there is one.
    pub(super) one: bool,
    pub(super) occasion: Occasion,
}

/// What a pass could not finish.
#[derive(Default)]
pub(super) struct Rest {
    /// Vanished keys that could not be asked about.
    pub(super) unasked: usize,
    /// Vanished keys that are kept.
    pub(super) withheld: usize,
}

impl Rest {
    pub(super) fn is_empty(&self) -> bool {
        self.unasked == 0 && self.withheld == 0
    }
}

impl Ground<'_> {
    pub(super) fn go_on(&self) -> Result<(), PassError> {
        self.context.go_on(self.occasion)
    }

    /// Where the index stands; a primary that cannot be asked cannot be listed either.
    pub(super) async fn observe(&self, quiet: &mut Quiet) -> Result<Option<Index>, PassError> {
        let urgency = self.occasion.urgency();
        let upstream = &self.context.upstream;
        Ok(quiet.observe(upstream, urgency).await?)
    }

    /// Whether the last complete pass found the same mount.
    pub(super) fn is_mounted(&self) -> bool {
        self.state().is_some_and(|state| state.mount == self.mount)
    }

    /// The path belongs to another mount than at the last pass: what was under the old one is of another place.
    /// Whether that was so.
    pub(super) async fn leave_old_mount(&self) -> Result<bool, PassError> {
        let remounted = self.state().is_some_and(|state| state.mount != self.mount);
        if remounted {
            let path = self.mirror.path.configured();
            tracing::warn!(%path, "its mount is another one than before: starting over");
            self.context.commit(vec![Change::MirrorGone(path)]).await?;
        }
        Ok(remounted)
    }

    /// Where a value of this mirror lives.
    pub(super) fn place(&self, path: RequestPath) -> Place {
        Place {
            namespace: self.context.settings.namespace.clone(),
            mount: self.mount.clone(),
            path,
        }
    }

    /// Keys that are held and were not listed. Each is asked about by a read of its own before it goes.
    pub(super) async fn settle_vanished(
        &self,
        vanished: &[Place],
        known: &Known,
        purge: bool,
    ) -> Result<Rest, PassError> {
        let mut rest = Rest::default();
        let many = compare::are_many(vanished.len(), known.len());
        if !purge || (many && self.occasion != Occasion::Operator) {
            rest.withheld = vanished.len();
            let kept = vanished.iter().filter_map(|place| known.get(&place.path));
            let changes = kept.flat_map(|held| compare::uncovered(Some(held)));
            self.context.commit(changes.collect()).await?;
            return Ok(rest);
        }
        let reader = self.reader(&Arc::default());
        for place in vanished {
            self.go_on()?;
            let change = match reader.is_gone(&place.path).await {
                Ok(true) => vec![Change::KeyGone(place.clone())],
                Ok(false) => Vec::new(),
                Err(error) if error.is_unavailable() => return Err(error.into()),
                Err(error) => {
                    tracing::warn!(%error, path = %place.path, "a vanished key could not be asked about");
                    rest.unasked += 1;
                    compare::uncovered(known.get(&place.path))
                }
            };
            self.context.commit(change).await?;
        }
        Ok(rest)
    }

    /// What the replica holds of this mirror.
    pub(super) fn known(&self) -> Known {
        let secrets = self.context.local.view.secrets();
        let (namespace, mount) = (&self.context.settings.namespace, &self.mount);
        let mine = |place: &Place| {
            let path = place.path.as_str();
            let named = match self.one {
                true => path == self.literal,
                false => path.starts_with(&self.literal),
            };
            named && place.mount == *mount && place.namespace == *namespace
        };
        let mut known: Known = BTreeMap::new();
        let keys = secrets.keys.iter().filter(|(place, _)| mine(place));
        for (place, key) in keys {
            known.insert(place.path.clone(), HeldKey::new(Arc::clone(key)));
        }
        for ((place, _), held) in secrets.records.iter().filter(|((place, _), _)| mine(place)) {
            if let Some(known) = known.get_mut(&place.path) {
                known.records.push(held.record.clone());
            }
        }
        known
    }

    pub(super) fn reader(&self, proven: &Arc<AtomicBool>) -> Reader {
        Reader {
            proven: Arc::clone(proven),
            upstream: self.context.upstream.clone(),
            urgency: self.occasion.urgency(),
        }
    }

    fn state(&self) -> Option<Arc<MirrorState>> {
        let authority = self.context.local.view.authority();
        authority
            .mirrors
            .get(&self.mirror.path.configured())
            .cloned()
    }

    /// The pass that began at `at` saw everything; what it could not read does not count as covered.
    pub(super) async fn complete(
        &self,
        fingerprint: String,
        at: WallTime,
    ) -> Result<(), PassError> {
        let state = MirrorState {
            path: self.mirror.path.configured(),
            mount: self.mount.clone(),
            verified_at: at,
            fingerprint,
        };
        self.context
            .commit(vec![Change::Mirror(Box::new(state))])
            .await
    }

    pub(super) fn with_health(&self, act: impl FnOnce(&mut MirrorHealth)) {
        self.context
            .with_health(&self.mirror.path.configured(), act);
    }
}
