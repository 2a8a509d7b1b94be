//! The daemon assembled: what runs, what of it is told of a changed configuration, and how it ends.

use std::{os::unix::net::UnixListener, sync::Arc};

use arc_swap::ArcSwap;
use replica::{ledger::Aggregate, sequencer::Lane};
use shared::failover::Event;
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
};

use super::{
    RunError,
    adapt::{LiveMirrors, MirrorStatuses},
    edge::LiveEdge,
    exposed, follow,
    open::{self, Opening},
    upkeep,
};
use crate::{
    admin,
    config::Config,
    coverage::{self, Coverage},
    driver::{Driver, Handle},
    journal::{self, Delivery},
    local::Local,
    metrics::Metrics,
    mirror::{Anew, Mirrors},
    offboarding,
    parity::{self, Offer, Parity},
    ready::{prove, prove::Checks},
    reaper,
    recovery::{ahead, mend, primary::LivePrimary, revocations, settler::Settler},
    serve::{Parts, Server, SocketRules, learn_queue::LearnQueue, replica::Attached, stats::Stats},
    service,
    status::{
        board::Board,
        fill::{Fill, Fills},
    },
    upstream::Upstream,
};

/// Everything that runs.
pub(super) struct Daemon {
    pub(super) local: Local,
    pub(super) upstream: Upstream,
    pub(super) mirrors: Arc<ArcSwap<Mirrors>>,
    pub(super) driver: Handle,
    pub(super) server: Arc<Server>,
    pub(super) board: Arc<Board>,
    pub(super) config: Arc<watch::Sender<Arc<Config>>>,
    pub(super) reloads: follow::Reloads,
    pub(super) stop: watch::Sender<bool>,
    pub(super) tasks: JoinSet<()>,
    parity: Parity,
    metrics: Arc<Metrics>,
    notes: Arc<Aggregate>,
    coverage: Arc<Coverage>,
    delivery: watch::Sender<Delivery>,
}

impl Daemon {
    /// Connects the rooms with each other and starts what goes on in them. The workload socket is not served yet.
    pub(super) fn start(
        config: Config,
        opening: Opening,
        board: Arc<Board>,
        admin: UnixListener,
    ) -> Result<Self, RunError> {
        let (local, coverage) = (opening.local, opening.coverage);
        let (upstream, anew) = (Upstream::new(&config, local.clone())?, Anew::default());
        let mirrors = follow::mirrors_of(&config, &upstream, &local, &anew);
        let mirrors = Arc::new(ArcSwap::from_pointee(mirrors));
        let primary = Arc::new(LivePrimary::new(&local, &upstream, &mirrors));
        let settler = Settler::new(local.clone(), Arc::clone(&primary));
        let current = Arc::new(config);
        let config = Arc::new(watch::Sender::new(Arc::clone(&current)));
        let edge = LiveEdge::new(&primary, &config);
        let (machine, driver) = Driver::new(current.knobs(), local.clone(), edge);
        let (learning, seen) = LearnQueue::new();
        let (notes, stats) = (Arc::new(Aggregate::default()), Stats::default());
        let (parity, offers) = Parity::new(current.parity_sample, open::seed(&local));
        let metrics = Arc::new(Metrics::new(&stats, learning.clone(), parity.counts()));
        let server = Server::new(Parts {
            replica: Arc::new(Attached::new(local.clone(), Arc::clone(&notes))),
            driver: driver.clone(),
            link: upstream.link().clone(),
            minter: Arc::new(upstream.clone()),
            learning,
            rules: SocketRules::new(&current),
            settler: Arc::new(settler.clone()),
            stats,
            coverage: Arc::clone(&coverage),
            parity: parity.clone(),
            anew,
        });
        let mut daemon = Self {
            local,
            upstream,
            mirrors,
            driver,
            server,
            reloads: follow::Reloads::of(&config, &board),
            board,
            config,
            stop: watch::Sender::new(false),
            tasks: JoinSet::new(),
            parity,
            metrics,
            notes,
            coverage,
            delivery: watch::Sender::default(),
        };
        let driving = upkeep::watched(machine.run(), "the failover machine");
        daemon.tasks.spawn(driving);
        daemon.keep_primary(primary, settler);
        daemon.keep_replica(offers);
        daemon.serve_admin(admin);
        let (current, board) = (daemon.config.subscribe(), Arc::clone(&daemon.board));
        daemon.tasks.spawn(exposed::watch(current, board));
        daemon.follow_configuration(seen);
        Ok(daemon)
    }

