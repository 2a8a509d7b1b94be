//! The workload socket itself: bound without a moment at which its mode is wrong, or taken over from systemd.

use std::{
    fs::{self, DirBuilder, Permissions},
    io,
    os::{
        fd::OwnedFd,
        unix::{
            fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt},
            net::{UnixListener, UnixStream},
        },
    },
    path::{Path, PathBuf},
};

use rustix::{
    fs::{Mode, fchmod},
    net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, listen, socket_with},
};

/// Connections that the kernel keeps while nobody accepts; `net.core.somaxconn` may lower it.
const BACKLOG: i32 = 4096;

/// A socket that listens, and how it goes.
pub struct Bound {
    /// The listener, with `SO_PASSCRED` set, so that accepted connections have it from their first byte.
    pub listener: UnixListener,
    /// Removes the file on drop, if this process made it.
    _file: Option<OwnFile>,
}

/// Why there is no socket.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// The folder is missing and cannot be made.
    #[error("cannot make {folder}: {source}")]
    Folder {
        /// The folder.
        folder: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Something else than a socket of our own is there.
    #[error("{path} is not a socket of this user")]
    Foreign {
        /// The path.
        path: PathBuf,
    },
    /// Somebody answers there.
    #[error("{path} is in use: another process answers on it")]
    InUse {
        /// The path.
        path: PathBuf,
    },
    /// A system call failed.
    #[error("cannot {what} {path}: {source}")]
    System {
        /// What was tried.
        what: &'static str,
        /// The path.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Binds `path` with `mode`.
///
/// A missing folder is made with mode 0755; modes of existing ones are left alone. A dead socket of our own user is
/// removed; anything else that is there is an error.
///
/// # Errors
/// If the path is taken or cannot be bound.
pub fn bind_at(path: &Path, mode: u32) -> Result<Bound, BindError> {
    make_folder(path)?;
    remove_dead(path)?;
    let fail = |what| {
        move |source: rustix::io::Errno| BindError::System {
            what,
            path: path.to_owned(),
            source: source.into(),
        }
    };
    let socket = socket_with(
        AddressFamily::UNIX,
        SocketType::STREAM,
        SocketFlags::CLOEXEC,
        None,
    )
    .map_err(fail("make a socket for"))?;
    // The file takes the mode of the socket's own inode, less the umask, at the moment it appears. It is widened
    // before the socket listens, so that nobody connects under another mode than the configured one.
    fchmod(&socket, Mode::from_raw_mode(0o600)).map_err(fail("set the mode of"))?;
    let address = SocketAddrUnix::new(path).map_err(fail("name a socket"))?;
    bind(&socket, &address).map_err(fail("bind"))?;
    let file = OwnFile::of(path)?;
    fs::set_permissions(path, Permissions::from_mode(mode & 0o777))
        .map_err(system("set the mode of", path))?;
    listening(socket, path).map(|listener| Bound {
        listener,
        _file: Some(file),
    })
}

/// Takes over a socket that somebody else bound and will remove: systemd's.
///
/// # Errors
/// If it refuses `SO_PASSCRED`.
pub fn adopt(listener: UnixListener) -> Result<Bound, BindError> {
    let path = Path::new("the socket that was passed in");
    rustix::net::sockopt::set_socket_passcred(&listener, true)
        .map_err(|error| system("ask for credentials on", path)(error.into()))?;
    Ok(Bound {
        listener,
        _file: None,
    })
}

fn listening(socket: OwnedFd, path: &Path) -> Result<UnixListener, BindError> {
    rustix::net::sockopt::set_socket_passcred(&socket, true)
        .map_err(|error| system("ask for credentials on", path)(error.into()))?;
    listen(&socket, BACKLOG).map_err(|error| system("listen on", path)(error.into()))?;
    Ok(socket.into())
}

fn make_folder(path: &Path) -> Result<(), BindError> {
    let missing: Vec<&Path> = path
        .ancestors()
        .skip(1)
        .take_while(|folder| !folder.as_os_str().is_empty() && !folder.exists())
        .collect();
    for folder in missing.into_iter().rev() {
        // The umask takes bits from what is made; nothing but what was just made is touched.
        DirBuilder::new()
            .mode(0o755)
            .create(folder)
            .and_then(|()| fs::set_permissions(folder, Permissions::from_mode(0o755)))
            .map_err(|source| BindError::Folder {
                folder: folder.to_owned(),
                source,
            })?;
    }
    Ok(())
}

/// Removes a socket of our own that nobody answers on.
fn remove_dead(path: &Path) -> Result<(), BindError> {
    let found = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other.map_err(system("look at", path))?,
    };
    let ours = found.uid() == rustix::process::geteuid().as_raw();
    if !found.file_type().is_socket() || !ours {
        return Err(BindError::Foreign {
            path: path.to_owned(),
        });
    }
    match UnixStream::connect(path) {
        // Only this says that no process has it open; a full queue or a refused permission does not.
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            fs::remove_file(path).map_err(system("remove the dead socket", path))
        }
        _ => Err(BindError::InUse {
            path: path.to_owned(),
        }),
    }
}

