//! One request of Holdover's own as it goes over the link, and what its answer is: a reply, or one of the reasons why not.

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, header, uri::PathAndQuery};
use shared::{kv::Content, name::Namespace, provenance::Health, secret::SecretText};
use zeroize::Zeroizing;

use super::{Reply, Request, UpstreamError, reply, request};
use crate::link::{
    Link, Unavailable,
    error::{Unshown, errors_of, is_unavailable_status, unavailable_of},
    once::Undone,
    own::{OwnAnswer, OwnCall, OwnFailure},
};

const TOKEN: HeaderName = HeaderName::from_static("x-vault-token");
const NAMESPACE: HeaderName = HeaderName::from_static("x-vault-namespace");
const REQUEST: HeaderName = HeaderName::from_static("x-vault-request");

/// What knows the namespace that requests are made in.
pub(super) struct Sender {
    link: Link,
    namespace: Option<HeaderValue>,
}

impl Sender {
    pub(super) fn new(link: Link, namespace: &Namespace) -> Self {
        let namespace = HeaderValue::from_str(namespace.as_str()).ok();
        Self {
            link,
            namespace: namespace.filter(|value| !value.is_empty()),
        }
    }

    pub(super) fn link(&self) -> &Link {
        &self.link
    }

    /// Sends `request`, with `token` if there is one. What only asks is answered as of now, or not at all.
    ///
    /// # Errors
    /// [`UpstreamError`], but for decisions: those are replies.
    pub(super) async fn send(
        &self,
        request: &Request,
        token: Option<&SecretText>,
    ) -> Result<Reply, UpstreamError> {
        let call = self.call(request, token)?;
        reply_of(self.link.call(&call).await?, request)
    }

    fn call(
        &self,
        request: &Request,
        token: Option<&SecretText>,
    ) -> Result<OwnCall, UpstreamError> {
        let target = PathAndQuery::try_from(request.target())
            .map_err(|error| Unavailable::Connect(error.to_string()))?;
        let mut headers = HeaderMap::with_capacity(4);
        headers.insert(REQUEST, HeaderValue::from_static("true"));
        if let Some(namespace) = self.namespace.as_ref().filter(|_| request.namespaced) {
            headers.insert(NAMESPACE, namespace.clone());
        }
        if let Some(token) = token.and_then(token_header) {
            headers.insert(TOKEN, token);
        }
        if request.body.is_some() {
            let json = HeaderValue::from_static("application/json");
            headers.insert(header::CONTENT_TYPE, json);
        }
        Ok(OwnCall {
            method: request.method.clone(),
            target,
            headers,
            body: request.body.clone().unwrap_or_default(),
            repeatable: request.repeatable,
            current: request.only_asks,
            patience: request.patience,
            largest: request.largest(),
        })
    }
}

impl From<OwnFailure> for UpstreamError {
    fn from(failure: OwnFailure) -> Self {
        match failure {
            OwnFailure::Unshown(Unshown::Foreign(foreign)) => foreign.into(),
            OwnFailure::Unshown(Unshown::Unavailable(unavailable)) => unavailable.into(),
            OwnFailure::Unshown(Unshown::SlowDown) => Self::SlowDown { after: None },
            OwnFailure::Unknown(unavailable) => Self::Unknown(unavailable),
            OwnFailure::Unshown(Unshown::NotActive) | OwnFailure::NotCurrent => Self::NotCurrent,
        }
    }
}

fn reply_of(answer: OwnAnswer, request: &Request) -> Result<Reply, UpstreamError> {
    let status = match answer.status {
        // What a standby answers there is its state.
        status @ (429 | 473) if request.path() == "sys/health" => {
            match Health::read(status, &answer.body) {
                Health::Serves(_) => 200,
                Health::SlowDown | Health::CannotServe => status,
            }
        }
        status => status,
    };
    let undone = Undone::said(status, &answer.body).is_some();
    match status {
        ..=428 | 430..=499 if answer.overlong => return Err(reply::overlong(request)),
        429 => {
            return Err(UpstreamError::SlowDown {
                after: seconds(answer.headers.get(header::RETRY_AFTER)),
            });
        }
        // A node that leaves it to an active one, of which there is none now.
        _ if undone => return Err(unavailable_of(status, &answer.body).into()),
        _ if is_unavailable_status(status) => {
            let unavailable = unavailable_of(status, &answer.body);
            return Err(match request.repeatable {
                true => unavailable.into(),
                false => UpstreamError::Unknown(unavailable),
            });
        }
        500.. => {
            return Err(UpstreamError::Undecided {
                path: request.path().to_owned(),
                status,
                errors: errors_of(&answer.body),
            });
        }
        // A success or a decision, if it is the primary's.
        _ => {}
    }
    let content = Content {
        kind: text(answer.headers.get(header::CONTENT_TYPE)),
        cache: text(answer.headers.get(header::CACHE_CONTROL)),
    };
    let reply = Reply::new(status, request.path().to_owned(), answer.body);
    Ok(reply.saying(content).from(answer.provenance))
}

/// The token as a header that no log prints, in memory that is wiped.
fn token_header(token: &SecretText) -> Option<HeaderValue> {
    let bytes = Zeroizing::new(token.expose().as_bytes().to_vec());
    let mut value = HeaderValue::from_maybe_shared(request::wiped(bytes)).ok()?;
    value.set_sensitive(true);
    Some(value)
}

fn seconds(value: Option<&HeaderValue>) -> Option<Duration> {
    let seconds = text(value)?.parse().ok()?;
    Some(Duration::from_secs(seconds))
}

fn text(value: Option<&HeaderValue>) -> Option<String> {
    Some(value?.to_str().ok()?.to_owned())
}
