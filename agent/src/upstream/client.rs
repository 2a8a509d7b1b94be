//! One request to the primary, at the first address that can take it: bounded, without redirects or proxies of the
//! HTTP library, and never with a secret to a cluster that is not the pinned one.

use std::{path::PathBuf, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use http::{HeaderName, HeaderValue, header};
use parking_lot::Mutex;
use rustls::ClientConfig;
use shared::{kv::Content, name::ClusterId, secret::SecretText};
use zeroize::Zeroizing;

use super::{
    address::{Addresses, ClusterIdentity, Monitored},
    error::{self, ForeignCluster, Unavailable, UpstreamError},
    names::Names,
    probe::Health,
    reply::{self, Reply},
    request::{self, Request},
    tls::{self, Stamp, TlsError},
};
use crate::config::{self, AuthMethod};

const TOKEN: HeaderName = HeaderName::from_static("x-vault-token");
const NAMESPACE: HeaderName = HeaderName::from_static("x-vault-namespace");
const REQUEST: HeaderName = HeaderName::from_static("x-vault-request");

/// How often a 307 is followed for one request.
const HOPS: usize = 2;

/// The way to the primary. Shared by all of Holdover's own requests.
pub struct Client {
    http: ArcSwap<reqwest::Client>,
    addresses: Addresses,
    names: Names,
    namespace: Option<HeaderValue>,
    connect_timeout: Duration,
    files: Files,
    stamps: Mutex<Vec<Stamp>>,
    /// Why no certificate is shown though one is configured.
    unidentified: Mutex<Option<String>>,
    pinned: Mutex<Option<ClusterId>>,
}

/// The files that connections are made with.
struct Files {
    ca: Option<PathBuf>,
    /// The client certificate and its key: Holdover's own, which no forward of a client shows.
    identity: Option<(PathBuf, PathBuf)>,
}

/// An answer as it came from one address, before it is read.
pub(super) struct Raw {
    pub(super) status: u16,
    pub(super) retry_after: Option<Duration>,
    pub(super) location: Option<String>,
    pub(super) content: Content,
    pub(super) body: Zeroizing<Vec<u8>>,
    /// The bound in bytes, where the body is longer: then nothing of it is there.
    pub(super) overlong: Option<usize>,
}

/// Why one address gave no answer.
pub(super) struct NoAnswer {
    pub(super) unavailable: Unavailable,
    /// The request surely did not reach it.
    pub(super) unsent: bool,
}

impl Client {
    /// A client for `primary`, trusting `pinned` if a cluster was ever seen.
    ///
    /// # Errors
    /// If the CA file cannot be used.
    pub fn new(
        primary: &config::PrimaryConfig,
        addresses: Addresses,
        pinned: Option<ClusterId>,
    ) -> Result<Self, TlsError> {
        let names = Names::default();
        let files = Files::of(primary);
        let connect_timeout = primary.connect_timeout;
        let stamps = Mutex::new(files.stamps());
        let (http, unidentified) = match build(files.identified(), &names, connect_timeout) {
            Ok(http) => (http, None),
            // It may come: what the replica can serve does not wait for it.
            Err(error) if files.identity.is_some() => {
                let config = tls::client_config(files.ca.as_deref());
                let http = build(config, &names, connect_timeout)?;
                (http, Some(error.to_string()))
            }
            Err(error) => return Err(error),
        };
        let namespace = primary.namespace.as_str();
        Ok(Self {
            http: ArcSwap::from_pointee(http),
            addresses,
            names,
            namespace: HeaderValue::from_str(namespace)
                .ok()
                .filter(|value| !value.is_empty()),
            connect_timeout,
            files,
            stamps,
            unidentified: Mutex::new(unidentified),
            pinned: Mutex::new(pinned),
        })
    }

    /// The addresses and their health.
    pub fn addresses(&self) -> &Addresses {
        &self.addresses
    }

    /// The cluster that is trusted, once one was seen.
    pub fn pinned(&self) -> Option<ClusterId> {
        self.pinned.lock().clone()
    }

    /// An operator trusts `cluster` from now on (`holdover primary trust`).
    pub fn trust(&self, cluster: ClusterId) {
        *self.pinned.lock() = Some(cluster);
        for one in self.addresses.all() {
            one.identified(ClusterIdentity::Unknown);
        }
    }

    /// Takes the files of connections up again if they changed: the CA, and the certificate with its key. Bad ones are
    /// reported and the old ones stay in use; so does a pair of which one half is new and the other not yet.
    pub fn reload_files(&self) {
        let seen = self.files.stamps();
        let before = std::mem::replace(&mut *self.stamps.lock(), seen.clone());
        if before == seen {
            return;
        }
        match build(self.files.identified(), &self.names, self.connect_timeout) {
            Ok(http) => {
                tracing::info!("the changed files of connections to the primary are in use");
                self.http.store(Arc::new(http));
                *self.unidentified.lock() = None;
            }
            Err(error) => {
                tracing::error!(%error, "a file of connections to the primary changed and cannot be used");
                let mut unidentified = self.unidentified.lock();
                if unidentified.is_some() {
                    *unidentified = Some(error.to_string());
                }
            }
        }
    }

    /// Why no certificate is shown, though one is configured.
    pub(super) fn unidentified(&self) -> Option<String> {
        self.unidentified.lock().clone()
    }

    /// Sends `request`, with `token` if there is one, to the first address that takes it.
    ///
    /// # Errors
    /// [`UpstreamError`], but for decisions: those are replies.
    pub async fn send(
        &self,
        request: &Request,
        token: Option<&SecretText>,
    ) -> Result<Reply, UpstreamError> {
        let mut failure: Option<UpstreamError> = None;
        for at in self.addresses.to_try() {
            if let Err(error) = self.identify(at, request.patience).await {
                // What is said of another cluster outlasts what is said of addresses that do not answer.
                if failure.as_ref().is_none_or(UpstreamError::is_unavailable) {
                    failure = Some(error);
                }
                continue;
            }
            match self.exchange(at, request, token).await {
                Ok(raw) => match reply_of(raw, request) {
                    Err(UpstreamError::Unavailable(unavailable)) => {
                        at.failed();
                        failure = Some(unavailable.into());
                    }
                    reply => return reply,
                },
                Err(NoAnswer {
                    unavailable,
                    unsent,
                }) => {
                    if unsent {
                        at.failed();
                    } else if !request.repeatable {
                        return Err(unavailable.into());
                    }
                    failure = Some(unavailable.into());
                }
            }
        }
        Err(failure.unwrap_or(Unavailable::no_address().into()))
    }

    /// One exchange with one address; a 307 is followed to configured addresses only.
    pub(super) async fn exchange(
        &self,
        at: &Monitored,
        request: &Request,
        token: Option<&SecretText>,
    ) -> Result<Raw, NoAnswer> {
        let mut at = at;
        for _ in 0..=HOPS {
            let raw = self.exchange_once(at, request, token).await?;
            if !matches!(raw.status, 307 | 308) {
                return Ok(raw);
            }
            let location = raw.location.as_deref().unwrap_or_default();
            at = match self.addresses.at(location) {
                Some(next) if next.identity() != ClusterIdentity::Foreign => next,
                _ => {
                    return Err(lost(
                        raw.status,
                        "redirects to an address that is not configured",
                    ));
                }
            };
        }
        Err(lost(307, "redirects in circles"))
    }

    async fn exchange_once(
        &self,
        at: &Monitored,
        request: &Request,
        token: Option<&SecretText>,
    ) -> Result<Raw, NoAnswer> {
        let mut response = self
            .prepare(at, request, token)
            .send()
            .await
            .map_err(|error| no_answer(&error))?;
        let mut raw = Raw {
            status: response.status().as_u16(),
            retry_after: seconds(response.headers().get(header::RETRY_AFTER)),
            location: text(response.headers().get(header::LOCATION)),
            content: Content {
                kind: text(response.headers().get(header::CONTENT_TYPE)),
                cache: text(response.headers().get(header::CACHE_CONTROL)),
            },
            body: Zeroizing::new(Vec::new()),
            overlong: None,
        };
        let expected = response.content_length().unwrap_or(0);
        let expected = usize::try_from(expected).unwrap_or(usize::MAX);
        let mut overlong = expected > request.largest();
        if !overlong {
            raw.body.reserve_exact(expected);
        }
        while !overlong
            && let Some(chunk) = response.chunk().await.map_err(|error| no_answer(&error))?
        {
            overlong = raw.body.len() + chunk.len() > request.largest();
            if !overlong {
                raw.body.extend_from_slice(&chunk);
            }
        }
        if overlong {
            raw.body.clear();
            raw.overlong = Some(request.largest());
        }
        Ok(raw)
    }

    fn prepare(
        &self,
        at: &Monitored,
        request: &Request,
        token: Option<&SecretText>,
    ) -> reqwest::RequestBuilder {
        let url = format!("{}{}", at.address.url, request.target());
        let mut builder = self
            .http
            .load()
            .request(request.method.clone(), url)
            .timeout(request.patience)
            .header(REQUEST, HeaderValue::from_static("true"));
        if let Some(namespace) = self.namespace.as_ref().filter(|_| request.namespaced) {
            builder = builder.header(NAMESPACE, namespace);
        }
        if let Some(token) = token.and_then(token_header) {
            builder = builder.header(TOKEN, token);
        }
        if let Some(body) = &request.body {
            builder = builder
                .header(
                    header::CONTENT_TYPE,
                    HeaderValue::from_static("application/json"),
                )
                .body(body.clone());
        }
        builder
    }

    /// Makes sure that the pinned cluster answers at `at`, pinning the first that was ever seen.
    ///
    /// # Errors
    /// If another cluster answers there, or none.
    async fn identify(&self, at: &Monitored, patience: Duration) -> Result<(), UpstreamError> {
        if at.identity() == ClusterIdentity::Ours {
            return Ok(());
        }
        match self.health(at, patience).await? {
            Health::Up { cluster, .. } => Ok(self.recognise(at, cluster)?),
            Health::SlowDown(after) => Err(UpstreamError::SlowDown { after }),
        }
    }

    /// Compares the cluster id that `at` gave with the pinned one.
    pub(super) fn recognise(&self, at: &Monitored, found: ClusterId) -> Result<(), ForeignCluster> {
        let mut pin = self.pinned.lock();
        let pinned = pin.get_or_insert_with(|| found.clone());
        if *pinned == found {
            at.identified(ClusterIdentity::Ours);
            return Ok(());
        }
        at.identified(ClusterIdentity::Foreign);
        Err(ForeignCluster::new(pinned, &found))
    }
}

impl Files {
    fn of(primary: &config::PrimaryConfig) -> Self {
        let identity = match &primary.auth.method {
            AuthMethod::Cert {
                cert_file,
                key_file,
                ..
            } => Some((cert_file.clone(), key_file.clone())),
            _ => None,
        };
        let ca = primary.ca_file.clone();
        Self { ca, identity }
    }

    fn stamps(&self) -> Vec<Stamp> {
        let identity = self.identity.iter().flat_map(|(cert, key)| [cert, key]);
        let files = self.ca.iter().chain(identity);
        files.map(|path| Stamp::of(path)).collect()
    }

    fn identified(&self) -> Result<ClientConfig, TlsError> {
        let ca = self.ca.as_deref();
        match &self.identity {
            Some((certificate, key)) => {
                tls::identified(ca, tls::ClientCertificate { certificate, key })
            }
            None => tls::client_config(ca),
        }
    }
}

fn build(
    tls: Result<ClientConfig, TlsError>,
    names: &Names,
    connect_timeout: Duration,
) -> Result<reqwest::Client, TlsError> {
    reqwest::Client::builder()
        .tls_backend_preconfigured(tls?)
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .retry(reqwest::retry::never())
        .referer(false)
        .dns_resolver(names.clone())
        .connect_timeout(connect_timeout)
        .build()
        .map_err(TlsError::Client)
}

fn reply_of(raw: Raw, request: &Request) -> Result<Reply, UpstreamError> {
    let status = raw.status;
    match status {
        200..=428 | 430..=499 if raw.overlong.is_some() => return Err(reply::overlong(request)),
        200..=299 => {}
        429 => {
            return Err(UpstreamError::SlowDown {
                after: raw.retry_after,
            });
        }
        _ if error::is_unavailable_status(status) => return Err(unavailable_of(&raw).into()),
        _ if error::is_decision_status(status) => {}
        _ => {
            return Err(UpstreamError::Undecided {
                status,
                errors: reply::errors_of(&raw.body),
            });
        }
    }
    let reply = Reply::new(status, request.path().to_owned(), raw.body);
    Ok(reply.saying(raw.content))
}

/// What a status of that class tells, in the primary's own words.
pub(super) fn unavailable_of(raw: &Raw) -> Unavailable {
    let detail = match raw.overlong {
        Some(bound) => format!("its body is longer than {bound} bytes"),
        None => reply::errors_of(&raw.body).join("; "),
    };
    Unavailable::Status {
        status: raw.status,
        detail,
    }
}

/// The token as a header that no log prints, in memory that is wiped.
fn token_header(token: &SecretText) -> Option<HeaderValue> {
    let bytes = Zeroizing::new(token.expose().as_bytes().to_vec());
    let mut value = HeaderValue::from_maybe_shared(request::wiped(bytes)).ok()?;
    value.set_sensitive(true);
    Some(value)
}

fn no_answer(error: &reqwest::Error) -> NoAnswer {
    NoAnswer {
        unavailable: error::classify(error),
        unsent: error.is_connect() || error.is_builder(),
    }
}

/// It answered, but not as something that can serve: nothing was done there.
fn lost(status: u16, detail: &str) -> NoAnswer {
    NoAnswer {
        unavailable: Unavailable::Status {
            status,
            detail: detail.to_owned(),
        },
        unsent: true,
    }
}

fn seconds(value: Option<&HeaderValue>) -> Option<Duration> {
    let seconds = text(value)?.parse().ok()?;
    Some(Duration::from_secs(seconds))
}

fn text(value: Option<&HeaderValue>) -> Option<String> {
    Some(value?.to_str().ok()?.to_owned())
}
