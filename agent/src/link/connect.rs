//! Connections to the primary: private CA only, one bound for both handshakes, and nothing is sent over one before it has
//! shown the trusted cluster. Failures keep their kind.

use std::{
    error::Error as StdError,
    io::{self, IoSlice},
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use http::{HeaderValue, Uri};
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_rustls::{HttpsConnector, MaybeHttpsStream};
use hyper_util::{
    client::legacy::connect::{Connected, Connection, HttpConnector, dns::Name},
    rt::TokioIo,
};
use rustls::ClientConfig;
use shared::provenance::{Line, NodeRole, NodeSeen};
use tokio::net::TcpStream;
use tower_service::Service;

use super::{
    LineShown, LinkBase,
    address::AddressEntry,
    error::Unshown,
    names::{Names, NotResolved},
    show,
};
use crate::{clock::Stopwatch, config::Address, link::error::Unavailable, local::Pending};

/// An idle TCP connection is probed this often, so that a dead path is noticed.
const KEEPALIVE: Duration = Duration::from_secs(15);

/// Bytes that are not acknowledged for this long end a connection: its line is dead.
const UNACKNOWLEDGED: Duration = Duration::from_secs(10);

/// Connections that are opened to an address at most for one that can be used.
const MOST_TRIES: u32 = 6;

/// Connections that are opened where the node that answered cannot be used.
const TRIES_FOR_ANOTHER: u32 = 3;

type Boxed = Box<dyn StdError + Send + Sync>;
type Io = MaybeHttpsStream<TokioIo<TcpStream>>;

/// What opens TCP and TLS.
#[derive(Clone)]
pub(crate) struct Https {
    tcp: HttpConnector<Resolver>,
    tls: Arc<ClientConfig>,
}

/// What a connection is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Purpose {
    /// Clients' requests.
    Forward,
    /// To see what answers there, and nothing else.
    Look,
    /// The same, to the active node alone.
    ForwardToActive,
    /// Holdover's own: to the active node if there is a way, and with Holdover's certificate.
    Own,
}

/// Opens connections to one address.
#[derive(Clone)]
pub(crate) struct Connector {
    base: Arc<LinkBase>,
    entry: Arc<AddressEntry>,
    /// What the `Host` header says.
    host: Option<HeaderValue>,
    purpose: Purpose,
}

/// A connector that trusts what `tls` does, and nobody else.
pub(crate) fn https(tls: ClientConfig, names: &Names, connect_timeout: Duration) -> Https {
    let mut tcp = HttpConnector::new_with_resolver(Resolver(names.clone()));
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    tcp.set_keepalive(Some(KEEPALIVE));
    tcp.set_tcp_user_timeout(Some(UNACKNOWLEDGED));
    tcp.set_connect_timeout(Some(connect_timeout));
    let tls = Arc::new(tls);
    Https { tcp, tls }
}

impl Https {
    /// Opens a connection. `accepted` is called once the other end has taken it, whatever comes of it then.
    async fn open(mut self, uri: Uri, accepted: impl FnOnce()) -> Result<Io, Boxed> {
        let tcp = self.tcp.call(uri.clone()).await?;
        accepted();
        HttpsConnector::from((Opened(Some(tcp)), self.tls))
            .call(uri)
            .await
    }
}

/// A TCP connection that stands, for the TLS that goes over it.
struct Opened(Option<TokioIo<TcpStream>>);

impl Service<Uri> for Opened {
    type Response = TokioIo<TcpStream>;
    type Error = io::Error;
    type Future = std::future::Ready<io::Result<Self::Response>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _uri: Uri) -> Self::Future {
        let taken = || io::Error::other("this connection was taken already");
        std::future::ready(self.0.take().ok_or_else(taken))
    }
}

/// The authority of an address, as in a URL.
pub(crate) fn authority(address: &Address) -> String {
    match address.host.contains(':') {
        true => format!("[{}]:{}", address.host, address.port),
        false => format!("{}:{}", address.host, address.port),
    }
}

impl Connector {
    pub(crate) fn new(
        address: &Address,
        base: &Arc<LinkBase>,
        entry: &Arc<AddressEntry>,
        purpose: Purpose,
    ) -> Self {
        Self {
            base: Arc::clone(base),
            entry: Arc::clone(entry),
            host: HeaderValue::from_str(&authority(address)).ok(),
            purpose,
        }
    }

    /// A connection for this purpose: for some the first that leads to the active node, if any does. A node that cannot be
    /// used is no reason to give up an address that may lead to others.
    pub(crate) async fn open(self, uri: Uri) -> Result<ShownStream, Unshown> {
        let mut why = Unshown::NotActive;
        let mut other = None;
        for nr in 1..=MOST_TRIES {
            match self.connect_and_show(&uri).await {
                Ok(opened) if self.is_wanted(&opened) => {
                    self.before_use().await;
                    return Ok(opened);
                }
                Ok(opened) => {
                    other = Some(opened);
                    if nr >= self.entry.tries_for_active() {
                        break;
                    }
                }
                Err(unshown) => {
                    let go_on = unshown.is_of_one_node() && nr < TRIES_FOR_ANOTHER;
                    why = unshown;
                    if !go_on {
                        break;
                    }
                }
            }
        }
        if let Some(other) = other.filter(|_| self.purpose == Purpose::Own) {
            return Ok(other);
        }
        self.entry.not_shown(&why, self.base.now());
        Err(why)
    }

