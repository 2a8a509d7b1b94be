//! The files that connections to the primary are made with, each looked at by itself, and what of them was last good.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use rustls::RootCertStore;

use super::{
    connect::{self, Https},
    names::Names,
    tls::{self, Pair, PemText, TlsError},
};
use crate::{
    config::{self, AuthMethod},
    file::{self, FileError, FileReader, Stamp},
};

/// The files that connections are made with, and what was made of them.
pub(crate) struct TlsFiles {
    /// What they hold, as far as it was looked at.
    held: Mutex<HeldFiles>,
    made: ArcSwap<Connectors>,
    connect_timeout: Duration,
}

/// Each of the files that there are, and what of them is in use.
struct HeldFiles {
    ca: Option<HeldFile>,
    /// The client certificate and its key: Holdover's own, which no forward of a client shows.
    identity: Option<[HeldFile; 2]>,
    roots: RootCertStore,
    pair: Option<Pair>,
    /// Why the CA file, as it is now, is not what is in use.
    untrusted: Option<TlsFault>,
    /// Why the client certificate or its key is not.
    unidentified: Option<TlsFault>,
}

/// One of the files, as it was last found.
struct HeldFile {
    path: PathBuf,
    /// None where it is to be read whatever it looks like.
    stamp: Option<Stamp>,
    found: Result<PemText, Arc<TlsError>>,
}

/// Why a file, as it is now, is not gone by.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum TlsFault {
    /// Nor was it ever since the start.
    Never(String),
    /// What was in it before is gone by.
    Changed(String),
}

impl TlsFault {
    /// Why it is not, whatever was before.
    pub fn why(&self) -> &str {
        match self {
            Self::Never(why) | Self::Changed(why) => why,
        }
    }

    /// The fault of something of which nothing or something good `is_in_use`. What is new is logged.
    fn note(error: &TlsError, is_in_use: bool, noted: &mut Option<Self>) {
        let why = error.to_string();
        if noted.as_ref().is_none_or(|before| before.why() != why) {
            tracing::error!(%error, "a file of connections to the primary cannot be used");
        }
        *noted = Some(match is_in_use {
            true => Self::Changed(why),
            false => Self::Never(why),
        });
    }
}

/// What was made of the files.
struct Connectors {
    forwards: Https,
    own: Https,
}

/// One of the files that is to be looked at.
#[derive(Clone)]
struct WatchedFile {
    path: PathBuf,
    before: Option<Stamp>,
}

/// What came of a look at it.
struct Found {
    path: PathBuf,
    stamp: Option<Stamp>,
    text: Result<PemText, TlsError>,
}

impl WatchedFile {
    /// What is in it, unless it looks as before. Blocks for as long as its filesystem does.
    fn look(self) -> Option<Found> {
        let stamp = Stamp::of(&self.path);
        if self.before == Some(stamp) {
            return None;
        }
        let text = tls::pem(&self.path);
        Some(Found {
            path: self.path,
            stamp: Some(stamp),
            text,
        })
    }

