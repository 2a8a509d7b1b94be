//! What passed through while the replica was not open: it knows nothing of it, and must not be believed over it.
//!
//! Tokens and secret ids may have been revoked, leases given up and values written by requests that were passed on in that
//! time. So once it is open, what was proven before counts no more than after an outage, and what is mirrored is read anew before
//! it is given. Where nothing was passed on nothing is doubted: a start in an outage goes on with what is known.

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use replica::{private::PrivateError, sequencer::Lane, store::unseen};
use shared::{
    change::{Change, Expects, PhaseRecord},
    kv::{Doubt, Doubted},
    lease::{Lease, LeaseHolder},
    time::WallTime,
};
use tokio::sync::watch;

use crate::{link::BeforeForwards, local::Local};

/// A disk that takes longer than this to remember it keeps no request waiting: it is remembered in memory alone.
const REMEMBERED: Duration = Duration::from_secs(1);

/// A note that could not be made is tried again no sooner than this, when somebody connects.
const AGAIN: Duration = Duration::from_secs(5);

/// Whether anything was passed on. In memory, and beside the replica where that can be written to, for a start after this one.
#[derive(Default)]
pub(super) struct Unseen {
    passed: AtomicBool,
    note: watch::Sender<Note>,
}

/// How it stands with the note beside the replica.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
enum Note {
    /// It is made when somebody connects next.
    #[default]
    Unmade,
    /// It is being made, and waited for.
    UnderWay,
    /// It is being made, and the disk takes too long for anybody to wait. Another is not begun.
    Late,
    Made,
    /// It is made anew after a pause.
    Failed,
}

impl Unseen {
    /// What the link does before it sends a first request of a client's, while the replica at `path` is not open.
    pub(super) fn gate(self: &Arc<Self>, path: &Path) -> BeforeForwards {
        let (unseen, path) = (Arc::clone(self), PathBuf::from(path));
        Box::new(move || {
            let (unseen, path) = (Arc::clone(&unseen), path.clone());
            Box::pin(unseen.remember(move || unseen::note(&path)))
        })
    }

    /// That something is passed on: it is in memory at once, and `note`d if it is not yet. Whoever comes while that is under way
    /// waits for it too, because what is passed on before would be lost with the process.
    async fn remember(
        self: Arc<Self>,
        note: impl FnOnce() -> Result<(), PrivateError> + Send + 'static,
    ) {
        self.passed.store(true, Ordering::Release);
        let begins = |note: &mut Note| {
            let is_unmade = *note == Note::Unmade;
            if is_unmade {
                *note = Note::UnderWay;
            }
            is_unmade
        };
        let mut state = self.note.subscribe();
        if self.note.send_if_modified(begins) {
            tokio::spawn(Arc::clone(&self).make(note));
        }
        let _ = state.wait_for(|note| *note != Note::UnderWay).await;
    }

    async fn make(
        self: Arc<Self>,
        note: impl FnOnce() -> Result<(), PrivateError> + Send + 'static,
    ) {
        let mut making = tokio::task::spawn_blocking(note);
        let made = match tokio::time::timeout(REMEMBERED, &mut making).await {
            Ok(made) => made,
            Err(_) => {
                self.lacks_note(Note::Late);
                making.await
            }
        };
        if matches!(made, Ok(Ok(()))) {
            self.note.send_replace(Note::Made);
            return;
        }
        self.lacks_note(Note::Failed);
        tokio::time::sleep(AGAIN).await;
        self.note.send_replace(Note::Unmade);
    }

    fn lacks_note(&self, state: Note) {
        tracing::warn!(
            "that requests are passed on without the replica is known in memory alone: only this process will doubt what it says"
        );
        self.note.send_replace(state);
    }

    /// The replica at `path` is open: what it may be wrong about is in doubt, in memory when this returns.
    pub(super) fn take_in(&self, local: &Local, path: &Path) {
        let passed = self.passed.swap(false, Ordering::AcqRel);
        self.note.send_replace(Note::Unmade);
        if !passed && !unseen::is_noted(path) {
            return;
        }
        tracing::warn!(
            "requests were passed on while the replica was not open: what was proven before that counts no more, and what is \
             mirrored is read anew"
        );
        let path = PathBuf::from(path);
        let changes = doubts(local);
        local.sequencer.submit(
            Lane::Revocation,
            changes,
            Expects::default(),
            move |result| {
                // Until it is stored the note stands for it.
                let forgotten = match result {
                    Ok(()) => unseen::forget(&path).map_err(|error| error.to_string()),
                    Err(error) => Err(error.to_string()),
                };
                if let Err(error) = forgotten {
                    tracing::warn!(
                        error,
                        "the next start doubts once more what the replica says"
                    );
                }
            },
        );
    }
}

/// All that a client could have changed.
fn doubts(local: &Local) -> Vec<Change> {
    let (authority, now) = (local.view.authority(), local.clock.now().steady);
    let proven = Change::Phase(PhaseRecord {
        phase: authority.phase.clone(),
        epoch: authority.epoch,
        proven_from: Some(now),
    });
    let mirrors = authority.settings.mirrors.iter();
    let mirrors = mirrors.map(|mirror| doubted(mirror.path.configured(), now));
    let secrets = local.view.secrets();
    let leases = secrets.leases.values().map(|held| &held.lease);
    let given_up = leases.filter(|lease| is_held_by_a_client(lease));
    let given_up = given_up.map(|lease| Change::LeaseGone(lease.id.clone()));
    std::iter::once(proven)
        .chain(mirrors)
        .chain(given_up)
        .collect()
}

fn doubted(mirror: String, since: WallTime) -> Change {
    Change::Doubted(Doubt {
        of: Doubted::Mirror(mirror),
        since,
        vanished: false,
    })
}

/// Whoever holds it may have had it revoked.
fn is_held_by_a_client(lease: &Lease) -> bool {
    matches!(
        lease.holder,
        LeaseHolder::Assigned(_) | LeaseHolder::Token(_)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn until(note: &mut watch::Receiver<Note>, state: Note) {
        let comes = note.wait_for(|note| *note == state);
        let came = tokio::time::timeout(Duration::from_secs(30), comes).await;
        drop(came.expect("the note stays as it is").unwrap());
    }

    #[tokio::test]
    async fn a_note_that_could_not_be_made_is_tried_again_on_a_later_connection() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("away/replica.db");
        let unseen = Arc::new(Unseen::default());
        let mut note = unseen.note.subscribe();
        let gate = unseen.gate(&path);
        gate().await;
        until(&mut note, Note::Failed).await;
        std::fs::create_dir(folder.path().join("away")).unwrap();
        until(&mut note, Note::Unmade).await;
        gate().await;
        until(&mut note, Note::Made).await;
        assert!(unseen::is_noted(&path));
    }

    #[tokio::test]
    async fn whoever_connects_while_the_note_is_made_waits_for_it_and_makes_no_other() {
        let unseen = Arc::new(Unseen::default());
        let connects = || Arc::clone(&unseen).remember(|| unreachable!("a second note"));
        unseen.note.send_replace(Note::UnderWay);
        let waits = tokio::spawn(connects());
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
        assert!(!waits.is_finished());
        unseen.note.send_replace(Note::Made);
        waits.await.unwrap();
        // A disk that hangs for longer keeps nobody.
        unseen.note.send_replace(Note::Late);
        connects().await;
    }
}
