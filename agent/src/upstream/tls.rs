//! What TLS connections to the primary trust: the certificates of `ca_file`, and nothing else.
//!
//! The provider is ring's, handed over explicitly. Forwards use the same configuration, so that both sides of the
//! daemon agree on who the primary is.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::SystemTime,
};

use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::{CertificateDer, pem::PemObject};

/// Why the CA file cannot be used.
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
    /// It cannot be read, or is no PEM.
    #[error("{}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: rustls_pki_types::pem::Error,
    },
    /// The provider has no protocol version in common with rustls.
    #[error("no TLS protocol version: {0}")]
    Versions(rustls::Error),
    /// The HTTP client does not start.
    #[error("the HTTP client does not start: {0}")]
    Client(reqwest::Error),
}

/// The client configuration that trusts `ca_file` alone; without a file it trusts nobody.
///
/// # Errors
/// If the file cannot be read or holds no usable certificate.
pub fn client_config(ca_file: Option<&Path>) -> Result<ClientConfig, TlsError> {
    let roots = match ca_file {
        Some(path) => read_roots(path)?,
        None => RootCertStore::empty(),
    };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(TlsError::Versions)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(config)
}

/// What tells one content of a file from another without reading it: its time of change and its length.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stamp(Option<(SystemTime, u64)>);

impl Stamp {
    /// That of `path` now; one of its own if it is not there.
    pub fn of(path: &Path) -> Self {
        let stamp = std::fs::metadata(path).and_then(|meta| Ok((meta.modified()?, meta.len())));
        Self(stamp.ok())
    }
}

fn read_roots(path: &Path) -> Result<RootCertStore, TlsError> {
    let read = |source| TlsError::Read {
        path: path.to_owned(),
        source,
    };
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(path).map_err(read)? {
        let added = roots.add(certificate.map_err(read)?);
        added.map_err(|source| TlsError::Anchor {
            path: path.to_owned(),
            source,
        })?;
    }
    if roots.is_empty() {
        return Err(TlsError::Empty {
            path: path.to_owned(),
        });
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
        assert!(matches!(
            client_config(Some(&path)),
            Err(TlsError::Read { .. })
        ));
        std::fs::write(&path, "not a certificate").unwrap();
        assert!(matches!(
            client_config(Some(&path)),
            Err(TlsError::Empty { .. })
        ));
        assert!(client_config(None).is_ok());
    }

    #[test]
    fn a_stamp_changes_with_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ca.pem");
        let absent = Stamp::of(&path);
        std::fs::write(&path, "1").unwrap();
        let first = Stamp::of(&path);
        std::fs::write(&path, "22").unwrap();
        assert!(absent != first && first != Stamp::of(&path));
    }
}
