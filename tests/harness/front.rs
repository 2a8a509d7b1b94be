//! The front of a server: takes TLS and HTTP/1.1 from clients and hands each request on, with its connection's memory.
//!
//! Balancers that choose per request, recorders and stand-ins of other servers are all such fronts.

use std::sync::Arc;

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{Request, Response, StatusCode};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::{Body as _, Incoming};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Mutex, watch};
use tokio::task::JoinHandle;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::authority::Authority;
use crate::failure::{Context, Failure, Result};
use crate::port::Port;

/// An answer's body: streamed, or whole.
pub(crate) type Body = BoxBody<Bytes, hyper::Error>;

/// What answers the requests of one client connection, one after the other.
pub(crate) trait Session: Send + 'static {
    /// Answers a request. A failure closes the connection.
    fn answer(
        &mut self,
        request: Request<Bytes>,
    ) -> impl Future<Output = Result<Response<Body>>> + Send;
}

/// The listening front. Gone when dropped, with its connections.
pub(crate) struct Front {
    port: Port,
    task: JoinHandle<()>,
    life: watch::Sender<()>,
}

impl Front {
    /// Listens on a port of its own, with this authority's certificate; each connection gets a session of `open`.
    pub(crate) async fn open<S: Session>(
        authority: &Authority,
        open: impl Fn() -> S + Send + 'static,
    ) -> Result<Front> {
        let port = Port::reserve()?;
        let listener = TcpListener::bind(("127.0.0.1", port.number()))
            .await
            .context("the front's listener")?;
        let acceptor = TlsAcceptor::from(Arc::new(crate::tls::server(authority)?));
        let (life, end) = watch::channel(());
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (session, acceptor, mut end) = (open(), acceptor.clone(), end.clone());
                // Only what comes from now on ends it.
                end.mark_unchanged();
                // A client may go at any time.
                tokio::spawn(async move {
                    tokio::select! {
                        _ = converse(stream, acceptor, session) => {}
                        _ = end.changed() => {}
                    }
                });
            }
        });
        Ok(Front { port, task, life })
    }

    /// Its address: `https://127.0.0.1:PORT`.
    pub(crate) fn address(&self) -> String {
        format!("https://127.0.0.1:{}", self.port.number())
    }

    /// Closes all connections that stand.
    pub(crate) fn hang_up(&self) {
        self.life.send_replace(());
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn converse<S: Session>(stream: TcpStream, acceptor: TlsAcceptor, session: S) -> Result<()> {
    stream.set_nodelay(true)?;
    let stream = acceptor.accept(stream).await?;
    let session = Arc::new(Mutex::new(session));
    let service = service_fn(move |request| {
        let session = session.clone();
        async move {
            let answered = answer(&session, request).await;
            answered.map_err(|failure| std::io::Error::other(failure.to_string()))
        }
    });
    let serving = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
    Ok(serving.await?)
}

async fn answer<S: Session>(
    session: &Mutex<S>,
    request: Request<Incoming>,
) -> Result<Response<Body>> {
    let (head, body) = request.into_parts();
    let body = body.collect().await?.to_bytes();
    let request = Request::from_parts(head, body);
    session.lock().await.answer(request).await
}

/// The way to one backend, `127.0.0.1:PORT`, over one connection that is kept.
pub(crate) struct Backend {
    address: String,
    connector: TlsConnector,
    sender: Option<SendRequest<Full<Bytes>>>,
}

impl Backend {
    /// The way to `address`, whose certificate is of `authority`; opened when first used.
    pub(crate) fn new(address: &str, authority: &Authority) -> Result<Backend> {
        Ok(Backend {
            address: address.to_owned(),
            connector: TlsConnector::from(Arc::new(crate::tls::client(&authority.ca)?)),
            sender: None,
        })
    }

    /// Sends a request as it is, less what belongs to the client's own connection.
    pub(crate) async fn send(&mut self, request: &Request<Bytes>) -> Result<Response<Incoming>> {
        let kept = match self.sender.take() {
            Some(mut kept) => kept.ready().await.ok().map(|()| kept),
            None => None,
        };
        let mut sender = match kept {
            Some(kept) => kept,
            None => self.connect().await?,
        };
        let mut copy = Request::new(Full::new(request.body().clone()));
        *copy.method_mut() = request.method().clone();
        *copy.uri_mut() = request.uri().clone();
        *copy.headers_mut() = request.headers().clone();
        copy.headers_mut().remove(CONNECTION);
        copy.headers_mut().remove(TRANSFER_ENCODING);
        let answer = sender.send_request(copy).await.context(&self.address)?;
        self.sender = Some(sender);
        Ok(answer)
    }

    async fn connect(&self) -> Result<SendRequest<Full<Bytes>>> {
        let stream = TcpStream::connect(&self.address)
            .await
            .context(&self.address)?;
        stream.set_nodelay(true)?;
        let name = ServerName::try_from("127.0.0.1")?;
        let stream = self.connector.connect(name, stream).await?;
        let (mut sender, connection) = handshake(TokioIo::new(stream)).await?;
        // The connection's own error reaches the caller through the request that it fails.
        tokio::spawn(async move { drop(connection.await) });
        sender.ready().await?;
        Ok(sender)
    }
}

/// The same answer to the client, less what belonged to the backend's connection. Its body streams.
pub(crate) fn pass_on(answer: Response<Incoming>) -> Response<Body> {
    let mut answer = answer.map(BodyExt::boxed);
    answer.headers_mut().remove(CONNECTION);
    answer.headers_mut().remove(TRANSFER_ENCODING);
    answer
}

/// The same answer with a body that is whole; its length is set anew.
pub(crate) fn whole(answer: Response<Bytes>) -> Response<Body> {
    let mut answer = answer.map(|body| Full::new(body).map_err(|never| match never {}).boxed());
    if !answer.body().is_end_stream() {
        answer.headers_mut().remove(CONTENT_LENGTH);
    }
    answer
}

/// An answer of our own, text.
pub(crate) fn say(status: StatusCode, text: impl Into<Bytes>) -> Response<Body> {
    let mut answer = Response::new(text.into());
    *answer.status_mut() = status;
    whole(answer)
}

/// The address without a scheme, as a connection is opened to it.
pub(crate) fn bare(address: &str) -> Result<String> {
    let bare = address.rsplit('/').next().filter(|bare| bare.contains(':'));
    bare.map(str::to_owned)
        .ok_or_else(|| Failure::new(format!("{address} names no port")))
}
