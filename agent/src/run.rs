//! The daemon assembled: opens what the configuration names, starts every task, stops them in order.
//!
//! Nothing here waits for the primary: with it absent, everything that the replica can do is served at once.

mod adapt;
mod edge;
mod open;
mod upkeep;

use std::{io, path::PathBuf, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use replica::{entropy::OsEntropy, ledger::Aggregate};
use tokio::{sync::watch, task::JoinSet};

use crate::{
    admin::{self, server::BindError as AdminBindError},
    clock::ClockError,
    config::Config,
    coverage::{self, Coverage},
    driver::Driver,
    local::Local,
    metrics::Metrics,
    mirror::Mirrors,
    parity::{self, Parity},
    ready::{prove, prove::Checks},
    reaper,
    recovery::{primary::LivePrimary, revocations},
    serve::{
        self, Parts, Server, SocketRules, forward::Forwarder, learn_queue::LearnQueue, listener,
        replica::Attached,
    },
    service::{self, Signal, Signals, harden},
    status::board::Board,
    upstream::{Upstream, tls::TlsError},
};

/// Requests that are being answered when the daemon is told to stop get this long.
const DRAIN: Duration = Duration::from_secs(10);

/// Why the daemon cannot run, or stopped.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The admin socket cannot be bound.
    #[error(transparent)]
    Admin(#[from] AdminBindError),
    /// The boot cannot be told from others.
    #[error(transparent)]
    Clock(#[from] ClockError),
    /// The workload socket cannot be bound.
    #[error(transparent)]
    Listener(#[from] listener::BindError),
    /// There is no key to make a replica with.
    #[error("no [[replica.key]] is configured")]
    NoKey,
    /// The replica cannot be opened.
    #[error(transparent)]
    Open(#[from] replica::store::OpenError),
    /// The replica is not there and cannot be made.
    #[error(transparent)]
    Create(#[from] replica::store::CreateError),
    /// The signals cannot be minded.
    #[error("cannot mind signals: {0}")]
    Signals(io::Error),
    /// The workload socket failed.
    #[error("the workload socket {} failed: {source}", path.display())]
    Socket {
        /// The socket.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// systemd passed in something that is no Unix socket.
    #[error("cannot take over the socket that systemd passed in: {0}")]
    Activation(io::Error),
    /// No thread can be had.
    #[error("cannot start a thread: {0}")]
    Thread(io::Error),
    /// The CA file cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

/// Everything that runs, as far as a changed configuration or the end concerns it.
struct Assembly {
    local: Local,
    upstream: Upstream,
    mirrors: Arc<ArcSwap<Mirrors>>,
    server: Arc<Server>,
    board: Arc<Board>,
    config: Arc<watch::Sender<Arc<Config>>>,
    notes: Arc<Aggregate>,
    coverage: Arc<Coverage>,
    stop: watch::Sender<bool>,
    tasks: JoinSet<()>,
}

/// Runs until told to stop.
///
/// # Errors
/// If something that it needs cannot be opened.
pub async fn run(config: Config) -> Result<(), RunError> {
    let mut signals = Signals::listen().map_err(RunError::Signals)?;
    let board = Arc::new(Board::default());
    board.put("process", harden::harden());
    let (local, opened) = open::open(&config, Arc::new(OsEntropy))?;
    board.put("replica", opened.findings(&config.replica.path));
    let bound = open::workload_socket(&config.listener)?;
    let admin = admin::server::bind(&config.admin.socket, config.admin.group)?;
    let (assembly, driver) = assemble(config, local, board, admin, opened.coverage)?;
    let mut serving = serve_in_background(&assembly, bound);
    service::notify_ready();
    tracing::info!("serving");
    let ended = loop {
        tokio::select! {
            signal = signals.next() => match signal {
                Signal::Reload => reload(&assembly),
                Signal::Stop => break Ok(()),
            },
            ended = &mut serving => return socket_ended(&assembly, ended),
        }
    };
    service::notify_stopping();
    let _ = assembly.stop.send(true);
    if tokio::time::timeout(DRAIN + Duration::from_secs(1), serving)
        .await
        .is_err()
    {
        tracing::warn!("the workload socket did not drain in time");
    }
    drop(driver);
    finish(assembly).await;
    ended
}

type Serving = tokio::task::JoinHandle<io::Result<()>>;

fn serve_in_background(assembly: &Assembly, bound: listener::Bound) -> Serving {
    let mut stopping = assembly.stop.subscribe();
    let shutdown = async move {
        let _ = stopping.wait_for(|stop| *stop).await;
    };
    tokio::spawn(serve::run(
        bound,
        Arc::clone(&assembly.server),
        shutdown,
        DRAIN,
    ))
}

fn socket_ended(
    assembly: &Assembly,
    ended: Result<io::Result<()>, tokio::task::JoinError>,
) -> Result<(), RunError> {
    let path = assembly.config.borrow().listener.socket.clone();
    let source = match ended {
        Ok(Ok(())) => return Ok(()),
        Ok(Err(source)) => source,
        Err(error) => io::Error::other(error),
    };
    Err(RunError::Socket { path, source })
}

fn reload(assembly: &Assembly) {
    service::notify_reloading();
    upkeep::reload(&assembly.config, &assembly.board);
    service::notify_ready();
}

fn assemble(
    config: Config,
    local: Local,
    board: Arc<Board>,
    admin: tokio::net::UnixListener,
    coverage: Arc<Coverage>,
) -> Result<(Assembly, crate::driver::Handle), RunError> {
    let upstream = Upstream::new(&config, local.clone())?;
    let mirrors = Mirrors::new(&config, upstream.clone(), local.clone(), Vec::new());
    let mirrors = Arc::new(ArcSwap::from_pointee(mirrors));
    let primary = Arc::new(LivePrimary {
        local: local.clone(),
        upstream: upstream.clone(),
        mirrors: Arc::clone(&mirrors),
    });
    let knobs = config.knobs();
    let edge = edge::LiveEdge(Arc::clone(&primary));
    let (driver, handle) = Driver::new(knobs, local.clone(), edge);
    let (learning, seen) = LearnQueue::new();
    let notes = Arc::new(Aggregate::default());
    let stats = serve::stats::Stats::default();
    let (parity, offers) = Parity::new(config.parity_sample, open::seed(&local));
    let metrics = Arc::new(Metrics::new(&stats, learning.clone(), parity.counts()));
    let server = Server::new(Parts {
        replica: Arc::new(Attached::new(local.clone(), Arc::clone(&notes))),
        driver: handle.clone(),
        forwarder: Forwarder::new(&config.primary, upstream.addresses().clone())?,
        minter: Arc::new(upstream.clone()),
        learning: learning.clone(),
        rules: SocketRules::new(&config),
        stats: stats.clone(),
        coverage: Arc::clone(&coverage),
        parity: parity.clone(),
    });
    let (stop, stopping) = watch::channel(false);
    let (checked, checks) = watch::channel(Checks::default());
    let replica_path = config.replica.path.clone();
    let (metrics_at, config) = (
        config.admin.metrics,
        Arc::new(watch::Sender::new(Arc::new(config))),
    );
    let deps = admin::Deps {
        local: local.clone(),
        driver: handle.clone(),
        addresses: upstream.addresses().clone(),
        mirrors: Arc::new(adapt::MirrorStatuses::new(Arc::clone(&mirrors))),
        config: config.subscribe(),
        checks,
        board: Arc::clone(&board),
        metrics: Arc::clone(&metrics),
        parity: parity.clone(),
        coverage: Arc::clone(&coverage),
    };
    let mut tasks = JoinSet::new();
    tasks.spawn(upkeep::told(driver.run(), "the failover machine"));
    let late = Arc::clone(&metrics);
    let reaping = reaper::run(local.clone(), move |lateness| late.revoked_late(lateness));
    tasks.spawn(upkeep::told(reaping, "the reaper"));
    tasks.spawn(upstream.clone().keep_own_token());
    tasks.spawn(prove::run(local.clone(), replica_path, checked));
    tasks.spawn(admin::server::serve(admin, deps.clone(), stopping.clone()));
    if let Some(address) = metrics_at {
        let serving = admin::server::serve_metrics(address, deps, stopping);
        tasks.spawn(upkeep::told(serving, "the metrics listener"));
    }
    let refresh = Arc::new(adapt::Refreshing::new(Arc::clone(&mirrors)));
    tasks.spawn(parity::compare::run(parity, offers, local.clone(), refresh));
    tasks.spawn(coverage::keep::keep(local.clone(), Arc::clone(&coverage)));
    tasks.spawn(revocations::report_while_following(local.clone(), primary));
    tasks.spawn(upkeep::flush_notes(local.clone(), Arc::clone(&notes)));
    let alive = local.clone();
    tasks.spawn(service::keep_reporting(handle.watch(), async move || {
        upkeep::alive(&alive).await
    }));
    let assembly = Assembly {
        local,
        upstream,
        mirrors,
        server,
        board,
        config,
        notes,
        coverage,
        stop,
        tasks,
    };
    Ok((upkeep::start(assembly, handle.clone(), seen), handle))
}

/// What must be stored is stored, and the writer ends.
async fn finish(mut assembly: Assembly) {
    assembly.tasks.abort_all();
    while assembly.tasks.join_next().await.is_some() {}
    assembly.server.counted().await;
    coverage::keep::flush(&assembly.local, &assembly.coverage).await;
    let last = assembly.notes.flush();
    let mark = replica::sequencer::Lane::Mirror;
    if let Err(error) = assembly.local.commit(mark, last, Default::default()).await {
        tracing::warn!(%error, "the last reads and denials are not in the ledger");
    }
    let sequencer = assembly.local.sequencer.clone();
    if tokio::task::spawn_blocking(move || sequencer.stop())
        .await
        .is_err()
    {
        tracing::error!("the replica was not closed in order");
    }
}
