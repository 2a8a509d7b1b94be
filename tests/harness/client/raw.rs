//! A raw HTTP/1.1 client on a Unix socket or a TCP port: what it is told to send is what is sent.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use serde_json::Value;
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;

use crate::clock::Stopwatch;
use crate::failure::{Context, Failure, Result};

/// Where a client connects to.
#[derive(Clone, Debug)]
pub enum Endpoint {
    /// A Unix socket.
    Unix(PathBuf),
    /// `address:port`.
    Tcp(String),
    /// `address:port`, with TLS.
    Tls(String, Arc<ClientConfig>),
}

/// One request.
#[derive(Clone, Debug)]
pub struct Ask {
    /// Method, LIST included.
    pub method: Method,
    /// The request target as it goes on the wire: `/v1/…`.
    pub target: String,
    /// Headers besides `Host` and `Content-Length`.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
}

impl Ask {
    /// A request without a body.
    pub fn new(method: &str, target: &str) -> Result<Ask> {
        let method = Method::from_bytes(method.as_bytes()).context(method)?;
        let headers = HeaderMap::new();
        Ok(Ask {
            method,
            target: target.to_owned(),
            headers,
            body: Bytes::new(),
        })
    }

    /// A read.
    pub fn get(target: &str) -> Ask {
        let (method, headers) = (Method::GET, HeaderMap::new());
        Ask {
            method,
            target: target.to_owned(),
            headers,
            body: Bytes::new(),
        }
    }

    /// A write with POST.
    pub fn post(target: &str, body: &Value) -> Ask {
        Ask {
            method: Method::POST,
            body: body.to_string().into(),
            ..Ask::get(target)
        }
    }

    /// Adds a header.
    pub fn header(mut self, name: &str, value: &str) -> Result<Ask> {
        let name = HeaderName::from_bytes(name.as_bytes()).context(name)?;
        self.headers
            .append(name, HeaderValue::from_str(value).context("header value")?);
        Ok(self)
    }

    /// Adds `X-Vault-Token`.
    pub fn token(self, token: &str) -> Result<Ask> {
        self.header("X-Vault-Token", token)
    }
}

/// One answer.
#[derive(Clone, Debug)]
pub struct Reply {
    /// HTTP status.
    pub status: u16,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Bytes,
    /// From before the connection was asked for to the body's last byte.
    pub took: Duration,
}

impl Reply {
    /// The body as JSON.
    pub fn json(&self) -> Result<Value> {
        let shown = || format!("status {}, body {:?}", self.status, self.text());
        serde_json::from_slice(&self.body).context(shown())
    }

    /// The text at this JSON pointer of the body.
    pub fn json_text(&self, pointer: &str) -> Result<String> {
        let body = self.json()?;
        let text = body.pointer(pointer).and_then(Value::as_str);
        text.map(str::to_owned)
            .context(format!("no text at {pointer} of {body}"))
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// A header's value; none if it is absent or not text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// `X-Holdover-Source`: who answered.
    pub fn source(&self) -> Option<&str> {
        self.header("x-holdover-source")
    }
}

/// A client; cheap to clone. Every request is bounded by its timeout and none is sent twice.
#[derive(Clone, Debug)]
pub struct Client {
    endpoint: Endpoint,
    timeout: Duration,
}

impl Client {
    /// A client of a Unix socket, with 5 s for each request.
    pub fn unix(socket: &Path) -> Client {
        Client {
            endpoint: Endpoint::Unix(socket.to_owned()),
            timeout: Duration::from_secs(5),
        }
    }

    /// A client of a TCP port, with 5 s for each request.
    pub fn tcp(address: &str) -> Client {
        Client {
            endpoint: Endpoint::Tcp(address.to_owned()),
            timeout: Duration::from_secs(5),
        }
    }

    /// A client of a TCP port with TLS, which trusts this CA (PEM), with 5 s for each request.
    pub fn tls(address: &str, ca: &str) -> Result<Client> {
        let config = Arc::new(crate::tls::client(ca)?);
        Ok(Client {
            endpoint: Endpoint::Tls(address.to_owned(), config),
            timeout: Duration::from_secs(5),
        })
    }