    /// What is asked of the primary, and reported to it, whoever is in charge.
    fn keep_primary(&mut self, primary: Arc<LivePrimary>, settler: Settler<LivePrimary>) {
        let (local, upstream) = (self.local.clone(), self.upstream.clone());
        let failover = self.config.borrow().failover;
        let (every, within) = (failover.probe_interval, failover.probe_timeout);
        let driver = self.driver.clone();
        let accepted = move || driver.send(Event::Accepted);
        let watch = upstream.link().clone().keep_watch(accepted, every, within);
        self.tasks.spawn(watch);
        self.tasks.spawn(upstream.clone().keep_own_token());
        self.tasks.spawn(upstream.clone().watch_rights());
        self.tasks
            .spawn(offboarding::watch(local.clone(), upstream));
        let config = Arc::clone(&self.config);
        let budget = move || config.borrow().primary.requests_per_second;
        let settling = ahead::run(local.clone(), Arc::clone(&primary), settler, budget);
        self.tasks.spawn(settling);
        let mirrors = Arc::clone(&self.mirrors);
        self.tasks.spawn(mend::run(local.clone(), mirrors));
        let reporting = revocations::report_while_following(local, primary);
        self.tasks.spawn(reporting);
    }

    /// What the replica needs to stay right: ends made durable, notes taken down, decisions compared.
    fn keep_replica(&mut self, offers: mpsc::Receiver<Offer>) {
        let (local, metrics) = (self.local.clone(), Arc::clone(&self.metrics));
        let reaping = reaper::run(local.clone(), move |lateness| {
            metrics.revoked_late(lateness)
        });
        self.tasks.spawn(upkeep::watched(reaping, "the reaper"));
        let refresh = Arc::new(LiveMirrors(Arc::clone(&self.mirrors)));
        let parity = self.parity.clone();
        let comparing = parity::compare::run(parity, offers, local.clone(), refresh);
        self.tasks.spawn(comparing);
        let coverage = Arc::clone(&self.coverage);
        self.tasks
            .spawn(coverage::keep::keep(local.clone(), coverage));
        let notes = Arc::clone(&self.notes);
        self.tasks.spawn(upkeep::flush_notes(local.clone(), notes));
        if let Some(journal) = journal::socket() {
            self.delivery
                .send_modify(|delivery| delivery.to_journald = true);
            let told = self.delivery.clone();
            self.tasks.spawn(journal::run(local.clone(), journal, told));
        }
        let alive = async move || upkeep::wait_for_writer(&local).await;
        let reporting = service::keep_reporting(self.driver.watch(), alive);
        self.tasks.spawn(reporting);
    }

    fn serve_admin(&mut self, admin: UnixListener) {
        let config = Arc::clone(&self.config.borrow());
        let (checked, checks) = watch::channel(Checks::default());
        let proving = prove::run(self.local.clone(), config.replica.path.clone(), checked);
        self.tasks.spawn(proving);
        let deps = admin::Deps {
            local: self.local.clone(),
            driver: self.driver.clone(),
            addresses: self.upstream.addresses().clone(),
            own: Arc::new(self.upstream.clone()),
            mirrors: Arc::new(MirrorStatuses::new(Arc::clone(&self.mirrors))),
            config: self.config.subscribe(),
            checks,
            delivery: self.delivery.subscribe(),
            board: Arc::clone(&self.board),
            metrics: Arc::clone(&self.metrics),
            parity: self.parity.clone(),
            coverage: Arc::clone(&self.coverage),
            fills: self.fills(),
        };
        let stopping = self.stop.subscribe();
        if let Some(address) = config.admin.metrics {
            let serving = admin::server::serve_metrics(address, deps.clone(), stopping.clone());
            self.tasks
                .spawn(upkeep::watched(serving, "the metrics listener"));
        }
        let serving = admin::server::serve(admin, deps, stopping);
        let what = "the admin socket";
        self.tasks.spawn(upkeep::watched(serving, what));
    }

    /// How full everything is that clients or the primary can make grow.
    fn fills(&self) -> Fills {
        let (server, local) = (Arc::clone(&self.server), self.local.clone());
        let mirrors = Arc::clone(&self.mirrors);
        Arc::new(move || {
            let known = local.view.filled(local.clock.now()).into_iter();
            let known = known.map(|one| Fill::entries(one.of, one.has, one.most));
            let known = known.chain(mirrors.load().fills());
            known.chain(server.fills()).collect()
        })
    }

    /// Stores what must be stored, and ends the writer: last, because everything before it still writes.
    pub(super) async fn finish(mut self) {
        self.tasks.abort_all();
        while self.tasks.join_next().await.is_some() {}
        self.server.end_unattended().await;
        self.server.counted().await;
        coverage::keep::flush(&self.local, &self.coverage).await;
        let last = self.notes.flush();
        let noted = self.local.commit(Lane::Mirror, last, Default::default());
        if let Err(error) = noted.await {
            tracing::warn!(%error, "the last reads and denials are not in the ledger");
        }
        let sequencer = self.local.sequencer.clone();
        let stopped = tokio::task::spawn_blocking(move || sequencer.stop());
        if stopped.await.is_err() {
            tracing::error!("the replica was not closed in order");
        }
    }
}
