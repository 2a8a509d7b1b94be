//! One pass over a KV v2 mirror: one request that lists everything with its metadata, and reads of what changed.
//!
//! What changed is decided by comparing metadata texts, because deletion and destruction change neither the current
//! version nor the time of update. A value whose change could not be read keeps its old body and stops counting as
//! covered by the pass; only own reads purge anything.

mod diff;
mod fetch;
mod listing;
mod shelf;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, atomic::AtomicBool},
};

use shared::{
    change::Change,
    kv::{KvKey, MirrorState, Place},
    settings::Mirror,
    time::WallTime,
};
use tokio::task::JoinSet;

use self::{
    diff::{Changed, Held, Known, Listed, Todo},
    fetch::{Read, read_key},
    listing::Listing,
    shelf::{Shelf, Why},
};
use super::{
    Mirrors, Occasion, PassError,
    cycle::Pace,
    index::{Index, Quiet},
    status::Source,
    target::{Keys, KvTarget},
};

/// Keys read at the same time.
const CONCURRENCY: usize = 8;

/// Changed keys per commit: a pass that is cut off goes on from there.
const BATCH: usize = 64;

/// What the task remembers from pass to pass.
#[derive(Default)]
pub(super) struct Work {
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
pub(super) struct Pass<'a> {
    pub(super) mirrors: &'a Mirrors,
    pub(super) mirror: &'a Mirror,
    pub(super) target: KvTarget,
    pub(super) occasion: Occasion,
}

/// What a pass could not finish.
#[derive(Default)]
struct Rest {
    /// Vanished keys that could not be asked about.
    unasked: usize,
    /// Vanished keys that are kept.
    withheld: usize,
}

impl Rest {
    fn is_empty(&self) -> bool {
        self.unasked == 0 && self.withheld == 0
    }
}

