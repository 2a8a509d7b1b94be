//! Answers: Holdover's own, and the primary's on their way to the client.

use bytes::Bytes;
use http::{
    HeaderValue, Method, Response, StatusCode, Version, header::RETRY_AFTER, response::Parts,
};
use hyper::body::Body as _;
use shared::{
    api::CallError,
    kv::Content,
    name::OutageId,
    wire::{self, Errors, to_body},
};

use super::{
    body::{BodyError, RelayBody},
    headers,
    limits::Exceeded,
};
use crate::link::{once::Right, room::BodyRoom};

/// The largest answer without a length that a client of HTTP/1.0 gets, in bytes.
const MEASURED: usize = 1024 * 1024;

/// An error of Holdover's own, in the primary's shape.
pub(crate) fn error(status: StatusCode, text: &str) -> Response<RelayBody> {
    errors(status, &Errors::one(text), None)
}

/// The same while there is an outage.
pub(crate) fn error_in(
    outage: Option<&OutageId>,
    status: StatusCode,
    text: &str,
) -> Response<RelayBody> {
    errors(status, &Errors::one(text), outage)
}

/// 503: nothing came of it. Who says so still has the right to send it.
pub(crate) fn not_applied(_: &Right, why: &str) -> Response<RelayBody> {
    let text = format!("primary unavailable{why}; nothing was applied");
    error(StatusCode::SERVICE_UNAVAILABLE, &text)
}

/// 504: nobody knows what came of it.
pub(crate) fn unknown() -> Response<RelayBody> {
    error(
        StatusCode::GATEWAY_TIMEOUT,
        "no answer of the primary came through: whether this request was carried out is unknown",
    )
}

/// A request that asks for nothing that there is, as the primary says it.
pub(crate) fn call_error(error: CallError, outage: Option<&OutageId>) -> Response<RelayBody> {
    let status = StatusCode::from_u16(error.status()).unwrap_or(StatusCode::BAD_REQUEST);
    let body = match error {
        CallError::Path(path) => Errors::one(path),
        CallError::Internal => Errors::one(error),
        CallError::NotApi | CallError::Method | CallError::Query => Errors::none(),
    };
    errors(status, &body, outage)
}

/// 429: over a limit.
pub(crate) fn exceeded(limit: Exceeded) -> Response<RelayBody> {
    let mut answer = error(StatusCode::TOO_MANY_REQUESTS, &limit.to_string());
    let headers = answer.headers_mut();
    headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
    answer
}

/// An answer of the local vault.
pub(crate) fn of_replica(answer: wire::Response) -> Response<RelayBody> {
    let status = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let has_body = !answer.body.is_empty() && status != StatusCode::NO_CONTENT;
    let headers = headers::of_replica(answer.age, answer.outage.as_ref(), &answer.content);
    let body = if has_body {
        RelayBody::secret(answer.body)
    } else {
        RelayBody::EMPTY
    };
    with(status, headers, body)
}

/// An answer of the primary, as it is. Its version is this hop's, because one of HTTP/1.0 would end with its connection
/// here as well, and a client could not see that it was cut.
pub(crate) fn of_primary(mut parts: Parts, body: RelayBody) -> Response<RelayBody> {
    parts.version = Version::HTTP_11;
    headers::from_primary(&mut parts.headers);
    Response::from_parts(parts, body)
}

/// An answer of the primary whose body another took the place of.
pub(crate) fn of_primary_rewritten(mut parts: Parts, body: Bytes) -> Response<RelayBody> {
    headers::forget_length(&mut parts.headers);
    of_primary(parts, RelayBody::Whole(body))
}

/// An answer with its length known. HTTP/1.0 has no chunks: without a length its clients would take what was cut for whole.
/// It is in `room` until it was sent; what only reads may be tried again where there is none.
pub(crate) async fn measured(
    answer: Response<RelayBody>,
    method: &Method,
    room: BodyRoom,
) -> Response<RelayBody> {
    if answer.body().size_hint().exact().is_some() {
        return answer;
    }
    let (parts, body) = answer.into_parts();
    match body.gathered(MEASURED, room).await {
        Ok(read) => Response::from_parts(parts, RelayBody::Whole(read)),
        Err(BodyError::NoRoom(_)) if method.is_safe() => exceeded(Exceeded::Unread),
        Err(why) => {
            let status = parts.status;
            let text = format!(
                "the primary answered {status}, but not in a way that HTTP/1.0 can pass on whole: {why}; use HTTP/1.1"
            );
            error(StatusCode::BAD_GATEWAY, &text)
        }
    }
}

/// Who wrote an answer.
pub(crate) fn source(answer: &Response<RelayBody>) -> &'static str {
    match answer.headers().get(headers::SOURCE) {
        Some(source) if source == "primary" => "primary",
        _ => "replica",
    }
}

fn errors(status: StatusCode, errors: &Errors, outage: Option<&OutageId>) -> Response<RelayBody> {
    let body = match to_body(errors) {
        Ok(body) => RelayBody::secret(body),
        Err(_) => RelayBody::EMPTY, // A list of texts can always be written.
    };
    with(
        status,
        headers::of_replica(None, outage, &Content::default()),
        body,
    )
}

fn with(status: StatusCode, headers: http::HeaderMap, body: RelayBody) -> Response<RelayBody> {
    let mut answer = Response::new(body);
    *answer.status_mut() = status;
    *answer.headers_mut() = headers;
    answer
}
