//! The sockets of the admin API: one for operators, bound with its final mode, and one of metrics on loopback.

use std::{
    convert::Infallible, io, net::SocketAddr, os::unix::net, pin::pin, sync::Arc, time::Duration,
};

use bytes::Bytes;
use http::{HeaderValue, StatusCode, header::CONTENT_TYPE};
use http_body_util::{BodyExt, Full, Limited};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream, UnixListener, UnixStream},
    sync::{Semaphore, watch},
    task::JoinSet,
};

use crate::admin::{AdminReply, AdminRequest, Deps};

/// Connections at once; more wait in the kernel's queue.
const CONNECTIONS: usize = 64;

/// The largest body taken, in bytes.
const BODY: usize = 64 * 1024;

/// A client that has not sent its request's head within this is cut off.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);

/// The same, for its body.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// How long open requests may take once the daemon stops.
const DRAIN: Duration = Duration::from_secs(2);

/// After a failed accept, before the next.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Answers on the admin socket until `stop` turns true.
///
/// # Errors
/// If the runtime does not take the listener.
pub async fn serve(
    listener: net::UnixListener,
    deps: Deps,
    stop: watch::Receiver<bool>,
) -> io::Result<()> {
    run(Door::Admin(UnixListener::from_std(listener)?), deps, stop).await;
    Ok(())
}

/// Answers `/metrics`, and nothing else, until `stop` turns true.
///
/// # Errors
/// If the address cannot be bound.
pub async fn serve_metrics(
    address: SocketAddr,
    deps: Deps,
    stop: watch::Receiver<bool>,
) -> io::Result<()> {
    let listener = TcpListener::bind(address).await?;
    run(Door::Metrics(listener), deps, stop).await;
    Ok(())
}

enum Door {
    Admin(UnixListener),
    Metrics(TcpListener),
}

enum Guest {
    Operator(UnixStream),
    Scraper(TcpStream),
}

impl Door {
    async fn accept(&self) -> io::Result<Guest> {
        Ok(match self {
            Self::Admin(listener) => Guest::Operator(listener.accept().await?.0),
            Self::Metrics(listener) => Guest::Scraper(listener.accept().await?.0),
        })
    }
}

async fn run(door: Door, deps: Deps, mut stop: watch::Receiver<bool>) {
    let slots = Arc::new(Semaphore::new(CONNECTIONS));
    let mut open = JoinSet::new();
    loop {
        let slot = Arc::clone(&slots).acquire_owned();
        let accepted = tokio::select! {
            accepted = async { (slot.await, door.accept().await) } => accepted,
            _ = stop.wait_for(|stop| *stop) => break,
        };
        match accepted {
            (slot, Ok(guest)) => {
                let (deps, stop) = (deps.clone(), stop.clone());
                open.spawn(async move {
                    welcome(guest, deps, stop).await;
                    drop(slot);
                });
            }
            // Out of descriptors, mostly: others have to end first.
            (_, Err(error)) => {
                tracing::warn!(%error, "cannot accept a connection to the admin API");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
        while open.try_join_next().is_some() {}
    }
    let drained = tokio::time::timeout(DRAIN, async { while open.join_next().await.is_some() {} });
    if drained.await.is_err() {
        tracing::warn!("requests to the admin API were cut off");
    }
}

async fn welcome(guest: Guest, deps: Deps, stop: watch::Receiver<bool>) {
    match guest {
        Guest::Operator(stream) => {
            let uid = stream.peer_cred().ok().map(|peer| peer.uid());
            connection(stream, deps, Scope::Operator { uid }, stop).await;
        }
        Guest::Scraper(stream) => connection(stream, deps, Scope::Scraper, stop).await,
    }
}

/// What a connection may ask.
#[derive(Clone, Copy)]
enum Scope {
    Operator { uid: Option<u32> },
    Scraper,
}

async fn respond(request: hyper::Request<Incoming>, deps: &Deps, scope: Scope) -> AdminReply {
    let uid = match scope {
        Scope::Operator { uid } => uid,
        Scope::Scraper => None,
    };
    match (read(request, uid).await, scope) {
        (Ok(request), Scope::Operator { .. }) => deps.answer(&request).await,
        (Ok(request), Scope::Scraper) => deps.answer_metrics(&request),
        (Err(reply), _) => reply,
    }
}

async fn connection<S>(stream: S, deps: Deps, scope: Scope, mut stop: watch::Receiver<bool>)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let service = service_fn(move |request| {
        let deps = deps.clone();
        async move { Ok::<_, Infallible>(written(respond(request, &deps, scope).await)) }
    });
    let mut connection = pin!(
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIMEOUT)
            .serve_connection(TokioIo::new(stream), service)
    );
    let stopped = async { drop(stop.wait_for(|stop| *stop).await) };
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stopped => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection to the admin API broke");
    }
}

async fn read(
    request: hyper::Request<Incoming>,
    uid: Option<u32>,
) -> Result<AdminRequest, AdminReply> {
    let (head, body) = request.into_parts();
    let body = Limited::new(body, BODY).collect();
    let body = match tokio::time::timeout(BODY_TIMEOUT, body).await {
        Ok(Ok(body)) => body.to_bytes(),
        Ok(Err(_)) => {
            let text = format!("the body is larger than {BODY} bytes, or ended early");
            return Err(AdminReply::error(StatusCode::PAYLOAD_TOO_LARGE, text));
        }
        Err(_) => {
            let text = "the body did not arrive in time";
            return Err(AdminReply::error(StatusCode::REQUEST_TIMEOUT, text));
        }
    };
    Ok(AdminRequest {
        method: head.method,
        path: head.uri.path().to_owned(),
        query: head.uri.query().map(str::to_owned),
        body,
        uid,
    })
}

fn written(reply: AdminReply) -> hyper::Response<Full<Bytes>> {
    let mut response = hyper::Response::new(Full::new(Bytes::from(reply.body)));
    *response.status_mut() = reply.status;
    let content_type = HeaderValue::from_static(reply.content_type);
    response.headers_mut().insert(CONTENT_TYPE, content_type);
    response
}
