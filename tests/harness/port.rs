//! TCP ports on loopback that stay ours while a server is down.

use std::fs::File;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;

use rustix::fs::{FlockOperation, flock};

use crate::failure::{Context, Failure, Result};
use crate::random;

/// A port reserved among all harness processes of this machine until it is dropped.
///
/// Its server can be killed and started again: it is below the range from which the kernel gives ports to
/// connections, and a lock keeps other tests off it.
pub struct Port {
    number: u16,
    _lock: File,
}

impl Port {
    /// Reserves a free one, at random.
    pub fn reserve() -> Result<Port> {
        (0..200)
            .find_map(|_| Port::try_reserve().transpose())
            .context("no free port on loopback after 200 attempts")?
    }

    /// Its number.
    pub fn number(&self) -> u16 {
        self.number
    }

    fn try_reserve() -> Result<Option<Port>> {
        const FIRST: u16 = 12_000;
        const COUNT: u32 = 20_000;
        let offset = u16::try_from(random::below(COUNT)?).unwrap_or_default();
        let number = FIRST + offset;
        let uid = rustix::process::geteuid().as_raw();
        let folder = std::env::temp_dir().join(format!("holdover-ports-{uid}"));
        std::fs::create_dir_all(&folder).context(folder.display())?;
        let _ = std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o700));
        let lock = File::create(folder.join(number.to_string()))
            .context(format!("port lock in {}", folder.display()))?;
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => return Ok(None),
            Err(error) => return Err(Failure::from(error)),
        }
        let free = TcpListener::bind(("127.0.0.1", number)).is_ok();
        Ok(free.then_some(Port {
            number,
            _lock: lock,
        }))
    }
}
