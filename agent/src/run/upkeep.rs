//! What goes on in the background: the mirror under the configuration in force, a changed configuration, notes for
//! the ledger, and the end of what a primary has taken away.

use std::{fmt, future::Future, sync::Arc, time::Duration};

use replica::{ledger::Aggregate, sequencer::Lane};
use shared::change::Expects;
use tokio::{
    sync::{mpsc, watch},
    task::AbortHandle,
};

use super::Assembly;
use crate::{
    config::{Config, watch::WatchedFiles},
    driver::{Event, Handle},
    local::Local,
    mirror::{Mirrors, SeenCredential, SeenToken},
    offboarding, reaper,
    serve::{SocketRules, forward::Forwarder, learn_queue::LearnRequest},
    status::board::Board,
};

/// Notes become entries this often; each stands for a second.
const NOTES: Duration = Duration::from_secs(1);

/// Tokens that wait for the mirror to look them up.
const WAITING: usize = 64;

/// Runs a task whose end is a fault, and says so.
pub(super) async fn told<E: fmt::Display>(
    task: impl Future<Output = Result<(), E>>,
    what: &'static str,
) {
    if let Err(error) = task.await {
        tracing::error!(%error, "{what} stopped");
    }
}

/// Puts what was served and refused into the ledger.
pub(super) async fn flush_notes(local: Local, notes: Arc<Aggregate>) {
    loop {
        tokio::time::sleep(NOTES).await;
        local.commit_later(Lane::Mirror, notes.drain(local.clock.now().steady));
    }
}

/// Answers once the writer does.
pub(super) async fn alive(local: &Local) {
    // A store that failed still answers; that it failed is a reason of `ready`.
    let _ = local
        .commit(Lane::Revocation, Vec::new(), Expects::default())
        .await;
}

/// Starts what follows the configuration.
pub(super) fn start(
    mut assembly: Assembly,
    driver: Handle,
    seen: mpsc::Receiver<LearnRequest>,
) -> Assembly {
    let tokens = watch::Sender::new(None);
    let running = start_mirrors(&assembly.mirrors.load_full(), &tokens);
    assembly.tasks.spawn(pass_on(seen, tokens.subscribe()));
    assembly.tasks.spawn(offboarding::watch(
        assembly.local.clone(),
        assembly.upstream.clone(),
    ));
    assembly.tasks.spawn(watch_files(
        vec![assembly.config.borrow().path.clone()],
        Arc::clone(&assembly.config),
        Arc::clone(&assembly.board),
    ));
    assembly.tasks.spawn(watch_ca(
        Arc::clone(&assembly.config),
        assembly.upstream.clone(),
        Arc::clone(&assembly.server),
    ));
    let applying = Applying {
        local: assembly.local.clone(),
        upstream: assembly.upstream.clone(),
        mirrors: Arc::clone(&assembly.mirrors),
        server: Arc::clone(&assembly.server),
        driver,
        tokens,
        running,
    };
    assembly
        .tasks
        .spawn(applying.run(assembly.config.subscribe()));
    assembly
}

/// Tokens and secret ids that clients brought go to the mirror that runs now.
async fn pass_on(
    mut seen: mpsc::Receiver<LearnRequest>,
    mirror: watch::Receiver<Option<mpsc::Sender<SeenCredential>>>,
) {
    while let Some(request) = seen.recv().await {
        let to = mirror.borrow().clone();
        if let Some(to) = to {
            // A mirror that is being replaced misses one token, which its next use brings again.
            let seen = match request {
                LearnRequest::Login(candidate) => SeenCredential::Login(candidate),
                LearnRequest::Token { token, digest } => {
                    SeenCredential::Token(SeenToken { token, digest })
                }
            };
            let _ = to.send(seen).await;
        }
    }
}

fn start_mirrors(
    mirrors: &Mirrors,
    tokens: &watch::Sender<Option<mpsc::Sender<SeenCredential>>>,
) -> AbortHandle {
    let (to, seen) = mpsc::channel(WAITING);
    tokens.send_replace(Some(to));
    tokio::spawn(mirrors.clone().run(seen)).abort_handle()
}

