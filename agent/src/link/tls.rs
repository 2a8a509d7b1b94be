//! What TLS connections to the primary trust: the certificates of `ca_file`, and nothing else.
//!
//! The provider is ring's, handed over explicitly. Forwards and Holdover's own connections trust the same, so that both
//! sides of the daemon agree on who the primary is; Holdover's own show its certificate besides, where it has one.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use rustls::{ClientConfig, RootCertStore, client::WantsClientCert};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};

use super::{
    connect::{self, Https},
    names::Names,
};
use crate::config::{self, AuthMethod};

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
}

/// The files that connections are made with, as they were last good.
pub(crate) struct TlsFiles {
    ca: Option<PathBuf>,
    /// The client certificate and its key: Holdover's own, which no forward of a client shows.
    identity: Option<(PathBuf, PathBuf)>,
    connect_timeout: Duration,
    stamps: Mutex<Vec<Stamp>>,
    made: ArcSwap<Connectors>,
    /// Why no certificate is shown though one is configured.
    unidentified: Mutex<Option<String>>,
}

/// What was made of the files.
struct Connectors {
    forwards: Https,
    own: Https,
}

impl TlsFiles {
    /// Reads the files. A certificate that cannot be used may come: what the replica can serve does not wait for it.
    ///
    /// # Errors
    /// If the CA file cannot be used.
    pub(crate) fn open(primary: &config::PrimaryConfig, names: &Names) -> Result<Self, TlsError> {
        let identity = match &primary.auth.method {
            AuthMethod::Cert {
                cert_file,
                key_file,
                ..
            } => Some((cert_file.clone(), key_file.clone())),
            _ => None,
        };
        let ca = primary.ca_file.clone();
        let connect_timeout = primary.connect_timeout;
        let forwards = client_config(ca.as_deref())?;
        let (own, unidentified) = match own_config(ca.as_deref(), identity.as_ref()) {
            Ok(own) => (own, None),
            Err(error) => (forwards.clone(), Some(error.to_string())),
        };
        let made = Connectors::of(forwards, own, names, connect_timeout);
        let files = Self {
            ca,
            identity,
            connect_timeout,
            stamps: Mutex::default(),
            made: ArcSwap::from_pointee(made),
            unidentified: Mutex::new(unidentified),
        };
        *files.stamps.lock() = files.stamps_now();
        Ok(files)
    }

    /// What opens connections now, Holdover's `own` or those of forwards.
    pub(crate) fn https(&self, own: bool) -> Https {
        let made = self.made.load();
        match own {
            true => made.own.clone(),
            false => made.forwards.clone(),
        }
    }

    /// Takes the files up again if they changed. Bad ones are reported and the old ones stay in use, each for what it is
    /// for; so does a pair of which one half is new and the other not yet. Whether there is something new.
    pub(crate) fn reload(&self, names: &Names) -> bool {
        let seen = self.stamps_now();
        if std::mem::replace(&mut *self.stamps.lock(), seen.clone()) == seen {
            return false;
        }
        let unusable = |error: &TlsError| {
            tracing::error!(%error, "a file of connections to the primary changed and cannot be used");
        };
        let made = self.made.load_full();
        let connector = |tls| connect::https(tls, names, self.connect_timeout);
        let forwards = client_config(self.ca.as_deref()).inspect_err(unusable);
        let Ok(forwards) = forwards else {
            return false;
        };
        // Clients do not show Holdover's certificate, and do not wait for it.
        let own = own_config(self.ca.as_deref(), self.identity.as_ref()).inspect_err(unusable);
        {
            let mut unidentified = self.unidentified.lock();
            match &own {
                Ok(_) => *unidentified = None,
                Err(error) if unidentified.is_some() => *unidentified = Some(error.to_string()),
                Err(_) => {}
            }
        }
        self.made.store(Arc::new(Connectors {
            forwards: connector(forwards),
            own: own.map_or_else(|_| made.own.clone(), connector),
        }));
        tracing::info!("the changed files of connections to the primary are in use");
        true
    }

    /// Why no certificate is shown, though one is configured.
    pub(crate) fn unidentified(&self) -> Option<String> {
        self.unidentified.lock().clone()
    }

    fn stamps_now(&self) -> Vec<Stamp> {
        let identity = self.identity.iter().flat_map(|(cert, key)| [cert, key]);
        let files = self.ca.iter().chain(identity);
        files.map(|path| Stamp::of(path)).collect()
    }
}

impl Connectors {
    fn of(forwards: ClientConfig, own: ClientConfig, names: &Names, timeout: Duration) -> Self {
        Self {
            forwards: connect::https(forwards, names, timeout),
            own: connect::https(own, names, timeout),
        }
    }
}

fn own_config(
    ca: Option<&Path>,
    identity: Option<&(PathBuf, PathBuf)>,
) -> Result<ClientConfig, TlsError> {
    match identity {
        Some((certificate, key)) => identified(ca, ClientCertificate { certificate, key }),
        None => client_config(ca),
    }
}

/// The files of a client certificate.
#[derive(Clone, Copy, Debug)]
pub struct ClientCertificate<'a> {
    /// The certificate, and what lies between it and its CA.
    pub certificate: &'a Path,
    /// Its key.
    pub key: &'a Path,
}

/// The client configuration that trusts `ca_file` alone; without a file it trusts nobody. It shows no certificate:
/// forwards of clients go by it.
///
/// # Errors
/// If the file cannot be read or holds no usable certificate.
pub fn client_config(ca_file: Option<&Path>) -> Result<ClientConfig, TlsError> {
    Ok(trusting(ca_file)?.with_no_client_auth())
}

/// The same, showing a client certificate where a server asks for one: Holdover's own connections alone.
///
/// # Errors
/// As [`client_config`], and if the certificate and its key cannot be used.
pub fn identified(
    ca_file: Option<&Path>,
    identity: ClientCertificate<'_>,
) -> Result<ClientConfig, TlsError> {
    let ClientCertificate { certificate, key } = identity;
    let read = |path: &Path| {
        let path = path.to_owned();
        move |source| TlsError::Read { path, source }
    };
    let chain = CertificateDer::pem_file_iter(certificate).map_err(read(certificate))?;
    let chain = chain.collect::<Result<Vec<_>, _>>();
    let chain = chain.map_err(read(certificate))?;
    if chain.is_empty() {
        let path = certificate.to_owned();
        return Err(TlsError::Empty { path });
    }
    let private = PrivateKeyDer::from_pem_file(key).map_err(read(key))?;
    let paired = trusting(ca_file)?.with_client_auth_cert(chain, private);
    paired.map_err(|source| TlsError::Identity {
        certificate: certificate.to_owned(),
        key: key.to_owned(),
        source,
    })
}

fn trusting(
    ca_file: Option<&Path>,
) -> Result<rustls::ConfigBuilder<ClientConfig, WantsClientCert>, TlsError> {
    let roots = match ca_file {
        Some(path) => read_roots(path)?,
        None => RootCertStore::empty(),
    };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(TlsError::Versions)?;
    Ok(builder.with_root_certificates(roots))
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
            let error = identified(None, ClientCertificate { certificate, key });
            let error = format!("{:?}", error.err().unwrap());
            assert!(
                !error.contains("c2Vj") && !error.contains("secret"),
                "{error}"
            );
        }
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
