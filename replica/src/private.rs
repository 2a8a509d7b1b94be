//! Files that nobody else may read: created so whatever the umask, checked through the descriptor they are read by,
//! and replaced as a whole.

use std::{
    fs::{self, DirBuilder, File, Metadata, OpenOptions, Permissions},
    io::{self, Write as _},
    os::unix::fs::{
        DirBuilderExt as _, FileExt as _, MetadataExt as _, OpenOptionsExt as _,
        PermissionsExt as _,
    },
    path::{Path, PathBuf},
};

use rustix::fs::OFlags;

/// Why a private file is not used. Every text names the file and what to do.
#[derive(Debug, thiserror::Error)]
pub enum PrivateError {
    /// The system refused.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What was tried.
        action: &'static str,
        /// Why not.
        source: io::Error,
    },
    /// It is a directory, a device or a pipe.
    #[error("{} is not a regular file; put the file itself there", .0.display())]
    Kind(PathBuf),
    /// Others may read or write it.
    #[error("{} has mode {mode:04o}, so that others may use it; run `chmod {wanted} {}`", path.display(), path.display())]
    Mode {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
        /// What they should be at most.
        wanted: &'static str,
    },
    /// It belongs to somebody else.
    #[error("{} belongs to uid {owner}, but this process runs as uid {expected}; run `chown {expected} {}`", path.display(), path.display())]
    Owner {
        /// The file.
        path: PathBuf,
        /// Its owner.
        owner: u32,
        /// Who should own it.
        expected: u32,
    },
    /// It is a symbolic link.
    #[error("{} is a symbolic link, which is not followed; give the path of the file itself", .0.display())]
    Symlink(PathBuf),
}

impl PrivateError {
    /// Whether nothing is there.
    pub fn is_missing(&self) -> bool {
        matches!(self, Self::Io { source, .. } if source.kind() == io::ErrorKind::NotFound)
    }

    /// Whether something is there already.
    pub fn exists(&self) -> bool {
        matches!(self, Self::Io { source, .. } if source.kind() == io::ErrorKind::AlreadyExists)
    }

    pub(crate) fn io(path: &Path, action: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| match rustix::io::Errno::from_io_error(&source) {
            Some(rustix::io::Errno::LOOP) => Self::Symlink(path.into()),
            _ => Self::Io {
                path: path.into(),
                action,
                source,
            },
        }
    }
}

/// Opens a file for reading that must be regular, ours, and closed to others. What is checked is what is read.
pub(crate) fn open(path: &Path) -> Result<File, PrivateError> {
    let file = OpenOptions::new()
        .read(true)
        // NONBLOCK: a pipe put there must not hang the start.
        .custom_flags(flags(OFlags::NOFOLLOW | OFlags::NONBLOCK))
        .open(path)
        .map_err(PrivateError::io(path, "open"))?;
    let meta = file.metadata().map_err(PrivateError::io(path, "look at"))?;
    if !meta.is_file() {
        return Err(PrivateError::Kind(path.into()));
    }
    closed(path, &meta, 0o077, "600")?;
    Ok(file)
}

/// The same for reading and writing in place.
pub(crate) fn open_writable(path: &Path) -> Result<File, PrivateError> {
    drop(open(path)?);
    OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(flags(OFlags::NOFOLLOW | OFlags::NONBLOCK))
        .open(path)
        .map_err(PrivateError::io(path, "open for writing"))
}

/// Makes a file that was not there, with mode 0600 whatever the umask.
pub(crate) fn create(path: &Path) -> Result<File, PrivateError> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .mode(0o600)
        .custom_flags(flags(OFlags::NOFOLLOW))
        .open(path)
        .map_err(PrivateError::io(path, "create"))?;
    file.set_permissions(Permissions::from_mode(0o600))
        .map_err(PrivateError::io(path, "set the mode of"))?;
    Ok(file)
}

/// Opens a file that may be there already, or makes it.
pub(crate) fn open_or_create(path: &Path) -> Result<File, PrivateError> {
    match create(path) {
        Err(error) if error.exists() => open(path),
        made => made,
    }
}

