//! `libfaketime`, which moves the wall clock of one process.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::{once, run};
use crate::failure::{Context, Failure, Result};

const ADVICE: &str = "Suites that move a process's wall clock need libfaketime.\n\
                      On Debian and Ubuntu: apt-get update && apt-get install libfaketime";

/// The library: the installed one, or one unpacked from Debian's package into `folder`, for which nobody need be root.
pub(super) fn library(folder: &Path) -> Result<PathBuf> {
    if let Some(installed) = find(Path::new("/usr/lib")) {
        return Ok(installed);
    }
    let unpacked = once(folder, "faketime", unpack)?;
    find(&unpacked.join("usr/lib")).context(format!("no libfaketime in {}", unpacked.display()))
}

fn unpack(folder: &Path) -> Result<()> {
    let download = || {
        run(Command::new("apt-get")
            .args(["download", "libfaketime"])
            .current_dir(folder))
    };
    let downloaded = download().or_else(|first| {
        // The lists may be missing, as in a fresh container; only root can fetch them.
        run(Command::new("apt-get").arg("update"))
            .and_then(|_| download())
            .map_err(|second| Failure::new(format!("Tried:\n- {first}\n- {second}\n{ADVICE}")))
    });
    downloaded?;
    let package = std::fs::read_dir(folder)?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .find(|path| path.extension().is_some_and(|e| e == "deb"))
        .context(format!("apt-get download left no package. {ADVICE}"))?;
    run(Command::new("dpkg").arg("-x").arg(&package).arg(folder))
        .map(drop)
        .context(format!("unpacking {}. {ADVICE}", package.display()))
}

/// `LIB/<architecture>/faketime/libfaketimeMT.so.1`: the one for programs with threads.
fn find(lib: &Path) -> Option<PathBuf> {
    let below = std::fs::read_dir(lib)
        .ok()?
        .filter_map(|entry| Some(entry.ok()?.path()));
    below
        .chain([lib.to_owned()])
        .map(|dir| dir.join("faketime/libfaketimeMT.so.1"))
        .find(|path| path.exists())
}
