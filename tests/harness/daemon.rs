//! The daemon under test as a process: started, killed, started again, and asked for its status.

pub mod config;

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::os::fd::AsFd;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use serde_json::Value;

use crate::apart::Apart;
use crate::client::raw::{Ask, Client, Reply};
use crate::daemon::config::Config;
use crate::failure::{Context, Failure, Result};
use crate::place::Room;
use crate::process::{Launch, Output, Process};
use crate::random;

/// A host with Holdover on it: folders, configuration, key and the process. Killed when dropped.
pub struct Daemon {
    process: Mutex<Option<Process>>,
    executable: PathBuf,
    user: Option<(u32, u32)>,
    env: Mutex<BTreeMap<OsString, OsString>>,
    listener: OnceLock<UnixListener>,
    within: OnceLock<Vec<OsString>>,
    mounts: OnceLock<String>,
    room: Room,
}

/// What systemd does between fork and exec: the listener becomes descriptor 3, announced for this very process.
const ACTIVATE: &str = "exec 3<&0 </dev/null; export LISTEN_FDS=1 LISTEN_FDNAMES=holdover.socket LISTEN_PID=$$; \
                        exec \"$0\" \"$@\"";

impl Daemon {
    /// Prepares a host for `executable`, to run as `user` where one is given (needs root). Nothing runs yet.
    ///
    /// Suites pass `env!("CARGO_BIN_EXE_holdover-under-test")`. The program is placed in the host's folder as `holdover`.
    pub fn install(executable: &Path, user: Option<(u32, u32)>) -> Result<Daemon> {
        let room = Room::make()?;
        let executable = room.executable("holdover", executable)?;
        // The sockets' folder is open to all, as /run/holdover is; what is in the others is the daemon's alone.
        room.folder("run", 0o755, user)?;
        room.folder("state", 0o700, user)?;
        room.folder("anchor", 0o700, user)?;
        room.folder("etc", 0o755, user)?;
        room.file("holdover.log", "", 0o644, user)?;
        let (process, env) = (Mutex::new(None), Mutex::new(BTreeMap::new()));
        let daemon = Daemon {
            process,
            executable,
            user,
            env,
            listener: OnceLock::new(),
            within: OnceLock::new(),
            mounts: OnceLock::new(),
            room,
        };
        daemon.write_secret("etc/replica.key", &random::hex::<32>()?)?;
        Ok(daemon)
    }

    /// A configuration with this host's paths: sockets, replica, anchor and key; and nothing of a primary yet.
    pub fn base_config(&self) -> Config {
        Config::new()
            .set("listener.socket", path_text(&self.socket()))
            .set("admin.socket", path_text(&self.admin_socket()))
            .set(
                "replica.path",
                path_text(&self.room.join("state/replica.db")),
            )
            .set(
                "replica.anchor",
                path_text(&self.room.join("anchor/generation")),
            )
            .key_file(&self.room.join("etc/replica.key"))
    }

    /// Writes the configuration file, in one step: a running daemon sees the old or the new one.
    pub fn configure(&self, config: &Config) -> Result<()> {
        self.room
            .file("etc/holdover.toml.new", config.to_toml()?, 0o644, self.user)?;
        std::fs::rename(self.room.join("etc/holdover.toml.new"), self.config_file())?;
        Ok(())
    }

    /// Writes a file, 0600, that the daemon can read: a role id, a token.
    pub fn write_secret(&self, name: &str, content: &str) -> Result<PathBuf> {
        self.room.file(name, content, 0o600, self.user)
    }

    /// Sets a variable of the daemon's environment, from its next start on.
    pub fn set_env(&self, name: &str, value: impl Into<OsString>) {
        let mut env = self.env.lock().unwrap_or_else(PoisonError::into_inner);
        env.insert(name.into(), value.into());
    }

    /// Puts the daemon's wall clock under the test's control, from its next start on. [`Daemon::shift_clock`] moves it.
    pub fn fake_clock(&self) -> Result<()> {
        self.set_env("LD_PRELOAD", crate::provision::Parts::faketime()?);
        self.set_env("FAKETIME_TIMESTAMP_FILE", self.room.join("faketime"));
        self.set_env("FAKETIME_NO_CACHE", "1");
        self.set_env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
        self.shift_clock(0)
    }

    /// Moves the daemon's wall clock to this many seconds from the real time, at once.
    pub fn shift_clock(&self, seconds: i64) -> Result<()> {
        self.room
            .file("faketime.new", format!("{seconds:+}s\n"), 0o644, None)?;
        std::fs::rename(self.room.join("faketime.new"), self.room.join("faketime"))?;
        Ok(())
    }