impl Pass<'_> {
    pub(super) async fn run(&self, work: &mut Work) -> Result<Pace, PassError> {
        self.mirrors.go_on(self.occasion)?;
        let at = self.mirrors.now();
        let index = self.observe(work).await?;
        if self.is_unchanged(work, index.as_ref(), at) {
            self.complete(work.clean.clone().unwrap_or_default(), at)
                .await?;
            return Ok(self.pace(work));
        }
        work.quiet.forget();
        self.leave_old_mount(work).await?;
        let listing = self.list(work).await?;
        let unreadable = listing.unreadable;
        self.with_health(|health| {
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
        self.complete(work.clean.clone().unwrap_or_default(), at)
            .await?;
        if work.clean.is_some() {
            work.quiet.complete(index, at);
        }
        Ok(self.pace(work))
    }

    /// Where the index stands; a primary that cannot be asked cannot be listed either.
    async fn observe(&self, work: &mut Work) -> Result<Option<Index>, PassError> {
        let urgency = self.occasion.urgency();
        let upstream = &self.mirrors.0.upstream;
        Ok(work.quiet.observe(upstream, urgency).await?)
    }

    fn is_unchanged(&self, work: &Work, index: Option<&Index>, at: WallTime) -> bool {
        let due = work.due.is_some_and(|due| due <= at);
        let state = self.state();
        let mounted = state.is_some_and(|state| state.mount == self.target.accessor);
        work.clean.is_some() && mounted && !due && work.quiet.holds(index, at)
    }

    /// The path belongs to another mount than at the last pass: what was under the old one is of another place.
    async fn leave_old_mount(&self, work: &mut Work) -> Result<(), PassError> {
        let remounted = self
            .state()
            .is_some_and(|state| state.mount != self.target.accessor);
        if remounted {
            let path = self.mirror.path.configured();
            tracing::warn!(%path, "its mount is another one than before: starting over");
            *work = Work::default();
            self.mirrors.commit(vec![Change::MirrorGone(path)]).await?;
        }
        Ok(())
    }

    async fn list(&self, work: &mut Work) -> Result<Listing, PassError> {
        let lister = listing::Lister {
            upstream: &self.mirrors.0.upstream,
            namespace: &self.mirrors.0.settings.namespace,
            target: &self.target,
            urgency: self.occasion.urgency(),
        };
        if let Keys::One(key) = &self.target.keys {
            return lister.metadata_of(key).await;
        }
        if work.scan_refused > 0 && self.occasion == Occasion::Cycle {
            work.scan_refused -= 1;
        } else if let Some(listing) = lister.scan().await? {
            work.scan_refused = 0;
            return Ok(listing);
        } else {
            work.scan_refused = 10;
        }
        let walked = lister.walk(|| self.mirrors.go_on(self.occasion)).await;
        if walked.is_err() {
            // Lists are no better: SCAN may be allowed again sooner.
            work.scan_refused = 0;
        }
        walked
    }

    /// Brings the replica to what the listing shows.
    async fn settle(
        &self,
        work: &mut Work,
        listing: Listing,
        at: WallTime,
    ) -> Result<Rest, PassError> {
        let known = self.known();
        let excluded = |path: &str| self.mirrors.is_excluded(path);
        let listed = listing
            .keys
            .into_iter()
            .filter(|(path, _)| !excluded(path.as_str()));
        let mut todo = diff::compare(listed.collect(), &known, self.mirror.versions, at);
        let unlisted: BTreeSet<_> = todo.vanished.iter().map(|place| &place.path).collect();
        work.shelf.retain(|path| !unlisted.contains(path));
        if self.occasion == Occasion::Cycle {
            todo.changed
                .retain(|changed| !work.shelf.holds(&changed.listed, at));
        }
        self.read_changed(&todo, &known, &mut work.shelf).await?;
        work.due = todo.next_deletion.into_iter().chain(work.shelf.due()).min();
        let purge = listing.complete && listing.source != Source::List;
        let rest = self.settle_vanished(&todo.vanished, &known, purge).await?;
        self.with_health(|health| {
            health.failed = work.shelf.count(Why::Failed) + rest.unasked;
            health.denied = work.shelf.count(Why::Denied);
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
            self.mirrors.go_on(self.occasion)?;
            let (reads, cut_off) = self.read_batch(batch, &proven).await;
            let (mut changes, now) = (Vec::new(), self.mirrors.now());
            for read in reads {
                match read {
                    Read::All(listed, found) => {
                        shelf.take(&listed.place.path);
                        changes.extend(found);
                    }
                    Read::Denied(listed, found) => {
                        shelf.put(&listed, Why::Denied, now);
                        changes.extend(found);
                    }
                    Read::Failed(listed) => {
                        shelf.put(&listed, Why::Failed, now);
                        changes.extend(keep_unread(&listed, known));
                    }
                }
            }
            // What was read before the primary went away is kept: the next pass goes on from there.
            self.mirrors.commit(changes).await?;
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
    ) -> (Vec<Read>, Option<PassError>) {
        let (mut reads, mut done, mut cut_off) = (JoinSet::new(), Vec::new(), None);
        let mut waiting = batch.iter();
        loop {
            while reads.len() < CONCURRENCY
                && cut_off.is_none()
                && let Some(changed) = waiting.next()
            {
                let (reader, changed) = (self.reader(proven), Arc::clone(changed));
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

    /// Keys that are held and were not listed. Each is asked about by a read of its own before it goes.
    async fn settle_vanished(
        &self,
        vanished: &[Place],
        known: &Known,
        purge: bool,
    ) -> Result<Rest, PassError> {
        let mut rest = Rest::default();
        let many = diff::are_many(vanished.len(), known.len());
        if !purge || (many && self.occasion != Occasion::Operator) {
            rest.withheld = vanished.len();
            let kept = vanished.iter().filter_map(|place| known.get(&place.path));
            let changes = kept.flat_map(|held| diff::uncovered(Some(held)));
            self.mirrors.commit(changes.collect()).await?;
            return Ok(rest);
        }
        let reader = self.reader(&Arc::default());
        for place in vanished {
            self.mirrors.go_on(self.occasion)?;
            let change = match reader.is_gone(&place.path).await {
                Ok(true) => vec![Change::KeyGone(place.clone())],
                Ok(false) => Vec::new(),
                Err(error) if error.is_outage() => return Err(error.into()),
                Err(error) => {
                    tracing::warn!(%error, path = %place.path, "a vanished key could not be asked about");
                    rest.unasked += 1;
                    diff::uncovered(known.get(&place.path))
                }
            };
            self.mirrors.commit(change).await?;
        }
        Ok(rest)
    }

    /// What the replica holds of this mirror.
    fn known(&self) -> Known {
        let secrets = self.mirrors.0.local.view.secrets();
        let literal = self.target.literal();
        let one = matches!(self.target.keys, Keys::One(_));
        let (namespace, mount) = (&self.mirrors.0.settings.namespace, &self.target.accessor);
        let mine = |place: &Place| {
            let path = place.path.as_str();
            let named = if one {
                path == literal
            } else {
                path.starts_with(&literal)
            };
            named && place.mount == *mount && place.namespace == *namespace
        };
        let mut known: Known = BTreeMap::new();
        let keys = secrets.keys.iter().filter(|(place, _)| mine(place));
        for (place, key) in keys {
            known.insert(place.path.clone(), Held::new(Arc::clone(key)));
        }
        for ((place, _), held) in secrets.records.iter().filter(|((place, _), _)| mine(place)) {
            if let Some(known) = known.get_mut(&place.path) {
                known.records.push(held.record.clone());
            }
        }
        known
    }

    fn reader(&self, proven: &Arc<AtomicBool>) -> fetch::Reader {
        fetch::Reader {
            proven: Arc::clone(proven),
            upstream: self.mirrors.0.upstream.clone(),
            urgency: self.occasion.urgency(),
        }
    }

    fn state(&self) -> Option<Arc<MirrorState>> {
        let authority = self.mirrors.0.local.view.authority();
        authority
            .mirrors
            .get(&self.mirror.path.configured())
            .cloned()
    }

    /// The pass that began at `at` saw everything; what it could not read does not count as covered.
    async fn complete(&self, fingerprint: String, at: WallTime) -> Result<(), PassError> {
        let state = MirrorState {
            path: self.mirror.path.configured(),
            mount: self.target.accessor.clone(),
            verified_at: at,
            fingerprint,
        };
        self.mirrors
            .commit(vec![Change::Mirror(Box::new(state))])
            .await
    }

    fn pace(&self, work: &Work) -> Pace {
        if work.scan_refused > 0 {
            Pace::Slow
        } else {
            Pace::Usual
        }
    }

    fn with_health(&self, act: impl FnOnce(&mut super::status::Health)) {
        self.mirrors
            .with_health(&self.mirror.path.configured(), act);
    }
}

/// What a key that exists and could not be read leaves behind: what is held of it, else that it exists, so that its
/// absence is not answered with 404.
fn keep_unread(listed: &Listed, known: &Known) -> Vec<Change> {
    match known.get(&listed.place.path) {
        Some(held) => diff::uncovered(Some(held)),
        None => vec![Change::Key(Box::new(listed.key()))],
    }
}

impl Listed {
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

impl Mirrors {
    /// Whether `path` is one that is never mirrored: the ledger's, or below it.
    fn is_excluded(&self, path: &str) -> bool {
        self.0.excluded.iter().any(|excluded| {
            path.strip_prefix(excluded.as_str())
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        })
    }
}
