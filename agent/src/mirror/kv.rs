//! One pass over a KV v2 mirror: one request that lists everything with its metadata, and reads of what changed.
//!
//! What changed is decided by comparing metadata texts, because deletion and destruction change neither the current
//! version nor the time of update. A value whose change could not be read keeps its old body and stops counting as
//! covered by the pass; only own reads purge anything.

pub(super) mod compare;
mod metadata;
pub(super) mod read;
mod shelf;
pub(super) mod v1;

use std::{
    collections::BTreeSet,
    sync::{Arc, atomic::AtomicBool},
};

use shared::{change::Change, kv::KvKey, time::WallTime};
use tokio::task::JoinSet;

use self::{
    compare::{Changed, Known, ListedKey, Todo},
    metadata::Listing,
    read::{ReadKey, read_key},
    shelf::{Shelf, ShelvedFor},
};
use super::{
    Occasion, PassError,
    cycle::Pace,
    ground::{Ground, Rest},
    index::{Index, Quiet},
    target::{Keys, KvTarget},
};
use crate::status::MirrorSource;

/// Keys read at the same time.
const CONCURRENCY: usize = 8;

/// Changed keys per commit: a pass that is cut off goes on from there.
const BATCH: usize = 64;

/// What the task remembers from pass to pass.
#[derive(Default)]
pub(super) struct KvMemory {
    quiet: Quiet,
    /// Passes until SCAN is tried again.
    scan_refused: u32,
    /// The last pass left nothing undone, under this fingerprint.
    clean: Option<String>,
    /// When a version that is served now passes its deletion time, or a key that was put aside is due again.
    due: Option<WallTime>,
    shelf: Shelf,
}

/// One pass.
pub(super) struct KvPass<'a> {
    pub(super) ground: Ground<'a>,
    pub(super) target: KvTarget,
}

