//! Sending a client's request on, byte for byte, and saying what failed and whether anything was sent.

use bytes::Bytes;
use http::{
    HeaderMap, Method, Request, Response, StatusCode, Uri, header::LOCATION, uri::PathAndQuery,
};
use hyper::body::{Body, Incoming};
use hyper_util::client::legacy::Client;
use shared::provenance::{ClusterShown, NodeRole};

use super::{
    LineShown, Link, LinkBase, Monitored,
    address::Lines,
    body::{Arriving, RelayBody},
    connect::{self, Connector},
    error::{self, Unavailable, Unshown},
    lent::Lent,
    once::{Undone, is_left_to_active},
};
use crate::config::Address;

/// Redirects that are followed inside for one request.
const REDIRECTS: usize = 2;

/// The longest answer that is looked into for whether the active node is to be asked.
const SHORT: u64 = 8 * 1024;

/// A request to be sent but for its body, its headers already as the primary may see them.
pub(crate) struct Outgoing {
    pub(crate) method: Method,
    /// The target as it was received.
    pub(crate) target: PathAndQuery,
    /// Without hop-by-hop headers and without `Host`.
    pub(crate) headers: HeaderMap,
    /// Whether it may be sent again after a failure whose outcome is unknown.
    pub(crate) repeatable: bool,
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

/// An answer, its body still to be read, with its [`shared::provenance::Provenance`] among the extensions.
pub(crate) type Forwarded = Result<Response<RelayBody>, ForwardError>;

impl ForwardError {
    /// What kept it from being answered.
    pub(crate) fn unavailable(&self) -> &Unavailable {
        match self {
            Self::Unsent(unavailable) | Self::Unknown(unavailable) => unavailable,
        }
    }

    /// Whether the primary cannot have seen the request.
    pub(crate) fn nothing_sent(&self) -> bool {
        self.undone().is_some()
    }

    /// That nothing of it was carried out, where that is known.
    pub(crate) fn undone(&self) -> Option<Undone> {
        matches!(self, Self::Unsent(_)).then(Undone::unsent)
    }
}

impl Link {
    /// Sends `outgoing` to the first address that takes it.
    pub(crate) async fn forward(&self, outgoing: &Outgoing, body: RelayBody) -> Forwarded {
        match body {
            RelayBody::Whole(bytes) => self.forward_whole(outgoing, &bytes).await,
            streamed => self.forward_streamed(outgoing, streamed).await,
        }
    }

    /// Tries the addresses in order while nothing was sent: an address that may have seen the request has it.
    async fn forward_whole(&self, outgoing: &Outgoing, body: &Bytes) -> Forwarded {
        let mut failed = no_address();
        for to in self.addresses().to_try() {
            match self.follow(to, outgoing, body).await {
                Err(error @ ForwardError::Unsent(_)) => failed = error,
                Ok(answer) => return self.or_of_active(outgoing, body, answer).await,
                unknown => return unknown,
            }
        }
        Err(failed)
    }

