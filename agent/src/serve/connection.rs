//! One connection: its peer attested at accept, its requests served one after the other.

use std::{convert::Infallible, os::fd::AsFd, sync::Arc, time::Duration};

use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::UnixStream,
    sync::{Semaphore, watch},
};

use super::{
    Server,
    limits::{Counted, Exceeded},
    line::RequestLine,
    peer::{self, PeerFacts, Process, Queue},
    respond,
    stream::AttributedStream,
};

/// Bytes of a request's head; Go's limit, which the primary has, is 1 MiB.
const HEAD: usize = 64 * 1024;

/// For a request's head, the wait for it on an idle connection included.
const HEAD_WITHIN: Duration = Duration::from_secs(75);

/// For telling a connection that there are too many.
const REFUSAL_WITHIN: Duration = Duration::from_secs(2);

/// What is known of a connection.
pub(super) struct Connection {
    /// Its peer.
    pub(super) facts: Arc<PeerFacts>,
    /// The request line that arrived last.
    pub(super) line: RequestLine,
    _counted: Counted,
}

type Admitted = (PeerFacts, Option<Process>, Counted);

impl Server {
    /// Attests the peer and serves its requests, one after the other.
    ///
    /// The work before the first await is done at accept: `SO_PASSCRED` is set before anything is read, because bytes
    /// that are received without it carry no credentials, and would be nobody's.
    pub(super) fn connection(
        self: Arc<Self>,
        stream: UnixStream,
        queue: Queue,
        refusals: &Arc<Semaphore>,
        stopping: &watch::Receiver<bool>,
    ) -> impl Future<Output = ()> + use<> {
        let admitted = self.admit(&stream, queue);
        let refusal = match &admitted {
            Ok(_) => None,
            Err(_) => refusals.clone().try_acquire_owned().ok(),
        };
        let stopping = stopping.clone();
        async move {
            match admitted {
                Ok((facts, process, counted)) => {
                    let facts = Arc::new(facts);
                    let rules = self.rules.clone();
                    let stream = AttributedStream::new(stream, facts.clone(), process, rules);
                    let connection = Connection {
                        facts,
                        line: stream.request_line(),
                        _counted: counted,
                    };
                    self.serve_connection(stream, Arc::new(connection), stopping)
                        .await;
                }
                Err(Some(limit)) if refusal.is_some() => refuse(stream, limit).await,
                Err(_) => {}
            }
        }
    }

    fn admit(&self, stream: &UnixStream, queue: Queue) -> Result<Admitted, Option<Exceeded>> {
        rustix::net::sockopt::set_socket_passcred(stream, true).map_err(|_| None)?;
        let (facts, process) = peer::attest(stream.as_fd(), queue).map_err(|_| None)?;
        let (rules, now) = (self.rules.load(), self.replica.now().boot);
        let counted = self.limits.connect(facts.uid, &rules.limits, now)?;
        Ok((facts, process, counted))
    }

    async fn serve_connection(
        self: Arc<Self>,
        stream: AttributedStream,
        connection: Arc<Connection>,
        mut stopping: watch::Receiver<bool>,
    ) {
        let service = service_fn(move |request| {
            let (server, connection) = (self.clone(), connection.clone());
            async move { Ok::<_, Infallible>(server.handle(&connection, request).await) }
        });
        let serving = http1().serve_connection(TokioIo::new(stream), service);
        tokio::pin!(serving);
        tokio::select! {
            biased;
            ended = serving.as_mut() => return trace(ended),
            _ = stopping.wait_for(|stop| *stop) => serving.as_mut().graceful_shutdown(),
        }
        trace(serving.await);
    }
}

fn http1() -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_WITHIN)
        .max_header_size(HEAD)
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
