//! The groups of a connection's peer, as the kernel kept them when it connected.
//!
//! `/proc` shows the groups that a process has now: an exec of a program with privileges would lend it that program's. The
//! kernel keeps those of the moment, but neither rustix nor nix has the call (`SO_PEERGROUPS`), so that this file is the one
//! place with `unsafe`.

use std::{
    io,
    os::fd::{AsRawFd, BorrowedFd},
};

use libc::{gid_t, socklen_t};
use nix::errno::Errno;

/// Groups that are asked for at first: nearly nobody has more.
const USUAL: usize = 64;

/// The most groups that Linux gives a process (`NGROUPS_MAX`).
const MOST: usize = 65_536;

/// The supplementary groups that the peer had when it connected, at most [`MOST`].
///
/// # Errors
/// If the socket has no peer, or the kernel does not know the call (before Linux 4.13).
pub(super) fn peer_groups(socket: BorrowedFd<'_>) -> io::Result<Vec<gid_t>> {
    match read(socket, USUAL) {
        Err(Errno::ERANGE) => Ok(read(socket, MOST)?),
        read => Ok(read?),
    }
}

/// The groups, if they are no more than `most`.
#[expect(unsafe_code, reason = "no crate has SO_PEERGROUPS")]
fn read(socket: BorrowedFd<'_>, most: usize) -> Result<Vec<gid_t>, Errno> {
    let mut groups: Vec<gid_t> = vec![0; most];
    let room = size_of_val(groups.as_slice());
    let mut length = socklen_t::try_from(room).map_err(|_| Errno::EINVAL)?;
    // SAFETY: The descriptor is open as long as `socket` is borrowed. The kernel writes to `groups` no more than the `length`
    // bytes that it is told, all of which are in that initialised and exclusively borrowed buffer, and any of them make
    // group ids; to `length`, which is exclusively borrowed too, it writes how many they were. It keeps neither pointer.
    let said = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEERGROUPS,
            groups.as_mut_ptr().cast(),
            &raw mut length,
        )
    };
    Errno::result(said)?;
    let length = usize::try_from(length).map_err(|_| Errno::EINVAL)?;
    groups.truncate(length / size_of::<gid_t>());
    Ok(groups)
}

#[cfg(test)]
mod tests {
    use std::os::{fd::AsFd, unix::net::UnixStream};

    use rustix::{
        process::{Gid, getgroups},
        thread::set_thread_groups,
    };

    use super::*;

    #[test]
    fn they_are_this_processs_own() {
        let (one, _other) = UnixStream::pair().unwrap();
        let own: Vec<gid_t> = getgroups().unwrap().into_iter().map(Gid::as_raw).collect();
        assert_eq!(peer_groups(one.as_fd()).unwrap(), own);
    }

    #[test]
    fn they_are_those_of_the_connection_however_many_and_whatever_the_peer_has_since() {
        let many: Vec<Gid> = (0..3 * 64).map(|nr| Gid::from_raw(70_000 + nr)).collect();
        for groups in [&many[..1], &many[..64], &many[..]] {
            // The groups of this thread alone are changed; only root may.
            if set_thread_groups(groups).is_err() {
                assert!(!rustix::process::geteuid().is_root());
                return;
            }
            let (one, _other) = UnixStream::pair().unwrap();
            set_thread_groups(&[]).unwrap();
            let connected_with: Vec<gid_t> = groups.iter().map(|gid| gid.as_raw()).collect();
            assert_eq!(peer_groups(one.as_fd()).unwrap(), connected_with);
        }
    }

    #[test]
    fn what_is_no_connection_has_none() {
        let file = tempfile::tempfile().unwrap();
        assert!(peer_groups(file.as_fd()).is_err());
    }
}
