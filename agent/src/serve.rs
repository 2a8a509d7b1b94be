//! The workload socket: connections in, answers out, by whichever side is in charge.
//!
//! What the socket needs of the rest of the daemon is in [`Parts`]. A request's way, and the files on it:
//!
//! 1. `crate::socket` binds the socket, `arrivals` accepts and attests the peer ([`peer`], `peer_groups`), `serving` keeps the
//!    connections in their `lanes`, and `connection` serves HTTP over [`stream`] until it ends or is `parting`; the stream attributes
//!    every byte to its writer (`line` keeps request lines as they were sent).
//! 2. `Server::answer`, here, counts it against the [`limits`]; `receive` reads it once into an `ask`, with what bounds its body.
//! 3. `Server::by_side_in_charge`, here, has the side in charge answer, and the other one if that changes meanwhile.
//! 4. While the primary is in charge, `Server::follow` in `follow` chooses the `forward_token`, `forwards` gives the request a place, `crate::link` sends
//!    it (`headers` says what passes, `dropped` counts what does not), `observer` learns from the answer, and `key_watch` looks for keys that it shows
//!    to be superseded. Logins and creations go through `Server::issue` in `issue`; `Server::attested_login` in [`login`] has a
//!    token minted instead of forwarding. What is sent once goes on if its client goes (`unattended`), and what nobody gets then is revoked (`custody`).
//! 5. Otherwise, and where a read falls back, `Server::decide` in `decide` asks the [`replica`].
//! 6. `respond` writes the answer; [`stats`] and `counting` count it.
//!
//! `impl Server` stands in `arrivals`, `connection`, `decide`, `follow`, `forwards`, `issue`, [`login`], `receive`, `standing`,
//! `unsettled` and here, and nowhere else.

pub mod custody;
pub mod learn_queue;
pub mod limits;
pub mod login;
pub mod peer;
pub mod replica;
pub mod stats;
pub mod stream;

mod arrivals;
mod ask;
mod connection;
mod counting;
mod decide;
mod dropped;
mod follow;
mod forward_token;
mod forwards;
mod headers;
mod issue;
mod key_watch;
mod lanes;
mod line;
mod observer;
mod parting;
mod peer_groups;
mod receive;
mod recently;
mod replica_token;
mod respond;
mod serving;
mod standing;
mod unattended;
mod unsettled;

#[cfg(test)]
mod tests;

use std::{
    io,
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};

use crate::{
    clock::Stopwatch,
    config::{self, PeerMatch},
    coverage::Coverage,
    driver::Handle,
    link::{Link, body, room::Rooms},
    mirror::Anew,
    parity::Parity,
    recovery::settler::AtUse,
    socket::{BoundSocket, descriptors},
    status::fill::Fill,
};
use arc_swap::ArcSwap;
use http::{HeaderName, Request, Response, StatusCode, Version};
use hyper::body::Incoming;
use shared::{api::Kind, name::WorkloadName, share::Total};

use arrivals::Arrivals;
use ask::{Ask, Outcome};
use body::{Buffers, RelayBody};
use connection::Connection;
use counting::Counter;
use custody::Custody;
use decide::LoginFailed;
use key_watch::KeyWatch;
use learn_queue::LearnQueue;
use limits::Limits;
use login::Minter;
use observer::Observer;
use parting::Parting;
use replica::Replica;
use serving::LiveConnections;
use stats::Stats;
use unattended::Unattended;

/// After accepting failed, where nothing was done about it.
const ACCEPT_AGAIN: Duration = Duration::from_millis(50);

/// The same where a descriptor was freed.
const ACCEPT_SOON: Duration = Duration::from_millis(1);

/// Connections that the drain did not wait for are closed within this: what was asked on them may have to be stored.
const CLOSED_WITHIN: Duration = Duration::from_millis(500);

/// From the end of an outage until everybody knows of it takes no longer, unless there is another one by then.
const HANDOVER: Duration = Duration::from_secs(1);

/// How often a request is taken up anew because the other side took over.
const RETAKES: usize = 3;

/// What the socket needs of the rest of the daemon.
pub struct Parts {
    /// The replica.
    pub replica: Arc<dyn Replica>,
    /// The driver.
    pub driver: Handle,
    /// The way to the primary.
    pub link: Link,
    /// Who mints tokens for attested logins.
    pub minter: Arc<dyn Minter>,
    /// Who settles what an outage left, at its use.
    pub settler: Arc<dyn AtUse>,
    /// Where tokens go that are to be looked up.
    pub learning: LearnQueue,
    /// The configuration's part.
    pub rules: SocketRules,
    /// Counters for `/metrics`.
    pub stats: Stats,
    /// Counters for `coverage`.
    pub coverage: Arc<Coverage>,
    /// Where answers go that are compared with the replica's.
    pub parity: Parity,
    /// Where it is said what is to be read anew.
    pub anew: Anew,
}