    async fn before_use(&self) {
        let of_clients = matches!(self.purpose, Purpose::Forward | Purpose::ForwardToActive);
        if let Some(before) = self.base.before_forwards.get().filter(|_| of_clients) {
            before().await;
        }
    }

    fn is_wanted(&self, opened: &ShownStream) -> bool {
        let active = || opened.shown.line().node.role == NodeRole::Active;
        matches!(self.purpose, Purpose::Forward | Purpose::Look) || active()
    }

    async fn connect_and_show(&self, uri: &Uri) -> Result<ShownStream, Unshown> {
        let within = self.base.connect_timeout;
        let https = self.base.files.https(self.purpose == Purpose::Own);
        let accepted = AtomicBool::new(false);
        let opening = https.open(uri.clone(), || accepted.store(true, Ordering::Relaxed));
        let opened = tokio::time::timeout(within, opening).await;
        self.entry.accepts(accepted.into_inner());
        let io = match opened {
            Ok(Ok(io)) => io,
            Ok(Err(error)) => return Err(Unavailable::of(error.as_ref()).into()),
            Err(_) => return Err(Unavailable::Timeout.into()),
        };
        let thorough = self.purpose == Purpose::Look || self.entry.is_new();
        let watch = Stopwatch::start();
        let opened_at = self.base.now();
        let host = self.host.as_ref().ok_or_else(no_host)?;
        let showing = show::show(&self.base, host, thorough, io);
        let showing = tokio::time::timeout(within, showing).await;
        let (io, shown) = showing.unwrap_or(Err(Unavailable::Timeout.into()))?;
        let elapsed = watch.elapsed();
        let shared = self
            .entry
            .shown(&shown.node, shown.several, elapsed, opened_at);
        let line = Line::new(shown.node, shown.honours, shared, opened_at);
        Ok(ShownStream {
            io,
            shown: LineShown::new(line, opened_at),
        })
    }
}

fn no_host() -> Unshown {
    Unavailable::Connect("its host name cannot be sent as a header".to_owned()).into()
}

impl Service<Uri> for Connector {
    type Response = ShownStream;
    type Error = Boxed;
    type Future = Pending<'static, Result<Self::Response, Boxed>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Boxed>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let driven = self.base.driven.clone();
        let opening = self.clone().open(uri);
        Box::pin(async move { Ok(driven.run(opening).await??) })
    }
}

/// A connection that has shown the trusted cluster.
pub(crate) struct ShownStream {
    io: Io,
    shown: LineShown,
}

impl ShownStream {
    /// The node at its other end.
    pub(crate) fn node(&self) -> NodeSeen {
        self.shown.line().node
    }
}

impl Connection for ShownStream {
    fn connected(&self) -> Connected {
        self.io.connected().extra(self.shown.clone())
    }
}

impl Read for ShownStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl Write for ShownStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, bufs)
    }
}

/// Resolves names by the one resolver.
#[derive(Clone)]
pub(crate) struct Resolver(Names);

