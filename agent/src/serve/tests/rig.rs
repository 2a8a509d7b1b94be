//! What the socket's tests stand on: a replica that does as it is told, a scripted primary, a raw client.

pub(crate) mod client;
pub(crate) mod primary;
pub(crate) mod sides;

use std::{path::PathBuf, sync::Arc, time::Duration};

use ::replica::vault::Answer;
use shared::{change::Expects, failover::Phase, settings::Settings, time::WallTime, wire};
use tokio::{
    sync::{mpsc, oneshot, watch},
    task::JoinHandle,
};

use crate::{
    clock::Clock,
    config::{self, Address, PeerMatch},
    coverage::Coverage,
    driver::{Event, Handle, Snapshot},
    link::Link,
    mirror::Anew,
    parity::{Offer, Parity},
    samples,
    serve::{
        Parts, Server, SocketRules,
        learn_queue::{LearnQueue, LearnRequests},
        run,
        stats::Stats,
    },
};

pub(crate) use client::{Client, Heard, request};
pub(crate) use primary::{Act, Primary};
pub(crate) use sides::{FakeMinter, FakeReplica, FakeSettler};

/// A running socket with everything around it.
pub(crate) struct Rig {
    pub(crate) replica: Arc<FakeReplica>,
    pub(crate) minter: Arc<FakeMinter>,
    pub(crate) settler: Arc<FakeSettler>,
    pub(crate) coverage: Arc<Coverage>,
    pub(crate) server: Arc<Server>,
    pub(crate) path: PathBuf,
    pub(crate) link: Link,
    pub(crate) told: mpsc::UnboundedReceiver<Event>,
    pub(crate) unlearned: LearnRequests,
    pub(crate) offered: mpsc::Receiver<Offer>,
    pub(crate) anew: Anew,
    machine: watch::Sender<Snapshot>,
    stop: Option<oneshot::Sender<()>>,
    running: JoinHandle<std::io::Result<()>>,
    _folder: tempfile::TempDir,
}

/// What a rig is set up with.
pub(crate) struct Setup {
    pub(crate) addresses: Vec<Address>,
    pub(crate) rules: SocketRules,
    pub(crate) settings: Settings,
}

impl Setup {
    /// Following this primary, with the test's own uid as the workload `orders`.
    pub(crate) fn with(primary: &Primary) -> Self {
        Self {
            addresses: vec![primary.address()],
            rules: rules(),
            settings: samples::settings(&["secret/data/shop/*"]),
        }
    }

    /// Starts to serve.
    pub(crate) fn start(self) -> Rig {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        let (events, told) = mpsc::unbounded_channel();
        let machine = watch::Sender::new(snapshot(Phase::Following));
        let replica = Arc::new(FakeReplica::new(self.settings));
        let minter = Arc::new(FakeMinter::default());
        let settler = Arc::new(FakeSettler::default());
        let (learning, unlearned) = LearnQueue::new();
        let (parity, offered) = Parity::new(self.rules.parity_sample, 1);
        let clock = Arc::new(Clock::start(None).unwrap());
        let configured = samples::primary_config(&self.addresses);
        let link = Link::new(&configured, Some(primary::cluster()), clock).unwrap();
        let coverage = Arc::new(Coverage::default());
        let anew = Anew::default();
        let server = Server::new(Parts {
            replica: replica.clone(),
            driver: Handle::new(events, machine.subscribe()),
            link: link.clone(),
            minter: minter.clone(),
            settler: settler.clone(),
            learning,
            rules: self.rules,
            stats: Stats::default(),
            coverage: Arc::clone(&coverage),
            parity,
            anew: anew.clone(),
        });
        let bound = crate::socket::bind_workload(&path, 0o666).unwrap();
        let (stop, stopped) = oneshot::channel();
        let shutdown = async move {
            let _ = stopped.await;
        };
        let running = tokio::spawn(run(bound, server.clone(), shutdown, Duration::from_secs(2)));
        Rig {
            replica,
            minter,
            settler,
            coverage,
            server,
            path,
            link,
            told,
            unlearned,
            offered,
            anew,
            machine,
            stop: Some(stop),
            running,
            _folder: folder,
        }
    }
}

impl Rig {
    /// The machine's state from here on, as the driver and the view say it.
    pub(crate) fn enter(&self, phase: Phase) {
        self.replica.enter(&phase);
        self.machine.send_replace(snapshot(phase));
    }

    /// One request on a connection of its own.
    pub(crate) async fn ask(&self, request: &str) -> Heard {
        Client::connect(&self.path).await.ask(request).await
    }

    /// Stops serving and waits for that.
    pub(crate) async fn stop(mut self) {
        drop(self.stop.take());
        self.running.await.unwrap().unwrap();
    }

    /// Begins to stop.
    pub(crate) fn begin_to_stop(&mut self) {
        drop(self.stop.take());
    }
}

/// An outage that an operator began.
pub(crate) fn holdover() -> Phase {
    Phase::Holdover(samples::outage(Clock::start(None).unwrap().now()))
}

fn snapshot(phase: Phase) -> Snapshot {
    Snapshot {
        phase,
        since: WallTime::EPOCH,
        last_outage: None,
    }
}

/// Generous rules that know the test's own process as `orders`.
pub(crate) fn rules() -> SocketRules {
    let own = PeerMatch {
        uid: Some(rustix::process::geteuid().as_raw()),
        ..PeerMatch::default()
    };
    SocketRules {
        matches: vec![(samples::orders(), own)],
        limits: config::LimitsConfig {
            connections: 64,
            connections_per_uid: 64,
            requests_per_second_per_uid: 10_000,
            ..samples::limits()
        },
        read_deadline: Duration::from_millis(300),
        issue_deadline: Duration::from_secs(2),
        parity_sample: 0.0,
        forward_headers: Vec::new(),
    }
}

/// An answer of the fake vault, without changes.
pub(crate) fn says(status: u16, body: &str) -> Answer {
    Answer {
        response: wire::Response {
            status,
            body: zeroize::Zeroizing::new(body.as_bytes().to_vec()),
            content: shared::kv::Content::default(),
            age: Some(7),
            outage: None,
        },
        changes: Vec::new(),
        expects: Expects::default(),
        note: None,
        attempt: None,
    }
}
