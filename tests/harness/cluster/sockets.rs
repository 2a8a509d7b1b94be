//! Whose connection it is: the kernel's tables name a connection's inode, and each process the inodes that it holds.

use std::net::{SocketAddr, SocketAddrV4};
use std::path::Path;

/// Which of these processes holds the end `local` of the connection from `local` to `remote`.
///
/// Only processes of our own user can be asked; those that are gone hold nothing.
pub(super) fn holder(local: SocketAddr, remote: SocketAddr, processes: &[u32]) -> Option<usize> {
    let (SocketAddr::V4(local), SocketAddr::V4(remote)) = (local, remote) else {
        return None;
    };
    let table = std::fs::read_to_string("/proc/net/tcp").ok()?;
    let inode = inode(&table, local, remote)?;
    processes.iter().position(|id| holds(*id, inode))
}

/// The inode of a connection, from the text of `/proc/net/tcp`.
fn inode(table: &str, local: SocketAddrV4, remote: SocketAddrV4) -> Option<u64> {
    let (local, remote) = (written(local), written(remote));
    table.lines().find_map(|line| {
        let mut fields = line.split_ascii_whitespace().skip(1);
        let here = fields.next()? == local && fields.next()? == remote;
        // Then state, queues, timer, retransmissions, uid and timeout.
        here.then(|| fields.nth(6)?.parse().ok())?
    })
}

/// An address as the table has it: its bytes in the machine's order, then the port.
fn written(address: SocketAddrV4) -> String {
    let mut bytes = address.ip().octets();
    if cfg!(target_endian = "little") {
        bytes.reverse();
    }
    let digits: String = bytes.iter().map(|byte| format!("{byte:02X}")).collect();
    format!("{digits}:{:04X}", address.port())
}

fn holds(process: u32, inode: u64) -> bool {
    let socket = format!("socket:[{inode}]");
    let Ok(descriptors) = std::fs::read_dir(format!("/proc/{process}/fd")) else {
        return false;
    };
    descriptors.flatten().any(|descriptor| {
        std::fs::read_link(descriptor.path()).is_ok_and(|to| to == Path::new(&socket))
    })
}
