//! How a new file takes the place of a damaged one, which is kept.
//!
//! The damaged file gets a second name, the new one the name of a copy that is whole ([`copy::whole`]), and with that takes the
//! place. So at every moment the replica is the one or the other, and a start goes on from wherever it was stopped.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use crate::{
    private::{self, PrivateError},
    store::{StoreError, copy},
};

/// As many damaged files are kept at most: the first, which may have the most in it, and the last.
pub(in crate::store) const KEPT: usize = 4;

/// What SQLite puts beside a file.
const LOGS: [&str; 2] = ["-wal", "-journal"];

/// A file that is made on the way, and what SQLite put beside it. It goes with this, if it has no other name by then.
pub(super) struct Scratch(PathBuf);

impl Scratch {
    /// A name for one, where nothing is left of one before.
    pub(super) fn beside(path: &Path, suffix: &str) -> Result<Self, PrivateError> {
        let scratch = Self(private::beside(path, suffix));
        scratch.remove()?;
        Ok(scratch)
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    pub(super) fn remove(&self) -> Result<(), PrivateError> {
        for suffix in [""].iter().chain(&LOGS) {
            let file = private::beside(&self.0, suffix);
            match fs::remove_file(&file) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(PrivateError::io(&file, "remove")(error));
                }
                _ => {}
            }
        }
        Ok(())
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = self.remove() {
            tracing::warn!(%error, "what was made on the way to a new replica stays");
        }
    }
}

/// Puts the file at `new` where the damaged one is; where that is kept. If `with_reserve`, so is the space for revocations, of
/// which nobody can read what is in it without the damaged file.
pub(super) fn take(new: &Path, path: &Path, with_reserve: bool) -> Result<PathBuf, StoreError> {
    let sync = |file: File| file.sync_all();
    let synced = File::open(new).and_then(sync);
    synced.map_err(failed(new, "sync"))?;
    let at = keep(path)?;
    if with_reserve {
        let reserve = private::beside(path, ".reserve");
        match fs::rename(&reserve, private::beside(&at, "-reserve")) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(failed(&reserve, "rename")(error));
            }
            _ => {}
        }
    }
    call_whole(new, path)?;
    copy::finish(path)?;
    prune(path);
    Ok(at)
}

/// Gives the damaged file and its log a second name: that of an attempt before, or the next that is free.
pub(in crate::store) fn keep(path: &Path) -> Result<PathBuf, StoreError> {
    let file = path.symlink_metadata().map_err(failed(path, "look at"))?;
    let is_same = |name: &PathBuf| {
        name.symlink_metadata()
            .is_ok_and(|other| (other.dev(), other.ino()) == (file.dev(), file.ino()))
    };
    let before = kept(path);
    let last = before.last().map_or(0, |(number, _)| *number);
    let next = private::beside(path, &format!(".damaged-{}", last.saturating_add(1)));
    let mut names = before.into_iter().map(|(_, name)| name);
    let at = names.find(is_same).unwrap_or(next);
    for suffix in LOGS.iter().chain(&[""]) {
        let (from, to) = (private::beside(path, suffix), private::beside(&at, suffix));
        match fs::hard_link(&from, &to) {
            Err(error)
                if !matches!(
                    error.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::AlreadyExists
                ) =>
            {
                return Err(failed(&to, "link")(error));
            }
            _ => {}
        }
    }
    private::sync_parent(path).map_err(StoreError::Copy)?;
    Ok(at)
}

/// From here on the file at `new` is the replica.
pub(in crate::store) fn call_whole(new: &Path, path: &Path) -> Result<(), StoreError> {
    fs::rename(new, copy::whole(path)).map_err(failed(new, "rename"))?;
    private::sync_parent(path).map_err(StoreError::Copy)
}

/// Damaged files that are kept beside the replica at `path`, by their numbers.
pub(in crate::store) fn kept(path: &Path) -> Vec<(u64, PathBuf)> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let prefix = format!("{name}.damaged-");
    let entries = fs::read_dir(private::parent(path)).into_iter().flatten();
    let numbered = entries.flatten().filter_map(|entry| {
        let name = entry.file_name();
        let number = name.to_str()?.strip_prefix(&prefix)?.parse().ok()?;
        Some((number, entry.path()))
    });
    let mut numbered: Vec<(u64, PathBuf)> = numbered.collect();
    numbered.sort_unstable();
    numbered
}

/// Removes damaged files beyond what is kept, with what belongs to them.
fn prune(path: &Path) {
    let all = kept(path);
    let beyond = all.len().saturating_sub(KEPT);
    for (_, name) in all.iter().skip(1).take(beyond) {
        for suffix in ["-reserve"].iter().chain(&LOGS).chain(&[""]) {
            match fs::remove_file(private::beside(name, suffix)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    tracing::warn!(%error, file = %name.display(), "a damaged replica of before stays");
                }
                _ => {}
            }
        }
    }
}

fn failed(path: &Path, action: &'static str) -> impl FnOnce(io::Error) -> StoreError {
    let error = PrivateError::io(path, action);
    move |source| StoreError::Copy(error(source))
}
