//! Child processes that cannot outlive the test, each in a process group of its own with a log file.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs::OpenOptions;
use std::os::fd::OwnedFd;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Mutex, OnceLock, PoisonError, mpsc};
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use rustix::process::{WaitId, WaitIdOptions};

use crate::clock::Stopwatch;
use crate::failure::{Context, Failure, Result};

/// How long the threads of a process may take to stop.
const SLOWEST_STOP: Duration = Duration::from_secs(10);

/// What to start, as whom and with what around it.
///
/// The environment is empty but for `PATH` and what is set here, so that no token, proxy or locale of whoever runs
/// the tests leaks in.
pub struct Launch {
    /// Name in messages.
    pub name: String,
    /// The executable.
    pub program: PathBuf,
    /// Its arguments.
    pub args: Vec<OsString>,
    /// Its environment.
    pub env: BTreeMap<OsString, OsString>,
    /// User and group to run as; needs root.
    pub user: Option<(u32, u32)>,
    /// What enters the namespaces that it runs in, with its arguments; nothing for our own.
    pub within: Vec<OsString>,
    /// The folder that it starts in.
    pub folder: PathBuf,
    /// Where stdout and stderr go, appended.
    pub log: PathBuf,
}

impl Launch {
    /// `program` without arguments, as ourselves.
    pub fn new(name: &str, program: &Path, log: &Path) -> Launch {
        Launch {
            name: name.to_owned(),
            program: program.to_owned(),
            args: Vec::new(),
            env: BTreeMap::new(),
            user: None,
            within: Vec::new(),
            folder: "/".into(),
            log: log.to_owned(),
        }
    }

    /// Adds arguments.
    pub fn args<A: Into<OsString>>(mut self, args: impl IntoIterator<Item = A>) -> Launch {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    /// Sets a variable.
    pub fn env(mut self, name: &str, value: impl Into<OsString>) -> Launch {
        self.env.insert(name.into(), value.into());
        self
    }

    /// Starts it.
    pub fn start(&self) -> Result<Process> {
        self.start_with(None)
    }

    /// Starts it with this descriptor as its standard input.
    pub fn start_with(&self, stdin: Option<OwnedFd>) -> Result<Process> {
        let open = || OpenOptions::new().create(true).append(true).open(&self.log);
        let mut command = self.command();
        command
            .stdin(stdin.map_or_else(Stdio::null, Stdio::from))
            .stdout(open().context(self.log.display())?);
        command.stderr(open()?).process_group(0);
        let child = spawn(command).context(format!(
            "starting {} ({})",
            self.name,
            self.program.display()
        ))?;
        let pid = Pid::from_raw(i32::try_from(child.id())?);
        let log = self.log.clone();
        Ok(Process {
            name: self.name.clone(),
            child: Mutex::new(child),
            pid,
            log,
        })
    }

    /// Runs it to its end, for at most `bound`, with `input` on its stdin; the log file is not used.
    pub async fn output(&self, input: &[u8], bound: Duration) -> Result<Output> {
        use tokio::io::AsyncWriteExt;
        let mut command = tokio::process::Command::from(self.command());
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command.kill_on_drop(true);
        let doing = format!("running {} ({})", self.name, self.program.display());
        let run = async {
            let mut child = command.spawn()?;
            if let Some(mut stdin) = child.stdin.take() {
                // A program that does not read its input may have gone before we wrote it.
                let _ = stdin.write_all(input).await;
            }
            child.wait_with_output().await
        };
        let output = tokio::time::timeout(bound, run)
            .await
            .map_err(|_| Failure::new(format!("not done within {bound:?}")))
            .context(&doing)?
            .context(&doing)?;
        Ok(Output {
            code: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        })
    }

    /// The command, through `setpriv` where there is one: it asks the kernel to kill the child with us.
    fn command(&self) -> Command {
        let mut words = self.within.clone();
        let user = self.user.filter(|_| crate::place::is_root());
        if let Some(setpriv) = setpriv() {
            words.push(setpriv.into());
            if let Some((uid, gid)) = user {
                words.extend([format!("--reuid={uid}"), format!("--regid={gid}")].map(Into::into));
                words.push("--clear-groups".into());
            }
            words.extend(["--pdeathsig", "KILL", "--"].map(Into::into));
        }
        // What is preloaded must not see the change of user: it would keep what the first one made.
        let preload = self.env.get(OsStr::new("LD_PRELOAD"));
        if let Some(library) = preload {
            words.push("/usr/bin/env".into());
            words.push([OsStr::new("LD_PRELOAD="), library].into_iter().collect());
        }
        words.push(self.program.clone().into_os_string());
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]);
        if let (Some((uid, gid)), None) = (user, setpriv()) {
            command.uid(uid).gid(gid);
        }
        command
            .args(&self.args)
            .env_clear()
            .current_dir(&self.folder);
        command.env(
            "PATH",
            std::env::var_os("PATH").unwrap_or_else(|| "/usr/bin:/bin".into()),
        );
        command.env("LC_ALL", "C");
        command.envs(self.env.iter().filter(|(name, _)| *name != "LD_PRELOAD"));
        command
    }
}

