//! The daemon from its start to its end: opens what the configuration names, serves, stops in order.
//!
//! Nothing here waits for the primary: with it absent, everything that the replica can do is served at once.

mod adapt;
mod assembly;
mod blocks;
mod edge;
mod exposed;
mod follow;
mod open;
mod unseen;
mod upkeep;

use std::{io, path::PathBuf, sync::Arc, time::Duration};

use replica::store::{CreateError, OpenError, OpenReport};
use tokio::{
    sync::watch,
    task::{JoinError, JoinHandle},
};

use self::{assembly::Daemon, follow::Reloads, unseen::Unseen};
use crate::{
    clock::ClockError,
    config::Config,
    link::tls::TlsError,
    serve,
    service::{self, Signal, Signals, harden},
    socket::{self, BindError, BoundSocket, descriptors},
    status::board::Board,
};

/// Whoever waits for this service finds logins possible, if they can be so soon: the first attempt at a token of Holdover's own is
/// waited for, but not for longer than this.
const FIRST_ATTEMPT: Duration = Duration::from_secs(2);

/// What is stored last, and the end of every task, get this long.
const FINISH: Duration = Duration::from_secs(3);

/// Told to stop, the process ends within this, whatever hangs: a disk, a file, a primary.
const END: Duration = Duration::from_secs(15);

/// Requests that are being answered when the daemon is told to stop get this long.
const DRAIN: Duration = Duration::from_secs(10);

