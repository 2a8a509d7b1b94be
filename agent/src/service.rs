//! The daemon as a service: what it reports to systemd, which signals it minds, what it logs, how it is hardened.

pub mod harden;

use std::{
    io,
    sync::{OnceLock, mpsc},
    time::Duration,
};

use sd_notify::NotifyState;
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::watch,
};
use tracing_subscriber::filter::Targets;

use crate::{driver::Snapshot, journal, log};

/// Chooses how much our own crates say: `error`, `warn`, `info`, `debug` or `trace`.
const LEVEL_VARIABLE: &str = "HOLDOVER_LOG";

/// Reports to systemd that wait until it takes them.
const REPORTS_WAITING: usize = 16;

/// Why the process ends out of order gets this long to be logged.
const LAST_WORD: Duration = Duration::from_millis(200);

/// What the daemon is told from outside.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Signal {
    /// SIGHUP: read the configuration again.
    Reload,
    /// SIGTERM or SIGINT: finish what is open, within a deadline, and stop.
    Stop,
}

/// The signals that the daemon minds.
pub struct Signals {
    hangup: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
}

impl Signals {
    /// Minds them from now on: none is lost between two calls of [`Signals::next`].
    ///
    /// # Errors
    /// If the kernel refuses a handler.
    pub fn listen() -> io::Result<Self> {
        Ok(Self {
            hangup: signal(SignalKind::hangup())?,
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    /// Waits for one to stop.
    pub async fn stop(&mut self) {
        while self.next().await != Signal::Stop {}
    }

    /// Waits for the next one.
    pub async fn next(&mut self) -> Signal {
        tokio::select! {
            _ = self.interrupt.recv() => Signal::Stop,
            _ = self.terminate.recv() => Signal::Stop,
            _ = self.hangup.recv() => Signal::Reload,
        }
    }
}

/// Has the process end `within` a signal to stop, in order or not: what hangs in it must not keep it from being started again.
///
/// # Errors
/// If the kernel refuses a handler or a thread.
pub fn end_within(within: Duration) -> io::Result<()> {
    // Of its own, because the threads that serve may all be stuck.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let mut signals = {
        let _entered = runtime.enter();
        Signals::listen()?
    };
    let ending = move || {
        runtime.block_on(async {
            signals.stop().await;
            tokio::time::sleep(within).await;
            // By another thread: nothing that it meets there may keep this one.
            let telling = std::thread::Builder::new().spawn(|| {
                tracing::error!("something hangs: the process ends without it");
            });
            if telling.is_ok() {
                tokio::time::sleep(LAST_WORD).await;
            }
        });
        std::process::exit(1);
    };
    std::thread::Builder::new()
        .name("end".into())
        .spawn(ending)
        .map(drop)
}

/// Sends the log to the journal if standard error goes there, else to standard error. Waits for neither.
///
/// Other crates' lines are kept from `warn` up whatever is chosen: at lower levels some write headers, and headers
/// carry tokens.
///
/// # Errors
/// If there is no thread or no socket to be had.
pub fn log_to_journal_or_stderr() -> io::Result<()> {
    let level = std::env::var(LEVEL_VARIABLE)
        .ok()
        .and_then(|level| level.parse().ok())
        .unwrap_or(tracing::Level::INFO);
    let targets = Targets::new()
        .with_default(tracing::Level::WARN)
        .with_target("holdover", level)
        .with_target("replica", level)
        .with_target("shared", level);
    log::start(journal::is_standard_error(), targets)
}

/// Tells systemd that the daemon serves.
pub fn notify_ready() {
    notify(&[NotifyState::Ready]);
}

/// Tells systemd that the configuration is being read again; [`notify_ready`] ends it.
pub fn notify_reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => notify(&[NotifyState::Reloading, now]),
        Err(error) => tracing::warn!(%error, "the reload cannot be reported to systemd"),
    }
}

/// Tells systemd that the daemon stops.
pub fn notify_stopping() {
    notify(&[NotifyState::Stopping]);
}

/// Keeps reporting to systemd: the state in `STATUS=`, and that the driver is alive as often as `WatchdogSec=` asks.
///
/// `alive` is awaited before each sign of life: what does not answer is not alive, and systemd restarts it.
pub async fn keep_reporting(mut snapshots: watch::Receiver<Snapshot>, alive: impl AsyncFn()) {
    // Half of what systemd waits for: one sign may be late.
    let every = sd_notify::watchdog_enabled().map_or(Duration::from_secs(3600), |wait| wait / 2);
    let mut ticks = tokio::time::interval(every);
    loop {
        let status = status_line(&snapshots.borrow_and_update());
        notify(&[NotifyState::Status(&status)]);
        tokio::select! {
            changed = snapshots.changed() => if changed.is_err() { return },
            _ = ticks.tick() => {
                alive().await;
                notify(&[NotifyState::Watchdog]);
            }
        }
    }
}

fn status_line(snapshot: &Snapshot) -> String {
    let state = snapshot.phase.name();
    match snapshot.phase.outage() {
        Some(outage) => format!("{state} since {}: {}", snapshot.since, outage.cause),
        None => format!("{state} since {}", snapshot.since),
    }
}

/// Hands a report to the thread that sends them. systemd may take none for a while, and nobody else waits for that; one that finds
/// no room is dropped.
fn notify(state: &[NotifyState<'_>]) {
    static REPORTS: OnceLock<mpsc::SyncSender<String>> = OnceLock::new();
    let lines: Vec<String> = state.iter().map(ToString::to_string).collect();
    let reports = REPORTS.get_or_init(send_reports);
    if let Err(error) = reports.try_send(lines.join("\n")) {
        tracing::warn!(%error, "nothing can be reported to systemd");
    }
}

fn send_reports() -> mpsc::SyncSender<String> {
    let (reports, to_send) = mpsc::sync_channel::<String>(REPORTS_WAITING);
    let sending = move || {
        for report in to_send {
            if let Err(error) = sd_notify::notify(&[NotifyState::Custom(&report)]) {
                tracing::warn!(%error, "nothing can be reported to systemd");
            }
        }
    };
    let started = std::thread::Builder::new()
        .name("systemd".into())
        .spawn(sending);
    if let Err(error) = started {
        tracing::warn!(%error, "nothing can be reported to systemd");
    }
    reports
}

#[cfg(test)]
mod tests {
    use shared::{failover::Phase, time::WallTime};

    use super::*;
    use crate::samples;

    #[test]
    fn the_state_and_its_cause_are_reported_to_systemd() {
        let following = Snapshot {
            phase: Phase::Following,
            since: WallTime::EPOCH,
            last_outage: None,
        };
        assert_eq!(
            status_line(&following),
            "following since 1970-01-01T00:00:00Z"
        );
        let outage = samples::outage(samples::at(0));
        let holdover = Snapshot {
            phase: Phase::Holdover(outage),
            ..following
        };
        let line = status_line(&holdover);
        assert_eq!(
            line,
            "holdover since 1970-01-01T00:00:00Z: unreachable: refused"
        );
    }
}
