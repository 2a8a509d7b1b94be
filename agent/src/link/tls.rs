//! What TLS connections to the primary trust: the certificates of `ca_file`, and nothing else.
//!
//! The provider is ring's, handed over explicitly. Forwards and Holdover's own connections trust the same, so that both
//! sides of the daemon agree on who the primary is; Holdover's own show its certificate besides, where it has one.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use rustls::{ClientConfig, RootCertStore, client::WantsClientCert};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use shared::credential::{self, TextFault};
use zeroize::Zeroizing;

use super::{
    connect::{self, Https},
    names::Names,
};
use crate::{
    config::{self, AuthMethod},
    file::{self, FileError, FileFault, Stamp},
};

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

/// The files that connections are made with, as they were last good.
pub(crate) struct TlsFiles {
    ca: Option<PathBuf>,
    /// The client certificate and its key: Holdover's own, which no forward of a client shows.
    identity: Option<(PathBuf, PathBuf)>,
    connect_timeout: Duration,
    stamps: Mutex<Vec<Stamp>>,
    made: ArcSwap<Connectors>,
    /// What is wrong with the CA file as it is now.
    untrusted: Mutex<Option<CaFault>>,
    /// Why no certificate is shown though one is configured.
    unidentified: Mutex<Option<String>>,
}

/// Why the CA file, as it is now, is not gone by.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum CaFault {
    /// Nor was it ever since the start: nobody is trusted.
    Never(String),
    /// What was in it before is gone by.
    Changed(String),
}

/// What was made of the files.
struct Connectors {
    forwards: Https,
    own: Https,
}

impl TlsFiles {
    /// Reads the files. Those that cannot be used may come: what the replica can serve waits for none of them. Until then
    /// nobody is trusted, or no certificate is shown.
    ///
    /// # Errors
    /// If there is no TLS.
    pub(crate) fn open(
        primary: &config::PrimaryConfig,
        names: &Names,
    ) -> Result<Arc<Self>, TlsError> {
        let identity = match &primary.auth.method {
            AuthMethod::Cert {
                cert_file,
                key_file,
                ..
            } => Some((cert_file.clone(), key_file.clone())),
            _ => None,
        };
        let (ca, connect_timeout) = (primary.ca_file.clone(), primary.connect_timeout);
        let nobody = client_config(None)?;
        let files = Arc::new(Self {
            untrusted: Mutex::new(ca.as_ref().map(|path| CaFault::Never(unread(path)))),
            unidentified: Mutex::new(identity.as_ref().map(|(path, _)| unread(path))),
            made: ArcSwap::from_pointee(Connectors::of(
                nobody.clone(),
                nobody,
                names,
                connect_timeout,
            )),
            ca,
            identity,
            connect_timeout,
            stamps: Mutex::default(),
        });
        if let Some(path) = files.first() {
            let (reading, names) = (Arc::clone(&files), names.clone());
            let read = file::look_at_start(&path, move || reading.reload(&names));
            if let Err(error) = read {
                tracing::error!(%error, "a file of connections to the primary is not read yet");
            }
        }
        Ok(files)
    }

    /// One of the files, for whoever names them all by one.
    pub(crate) fn first(&self) -> Option<PathBuf> {
        let certificate = self.identity.as_ref().map(|(certificate, _)| certificate);
        self.ca.as_ref().or(certificate).cloned()
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
    /// for; so does a pair of which one half is new and the other not yet. Whether there is something new. Blocks for as long
    /// as their filesystem does.
    pub(crate) fn reload(&self, names: &Names) -> bool {
        let seen = self.stamps_now();
        if std::mem::replace(&mut *self.stamps.lock(), seen.clone()) == seen {
            return false;
        }
        let unusable = |error: &TlsError| {
            tracing::error!(%error, "a file of connections to the primary cannot be used");
        };
        let made = self.made.load_full();
        let connector = |tls| connect::https(tls, names, self.connect_timeout);
        let forwards = client_config(self.ca.as_deref()).inspect_err(unusable);
        let forwards = match forwards {
            Ok(forwards) => forwards,
            Err(error) => {
                self.distrust(error.to_string());
                return false;
            }
        };
        *self.untrusted.lock() = None;
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
        tracing::info!("the files of connections to the primary are in use");
        true
    }

    /// The CA file cannot be used as it is now.
    fn distrust(&self, why: String) {
        let mut untrusted = self.untrusted.lock();
        *untrusted = Some(match *untrusted {
            Some(CaFault::Never(_)) => CaFault::Never(why),
            None | Some(CaFault::Changed(_)) => CaFault::Changed(why),
        });
    }

    /// What is wrong with the CA file as it is now.
    pub(crate) fn untrusted(&self) -> Option<CaFault> {
        self.untrusted.lock().clone()
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

fn unread(path: &Path) -> String {
    format!("{}: is not read yet", path.display())
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
    let chain = certificates(certificate)?;
    let text = pem(key)?;
    let private = PrivateKeyDer::from_pem_slice(&text).map_err(no_pem(key))?;
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

/// The text of a file of certificates or a key. An editor's mark would hide its first line.
fn pem(path: &Path) -> Result<Zeroizing<Vec<u8>>, TlsError> {
    let text = file::read(path, LARGEST)?;
    if credential::is_marked(&text) {
        return Err(FileFault::from(TextFault::ByteOrderMark).at(path).into());
    }
    Ok(text)
}

fn no_pem(path: &Path) -> impl Fn(rustls_pki_types::pem::Error) -> TlsError {
    let path = path.to_owned();
    move |source| TlsError::Pem {
        path: path.clone(),
        source,
    }
}

/// The certificates of a file, of which there is at least one.
fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let text = pem(path)?;
    let found = CertificateDer::pem_slice_iter(&text).collect::<Result<Vec<_>, _>>();
    let found = found.map_err(no_pem(path))?;
    match found.is_empty() {
        true => Err(TlsError::Empty {
            path: path.to_owned(),
        }),
        false => Ok(found),
    }
}

fn read_roots(path: &Path) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path)? {
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
            let error = identified(None, ClientCertificate { certificate, key });
            let error = format!("{:?}", error.err().unwrap());
            assert!(
                !error.contains("c2Vj") && !error.contains("secret"),
                "{error}"
            );
        }
    }
}