    /// The same while nothing was taken of a body that is sent as it comes.
    async fn forward_streamed(&self, outgoing: &Outgoing, body: RelayBody) -> Forwarded {
        let (mut body, lent) = Lent::out(body);
        let mut failed = no_address();
        for to in self.addresses().to_try() {
            let request = outgoing.request(&to.address, body)?;
            match self.attempt(to, |lines| &lines.forward, request).await {
                Err(error @ ForwardError::Unsent(_)) => failed = error,
                answered => return answered.and_then(not_redirected),
            }
            match lent.again() {
                Some(again) => body = again,
                None => return Err(failed),
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
        match self.attempt(to, |lines| &lines.forward, request()?).await {
            Err(ForwardError::Unknown(_)) if outgoing.repeatable => {
                self.attempt(to, |lines| &lines.fresh, request()?).await
            }
            other => other,
        }
    }

    /// The answer, or that of the active node where this node leaves the request to it and did nothing. Where there is none,
    /// it is as if nothing had been sent.
    async fn or_of_active(
        &self,
        outgoing: &Outgoing,
        body: &Bytes,
        answer: Response<RelayBody>,
    ) -> Forwarded {
        let by_standby = answer
            .extensions()
            .get::<LineShown>()
            .is_some_and(|shown| shown.line().node.role != NodeRole::Active);
        let (answer, mut left) = left_undone(answer).await?;
        let repeatable = by_standby && outgoing.repeatable && answer.status().is_server_error();
        if left.is_none() && !repeatable {
            return Ok(answer);
        }
        for to in self.addresses().leading_to_active() {
            let request = outgoing.request(&to.address, RelayBody::Whole(body.clone()))?;
            match self.attempt(to, |lines| &lines.active, request).await {
                Err(ForwardError::Unsent(_)) => {}
                Err(unknown) => return Err(unknown),
                // Only what was left undone once more goes on to another: this may be what came of the request.
                Ok(second) => match left_undone(second).await? {
                    (_, Some(undone)) => left = Some(undone),
                    (second, None) => return not_redirected(second),
                },
            }
        }
        match left {
            Some(unavailable) => Err(ForwardError::Unsent(unavailable)),
            None => Ok(answer),
        }
    }

    async fn attempt(
        &self,
        to: &Monitored,
        client: impl Fn(&Lines) -> &Client<Connector, RelayBody>,
        request: Request<RelayBody>,
    ) -> Forwarded {
        let sent = {
            let lines = to.lines();
            client(&lines).request(request)
        };
        match sent.await {
            Ok(answer) => Ok(self.arrived(to, answer)),
            // What keeps a connection from coming about is noted where it is opened.
            Err(error) if error.is_connect() => {
                Err(ForwardError::Unsent(Unshown::of(&error).into_unavailable()))
            }
            Err(error) => Err(ForwardError::Unknown(Unavailable::of(&error))),
        }
    }

    fn arrived(&self, from: &Monitored, answer: Response<Incoming>) -> Response<RelayBody> {
        let provenance = self.0.base.weigh(&answer, None);
        if provenance.cluster == ClusterShown::Foreign {
            from.answered_foreign(LinkBase::cluster_of(&answer));
        }
        let (mut parts, incoming) = answer.into_parts();
        parts.extensions.insert(provenance);
        let body = RelayBody::streamed(Arriving::answer(&parts, incoming));
        Response::from_parts(parts, body)
    }

    /// The configured address that an answer redirects to, with the very same target.
    fn redirection<B>(&self, answer: &Response<B>, target: &PathAndQuery) -> Option<&Monitored> {
        let uri = location(answer).filter(|_| is_redirect(answer))?;
        let leads = uri.path_and_query() == Some(target);
        leads.then(|| self.configured(&uri)).flatten()
    }

    /// The configured address that a URL is at: what a redirect may lead to.
    pub(super) fn configured(&self, uri: &Uri) -> Option<&Monitored> {
        let authority = uri.authority()?;
        let tls = match uri.scheme_str()? {
            "https" => true,
            "http" => false,
            _ => return None,
        };
        let port = authority.port_u16().unwrap_or(if tls { 443 } else { 80 });
        let host = authority.host().trim_matches(['[', ']']);
        self.addresses().at(tls, host, port)
    }
}

impl Outgoing {
    fn request(
        &self,
        address: &Address,
        body: RelayBody,
    ) -> Result<Request<RelayBody>, ForwardError> {
        let uri = url(address, self.target.clone())
            .map_err(|error| ForwardError::Unsent(Unavailable::Connect(error.to_string())))?;
        let mut request = Request::new(body);
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = uri;
        *request.headers_mut() = self.headers.clone();
        Ok(request)
    }
}

/// The URL of a target at an address, which is not encoded anew.
pub(super) fn url(address: &Address, target: PathAndQuery) -> Result<Uri, http::Error> {
    Uri::builder()
        .scheme(if address.tls { "https" } else { "http" })
        .authority(connect::authority(address))
        .path_and_query(target)
        .build()
}

/// An answer, and what it says where it leaves the request to the active node and did nothing.
async fn left_undone(
    answer: Response<RelayBody>,
) -> Result<(Response<RelayBody>, Option<Unavailable>), ForwardError> {
    let size = answer.body().size_hint().exact();
    if !answer.status().is_server_error() || size.is_none_or(|size| size > SHORT) {
        return Ok((answer, None));
    }
    let (parts, said) = answer.into_parts();
    let said = match said.into_unread() {
        Ok(unread) => RelayBody::read_ahead(unread, SHORT as usize).await,
        Err(read) => Ok(read),
    };
    let said = said.map_err(|error| ForwardError::Unknown(Unavailable::of(&error)))?;
    let status = parts.status.as_u16();
    let undone = said.whole().filter(|said| is_left_to_active(said));
    let undone = undone.map(|said| error::unavailable_of(status, said));
    Ok((Response::from_parts(parts, said), undone))
}

/// A redirect within the primary is the client's to follow through us; one that leads anywhere else would make it
/// carry its token there.
fn not_redirected(answer: Response<RelayBody>) -> Forwarded {
    let leads_away =
        is_redirect(&answer) && location(&answer).is_none_or(|uri| uri.authority().is_some());
    if leads_away {
        return Err(ForwardError::Unsent(Unavailable::Connect(
            "the primary redirects to where this request cannot be sent".to_owned(),
        )));
    }
    Ok(answer)
}

pub(super) fn is_redirect<B>(answer: &Response<B>) -> bool {
    matches!(
        answer.status(),
        StatusCode::TEMPORARY_REDIRECT | StatusCode::PERMANENT_REDIRECT
    )
}

pub(super) fn location<B>(answer: &Response<B>) -> Option<Uri> {
    answer.headers().get(LOCATION)?.to_str().ok()?.parse().ok()
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
                repeatable: true,
            };
            let made = outgoing.request(&to, RelayBody::EMPTY).unwrap();
            assert_eq!(made.uri().path_and_query().unwrap().as_str(), target);
        }
    }
}
