//! What is read before its time: keys and mirrors that may be superseded, at once; what else differs, when there is time.
//!
//! The doubts in the replica are the queue. They are bounded, each there once, and outlive everything; so what runs here
//! may end at any time, and whoever comes after goes on. In an outage nothing is asked.

mod changing;
mod turns;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;
use shared::{
    change::Change,
    kv::{Doubted, Place},
    time::WallTime,
};
use tokio::{sync::Notify, task::JoinSet};

pub(crate) use self::changing::AuthorityWrite;
use self::{changing::Changing, turns::Turns};
use super::{
    Mirrors, Occasion, PassError,
    ground::Ground,
    kv::KvPass,
    target::{self, Keys, Target},
};
use crate::{clock::Stopwatch, local::Pending};

/// Keys and mirrors that are read at the same time.
const AT_ONCE: usize = 8;

/// What waits without being in doubt; beyond, the next pass sees it.
const MOST_DUE: usize = 1024;

/// Writes about authority that come within this are verified together.
const TOGETHER: Duration = Duration::from_millis(300);

/// Between passes over one mirror whose keys may not be read one by one.
const PASSES_APART: Duration = Duration::from_secs(1);

/// How others tell what is to be read. Cheap to clone; the same for all mirrors that a daemon has, one after the other.
#[derive(Clone, Default)]
pub struct Anew(Arc<AnewWanted>);

#[derive(Default)]
struct AnewWanted {
    wake: Notify,
    authority: Notify,
    changing: Changing,
    due: Mutex<BTreeSet<Doubted>>,
    /// When the last pass over a mirror began for the sake of single keys.
    passes: Mutex<BTreeMap<String, Stopwatch>>,
}

impl Anew {
    /// Something is in doubt that was not before.
    pub fn doubted(&self) {
        self.0.wake.notify_one();
    }

    /// Something differs that is not in doubt.
    pub fn due(&self, of: Doubted) {
        let mut due = self.0.due.lock();
        if due.len() < MOST_DUE {
            due.insert(of);
            self.0.wake.notify_one();
        }
    }

    /// Who may do what has changed.
    pub fn authority(&self) {
        self.0.authority.notify_one();
    }

    /// Makes what ends when authority is to be verified before its time.
    pub(crate) fn authority_wanted(&self) -> impl Fn() -> Pending<'static, ()> + use<> {
        let wanted = Arc::clone(&self.0);
        move || {
            let wanted = Arc::clone(&wanted);
            Box::pin(async move {
                wanted.authority.notified().await;
                tokio::time::sleep(TOGETHER).await;
            })
        }
    }

    /// Takes one of those that only differ.
    pub(crate) fn take_due(&self) -> Option<Doubted> {
        self.0.due.lock().pop_first()
    }

    /// How long to wait before a pass over this mirror begins, which it does then.
    fn until_pass(&self, mirror: &str) -> Duration {
        let mut passes = self.0.passes.lock();
        let since = passes.get(mirror).map(|began| began.elapsed());
        let rest = since.map_or(Duration::ZERO, |since| PASSES_APART.saturating_sub(since));
        if rest.is_zero() {
            passes.insert(mirror.to_owned(), Stopwatch::start());
        }
        rest
    }
}

/// Reads what is wanted, until the daemon stops.
pub(super) async fn keep(mirrors: Mirrors) {
    let (context, wanted) = (Arc::clone(&mirrors.context), mirrors.anew.clone());
    let mut turns = Turns::default();
    let mut running: JoinSet<(Doubted, WallTime)> = JoinSet::new();
    loop {
        if context.is_paused() {
            turns = Turns::default();
            running.abort_all();
        }
        context.until_it_can_ask().await;
        while running.len() < AT_ONCE {
            let doubts = context.local.view.doubts();
            let waiting = doubts.all().map(|doubt| doubt.of);
            let next = turns.next(waiting, context.now().boot);
            let Some(of) = next.or_else(|| wanted.take_due()) else {
                break;
            };
            running.spawn(mirrors.clone().read_anew(of));
        }
        let rest = turns.rest(context.now().boot);
        tokio::select! {
            Some(ended) = running.join_next() => if let Ok((of, began)) = ended {
                let since = context.local.view.doubts().since(&of);
                let is_answered = since.is_none_or(|since| since >= began);
                turns.ended(&of, is_answered, context.now().boot, context.upstream.jitter());
            },
            () = wanted.0.wake.notified() => {}
            () = tokio::time::sleep(rest) => {}
        }
    }
}

