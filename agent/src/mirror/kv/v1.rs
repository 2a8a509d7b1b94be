//! One pass over a KV v1 mirror: one SCAN of names, and one read of every value, for there are no versions that would
//! tell what changed. Where the applied index stands still nothing is asked at all.

use std::{
    collections::BTreeSet,
    sync::{Arc, atomic::AtomicBool},
};

use serde::Deserialize;
use shared::{
    change::Change,
    kv::{KvKey, Place, VersionState},
    name::RequestPath,
};
use tokio::task::JoinSet;

use crate::mirror::{
    Occasion, PassError,
    context::MirrorContext,
    cycle::Pace,
    ground::Ground,
    index::Quiet,
    kv::{
        compare::{self, Known},
        read::{Reader, is_cut_off},
    },
    plain::{self, Plain},
    target::{Keys, Kv1Target},
};
use crate::status::MirrorSource;
use crate::upstream::{Request, UpstreamError};

/// Values read at the same time.
const CONCURRENCY: usize = 8;

/// Values per commit.
const BATCH: usize = 64;

/// Passes by LIST until SCAN is tried again.
const SCAN_AGAIN: u32 = 10;

/// What the task remembers from pass to pass.
#[derive(Default)]
pub(in crate::mirror) struct Kv1Memory {
    quiet: Quiet,
    /// Passes until SCAN is tried again.
    scan_refused: u32,
    /// The last pass left nothing undone.
    clean: bool,
}

/// One pass.
pub(in crate::mirror) struct Kv1Pass<'a> {
    pub(in crate::mirror) ground: Ground<'a>,
    pub(in crate::mirror) target: Kv1Target,
}

/// What there is.
struct ValueNames {
    paths: BTreeSet<RequestPath>,
    source: MirrorSource,
    /// Whether nothing was left out.
    complete: bool,
    /// Names that no request can be made for.
    unreadable: usize,
}

#[derive(Deserialize)]
struct ListedNames {
    #[serde(default)]
    keys: Vec<String>,
}

/// What became of the values.
#[derive(Default)]
struct Tally {
    denied: usize,
    failed: usize,
    /// Listed, and not there any more.
    gone: BTreeSet<RequestPath>,
}

/// What became of one value.
enum ReadValue {
    /// It is this.
    Kept(Option<Change>),
    /// It may not be read, although Holdover's token is good.
    Denied,
    /// The primary did not say.
    Failed,
    /// It is not there any more.
    Gone,
}

