//! Connections to the primary: private CA only, one bound for both handshakes, failures that keep their kind.

use std::{
    error::Error as StdError,
    io,
    net::SocketAddr,
    task::{Context, Poll},
    time::Duration,
};

use http::Uri;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder, MaybeHttpsStream};
use hyper_util::{
    client::legacy::connect::{HttpConnector, dns::Name},
    rt::TokioIo,
};
use tokio::net::TcpStream;
use tower_service::Service;

use crate::{
    config,
    local::Pending,
    upstream::{
        names::{Names, NotResolved},
        tls::{self, TlsError},
    },
};

/// An idle TCP connection is probed this often, so that a dead path is noticed.
const KEEPALIVE: Duration = Duration::from_secs(15);

/// Opens connections to the primary.
#[derive(Clone)]
pub(crate) struct Connector {
    inner: HttpsConnector<HttpConnector<Resolver>>,
    within: Duration,
}

impl Connector {
    /// A connector that trusts the configured CA and nobody else.
    pub(crate) fn new(primary: &config::PrimaryConfig) -> Result<Self, TlsError> {
        let mut tcp = HttpConnector::new_with_resolver(Resolver(Names::default()));
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_keepalive(Some(KEEPALIVE));
        tcp.set_connect_timeout(Some(primary.connect_timeout));
        let inner = HttpsConnectorBuilder::new()
            .with_tls_config(tls::client_config(primary.ca_file.as_deref())?)
            .https_or_http()
            .enable_http1()
            .wrap_connector(tcp);
        Ok(Self {
            inner,
            within: primary.connect_timeout,
        })
    }
}

type Boxed = Box<dyn StdError + Send + Sync>;

impl Service<Uri> for Connector {
    type Response = MaybeHttpsStream<TokioIo<TcpStream>>;
    type Error = Boxed;
    type Future = Pending<'static, Result<Self::Response, Boxed>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Boxed>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let opening = self.inner.call(uri);
        let within = self.within;
        Box::pin(async move {
            tokio::time::timeout(within, opening)
                .await
                .unwrap_or_else(|_| Err(io::Error::from(io::ErrorKind::TimedOut).into()))
        })
    }
}

/// Resolves names as Holdover's own requests do.
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
    use crate::{samples, upstream::Unavailable};

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

    /// Serves one TLS connection; the client may go before its end.
    fn serve_tls(config: ServerConfig) -> u16 {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        std::thread::spawn(move || {
            let (socket, _) = listener.accept().unwrap();
            let server = ServerConnection::new(Arc::new(config)).unwrap();
            let mut stream = StreamOwned::new(server, socket);
            let _ = stream.write_all(b"hello").and_then(|()| stream.flush());
            let _ = stream.read(&mut [0]);
        });
        port
    }

    async fn open(ca_file: Option<&Path>, url: &str) -> Result<(), Unavailable> {
        let primary = config::PrimaryConfig {
            ca_file: ca_file.map(Path::to_owned),
            connect_timeout: Duration::from_millis(400),
            ..samples::primary_config(&[])
        };
        let mut connector = Connector::new(&primary).unwrap();
        match connector.call(url.parse().unwrap()).await {
            Ok(_) => Ok(()),
            Err(error) => Err(Unavailable::of(error.as_ref())),
        }
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
