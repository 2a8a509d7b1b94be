//! Opening: the replica and its clock, the sockets, and what must be decided before anybody is served.

use std::{io, os::unix::net::UnixListener, sync::Arc, time::Duration};

use replica::{
    entropy::{Entropy, OsEntropy, unique_u64},
    key::slot::Source,
    store::{Location, OpenError, OpenReport, Opened, Replica},
};
use shared::failover::Phase;
use tokio::sync::watch;

use super::{RunError, blocks, unseen::Unseen};
use crate::{
    clock::Clock,
    config::{self, Config, KeySource, ReplicaConfig},
    coverage::Coverage,
    local::Local,
    ready,
    socket::{self, BoundSocket},
};

/// A replica that was opened, and what was found.
pub(super) struct Opening {
    report: OpenReport,
    pub(super) local: Local,
    /// The replica could not be opened: nothing stands behind `local`.
    pub(super) is_closed: bool,
    /// What was counted before.
    pub(super) coverage: Arc<Coverage>,
}

/// A replica that could not be opened is tried again so often.
const AGAIN: Duration = Duration::from_secs(5);

/// Opens the replica beside the threads that serve, so that a disk that hangs keeps nobody from ending this.
pub(super) async fn open_beside(
    config: &Config,
    unseen: &Arc<Unseen>,
) -> Result<Opening, RunError> {
    let (config, unseen) = (config.clone(), Arc::clone(unseen));
    let opening = tokio::task::spawn_blocking(move || open(&config, Arc::new(OsEntropy), &unseen));
    opening
        .await
        .map_err(|error| RunError::Thread(io::Error::other(error)))?
}

/// Opens the replica, makes it if it was never there, and takes up time where it stood. Where it cannot be opened the daemon
/// serves without: a file must not keep it from forwarding.
fn open(config: &Config, entropy: Arc<dyn Entropy>, unseen: &Unseen) -> Result<Opening, RunError> {
    let (mut opened, is_closed) = match replica(config, &entropy) {
        Ok(opened) => (opened, false),
        Err(error) if error.is_in_use() => return Err(error),
        Err(error) => {
            tracing::error!(%error, "the replica cannot be opened; the daemon serves without it, and tries again");
            (without(config, &error, &entropy)?, true)
        }
    };
    let clock = Arc::new(Clock::start(opened.mark)?);
    let (view, report) = (Arc::clone(&opened.view), opened.report.clone());
    let coverage = Coverage::resumed(std::mem::take(&mut opened.coverage));
    let present = Arc::clone(&clock);
    let sequencer = opened
        .start(move || present.now())
        .map_err(RunError::Thread)?;
    let local = Local {
        view,
        sequencer,
        clock,
        entropy,
    };
    blocks::find(&local);
    local.view.start_guessing(local.clock.now());
    if !is_closed {
        unseen.take_in(&local, &config.replica.path);
    }
    say_what_is_resumed(&local);
    Ok(Opening {
        report,
        local,
        is_closed,
        coverage: Arc::new(coverage),
    })
}

/// The replica, which is made if it was never there.
fn replica(config: &Config, entropy: &Arc<dyn Entropy>) -> Result<Opened, RunError> {
    let (sources, location) = (sources(config), location(config));
    let settings = Arc::new(config.settings.clone());
    let open = || {
        Replica::open(
            &location,
            &sources,
            Arc::clone(&settings),
            Arc::clone(entropy),
        )
    };
    match open() {
        Err(OpenError::Missing {
            anchored: false, ..
        }) => {
            tracing::info!(path = %location.path.display(), "there is no replica yet: making one");
            match make(&location, &sources, entropy.as_ref()) {
                Err(RunError::Create(error)) if error.is_unwritable() => {
                    tracing::error!(%error, "the replica is made once it can be; until then nothing is mirrored or issued");
                    let (settings, entropy) = (Arc::clone(&settings), Arc::clone(entropy));
                    Ok(Replica::open_unmade(
                        &location, &sources, settings, entropy, error,
                    )?)
                }
                made => made.and_then(|()| Ok(open()?)),
            }
        }
        opened => Ok(opened?),
    }
}