impl Kv1Pass<'_> {
    pub(in crate::mirror) async fn run(&self, work: &mut Kv1Memory) -> Result<Pace, PassError> {
        let ground = &self.ground;
        ground.go_on()?;
        let at = ground.context.now().steady;
        let index = ground.observe(&mut work.quiet).await?;
        if work.clean && ground.is_mounted() && work.quiet.holds(index.as_ref(), at) {
            ground.complete(String::new(), at).await?;
            return Ok(Pace::Usual);
        }
        work.quiet.forget();
        work.clean = false;
        if ground.leave_old_mount().await? {
            *work = Kv1Memory::default();
        }
        let names = self.names(work).await?;
        let known = ground.known();
        let tally = self.read_all(&names.paths, &known).await?;
        let vanished = known
            .iter()
            .filter(|(path, _)| !names.paths.contains(*path));
        let vanished: Vec<Place> = vanished.map(|(_, held)| held.key.place.clone()).collect();
        let purge = names.complete && names.source != MirrorSource::Folders;
        let rest = ground.settle_vanished(&vanished, &known, purge).await?;
        ground.with_health(|health| {
            health.source = Some(names.source);
            health.unreadable = names.unreadable;
            health.denied = tally.denied;
            health.failed = tally.failed + rest.unasked;
            health.withheld = rest.withheld;
        });
        ground.complete(String::new(), at).await?;
        work.clean = tally.failed == 0 && rest.is_empty();
        if work.clean {
            work.quiet.complete(index, at);
        }
        Ok(Pace::Usual)
    }

    async fn names(&self, work: &mut Kv1Memory) -> Result<ValueNames, PassError> {
        let Keys::Below { folder, .. } = &self.target.keys else {
            let literal = self.target.literal();
            let mut names = ValueNames::new(MirrorSource::Read);
            names.add(&literal);
            return Ok(names);
        };
        if work.scan_refused > 0 && self.ground.occasion == Occasion::Cycle {
            work.scan_refused -= 1;
        } else if let Some(names) = self.scan(folder).await? {
            work.scan_refused = 0;
            return Ok(names);
        } else {
            work.scan_refused = SCAN_AGAIN;
        }
        let walked = self.walk(folder).await;
        if walked.is_err() {
            // Lists are no better: SCAN may be allowed again sooner.
            work.scan_refused = 0;
        }
        walked
    }

    /// One SCAN; `None` where the primary has none, or refuses it.
    async fn scan(&self, folder: &str) -> Result<Option<ValueNames>, PassError> {
        let folder = format!("{}{folder}", self.target.mount);
        let reply = self.ask(&Request::scan(folder.clone())).await?;
        if matches!(reply.status(), 403 | 405) {
            return Ok(None);
        }
        let listed: ListedNames = reply.success()?.data()?;
        let mut names = ValueNames::new(MirrorSource::Scan);
        self.add(&mut names, &folder, listed.keys);
        Ok(Some(names))
    }

    /// LIST, folder by folder: where there is no SCAN.
    async fn walk(&self, folder: &str) -> Result<ValueNames, PassError> {
        let mut names = ValueNames::new(MirrorSource::Folders);
        let first = format!("{}{folder}", self.target.mount);
        let mut folders = vec![first.clone()];
        while let Some(folder) = folders.pop() {
            self.ground.go_on()?;
            let reply = self.ask(&Request::list(folder.clone())).await?;
            let listed: ListedNames = match reply.status() {
                404 => continue,
                // The first refusal says that nothing can be listed at all.
                403 if folder != first => {
                    names.complete = false;
                    continue;
                }
                _ => reply.success()?.data()?,
            };
            let (below, keys) = listed
                .keys
                .into_iter()
                .partition(|name| name.ends_with('/'));
            self.add(&mut names, &folder, keys);
            let below: Vec<String> = below;
            folders.extend(below.iter().map(|name| format!("{folder}{name}")));
        }
        Ok(names)
    }

    fn add(&self, names: &mut ValueNames, folder: &str, keys: Vec<String>) {
        for key in keys {
            let path = format!("{folder}{key}");
            if path.starts_with(&self.ground.literal) && !self.ground.context.is_excluded(&path) {
                names.add(&path);
            }
        }
    }

    async fn read_all(
        &self,
        paths: &BTreeSet<RequestPath>,
        known: &Known,
    ) -> Result<Tally, PassError> {
        let (mut tally, proven) = (Tally::default(), Arc::default());
        let paths: Vec<&RequestPath> = paths.iter().collect();
        for batch in paths.chunks(BATCH) {
            self.ground.go_on()?;
            let (reads, cut_off) = self.read_batch(batch, &proven).await;
            let mut changes = Vec::new();
            for (path, read) in reads {
                match read {
                    ReadValue::Denied => tally.denied += 1,
                    ReadValue::Failed => tally.failed += 1,
                    // It vanishes as one that is not listed does: many at once may be a mistake.
                    ReadValue::Gone => {
                        tally.gone.insert(path);
                        continue;
                    }
                    ReadValue::Kept(_) => {}
                }
                changes.extend(self.changes(path, read, known));
            }
            // What was read before the primary went away is kept.
            self.ground.context.commit(changes).await?;
            if let Some(error) = cut_off {
                return Err(error);
            }
        }
        Ok(tally)
    }

    /// What a read changes. That a key exists is kept even where its value cannot be: it is not absent.
    fn changes(&self, path: RequestPath, read: ReadValue, known: &Known) -> Vec<Change> {
        let held = known.get(&path);
        let place = self.ground.place(path);
        let mut changes = Vec::new();
        if held.is_none() {
            changes.push(Change::Key(Box::new(KvKey {
                place: place.clone(),
                current: 0,
                versions: std::collections::BTreeMap::new(),
                metadata: String::new(),
            })));
        }
        match read {
            ReadValue::Kept(change) => changes.extend(change),
            ReadValue::Denied => changes.push(Change::RecordGone(place, None)),
            ReadValue::Failed => changes.extend(compare::uncovered(held)),
            ReadValue::Gone => {}
        }
        changes
    }

    /// Reads several values at a time; stops at the first error that ends the pass.
    async fn read_batch(
        &self,
        batch: &[&RequestPath],
        proven: &Arc<AtomicBool>,
    ) -> (Vec<(RequestPath, ReadValue)>, Option<PassError>) {
        let (mut reads, mut done, mut cut_off) = (JoinSet::new(), Vec::new(), None);
        let mut waiting = batch.iter();
        loop {
            while reads.len() < CONCURRENCY
                && cut_off.is_none()
                && let Some(path) = waiting.next()
            {
                let (reader, context) =
                    (self.ground.reader(proven), Arc::clone(self.ground.context));
                let place = self.ground.place(RequestPath::clone(path));
                reads.spawn(async move {
                    let read = read(&reader, &context, &place).await;
                    (place.path, read)
                });
            }
            match reads.join_next().await {
                None => return (done, cut_off),
                Some(Ok((path, Ok(read)))) => done.push((path, read)),
                Some(Ok((_, Err(error)))) => cut_off = Some(error.into()),
                Some(Err(_)) => cut_off = Some(PassError::CutOff),
            }
        }
    }

    async fn ask(&self, request: &Request) -> Result<crate::upstream::Reply, PassError> {
        let upstream = &self.ground.context.upstream;
        Ok(upstream
            .ask(request, self.ground.occasion.urgency())
            .await?)
    }
}

/// Reads one value.
///
/// # Errors
/// If the primary went away.
async fn read(
    reader: &Reader,
    context: &MirrorContext,
    place: &Place,
) -> Result<ReadValue, UpstreamError> {
    let at = context.now().steady;
    let read = async {
        let request = Request::read(place.path.as_str());
        let reply = reader.upstream.ask(&request, reader.urgency).await?;
        if reply.status() == 403 && reader.own_token_is_good().await? {
            return Ok(ReadValue::Denied);
        }
        Ok(match plain::of(reply)? {
            Plain::Kept(VersionState::Gone, ..) => ReadValue::Gone,
            Plain::Kept(state, form, body) => {
                ReadValue::Kept(context.kept(place, (state, form, body), at))
            }
            Plain::Leased(_) => ReadValue::Failed,
        })
    };
    match read.await {
        Err(error) if is_cut_off(&error) => Err(error),
        Err(error) => {
            tracing::warn!(%error, path = %place.path, "a value could not be read");
            Ok(ReadValue::Failed)
        }
        read => read,
    }
}

impl ValueNames {
    fn new(source: MirrorSource) -> Self {
        Self {
            paths: BTreeSet::new(),
            source,
            complete: true,
            unreadable: 0,
        }
    }

    fn add(&mut self, path: &str) {
        match RequestPath::parse(path) {
            Ok(path) => {
                self.paths.insert(path);
            }
            Err(_) => self.unreadable += 1,
        }
    }
}
