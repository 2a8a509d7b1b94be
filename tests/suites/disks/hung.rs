//! A filesystem that answers nothing, as one over a network whose server went: what lies on it is named, nothing else waits for it,
//! and what is put in its place is taken up.

use std::ffi::OsString;
use std::path::Path;
use std::time::Duration;

use harness::client::raw::Ask;
use harness::daemon::Daemon;
use harness::host::{Host, Plan};
use harness::process::{Launch, Process};
use harness::{Failure, Result, eventually, place};

use crate::HOLDOVER;

const BOUND: Duration = Duration::from_secs(30);

/// Told to stop, it ends in order within this.
const STOP: Duration = Duration::from_secs(16);

/// Mounts a filesystem whose server takes in no question, over the folder that is named.
const HANG: &str = "exec 7<>/dev/fuse && \
                    mount -i -t fuse -o fd=7,rootmode=40000,user_id=0,group_id=0,allow_other far \"$0\" && \
                    echo up && exec sleep 3600";

const ADVICE: &str = "this needs /dev/fuse, and leave to use it";

/// The server. What it serves hangs as long as this is there.
struct Hung(#[expect(dead_code, reason = "it ends with this")] Process);

impl Hung {
    /// Has everything in `folder` hang, for the daemon, which must have mounts of its own.
    async fn over(daemon: &Daemon, folder: &Path) -> Result<Hung> {
        let log = daemon.folder().join("far.log");
        let mut launch = Launch::new("far", Path::new("/bin/sh"), &log).args(["-c", HANG]);
        launch.within = mounts_of(daemon)?;
        let server = launch.args([folder]).start()?;
        let up = eventually(BOUND, ADVICE, async || {
            match std::fs::read_to_string(&log) {
                Ok(said) if said.contains("up") => Ok(()),
                said => Err(format!("{said:?}")),
            }
        });
        up.await.map(|()| Hung(server))
    }
}

/// What enters the daemon's mounts.
fn mounts_of(daemon: &Daemon) -> Result<Vec<OsString>> {
    let target = daemon.id()?.to_string();
    let mut enter = vec!["nsenter", "--target", &target, "--mount"];
    if !place::is_root() {
        enter.extend(["--user", "--preserve-credentials"]);
    }
    enter.push("--");
    Ok(enter.into_iter().map(OsString::from).collect())
}

/// Takes away what is mounted over `folder`, though it does not answer.
async fn uncover(daemon: &Daemon, folder: &Path) -> Result<()> {
    let log = daemon.folder().join("far.log");
    let mut launch = Launch::new("umount", Path::new("umount"), &log);
    launch.within = mounts_of(daemon)?;
    let launch = launch.args(["-i", "-l", "-c"]).args([folder]);
    launch.output(b"", BOUND).await?.success().map(drop)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_credential_that_hangs_is_named_and_what_comes_in_its_place_is_taken_up() -> Result<()> {
    let mut host = Plan::new(HOLDOVER).prepare().await?;
    let etc = host.daemon.folder().join("etc");
    let far = etc.join("far");
    std::fs::create_dir(&far)?;
    let role_id = far.join("role_id");
    std::fs::rename(etc.join("role_id"), &role_id)?;
    host.reconfigure(|config| config.approle(&role_id, &etc.join("secret_id")))?;
    host.daemon.mount("true")?;
    host.start().await?;
    let _hung = Hung::over(&host.daemon, &far).await?;
    told_of(&host.daemon, &role_id, true).await?;
    is_served(&host).await?;
    uncover(&host.daemon, &far).await?;
    told_of(&host.daemon, &role_id, false).await?;
    host.daemon.terminate(STOP).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_configuration_that_hangs_holds_up_neither_what_is_served_nor_a_stop() -> Result<()> {
    let mut host = Plan::new(HOLDOVER).prepare().await?;
    host.daemon.mount("true")?;
    host.start().await?;
    let _hung = Hung::over(&host.daemon, &host.daemon.folder().join("etc")).await?;
    host.daemon.reload()?;
    told_of(&host.daemon, &host.daemon.config_file(), true).await?;
    is_served(&host).await?;
    // And while one is being read.
    host.daemon.reload()?;
    host.daemon.terminate(STOP).await
}

/// Status says of this file that it hangs, or no longer says so.
async fn told_of(daemon: &Daemon, path: &Path, hangs: bool) -> Result<()> {
    let wanted = format!("{}: could not be read within", path.display());
    let told = eventually(BOUND, &wanted, async || {
        let status = daemon.status().await?;
        let told = format!("{} {}", status["reasons"], status["findings"]);
        let is_so = told.contains(&wanted) == hangs;
        is_so.then_some(()).ok_or(Failure::new(told))
    });
    told.await.map_err(|failure| daemon.failure(failure))
}

async fn is_served(host: &Host) -> Result<()> {
    let health = Ask::get("/v1/sys/health");
    assert_eq!(host.daemon.client().send(&health).await?.status, 200);
    assert_eq!(host.daemon.status().await?["state"], "following");
    Ok(())
}
