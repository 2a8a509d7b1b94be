//! `bao agent` as a process, what it renders, and what Holdover counts of it.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use harness::client::raw::Ask;
use harness::clock::Stopwatch;
use harness::daemon::Daemon;
use harness::place::Room;
use harness::process::{Launch, Process};
use harness::provision::Parts;
use harness::{Context, Failure, Result, eventually};
use tokio::task::JoinHandle;

use crate::approle::AppRole;

const SECRET: &str =
    r#"{{ with secret \"secret/data/shop/shared\" }}{{ .Data.data.password }}{{ end }}"#;
const LEASED: &str = r#"{{ with secret \"database/creds/orders\" }}{{ .Data.username }}:{{ .Data.password }}{{ end }}"#;

/// An agent that logs in by AppRole. Killed when dropped.
pub(super) struct Agent {
    /// In messages.
    pub(super) name: &'static str,
    process: Process,
    room: Room,
    rendered: Vec<PathBuf>,
}

impl Agent {
    /// One that renders a secret and credentials of a database into files.
    pub(super) fn of_files(daemon: &Daemon, role: &AppRole) -> Result<Agent> {
        let room = Room::make()?;
        let files = [("secret", SECRET), ("leased", LEASED)];
        let templates = files.map(|(name, contents)| {
            let path = room.join(name).display().to_string();
            format!("template {{\n  contents = \"{contents}\"\n  destination = \"{path}\"\n}}\n")
        });
        let rendered = files.map(|(name, _)| room.join(name)).to_vec();
        Agent::start(
            "the agent of files",
            daemon,
            role,
            room,
            rendered,
            &templates.concat(),
        )
    }

    /// One that runs a process with a secret in its environment, which says in a file that it began, and with what.
    pub(super) fn of_process(daemon: &Daemon, role: &AppRole) -> Result<Agent> {
        let room = Room::make()?;
        let begun = room.join("begun");
        let command = format!("echo $PASSWORD >> {}; exec sleep 3600", begun.display());
        let supervised = format!(
            "env_template \"PASSWORD\" {{\n  contents = \"{SECRET}\"\n  error_on_missing_key = true\n}}\n\
             exec {{\n  command = [\"/bin/sh\", \"-c\", \"{command}\"]\n  restart_on_secret_changes = \"always\"\n}}\n"
        );
        Agent::start(
            "the agent of a process",
            daemon,
            role,
            room,
            vec![begun],
            &supervised,
        )
    }

    fn start(
        name: &'static str,
        daemon: &Daemon,
        role: &AppRole,
        room: Room,
        rendered: Vec<PathBuf>,
        renders: &str,
    ) -> Result<Agent> {
        let (role_id, secret_id) = credentials(&room, role)?;
        let (address, sink) = (daemon.socket(), room.join("token"));
        let text = format!(
            "vault {{\n  address = \"unix://{address}\"\n}}\n\
             auto_auth {{\n  method \"approle\" {{\n    config = {{\n      role_id_file_path = \"{role_id}\"\n      \
             secret_id_file_path = \"{secret_id}\"\n      remove_secret_id_file_after_reading = false\n    }}\n  }}\n  \
             sink \"file\" {{\n    config = {{\n      path = \"{sink}\"\n    }}\n  }}\n}}\n\
             template_config {{\n  static_secret_render_interval = \"5s\"\n}}\n{renders}",
            address = address.display(),
            role_id = role_id.display(),
            secret_id = secret_id.display(),
            sink = sink.display(),
        );
        let config = room.file("agent.hcl", text, 0o600, None)?;
        let launch = Launch::new(name, &Parts::get()?.bao, &room.join("log"))
            .args(["agent".into(), "-config".into(), config.into_os_string()])
            .env("HOME", room.path());
        Ok(Agent {
            name,
            process: launch.start()?,
            room,
            rendered,
        })
    }

    /// Has its next login be by this role.
    pub(super) fn log_in_by(&self, role: &AppRole) -> Result<()> {
        credentials(&self.room, role).map(drop)
    }

    /// Waits until everything is rendered, and the token handed out.
    pub(super) async fn rendered(&self, bound: Duration) -> Result<()> {
        let sink = self.room.join("token");
        for path in self.rendered.iter().chain([&sink]) {
            let what = path.display().to_string();
            let waited = eventually(bound, &what, async || whole(path)).await;
            waited.map_err(|failure| self.failure(failure))?;
        }
        Ok(())
    }

    /// Looks at each of its files from now on.
    pub(super) fn watch(&self) -> Vec<Watched> {
        let watch = |path: &PathBuf| Watched::at(path.clone());
        self.rendered.iter().map(watch).collect()
    }

