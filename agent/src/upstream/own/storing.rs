//! Tokens of Holdover's own on their way to the disk. One that is there only once the disk says so would be of no use while that
//! hangs, and neither would its keeper: so it is held in memory first, and the disk is waited for only so long.

use std::time::Duration;

use replica::sequencer::{Lane, SubmitError};
use shared::change::{Change, Credential, Expects};
use tokio::task::JoinHandle;

use super::{
    Keeper,
    unstored::{UnstoredFacts, Version},
};

/// A disk that takes longer keeps nothing waiting: it is looked at again with the next turn.
const STORED_WITHIN: Duration = Duration::from_secs(2);

/// Why a token is in memory alone, before the disk said anything.
const IS_SLOW: &str = "the disk has not answered yet";

/// A commit that is under way. At most one is, so that a disk that hangs for long has no heap of them to do afterwards.
pub(super) struct Storing {
    version: Version,
    done: JoinHandle<Result<(), SubmitError>>,
}

impl Keeper {
    /// A token that is in use from now on, and the one before it: held in memory until they are stored.
    pub(super) async fn keep_token(&mut self, own: Credential, previous: Option<Credential>) {
        self.upstream
            .unstored()
            .hold(own, previous, IS_SLOW.to_owned());
        self.store_unstored().await;
        if let Some(UnstoredFacts { why, .. }) = self.upstream.unstored().facts() {
            tracing::warn!(%why, "Holdover's own token is not stored: it is used from memory until it can be");
        }
    }

    /// What is in memory alone is stored, if it can be by now.
    pub(super) async fn store_unstored(&mut self) {
        let under_way = self.storing.take().or_else(|| self.begin_to_store());
        let Some(mut storing) = under_way else {
            return;
        };
        let held = self.upstream.unstored();
        match tokio::time::timeout(STORED_WITHIN, &mut storing.done).await {
            Err(_) => self.storing = Some(storing),
            Ok(Ok(Ok(()))) => {
                if held.clear(storing.version) {
                    tracing::info!("Holdover's own token is stored");
                }
            }
            Ok(Ok(Err(error))) => held.explain(error.to_string()),
            Ok(Err(error)) => held.explain(error.to_string()),
        }
        self.upstream
            .own()
            .unstored(self.upstream.unstored().facts());
    }

    fn begin_to_store(&self) -> Option<Storing> {
        let (version, mut changes) = self.upstream.unstored().changes()?;
        changes.extend(self.given_back());
        let local = self.upstream.local().clone();
        let stored = async move { local.commit(Lane::Grant, changes, Expects::default()).await };
        Some(Storing {
            version,
            done: tokio::spawn(stored),
        })
    }

    pub(super) async fn store(&self, changes: Vec<Change>) -> Result<(), SubmitError> {
        if changes.is_empty() {
            return Ok(());
        }
        let local = self.upstream.local();
        local.commit(Lane::Grant, changes, Expects::default()).await
    }
}
