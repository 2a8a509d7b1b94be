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

use super::{
    body::RelayBody,
    connect::{ClientError, Connector, unavailable},
};
use crate::{
    clock::Stopwatch,
    config::{self, Address},
    upstream::{
        Addresses, Unavailable,
        address::{Identity, Monitored},
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

/// A request to be sent, its headers already as the primary may see them.
pub(crate) struct Outgoing {
    /// The method.
    pub(crate) method: Method,
    /// The target as it was received.
    pub(crate) target: PathAndQuery,
    /// Without hop-by-hop headers and without `Host`.
    pub(crate) headers: HeaderMap,
    /// The body.
    pub(crate) body: RelayBody,
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
    pub fn new(primary: &config::PrimaryConfig, addresses: Addresses) -> Result<Self, ClientError> {
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
    pub(crate) async fn send(
        &self,
        outgoing: Outgoing,
    ) -> Result<Response<Incoming>, ForwardError> {
        let Outgoing {
            method,
            target,
            headers,
            body,
            idempotent,
        } = outgoing;
        match body {
            RelayBody::Whole(bytes) => {
                let replayable = Replayable {
                    method,
                    target,
                    headers,
                    bytes,
                    idempotent,
                };
                self.send_whole(&replayable).await
            }
            streamed @ RelayBody::Streamed(_) => {
                let to = self.in_order().next().ok_or_else(no_address)?;
                let request = request(&to.address, method, &target, headers, streamed)?;
                let answer = self.attempt(&self.pooled, to, request).await?;
                self.not_redirected(answer)
            }
        }
    }

    /// Tries the addresses in order while nothing was sent, and follows redirects among them.
    async fn send_whole(&self, what: &Replayable) -> Result<Response<Incoming>, ForwardError> {
        let mut failed = no_address();
        for to in self.in_order() {
            match self.follow(to, what).await {
                Err(error @ ForwardError::Unsent(_)) => failed = error,
                other => return other,
            }
        }
        Err(failed)
    }

    async fn follow(
        &self,
        first: &Monitored,
        what: &Replayable,
    ) -> Result<Response<Incoming>, ForwardError> {
        let mut to = first;
        for _ in 0..REDIRECTS {
            let answer = self.once_or_again(to, what).await?;
            if !is_redirect(&answer) {
                return Ok(answer);
            }
            match self.redirection(&answer, &what.target) {
                Redirection::To(next) => to = next,
                Redirection::Elsewhere => return self.not_redirected(answer),
            }
        }
        let answer = self.once_or_again(to, what).await?;
        self.not_redirected(answer)
    }

    /// A pooled connection may have died unnoticed: what may be repeated is, once, on a fresh one.
    async fn once_or_again(
        &self,
        to: &Monitored,
        what: &Replayable,
    ) -> Result<Response<Incoming>, ForwardError> {
        match self.attempt(&self.pooled, to, what.request(to)?).await {
            Err(ForwardError::Unknown(_)) if what.idempotent => {
                self.attempt(&self.fresh, to, what.request(to)?).await
            }
            other => other,
        }
    }

    async fn attempt(
        &self,
        client: &Client<Connector, RelayBody>,
        to: &Monitored,
        request: Request<RelayBody>,
    ) -> Result<Response<Incoming>, ForwardError> {
        let watch = Stopwatch::start();
        match client.request(request).await {
            Ok(answer) => {
                to.answered(watch.elapsed());
                Ok(answer)
            }
            // Only a failed connection speaks of the address: a slow path may be one request's own.
            Err(error) if error.is_connect() => {
                to.failed();
                Err(ForwardError::Unsent(unavailable(&error)))
            }
            Err(error) => Err(ForwardError::Unknown(unavailable(&error))),
        }
    }

    /// The addresses that a request may be sent to, the preferred one first: none at which another cluster answers.
    fn in_order(&self) -> impl Iterator<Item = &Monitored> {
        self.addresses
            .to_try()
            .filter(|one| one.identity() != Identity::Foreign)
    }

    /// Where a redirect leads: to a configured address with the very same target, or not.
    fn redirection(&self, answer: &Response<Incoming>, target: &PathAndQuery) -> Redirection<'_> {
        let location = location(answer);
        let Some((uri, authority)) = location
            .as_ref()
            .and_then(|uri| Some((uri, uri.authority()?)))
        else {
            return Redirection::Elsewhere;
        };
        let same_target = uri.path_and_query() == Some(target);
        self.in_order()
            .find(|one| same_target && is_at(&one.address, uri, authority))
            .map_or(Redirection::Elsewhere, Redirection::To)
    }

    /// A redirect within the primary is the client's to follow through us; one that leads anywhere else would make
    /// it carry its token there.
    fn not_redirected(
        &self,
        answer: Response<Incoming>,
    ) -> Result<Response<Incoming>, ForwardError> {
        let leads_away =
            is_redirect(&answer) && location(&answer).is_none_or(|uri| uri.authority().is_some());
        if leads_away {
            return Err(ForwardError::Unsent(Unavailable::Connect(
                "the primary redirects to where this request cannot be sent".to_owned(),
            )));
        }
        Ok(answer)
    }
}

enum Redirection<'a> {
    To(&'a Monitored),
    Elsewhere,
}

/// A request whose body is all here, so that it can be sent more than once.
struct Replayable {
    method: Method,
    target: PathAndQuery,
    headers: HeaderMap,
    bytes: Bytes,
    idempotent: bool,
}

impl Replayable {
    fn request(&self, to: &Monitored) -> Result<Request<RelayBody>, ForwardError> {
        request(
            &to.address,
            self.method.clone(),
            &self.target,
            self.headers.clone(),
            RelayBody::Whole(self.bytes.clone()),
        )
    }
}

fn request(
    address: &Address,
    method: Method,
    target: &PathAndQuery,
    headers: HeaderMap,
    body: RelayBody,
) -> Result<Request<RelayBody>, ForwardError> {
    let unusable =
        |error: http::Error| ForwardError::Unsent(Unavailable::Connect(error.to_string()));
    let authority = authority(address).map_err(|error| unusable(error.into()))?;
    let uri = Uri::builder()
        .scheme(if address.tls {
            Scheme::HTTPS
        } else {
            Scheme::HTTP
        })
        .authority(authority)
        .path_and_query(target.clone())
        .build()
        .map_err(unusable)?;
    let mut request = Request::new(body);
    *request.method_mut() = method;
    *request.uri_mut() = uri;
    *request.headers_mut() = headers;
    Ok(request)
}

fn authority(address: &Address) -> Result<Authority, http::uri::InvalidUri> {
    let text = if address.host.contains(':') {
        format!("[{}]:{}", address.host, address.port)
    } else {
        format!("{}:{}", address.host, address.port)
    };
    text.parse()
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
            let parsed: PathAndQuery = target.parse().unwrap();
            let made = request(
                &to,
                Method::GET,
                &parsed,
                HeaderMap::new(),
                RelayBody::EMPTY,
            )
            .unwrap();
            assert_eq!(made.uri().path_and_query().unwrap().as_str(), target);
        }
    }
}
