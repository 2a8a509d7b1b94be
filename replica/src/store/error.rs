//! Why a replica is not made, not opened, or not written to. Each text names the file and the way back.

use std::path::PathBuf;

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
        "{} says that a replica was here before; restore it, or remove that file to start over", .0.display()
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
    /// Rows that decide who may do what are not those of the last commit.
    #[error(
        "the replica {} is not as Holdover left it: {what}. Nothing can be issued from it. {WAY_BACK}", path.display()
    )]
    Authority {
        /// The replica.
        path: PathBuf,
        /// What differs.
        what: String,
    },
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
    /// The header of the last commit does not open.
    #[error(
        "the replica {} is damaged: the header of its last commit does not open. {WAY_BACK}", .0.display()
    )]
    Header(PathBuf),
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
        ", but its state file says that there was one: restore it with `holdover replica restore`, or remove the \
         state file to start over"
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
    /// It is something else.
    #[error("{} is not a replica of Holdover; give the right path, or move that file away", .0.display())]
    Other(PathBuf),
    /// A file or directory is not fit.
    #[error(transparent)]
    Private(#[from] PrivateError),
    /// The commit that every start makes failed.
    #[error("the replica {} cannot be written: {source}", path.display())]
    Store {
        /// The replica.
        path: PathBuf,
        /// Why not.
        source: StoreError,
    },
}

const WAY_BACK: &str = "Restore a copy with `holdover replica restore`, or move the file away and run `holdover init`: \
                        the mirror fills a new one once the primary answers";

/// Why something was not stored. After any of these the store refuses until it is opened again.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The state file was not written.
    #[error("cannot anchor the generation: {0}")]
    Anchor(#[from] PrivateError),
    /// SQLite failed.
    #[error("cannot {action}: {source}")]
    Database {
        /// What was tried.
        action: &'static str,
        /// What SQLite says.
        source: rusqlite::Error,
    },
    /// A ledger entry does not open.
    #[error("the ledger is damaged: {0}")]
    Opening(#[from] SealError),
    /// Nothing could be sealed.
    #[error(transparent)]
    Sealing(#[from] SealingError),
    /// It failed before.
    #[error("the store failed before and refuses until it is opened again")]
    Stopped,
}
