//! What every start is a copy of: a host that followed, mirrored and was killed; and the same some time before that.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use harness::daemon::Daemon;
use harness::daemon::config::{Config, Workload};
use harness::host::{Host, Plan, own_uid};
use harness::place::Room;
use harness::world;
use harness::{Context, Failure, Result, clock, eventually};
use serde_json::json;

use crate::HOLDOVER;

/// A workload that logs in.
pub(crate) const WORKLOAD: &str = "orders";

/// How long the original may take for what it has to do.
const BOUND: Duration = Duration::from_secs(60);

/// The secret that is asked for.
pub(crate) const SECRET: &str = "secret/data/shop/orders/item-0000";

/// A host that was killed.
pub(crate) struct Original {
    pub(crate) host: Host,
    /// A token that the replica knows.
    pub(crate) token: String,
    /// What the secret held when it was older, and what it holds.
    pub(crate) passwords: [String; 2],
    older: Room,
}

impl Original {
    pub(crate) async fn make() -> Result<Original> {
        let plan = Plan::new(HOLDOVER).secrets(2).workload(
            Workload::new(WORKLOAD, WORKLOAD)
                .uid(own_uid())
                .issues("15m", "2h"),
        );
        let host = plan.start().await?;
        let token = world::token(&host.primary.root(), WORKLOAD).await?;
        host.read(SECRET, &token).await?;
        host.until_learned(&token).await?;
        let before = password(&host, &token).await?;
        // Killed, as every time: what was committed last is beside the file, not in it.
        host.daemon.kill9()?;
        let older = Room::make()?;
        copy(host.daemon.folder(), older.path())?;
        host.daemon.start()?;
        host.daemon.wait_ready(BOUND).await?;
        let after = "a newer password".to_owned();
        let body = json!({ "data": { "password": after } });
        host.primary.root().write(SECRET, &body).await?;
        let written = clock::instant();
        eventually(BOUND, "the new value in the replica", async || {
            passed(&host, written).await
        })
        .await?;
        host.daemon.kill9()?;
        Ok(Original {
            host,
            token,
            passwords: [before, after],
            older,
        })
    }

    /// Its folder, as it is or as it was.
    pub(crate) fn folder(&self, stale: bool) -> &Path {
        match stale {
            true => self.older.path(),
            false => self.host.daemon.folder(),
        }
    }

    /// The configuration for a copy.
    pub(crate) fn config(&self, daemon: &Daemon, address: String) -> Config {
        let etc = daemon.folder().join("etc");
        let orders = Workload::new(WORKLOAD, WORKLOAD)
            .uid(own_uid())
            .issues("15m", "2h");
        daemon
            .base_config()
            .primary(&[address], Some(self.host.primary.ca_file()))
            .approle(&etc.join("role_id"), &etc.join("secret_id"))
            .mirror("secret/data/shop/*", &[("interval", "1s".into())])
            .workload(orders)
            .set("failover.failures", 1)
            .set("failover.successes", 1)
            .set("failover.probe_interval", "1s")
    }
}

async fn password(host: &Host, token: &str) -> Result<String> {
    host.read(SECRET, token)
        .await?
        .json_text("/data/data/password")
}

/// Fails until a pass has ended that began after `since`.
async fn passed(host: &Host, since: Instant) -> Result<()> {
    let asked = clock::instant();
    let status = host.daemon.status().await?;
    let age = status["mirrors"][0]["age_seconds"]
        .as_u64()
        .context("no pass")?;
    match asked >= since + Duration::from_secs(age + 1) {
        true => Ok(()),
        false => Err(Failure::new(format!("a pass is {age} s old"))),
    }
}

/// The folders of a host that a start goes by.
pub(crate) const FOLDERS: [&str; 3] = ["state", "anchor", "etc"];

fn copy(from: &Path, to: &Path) -> Result<()> {
    for folder in FOLDERS {
        copy_folder(&from.join(folder), &to.join(folder))?;
    }
    Ok(())
}

/// Copies plain files, with what a killed process left open.
pub(crate) fn copy_folder(from: &Path, to: &Path) -> Result<()> {
    std::fs::create_dir_all(to).context(to.display())?;
    for entry in std::fs::read_dir(from).context(from.display())? {
        let path: PathBuf = entry?.path();
        if path.is_file() {
            let name = path.file_name().context("a name")?;
            std::fs::copy(&path, to.join(name)).context(path.display())?;
        }
    }
    Ok(())
}
