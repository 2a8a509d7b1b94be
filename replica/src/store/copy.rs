//! The replica in a new file, each row proven: where a sync failed, what the kernel shows of the old one may never have
//! reached the disk.
//!
//! The copy is made under another name and synced, renamed when it is whole, and takes the place of the replica once the log
//! of commits that belongs to the old file is gone. A crash at any moment leaves the old file with its log, or the copy: as
//! soon as that has its second name it is the replica, and a start goes on from there.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

use rustix::fs::{CWD, RenameFlags, renameat_with};

use super::{
    Proof, Storage as _, StoreError, lock, salvage::walk, schema::Database, sums::Tallies,
};
use crate::{
    ledger,
    private::{self, PrivateError},
};

/// What was copied, and what was not.
#[derive(Default)]
struct Copied {
    rows: Tallies,
    lost: u64,
}

/// Makes a copy of `from`, which lies at `path`, and puts it in its place. The connection of `from` goes on showing the old
/// file: open the new one.
pub(super) fn renew(from: &mut Database, path: &Path, proof: &Proof<'_>) -> Result<(), StoreError> {
    let new = private::beside(path, ".new");
    for leftover in ["", "-journal"] {
        let _ = fs::remove_file(private::beside(&new, leftover));
    }
    drop(private::create(&new).map_err(StoreError::Copy)?);
    let made = fill(from, &new, proof);
    if made.is_err() {
        // What room there is, it must not take.
        let _ = fs::remove_file(&new);
    }
    let copied = made?;
    let header = proof.header;
    if copied.lost > 0 || !header.rows.differing(&copied.rows).is_empty() {
        tracing::error!(
            lost = copied.lost,
            "rows of the replica could not be read back whole: what they say is read anew, or left to the primary, after the next start"
        );
    }
    fs::rename(&new, whole(path)).map_err(|error| failed(path, "replace", error))?;
    private::sync_parent(path).map_err(StoreError::Copy)?;
    finish(path)
}

/// Puts a copy that is whole in the place of the replica at `path`, if there is one.
pub(super) fn finish(path: &Path) -> Result<(), StoreError> {
    if !is_whole(path) {
        return Ok(());
    }
    for log in ["-wal", "-journal"] {
        match fs::remove_file(private::beside(path, log)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(failed(path, "remove the old log of", error));
            }
            _ => {}
        }
    }
    // The log of the old file would be taken for one of the new.
    private::sync_parent(path).map_err(StoreError::Copy)?;
    fs::rename(whole(path), path).map_err(|error| failed(path, "replace", error))?;
    private::sync_parent(path).map_err(StoreError::Copy)
}

/// The lock of the file at `path`, which may have yet to be made. Its directory is made if missing.
pub(super) fn claim(path: &Path) -> Result<File, StoreError> {
    private::directory(private::parent(path)).map_err(StoreError::Copy)?;
    let lock = lock(path).map_err(StoreError::Copy)?;
    lock.ok_or_else(|| StoreError::Busy(path.into()))
}

/// Makes the file at `path`, if nothing is there. Its lock is held.
pub(super) fn install(path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
    if path.symlink_metadata().is_ok() {
        return Ok(());
    }
    let new = private::beside(path, ".new");
    private::replace(&new, bytes).map_err(StoreError::Copy)?;
    renameat_with(CWD, &new, CWD, path, RenameFlags::NOREPLACE)
        .map_err(|error| failed(path, "make", error.into()))?;
    private::sync_parent(path).map_err(StoreError::Copy)
}

/// Whether there is a copy that is whole, and not in its place yet.
pub(super) fn is_whole(path: &Path) -> bool {
    whole(path).symlink_metadata().is_ok()
}

/// Where a copy is once it is whole.
pub(super) fn whole(path: &Path) -> PathBuf {
    private::beside(path, ".mended")
}

fn fill(from: &mut Database, new: &Path, proof: &Proof<'_>) -> Result<Copied, StoreError> {
    let copied = copy(from, new, proof).map_err(|source| {
        let action = "copy the replica to a new file";
        StoreError::Database { action, source }
    })?;
    File::open(new)
        .and_then(|file| file.sync_all())
        .map_err(|error| failed(new, "sync", error))?;
    Ok(copied)
}

fn copy(from: &mut Database, new: &Path, proof: &Proof<'_>) -> rusqlite::Result<Copied> {
    let mut to = Database::open(new)?;
    to.format(from.id()?, &from.slots()?)?;
    let mut copied = Copied::default();
    // As they lie: an index may be what cannot be read.
    walk::rows(from, |(at, sealed)| {
        // One that does not open is told by its key what it was of: it is left for the next start to find.
        if proof.keys.open(&at.subject(), &sealed).is_err() {
            copied.lost = copied.lost.saturating_add(1);
        }
        copied.rows.add(proof.keys, &at, sealed.version);
        to.put(&at, &sealed).map(drop)
    })?;
    let first = proof.header.ledger.first;
    walk::entries(from, |row| {
        if row.seq < first {
            return Ok(());
        }
        match ledger::open(proof.keys, &row, [0; 32]) {
            Ok(_) => to.append(&row),
            Err(_) => {
                copied.lost = copied.lost.saturating_add(1);
                Ok(())
            }
        }
    })?;
    to.commit(&from.header()?)?;
    Ok(copied)
}

fn failed(path: &Path, action: &'static str, error: io::Error) -> StoreError {
    StoreError::Copy(PrivateError::io(path, action)(error))
}