/// Why the daemon cannot run, or stopped.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// A socket cannot be bound.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The boot cannot be told from others.
    #[error(transparent)]
    Clock(#[from] ClockError),
    /// There is no key to make a replica with.
    #[error("no [[replica.key]] is configured")]
    NoKey,
    /// The replica cannot be opened.
    #[error(transparent)]
    Open(#[from] replica::store::OpenError),
    /// The replica is not there and cannot be made.
    #[error(transparent)]
    Create(#[from] replica::store::CreateError),
    /// The kernel refuses a handler.
    #[error("cannot listen for signals: {0}")]
    Signals(io::Error),
    /// The workload socket failed.
    #[error("the workload socket {} failed: {source}", path.display())]
    Socket {
        /// The socket.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// systemd passed in something that is not a Unix socket.
    #[error("cannot take over the socket that systemd passed in: {0}")]
    Activation(io::Error),
    /// No thread can be had.
    #[error("cannot start a thread: {0}")]
    Thread(io::Error),
    /// There is no TLS.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// Something hung when it was told to stop.
    #[error("did not stop in order within {} s: something hangs, most likely the disk. What was acknowledged is stored", FINISH.as_secs())]
    Unfinished,
}

impl RunError {
    /// Whether another process has the replica.
    fn is_in_use(&self) -> bool {
        matches!(
            self,
            Self::Open(OpenError::Busy(_)) | Self::Create(CreateError::Busy(_))
        )
    }
}

/// Runs until told to stop. Where the replica cannot be opened it runs without one, until it can.
///
/// # Errors
/// If something that it needs cannot be opened.
pub async fn run(config: Config) -> Result<(), RunError> {
    let mut signals = Signals::listen().map_err(RunError::Signals)?;
    service::end_within(END).map_err(RunError::Signals)?;
    let (mut config, mut bound, mut trial) = (config, None, None);
    let unseen = Arc::new(Unseen::default());
    while let Some((anew, report)) =
        run_once(config, trial, &mut bound, &mut signals, &unseen).await?
    {
        tracing::info!("the replica can be opened: everything is started with it");
        (config, trial) = (anew, Some(report));
    }
    Ok(())
}

/// Runs until told to stop, or until a replica that could not be opened can be: then with which configuration to go on, and what
/// a `trial` found. The workload socket stays in `bound` meanwhile, so that nobody who connects is turned away.
async fn run_once(
    config: Config,
    trial: Option<OpenReport>,
    bound: &mut Option<BoundSocket>,
    signals: &mut Signals,
    unseen: &Arc<Unseen>,
) -> Result<Option<(Config, OpenReport)>, RunError> {
    let board = board(&config);
    let opening = tokio::select! {
        opening = open::open_beside(&config, unseen) => opening?.after(trial),
        () = signals.stop() => return Ok(None),
    };
    board.put("replica", opening.findings(&config.replica));
    let is_closed = opening.is_closed;
    let socket = socket(&config, bound, is_closed)?;
    let admin = socket::bind_admin(&config.admin.socket, config.admin.group)?;
    let before_forwards = is_closed.then(|| unseen.gate(&config.replica.path));
    let daemon = Daemon::start(config, opening, board, admin)?;
    if let Some(before_forwards) = before_forwards {
        daemon.upstream.link().before_forwards(before_forwards);
    }
    let mut serving = serve_in_background(&daemon, socket);
    tracing::info!("serving");
    let upstream = daemon.upstream.clone();
    let first = async move { upstream.own().first_attempt().await };
    let first = tokio::time::timeout(FIRST_ATTEMPT, first);
    let opens = open::until_it_opens(daemon.config.subscribe());
    tokio::pin!(first, opens);
    let mut is_told = false;
    let again = loop {
        tokio::select! {
            _ = &mut first, if !is_told => {
                is_told = true;
                service::notify_ready();
            },
            signal = signals.next() => match signal {
                // Beside, so that a stop need not wait for a file that hangs.
                Signal::Reload => drop(tokio::spawn(reload(
                    daemon.reloads.clone(),
                    daemon.stop.subscribe(),
                ))),
                Signal::Stop => break None,
            },
            report = &mut opens, if is_closed => {
                break Some(((**daemon.config.borrow()).clone(), report));
            }
            ended = &mut serving => {
                socket_ended(&daemon, ended)?;
                return Ok(None);
            }
        }
    };
    if again.is_none() {
        service::notify_stopping();
    }
    end(daemon, serving).await?;
    Ok(again)
}

/// The board, with what the process itself shows.
fn board(config: &Config) -> Arc<Board> {
    let board = Arc::new(Board::default());
    board.put("process", harden::harden());
    descriptors::raise();
    board.put("descriptors", descriptors::finding(&config.limits));
    board
}

/// The workload socket, of which a second handle stays in `bound` where everything will be started anew.
fn socket(
    config: &Config,
    bound: &mut Option<BoundSocket>,
    stays: bool,
) -> Result<BoundSocket, RunError> {
    let socket = match bound.take() {
        Some(socket) => socket,
        None => open::workload_socket(&config.listener)?,
    };
    if stays {
        *bound = Some(socket.share().map_err(RunError::Activation)?);
    }
    Ok(socket)
}

/// Because what is being answered may still have to be stored, the socket drains before the writer ends.
async fn end(daemon: Daemon, serving: JoinHandle<io::Result<()>>) -> Result<(), RunError> {
    let _ = daemon.stop.send(true);
    let drained = tokio::time::timeout(DRAIN + Duration::from_secs(1), serving);
    if drained.await.is_err() {
        tracing::warn!("the workload socket did not drain in time");
    }
    let finished = tokio::time::timeout(FINISH, daemon.finish());
    finished.await.map_err(|_| RunError::Unfinished)
}

fn serve_in_background(daemon: &Daemon, bound: BoundSocket) -> JoinHandle<io::Result<()>> {
    let mut stopping = daemon.stop.subscribe();
    let shutdown = async move {
        let _ = stopping.wait_for(|stop| *stop).await;
    };
    let server = Arc::clone(&daemon.server);
    tokio::spawn(serve::run(bound, server, shutdown, DRAIN))
}

fn socket_ended(daemon: &Daemon, ended: Result<io::Result<()>, JoinError>) -> Result<(), RunError> {
    let path = daemon.config.borrow().listener.socket.clone();
    let source = match ended {
        Ok(Ok(())) => return Ok(()),
        Ok(Err(source)) => source,
        Err(error) => io::Error::other(error),
    };
    Err(RunError::Socket { path, source })
}

async fn reload(reloads: Reloads, mut stopping: watch::Receiver<bool>) {
    service::notify_reloading();
    tokio::select! {
        () = reloads.reload() => service::notify_ready(),
        _ = stopping.wait_for(|stop| *stop) => {}
    }
}
