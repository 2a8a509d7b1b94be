//! Namespaces of their own for the daemon and its clients, in which a test mounts what it likes; any user can make them.
//!
//! In them we are root, and everything else is as outside: the network, processes, files, but for what is mounted there.

use std::ffi::OsString;
use std::path::Path;
use std::time::Duration;

use crate::eventually;
use crate::failure::{Context, Failure, Result};
use crate::place::Room;
use crate::process::{Launch, Process};

/// Beyond any test.
const HELD: &str = "echo up; exec sleep 3600";

const ADVICE: &str = "Suites that mount things need user namespaces. Where the kernel forbids them to ordinary users: \
                      sysctl -w kernel.unprivileged_userns_clone=1, or kernel.apparmor_restrict_unprivileged_userns=0";

/// A user namespace and a mount namespace, which last as long as this.
pub struct Apart {
    holder: Process,
    room: Room,
}

impl Apart {
    /// Makes them.
    pub async fn make() -> Result<Apart> {
        let room = Room::make()?;
        let log = room.join("log");
        let holder = Launch::new("unshare", Path::new("unshare"), &log)
            .args(["--user", "--map-root-user", "--mount", "--"])
            .args(["/bin/sh", "-c", HELD]);
        let holder = holder.start()?;
        let apart = Apart { holder, room };
        let up =
            eventually(
                Duration::from_secs(10),
                "namespaces",
                async || match std::fs::read_to_string(&log) {
                    Ok(said) if said.contains("up") => Ok(()),
                    said => Err(format!("{said:?}")),
                },
            );
        up.await.context(ADVICE)?;
        Ok(apart)
    }

    /// What enters them, to stand before a program and its arguments.
    pub fn enter(&self) -> Vec<OsString> {
        let target = self.holder.id().to_string();
        [
            "nsenter",
            "--target",
            &target,
            "--user",
            "--mount",
            "--preserve-credentials",
            "--",
        ]
        .map(OsString::from)
        .into()
    }

    /// Runs a program in them to its end.
    pub async fn run(&self, program: &str, args: &[&str]) -> Result<String> {
        let mut launch = Launch::new(program, Path::new(program), &self.room.join("log"));
        launch.within = self.enter();
        let said = launch
            .args(args)
            .output(b"", Duration::from_secs(10))
            .await?;
        said.success().context(format!("{program} {args:?}"))
    }

    /// Puts `file` in the place of `at`, in them.
    pub async fn bind(&self, file: &Path, at: &str) -> Result<()> {
        let file = file
            .to_str()
            .ok_or_else(|| Failure::new("a path that is no text"))?;
        self.run("mount", &["--bind", file, at]).await.map(drop)
    }
}
