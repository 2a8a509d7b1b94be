//! The one file: SQLite, WAL, every payload sealed.
//!
//! [`Replica::create`] makes it, [`Replica::open`] proves it and reads it into a [`View`], and from then on only the
//! sequencer's thread touches it, through [`Storage`]. `docs/replica-format.md` says what is in it byte by byte.

use std::{
    fs::File,
    path::{Path, PathBuf},
    sync::Arc,
};

use rustix::fs::{FlockOperation, flock};
use shared::{
    change::{PhaseRecord, QueuedRevocation},
    coverage::CoverageHour,
    time::Mark,
};

use crate::{
    key::Keys,
    private::{self, PrivateError},
    view::View,
};

mod absent;
mod anchor;
mod aside;
mod copy;
mod create;
mod error;
pub(crate) mod fault;
mod header;
mod load;
mod open;
pub(crate) mod reserve;
mod room;
mod salvage;
pub(crate) mod schema;
mod storage;
mod sums;
pub mod unseen;
pub(crate) mod writer;

#[cfg(test)]
pub(crate) mod tests;

pub use anchor::AnchorState;
pub use error::{CreateError, OpenError, StoreError};
use fault::Fault;
use header::Header;
pub(crate) use load::unexplained;
pub use room::RoomFigures;
pub(crate) use room::{Room, RoomRow};
pub use salvage::Salvage;
pub(crate) use storage::{FailStop, Storage, Trimmed};
use writer::Writer;

/// Where a replica is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Location {
    /// The file.
    pub path: PathBuf,
    /// The state file that its generation is anchored in.
    pub anchor: Option<PathBuf>,
    /// `[ledger] max_size`, in bytes.
    pub ledger_max: u64,
}

/// What a store must hold to be the one of the last commit.
pub(crate) struct Proof<'a> {
    pub(crate) keys: &'a Keys,
    pub(crate) header: &'a Header,
}

/// A replica on disk.
pub struct Replica;

/// An open replica before anything is written to it.
pub struct Opened {
    /// Everything that decisions need.
    pub view: Arc<View>,
    /// The persisted mark of time, to start the clock from.
    pub mark: Option<Mark>,
    /// The machine's state when the last process ended.
    pub phase: Option<PhaseRecord>,
    /// Revocations that the primary has yet to be told of, oldest id first.
    pub queue: Vec<QueuedRevocation>,
    /// What passed through the socket, by hours, oldest first.
    pub coverage: Vec<CoverageHour>,
    /// What opening found.
    pub report: OpenReport,
    pub(crate) writer: Writer,
    pub(crate) room: Room,
}

/// What opening found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OpenReport {
    /// The generation of the last commit before this start.
    pub generation: u64,
    /// The replica may be older than it was: nothing is issued until the primary was seen.
    pub rolled_back: bool,
    /// What the state file says.
    pub anchor: AnchorState,
    /// Rows of values that do not open and were dropped; the mirror brings them again.
    pub values_lost: u64,
    /// Rows of values were removed or replaced by older ones: until each mirror's next pass, every value is as old as
    /// its own last verification.
    pub values_changed: bool,
    /// The file could not be read: what became of it.
    pub salvage: Option<Salvage>,
    /// The ledger does not end where the last commit says: entries were removed or added.
    pub ledger_cut: bool,
}

impl OpenReport {
    /// The same after an opening right before, which may have put right what it found.
    #[must_use]
    pub fn after(self, before: Self) -> Self {
        Self {
            anchor: match self.anchor.doubts() {
                true => self.anchor,
                false => before.anchor,
            },
            rolled_back: self.rolled_back || before.rolled_back,
            values_lost: self.values_lost.max(before.values_lost),
            values_changed: self.values_changed || before.values_changed,
            salvage: self.salvage.or(before.salvage),
            ledger_cut: self.ledger_cut || before.ledger_cut,
            generation: self.generation,
        }
    }
}

/// Damaged files that are kept beside the replica at `path`, the oldest first.
pub fn damaged(path: &Path) -> Vec<PathBuf> {
    let kept = salvage::place::kept(path).into_iter();
    kept.map(|(_, name)| name).collect()
}

/// `None` if another process, or another part of this one, has the replica open.
fn lock(replica: &Path) -> Result<Option<File>, PrivateError> {
    let path = private::beside(replica, ".lock");
    let file = match private::open_or_create(&path) {
        // Where no file can be made, the replica itself is locked.
        Err(error) if Fault::of_private(&error) != Fault::Other => match private::open(replica) {
            Err(missing) if missing.is_missing() => return Err(error),
            opened => opened?,
        },
        opened => opened?,
    };
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Some(file)),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
        Err(error) => Err(PrivateError::io(&path, "lock")(error.into())),
    }
}