/// Makes the directory `path` with mode 0700 whatever the umask, or takes the one that is there if only we may write
/// to it.
pub(crate) fn directory(path: &Path) -> Result<(), PrivateError> {
    match DirBuilder::new().mode(0o700).create(path) {
        Ok(()) => {
            return fs::set_permissions(path, Permissions::from_mode(0o700))
                .map_err(PrivateError::io(path, "set the mode of"));
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(PrivateError::io(path, "create the directory")(error)),
    }
    let meta = fs::metadata(path).map_err(PrivateError::io(path, "look at"))?;
    closed(path, &meta, 0o022, "700")
}

/// Replaces the file at `path` as a whole, durably: readers see the old content or the new.
pub(crate) fn replace(path: &Path, content: &[u8]) -> Result<(), PrivateError> {
    let next = beside(path, ".new");
    match fs::remove_file(&next) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(PrivateError::io(&next, "remove")(error));
        }
        _ => {}
    }
    let mut file = create(&next)?;
    let written = file.write_all(content).and_then(|()| file.sync_all());
    if let Err(error) = written {
        // What little room there is, it must not take.
        let _ = fs::remove_file(&next);
        return Err(PrivateError::io(&next, "write")(error));
    }
    fs::rename(&next, path).map_err(PrivateError::io(path, "replace"))?;
    sync_parent(path)
}

/// Writes `content` over what is in the file at `path`, durably: for a disk without room for another file. A crash in the
/// middle of it may leave a mixture.
pub(crate) fn overwrite(path: &Path, content: &[u8]) -> Result<(), PrivateError> {
    let file = open_writable(path)?;
    let length = u64::try_from(content.len()).unwrap_or(u64::MAX);
    file.write_all_at(content, 0)
        .and_then(|()| file.set_len(length))
        .and_then(|()| file.sync_all())
        .map_err(PrivateError::io(path, "write"))
}

/// Makes the directory entry of `path` durable.
pub(crate) fn sync_parent(path: &Path) -> Result<(), PrivateError> {
    let parent = parent(path);
    File::open(parent)
        .and_then(|directory| directory.sync_all())
        .map_err(PrivateError::io(parent, "sync"))
}

/// The directory that `path` is in.
pub(crate) fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// `path` with `suffix` at its end.
pub(crate) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// Refuses what is not ours, or has one of the bits of `others`.
fn closed(
    path: &Path,
    meta: &Metadata,
    others: u32,
    wanted: &'static str,
) -> Result<(), PrivateError> {
    owned(path, meta.uid())?;
    let (path, mode) = (path.to_owned(), meta.mode() & 0o7777);
    match mode & others {
        0 => Ok(()),
        _ => Err(PrivateError::Mode { path, mode, wanted }),
    }
}

fn owned(path: &Path, owner: u32) -> Result<(), PrivateError> {
    let expected = rustix::process::geteuid().as_raw();
    if owner == expected {
        return Ok(());
    }
    Err(PrivateError::Owner {
        path: path.into(),
        owner,
        expected,
    })
}

fn flags(flags: OFlags) -> i32 {
    // The bits of open(2)'s flags are a C int by definition.
    flags.bits().cast_signed()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_others_may_use_is_refused_with_the_remedy() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        create(&path).unwrap();
        assert!(open(&path).is_ok());
        fs::set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
        let text = open(&path).unwrap_err().to_string();
        assert!(
            text.contains("0640") && text.contains("chmod 600"),
            "{text}"
        );
    }

    #[test]
    fn a_symbolic_link_a_pipe_and_a_directory_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        create(&path).unwrap();
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        assert!(matches!(open(&link), Err(PrivateError::Symlink(_))));
        assert!(matches!(open(dir.path()), Err(PrivateError::Kind(_))));
        let pipe = dir.path().join("pipe");
        let mode = rustix::fs::Mode::from_raw_mode(0o600);
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, mode, 0).unwrap();
        assert!(matches!(open(&pipe), Err(PrivateError::Kind(_))));
    }

    #[test]
    fn a_file_of_another_owner_is_refused() {
        let theirs = rustix::process::geteuid().as_raw().wrapping_add(1);
        let error = owned(Path::new("/key"), theirs).unwrap_err().to_string();
        assert!(error.contains("chown"), "{error}");
    }

    #[test]
    fn a_directory_is_made_private_and_one_that_others_write_to_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let made = dir.path().join("replica");
        directory(&made).unwrap();
        assert_eq!(fs::metadata(&made).unwrap().mode() & 0o777, 0o700);
        fs::set_permissions(&made, Permissions::from_mode(0o770)).unwrap();
        assert!(matches!(directory(&made), Err(PrivateError::Mode { .. })));
    }

    #[test]
    fn a_file_is_replaced_as_a_whole_even_after_a_crash_half_way() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state");
        create(&beside(&path, ".new")).unwrap();
        replace(&path, b"one").unwrap();
        replace(&path, b"two").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
    }
}
