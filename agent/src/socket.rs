//! Unix sockets of the daemon: bound without a moment at which their mode is wrong, or taken over from systemd.

pub mod descriptors;

use std::{
    fs::{self, DirBuilder, Permissions},
    io,
    os::{
        fd::{AsFd, OwnedFd},
        unix::{
            fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt, chown},
            net::{UnixListener, UnixStream},
        },
    },
    path::{Path, PathBuf},
    sync::Arc,
};

use rustix::{
    fs::{Mode, fchmod},
    net::{
        AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, listen, socket_with,
        sockopt::set_socket_passcred,
    },
};

/// Connections that the kernel keeps while nobody accepts; `net.core.somaxconn` may lower it.
const BACKLOG: i32 = 4096;

/// A workload socket that listens, and how it goes.
pub struct BoundSocket {
    /// The listener, with `SO_PASSCRED` set, so that accepted connections have it from their first byte.
    pub listener: UnixListener,
    /// Removes the file with the last of those that share it, if this process made it.
    _file: Option<Arc<OwnFile>>,
}

impl BoundSocket {
    /// The same socket once more: connections wait in it while nobody accepts.
    ///
    /// # Errors
    /// If no descriptor can be had.
    pub fn share(&self) -> io::Result<Self> {
        Ok(Self {
            listener: self.listener.try_clone()?,
            _file: self._file.clone(),
        })
    }
}

/// Why there is no socket.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// The kernel does not take the path.
    #[error("cannot bind {path}: {source}; its folder must exist and be writable")]
    Bind {
        /// The socket.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The folder is missing and cannot be made.
    #[error("cannot make {folder}: {source}")]
    Folder {
        /// The folder.
        folder: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Something else than a socket of our own is there.
    #[error("{path} is not a socket of this user; remove it, or configure another path")]
    Foreign {
        /// The path.
        path: PathBuf,
    },
    /// Somebody answers there.
    #[error("{path} is in use by another process; stop it, or configure another path")]
    InUse {
        /// The path.
        path: PathBuf,
    },
    /// Another system call failed.
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

/// Binds the workload socket at `path` with `mode`.
///
/// A missing folder is made with mode 0755; modes of existing ones are left alone. A dead socket of our own user is
/// removed; anything else that is there is an error.
///
/// # Errors
/// If the path is taken or cannot be bound.
pub fn bind_workload(path: &Path, mode: u32) -> Result<BoundSocket, BindError> {
    make_folder(path)?;
    let socket = bind_private(path)?;
    let file = OwnFile::of(path)?;
    set_mode(path, mode & 0o777)?;
    ask_for_credentials(&socket, path)?;
    Ok(BoundSocket {
        listener: listening(socket, path)?,
        _file: Some(Arc::new(file)),
    })
}

/// Binds the admin socket at `path`, of mode 0600, or 0660 where a group may use it. A dead one of ours in its place is
/// removed.
///
/// # Errors
/// If something else is there, or the kernel refuses.
pub fn bind_admin(path: &Path, group: Option<u32>) -> Result<UnixListener, BindError> {
    let socket = bind_private(path)?;
    if let Some(group) = group {
        let found = fs::symlink_metadata(path).map_err(system("look at", path))?;
        // Where it is our own group already, the right to change it is not needed.
        if found.gid() != group {
            chown(path, None, Some(group)).map_err(system("give a group", path))?;
        }
        set_mode(path, 0o660)?;
    }
    listening(socket, path)
}

/// Takes over a socket that somebody else bound and will remove: systemd's.
///
/// # Errors
/// If it refuses `SO_PASSCRED`.
pub fn adopt(listener: UnixListener) -> Result<BoundSocket, BindError> {
    ask_for_credentials(&listener, Path::new("the socket that was passed in"))?;
    Ok(BoundSocket {
        listener,
        _file: None,
    })
}

/// A socket at `path` that nobody but its owner may connect to, and that does not listen yet: its mode can be widened
/// before, so that nobody connects under another mode than the configured one.
fn bind_private(path: &Path) -> Result<OwnedFd, BindError> {
    remove_dead(path)?;
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)
        .map_err(system("make a socket for", path))?;
    // The file takes the mode of the socket's own inode, less the umask, at the moment it appears.
    fchmod(&socket, Mode::from_raw_mode(0o600)).map_err(system("set the mode of", path))?;
    let address = SocketAddrUnix::new(path).map_err(system("name a socket", path))?;
    bind(&socket, &address).map_err(|error| BindError::Bind {
        path: path.to_owned(),
        source: error.into(),
    })?;
    Ok(socket)
}

fn set_mode(path: &Path, mode: u32) -> Result<(), BindError> {
    fs::set_permissions(path, Permissions::from_mode(mode)).map_err(system("set the mode of", path))
}

fn ask_for_credentials(socket: impl AsFd, path: &Path) -> Result<(), BindError> {
    set_socket_passcred(socket, true).map_err(system("ask for credentials on", path))
}

fn listening(socket: OwnedFd, path: &Path) -> Result<UnixListener, BindError> {
    listen(&socket, BACKLOG).map_err(system("listen on", path))?;
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

fn system<E: Into<io::Error>>(what: &'static str, path: &Path) -> impl FnOnce(E) -> BindError {
    let path = path.to_owned();
    move |error| BindError::System {
        what,
        path,
        source: error.into(),
    }
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
            let _bound = bind_workload(&path, mode).unwrap();
            assert_eq!(mode_of(&path), mode);
            UnixStream::connect(&path).unwrap();
        }
    }

    #[test]
    fn missing_folders_are_made_and_modes_of_existing_ones_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), Permissions::from_mode(0o710)).unwrap();
        let path = folder.path().join("run/holdover/holdover.sock");
        let _bound = bind_workload(&path, 0o666).unwrap();
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
        let bound = bind_workload(&path, 0o600).unwrap();
        assert!(matches!(
            bind_workload(&path, 0o600),
            Err(BindError::InUse { .. })
        ));
        drop(bound);
        assert!(!path.exists(), "our own file goes with us");
    }

    #[test]
    fn what_is_not_a_socket_is_never_removed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        fs::write(&path, "precious").unwrap();
        assert!(matches!(
            bind_workload(&path, 0o600),
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
        let outcome = bind_workload(&path, 0o600);
        if given_away {
            assert!(matches!(outcome, Err(BindError::Foreign { .. })));
            assert!(path.exists());
        } else {
            assert!(outcome.is_ok());
        }
    }

    #[test]
    fn the_admin_socket_is_its_owner_s_or_a_group_s_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("admin.sock");
        let held = bind_admin(&path, None).unwrap();
        assert_eq!(mode_of(&path), 0o600);
        let taken = bind_admin(&path, None);
        assert!(matches!(taken, Err(BindError::InUse { .. })));
        drop(held);
        let group = fs::symlink_metadata(&path).unwrap().gid();
        drop(bind_admin(&path, Some(group)).expect("a dead socket is replaced"));
        assert_eq!(mode_of(&path), 0o660);
        let nowhere = bind_admin(&folder.path().join("no/admin.sock"), None);
        assert!(matches!(nowhere, Err(BindError::Bind { .. })));
    }

    #[test]
    fn a_successors_socket_survives_our_end() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        let bound = bind_workload(&path, 0o600).unwrap();
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
