//! A disk that is full, or that must not be written to: reads go on, nothing is issued, what was acknowledged as revoked stays
//! so over restarts, and all goes on by itself once the disk is well.
//!
//! The replica lies on a small filesystem in memory that only Holdover and its clients see.

use std::path::{Path, PathBuf};
use std::time::Duration;

use harness::apart::Apart;
use harness::client::raw::{Ask, Reply};
use harness::client::visitor::Visitor;
use harness::clock;
use harness::daemon::config::Workload;
use harness::host::{Host, Login, Plan, RECOVERY, login_request};
use harness::{Result, eventually};
use serde_json::{Value, json};

use crate::{CLIENT, HOLDOVER};

const BOUND: Duration = Duration::from_secs(30);
pub(crate) const FULL: &str = "the disk is full since ";
const READ_ONLY: &str = "it may not be written to since ";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_a_full_disk_revocations_last_over_kills_and_all_goes_on_once_there_is_room()
-> Result<()> {
    let disk = Disk::start().await?;
    let host = &disk.host;
    host.cut().await?;
    let (first, second, kept) = (
        disk.login().await?,
        disk.login().await?,
        disk.login().await?,
    );
    disk.fill().await?;
    disk.refuses(FULL).await?;
    disk.revoke(&first).await?;
    assert_eq!(disk.reads(&first).await?.status, 403);
    assert_eq!(disk.reads(&kept).await?.status, 200);
    disk.restart().await?;
    assert_eq!(disk.reads(&first).await?.status, 403, "it came back");
    assert_eq!(disk.reads(&kept).await?.status, 200);
    disk.refuses(FULL).await?;
    let itself = Ask::post("/v1/auth/token/revoke-self", &json!({})).token(&second.token)?;
    let itself = disk.ask(&itself).await?;
    assert_eq!(itself.status, 204, "{}", itself.text());
    disk.restart().await?;
    for revoked in [&first, &second] {
        assert_eq!(disk.reads(revoked).await?.status, 403, "it came back");
    }
    disk.free().await?;
    disk.issues().await?;
    host.daemon
        .wait_for("the reason to go", BOUND, |status| {
            !reasons(status).contains(FULL)
        })
        .await?;
    host.restore().await?;
    assert_eq!(disk.until_settled(&kept).await?, 200);
    host.cut().await?;
    disk.restart().await?;
    for revoked in [&first, &second] {
        assert_eq!(disk.reads(revoked).await?.status, 403, "it came back");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_outage_ends_on_a_full_disk_too() -> Result<()> {
    let disk = Disk::start().await?;
    let host = &disk.host;
    host.cut().await?;
    disk.fill().await?;
    disk.refuses(FULL).await?;
    host.restore().await?;
    disk.restart_to("following").await?;
    disk.free().await?;
    disk.issues().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_in_the_log_alone_counts_on_a_read_only_mount_and_the_start_is_made_up_for()
-> Result<()> {
    let disk = Disk::start().await?;
    disk.host.cut().await?;
    let (first, second, kept) = (
        disk.login().await?,
        disk.login().await?,
        disk.login().await?,
    );
    disk.revoke(&first).await?;
    disk.host.daemon.kill9()?;
    let log = disk.on("stat -c %s replica.db-wal").await?;
    assert_ne!(log.trim(), "0", "nothing is in the log alone");
    disk.remount("ro").await?;
    disk.start_again("holdover").await?;
    assert_eq!(disk.reads(&first).await?.status, 403, "it came back");
    assert_eq!(disk.reads(&kept).await?.status, 200);
    disk.refuses(READ_ONLY).await?;
    let told = disk.try_revoke(&second).await?;
    assert_eq!(told.status, 503, "{}", told.text());
    assert_eq!(disk.reads(&second).await?.status, 403);
    disk.remount("rw").await?;
    disk.issues().await?;
    disk.restart().await?;
    for revoked in [&first, &second] {
        assert_eq!(disk.reads(revoked).await?.status, 403, "it came back");
    }
    assert_eq!(disk.reads(&kept).await?.status, 200);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_replica_and_a_place_for_one_forwards_are_served_and_it_is_made_once_there_is()
-> Result<()> {
    let disk = Disk::prepare("size=80m,mode=0700,ro").await?;
    let daemon = &disk.host.daemon;
    daemon.start()?;
    daemon
        .wait_for("a reason", BOUND, |status| {
            reasons(status).contains(READ_ONLY)
        })
        .await?;
    let health = disk.ask(&Ask::get("/v1/sys/health")).await?;
    assert_eq!((health.status, health.source()), (200, Some("primary")));
    disk.remount("rw").await?;
    daemon.wait_ready(BOUND).await?;
    disk.host.cut().await?;
    disk.issues().await
}

/// What was found by the attempt that opened it is told by the daemon that goes on with it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_replica_on_a_full_disk_is_left_as_it_is_until_there_is_room_for_another()
-> Result<()> {
    let disk = Disk::start().await?;
    let daemon = &disk.host.daemon;
    disk.host.cut().await?;
    let (issued, revoked) = (disk.login().await?, disk.login().await?);
    disk.revoke(&revoked).await?;
    daemon.terminate(BOUND).await?;
    disk.on("dd if=/dev/zero of=replica.db bs=4096 count=1 conv=notrunc 2>&1")
        .await?;
    let damaged = disk.on("sha256sum replica.db").await?;
    disk.fill().await?;
    daemon.start()?;
    daemon
        .wait_for("a reason", BOUND, |status| {
            reasons(status).contains("there is no room on its filesystem")
        })
        .await?;
    assert_eq!(disk.reads(&issued).await?.status, 503);
    assert_eq!(disk.on("sha256sum replica.db").await?, damaged);
    assert_eq!(disk.on("ls | grep -c replica.db").await?.trim(), "3");
    disk.free().await?;
    eventually(BOUND, "the replica", async || {
        let reply = disk.reads(&issued).await?;
        match reply.status {
            200 => Ok(()),
            _ => Err(harness::Failure::new(reply.text())),
        }
    })
    .await?;
    assert_eq!(disk.reads(&revoked).await?.status, 403);
    let status = daemon.wait_for("its status", BOUND, |_| true).await?;
    let findings = status["findings"].to_string();
    assert!(findings.contains("was brought into a new file"), "{status}");
    let kept = disk.on("sha256sum < replica.db.damaged-1").await?;
    assert_eq!(kept.split(' ').next(), damaged.split(' ').next());
    disk.issues().await
}

/// A host whose replica and state file are on a filesystem of their own, and a process of the workload on it.
pub(crate) struct Disk {
    pub(crate) host: Host,
    client: Visitor,
    apart: Apart,
    state: PathBuf,
}

impl Disk {
    /// Starts all of it, and waits until Holdover is ready, for which it takes so much room.
    async fn start() -> Result<Disk> {
        let mut disk = Disk::prepare("size=80m,mode=0700").await?;
        disk.host.start().await?;
        Ok(disk)
    }

    /// Everything but Holdover's start, on a disk with these options.
    pub(crate) async fn prepare(options: &str) -> Result<Disk> {
        let apart = Apart::make().await?;
        // Where it runs, we are root.
        let orders = Workload::new("orders", "orders").uid(0).issues("1h", "2h");
        let plan = Plan::new(HOLDOVER).workload(orders).as_ourselves();
        let host = plan.prepare().await?;
        let state = host.daemon.folder().join("state");
        let anchor = state.join("anchor/generation").display().to_string();
        host.reconfigure(|config| config.set("replica.anchor", anchor))?;
        host.daemon.run_within(&apart)?;
        let at = state.display().to_string();
        apart
            .run("mount", &["-t", "tmpfs", "-o", options, "tmpfs", &at])
            .await?;
        let client = Visitor::within(Path::new(CLIENT), &apart)?;
        Ok(Disk {
            host,
            client,
            apart,
            state,
        })
    }

    /// Runs a shell command on the disk.
    async fn on(&self, command: &str) -> Result<String> {
        let command = format!("cd {} && {command}", self.state.display());
        self.apart.run("sh", &["-c", &command]).await
    }

    /// Takes every byte that is free, and again where some were given back since.
    pub(crate) async fn fill(&self) -> Result<()> {
        let all = "for size in 1M 4k; do dd if=/dev/zero of=filler.$size bs=$size oflag=append conv=notrunc 2>&1; done; true";
        self.on(all).await.map(drop)
    }

    pub(crate) async fn free(&self) -> Result<()> {
        self.on("rm filler.*").await.map(drop)
    }

    async fn remount(&self, how: &str) -> Result<()> {
        let (how, at) = (format!("remount,{how}"), self.state.display().to_string());
        self.apart.run("mount", &["-o", &how, &at]).await.map(drop)
    }

    async fn restart(&self) -> Result<()> {
        self.restart_to("holdover").await
    }

    pub(crate) async fn restart_to(&self, state: &str) -> Result<()> {
        self.host.daemon.kill9()?;
        self.start_again(state).await
    }

    async fn start_again(&self, state: &str) -> Result<()> {
        self.host.daemon.start()?;
        self.host.daemon.wait_state(state, BOUND).await.map(drop)
    }

    async fn ask(&self, ask: &Ask) -> Result<Reply> {
        let socket = self.host.daemon.socket();
        self.client.send(&socket, ask, BOUND).await
    }

    async fn login(&self) -> Result<Login> {
        let asked = clock::instant();
        Login::of(&self.ask(&login_request("orders")).await?, asked)
    }

    /// Waits until a login is answered with a token.
    pub(crate) async fn issues(&self) -> Result<()> {
        let issued = eventually(BOUND, "a login", async || self.login().await);
        issued
            .await
            .map(drop)
            .map_err(|failure| self.host.daemon.failure(failure))
    }

    /// Waits until logins are refused for this reason, which status tells too.
    async fn refuses(&self, why: &str) -> Result<()> {
        let refused = eventually(BOUND, why, async || {
            let said = self.ask(&login_request("orders")).await?;
            let status = self.host.daemon.status().await?;
            let told = said.status == 503 && said.text().contains(why);
            match told && status["ready"] == false && reasons(&status).contains(why) {
                true => Ok(()),
                false => Err(self
                    .host
                    .daemon
                    .failure(format!("{}: {}", said.status, said.text()))),
            }
        });
        refused.await
    }

    /// Reads a mirrored secret.
    async fn reads(&self, login: &Login) -> Result<Reply> {
        let (path, _) = self.host.secret("orders")?;
        let ask = Ask::get(&format!("/v1/{path}")).token(&login.token)?;
        self.ask(&ask).await
    }

    /// The status of a read once the primary answers it.
    async fn until_settled(&self, login: &Login) -> Result<u16> {
        eventually(RECOVERY, "the primary's answer", async || {
            let reply = self.reads(login).await?;
            match reply.source() {
                Some("primary") => Ok(reply.status),
                _ => Err(harness::Failure::new(reply.text())),
            }
        })
        .await
    }

    async fn revoke(&self, login: &Login) -> Result<()> {
        let reply = self.try_revoke(login).await?;
        assert_eq!(reply.status, 200, "{}", reply.text());
        Ok(())
    }

    /// An operator's revocation.
    async fn try_revoke(&self, login: &Login) -> Result<Reply> {
        let what = json!({ "accessor": login.accessor });
        let ask = Ask::post("/v1/grants/revoke", &what);
        self.host.daemon.admin(&ask).await
    }
}

fn reasons(status: &Value) -> String {
    status["reasons"].to_string()
}
