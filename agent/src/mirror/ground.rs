//! What every pass over kept values stands on: one mirror, the mount under it, what the replica holds of it, and what
//! becomes of what vanished. Only own reads purge anything.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use replica::sequencer::Lane;
use shared::{
    change::{Change, Expects},
    kv::{Doubt, Doubted, Kept, MirrorState, Place},
    name::{MountAccessor, RequestPath},
    settings::Mirror,
    time::WallTime,
};

use super::{
    Occasion, PassError,
    context::MirrorContext,
    held::{self, HeldKey, HeldKeys},
    read::{Reader, is_cut_off, several},
    status::{MirrorHealth, UnreadPaths},
};
use crate::upstream::{Said, UpstreamError};

/// Values per commit: a pass that is cut off goes on from there.
const BATCH: usize = 64;

/// One mirror and what is under it.
pub(super) struct Ground<'a> {
    pub(super) context: &'a Arc<MirrorContext>,
    pub(super) mirror: &'a Mirror,
    pub(super) mount: MountAccessor,
    pub(super) occasion: Occasion,
    /// From before anything was asked for it.
    pub(super) at: WallTime,
    /// Keys that there was no room for.
    left_out: AtomicUsize,
}

/// What a pass could not finish.
#[derive(Default)]
pub(super) struct Unfinished {
    /// What is not known, and why.
    pub(super) unread: UnreadPaths,
    /// Vanished keys that are kept.
    pub(super) withheld: usize,
}

impl Unfinished {
    pub(super) fn is_empty(&self) -> bool {
        self.unread.is_empty() && self.withheld == 0
    }
}

impl<'a> Ground<'a> {
    pub(super) fn new(
        context: &'a Arc<MirrorContext>,
        mirror: &'a Mirror,
        mount: &MountAccessor,
        occasion: Occasion,
    ) -> Self {
        Self {
            context,
            mirror,
            mount: mount.clone(),
            occasion,
            at: context.now().steady,
            left_out: AtomicUsize::new(0),
        }
    }

    /// Stores what was asked for by this pass: of a key that was read anew since, nothing.
    pub(super) async fn commit(&self, changes: Vec<Change>) -> Result<(), PassError> {
        if changes.is_empty() {
            return Ok(());
        }
        let expects = Expects {
            asked_at: Some(self.at),
            ..Expects::default()
        };
        self.context
            .commit_expecting(Lane::Mirror, changes, expects)
            .await
    }