/// What a program that ran to its end said.
#[derive(Debug)]
pub struct Output {
    /// Exit code; none if a signal ended it.
    pub code: Option<i32>,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
}

impl Output {
    /// Its standard output, if it exited with 0.
    pub fn success(self) -> Result<String> {
        if self.code == Some(0) {
            return Ok(self.stdout);
        }
        Err(Failure::new(format!(
            "exit {:?}\n{}{}",
            self.code, self.stdout, self.stderr
        )))
    }
}

/// A running child. Dropping it kills its whole process group.
pub struct Process {
    name: String,
    child: Mutex<Child>,
    pid: Pid,
    log: PathBuf,
}

impl Process {
    /// Its process id, which is its group's too.
    pub fn id(&self) -> u32 {
        self.pid.as_raw().unsigned_abs()
    }

    /// Its log file.
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// Whether it has not ended.
    pub fn running(&self) -> bool {
        self.ended().is_none()
    }

    /// Sends a signal to the whole group.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        if self.ended().is_some() {
            return Err(self.failure(format!("has ended before {signal}")));
        }
        killpg(self.pid, signal).context(format!("{signal} to {}", self.name))
    }

    /// `kill -9` to the whole group; returns when it is gone.
    pub fn kill9(&self) -> Result<()> {
        self.reap();
        Ok(())
    }

    /// SIGSTOP: it hangs, its connections stay open. Returns when every thread of it has stopped: the kernel only
    /// asks them to, and one that runs on another processor may answer a request before it hears of that.
    pub fn stop(&self) -> Result<()> {
        self.signal(Signal::SIGSTOP)?;
        let watch = Stopwatch::start();
        while !self.is_stopped()? {
            if watch.elapsed() > SLOWEST_STOP {
                return Err(self.failure(format!("has not stopped within {SLOWEST_STOP:?}")));
            }
            std::thread::yield_now();
        }
        Ok(())
    }

    /// Whether all its threads are stopped.
    fn is_stopped(&self) -> Result<bool> {
        let tasks = format!("/proc/{}/task", self.pid);
        for task in std::fs::read_dir(&tasks).context(&tasks)? {
            // A thread that has ended since it was listed answers nothing any more.
            let Ok(stat) = std::fs::read_to_string(task?.path().join("stat")) else {
                continue;
            };
            // The name before the state is in brackets, and may hold any character.
            let state = stat.rsplit_once(") ").map(|(_, rest)| rest);
            if !state.is_some_and(|state| state.starts_with(['T', 't', 'Z', 'X'])) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// SIGCONT: it goes on.
    pub fn cont(&self) -> Result<()> {
        self.signal(Signal::SIGCONT)
    }

    /// SIGTERM.
    pub fn terminate(&self) -> Result<()> {
        self.signal(Signal::SIGTERM)
    }

    /// Waits for its end, at most `bound`.
    pub async fn exited(&self, bound: Duration) -> Result<ExitStatus> {
        let what = format!("the end of {}", self.name);
        crate::eventually(bound, &what, async || self.ended().ok_or("still running")).await
    }

    /// The last `lines` lines of its log.
    pub fn log_tail(&self, lines: usize) -> String {
        tail(&self.log, lines)
    }

    /// A failure that says what this process did, with the end of its log.
    pub fn failure(&self, said: impl std::fmt::Display) -> Failure {
        Failure::new(format!(
            "{} {said}\n--- {}\n{}",
            self.name,
            self.log.display(),
            self.log_tail(40)
        ))
    }

    /// How it ended. It stays a zombie, so that its number, and its group's, is not given to others.
    fn ended(&self) -> Option<ExitStatus> {
        let mut child = self.child.lock().unwrap_or_else(PoisonError::into_inner);
        let pid = rustix::process::Pid::from_child(&child);
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        match rustix::process::waitid(WaitId::Pid(pid), options) {
            Ok(None) => None,
            Ok(Some(status)) => {
                let code = status.exit_status().map(|code| code << 8);
                Some(ExitStatus::from_raw(
                    code.or(status.terminating_signal()).unwrap_or(9),
                ))
            }
            // Reaped already: the child remembers.
            Err(_) => child.try_wait().ok().flatten(),
        }
    }

    /// Kills what is left of the group and reaps the child. Afterwards the number is no longer ours.
    fn reap(&self) {
        let mut child = self.child.lock().unwrap_or_else(PoisonError::into_inner);
        let pid = rustix::process::Pid::from_child(&child);
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        if rustix::process::waitid(WaitId::Pid(pid), options).is_ok() {
            let _ = killpg(self.pid, Signal::SIGKILL);
            let _ = child.wait();
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!(
                "{}",
                self.failure("was running, or had ended, when the test failed")
            );
        }
        self.reap();
    }
}

/// The last `lines` lines of a file; of a file that cannot be read, why.
pub fn tail(path: &Path, lines: usize) -> String {
    match std::fs::read(path) {
        Ok(bytes) => {
            let text = String::from_utf8_lossy(&bytes);
            let all: Vec<&str> = text.lines().collect();
            all.iter()
                .skip(all.len().saturating_sub(lines))
                .fold(String::new(), |mut out, line| {
                    out.push_str(line);
                    out.push('\n');
                    out
                })
        }
        Err(error) => format!("({error})\n"),
    }
}

/// Ends a group in order with `signal`, and by force after `bound`. Blocks.
pub fn end(process: &Process, signal: Signal, bound: Duration) {
    let watch = Stopwatch::start();
    let pid = rustix::process::Pid::from_raw(process.pid.as_raw());
    let fd = pid.and_then(|pid| {
        rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()).ok()
    });
    if let (Some(fd), Ok(())) = (fd, process.signal(signal)) {
        let left = watch.left_of(bound);
        let timeout = rustix::event::Timespec {
            tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: i64::from(left.subsec_nanos()),
        };
        let mut fds = [rustix::event::PollFd::new(
            &fd,
            rustix::event::PollFlags::IN,
        )];
        let _ = rustix::event::poll(&mut fds, Some(&timeout));
    }
    process.reap();
}

/// Spawns from a thread that lives as long as we do: the kernel ties the death signal to the parent's *thread*.
fn spawn(command: Command) -> Result<Child> {
    type Order = (Command, mpsc::Sender<std::io::Result<Child>>);
    static SPAWNER: OnceLock<Mutex<mpsc::Sender<Order>>> = OnceLock::new();
    let spawner = SPAWNER.get_or_init(|| {
        let (orders, inbox) = mpsc::channel::<Order>();
        std::thread::spawn(move || {
            for (mut command, answer) in inbox {
                let _ = answer.send(command.spawn());
            }
        });
        Mutex::new(orders)
    });
    let (answer, child) = mpsc::channel();
    let orders = spawner
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .clone();
    orders
        .send((command, answer))
        .map_err(|_| Failure::new("the spawning thread is gone"))?;
    Ok(child.recv()??)
}

fn setpriv() -> Option<&'static Path> {
    static FOUND: OnceLock<Option<PathBuf>> = OnceLock::new();
    let search = || {
        let places = ["/usr/bin/setpriv", "/bin/setpriv"].map(PathBuf::from);
        places.into_iter().find(|p| p.exists())
    };
    FOUND.get_or_init(search).as_deref()
}
