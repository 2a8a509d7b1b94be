//! Sending a request on to the primary, byte for byte, and saying what failed and whether anything was sent.

use std::time::Duration;

use bytes::Bytes;
use http::{
    HeaderMap, Method, Request, Response, StatusCode, Uri,
    header::LOCATION,
    uri::{Authority, PathAndQuery, Scheme},
};
use hyper::body::Incoming;
use hyper_util::{
    client::legacy::Client,
    rt::{TokioExecutor, TokioTimer},
};

use super::{body::RelayBody, connect::Connector};
use crate::{
    clock::Stopwatch,
    config::{self, Address},
    upstream::{
        Addresses, Unavailable,
        address::{ClusterIdentity, Monitored},
        tls::TlsError,
    },
};

/// Idle connections are closed after this long; the primary closes them after five minutes.
const IDLE: Duration = Duration::from_secs(30);

/// Idle connections that are kept for each address.
const IDLE_PER_ADDRESS: usize = 64;

/// Redirects that are followed inside for one request.
const REDIRECTS: usize = 2;

/// Sends requests to the primary.
#[derive(Clone)]
pub struct Forwarder {
    addresses: Addresses,
    pooled: Client<Connector, RelayBody>,
    fresh: Client<Connector, RelayBody>,
}

/// A request to be sent but for its body, its headers already as the primary may see them.
pub(crate) struct Outgoing {
    pub(crate) method: Method,
    /// The target as it was received.
    pub(crate) target: PathAndQuery,
    /// Without hop-by-hop headers and without `Host`.
    pub(crate) headers: HeaderMap,
    /// Whether it may be sent again after a failure whose outcome is unknown.
    pub(crate) idempotent: bool,
}

/// No answer of the primary, and what is known of the request.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub(crate) enum ForwardError {
    /// Nothing of it was sent.
    #[error("{0}; nothing was sent")]
    Unsent(Unavailable),
    /// It may have been carried out.
    #[error("{0}; whether the request was carried out is unknown")]
    Unknown(Unavailable),
}

/// An answer, its body still to be read.
pub(crate) type Forwarded = Result<Response<Incoming>, ForwardError>;

impl ForwardError {
    /// Whether the primary cannot have seen the request.
    pub(crate) fn nothing_sent(&self) -> bool {
        matches!(self, Self::Unsent(_))
    }
}

impl Forwarder {
    /// A forwarder to `addresses`.
    ///
    /// # Errors
    /// If the CA file cannot be used.
    pub fn new(primary: &config::PrimaryConfig, addresses: Addresses) -> Result<Self, TlsError> {
        let connector = Connector::new(primary)?;
        let client = |idle| {
            Client::builder(TokioExecutor::new())
                .pool_timer(TokioTimer::new())
                .pool_idle_timeout(IDLE)
                .pool_max_idle_per_host(idle)
                .http1_title_case_headers(true)
                .build(connector.clone())
        };
        Ok(Self {
            addresses,
            pooled: client(IDLE_PER_ADDRESS),
            fresh: client(0),
        })
    }

    /// Sends `outgoing` to the first address that takes it. The answer's body is still to be read.
    pub(crate) async fn send(&self, outgoing: &Outgoing, body: RelayBody) -> Forwarded {
        match body {
            RelayBody::Whole(bytes) => self.send_whole(outgoing, &bytes).await,
            streamed @ RelayBody::Streamed(_) => {
                let to = self.in_order().next().ok_or_else(no_address)?;
                let request = outgoing.request(&to.address, streamed)?;
                let answer = self.attempt(&self.pooled, to, request).await?;
                not_redirected(answer)
            }
        }
    }

    /// Tries the addresses in order while nothing was sent: an address that may have seen the request has it.
    async fn send_whole(&self, outgoing: &Outgoing, body: &Bytes) -> Forwarded {
        let mut failed = no_address();
        for to in self.in_order() {
            match self.follow(to, outgoing, body).await {
                Err(error @ ForwardError::Unsent(_)) => failed = error,
                other => return other,
            }
        }
        Err(failed)
    }

    /// Follows redirects among the addresses.
    async fn follow(&self, first: &Monitored, outgoing: &Outgoing, body: &Bytes) -> Forwarded {
        let mut to = first;
        for _ in 0..REDIRECTS {
            let answer = self.once_or_again(to, outgoing, body).await?;
            match self.redirection(&answer, &outgoing.target) {
                Some(next) => to = next,
                None => return not_redirected(answer),
            }
        }
        not_redirected(self.once_or_again(to, outgoing, body).await?)
    }

    /// A pooled connection may have died unnoticed, because the primary or what lies between closes idle ones: then
    /// the failure says nothing of the primary. So what may be repeated is sent once more, on a fresh connection; what
    /// may not is left unknown, because it may have arrived all the same.
    async fn once_or_again(&self, to: &Monitored, outgoing: &Outgoing, body: &Bytes) -> Forwarded {
        let request = || outgoing.request(&to.address, RelayBody::Whole(body.clone()));
        match self.attempt(&self.pooled, to, request()?).await {
            Err(ForwardError::Unknown(_)) if outgoing.idempotent => {
                self.attempt(&self.fresh, to, request()?).await
            }
            other => other,
        }
    }