impl KvPass<'_> {
    pub(super) async fn run(&self, work: &mut KvMemory) -> Result<Pace, PassError> {
        let ground = &self.ground;
        ground.go_on()?;
        let at = ground.context.now().steady;
        let index = ground.observe(&mut work.quiet).await?;
        if self.is_unchanged(work, index.as_ref(), at) {
            ground
                .complete(work.clean.clone().unwrap_or_default(), at)
                .await?;
            return Ok(self.pace(work));
        }
        work.quiet.forget();
        if ground.leave_old_mount().await? {
            *work = KvMemory::default();
        }
        let listing = self.list(work).await?;
        let unreadable = listing.unreadable;
        ground.with_health(|health| {
            health.source = Some(listing.source);
            health.unreadable = unreadable;
        });
        let overdue = work.due.is_some_and(|due| due <= at);
        if overdue || work.clean.as_ref() != Some(&listing.fingerprint) {
            work.clean = None;
            let fingerprint = listing.fingerprint.clone();
            let rest = self.settle(work, listing, at).await?;
            work.clean = rest.is_empty().then_some(fingerprint);
        }
        ground
            .complete(work.clean.clone().unwrap_or_default(), at)
            .await?;
        if work.clean.is_some() {
            work.quiet.complete(index, at);
        }
        Ok(self.pace(work))
    }

    fn is_unchanged(&self, work: &KvMemory, index: Option<&Index>, at: WallTime) -> bool {
        let due = work.due.is_some_and(|due| due <= at);
        work.clean.is_some() && self.ground.is_mounted() && !due && work.quiet.holds(index, at)
    }

    async fn list(&self, work: &mut KvMemory) -> Result<Listing, PassError> {
        let lister = metadata::Lister {
            upstream: &self.ground.context.upstream,
            namespace: &self.ground.context.settings.namespace,
            target: &self.target,
            urgency: self.ground.occasion.urgency(),
        };
        if let Keys::One(key) = &self.target.keys {
            return lister.metadata_of(key).await;
        }
        if work.scan_refused > 0 && self.ground.occasion == Occasion::Cycle {
            work.scan_refused -= 1;
        } else if let Some(listing) = lister.scan().await? {
            work.scan_refused = 0;
            return Ok(listing);
        } else {
            work.scan_refused = 10;
        }
        let walked = lister.walk(|| self.ground.go_on()).await;
        if walked.is_err() {
            // Lists are no better: SCAN may be allowed again sooner.
            work.scan_refused = 0;
        }
        walked
    }

    /// Brings the replica to what the listing shows.
    async fn settle(
        &self,
        work: &mut KvMemory,
        listing: Listing,
        at: WallTime,
    ) -> Result<Rest, PassError> {
        let ground = &self.ground;
        let known = ground.known();
        let excluded = |path: &str| ground.context.is_excluded(path);
        let listed = listing
            .keys
            .into_iter()
            .filter(|(path, _)| !excluded(path.as_str()));
        let mut todo = compare::compare(listed.collect(), &known, ground.mirror.versions, at);
        let unlisted: BTreeSet<_> = todo.vanished.iter().map(|place| &place.path).collect();
        work.shelf.retain(|path| !unlisted.contains(path));
        if ground.occasion == Occasion::Cycle {
            todo.changed
                .retain(|changed| !work.shelf.holds(&changed.listed, at));
        }
        self.read_changed(&todo, &known, &mut work.shelf).await?;
        work.due = todo.next_deletion.into_iter().chain(work.shelf.due()).min();
        let purge = listing.complete && listing.source != MirrorSource::List;
        let rest = ground
            .settle_vanished(&todo.vanished, &known, purge)
            .await?;
        ground.with_health(|health| {
            health.failed = work.shelf.count(ShelvedFor::Failed) + rest.unasked;
            health.denied = work.shelf.count(ShelvedFor::Denied);
            health.withheld = rest.withheld;
        });
        Ok(rest)
    }

    async fn read_changed(
        &self,
        todo: &Todo,
        known: &Known,
        shelf: &mut Shelf,
    ) -> Result<(), PassError> {
        let proven = Arc::default();
        for batch in todo.changed.chunks(BATCH) {
            self.ground.go_on()?;
            let (reads, cut_off) = self.read_batch(batch, &proven).await;
            let (mut changes, now) = (Vec::new(), self.ground.context.now().steady);
            for read in reads {
                match read {
                    ReadKey::All(listed, found) => {
                        shelf.take(&listed.place.path);
                        changes.extend(found);
                    }
                    ReadKey::Denied(listed, found) => {
                        shelf.put(&listed, ShelvedFor::Denied, now);
                        changes.extend(found);
                    }
                    ReadKey::Failed(listed) => {
                        shelf.put(&listed, ShelvedFor::Failed, now);
                        changes.extend(keep_unread(&listed, known));
                    }
                }
            }
            // What was read before the primary went away is kept: the next pass goes on from there.
            self.ground.context.commit(changes).await?;
            if let Some(error) = cut_off {
                return Err(error);
            }
        }
        Ok(())
    }

    /// Reads several keys at a time; stops at the first error that ends the pass.
    async fn read_batch(
        &self,
        batch: &[Arc<Changed>],
        proven: &Arc<AtomicBool>,
    ) -> (Vec<ReadKey>, Option<PassError>) {
        let (mut reads, mut done, mut cut_off) = (JoinSet::new(), Vec::new(), None);
        let mut waiting = batch.iter();
        loop {
            while reads.len() < CONCURRENCY
                && cut_off.is_none()
                && let Some(changed) = waiting.next()
            {
                let (reader, changed) = (self.ground.reader(proven), Arc::clone(changed));
                reads.spawn(async move { read_key(&reader, changed).await });
            }
            match reads.join_next().await {
                None => return (done, cut_off),
                Some(Ok(Ok(read))) => done.push(read),
                Some(Ok(Err(error))) => cut_off = Some(error.into()),
                Some(Err(_)) => cut_off = Some(PassError::CutOff),
            }
        }
    }

    fn pace(&self, work: &KvMemory) -> Pace {
        if work.scan_refused > 0 {
            Pace::Slow
        } else {
            Pace::Usual
        }
    }
}

/// What a key that exists and could not be read leaves behind: what is held of it, else that it exists, so that its
/// absence is not answered with 404.
fn keep_unread(listed: &ListedKey, known: &Known) -> Vec<Change> {
    match known.get(&listed.place.path) {
        Some(held) => compare::uncovered(Some(held)),
        None => vec![Change::Key(Box::new(listed.key()))],
    }
}

impl ListedKey {
    /// As the replica keeps it.
    fn key(&self) -> KvKey {
        KvKey {
            place: self.place.clone(),
            current: self.current,
            versions: self.versions.clone(),
            metadata: self.metadata.clone(),
        }
    }
}