/// Watches the configuration's files; a change is loaded as SIGHUP loads it.
async fn watch_files(
    files: Vec<std::path::PathBuf>,
    config: Arc<watch::Sender<Arc<Config>>>,
    board: Arc<Board>,
) {
    match WatchedFiles::new(&files) {
        Ok(mut watched) => loop {
            watched.changed().await;
            reload(&config, &board);
        },
        Err(error) => {
            tracing::warn!(%error, "the configuration cannot be watched");
            let finding = format!("the configuration cannot be watched ({error}): use SIGHUP");
            board.put("watch", vec![finding]);
        }
    }
}

/// Applies a changed configuration, or puts on the board why not.
pub(super) fn reload(config: &watch::Sender<Arc<Config>>, board: &Board) {
    let rejected = crate::config::watch::reload(config).err();
    board.put(
        "configuration",
        rejected.map(|rejected| {
            tracing::error!("the changed configuration is rejected:\n{rejected}");
            format!("the configuration was changed, and rejected: {rejected}")
        }),
    );
}

/// Watches the CA file: connections made after a change go by the new one.
async fn watch_ca(
    config: Arc<watch::Sender<Arc<Config>>>,
    upstream: crate::upstream::Upstream,
    server: Arc<crate::serve::Server>,
) {
    let Some(file) = config.borrow().primary.ca_file.clone() else {
        return;
    };
    let Ok(mut watched) = WatchedFiles::new(&[file]) else {
        return; // What keeps the configuration from being watched is told by its own watcher.
    };
    loop {
        watched.changed().await;
        let current = Arc::clone(&config.borrow());
        match Forwarder::new(&current.primary, upstream.addresses().clone()) {
            Ok(forwarder) => {
                server.apply(SocketRules::new(&current), forwarder);
                upstream.client().reload_files();
                tracing::info!("the changed CA file is in force");
            }
            Err(error) => tracing::error!(%error, "the changed CA file is not used"),
        }
    }
}

/// What a changed configuration reaches.
struct Applying {
    local: Local,
    upstream: crate::upstream::Upstream,
    mirrors: Arc<arc_swap::ArcSwap<Mirrors>>,
    server: Arc<crate::serve::Server>,
    driver: Handle,
    tokens: watch::Sender<Option<mpsc::Sender<SeenCredential>>>,
    running: AbortHandle,
}

impl Applying {
    /// Applies the configuration in force at the start to what an earlier run left, then every changed one.
    async fn run(mut self, mut config: watch::Receiver<Arc<Config>>) {
        let first = Arc::clone(&config.borrow_and_update());
        self.lower(&first).await;
        while config.changed().await.is_ok() {
            let config = Arc::clone(&config.borrow_and_update());
            self.apply(&config).await;
        }
    }

    async fn apply(&mut self, config: &Config) {
        self.local
            .sequencer
            .set_settings(&Arc::new(config.settings.clone()));
        self.lower(config).await;
        self.driver.send(Event::Reconfigured(config.knobs()));
        match Forwarder::new(&config.primary, self.upstream.addresses().clone()) {
            Ok(forwarder) => self.server.apply(SocketRules::new(config), forwarder),
            Err(error) => tracing::error!(%error, "forwards go on as before"),
        }
        let mirrors = Mirrors::new(
            config,
            self.upstream.clone(),
            self.local.clone(),
            Vec::new(),
        );
        self.running.abort();
        self.running = start_mirrors(&mirrors, &self.tokens);
        self.mirrors.store(Arc::new(mirrors));
    }

    /// Grants past a lowered TTL go at once.
    async fn lower(&self, config: &Config) {
        let now = self.local.clock.now();
        let lowered = reaper::lowered(&self.local.view.grants(), &config.settings, now);
        reaper::revoke(&self.local, lowered.ended).await;
        let shortened = lowered.shortened;
        if shortened.is_empty() {
            return;
        }
        let stored = self
            .local
            .commit(Lane::Revocation, shortened, Expects::default())
            .await;
        if let Err(error) = stored {
            tracing::error!(%error, "lowered deadlines could not be stored");
        }
    }
}