/// The configuration as far as the socket goes by it. Replaced as a whole.
#[derive(Clone)]
pub struct SocketRules {
    /// How each workload entry recognises its peers.
    pub matches: Vec<(WorkloadName, PeerMatch)>,
    /// `[limits]`.
    pub limits: config::LimitsConfig,
    /// `[primary] read_deadline`.
    pub read_deadline: Duration,
    /// `[failover] issue_deadline`.
    pub issue_deadline: Duration,
    /// `[parity] sample`.
    pub parity_sample: f64,
    /// `[listener] forward_headers`.
    pub forward_headers: Vec<HeaderName>,
}

impl SocketRules {
    /// The rules of a configuration.
    pub fn new(config: &config::Config) -> Self {
        Self {
            matches: config.matches.clone(),
            limits: descriptors::affordable(&config.limits),
            read_deadline: config.primary.read_deadline,
            issue_deadline: config.failover.issue_deadline,
            parity_sample: config.parity_sample,
            forward_headers: config.listener.forward_headers.clone(),
        }
    }

    /// `all` of something, of which those whom no entry matches have half once there is an entry.
    fn shared(&self, all: u64) -> Total {
        let halved = self.is_halved();
        Total { all, halved }
    }

    /// Whether there is a workload entry.
    fn is_halved(&self) -> bool {
        !self.matches.is_empty()
    }
}

/// The workload socket's server.
pub struct Server {
    replica: Arc<dyn Replica>,
    driver: Handle,
    link: Link,
    minter: Arc<dyn Minter>,
    settler: Arc<dyn AtUse>,
    observer: Arc<Observer>,
    keys: Arc<KeyWatch>,
    rules: Arc<ArcSwap<SocketRules>>,
    limits: Limits,
    stats: Stats,
    counter: Counter,
    parity: Parity,
    unfinished: Rooms,
    buffers: Buffers,
    forwards: Rooms,
    unattended: Unattended,
    parting: Parting,
    /// Whether no more connections are taken.
    is_closing: AtomicBool,
    /// Held while somebody is looked at for whom descriptors have run out.
    short: parking_lot::Mutex<()>,
}

/// An answer was not to be had from the side that was asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Again {
    /// The other side is in charge now.
    Retake,
    /// Neither is, for too long.
    GiveUp,
}

/// What came of a request at the side that was asked.
pub(crate) type Handled = Result<Response<RelayBody>, Again>;

/// Serves `bound` until `shutdown` resolves; then waits at most `drain` for requests that are being answered.
///
/// # Errors
/// If the listener cannot be used at all, or nobody accepts connections any more: then it is for who started this to start it
/// anew. A connection that fails is that connection's end alone.
pub async fn run(
    bound: BoundSocket,
    server: Arc<Server>,
    shutdown: impl Future<Output = ()>,
    drain: Duration,
) -> io::Result<()> {
    let arrivals = Arrivals::open(&bound.listener, server.clone())?;
    let mut serving = LiveConnections::start(server, arrivals)?;
    serving.until(shutdown).await?;
    serving.stop();
    drop(bound);
    if tokio::time::timeout(drain, serving.drained())
        .await
        .is_err()
    {
        tracing::warn!(
            "connections were closed before they were answered: the drain took too long"
        );
        let _ = tokio::time::timeout(CLOSED_WITHIN, serving.cut()).await;
    }
    Ok(())
}

impl Server {
    /// A server of these parts. Needs a runtime, on which it counts.
    pub fn new(parts: Parts) -> Arc<Self> {
        let (replica, driver, parity) = (parts.replica, parts.driver, parts.parity);
        let observed = (replica.clone(), driver.clone(), parity.clone());
        Arc::new(Self {
            counter: Counter::start(replica.clone(), parts.coverage),
            observer: Arc::new(Observer::new(
                observed.0,
                observed.1,
                parts.learning,
                observed.2,
            )),
            keys: KeyWatch::new(replica.clone(), parts.anew),
            replica,
            driver,
            parity,
            link: parts.link,
            minter: parts.minter,
            settler: parts.settler,
            rules: Arc::new(ArcSwap::from_pointee(parts.rules)),
            limits: Limits::default(),
            stats: parts.stats,
            unfinished: Rooms::default(),
            buffers: Buffers::default(),
            forwards: Rooms::default(),
            unattended: Unattended::new(),
            parting: Parting::default(),
            is_closing: AtomicBool::new(false),
            short: parking_lot::Mutex::default(),
        })
    }

    /// Applies a changed configuration to requests from now on; connections stay.
    pub fn apply(&self, rules: SocketRules) {
        self.parity.set_share(rules.parity_sample);
        self.rules.store(Arc::new(rules));
    }

    /// Waits until every request that was answered is counted for coverage.
    pub async fn counted(&self) {
        self.counter.caught_up().await;
    }

    /// Ends what goes on for clients that have gone. What may be left of it can be stored when this returns.
    pub async fn end_unattended(&self) {
        self.unattended.end().await;
    }

    /// Connections at this moment.
    pub fn connections(&self) -> u64 {
        self.limits.connections()
    }

