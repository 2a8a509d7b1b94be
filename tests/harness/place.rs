//! Temporary folders that another user can reach into, and files placed in them.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::failure::{Context, Failure, Result};

/// A temporary folder, 0711, whose parents every user can search; deleted when dropped.
///
/// It stays if the test panicked or `HOLDOVER_KEEP` is set, and its path is printed then.
pub struct Room {
    folder: Option<tempfile::TempDir>,
    path: PathBuf,
}

impl Room {
    /// Makes one. Its name is short: a Unix socket's path has 107 bytes at most.
    pub fn make() -> Result<Room> {
        let parent = [std::env::temp_dir(), "/tmp".into(), "/var/tmp".into()]
            .into_iter()
            .find(|dir| searchable_by_all(dir))
            .context("none of TMPDIR, /tmp and /var/tmp can be searched by every user")?;
        let folder = tempfile::Builder::new()
            .prefix("hold-")
            .tempdir_in(&parent)
            .context(format!("temporary folder in {}", parent.display()))?;
        set_mode(folder.path(), 0o711)?;
        let path = folder.path().to_owned();
        Ok(Room {
            folder: Some(folder),
            path,
        })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A path in it.
    pub fn join(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Makes a folder in it with this mode, owned by `owner` where one is given.
    pub fn folder(&self, name: &str, mode: u32, owner: Option<(u32, u32)>) -> Result<PathBuf> {
        let path = self.join(name);
        std::fs::create_dir_all(&path).context(path.display())?;
        give(&path, mode, owner)?;
        Ok(path)
    }

    /// Writes a file in it with this mode, owned by `owner` where one is given.
    pub fn file(
        &self,
        name: &str,
        content: impl AsRef<[u8]>,
        mode: u32,
        owner: Option<(u32, u32)>,
    ) -> Result<PathBuf> {
        let path = self.join(name);
        std::fs::write(&path, content).context(path.display())?;
        give(&path, mode, owner)?;
        Ok(path)
    }

    /// Places an executable here as `name`: as a hard link, or a copy where that is impossible.
    ///
    /// Another user can run it here even if the original lies in a closed folder.
    pub fn executable(&self, name: &str, original: &Path) -> Result<PathBuf> {
        let path = self.join(name);
        let runs = |p: &Path| {
            p.metadata()
                .is_ok_and(|m| m.permissions().mode() & 0o005 == 0o005)
        };
        if !runs(original) || std::fs::hard_link(original, &path).is_err() {
            std::fs::copy(original, &path).context(format!(
                "copy of {} to {}",
                original.display(),
                path.display()
            ))?;
            set_mode(&path, 0o755)?;
        }
        Ok(path)
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        let keep = std::env::var_os("HOLDOVER_KEEP").is_some() || std::thread::panicking();
        if let (true, Some(folder)) = (keep, self.folder.take()) {
            eprintln!("kept: {}", folder.keep().display());
        }
    }
}

/// Whether every user can search this folder and all above it.
pub fn searchable_by_all(path: &Path) -> bool {
    let Ok(path) = path.canonicalize() else {
        return false;
    };
    path.ancestors().all(|dir| {
        dir.metadata()
            .is_ok_and(|m| m.permissions().mode() & 0o001 != 0)
    })
}

/// Whether this process may act as any user.
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

fn give(path: &Path, mode: u32, owner: Option<(u32, u32)>) -> Result<()> {
    set_mode(path, mode)?;
    if let Some((uid, gid)) = owner {
        std::os::unix::fs::chown(path, Some(uid), Some(gid))
            .context(format!("giving {} to {uid}:{gid}", path.display()))?;
    }
    Ok(())
}

fn set_mode(path: &Path, mode: u32) -> Result<()> {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))
        .map_err(Failure::from)
        .context(format!("mode of {}", path.display()))
}
