//! Small tasks that have no room of their own.

use std::{fmt, future::Future, sync::Arc, time::Duration};

use replica::{ledger::Aggregate, sequencer::Lane};
use shared::change::Expects;

use crate::local::Local;

/// Notes become entries this often; each stands for a second.
const NOTES: Duration = Duration::from_secs(1);

/// Runs a task whose end is a fault, and reports it.
pub(super) async fn watched<E: fmt::Display>(
    task: impl Future<Output = Result<(), E>>,
    what: &'static str,
) {
    if let Err(error) = task.await {
        tracing::error!(%error, "{what} stopped");
    }
}

/// Puts what was served and refused into the ledger.
pub(super) async fn flush_notes(local: Local, notes: Arc<Aggregate>) {
    loop {
        tokio::time::sleep(NOTES).await;
        local.commit_later(Lane::Mirror, notes.drain(local.clock.now().steady));
    }
}

/// Returns once the writer answers.
pub(super) async fn wait_for_writer(local: &Local) {
    // A store that failed still answers; that it failed is a reason of `ready`.
    let nothing = local.commit(Lane::Revocation, Vec::new(), Expects::default());
    let _ = nothing.await;
}