fn system(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> BindError {
    let path = path.to_owned();
    move |source| BindError::System { what, path, source }
}

/// A socket file that this process made, known by its inode.
struct OwnFile {
    path: PathBuf,
    inode: (u64, u64),
}

impl OwnFile {
    fn of(path: &Path) -> Result<Self, BindError> {
        let made = fs::symlink_metadata(path).map_err(system("look at", path))?;
        Ok(Self {
            path: path.to_owned(),
            inode: (made.dev(), made.ino()),
        })
    }
}

impl Drop for OwnFile {
    fn drop(&mut self) {
        let still = fs::symlink_metadata(&self.path)
            .is_ok_and(|found| (found.dev(), found.ino()) == self.inode);
        if still {
            // Nobody is left to tell; the next start removes a dead socket by itself.
            let _ = fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode_of(path: &Path) -> u32 {
        fs::symlink_metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn the_socket_has_the_configured_mode_whatever_the_umask() {
        let folder = tempfile::tempdir().unwrap();
        for mode in [0o666, 0o600, 0o660] {
            let path = folder.path().join(format!("{mode:o}.sock"));
            let _bound = bind_at(&path, mode).unwrap();
            assert_eq!(mode_of(&path), mode);
            UnixStream::connect(&path).unwrap();
        }
    }

    #[test]
    fn missing_folders_are_made_and_modes_of_existing_ones_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), Permissions::from_mode(0o710)).unwrap();
        let path = folder.path().join("run/holdover/holdover.sock");
        let _bound = bind_at(&path, 0o666).unwrap();
        assert_eq!(mode_of(path.parent().unwrap()), 0o755);
        assert_eq!(mode_of(&folder.path().join("run")), 0o755);
        assert_eq!(mode_of(folder.path()), 0o710);
    }

    #[test]
    fn a_dead_socket_is_replaced_and_a_live_one_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        drop(UnixListener::bind(&path).unwrap());
        assert!(path.exists(), "std leaves the file behind");
        let bound = bind_at(&path, 0o600).unwrap();
        assert!(matches!(
            bind_at(&path, 0o600),
            Err(BindError::InUse { .. })
        ));
        drop(bound);
        assert!(!path.exists(), "our own file goes with us");
    }

    #[test]
    fn what_is_no_socket_is_never_removed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        fs::write(&path, "precious").unwrap();
        assert!(matches!(
            bind_at(&path, 0o600),
            Err(BindError::Foreign { .. })
        ));
        assert_eq!(fs::read(&path).unwrap(), b"precious");
    }

    #[test]
    fn a_socket_of_another_user_is_never_removed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        drop(UnixListener::bind(&path).unwrap());
        // Only root can give a file away; for others the same claim holds of a socket that is theirs alone.
        let given_away = std::os::unix::fs::lchown(&path, Some(12_345), None).is_ok();
        let outcome = bind_at(&path, 0o600);
        if given_away {
            assert!(matches!(outcome, Err(BindError::Foreign { .. })));
            assert!(path.exists());
        } else {
            assert!(outcome.is_ok());
        }
    }

    #[test]
    fn a_successors_socket_survives_our_end() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        let bound = bind_at(&path, 0o600).unwrap();
        fs::remove_file(&path).unwrap();
        let _successor = UnixListener::bind(&path).unwrap();
        drop(bound);
        assert!(path.exists());
    }

    #[test]
    fn an_adopted_listener_asks_for_credentials_and_keeps_its_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        let bound = adopt(UnixListener::bind(&path).unwrap()).unwrap();
        assert!(rustix::net::sockopt::socket_passcred(&bound.listener).unwrap());
        drop(bound);
        assert!(path.exists());
    }
}