    /// What there is to say of it where the look did not end.
    fn found(path: PathBuf, looked: Result<Option<Found>, FileError>) -> Option<Found> {
        looked.unwrap_or_else(|slow| {
            let (stamp, text) = (None, Err(slow.into()));
            Some(Found { path, stamp, text })
        })
    }
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
        let held = HeldFiles::unread(primary);
        let made = held.connectors(names, primary.connect_timeout)?;
        let files = Self {
            held: Mutex::new(held),
            made: ArcSwap::from_pointee(made),
            connect_timeout: primary.connect_timeout,
        };
        let watched = files.watched();
        // Each by itself, so that nobody waits for one after the other.
        let found = std::thread::scope(|threads| {
            let looks = watched.into_iter().map(|one| {
                threads.spawn(move || {
                    let path = one.path.clone();
                    WatchedFile::found(path.clone(), file::look_at_start(&path, || one.look()))
                })
            });
            let looks: Vec<_> = looks.collect();
            let found = looks.into_iter().filter_map(|look| look.join().ok());
            found.flatten().collect()
        });
        files.take_up(found, names);
        Ok(Arc::new(files))
    }

    /// What opens connections now, Holdover's `own` or those of forwards.
    pub(crate) fn https(&self, own: bool) -> Https {
        let made = self.made.load();
        match own {
            true => made.own.clone(),
            false => made.forwards.clone(),
        }
    }

    /// Takes those files up again that changed, each looked at by itself: one that hangs keeps no other from being taken up. Bad
    /// ones are told and what was good stays in use; so does a pair of which one half is new and the other not yet. Whether there
    /// is something new.
    pub(crate) async fn reload(&self, reader: &FileReader, names: &Names) -> bool {
        let mut looks = tokio::task::JoinSet::new();
        for one in self.watched() {
            let (reader, path) = (reader.clone(), one.path.clone());
            looks.spawn(async move {
                let looked = reader.look(&path, || one.look()).await;
                WatchedFile::found(path, looked)
            });
        }
        let found = looks.join_all().await;
        self.take_up(found.into_iter().flatten().collect(), names)
    }

    /// What is wrong with the CA file as it is now.
    pub(crate) fn untrusted(&self) -> Option<TlsFault> {
        self.held.lock().untrusted.clone()
    }

    /// What is wrong with the client certificate or its key as they are now.
    pub(crate) fn unidentified(&self) -> Option<TlsFault> {
        self.held.lock().unidentified.clone()
    }

    fn watched(&self) -> Vec<WatchedFile> {
        let mut held = self.held.lock();
        let watched = held.files().map(|file| WatchedFile {
            path: file.path.clone(),
            before: file.stamp,
        });
        watched.collect()
    }

    fn take_up(&self, found: Vec<Found>, names: &Names) -> bool {
        if found.is_empty() {
            return false;
        }
        let made = {
            let mut held = self.held.lock();
            held.take_up(found)
                .then(|| held.connectors(names, self.connect_timeout))
        };
        match made {
            None => false,
            Some(Ok(made)) => {
                self.made.store(Arc::new(made));
                tracing::info!("the files of connections to the primary are in use");
                true
            }
            Some(Err(error)) => {
                tracing::error!(%error, "no connections can be made of their files");
                false
            }
        }
    }
}

impl HeldFiles {
    fn unread(primary: &config::PrimaryConfig) -> Self {
        let identity = match &primary.auth.method {
            AuthMethod::Cert {
                cert_file,
                key_file,
                ..
            } => Some([cert_file, key_file].map(|path| HeldFile::unread(path))),
            _ => None,
        };
        Self {
            ca: primary.ca_file.as_deref().map(HeldFile::unread),
            identity,
            roots: RootCertStore::empty(),
            pair: None,
            untrusted: None,
            unidentified: None,
        }
    }

    fn files(&mut self) -> impl Iterator<Item = &mut HeldFile> {
        self.ca.iter_mut().chain(self.identity.iter_mut().flatten())
    }

    /// Goes by what was found as far as it is good. Whether that is something new.
    fn take_up(&mut self, found: Vec<Found>) -> bool {
        let mut changed = Vec::new();
        for Found { path, stamp, text } in found {
            let found = text.map_err(Arc::new);
            for file in self.files().filter(|file| file.path == path) {
                file.stamp = stamp;
                file.found = found.clone();
            }
            changed.push(path);
        }
        let of = |file: &HeldFile| changed.contains(&file.path);
        let trusts = self.ca.as_ref().is_some_and(of) && self.take_up_ca();
        let identifies = self.identity.iter().flatten().any(of) && self.take_up_identity();
        trusts || identifies
    }

    fn take_up_ca(&mut self) -> bool {
        let Some(ca) = &self.ca else {
            return false;
        };
        let read = ca
            .text()
            .and_then(|text| tls::roots(text, &ca.path).map_err(Arc::new));
        match read {
            Ok(roots) => {
                self.untrusted = None;
                // A file that hung for a while, or was touched, is no new one.
                let is_new = self.roots.roots != roots.roots;
                self.roots = roots;
                is_new
            }
            Err(error) => {
                TlsFault::note(&error, !self.roots.is_empty(), &mut self.untrusted);
                false
            }
        }
    }

    fn take_up_identity(&mut self) -> bool {
        let Some([certificate, key]) = &self.identity else {
            return false;
        };
        let paired = certificate.text().and_then(|chain| {
            let (at, key_at) = (&*certificate.path, &*key.path);
            Pair::of((chain, at), (key.text()?, key_at)).map_err(Arc::new)
        });
        match paired {
            Ok(pair) => {
                self.unidentified = None;
                let is_new = self.pair.as_ref() != Some(&pair);
                self.pair = Some(pair);
                is_new
            }
            Err(error) => {
                TlsFault::note(&error, self.pair.is_some(), &mut self.unidentified);
                false
            }
        }
    }

