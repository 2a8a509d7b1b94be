//! Who follows the configuration, and in which order; who follows the files that it names.

use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::{
    sync::{mpsc, watch},
    task::AbortHandle,
};

use super::assembly::Daemon;
use crate::{
    config::{self, Config, apply::Followers},
    driver::Event,
    file::FileReader,
    local::Local,
    mirror::{Anew, Mirrors, SeenCredential, SeenToken},
    reaper,
    serve::{
        SocketRules,
        learn_queue::{LearnRequest, LearnRequests},
    },
    socket::descriptors,
    status::board::Board,
    upstream::Upstream,
};

/// Tokens that wait for the mirror to look them up.
const WAITING: usize = 64;

impl Daemon {
    /// Starts what goes by the configuration in force.
    pub(super) fn follow_configuration(&mut self, seen: LearnRequests) {
        let (to_mirror, mirror) = watch::channel(None);
        self.tasks.spawn(pass_on(seen, mirror));
        let followers = self.followers(to_mirror);
        let (local, current) = (self.local.clone(), self.config.subscribe());
        self.tasks.spawn(async move {
            // What an earlier run left goes by the configuration of this start.
            let first = Arc::clone(&current.borrow());
            reaper::lower(&local, &first.settings).await;
            followers.follow(current).await;
        });
        self.tasks.spawn(self.reloads.clone().watch());
        let link = self.upstream.link().clone();
        self.tasks.spawn(link.keep_files());
    }

    /// The replica goes first, because whoever comes after decides by the settings that it holds.
    fn followers(
        &self,
        to_mirror: watch::Sender<Option<mpsc::Sender<SeenCredential>>>,
    ) -> Followers {
        let mut followers = Followers::default();
        let local = self.local.clone();
        followers.add(move |config| {
            let local = local.clone();
            async move {
                let settings = Arc::new(config.settings.clone());
                local.sequencer.set_settings(&settings);
                reaper::lower(&local, &settings).await;
            }
        });
        let (driver, server) = (self.driver.clone(), Arc::clone(&self.server));
        followers.add(move |config| {
            driver.send(Event::Reconfigured(config.knobs()));
            server.apply(SocketRules::new(&config));
            std::future::ready(())
        });
        let mut mirror = RunningMirror {
            mirrors: Arc::clone(&self.mirrors),
            running: start_mirrors(&self.mirrors.load_full(), &to_mirror),
            to_mirror,
            upstream: self.upstream.clone(),
            local: self.local.clone(),
        };
        followers.add(move |config| {
            mirror.replace(&config);
            std::future::ready(())
        });
        followers
    }
}

/// The mirror under the configuration in force.
struct RunningMirror {
    mirrors: Arc<ArcSwap<Mirrors>>,
    running: AbortHandle,
    /// The way of what clients brought to it.
    to_mirror: watch::Sender<Option<mpsc::Sender<SeenCredential>>>,
    upstream: Upstream,
    local: Local,
}

impl RunningMirror {
    fn replace(&mut self, config: &Config) {
        let before = self.mirrors.load();
        let mirrors = mirrors_of(config, &self.upstream, &self.local, before.anew());
        self.running.abort();
        self.running = start_mirrors(&mirrors, &self.to_mirror);
        self.mirrors.store(Arc::new(mirrors));
    }
}

/// The mirrors of `config`, told by `anew` what is to be read before its time.
pub(super) fn mirrors_of(
    config: &Config,
    upstream: &Upstream,
    local: &Local,
    anew: &Anew,
) -> Mirrors {
    let (upstream, local) = (upstream.clone(), local.clone());
    Mirrors::new(config, upstream, local, Vec::new(), anew.clone())
}

fn start_mirrors(
    mirrors: &Mirrors,
    to_mirror: &watch::Sender<Option<mpsc::Sender<SeenCredential>>>,
) -> AbortHandle {
    let (to, seen) = mpsc::channel(WAITING);
    to_mirror.send_replace(Some(to));
    tokio::spawn(mirrors.clone().run(seen)).abort_handle()
}

/// Tokens and secret ids that clients brought go to the mirror that runs now.
async fn pass_on(
    mut seen: LearnRequests,
    mirror: watch::Receiver<Option<mpsc::Sender<SeenCredential>>>,
) {
    while let Some(request) = seen.recv().await {
        let to = mirror.borrow().clone();
        if let Some(to) = to {
            // A mirror that is being replaced misses one token, which its next use brings again.
            let seen = match request {
                LearnRequest::Doubted(digest) => SeenCredential::Doubted(digest),
                LearnRequest::DoubtedLogin(pair) => SeenCredential::DoubtedLogin(pair),
                LearnRequest::Login(candidate) => SeenCredential::Login(candidate),
                LearnRequest::Token { token, digest, uid } => {
                    SeenCredential::Token(SeenToken { token, digest, uid })
                }
            };
            let _ = to.send(seen).await;
        }
    }
}

/// Reads the configuration anew, one time after the other. Cheap to clone.
#[derive(Clone)]
pub(super) struct Reloads(Arc<ReloadParts>);

struct ReloadParts {
    config: Arc<watch::Sender<Arc<Config>>>,
    board: Arc<Board>,
    reader: FileReader,
    turn: tokio::sync::Mutex<()>,
}

impl Reloads {
    pub(super) fn of(config: &Arc<watch::Sender<Arc<Config>>>, board: &Arc<Board>) -> Self {
        Self(Arc::new(ReloadParts {
            config: Arc::clone(config),
            board: Arc::clone(board),
            reader: FileReader::default(),
            turn: tokio::sync::Mutex::default(),
        }))
    }

    /// Applies a changed configuration, or puts on the board why not. Waits a few seconds for the file, whatever hangs.
    pub(super) async fn reload(&self) {
        let ReloadParts {
            config,
            board,
            reader,
            turn,
        } = &*self.0;
        let _turn = turn.lock().await;
        let rejected = config::watch::reload(config, reader).await.err();
        if let Some(rejected) = &rejected {
            tracing::error!("the changed configuration is rejected:\n{rejected}");
        }
        let rejected = rejected
            .map(|rejected| format!("the configuration was changed, and rejected: {rejected}"));
        board.put("configuration", rejected);
        let finding = descriptors::finding(&config.borrow().limits);
        board.put("descriptors", finding);
    }

    /// Watches the configuration's file; a change is loaded as SIGHUP loads it.
    async fn watch(self) {
        let file = self.0.config.borrow().path.clone();
        let changed = || {
            let reloads = self.clone();
            async move { reloads.reload().await }
        };
        let watched = config::apply::watch_file(file, &self.0.reader, changed);
        if let Err(error) = watched.await {
            tracing::warn!(%error, "the configuration cannot be watched");
            let finding = format!("the configuration cannot be watched ({error}): use SIGHUP");
            self.0.board.put("watch", [finding]);
        }
    }
}
