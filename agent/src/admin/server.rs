//! The sockets of the admin API: one for operators, bound with its final mode, and one of metrics on loopback.

use std::{
    convert::Infallible,
    io,
    net::SocketAddr,
    os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    pin::pin,
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderValue, StatusCode, header::CONTENT_TYPE};
use http_body_util::{BodyExt, Full, Limited};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use rustix::{
    fs::{Mode, fchmod},
    net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType},
};
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

/// The admin socket cannot be bound.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// The kernel refuses.
    #[error("cannot bind {}: {source}; its folder must exist and be writable", path.display())]
    Bind {
        /// The socket.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Somebody answers there.
    #[error("{} is in use by another process; stop it, or set admin.socket to another path", .0.display())]
    InUse(PathBuf),
    /// Something else lies there.
    #[error("{} is not a socket; remove it, or set admin.socket to another path", .0.display())]
    NotSocket(PathBuf),
}

/// Binds the admin socket, of mode 0600, or 0660 where a group may use it. A dead socket in its place is removed.
///
/// # Errors
/// If something else is there, or the kernel refuses.
pub fn bind(path: &Path, group: Option<u32>) -> Result<UnixListener, BindError> {
    remove_dead(path)?;
    bind_private(path, group).map_err(|source| BindError::Bind {
        path: path.to_owned(),
        source,
    })
}

/// Answers on the admin socket until `stop` turns true.
pub async fn serve(listener: UnixListener, deps: Deps, stop: watch::Receiver<bool>) {
    run(Door::Admin(listener), deps, stop).await;
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
            let text = format!("the body is larger than {BODY} bytes, or broke off");
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

fn remove_dead(path: &Path) -> Result<(), BindError> {
    let failed = |source| BindError::Bind {
        path: path.to_owned(),
        source,
    };
    let kind = match std::fs::symlink_metadata(path) {
        Ok(found) => found.file_type(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed(error)),
    };
    if !kind.is_socket() {
        return Err(BindError::NotSocket(path.to_owned()));
    }
    match std::os::unix::net::UnixStream::connect(path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            std::fs::remove_file(path).map_err(failed)
        }
        Ok(_) => Err(BindError::InUse(path.to_owned())),
        Err(error) => Err(failed(error)),
    }
}

/// The kernel gives the socket's file the mode of the unbound socket: there is no moment at which others may connect.
fn bind_private(path: &Path, group: Option<u32>) -> io::Result<UnixListener> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    fchmod(&socket, Mode::RUSR | Mode::WUSR)?;
    rustix::net::bind(&socket, &SocketAddrUnix::new(path)?)?;
    if let Some(group) = group {
        // Where it is our own already, the right to change it is not needed.
        if path.symlink_metadata()?.gid() != group {
            std::os::unix::fs::chown(path, None, Some(group))?;
        }
        std::fs::set_permissions(path, PermissionsExt::from_mode(0o660))?;
    }
    rustix::net::listen(&socket, 128)?;
    UnixListener::from_std(socket.into())
}