    /// How full everything is that clients can make grow here.
    pub fn fills(&self) -> Vec<Fill> {
        let limits = self.rules.load().limits;
        let connections = u64::from(limits.connections);
        let mut fills = vec![
            Fill::bytes(
                "unfinished_requests",
                self.unfinished.taken(),
                limits.unfinished_bytes,
            ),
            Fill::bytes("unread_answers", self.buffers.taken(), body::ANSWERS),
            Fill::count("connections", self.connections(), connections),
            Fill::count("forwards", self.forwards.taken(), limits.forwards.into()),
            Fill::entries("users", self.limits.users(), limits::REMEMBERED),
            Fill::entries("headers_dropped", self.stats.dropped.told(), dropped::NAMES),
        ];
        fills.extend(self.keys.fills());
        fills.extend(self.observer.fills());
        fills
    }

    /// What is done about a connection that cannot be accepted, and how long to wait then. Where descriptors have run out,
    /// an idle connection ends for it: what must not happen is that nobody gets in any more.
    fn not_accepted(&self, error: &io::Error) -> Duration {
        if peer::is_exhausted(error) && self.limits.end_one() {
            tracing::debug!(%error, "an idle connection was closed so that another one finds room");
            return ACCEPT_SOON;
        }
        tracing::warn!(%error, "a connection could not be accepted");
        ACCEPT_AGAIN
    }

    /// Answers one request and counts it.
    async fn handle(
        &self,
        connection: &Connection,
        request: Request<Incoming>,
    ) -> Response<RelayBody> {
        let watch = Stopwatch::start();
        connection.place.begun();
        let (knows_chunks, method) = (
            request.version() > Version::HTTP_10,
            request.method().clone(),
        );
        let (mut answer, operation) = self.answer(connection, request).await;
        if !knows_chunks {
            answer = self.measured_for(connection, &method, answer).await;
        }
        answer = self.buffered_for(connection, answer);
        // From here on nothing is waited for: the client has it, or goes in the middle of it.
        Custody::hand_over(answer.extensions_mut());
        self.stats.count(
            respond::source(&answer),
            operation,
            answer.status().as_u16(),
            watch.elapsed(),
        );
        let streams = answer.body().whole().is_none();
        connection.place.was_answered(streams);
        answer
    }

    async fn answer(
        &self,
        connection: &Connection,
        request: Request<Incoming>,
    ) -> (Response<RelayBody>, &'static str) {
        // Requests are counted before anything of them is read, because a flood must cost nothing; logins once it is
        // known that it is one, and before it is tried, because a try may lock a role at the primary.
        let rules = self.rules.load_full();
        let uid = connection.facts.uid;
        let now = self.replica.now();
        if let Err(limit) = self.limits.request(uid, &rules.limits, now.boot) {
            return (respond::exceeded(limit), stats::operation(None));
        }
        let mut ask = match self.receive(connection, &rules, request).await {
            Ok(ask) => ask,
            Err(answer) => return (answer, stats::operation(None)),
        };
        let operation = stats::operation(ask.call.as_ref().ok());
        // An attested login brings nothing that could be guessed.
        let is_login = ask.call.as_ref().is_ok_and(|call| call.kind == Kind::Login);
        if is_login && let Err(limit) = self.limits.login(uid, &rules.limits, now.boot) {
            return (respond::exceeded(limit), operation);
        }
        let answer = self.by_side_in_charge(&mut ask).await;
        let answer = told_truly(&ask, answer);
        if is_login && answer.extensions().get::<LoginFailed>().is_some() {
            self.limits.login_failed(uid, &rules.limits, now.boot);
        }
        self.counter.passed(ask, &answer);
        (answer, operation)
    }

    /// Has the side in charge answer, and the other one if that changes meanwhile.
    async fn by_side_in_charge(&self, ask: &mut Ask) -> Response<RelayBody> {
        for _ in 0..RETAKES {
            let taken = if self.replica.outage().is_some() {
                match self.decide(ask).await {
                    Ok(answer) => self.unless_taken_over(ask, answer).await,
                    again => again,
                }
            } else {
                // The view says first that an outage is over. Nothing is sent before the machine says so, too: it would be
                // given up at once.
                self.driver.while_replicas(HANDOVER).await;
                self.follow_once_presentable(ask).await
            };
            match taken {
                Ok(answer) => return answer,
                Err(Again::Retake) => {}
                Err(Again::GiveUp) => break,
            }
        }
        respond::error_in(
            self.replica.outage().as_ref(),
            StatusCode::SERVICE_UNAVAILABLE,
            "neither the primary nor the replica can issue now",
        )
    }
}

/// An answer that is the last word on a request. That the replica does nothing for it now (503, 429) is none on what the primary may
/// have carried out: then that is what there is to say.
fn told_truly(ask: &Ask, answer: Response<RelayBody>) -> Response<RelayBody> {
    let refused = matches!(
        answer.status(),
        StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS
    );
    let of_replica = respond::source(&answer) == "replica";
    match ask.once.outcome() {
        Outcome::Unknown if refused && of_replica => respond::unknown(),
        Outcome::Known | Outcome::None | Outcome::Unknown => answer,
    }
}
