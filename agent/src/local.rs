//! The replica as the daemon's tasks use it: the view, the way to the writer, the clock, in one handle.

mod seen;

use std::{pin::Pin, sync::Arc};

use replica::{
    entropy::Entropy,
    sequencer::{Lane, Sequencer, SubmitError},
    vault::{self, Answer, Query},
    view::View,
};
use shared::change::{Change, Expects};
use tokio::sync::oneshot;

use crate::clock::Clock;

/// A future that a trait hands out: its kind is not known where it is awaited.
pub type Pending<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// The replica, its writer and the clock. Cheap to clone.
#[derive(Clone)]
pub struct Local {
    /// The read side.
    pub view: Arc<View>,
    /// The writer.
    pub sequencer: Sequencer,
    /// The only source of `now`.
    pub clock: Arc<Clock>,
    /// The only source of randomness.
    pub entropy: Arc<dyn Entropy>,
}

impl Local {
    /// Waits until `changes` are durable and published.
    ///
    /// # Errors
    /// If none of them was applied, and why.
    pub async fn commit(
        &self,
        lane: Lane,
        changes: Vec<Change>,
        expects: Expects,
    ) -> Result<(), SubmitError> {
        let (done, receipt) = oneshot::channel();
        self.sequencer
            .submit(lane, changes, expects, move |result| {
                // The caller may be gone; what it asked for is done all the same.
                let _ = done.send(result);
            });
        receipt.await.unwrap_or(Err(SubmitError::Stopped))
    }

    /// Hands `changes` over without waiting; failures are logged.
    pub fn commit_later(&self, lane: Lane, changes: Vec<Change>) {
        if changes.is_empty() {
            return;
        }
        self.sequencer
            .submit(lane, changes, Expects::default(), |result| {
                if let Err(error) = result {
                    tracing::warn!(%error, "what was learned could not be stored");
                }
            });
    }

    /// The fence: from its end on no grant appears that the view does not show.
    ///
    /// # Errors
    /// If the writer is gone or has failed.
    pub async fn pause_issuing(&self) -> Result<(), SubmitError> {
        let (done, receipt) = oneshot::channel();
        self.sequencer.pause_issuing(true, move |result| {
            let _ = done.send(result);
        });
        receipt.await.unwrap_or(Err(SubmitError::Stopped))
    }

    /// Decides as the local vault.
    pub fn answer(&self, query: &Query<'_>) -> Answer {
        vault::answer(&self.view, query, self.entropy.as_ref())
    }
}