    /// The token that it hands out.
    pub(super) fn token(&self) -> Result<String> {
        let sink = self.room.join("token");
        std::fs::read_to_string(&sink).context(sink.display())
    }

    /// Waits until the token that it hands out is one of the replica's.
    pub(super) async fn logged_in_by_the_replica(&self, bound: Duration) -> Result<()> {
        let what = format!("a login of {} in the outage", self.name);
        let waited = eventually(bound, &what, async || match self.token() {
            Ok(token) if token.starts_with("ho.") => Ok(()),
            Ok(_) => Err("a token of the primary's".to_owned()),
            Err(failure) => Err(failure.to_string()),
        });
        waited.await.map_err(|failure| self.failure(failure))
    }

    /// It did not end, and what it supervises was begun once.
    pub(super) fn runs_as_at_first(&self) -> Result<()> {
        if !self.process.running() {
            return Err(self.failure("has ended"));
        }
        let begun = self.room.join("begun");
        if self.rendered.contains(&begun) {
            let lines = std::fs::read_to_string(&begun)?.lines().count();
            assert_eq!(lines, 1, "{}", self.failure("began its process anew"));
        }
        Ok(())
    }

    /// A failure with the end of its log.
    pub(super) fn failure(&self, said: impl std::fmt::Display) -> Failure {
        self.process.failure(said)
    }
}

/// The files that an agent logs in by.
fn credentials(room: &Room, role: &AppRole) -> Result<(PathBuf, PathBuf)> {
    let role_id = room.file("role_id", &role.role_id, 0o600, None)?;
    let secret_id = room.file("secret_id", &role.secret_id, 0o600, None)?;
    Ok((role_id, secret_id))
}

/// The ends of their logs.
pub(super) fn tails(agents: &[Agent]) -> String {
    let tails = agents.iter().map(|agent| agent.failure("said").to_string());
    tails.collect::<Vec<_>>().join("\n")
}

/// A file that is looked at all the time.
pub(super) struct Watched {
    path: PathBuf,
    wrong: Arc<Mutex<Option<String>>>,
    task: JoinHandle<()>,
}

impl Watched {
    fn at(path: PathBuf) -> Watched {
        let wrong = Arc::new(Mutex::new(None));
        let (seen, at) = (wrong.clone(), path.clone());
        let task = tokio::spawn(async move {
            loop {
                if let Err(found) = whole(&at) {
                    seen.lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .get_or_insert(found);
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        });
        Watched { path, wrong, task }
    }

    /// It was there and had its content whenever it was looked at.
    pub(super) fn was_always_whole(&self) -> Result<()> {
        let wrong = self.wrong.lock().unwrap_or_else(PoisonError::into_inner);
        match (&*wrong, self.task.is_finished()) {
            (None, false) => Ok(()),
            (found, _) => Err(Failure::new(format!("{}: {found:?}", self.path.display()))),
        }
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Whether a rendered file is there with something in it.
fn whole(path: &Path) -> std::result::Result<(), String> {
    match std::fs::read_to_string(path) {
        Ok(text) if text.trim_matches([':', '\n']).is_empty() => Err("empty".to_owned()),
        Ok(_) => Ok(()),
        Err(error) => Err(error.to_string()),
    }
}

/// What Holdover was asked over its socket, from a moment on.
pub(super) struct Requests {
    before: u64,
    since: Stopwatch,
}

/// So many requests in so long.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seen {
    count: u64,
    within: Duration,
}

impl Requests {
    /// From now on.
    pub(super) async fn of(daemon: &Daemon) -> Result<Requests> {
        let (before, since) = (counted(daemon).await?, Stopwatch::start());
        Ok(Requests { before, since })
    }

    /// Those until now, but for these of our own.
    pub(super) async fn until_now(&self, daemon: &Daemon, ours: u64) -> Result<Seen> {
        let count = counted(daemon).await?.saturating_sub(self.before + ours);
        let within = self.since.elapsed();
        Ok(Seen { count, within })
    }

    /// Waits until they were counted for so long.
    pub(super) async fn longer_than(&self, span: Duration) {
        tokio::time::sleep(self.since.left_of(span)).await;
    }
}

impl Seen {
    pub(super) fn per_second(self) -> f64 {
        f64::from(u32::try_from(self.count).unwrap_or(u32::MAX)) / self.within.as_secs_f64()
    }
}

/// All requests that Holdover has answered since it started.
async fn counted(daemon: &Daemon) -> Result<u64> {
    let metrics = daemon.admin(&Ask::get("/metrics")).await?.text();
    let series = metrics
        .lines()
        .filter(|line| line.starts_with("holdover_requests_total{"));
    let counts = series.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok());
    Ok(counts.sum())
}
