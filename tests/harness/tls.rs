//! Both ends of TLS as the harness has them: certificates of an [`Authority`], rustls on ring.

use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore, ServerConfig};

use crate::authority::Authority;
use crate::failure::{Failure, Result};

/// A client that trusts only this CA, PEM.
pub fn client(ca: &str) -> Result<ClientConfig> {
    let mut roots = RootCertStore::empty();
    let certificate = CertificateDer::from_pem_slice(ca.as_bytes());
    roots.add(certificate.map_err(|e| Failure::new(format!("CA: {e:?}")))?)?;
    Ok(ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth())
}

/// A server that shows this authority's certificate and offers no protocol but HTTP/1.1.
pub fn server(authority: &Authority) -> Result<ServerConfig> {
    let bad = |e| Failure::new(format!("server certificate: {e:?}"));
    let certificate =
        CertificateDer::from_pem_slice(authority.certificate.as_bytes()).map_err(bad)?;
    let key = PrivateKeyDer::from_pem_slice(authority.key.as_bytes()).map_err(bad)?;
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}
