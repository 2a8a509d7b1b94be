//! The self-check: whatever the primary's state, the store is made to take a commit, a sealed value is opened, and
//! the disk is asked for room.

use std::{
    ops::Bound,
    path::{Path, PathBuf},
    time::Duration,
};

use replica::sequencer::{Lane, SubmitError};
use shared::{
    change::{Change, Expects},
    kv::Place,
};
use tokio::sync::watch;

use crate::{file::FileReader, local::Local, ready::StoreFacts};

/// Between two checks.
const INTERVAL: Duration = Duration::from_secs(15);

/// The same while the store takes nothing, so that it is not said for long that it does not.
const AGAIN: Duration = Duration::from_secs(1);

/// A commit that takes longer is as good as none.
const PATIENCE: Duration = Duration::from_secs(5);

/// What the last check showed.
#[derive(Clone, Debug, Default)]
pub struct Checks {
    /// Of the store and its keys.
    pub store: StoreFacts,
}

/// Checks the replica at `path` again and again, until nobody listens. The first check is over before the first
/// wait.
pub async fn run(local: Local, path: PathBuf, found: watch::Sender<Checks>) {
    let (mut canary, reader) = (Canary::default(), FileReader::default());
    while !found.is_closed() {
        let looked_at = path.clone();
        let store = StoreFacts {
            failure: commits(&local).await,
            sealed: canary.opens(&local),
            room: reader
                .look(&path, move || room(&looked_at))
                .await
                .ok()
                .flatten(),
            ..StoreFacts::default()
        };
        let before = found.send_replace(Checks {
            store: store.clone(),
        });
        let before = before.store;
        report(
            "the store takes no changes",
            &before.failure,
            &store.failure,
        );
        report(
            "a sealed value does not open",
            &before.sealed,
            &store.sealed,
        );
        let pause = match store.failure {
            Some(_) => AGAIN,
            None => INTERVAL,
        };
        tokio::time::sleep(pause).await;
    }
}

/// Tries a commit, and says why it was not taken.
async fn commits(local: &Local) -> Option<String> {
    // The mark of time is a fact worth storing at any moment.
    let mark = vec![Change::Mark(local.clock.mark())];
    let commit = local.commit(Lane::Mirror, mark, Expects::default());
    match tokio::time::timeout(PATIENCE, commit).await {
        Ok(Ok(())) => None,
        Ok(Err(SubmitError::Failed(why))) => Some(why),
        Ok(Err(error)) => Some(error.to_string()),
        Err(_) => Some(format!(
            "a commit takes longer than {} s",
            PATIENCE.as_secs()
        )),
    }
}

/// Opens one mirrored value after another, one at each check, so that in time every one was opened.
#[derive(Default)]
struct Canary {
    last: Option<(Place, Option<u64>)>,
}

impl Canary {
    /// Opens the next value, and says why it did not open.
    fn opens(&mut self, local: &Local) -> Option<String> {
        let secrets = local.view.secrets();
        let after = self.last.take().map_or(Bound::Unbounded, Bound::Excluded);
        let mut later = secrets.records.range((after, Bound::Unbounded));
        let (key, held) = later.next().or_else(|| {
            let (key, held) = secrets.records.get_min()?;
            Some((key, held))
        })?;
        self.last = Some(key.clone());
        // The text names no value, and the body is wiped as soon as it was opened.
        let opened = held.body.open(local.view.keys());
        opened.err().map(|error| error.to_string())
    }
}

fn report(what: &'static str, before: &Option<String>, now: &Option<String>) {
    match now {
        Some(why) if before != now => tracing::error!(why, "{what}"),
        None if before.is_some() => tracing::info!("no longer: {what}"),
        _ => {}
    }
}

/// Bytes that are free for us where `path` lies.
fn room(path: &Path) -> Option<u64> {
    let folder = path.parent()?;
    let found = rustix::fs::statvfs(folder).ok()?;
    Some(found.f_bavail.saturating_mul(found.f_frsize))
}
