//! What TLS connections to the primary trust: the certificates of `ca_file`, and nothing else.
//!
//! The provider is ring's, handed over explicitly. Forwards and Holdover's own connections trust the same, so that both
//! sides of the daemon agree on who the primary is; Holdover's own show its certificate besides, where it has one.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use rustls::{ClientConfig, RootCertStore, client::WantsClientCert};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use shared::credential::{self, TextFault};
use zeroize::Zeroizing;

use crate::file::{self, FileError, FileFault};

/// The longest file of certificates, in bytes.
const LARGEST: u64 = 4 << 20;

/// Why a file of connections cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// Nothing in it is a certificate.
    #[error("{} holds no certificate", path.display())]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// One of its certificates cannot be a trust anchor.
    #[error("{}: {source}", path.display())]
    Anchor {
        /// The file.
        path: PathBuf,
        /// Why.
        source: rustls::Error,
    },
    /// The client certificate and its key do not make a pair, or cannot be used.
    #[error("{} with {}: {source}", certificate.display(), key.display())]
    Identity {
        /// The certificate's file.
        certificate: PathBuf,
        /// The key's.
        key: PathBuf,
        /// Why.
        source: rustls::Error,
    },
    /// It cannot be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// It is no PEM.
    #[error("{}: {source}", path.display())]
    Pem {
        /// The file.
        path: PathBuf,
        /// Why.
        source: rustls_pki_types::pem::Error,
    },
    /// The provider has no protocol version in common with rustls.
    #[error("no TLS protocol version: {0}")]
    Versions(rustls::Error),
}

/// The files of a client certificate.
#[derive(Clone, Copy, Debug)]
pub struct ClientCertificate<'a> {
    /// The certificate, and what lies between it and its CA.
    pub certificate: &'a Path,
    /// Its key.
    pub key: &'a Path,
}

/// The text of a file of certificates or a key. Shared, so that no copy of a key is made.
pub(super) type PemText = Arc<Zeroizing<Vec<u8>>>;

/// A client certificate with its key.
#[derive(PartialEq)]
pub(super) struct Pair {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

impl Pair {
    /// Of the texts of its two files, each with its path.
    ///
    /// # Errors
    /// If one is not what it is to be, or they do not belong together.
    pub(super) fn of(
        (chain, certificate_at): (&PemText, &Path),
        (key, key_at): (&PemText, &Path),
    ) -> Result<Self, TlsError> {
        let pair = Self {
            chain: certificates(chain, certificate_at)?,
            key: PrivateKeyDer::from_pem_slice(key).map_err(no_pem(key_at))?,
        };
        let shown = builder(RootCertStore::empty())?
            .with_client_auth_cert(pair.chain.clone(), pair.key.clone_key());
        match shown {
            Ok(_) => Ok(pair),
            Err(source) => Err(TlsError::Identity {
                certificate: certificate_at.to_owned(),
                key: key_at.to_owned(),
                source,
            }),
        }
    }
}

/// The client configuration that trusts the certificates of `ca_file` alone, and shows none; without a file it trusts nobody.
///
/// # Errors
/// If the file cannot be read or holds no usable certificate.
pub fn client_config(ca_file: Option<&Path>) -> Result<ClientConfig, TlsError> {
    let roots = match ca_file {
        Some(path) => roots(&pem(path)?, path)?,
        None => RootCertStore::empty(),
    };
    config(roots, None)
}

/// Reads the files of a client certificate.
///
/// # Errors
/// If the certificate and its key cannot be used.
pub fn identified(identity: ClientCertificate<'_>) -> Result<(), TlsError> {
    let ClientCertificate { certificate, key } = identity;
    Pair::of((&pem(certificate)?, certificate), (&pem(key)?, key)).map(drop)
}

/// The client configuration that trusts `roots` alone, and shows the certificate of `pair` where a server asks for one.
pub(super) fn config(roots: RootCertStore, pair: Option<&Pair>) -> Result<ClientConfig, TlsError> {
    let builder = builder(roots)?;
    match pair {
        None => Ok(builder.with_no_client_auth()),
        Some(pair) => builder
            .with_client_auth_cert(pair.chain.clone(), pair.key.clone_key())
            .map_err(TlsError::Versions),
    }
}

fn builder(
    roots: RootCertStore,
) -> Result<rustls::ConfigBuilder<ClientConfig, WantsClientCert>, TlsError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(TlsError::Versions)?;
    Ok(builder.with_root_certificates(roots))
}

/// The text of a file of certificates or a key. An editor's mark would hide its first line. Blocks for as long as its filesystem
/// does.
pub(super) fn pem(path: &Path) -> Result<PemText, TlsError> {
    let text = file::read(path, LARGEST)?;
    // Around the blocks there may be anything.
    match credential::text(&text) {
        Err(fault @ TextFault::ByteOrderMark) => Err(FileFault::from(fault).at(path).into()),
        _ => Ok(Arc::new(text)),
    }
}

fn no_pem(path: &Path) -> impl Fn(rustls_pki_types::pem::Error) -> TlsError {
    let path = path.to_owned();
    move |source| TlsError::Pem {
        path: path.clone(),
        source,
    }
}

/// The certificates in the text of the file at `path`, of which there is at least one.
fn certificates(text: &PemText, path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let found = CertificateDer::pem_slice_iter(text).collect::<Result<Vec<_>, _>>();
    let found = found.map_err(no_pem(path))?;
    match found.is_empty() {
        true => Err(TlsError::Empty {
            path: path.to_owned(),
        }),
        false => Ok(found),
    }
}

/// The certificates to trust in the text of the file at `path`.
pub(super) fn roots(text: &PemText, path: &Path) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(text, path)? {
        let added = roots.add(certificate);
        added.map_err(|source| TlsError::Anchor {
            path: path.to_owned(),
            source,
        })?;
    }
    Ok(roots)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_without_certificates_is_refused_and_none_at_all_trusts_nobody() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ca.pem");
        assert!(matches!(client_config(Some(&path)), Err(TlsError::File(_))));
        std::fs::write(&path, "not a certificate").unwrap();
        assert!(matches!(
            client_config(Some(&path)),
            Err(TlsError::Empty { .. })
        ));
        assert!(client_config(None).is_ok());
    }

    #[test]
    fn a_certificate_without_its_key_is_refused_and_neither_is_quoted() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            path
        };
        let missing = folder.path().join("no-such-file");
        let empty = file("empty", "");
        let broken = file(
            "broken",
            "-----BEGIN PRIVATE KEY-----\nc2VjcmV0!\n-----END PRIVATE KEY-----\n",
        );
        let certificate = file(
            "certificate",
            "-----BEGIN CERTIFICATE-----\nc2VjcmV0\n-----END CERTIFICATE-----\n",
        );
        let key = file(
            "key",
            "-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n-----END PRIVATE KEY-----\n",
        );
        for (certificate, key) in [
            (&missing, &key),
            (&empty, &key),
            (&certificate, &missing),
            (&certificate, &empty),
            (&certificate, &broken),
            (&certificate, &key),
        ] {
            let error = identified(ClientCertificate { certificate, key });
            let error = format!("{:?}", error.err().unwrap());
            assert!(
                !error.contains("c2Vj") && !error.contains("secret"),
                "{error}"
            );
        }
    }
}
