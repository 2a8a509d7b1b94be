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

use replica::{sequencer::Lane, store::unseen};
use shared::{
    change::{Change, Expects, PhaseRecord},
    kv::{Doubt, Doubted},
    lease::{Lease, LeaseHolder},
    time::WallTime,
};

use crate::{link::BeforeForwards, local::Local};

/// A disk that takes longer than this to remember it keeps no request waiting: it is remembered in memory alone.
const REMEMBERED: Duration = Duration::from_secs(1);

/// Whether anything was passed on. In memory, and beside the replica where that can be written to, for a start after this one.
#[derive(Default)]
pub(super) struct Unseen(AtomicBool);

impl Unseen {
    /// What the link does before it sends a first request of a client's, while the replica at `path` is not open.
    pub(super) fn gate(self: &Arc<Self>, path: &Path) -> BeforeForwards {
        let (unseen, path) = (Arc::clone(self), PathBuf::from(path));
        Box::new(move || {
            let is_new = !unseen.0.swap(true, Ordering::AcqRel);
            let path = is_new.then(|| path.clone());
            Box::pin(async move {
                if let Some(path) = path {
                    remember(path).await;
                }
            })
        })
    }

    /// The replica at `path` is open: what it may be wrong about is in doubt, in memory when this returns.
    pub(super) fn take_in(&self, local: &Local, path: &Path) {
        let passed = self.0.swap(false, Ordering::AcqRel);
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

async fn remember(path: PathBuf) {
    let noting = tokio::task::spawn_blocking(move || unseen::note(&path));
    let noted = tokio::time::timeout(REMEMBERED, noting).await;
    if !matches!(noted, Ok(Ok(Ok(())))) {
        tracing::warn!(
            "that requests are passed on without the replica is known in memory alone: only this process will doubt what it says"
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