    /// The same with another bound for each request, connection included.
    pub fn within(mut self, timeout: Duration) -> Client {
        self.timeout = timeout;
        self
    }

    /// Sends on a connection of its own.
    pub async fn send(&self, ask: &Ask) -> Result<Reply> {
        let watch = Stopwatch::start();
        self.bounded(watch, async {
            self.open().await?.exchange(ask, watch).await
        })
        .await
    }

    /// Opens a connection to be used again and again.
    pub async fn connect(&self) -> Result<Connection> {
        self.bounded(Stopwatch::start(), self.open()).await
    }

    async fn open(&self) -> Result<Connection> {
        let sender = match &self.endpoint {
            Endpoint::Unix(path) => {
                let stream = UnixStream::connect(path).await.context(path.display())?;
                start(stream).await?
            }
            Endpoint::Tcp(address) => {
                let stream = TcpStream::connect(address).await.context(address)?;
                start(stream).await?
            }
            Endpoint::Tls(address, config) => {
                let stream = TcpStream::connect(address).await.context(address)?;
                stream.set_nodelay(true)?;
                let name = ServerName::try_from("127.0.0.1")?;
                let connector = TlsConnector::from(config.clone());
                start(connector.connect(name, stream).await.context(address)?).await?
            }
        };
        let host = match &self.endpoint {
            Endpoint::Unix(_) => "localhost".to_owned(),
            Endpoint::Tcp(address) | Endpoint::Tls(address, _) => address.clone(),
        };
        Ok(Connection {
            sender,
            host,
            timeout: self.timeout,
        })
    }

    async fn bounded<T>(
        &self,
        watch: Stopwatch,
        work: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        within(self.timeout, watch, work).await
    }
}

/// A kept-alive connection.
pub struct Connection {
    sender: SendRequest<Full<Bytes>>,
    host: String,
    timeout: Duration,
}

impl Connection {
    /// Sends on this connection. After a failure it is of no further use.
    pub async fn send(&mut self, ask: &Ask) -> Result<Reply> {
        let watch = Stopwatch::start();
        within(self.timeout, watch, self.exchange(ask, watch)).await
    }

    /// Whether the other side has closed it.
    pub fn closed(&self) -> bool {
        self.sender.is_closed()
    }

    async fn exchange(&mut self, ask: &Ask, watch: Stopwatch) -> Result<Reply> {
        let target: Uri = ask
            .target
            .parse()
            .context(format!("target {:?}", ask.target))?;
        let mut request = Request::new(Full::new(ask.body.clone()));
        *request.method_mut() = ask.method.clone();
        *request.uri_mut() = target;
        *request.headers_mut() = ask.headers.clone();
        if !ask.headers.contains_key(http::header::HOST) {
            request
                .headers_mut()
                .insert(http::header::HOST, HeaderValue::from_str(&self.host)?);
        }
        self.sender.ready().await.context("connection")?;
        let response = self.sender.send_request(request).await.context("request")?;
        let (head, body) = response.into_parts();
        let body = body.collect().await.context("body")?.to_bytes();
        let (status, headers) = (head.status.as_u16(), head.headers);
        Ok(Reply {
            status,
            headers,
            body,
            took: watch.elapsed(),
        })
    }
}

async fn start<S>(stream: S) -> Result<SendRequest<Full<Bytes>>>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin + 'static,
{
    let (sender, connection) = handshake(TokioIo::new(stream)).await?;
    // The connection's own error reaches the caller through the request that it fails.
    tokio::spawn(async move { drop(connection.await) });
    Ok(sender)
}

async fn within<T>(
    timeout: Duration,
    watch: Stopwatch,
    work: impl Future<Output = Result<T>>,
) -> Result<T> {
    let late = |_| Failure::new(format!("no complete answer within {timeout:?}"));
    tokio::time::timeout(watch.left_of(timeout), work)
        .await
        .map_err(late)?
}
