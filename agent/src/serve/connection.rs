//! One connection: its peer attested, its requests served one after the other.

use std::{convert::Infallible, io, os::fd::BorrowedFd, sync::Arc, time::Duration};

use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use rustix::net::sockopt::set_socket_passcred;
use shared::share::{Party, turns::Room};
use tokio::{net::UnixStream, sync::watch};

use super::{
    Server,
    arrivals::Arrival,
    limits::{Exceeded, HeldSeat},
    line::RequestLine,
    peer::{PeerFacts, Process, Stranger},
    respond,
    stream::AttributedStream,
};

/// Bytes of a request's head; Go's limit, which the primary has, is 1 MiB.
const HEAD: usize = 64 * 1024;

/// Bytes that are read ahead of one connection: a head, and what of a body comes with it.
const AHEAD: usize = HEAD + 8 * 1024;

/// For a request's head, the wait for it on an idle connection included.
const HEAD_WITHIN: Duration = Duration::from_secs(75);

/// Connections that may wait for their attestation however few there may be: among them may be one that is worth its place.
const WAITING: usize = 256;

/// For telling a connection that there are too many.
const REFUSAL_WITHIN: Duration = Duration::from_secs(2);

/// For the request of a connection that is served first when the socket stops: one that was sent before is answered.
const LAST_WITHIN: Duration = Duration::from_millis(100);

/// What is known of a connection.
pub(super) struct Connection {
    /// Its peer.
    pub(super) facts: Arc<PeerFacts>,
    /// The request line that arrived last.
    pub(super) line: RequestLine,
    /// Whom what it takes is counted to.
    pub(super) party: Arc<Party>,
    /// Its place.
    pub(super) place: Arc<HeldSeat>,
}

/// A connection that has its place.
pub(super) struct Admitted {
    facts: PeerFacts,
    process: Option<Process>,
    party: Party,
    place: HeldSeat,
}

/// Why a connection is not served.
pub(super) enum Unserved {
    /// There are too many.
    Exceeded(Exceeded),
    /// Nothing is known of its peer.
    Unknown(io::Error),
}

impl Admitted {
    /// The user that it runs as, if an entry matches it.
    pub(super) fn workloads_user(&self) -> Option<u32> {
        self.party.matched.then_some(self.party.uid)
    }
}

impl Server {
    /// Serves the requests of a connection, one after the other.
    pub(super) async fn connection(
        self: Arc<Self>,
        arrival: Arrival,
        stopping: watch::Receiver<bool>,
    ) {
        let Ok(stream) = UnixStream::from_std(arrival.stream) else {
            return;
        };
        let admitted = match arrival.admitted {
            Ok(admitted) => admitted,
            Err(limit) => return refuse(stream, limit).await,
        };
        if *stopping.borrow() {
            let _ = tokio::time::timeout(LAST_WITHIN, stream.readable()).await;
        }
        let facts = Arc::new(admitted.facts);
        let (rules, process) = (self.rules.clone(), admitted.process);
        let place = Arc::new(admitted.place);
        let stream = AttributedStream::new(stream, facts.clone(), process, rules, place.clone());
        let connection = Connection {
            facts,
            line: stream.request_line(),
            party: Arc::new(admitted.party),
            place,
        };
        self.serve_connection(stream, Arc::new(connection), stopping)
            .await;
    }

    /// Attests the peer, and gives the connection its place.
    ///
    /// `SO_PASSCRED` is set before anything is read, because bytes that are received without it carry no credentials, and
    /// would be nobody's.
    pub(super) fn admit(
        &self,
        stream: BorrowedFd<'_>,
        stranger: Stranger,
    ) -> Result<Admitted, Unserved> {
        set_socket_passcred(stream, true).map_err(|error| Unserved::Unknown(error.into()))?;
        let facts = self
            .with_descriptors(|| stranger.attest(stream))
            .map_err(Unserved::Unknown)?;
        let process = stranger.into_process();
        let rules = self.rules.load();
        let party = facts.party(&rules.matches);
        let place = self
            .limits
            .connect(&party, &rules.limits, !rules.matches.is_empty())
            .map_err(Unserved::Exceeded)?;
        Ok(Admitted {
            facts,
            process,
            party,
            place,
        })
    }

    /// Whether a connection is served apart from those of workloads: so once there is an entry, and none matches. Being told
    /// that there are too many is.
    pub(super) fn is_apart(&self, arrival: &Arrival) -> bool {
        let is_workloads = matches!(&arrival.admitted, Ok(admitted) if admitted.party.matched);
        !is_workloads && !self.rules.load().matches.is_empty()
    }

    /// Whether an entry names this user: a workload is to be expected to run as it.
    pub(super) fn names_user(&self, uid: u32) -> bool {
        let rules = self.rules.load();
        rules.matches.iter().any(|(_, of)| of.uid == Some(uid))
    }

    /// How many connections may wait for that.
    pub(super) fn room(&self) -> Room {
        let limits = self.rules.load().limits;
        let count = |limit| usize::try_from(limit).map_or(WAITING, |limit| WAITING.max(limit));
        Room {
            all: count(limits.connections),
            of_one: count(limits.connections_per_uid),
        }
    }

    async fn serve_connection(
        self: Arc<Self>,
        stream: AttributedStream,
        connection: Arc<Connection>,
        mut stopping: watch::Receiver<bool>,
    ) {
        let (server, of_service) = (self.clone(), connection.clone());
        let service = service_fn(move |request| {
            let (server, connection) = (server.clone(), of_service.clone());
            async move { Ok::<_, Infallible>(server.handle(&connection, request).await) }
        });
        let serving = http1().serve_connection(TokioIo::new(stream), service);
        tokio::pin!(serving);
        let stops = tokio::select! {
            biased;
            ended = serving.as_mut() => return trace(ended),
            () = connection.place.lost() => false,
            _ = stopping.wait_for(|stop| *stop) => true,
        };
        if stops {
            serving.as_mut().graceful_shutdown();
            tokio::select! {
                ended = serving.as_mut() => return trace(ended),
                () = connection.place.lost() => {}
            }
        }
        let is_workloads = connection.party.matched;
        self.parting
            .part(serving, is_workloads, &connection.place)
            .await;
    }
}

fn http1() -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_WITHIN)
        .max_header_size(HEAD)
        .max_buf_size(AHEAD)
        .title_case_headers(true);
    builder
}

/// Says that there are too many connections, to whoever listens.
async fn refuse(stream: UnixStream, limit: Exceeded) {
    let service = service_fn(|_| async { Ok::<_, Infallible>(respond::exceeded(limit)) });
    let mut builder = http1();
    builder.keep_alive(false);
    let telling = builder.serve_connection(TokioIo::new(stream), service);
    // Whoever does not read it in time goes without.
    let _ = tokio::time::timeout(REFUSAL_WITHIN, telling).await;
}

pub(super) fn trace(ended: hyper::Result<()>) {
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended");
    }
}