    /// Clients do not show Holdover's certificate, and do not wait for it.
    fn connectors(&self, names: &Names, timeout: Duration) -> Result<Connectors, TlsError> {
        let forwards = tls::config(self.roots.clone(), None)?;
        let own = tls::config(self.roots.clone(), self.pair.as_ref())?;
        Ok(Connectors {
            forwards: connect::https(forwards, names, timeout),
            own: connect::https(own, names, timeout),
        })
    }
}

impl HeldFile {
    fn unread(path: &Path) -> Self {
        let slow = file::FileFault::Slow.at(path);
        Self {
            path: path.to_owned(),
            stamp: None,
            found: Err(Arc::new(slow.into())),
        }
    }

    fn text(&self) -> Result<&PemText, Arc<TlsError>> {
        self.found.as_ref().map_err(Arc::clone)
    }
}

#[cfg(test)]
mod tests {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    use rcgen::{CertificateParams, KeyPair};

    use super::*;
    use crate::{file::FileFault, samples};

    fn pem(label: &str, content: &[u8]) -> PemText {
        let body = STANDARD.encode(content);
        let text = format!("-----BEGIN {label}-----\n{body}\n-----END {label}-----\n");
        Arc::new(text.into_bytes().into())
    }

    /// A certificate and its key.
    fn pair() -> (PemText, PemText) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["host".to_owned()]).unwrap();
        let certificate = params.self_signed(&key).unwrap();
        (
            pem("CERTIFICATE", certificate.der()),
            pem("PRIVATE KEY", &key.serialize_der()),
        )
    }

    fn held() -> HeldFiles {
        let mut primary = config::PrimaryConfig {
            ca_file: Some("/far/ca".into()),
            ..samples::primary_config(&[])
        };
        primary.auth.method = AuthMethod::Cert {
            name: None,
            cert_file: "/far/cert".into(),
            key_file: "/far/key".into(),
        };
        HeldFiles::unread(&primary)
    }

    fn found(path: &str, text: Result<&PemText, FileFault>) -> Found {
        Found {
            path: path.into(),
            stamp: None,
            text: text
                .map(Arc::clone)
                .map_err(|fault| fault.at(Path::new(path)).into()),
        }
    }

    #[test]
    fn a_key_that_hangs_is_named_and_keeps_no_ca_from_being_taken_up() {
        let mut held = held();
        let (ca, (certificate, key)) = (pair().0, pair());
        let hung = || found("/far/key", Err(FileFault::Slow));
        assert!(held.take_up(vec![
            hung(),
            found("/far/ca", Ok(&ca)),
            found("/far/cert", Ok(&certificate)),
        ]));
        assert_eq!((held.roots.len(), &held.untrusted), (1, &None));
        let Some(TlsFault::Never(why)) = &held.unidentified else {
            panic!("{:?}", held.unidentified);
        };
        assert!(why.starts_with("/far/key: could not be read"), "{why}");
        assert!(held.take_up(vec![found("/far/key", Ok(&key))]));
        assert!(held.pair.is_some() && held.unidentified.is_none());
        // What hangs again, or is a half of another pair, leaves the good one in use; the CA goes its own way.
        for bad in [hung(), found("/far/key", Ok(&pair().1))] {
            assert!(held.take_up(vec![bad, found("/far/ca", Ok(&pair().0))]));
            let told = matches!(&held.unidentified, Some(TlsFault::Changed(why)) if why.contains("/far/key"));
            assert!(told && held.pair.is_some(), "{:?}", held.unidentified);
        }
        assert!(
            !held.take_up(vec![found("/far/key", Ok(&key))]),
            "it is in use"
        );
        assert!(held.unidentified.is_none());
    }

    #[test]
    fn a_ca_that_hangs_is_told_and_what_was_in_it_stays_in_use() {
        let mut held = held();
        let ca = pair().0;
        held.take_up(vec![found("/far/ca", Ok(&ca))]);
        assert!(!held.take_up(vec![found("/far/ca", Err(FileFault::Slow))]));
        let told = matches!(&held.untrusted, Some(TlsFault::Changed(why)) if why.contains("/far/ca: could not be read"));
        assert!(told && held.roots.len() == 1, "{:?}", held.untrusted);
        assert!(!held.take_up(vec![found("/far/ca", Ok(&ca))]));
        assert!(held.untrusted.is_none());
    }
}