    async fn attempt(
        &self,
        client: &Client<Connector, RelayBody>,
        to: &Monitored,
        request: Request<RelayBody>,
    ) -> Forwarded {
        let watch = Stopwatch::start();
        match client.request(request).await {
            Ok(answer) => {
                to.answered(watch.elapsed());
                Ok(answer)
            }
            // Only a failed connection speaks of the address: a slow path may be one request's own.
            Err(error) if error.is_connect() => {
                to.failed();
                Err(ForwardError::Unsent(Unavailable::of(&error)))
            }
            Err(error) => Err(ForwardError::Unknown(Unavailable::of(&error))),
        }
    }

    /// The addresses that a request may be sent to, the preferred one first: none at which another cluster answers.
    fn in_order(&self) -> impl Iterator<Item = &Monitored> {
        self.addresses
            .to_try()
            .filter(|one| one.identity() != ClusterIdentity::Foreign)
    }

    /// The configured address that an answer redirects to, with the very same target.
    fn redirection(
        &self,
        answer: &Response<Incoming>,
        target: &PathAndQuery,
    ) -> Option<&Monitored> {
        let uri = location(answer).filter(|_| is_redirect(answer))?;
        let authority = uri.authority()?;
        self.in_order().find(|one| {
            uri.path_and_query() == Some(target) && is_at(&one.address, &uri, authority)
        })
    }
}

impl Outgoing {
    fn request(
        &self,
        address: &Address,
        body: RelayBody,
    ) -> Result<Request<RelayBody>, ForwardError> {
        let host = match address.host.contains(':') {
            true => format!("[{}]", address.host),
            false => address.host.clone(),
        };
        let uri = Uri::builder()
            .scheme(if address.tls { "https" } else { "http" })
            .authority(format!("{host}:{}", address.port))
            .path_and_query(self.target.clone())
            .build()
            .map_err(|error| ForwardError::Unsent(Unavailable::Connect(error.to_string())))?;
        let mut request = Request::new(body);
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = uri;
        *request.headers_mut() = self.headers.clone();
        Ok(request)
    }
}

/// A redirect within the primary is the client's to follow through us; one that leads anywhere else would make it
/// carry its token there.
fn not_redirected(answer: Response<Incoming>) -> Forwarded {
    let leads_away =
        is_redirect(&answer) && location(&answer).is_none_or(|uri| uri.authority().is_some());
    if leads_away {
        return Err(ForwardError::Unsent(Unavailable::Connect(
            "the primary redirects to where this request cannot be sent".to_owned(),
        )));
    }
    Ok(answer)
}

fn is_redirect<B>(answer: &Response<B>) -> bool {
    matches!(
        answer.status(),
        StatusCode::TEMPORARY_REDIRECT | StatusCode::PERMANENT_REDIRECT
    )
}

fn location<B>(answer: &Response<B>) -> Option<Uri> {
    answer.headers().get(LOCATION)?.to_str().ok()?.parse().ok()
}

fn is_at(address: &Address, uri: &Uri, authority: &Authority) -> bool {
    let tls = uri.scheme() == Some(&Scheme::HTTPS);
    let port = authority.port_u16().unwrap_or(if tls { 443 } else { 80 });
    let host = authority.host().trim_matches(['[', ']']);
    address.tls == tls && address.port == port && address.host.eq_ignore_ascii_case(host)
}

fn no_address() -> ForwardError {
    ForwardError::Unsent(Unavailable::Connect(
        "no address belongs to the cluster that is trusted".to_owned(),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(tls: bool, host: &str, port: u16) -> Address {
        Address {
            url: String::new(),
            tls,
            host: host.into(),
            port,
        }
    }

    #[test]
    fn a_redirect_names_an_address_only_with_scheme_host_and_port() {
        let is = |address: &Address, uri: &str| {
            let uri: Uri = uri.parse().unwrap();
            is_at(address, &uri, uri.authority().unwrap())
        };
        let secure = address(true, "vault-a", 8200);
        assert!(is(&secure, "https://VAULT-A:8200/v1/x"));
        assert!(!is(&secure, "http://vault-a:8200/v1/x"));
        assert!(!is(&secure, "https://vault-a/v1/x"));
        assert!(!is(&secure, "https://vault-a.evil:8200/v1/x"));
        assert!(is(&address(true, "vault-a", 443), "https://vault-a/v1/x"));
        assert!(is(&address(false, "::1", 8200), "http://[::1]:8200/v1/x"));
    }

    #[test]
    fn a_target_reaches_the_request_byte_for_byte() {
        let to = address(false, "127.0.0.1", 8200);
        for target in [
            "/v1/a%2e%2E/{b}?x=%7e&y",
            "/v1/a\\b",
            "/v1/%",
            "/v1/a//b/../c",
        ] {
            let outgoing = Outgoing {
                method: Method::GET,
                target: target.parse().unwrap(),
                headers: HeaderMap::new(),
                idempotent: true,
            };
            let made = outgoing.request(&to, RelayBody::EMPTY).unwrap();
            assert_eq!(made.uri().path_and_query().unwrap().as_str(), target);
        }
    }
}