impl Mirrors {
    /// Reads one thing, and returns when that began. What could not be read is in doubt still.
    async fn read_anew(self, of: Doubted) -> (Doubted, WallTime) {
        let began = self.after_the_doubt(&of).await;
        let read = match &of {
            Doubted::Absence(path) | Doubted::Mirror(path) => self.pass_anew(path, &of).await,
            Doubted::Key(place) => self.key_anew(place, &of).await,
        };
        match read {
            Err(PassError::Unknown) => self.nothing_is_kept(&of).await,
            Err(error) => tracing::debug!(%error, "what may be superseded could not be read"),
            Ok(()) => {}
        }
        (of, began)
    }

    /// Only what is asked for at a later moment than the doubt answers it, and moments are milliseconds.
    async fn after_the_doubt(&self, of: &Doubted) -> WallTime {
        loop {
            let now = self.context.now().steady;
            let since = self.context.local.view.doubts().since(of);
            if since.is_none_or(|since| since < now) {
                return now;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    async fn key_anew(&self, place: &Place, of: &Doubted) -> Result<(), PassError> {
        let context = &self.context;
        let mirrors = context.settings.mirrors.iter();
        let mut covering = mirrors.filter(|one| one.path.covers(place.path.as_str()));
        let mirror = covering.next().ok_or(PassError::Unknown)?;
        let cluster = context.cluster().ok_or(PassError::Unseen)?;
        let mount = cluster.mounted(place.path.as_str());
        let is_there = mount.is_some_and(|mount| mount.accessor == place.mount)
            && place.namespace == context.settings.namespace
            && !context.is_excluded(place.path.as_str());
        if !is_there {
            return Err(PassError::Unknown);
        }
        let path = mirror.path.configured();
        match target::resolve(&mirror.path, &cluster)? {
            Target::Kv(target) if matches!(target.keys, Keys::Below { .. }) => {
                let ground = Ground::new(context, mirror, &place.mount, Occasion::Anew);
                let read = KvPass { ground, target }.read_anew(place).await;
                match read {
                    // Its metadata may not be read, as it may be listed: then a pass sees it.
                    Err(PassError::Upstream(error)) if error.is_denial() => {
                        self.pass_anew(&path, of).await
                    }
                    read => read,
                }
            }
            Target::Kv(_) | Target::Path(..) => self.pass_anew(&path, of).await,
        }
    }

    async fn pass_anew(&self, path: &str, of: &Doubted) -> Result<(), PassError> {
        let nr = self.number_of(path)?;
        let is_doubted = || self.context.local.view.doubts().since(of).is_some();
        let was_doubted = is_doubted();
        let is_wanted = || !was_doubted || is_doubted();
        loop {
            let rest = self.anew.until_pass(path);
            if rest.is_zero() {
                break;
            }
            tokio::time::sleep(rest).await;
            if !is_wanted() {
                return Ok(());
            }
        }
        let passed = self.pass_if(nr, Occasion::Anew, is_wanted).await;
        passed.map(drop)
    }

    /// No configured mirror keeps anything there, or not in this mount: there is nothing that could be given.
    async fn nothing_is_kept(&self, of: &Doubted) {
        let answered = Change::DoubtAnswered(of.clone(), self.context.now().steady);
        if let Err(error) = self.context.commit(vec![answered]).await {
            tracing::debug!(%error, "a doubt of what is not kept stands");
        }
    }
}