    pub(super) fn go_on(&self) -> Result<(), PassError> {
        self.context.go_on(self.occasion)
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
            self.commit(vec![Change::MirrorGone(path)]).await?;
        }
        Ok(remounted)
    }

    /// Whether a value of this path belongs to the mirror.
    pub(super) fn is_wanted(&self, path: &str) -> bool {
        self.mirror.path.covers(path) && !self.context.is_excluded(path)
    }

    /// Where a value of this mirror lives.
    pub(super) fn place(&self, path: RequestPath) -> Place {
        Place {
            namespace: self.context.settings.namespace.clone(),
            mount: self.mount.clone(),
            path,
        }
    }

    /// Reads `wanted` in batches, and stores what each read changes. What was read before the primary went away is
    /// kept: the next pass goes on from there. `at` says where each lives: once there is no room, what is not held is not read.
    pub(super) async fn read_all<W, R, F>(
        &self,
        wanted: &[W],
        at: impl Fn(&W) -> &Place,
        read: impl Fn(Reader, &W) -> F,
        mut changes: impl FnMut(R) -> Vec<Change>,
    ) -> Result<(), PassError>
    where
        R: Send + 'static,
        F: Future<Output = Result<R, UpstreamError>> + Send + 'static,
    {
        let reader = self.reader();
        for batch in wanted.chunks(BATCH) {
            self.go_on()?;
            let (batch, no_room): (Vec<_>, Vec<_>) =
                batch.iter().partition(|one| self.is_tried(at(one)));
            let reads = batch.into_iter().map(|one| read(reader.clone(), one));
            let (reads, cut_off) = several(reads).await;
            let left_out = no_room.into_iter().flat_map(|one| self.leave_out(at(one)));
            let mut all: Vec<_> = left_out.collect();
            all.extend(reads.into_iter().flat_map(&mut changes));
            self.commit(all).await?;
            if let Some(error) = cut_off {
                return Err(error);
            }
        }
        Ok(())
    }

    /// Decides about keys that are held and that the pass did not see: each is asked about by a read of its own before
    /// it goes. `fits` says what shows a key that is there. Such a key was not compared: it is kept, with its age.
    pub(super) async fn decide_vanished(
        &self,
        vanished: &[Place],
        held: &HeldKeys,
        purge: bool,
        fits: impl Fn(&Said) -> Result<(), UpstreamError>,
    ) -> Result<Unfinished, PassError> {
        let mut rest = Unfinished::default();
        let many = held::are_many(vanished.len(), held.len());
        if !purge || (many && self.occasion != Occasion::Operator) {
            rest.withheld = vanished.len();
            let kept = vanished.iter();
            let changes = kept.flat_map(|place| self.uncovered(held, &place.path));
            self.commit(changes.collect()).await?;
            return Ok(rest);
        }
        let reader = self.reader();
        for place in vanished {
            self.go_on()?;
            let path = &place.path;
            let change = match reader.is_gone(path, &fits).await {
                Ok(true) => vec![Change::KeyGone(place.clone())],
                Ok(false) => {
                    rest.unread
                        .add(path, "it is not listed, and its own read finds it");
                    self.uncovered(held, path)
                }
                Err(error) if is_cut_off(&error) => return Err(error.into()),
                Err(error) => {
                    tracing::warn!(%error, %path, "a vanished key could not be asked about");
                    rest.unread.add(path, error);
                    self.uncovered(held, path)
                }
            };
            self.commit(change).await?;
        }
        Ok(rest)
    }

    /// `changes` of what is kept at `place`, if there is room for them. Else nothing is: what is superseded must not be.
    pub(super) fn fitting(&self, place: &Place, changes: Vec<Change>) -> Vec<Change> {
        let (context, secrets) = (self.context, self.context.local.view.secrets());
        match context.room.keep(self.mirror, place, &secrets, &changes) {
            true => changes,
            false => self.leave_out(place),
        }
    }

    /// Whether it is worth reading what is at `place`: it is held, or there may be room for it.
    pub(super) fn is_tried(&self, place: &Place) -> bool {
        let may_fit = || self.left_out() == 0 && self.context.room.is_left(self.mirror);
        self.is_held(place) || may_fit()
    }

    /// Nothing is kept at `place`, for want of room; and that nothing is kept means nothing in this mirror from here on.
    pub(super) fn leave_out(&self, place: &Place) -> Vec<Change> {
        let is_first = self.left_out.fetch_add(1, Ordering::Relaxed) == 0;
        let mut changes = Vec::new();
        if self.is_held(place) {
            let secrets = self.context.local.view.secrets();
            changes.extend([
                Change::RecordGone(place.clone(), None),
                Change::KeyGone(place.clone()),
            ]);
            let _ = self
                .context
                .room
                .keep(self.mirror, place, &secrets, &changes);
        }
        let state = self.state().filter(|state| is_first && !state.partial);
        changes.extend(state.map(|state| {
            let partial = MirrorState {
                partial: true,
                ..MirrorState::clone(&state)
            };
            Change::Mirror(Box::new(partial))
        }));
        changes
    }

    /// How many keys there was no room for.
    pub(super) fn left_out(&self) -> usize {
        self.left_out.load(Ordering::Relaxed)
    }

    fn is_held(&self, place: &Place) -> bool {
        let secrets = self.context.local.view.secrets();
        let unversioned = || secrets.records.contains_key(&(place.clone(), None));
        secrets.keys.contains_key(place) || unversioned()
    }

    /// Counts anew what is held of this mirror.
    pub(super) fn count_room(&self) {
        let secrets = self.context.local.view.secrets();
        self.context.room.count(self.mirror, &secrets);
    }

    /// What is held of a key that the pass does not verify: all of it, as old as it is.
    pub(super) fn uncovered(&self, held: &HeldKeys, path: &RequestPath) -> Vec<Change> {
        let doubt = self.doubt_again(&self.place(path.clone()));
        let kept = held::uncovered(held.get(path), self.state().as_deref());
        kept.into_iter().chain(doubt).collect()
    }

    /// What was in doubt of a key that this pass could not read is so still when the pass ends.
    pub(super) fn doubt_again(&self, place: &Place) -> Option<Change> {
        let known = self.context.local.view.doubts().of(place)?;
        Some(Change::Doubted(Doubt {
            of: Doubted::Key(place.clone()),
            since: known.since.max(self.at),
            vanished: known.vanished,
        }))
    }

    /// What the replica holds of one key.
    pub(super) fn held_at(&self, kept: &Kept) -> HeldKeys {
        let secrets = self.context.local.view.secrets();
        let records = kept.records.iter().filter_map(|(version, ..)| {
            let held = secrets.records.get(&(kept.place.clone(), *version))?;
            Some(held.record.clone())
        });
        let held = kept.key.as_ref().map(|key| HeldKey {
            key: Arc::new(key.clone()),
            records: records.collect(),
        });
        let held = held.map(|held| (kept.place.path.clone(), held));
        held.into_iter().collect()
    }

    /// What the replica holds of this mirror.
    pub(super) fn held(&self) -> HeldKeys {
        let secrets = self.context.local.view.secrets();
        let namespace = &self.context.settings.namespace;
        let mine = |place: &Place| {
            self.mirror.path.covers(place.path.as_str())
                && place.mount == self.mount
                && place.namespace == *namespace
        };
        let keys = secrets.keys.iter().filter(|(place, _)| mine(place));
        let keys = keys.map(|(place, key)| {
            let held = HeldKey {
                key: Arc::clone(key),
                records: Vec::new(),
            };
            (place.path.clone(), held)
        });
        let mut known: HeldKeys = keys.collect();
        for ((place, _), held) in secrets.records.iter().filter(|((place, _), _)| mine(place)) {
            if let Some(known) = known.get_mut(&place.path) {
                known.records.push(held.record.clone());
            }
        }
        known
    }

    pub(super) fn reader(&self) -> Reader {
        Reader::new(self.context, self.occasion.urgency())
    }

    pub(super) fn state(&self) -> Option<Arc<MirrorState>> {
        let authority = self.context.local.view.authority();
        let path = self.mirror.path.configured();
        authority.mirrors.get(&path).cloned()
    }

    /// The pass saw everything, as of when it began; what it could not read does not count as covered.
    ///
    /// Stored after everything else of the pass, because from then on every covered value counts as verified then.
    /// `partial` says whether there was no room for something.
    pub(super) async fn complete(
        &self,
        fingerprint: String,
        partial: bool,
    ) -> Result<(), PassError> {
        let state = MirrorState {
            path: self.mirror.path.configured(),
            mount: self.mount.clone(),
            verified_at: self.at,
            fingerprint,
            partial,
        };
        let change = Change::Mirror(Box::new(state));
        self.commit(vec![change]).await
    }

    pub(super) fn with_health(&self, act: impl FnOnce(&mut MirrorHealth)) {
        let path = self.mirror.path.configured();
        self.context.with_health(&path, act);
    }
}
