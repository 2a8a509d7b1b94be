//! A file that is damaged so that SQLite cannot read it: what can be read of it is brought into a new one, which takes its place;
//! the damaged one is kept beside.
//!
//! Only what proves damage leads here ([`OpenError::proves_damage`]): what may pass, a disk that cannot be read or is full, is
//! waited for. Rows are taken as they lie, one by one, without the help of an index, and each is opened. Whether they are all is
//! seen when the new file is opened like any other: it has the sums of the last commit, and goes on after it. Where the header of
//! the last commit cannot be read, only what refuses is believed. Where not even the replica's id or its slots can be, a fresh
//! replica takes the place, of which everything counts as lost.
//!
//! Whatever fails or crashes leaves the damaged file in its place, or the new one.

use std::path::{Path, PathBuf};

use super::{CreateError, Location, OpenError, StoreError, copy, create::make, header::Header};
use crate::{
    entropy::Entropy,
    key::slot::Source,
    private::{self, PrivateError},
};

pub(super) mod place;
mod rebuild;
mod remains;
pub(super) mod walk;

use place::Scratch;
use remains::Remains;

/// What became of a damaged file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Salvage {
    /// Where the damaged file is kept.
    pub kept: PathBuf,
    /// What was wrong with it.
    pub why: String,
    /// How many rows were brought over; none if a fresh replica took its place.
    pub rows: Option<u64>,
}

/// Puts in the place of a damaged replica what can be read of it, or a fresh one. Its lock is held.
///
/// # Errors
/// If a new file cannot be written beside it, its key cannot be read, or nothing says that it ever was a replica.
pub(super) fn salvage(
    location: &Location,
    sources: &[Source],
    entropy: &dyn Entropy,
    why: OpenError,
) -> Result<Salvage, OpenError> {
    let path = &location.path;
    // What lies at the path is not what was read.
    if copy::is_whole(path) {
        return Err(why);
    }
    has_room(path)?;
    let new = Scratch::beside(path, ".rebuilt")?;
    let rows = match Remains::of(path, sources)? {
        Some(from) => Some(from.rebuild(location, new.path(), entropy)?),
        None if was_here(location) => {
            fresh(location, sources, new.path(), entropy)?;
            None
        }
        None => return Err(why),
    };
    let rebuild = |source| OpenError::Rebuild {
        path: path.clone(),
        source,
    };
    let kept = place::take(new.path(), path, rows.is_none()).map_err(rebuild)?;
    let why = why.damage();
    tracing::error!(kept = %kept.display(), ?rows, why, "the replica was damaged: what can be read of it was brought into a new file");
    Ok(Salvage { kept, why, rows })
}

/// Whether a replica was at this place: a wrong path must not be taken for a damaged one.
fn was_here(location: &Location) -> bool {
    let reserve = private::beside(&location.path, ".reserve");
    reserve.symlink_metadata().is_ok() || !place::kept(&location.path).is_empty()
}

/// A replica that knows that all of another is lost.
fn fresh(
    location: &Location,
    sources: &[Source],
    new: &Path,
    entropy: &dyn Entropy,
) -> Result<(), OpenError> {
    let path = &location.path;
    let first = sources.first().ok_or_else(|| OpenError::Key {
        path: path.clone(),
        reasons: Vec::new(),
    })?;
    let anchored = location.anchor.is_some();
    let header = |reserve| Header {
        anchored,
        ..Header::unproven(reserve)
    };
    make(new, first, header, entropy).map_err(|source: CreateError| OpenError::Fresh {
        path: path.clone(),
        source: Box::new(source),
    })
}

/// Whether there is room for all that is made on the way: it is not to be tried again and again on a full disk.
fn has_room(path: &Path) -> Result<(), OpenError> {
    let size = path
        .symlink_metadata()
        .map_err(PrivateError::io(path, "look at"))?
        .len();
    let Ok(found) = rustix::fs::statvfs(private::parent(path)) else {
        return Ok(());
    };
    match found.f_bavail.saturating_mul(found.f_frsize) > size.saturating_mul(2) {
        true => Ok(()),
        false => Err(OpenError::Rebuild {
            path: path.into(),
            source: StoreError::NoRoom,
        }),
    }
}
