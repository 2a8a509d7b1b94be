//! Whoever is to take the log, and does not: nothing of Holdover waits for that, and what they missed is counted and told.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::time::Duration;

use harness::client::raw::Ask;
use harness::daemon::Daemon;
use harness::host::{Host, Plan, READY};
use harness::{Failure, Result, eventually};
use rustix::fs::{CWD, FileType, Mode, OFlags, mknodat};

use crate::HOLDOVER;
use crate::rig::{SOON, gauge};

/// Told to stop, it ends in order within this.
const STOP: Duration = Duration::from_secs(16);

/// Has journald's socket be another, in the daemon's mounts.
const OUR_JOURNAL: &str = "mount -t tmpfs none /run; mkdir -p /run/systemd/journal; touch /run/systemd/journal/socket; \
                           mount --bind journal /run/systemd/journal/socket";

/// What takes the log, or does not.
trait Reader {
    /// Takes in what it has room for, so that who writes more has to wait.
    fn fill(&self) -> Result<()>;

    /// Reads what there is.
    fn read(&self) -> Result<String>;
}

/// A pipe in the place of standard error.
struct Pipe(File);

impl Pipe {
    fn at(path: &Path) -> Result<Pipe> {
        mknodat(CWD, path, FileType::Fifo, Mode::from_raw_mode(0o666), 0)?;
        std::fs::set_permissions(path, PermissionsExt::from_mode(0o666))?;
        let flags = OFlags::NONBLOCK.bits().cast_signed();
        let both = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(flags)
            .open(path)?;
        Ok(Pipe(both))
    }
}

impl Reader for Pipe {
    fn fill(&self) -> Result<()> {
        until_it_would_wait(|| (&self.0).write(b"x").map(drop))
    }

    fn read(&self) -> Result<String> {
        let mut all = Vec::new();
        until_it_would_wait(|| {
            let mut piece = vec![0; 1 << 16];
            let read = (&self.0).read(&mut piece)?;
            all.extend(piece.get(..read).unwrap_or_default());
            Ok(())
        })?;
        Ok(String::from_utf8_lossy(&all).into_owned())
    }
}

/// A socket in the place of journald's.
struct Journal {
    path: PathBuf,
    socket: UnixDatagram,
}

impl Journal {
    fn at(path: &Path) -> Result<Journal> {
        let socket = UnixDatagram::bind(path)?;
        socket.set_nonblocking(true)?;
        std::fs::set_permissions(path, PermissionsExt::from_mode(0o666))?;
        let path = path.to_owned();
        Ok(Journal { path, socket })
    }
}

impl Reader for Journal {
    fn fill(&self) -> Result<()> {
        let neighbour = UnixDatagram::unbound()?;
        neighbour.set_nonblocking(true)?;
        until_it_would_wait(|| neighbour.send_to(b"MESSAGE=x\n", &self.path).map(drop))
    }

    fn read(&self) -> Result<String> {
        let mut all = Vec::new();
        until_it_would_wait(|| {
            let mut one = vec![0; 1 << 18];
            let read = self.socket.recv(&mut one)?;
            all.extend(one.get(..read).unwrap_or_default());
            Ok(())
        })?;
        Ok(String::from_utf8_lossy(&all).into_owned())
    }
}

fn until_it_would_wait(mut act: impl FnMut() -> io::Result<()>) -> Result<()> {
    loop {
        match act() {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error.into()),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pipe_that_nobody_reads_holds_nothing_up_and_what_it_missed_is_counted_and_told()
-> Result<()> {
    let mut host = Plan::new(HOLDOVER).prepare().await?;
    let pipe = Pipe::at(&host.daemon.folder().join("errors"))?;
    host.daemon.mount("exec 2>errors")?;
    nothing_waits_for(&mut host, &pipe).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_journald_that_hangs_holds_nothing_up_and_what_it_missed_is_counted_and_told()
-> Result<()> {
    let mut host = Plan::new(HOLDOVER).prepare().await?;
    let journal = Journal::at(&host.daemon.folder().join("journal"))?;
    host.daemon.mount(OUR_JOURNAL)?;
    let errors = host.daemon.log().metadata()?;
    let stream = format!("{}:{}", errors.dev(), errors.ino());
    host.daemon.set_env("JOURNAL_STREAM", stream);
    nothing_waits_for(&mut host, &journal).await
}

/// Neither a start, nor what is served, nor a stop.
async fn nothing_waits_for(host: &mut Host, reader: &impl Reader) -> Result<()> {
    reader.fill()?;
    host.start().await?;
    flood(host).await?;
    is_served(&host.daemon).await?;
    let mut said = String::new();
    let told = eventually(SOON, "the number of lines to be told", async || {
        said += &reader.read()?;
        let is_told = said.contains("lines of the log were dropped");
        is_told.then_some(()).ok_or(Failure::new("it is not"))
    });
    told.await?;
    reader.fill()?;
    host.daemon.wait_ready(READY).await?;
    host.daemon.terminate(STOP).await
}

/// Has it log more than it has room for: mistakes in the configuration, each with its line.
async fn flood(host: &Host) -> Result<()> {
    host.reconfigure(|config| {
        (0..400).fold(config, |config, nr| {
            config.set(&format!("failover.no{nr}"), nr)
        })
    })?;
    let flooded = eventually(SOON, "lines to be dropped", async || {
        host.daemon.reload()?;
        match gauge(host, "holdover_log_dropped_lines_total").await? {
            0 => Err(Failure::new("none is")),
            _ => Ok(()),
        }
    });
    flooded.await
}

async fn is_served(daemon: &Daemon) -> Result<()> {
    let health = Ask::get("/v1/sys/health");
    let answered = daemon.client().send(&health).await?;
    assert_eq!(answered.status, 200, "{}", answered.text());
    let status = daemon.status().await?;
    assert_eq!(status["state"], "following", "{status}");
    Ok(())
}