impl Service<Name> for Resolver {
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = NotResolved;
    type Future = Pending<'static, Result<Self::Response, NotResolved>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), NotResolved>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let names = self.0.clone();
        Box::pin(async move { Ok(names.resolve(name.as_str()).await?.into_iter()) })
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Read, Write},
        net::TcpListener,
        path::Path,
        sync::Arc,
    };

    use base64::{Engine, engine::general_purpose::STANDARD};
    use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
    use rustls::{ServerConfig, ServerConnection, StreamOwned};
    use rustls_pki_types::PrivateKeyDer;

    use super::*;
    use crate::{config, samples};

    /// A CA's certificate in PEM, and a server's configuration under it.
    fn authority() -> (String, ServerConfig) {
        let ca_key = KeyPair::generate().unwrap();
        let mut ca = CertificateParams::new(Vec::new()).unwrap();
        ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let root = ca.self_signed(&ca_key).unwrap();
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(vec!["127.0.0.1".to_owned()])
            .unwrap()
            .signed_by(&key, &Issuer::from_params(&ca, &ca_key))
            .unwrap();
        let body = STANDARD.encode(root.der());
        let pem = format!("-----BEGIN CERTIFICATE-----\n{body}\n-----END CERTIFICATE-----\n");
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let config =
            ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
                .with_safe_default_protocol_versions()
                .unwrap()
                .with_no_client_auth()
                .with_single_cert(vec![certificate.der().clone()], key)
                .unwrap();
        (pem, config)
    }

    /// Serves one TLS connection, which shows an active node; the client may go before its end.
    fn serve_tls(config: ServerConfig) -> u16 {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        std::thread::spawn(move || {
            let (socket, _) = listener.accept().unwrap();
            let server = ServerConnection::new(Arc::new(config)).unwrap();
            let mut stream = StreamOwned::new(server, socket);
            let body = r#"{"initialized":true,"sealed":false,"cluster_id":"c"}"#;
            let length = body.len();
            let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{body}");
            while stream.read(&mut [0; 1024]).is_ok_and(|read| read > 0) {
                let _ = stream
                    .write_all(answer.as_bytes())
                    .and_then(|()| stream.flush());
            }
        });
        port
    }

    async fn open(ca_file: Option<&Path>, url: &str) -> Result<(), Unavailable> {
        let uri: Uri = url.parse().unwrap();
        let address = Address {
            url: url.to_owned(),
            tls: uri.scheme_str() == Some("https"),
            host: uri.host().unwrap().to_owned(),
            port: uri.port_u16().unwrap(),
        };
        let primary = config::PrimaryConfig {
            ca_file: ca_file.map(Path::to_owned),
            connect_timeout: Duration::from_millis(400),
            ..samples::primary_config(std::slice::from_ref(&address))
        };
        let clock = Arc::new(crate::clock::Clock::start(None).unwrap());
        let link = crate::link::Link::new(&primary, None, clock).unwrap();
        let at = &link.addresses().all()[0];
        let looked = link.look(at, Duration::from_millis(400)).await;
        looked.map(drop).map_err(Unshown::into_unavailable)
    }

    #[tokio::test]
    async fn only_the_configured_ca_is_trusted() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ca.pem");
        let (pem, config) = authority();
        std::fs::write(&path, pem).unwrap();
        let url = |port| format!("https://127.0.0.1:{port}/");
        assert_eq!(open(Some(&path), &url(serve_tls(config))).await, Ok(()));
        let (_, strangers) = authority();
        let refused = open(Some(&path), &url(serve_tls(strangers))).await;
        assert!(matches!(refused, Err(Unavailable::Tls(_))), "{refused:?}");
        let (_, config) = authority();
        let refused = open(None, &url(serve_tls(config))).await;
        assert!(matches!(refused, Err(Unavailable::Tls(_))), "{refused:?}");
    }

    #[tokio::test]
    async fn a_new_ca_is_used_though_holdovers_own_certificate_cannot_be() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str| folder.path().join(name);
        let ((old, _), (new, config)) = (authority(), authority());
        std::fs::write(file("ca.pem"), old).unwrap();
        let port = serve_tls(config);
        let address = Address {
            url: format!("https://127.0.0.1:{port}"),
            tls: true,
            host: "127.0.0.1".to_owned(),
            port,
        };
        let mut primary = config::PrimaryConfig {
            ca_file: Some(file("ca.pem")),
            ..samples::primary_config(&[address])
        };
        primary.auth.method = config::AuthMethod::Cert {
            name: None,
            cert_file: file("no-such.pem"),
            key_file: file("no-such.key"),
        };
        let clock = Arc::new(crate::clock::Clock::start(None).unwrap());
        let link = crate::link::Link::new(&primary, None, clock).unwrap();
        std::fs::write(file("ca.pem"), format!("{new}\n")).unwrap();
        link.reload_files().await;
        assert!(link.unidentified().is_some());
        let looked = link.look(&link.addresses().all()[0], Duration::from_secs(5));
        assert!(looked.await.is_ok());
    }

    #[tokio::test]
    async fn a_ca_that_cannot_be_used_at_the_start_trusts_nobody_until_it_can() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ca.pem");
        let primary = config::PrimaryConfig {
            ca_file: Some(path.clone()),
            ..samples::primary_config(&[])
        };
        let (names, reader) = (Names::default(), crate::file::FileReader::default());
        let files = crate::link::files::TlsFiles::open(&primary, &names).unwrap();
        let Some(crate::link::files::TlsFault::Never(why)) = files.untrusted() else {
            panic!("{:?}", files.untrusted());
        };
        assert!(
            why.contains("ca.pem") && why.contains("No such file"),
            "{why}"
        );
        let (good, _) = authority();
        std::fs::write(&path, &good).unwrap();
        assert!(files.reload(&reader, &names).await && files.untrusted().is_none());
        std::fs::write(&path, format!("\u{feff}{good}")).unwrap();
        assert!(!files.reload(&reader, &names).await);
        let Some(crate::link::files::TlsFault::Changed(why)) = files.untrusted() else {
            panic!("{:?}", files.untrusted());
        };
        assert!(why.contains("byte order mark"), "{why}");
    }

    #[tokio::test]
    async fn each_failure_keeps_its_kind() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let silent = open(None, &format!("https://127.0.0.1:{port}/")).await;
        assert_eq!(
            silent,
            Err(Unavailable::Timeout),
            "the handshake has no answer"
        );
        drop(listener);
        let refused = open(None, &format!("http://127.0.0.1:{port}/")).await;
        assert!(
            matches!(refused, Err(Unavailable::Connect(_))),
            "{refused:?}"
        );
        // `.invalid` never resolves (RFC 6761).
        let unknown = open(None, "http://primary.invalid:8200/").await;
        assert!(
            matches!(unknown, Err(Unavailable::Dns(_) | Unavailable::Timeout)),
            "{unknown:?}"
        );
    }
}