    /// Binds the workload socket here, as systemd would, and hands it to the daemon at each start from the next one on.
    ///
    /// Connections that come while no daemon lives wait for the next.
    pub fn activate_by_socket(&self) -> Result<()> {
        let listener = UnixListener::bind(self.socket())?;
        rustix::net::sockopt::set_socket_passcred(&listener, true)?;
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o666);
        std::fs::set_permissions(self.socket(), mode)?;
        self.listener
            .set(listener)
            .map_err(|_| Failure::new("the socket is bound already"))
    }

    /// Has it run in namespaces of its own, from its next start on; it must run as ourselves. Who is to be attested by it has to
    /// be in the same.
    pub fn run_within(&self, apart: &Apart) -> Result<()> {
        self.within
            .set(apart.enter())
            .map_err(|_| Failure::new("the daemon runs in other namespaces already"))
    }

    /// Has every start from the next one on see mounts of its own: `script` makes them, as root of a mount namespace that ends with
    /// the daemon. It is for `sh`, in the host's folder; what it cannot do ends the start.
    ///
    /// As an ordinary user this takes a user namespace, in which Holdover attests nobody.
    pub fn mount(&self, script: &str) -> Result<()> {
        let script = format!("set -e; cd '{}'; {script}", self.room.path().display());
        let set = self.mounts.set(script);
        set.map_err(|_| Failure::new("the mounts are set already"))
    }

    /// The launch of a daemon that has mounts of its own.
    fn launch_in(&self, mut launch: Launch, script: &str) -> Launch {
        let (of_user, as_user) = match launch.user.take() {
            Some((uid, gid)) => {
                let user = format!("--reuid={uid} --regid={gid} --clear-groups");
                (Vec::new(), user)
            }
            // Without capabilities, which root of a namespace would have over its own files.
            None => {
                let alone = "--bounding-set=-all --inh-caps=-all".to_owned();
                (vec!["--user", "--map-root-user"], alone)
            }
        };
        let script = format!("{script}; exec setpriv {as_user} -- \"$0\" \"$@\"");
        launch = launch.args(of_user);
        launch = launch.args(["--mount", "--", "/bin/sh", "-c", &script]);
        launch = launch.args([&self.executable]);
        launch.program = "/usr/bin/unshare".into();
        launch
    }

    /// `holdover run`. Returns when the process exists, not when it is ready.
    pub fn start(&self) -> Result<()> {
        let mut slot = self.process.lock().unwrap_or_else(PoisonError::into_inner);
        // The one before must be gone first: it may hold the replica's lock.
        slot.take();
        let mut launch = self.launch();
        let listener = self
            .listener
            .get()
            .map(|l| l.as_fd().try_clone_to_owned())
            .transpose()?;
        if listener.is_some() {
            launch = launch.args(["-c", ACTIVATE]).args([&self.executable]);
            launch.program = "/bin/sh".into();
        }
        if let Some(script) = self.mounts.get() {
            launch = self.launch_in(launch, script);
        }
        launch = launch.args(["run", "--config"]).args([self.config_file()]);
        *slot = Some(launch.start_with(listener)?);
        Ok(())
    }

    /// `kill -9`; returns when it is gone.
    pub fn kill9(&self) -> Result<()> {
        self.with_process(Process::kill9)?;
        self.clear_faketime();
        Ok(())
    }

    /// SIGSTOP.
    pub fn stop(&self) -> Result<()> {
        self.with_process(Process::stop)
    }

    /// SIGCONT.
    pub fn cont(&self) -> Result<()> {
        self.with_process(Process::cont)
    }

    /// SIGHUP: reload.
    pub fn reload(&self) -> Result<()> {
        self.with_process(|process| process.signal(nix::sys::signal::Signal::SIGHUP))
    }

    /// SIGTERM, and waits at most `bound` for an orderly end.
    pub async fn terminate(&self, bound: Duration) -> Result<()> {
        self.with_process(Process::terminate)?;
        let process = self
            .process
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        let process = process.context("the daemon was not started")?;
        let status = process
            .exited(bound)
            .await
            .map_err(|failure| process.failure(failure))?;
        match status.success() {
            true => Ok(()),
            false => Err(process.failure(format!("ended with {status}"))),
        }
    }

    /// Waits for its end, at most `bound`, without asking for it.
    pub async fn exited(&self, bound: Duration) -> Result<ExitStatus> {
        let process = self
            .process
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        let process = process.context("the daemon was not started")?;
        process.exited(bound).await
    }

    /// Whether the process lives.
    pub fn running(&self) -> bool {
        let slot = self.process.lock().unwrap_or_else(PoisonError::into_inner);
        slot.as_ref().is_some_and(Process::running)
    }

    /// Its process id.
    pub fn id(&self) -> Result<u32> {
        let slot = self.process.lock().unwrap_or_else(PoisonError::into_inner);
        slot.as_ref()
            .map(Process::id)
            .context("the daemon was not started")
    }

    /// `GET /v1/status` on the admin socket.
    pub async fn status(&self) -> Result<Value> {
        let reply = self.admin(&Ask::get("/v1/status")).await?;
        match reply.status {
            200 => reply.json(),
            status => Err(Failure::new(format!(
                "status answered {status}: {}",
                reply.text()
            ))),
        }
    }

    /// Sends to the admin socket.
    pub async fn admin(&self, ask: &Ask) -> Result<Reply> {
        Client::unix(&self.admin_socket()).send(ask).await
    }

    /// A client of the workload socket.
    pub fn client(&self) -> Client {
        Client::unix(&self.socket())
    }

    /// Waits until `ready` is true.
    pub async fn wait_ready(&self, bound: Duration) -> Result<Value> {
        self.wait_for("the daemon to be ready", bound, |s| s["ready"] == true)
            .await
    }

    /// Waits until `state` is this.
    pub async fn wait_state(&self, state: &str, bound: Duration) -> Result<Value> {
        let what = format!("state {state}");
        self.wait_for(&what, bound, |s| s["state"] == state).await
    }

    /// Waits until the status is as wanted; gives that status. A failure shows the last one and the log's end.
    pub async fn wait_for(
        &self,
        what: &str,
        bound: Duration,
        wanted: impl Fn(&Value) -> bool,
    ) -> Result<Value> {
        let mut ended = false;
        let waited = crate::eventually(bound, what, async || {
            if !self.running() {
                ended = true;
                return Ok(None);
            }
            match self.status().await {
                Ok(status) if wanted(&status) => Ok(Some(status)),
                Ok(status) => Err(format!("{status:#}")),
                Err(failure) => Err(failure.to_string()),
            }
        });
        match waited.await {
            Ok(Some(status)) => Ok(status),
            Ok(None) => Err(self.failure(format!("waiting for {what}: the daemon has ended"))),
            Err(failure) => Err(self.failure(failure)),
        }
    }

    /// Runs a command of the CLI, as root of this host would, with `--config`.
    pub async fn cli(&self, args: &[&str], bound: Duration) -> Result<Output> {
        let mut launch = self
            .launch()
            .args(args)
            .args(["--config"])
            .args([self.config_file()]);
        launch.user = None;
        launch
            .env
            .retain(|name, _| name.to_str().is_some_and(|n| n != "NOTIFY_SOCKET"));
        launch.output(b"", bound).await
    }

    /// The workload socket.
    pub fn socket(&self) -> PathBuf {
        self.room.join("run/holdover.sock")
    }

    /// The admin socket.
    pub fn admin_socket(&self) -> PathBuf {
        self.room.join("run/admin.sock")
    }

    /// The configuration file.
    pub fn config_file(&self) -> PathBuf {
        self.room.join("etc/holdover.toml")
    }

    /// Everything of this host: state, configuration, sockets and log.
    pub fn folder(&self) -> &Path {
        self.room.path()
    }

    /// The daemon's stdout and stderr, over all its lives.
    pub fn log(&self) -> PathBuf {
        self.room.join("holdover.log")
    }

    /// A failure with the end of the daemon's log.
    pub fn failure(&self, said: impl std::fmt::Display) -> Failure {
        let tail = crate::process::tail(&self.log(), 60);
        Failure::new(format!("{said}\n--- {}\n{tail}", self.log().display()))
    }

    /// Removes what libfaketime leaves behind in shared memory when its process is killed: it is named by the process
    /// id, and in the way of the next process of that id.
    fn clear_faketime(&self) {
        let env = self.env.lock().unwrap_or_else(PoisonError::into_inner);
        if let (true, Ok(id)) = (env.contains_key(OsStr::new("LD_PRELOAD")), self.id()) {
            for kind in ["sem.faketime_sem", "faketime_shm"] {
                let _ = std::fs::remove_file(format!("/dev/shm/{kind}_{id}"));
            }
        }
    }

    fn launch(&self) -> Launch {
        let mut launch = Launch::new("holdover", &self.executable, &self.log());
        launch.env = self
            .env
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        launch.user = self.user;
        launch.within = self.within.get().cloned().unwrap_or_default();
        launch
    }

    fn with_process(&self, act: impl Fn(&Process) -> Result<()>) -> Result<()> {
        let slot = self.process.lock().unwrap_or_else(PoisonError::into_inner);
        act(slot.as_ref().context("the daemon was not started")?)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.kill9();
    }
}

fn path_text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}
