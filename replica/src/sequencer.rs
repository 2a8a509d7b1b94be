//! The one writer: lanes, rechecks, group commit, publication, receipts.
//!
//! Serving threads and the mirror hand over [`Change`]s; one thread seals them, commits many submissions at once, and
//! publishes them to the view. What takes authority away binds in memory before it is on disk; what gives it is on
//! disk before it is in memory.

use std::{io, sync::Arc, thread};

use shared::{
    change::{Change, Expects},
    ledger::share::Full,
    settings::Settings,
    time::Now,
};

use crate::{
    ledger::{Chained, Head},
    store::{Opened, RoomFigures},
    view::View,
};

mod bind;
mod group;
mod queue;
mod recheck;
mod stage;

#[cfg(test)]
mod tests;

use queue::{Control, Shared, Submission};

/// Which queue a submission waits in; the first with work goes first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Lane {
    /// Revocations and state changes: applied in memory at once, then on disk.
    Revocation,
    /// Grants, renewals, logins: on disk, then in memory.
    Grant,
    /// What the mirror brings: on disk, then in memory.
    Mirror,
}

/// Why a submission was not applied. Nothing of it was, but that a revocation or state binds in memory even where the
/// disk failed.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum SubmitError {
    /// Too much waits in its lane already.
    #[error("too many changes are waiting to be stored")]
    Busy,
    /// What it expected no longer holds: decide again.
    #[error("what the change relied on no longer holds")]
    Conflict,
    /// An entry of the ledger that was asked for was changed on disk.
    #[error("an entry of the ledger does not open: it was changed on disk")]
    Damaged,
    /// The store takes no changes, for this reason, and mends itself. What takes authority away binds in memory all the same, and
    /// is stored with the rest then.
    #[error("the replica's storage takes no changes: {0}")]
    Failed(String),
    /// The ledger has no room for whom it is: nothing is issued for it.
    #[error(
        "{0}: nothing is issued for it until journald has taken its entries, or ledger.max_size is raised"
    )]
    LedgerFull(Full),
    /// Issuance is paused for the fence: wait, and decide again.
    #[error("issuing is paused while the primary takes over")]
    Paused,
    /// The sequencer has stopped.
    #[error("the replica is shutting down")]
    Stopped,
}

/// What `status` and the metrics show of the writer.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Stats {
    /// Of the last commit.
    pub generation: u64,
    /// Commits since the start.
    pub commits: u64,
    /// Submissions that wait, by lane.
    pub waiting: [usize; 3],
    /// The epoch of record keys.
    pub epoch: u32,
    /// The ledger's ends and size.
    pub ledger: Head,
    /// `[ledger] max_size`, in bytes.
    pub ledger_max: u64,
    /// The number of the last entry that was delivered; 0 before there is one.
    pub ledger_delivered: u64,
    /// Why the store takes nothing but revocations, and since when, while it does.
    pub failed: Option<String>,
}

/// The way to the writer thread. Cheap to clone.
#[derive(Clone)]
pub struct Sequencer {
    shared: Arc<Shared>,
}

impl Opened {
    /// Starts the writer thread. `clock` gives the present; it is asked by the writer and by who submits revocations.
    ///
    /// # Errors
    /// If no thread can be had.
    pub fn start(self, clock: impl Fn() -> Now + Send + Sync + 'static) -> io::Result<Sequencer> {
        let shared = Arc::new(Shared::new(self.view, self.room, Box::new(clock)));
        let mut worker = group::Worker::new(self.writer, Arc::clone(&shared));
        let thread = thread::Builder::new()
            .name("sequencer".into())
            .spawn(move || worker.run())?;
        *shared.thread.lock() = Some(thread);
        Ok(Sequencer { shared })
    }
}

impl Sequencer {
    /// Hands `changes` over as one unit: all of them or none. `done` is called once they are durable and published, or
    /// with why not; it must not block. It is called from the writer thread, or from this one if the answer is known
    /// at once.
    ///
    /// In [`Lane::Revocation`], revocations and states bind when this returns; the rest follows its commit.
    pub fn submit(
        &self,
        lane: Lane,
        changes: Vec<Change>,
        expects: Expects,
        done: impl FnOnce(Result<(), SubmitError>) + Send + 'static,
    ) {
        self.shared.submit(
            lane,
            Submission::new(lane, changes, expects, Box::new(done)),
        );
    }

    /// The view that this writes to.
    pub fn view(&self) -> &Arc<View> {
        &self.shared.view
    }

    /// Lets decisions go by a changed configuration from here on.
    pub fn set_settings(&self, settings: &Arc<Settings>) {
        self.shared.view.set_settings(settings);
    }

    /// Pauses issuing for the fence, or lets it go on. `done` is called once every grant submitted before is published
    /// or refused; after it, no grant appears that the view does not show.
    pub fn pause_issuing(
        &self,
        paused: bool,
        done: impl FnOnce(Result<(), SubmitError>) + Send + 'static,
    ) {
        self.shared.view.set_paused(paused);
        self.submit(Lane::Grant, Vec::new(), Expects::default(), done);
    }

    /// The primary was seen: a replica that was older than its anchor may issue again.
    pub fn clear_rollback(&self, done: impl FnOnce(Result<(), SubmitError>) + Send + 'static) {
        self.shared.control(Control::ClearRollback(Box::new(done)));
    }

    /// Entries of the ledger from number `from` on, at most `limit`, with the ledger's ends. Keep `limit` near a
    /// thousand: nothing is committed while they are read.
    pub fn read_ledger(
        &self,
        from: u64,
        limit: usize,
        done: impl FnOnce(Result<(Vec<Chained>, Head), SubmitError>) + Send + 'static,
    ) {
        self.shared.control(Control::ReadLedger {
            from,
            limit,
            done: Box::new(done),
        });
    }

    /// Entries up to number `through` are kept elsewhere too: they count for nobody any more, and are cut off, oldest first,
    /// where the ledger takes more than half of its size. The chain goes on.
    pub fn ledger_delivered(
        &self,
        through: u64,
        done: impl FnOnce(Result<(), SubmitError>) + Send + 'static,
    ) {
        self.shared.control(Control::LedgerDelivered {
            through,
            done: Box::new(done),
        });
    }

    /// How full the ledger is, and who takes how much of it. Looks at every grant.
    pub fn ledger_room(&self) -> RoomFigures {
        self.shared.room.lock().figures(&self.shared.view)
    }

    /// Whether nothing but revocations is taken, because the store failed and is not mended yet.
    pub fn is_mending(&self) -> bool {
        self.shared.is_mending()
    }

    /// What `status` and the metrics show.
    pub fn stats(&self) -> Stats {
        self.shared.stats()
    }

    /// Accepts nothing more, stores what waits, anchors the generation, and returns when the thread has ended. Blocks.
    pub fn stop(&self) {
        self.shared.stop();
    }
}