/// What stands in for it.
fn without(
    config: &Config,
    why: &RunError,
    entropy: &Arc<dyn Entropy>,
) -> Result<Opened, RunError> {
    let settings = Arc::new(config.settings.clone());
    let opened = Replica::without(
        &location(config),
        &why.to_string(),
        settings,
        Arc::clone(entropy),
    );
    opened.map_err(|error| RunError::Create(error.into()))
}

/// What was found once the replica of this configuration opens, which is tried again and again.
pub(super) async fn until_it_opens(config: watch::Receiver<Arc<Config>>) -> OpenReport {
    loop {
        tokio::time::sleep(AGAIN).await;
        let current = Arc::clone(&config.borrow());
        // Closed again at once: everything that goes by it is started anew.
        let trial = move || {
            let entropy: Arc<dyn Entropy> = Arc::new(OsEntropy);
            Some(replica(&current, &entropy).ok()?.report)
        };
        if let Ok(Some(report)) = tokio::task::spawn_blocking(trial).await {
            return report;
        }
    }
}

/// Makes the replica under the first key that is configured.
fn make(location: &Location, sources: &[Source], entropy: &dyn Entropy) -> Result<(), RunError> {
    // A configuration without a key does not load.
    let first = sources.first().ok_or(RunError::NoKey)?;
    Ok(Replica::create(location, first, entropy)?)
}

/// Where sampling starts. Without randomness it starts where it always does, and is a sample all the same.
pub(super) fn seed(local: &Local) -> u64 {
    unique_u64(local.entropy.as_ref()).unwrap_or(0)
}

/// Where a replica of this configuration is.
pub(crate) fn location(config: &Config) -> Location {
    Location {
        path: config.replica.path.clone(),
        anchor: config.replica.anchor.clone(),
        ledger_max: config.ledger.max_size,
    }
}

/// Where its keys come from.
pub(crate) fn sources(config: &Config) -> Vec<Source> {
    let source = |key: &KeySource| match key {
        KeySource::File(path) => Source::File(path.clone()),
    };
    config.replica.keys.iter().map(source).collect()
}

/// The workload socket: systemd's if it passed one in, else our own.
pub(super) fn workload_socket(listener: &config::ListenerConfig) -> Result<BoundSocket, RunError> {
    match passed_in().map_err(RunError::Activation)? {
        Some(socket) => Ok(socket::adopt(socket)?),
        None => Ok(socket::bind_workload(&listener.socket, listener.mode)?),
    }
}

fn passed_in() -> io::Result<Option<UnixListener>> {
    listenfd::ListenFd::from_env().take_unix_listener(0)
}

impl Opening {
    /// The same after a trial, which may have found what is put right since: what is made good once is told all the same.
    pub(super) fn after(mut self, trial: Option<OpenReport>) -> Self {
        if let Some(trial) = trial.filter(|_| !self.is_closed) {
            self.report = self.report.after(trial);
        }
        self
    }

    /// What an operator should know of it. What stands against issuing is a reason, and is the view's to say.
    pub(super) fn findings(&self, replica: &ReplicaConfig) -> Vec<String> {
        if self.is_closed {
            let text = "the replica is not open: requests are forwarded, and in an outage nothing is answered";
            return vec![text.to_owned()];
        }
        ready::start::findings(&self.report, &replica.path, replica.anchor.as_deref())
    }
}

/// A start in an outage goes on with it, by its original bounds.
fn say_what_is_resumed(local: &Local) {
    let phase = local.view.authority().phase.clone();
    if let Phase::Holdover(outage) | Phase::Recovering(outage) | Phase::Exhausted(outage) = phase {
        tracing::info!(outage = %outage.id, since = %outage.started_at, "resuming an outage");
    }
}
