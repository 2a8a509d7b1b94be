//! Why a replica is not made, not opened, or not written to. Each text names the file and the way back.

use std::path::PathBuf;

use super::fault;
use crate::{
    entropy::NoEntropy,
    key::slot::SourceError,
    private::PrivateError,
    seal::{self, SealError, SealingError},
};

/// Why no replica was made.
#[derive(Debug, thiserror::Error)]
pub enum CreateError {
    /// There is a state file: a replica was there, and may only be gone by mistake.
    #[error(
        "{} says that there was a replica; put the replica back where it was, or set replica.path and replica.anchor to new paths", .0.display()
    )]
    Anchored(PathBuf),
    /// Another process uses it.
    #[error("{} is in use by another process; stop that one first", .0.display())]
    Busy(PathBuf),
    /// The file cannot be written.
    #[error("cannot create the replica {}: {source}", path.display())]
    Database {
        /// The replica.
        path: PathBuf,
        /// What SQLite says.
        source: rusqlite::Error,
    },
    /// No randomness.
    #[error(transparent)]
    Entropy(#[from] NoEntropy),
    /// One is there already.
    #[error("{} already exists and is never overwritten", .0.display())]
    Exists(PathBuf),
    /// The key is not to be had.
    #[error(transparent)]
    Key(#[from] SourceError),
    /// A file or directory is not fit.
    #[error(transparent)]
    Private(#[from] PrivateError),
    /// The first commit failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Why a replica does not open. Each text names the file and the way back.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process uses it.
    #[error("the replica {} is in use by another process; stop that one first", .0.display())]
    Busy(PathBuf),
    /// The file is cut off or corrupt.
    #[error("the replica {} is damaged: {source}. {WAY_BACK}", path.display())]
    Damaged {
        /// The replica.
        path: PathBuf,
        /// What SQLite says.
        source: rusqlite::Error,
    },
    /// No randomness.
    #[error(transparent)]
    Entropy(#[from] NoEntropy),
    /// It is damaged, and none can be made in its place.
    #[error("the replica {} is damaged, and none can be made in its place: {source}", path.display())]
    Fresh {
        /// The replica.
        path: PathBuf,
        /// Why not.
        source: Box<CreateError>,
    },
    /// The header of the last commit does not open.
    #[error(
        "the replica {} is damaged: the header of its last commit does not open. {WAY_BACK}", .0.display()
    )]
    Header(PathBuf),
    /// Tables of it are missing.
    #[error("the replica {} is damaged: tables of it are missing. {WAY_BACK}", .0.display())]
    Incomplete(PathBuf),
    /// No configured key opens it.
    #[error("no configured key opens the replica {}: {}. Put back the key that it was made with", path.display(), reasons.join("; "))]
    Key {
        /// The replica.
        path: PathBuf,
        /// Per configured source, why not.
        reasons: Vec<String>,
    },
    /// There is none.
    #[error("there is no replica at {}{}", path.display(), if *anchored {
        ", but its state file says that there was one: put it back where it was, or set replica.path and \
         replica.anchor to new paths"
    } else { "; create one with `holdover init`" })]
    Missing {
        /// Where it should be.
        path: PathBuf,
        /// A state file says that there was one.
        anchored: bool,
    },
    /// A later Holdover made it.
    #[error("the replica {} has format {found}, made by a later Holdover; this one reads up to {}", path.display(), seal::FORMAT)]
    Newer {
        /// The replica.
        path: PathBuf,
        /// Its format.
        found: i64,
    },
    /// It is no database.
    #[error("{} is not a replica of Holdover; set replica.path to the path of one", .0.display())]
    NotADatabase(PathBuf),
    /// It is damaged, and what is left of it cannot be brought into a new file.
    #[error("the replica {} is damaged, and what is left of it is not brought into a new file yet: {source}", path.display())]
    Rebuild {
        /// The replica.
        path: PathBuf,
        /// Why not.
        source: StoreError,
    },
    /// None can be made, not even in memory.
    #[error(transparent)]
    Unmade(Box<CreateError>),
    /// It is something else.
    #[error("{} is not a replica of Holdover; set replica.path to the path of one", .0.display())]
    Other(PathBuf),
    /// A file or directory is not fit.
    #[error(transparent)]
    Private(#[from] PrivateError),
}

impl OpenError {
    /// What is wrong with a file that is damaged.
    pub(super) fn damage(&self) -> String {
        match self {
            Self::Damaged { source, .. } => source.to_string(),
            Self::Header(_) => "the header of its last commit does not open".to_owned(),
            Self::Incomplete(_) => "tables of it are missing".to_owned(),
            Self::NotADatabase(_) => "it is no database any more".to_owned(),
            other => other.to_string(),
        }
    }

    /// Whether it is proven that the file itself is damaged. What else keeps it from being opened may pass.
    pub(super) fn proves_damage(&self) -> bool {
        match self {
            Self::Damaged { source, .. } => fault::is_damage(source),
            Self::Header(_) | Self::Incomplete(_) | Self::NotADatabase(_) => true,
            _ => false,
        }
    }
}

const WAY_BACK: &str = "Leave it as it is, for an outage may need what is in it. While the primary answers, another can be \
                        made beside it: set replica.path and replica.anchor to new paths and run `holdover init`; the \
                        mirror fills it";

/// Why something was not stored. After most of these the store takes nothing until it has mended itself.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The state file was not written.
    #[error("cannot anchor the generation: {0}")]
    Anchor(#[source] PrivateError),
    /// Another process has it.
    #[error("{} is in use by another process; stop that one first", .0.display())]
    Busy(PathBuf),
    /// What can be written now is not what was read.
    #[error(
        "the file was changed while it could not be written; restart the daemon to read it anew"
    )]
    Changed,
    /// There is none yet, and it cannot be made.
    #[error(transparent)]
    Create(Box<CreateError>),
    /// The replica could not be copied to a new file.
    #[error("cannot copy the replica: {0}")]
    Copy(#[source] PrivateError),
    /// SQLite failed.
    #[error("cannot {action}: {source}")]
    Database {
        /// What was tried.
        action: &'static str,
        /// What SQLite says.
        source: rusqlite::Error,
    },
    /// There is less room than it takes to go on.
    #[error("there is no room on its filesystem")]
    NoRoom,
    /// A ledger entry does not open.
    #[error("the ledger is damaged: {0}")]
    Opening(#[from] SealError),
    /// The space that is kept for revocations could not be written to.
    #[error("cannot write the space that is kept for revocations: {0}")]
    Reserve(#[source] PrivateError),
    /// The space that is kept for revocations is used up.
    #[error("the space that is kept for revocations is used up")]
    ReserveFull,
    /// Nothing could be sealed.
    #[error(transparent)]
    Sealing(#[from] SealingError),
    /// There is none that could be opened.
    #[error("{0}")]
    Unopened(String),
    /// It failed before.
    #[error("the store failed before and is not mended yet")]
    Stopped,
}
