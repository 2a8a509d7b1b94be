//! A replica that must not be written to is read from a copy in memory: SQLite recovers the log of commits only where it may
//! write, and a revocation may be in the log alone.

use std::{
    fs::{self, DirBuilder},
    io,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
};

use shared::hex::Hex;

use crate::{
    entropy::Entropy,
    private::{self, PrivateError},
};

/// What the kernel calls filesystems that are memory.
const IN_MEMORY: [u32; 2] = [0x0102_1994, 0x8584_58f6];

/// A folder of our own in memory. It goes with this, and with it the copy: everything in that is sealed.
pub(super) struct Aside(PathBuf);

impl Aside {
    /// A copy of the replica at `path` and of its log.
    ///
    /// # Errors
    /// If there is no memory to be had as a folder, or the files cannot be read.
    pub(super) fn of(path: &Path, entropy: &dyn Entropy) -> Result<Self, PrivateError> {
        let folder = Self::folder(entropy)?;
        let copy = folder.replica();
        copied(path, &copy)?;
        match copied(
            &private::beside(path, "-wal"),
            &private::beside(&copy, "-wal"),
        ) {
            Err(error) if error.is_missing() => Ok(folder),
            copied => copied.map(|()| folder),
        }
    }

    /// Where the copy is.
    pub(super) fn replica(&self) -> PathBuf {
        self.0.join("replica.db")
    }

    /// An empty one.
    ///
    /// # Errors
    /// If there is no memory to be had as a folder.
    pub(super) fn folder(entropy: &dyn Entropy) -> Result<Self, PrivateError> {
        let mut name = [0; 16];
        let nameless = |_| io::Error::other("there is no randomness");
        let shared = PathBuf::from("/dev/shm");
        entropy
            .fill(&mut name)
            .map_err(nameless)
            .map_err(PrivateError::io(&shared, "make a folder in"))?;
        let name = format!("holdover-{}", Hex(&name));
        let mut failed = None;
        for place in runtime_folders().chain([shared.clone()]) {
            let folder = place.join(&name);
            match is_memory(&place).and_then(|()| DirBuilder::new().mode(0o700).create(&folder)) {
                Ok(()) => return Ok(Self(folder)),
                Err(error) => failed = Some(PrivateError::io(&place, "make a folder in")(error)),
            }
        }
        Err(failed.unwrap_or_else(|| {
            PrivateError::io(&shared, "look at")(io::ErrorKind::NotFound.into())
        }))
    }
}

impl Drop for Aside {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0) {
            tracing::warn!(%error, folder = %self.0.display(), "a copy of the replica stays in memory");
        }
    }
}

/// What systemd gives the service.
fn runtime_folders() -> impl Iterator<Item = PathBuf> {
    let folders = std::env::var_os("RUNTIME_DIRECTORY").unwrap_or_default();
    std::env::split_paths(&folders)
        .filter(|folder| folder.is_absolute())
        .collect::<Vec<_>>()
        .into_iter()
}

fn is_memory(place: &Path) -> io::Result<()> {
    let found = rustix::fs::statfs(place)?;
    // The width of the field differs between machines; the numbers fit 32 bits.
    let magic = u32::try_from(i128::from(found.f_type) & 0xffff_ffff).unwrap_or(0);
    match IN_MEMORY.contains(&magic) {
        true => Ok(()),
        false => Err(io::Error::other("it is not in memory")),
    }
}

fn copied(from: &Path, to: &Path) -> Result<(), PrivateError> {
    let mut source = private::open(from)?;
    let mut copy = private::create(to)?;
    io::copy(&mut source, &mut copy)
        .map(drop)
        .map_err(PrivateError::io(from, "copy"))
}
