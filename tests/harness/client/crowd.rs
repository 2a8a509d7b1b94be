//! Many connections at once that do nothing good: from a process in a user namespace of its own, so that no entry matches it
//! whoever runs the tests.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use crate::failure::{Context, Failure, Result};
use crate::place::Room;
use crate::process::{Launch, Process, end};
use nix::sys::signal::Signal;

/// The first argument of a process that is a crowd.
pub const WORD: &str = "crowd";

/// After a connection ended, until there is another one in its place.
const AGAIN: Duration = Duration::from_millis(200);

/// What each of a crowd does.
pub struct Habit {
    /// How many there are.
    pub connections: usize,
    /// What each sends.
    pub says: Vec<u8>,
    /// Whether it reads what it is answered.
    pub listens: bool,
}

/// A crowd, which stays until it is dropped. Whoever of it is turned away comes again.
pub struct Crowd {
    process: Process,
    _room: Room,
}

impl Crowd {
    /// Sends a crowd to this socket. `executable` is a program that calls [`perform`] where [`WORD`] comes first.
    ///
    /// # Errors
    /// If the kernel allows no user namespaces.
    pub async fn gather(executable: &Path, socket: &Path, habit: &Habit) -> Result<Crowd> {
        let room = Room::make()?;
        let executable = room.executable("holdover-test-client", executable)?;
        let says = room.join("says");
        std::fs::write(&says, &habit.says)?;
        let unshare = Path::new("/usr/bin/unshare");
        let launch = Launch::new("crowd", unshare, &room.join("log"));
        Self::may_have_a_namespace(unshare, &room.join("probe")).await?;
        let launch = launch
            .args(["--user", "--map-root-user"])
            .args([executable.into_os_string(), WORD.into()])
            .args([socket.as_os_str(), says.as_os_str()])
            .args([habit.connections.to_string(), habit.listens.to_string()]);
        Ok(Crowd {
            process: launch.start()?,
            _room: room,
        })
    }

    async fn may_have_a_namespace(unshare: &Path, log: &Path) -> Result<()> {
        let probe =
            Launch::new("unshare", unshare, log).args(["--user", "--map-root-user", "true"]);
        let made = probe.output(&[], Duration::from_secs(10)).await?;
        made.success().map(drop).context(
            "these tests need user namespaces: set kernel.unprivileged_userns_clone = 1 (and \
             kernel.apparmor_restrict_unprivileged_userns = 0)",
        )
    }

    /// Whether it is still there.
    pub fn is_there(&self) -> bool {
        self.process.running()
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        end(&self.process, Signal::SIGKILL, Duration::from_secs(5));
    }
}

/// The crowd's own process, with the arguments after [`WORD`]. Never ends by itself.
///
/// # Errors
/// If they are not those of [`Crowd::gather`].
pub fn perform(args: &[String]) -> Result<()> {
    let [socket, says, connections, listens] = args else {
        return Err(Failure::new(
            "a crowd needs a socket, words, a number, and a habit",
        ));
    };
    let (socket, says) = (PathBuf::from(socket), std::fs::read(says)?);
    let (connections, listens) = (connections.parse::<usize>()?, listens.parse::<bool>()?);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let says: &'static [u8] = says.leak();
    runtime.block_on(async move {
        for _ in 0..connections {
            tokio::spawn(sit(socket.clone(), says, listens));
        }
        std::future::pending::<()>().await;
    });
    Ok(())
}

async fn sit(socket: PathBuf, says: &'static [u8], listens: bool) {
    loop {
        // What comes of one does not matter: there is another one.
        let _ = once(&socket, says, listens).await;
        tokio::time::sleep(AGAIN).await;
    }
}

async fn once(socket: &Path, says: &[u8], listens: bool) -> std::io::Result<()> {
    let mut stream = UnixStream::connect(socket).await?;
    stream.write_all(says).await?;
    if !listens {
        std::future::pending::<()>().await;
    }
    let mut heard = [0; 4096];
    while stream.read(&mut heard).await? > 0 {}
    Ok(())
}
