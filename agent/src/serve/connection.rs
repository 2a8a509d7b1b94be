//! One connection: its peer attested, its requests served one after the other.

use std::{convert::Infallible, io, os::fd::BorrowedFd, pin::Pin, sync::Arc, time::Duration};

use hyper::{
    body::Incoming,
    server::conn::http1,
    service::{HttpService, service_fn},
};
use hyper_util::rt::{TokioIo, TokioTimer};
use rustix::net::sockopt::set_socket_passcred;
use shared::share::{Party, turns::Room};
use tokio::{net::UnixStream, sync::watch};

use super::{
    Server,
    arrivals::Arrival,
    body::RelayBody,
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

/// For reading an answer on a connection whose place is another's by now.
const PARTING: Duration = Duration::from_secs(10);

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
        let of_service = connection.clone();
        let service = service_fn(move |request| {
            let (server, connection) = (self.clone(), of_service.clone());
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
        part(serving, &connection.place).await;
    }
}

/// Ends a connection whose place is another's by now. An answer that is on its way is read to its end, if somebody reads it: of
/// those there are no more than there is room for answers.
async fn part<S>(
    mut serving: Pin<&mut http1::Connection<TokioIo<AttributedStream>, S>>,
    place: &HeldSeat,
) where
    S: HttpService<Incoming, ResBody = RelayBody>,
    S::Error: std::error::Error + Send + Sync,
{
    if place.is_unflushed() {
        serving.as_mut().graceful_shutdown();
        if let Ok(ended) = tokio::time::timeout(PARTING, serving).await {
            trace(ended);
        }
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

fn trace(ended: hyper::Result<()>) {
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended");
    }
}
