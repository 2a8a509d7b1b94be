//! Which headers pass, which are taken out, and which are ours.
//!
//! What clients claim about where they come from never reaches the primary, and nobody but Holdover speaks in
//! `X-Holdover-*`.

use http::{
    HeaderMap, HeaderName, HeaderValue,
    header::{
        ACCEPT_ENCODING, AUTHORIZATION, CACHE_CONTROL, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE,
        STRICT_TRANSPORT_SECURITY,
    },
};
use shared::{kv::Content, name::OutageId, secret::SecretText};

use crate::config::{
    self,
    headers::{HOP_BY_HOP, OURS, is_among, is_sent_on},
};

/// `X-Holdover-Source`: who wrote the answer.
pub(crate) const SOURCE: HeaderName = HeaderName::from_static("x-holdover-source");
/// `X-Holdover-Age`: seconds since the value, or the authority that decided, was last verified.
pub(crate) const AGE: HeaderName = HeaderName::from_static("x-holdover-age");
/// `X-Holdover-Outage`: the outage that the answer was given in.
pub(crate) const OUTAGE: HeaderName = HeaderName::from_static("x-holdover-outage");
/// `X-Vault-Token`.
pub(crate) const VAULT_TOKEN: HeaderName = HeaderName::from_static("x-vault-token");
/// `X-Vault-Namespace`.
pub(crate) const VAULT_NAMESPACE: HeaderName = HeaderName::from_static("x-vault-namespace");
const VAULT_WRAP_TTL: HeaderName = HeaderName::from_static("x-vault-wrap-ttl");

const INLINE_AUTH: &str = "x-vault-inline-auth-";

/// Who asks and for what, whole names or beginnings that end in `-`. `Connection` cannot take these out, because a
/// request would be decided as one thing here and as another at the primary.
const END_TO_END: [&str; 3] = ["x-vault-", "authorization", "content-"];

/// Headers by which the primary may refuse a request before it decides about it, or answer it by another state. In an
/// outage there is none to wait for.
const CONDITIONS: [&str; 5] = [
    "content-encoding",
    "x-vault-forward",
    "x-vault-inconsistent",
    "x-vault-index",
    "x-vault-no-request-forwarding",
];

/// Headers that ask for what the replica does not model, whatever their value.
const UNMODELLED: [&str; 3] = [
    "x-vault-mfa",
    "x-vault-policy-override",
    "x-vault-wrap-format",
];

/// What of a client's request goes to the primary: what it or what stands before it looks at, and what the configuration
/// names besides. `Host` is set where it is sent.
pub(crate) fn outgoing(received: &HeaderMap, configured: &[HeaderName]) -> HeaderMap {
    let of_connection = named_by_connection(received);
    let is_sent_on = |name: &HeaderName| {
        passes(name, configured) && !of_connection.iter().any(|one| one == name.as_str())
    };
    let sent = received.iter().filter(|(name, _)| is_sent_on(name));
    sent.map(|(name, value)| (name.clone(), value.clone()))
        .collect()
}

/// The headers that are not sent on though HTTP would have them go on.
pub(crate) fn dropped<'h>(
    received: &'h HeaderMap,
    configured: &'h [HeaderName],
) -> impl Iterator<Item = &'h HeaderName> {
    let of_connection = named_by_connection(received);
    received.keys().filter(move |name| {
        let is_of_this_hop = config::headers::is_of_this_hop(name.as_str())
            || of_connection.iter().any(|one| one == name.as_str());
        !is_of_this_hop && !passes(name, configured)
    })
}

fn passes(name: &HeaderName, configured: &[HeaderName]) -> bool {
    is_sent_on(name.as_str()) || configured.contains(name)
}

/// What of the primary's answer goes to the client, and who wrote it.
pub(crate) fn from_primary(headers: &mut HeaderMap) {
    strip(headers, &[OURS]);
    headers.insert(SOURCE, HeaderValue::from_static("primary"));
}

/// The headers of an answer that Holdover wrote: the primary's usual ones and our own.
pub(crate) fn of_replica(
    age: Option<u64>,
    outage: Option<&OutageId>,
    content: &Content,
) -> HeaderMap {
    let mut headers = HeaderMap::with_capacity(6);
    for (name, value) in [
        (CACHE_CONTROL, &content.cache),
        (CONTENT_TYPE, &content.kind),
    ] {
        // What the primary sent as a header can be sent as one.
        if let Some(Ok(value)) = value.as_deref().map(HeaderValue::from_str) {
            headers.insert(name, value);
        }
    }
    headers.insert(
        STRICT_TRANSPORT_SECURITY,
        HeaderValue::from_static("max-age=31536000; includeSubDomains"),
    );
    headers.insert(SOURCE, HeaderValue::from_static("replica"));
    if let Some(age) = age {
        headers.insert(AGE, HeaderValue::from(age));
    }
    if let Some(id) = outage.and_then(|id| HeaderValue::from_str(id.as_str()).ok()) {
        headers.insert(OUTAGE, id);
    }
    headers
}

/// The token of a request, found where the primary looks for it: the first `X-Vault-Token` unless that is empty,
/// else the first `Authorization` that begins with `Bearer `.
pub(crate) fn token(headers: &HeaderMap) -> Option<SecretText> {
    let own = headers
        .get(VAULT_TOKEN)
        .filter(|value| !value.is_empty())
        .map(text);
    own.or_else(|| {
        headers
            .get_all(AUTHORIZATION)
            .iter()
            .find_map(|value| value.as_bytes().strip_prefix(b"Bearer "))
            .map(|token| String::from_utf8_lossy(token).trim().to_owned())
    })
    .filter(|token| !token.is_empty())
    .map(SecretText::new)
}

/// Whether a request carries anything at all that could prove who it is.
pub(crate) fn brings_proof(headers: &HeaderMap) -> bool {
    headers.contains_key(AUTHORIZATION)
        || headers
            .get_all(VAULT_TOKEN)
            .iter()
            .any(|value| !value.is_empty())
        || logs_in_inline(headers)
}

/// Whether a request logs in by its own headers: what the primary makes of a token beside these, only it knows.
pub(crate) fn logs_in_inline(headers: &HeaderMap) -> bool {
    let mut names = headers.keys().map(HeaderName::as_str);
    names.any(|name| name.starts_with(INLINE_AUTH))
}

/// Every text of a token header, whether or not the primary would look at it.
pub(crate) fn token_texts(headers: &HeaderMap) -> impl Iterator<Item = String> {
    let names = [VAULT_TOKEN, AUTHORIZATION].into_iter();
    names.flat_map(|name| headers.get_all(name)).map(text)
}

/// Every value by which a request names a namespace.
pub(crate) fn namespaces(headers: &HeaderMap) -> impl Iterator<Item = &[u8]> {
    headers
        .get_all(VAULT_NAMESPACE)
        .iter()
        .map(HeaderValue::as_bytes)
}

/// Puts `token` in the place of whatever was sent as one.
pub(crate) fn set_token(headers: &mut HeaderMap, token: &SecretText) {
    remove_token(headers);
    if let Ok(mut value) = HeaderValue::from_str(token.expose()) {
        value.set_sensitive(true);
        headers.insert(VAULT_TOKEN, value);
    }
}

/// Takes out whatever was sent as a token.
pub(crate) fn remove_token(headers: &mut HeaderMap) {
    headers.remove(AUTHORIZATION);
    headers.remove(VAULT_TOKEN);
}

/// Whether the answer is asked for in a wrapping: `0` and nothing ask for none.
pub(crate) fn asks_for_wrapping(headers: &HeaderMap) -> bool {
    headers
        .get_all(VAULT_WRAP_TTL)
        .iter()
        .any(|ttl| !matches!(ttl.as_bytes(), b"" | b"0" | b"0s"))
}

/// The first header that asks for what the replica does not model.
pub(crate) fn unmodelled(headers: &HeaderMap) -> Option<&str> {
    if asks_for_wrapping(headers) {
        return Some("x-vault-wrap-ttl");
    }
    headers
        .keys()
        .map(HeaderName::as_str)
        .find(|name| UNMODELLED.contains(name) || name.starts_with(INLINE_AUTH))
}

/// Whether the primary reads no more in the headers than the replica does: they ask for nothing that is not modelled, make
/// the answer wait for no state, and bring one token at most, in one place.
pub(crate) fn read_alike(headers: &HeaderMap) -> bool {
    let brings_one = token_texts(headers).take(2).count() < 2;
    let conditions = CONDITIONS.iter().any(|name| headers.contains_key(*name));
    unmodelled(headers).is_none() && brings_one && !conditions
}

/// Asks for an answer that is not compressed, since it will be looked into.
pub(crate) fn ask_for_identity(headers: &mut HeaderMap) {
    headers.remove(ACCEPT_ENCODING);
}

/// The length that a changed body has is another.
pub(crate) fn forget_length(headers: &mut HeaderMap) {
    headers.remove(CONTENT_LENGTH);
}

fn text(value: &HeaderValue) -> String {
    String::from_utf8_lossy(value.as_bytes()).into_owned()
}

/// Takes out what is meant for one hop, and what `more` names.
fn strip(headers: &mut HeaderMap, more: &[&str]) {
    let listed = named_by_connection(headers);
    let is_out = |name: &str| {
        is_among(name, &HOP_BY_HOP) || is_among(name, more) || listed.iter().any(|one| one == name)
    };
    let out: Vec<HeaderName> = headers
        .keys()
        .filter(|name| is_out(name.as_str()))
        .cloned()
        .collect();
    for name in out {
        headers.remove(name);
    }
}

/// What `Connection` says to be of one hop, but what must reach the end.
fn named_by_connection(headers: &HeaderMap) -> Vec<String> {
    let values = headers.get_all(CONNECTION).iter();
    values
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(|name| name.trim().to_ascii_lowercase())
        .filter(|name| !is_among(name, &END_TO_END))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| {
                (
                    HeaderName::from_static(name),
                    HeaderValue::from_static(value),
                )
            })
            .collect()
    }

    /// What clients send that is none of the primary's business.
    const STRAY: [(&str, &str); 12] = [
        ("x-forwarded-for", "10.0.0.1"),
        ("x-forwarded-proto", "https"),
        ("forwarded", "for=10.0.0.1"),
        ("x-real-ip", "10.0.0.1"),
        ("x-holdover-source", "primary"),
        ("x-tenant", "acme"),
        ("cookie", "a=b"),
        ("range", "bytes=0-1"),
        ("via", "1.1 proxy"),
        ("x-original-url", "/v1/sys/raw"),
        ("x-http-method-override", "DELETE"),
        ("x-vaulted", "no"),
    ];

    /// What ends here by HTTP.
    const HOP: [(&str, &str); 8] = [
        ("host", "localhost"),
        ("expect", "100-continue"),
        ("connection", "keep-alive, X-Mine"),
        ("x-mine", "1"),
        ("keep-alive", "timeout=5"),
        ("te", "trailers"),
        ("transfer-encoding", "chunked"),
        ("upgrade", "websocket"),
    ];

    /// What the primary reads.
    const READ: [(&str, &str); 20] = [
        ("accept", "*/*"),
        ("accept-encoding", "gzip"),
        ("authorization", "Bearer s.x"),
        ("content-length", "2"),
        ("content-type", "application/json"),
        ("if-modified-since", "x"),
        ("if-none-match", "x"),
        ("traceparent", "00-1-1-00"),
        ("tracestate", "a=b"),
        ("user-agent", "bao"),
        ("x-vault-forward", "active-node"),
        ("x-vault-inconsistent", "forward-active-node"),
        ("x-vault-index", "x"),
        ("x-vault-inline-auth-path", "x"),
        ("x-vault-mfa", "id:1"),
        ("x-vault-namespace", "team"),
        ("x-vault-request", "true"),
        ("x-vault-token", "s.x"),
        ("x-vault-wrap-format", "jwt"),
        ("x-vault-wrap-ttl", "60"),
    ];

    fn names(headers: &HeaderMap) -> Vec<&str> {
        let mut names: Vec<&str> = headers.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        names
    }

    #[test]
    fn what_the_primary_reads_passes_and_nothing_else() {
        let received = map(&[&STRAY[..], &HOP[..], &READ[..]].concat());
        assert_eq!(names(&outgoing(&received, &[])), READ.map(|(name, _)| name));
        let mut out: Vec<_> = dropped(&received, &[]).map(HeaderName::as_str).collect();
        let mut stray = STRAY.map(|(name, _)| name);
        out.sort_unstable();
        stray.sort_unstable();
        assert_eq!(out, stray, "what ends here by HTTP is not counted");
    }

    #[test]
    fn what_the_configuration_names_passes_with_every_value_but_for_one_hop_alone() {
        let tenant = HeaderName::from_static("x-tenant");
        let configured = [tenant.clone()];
        let received = map(&[("x-tenant", "a"), ("x-tenant", "b"), ("x-other", "c")]);
        let sent = outgoing(&received, &configured);
        assert_eq!(sent.get_all(&tenant).iter().count(), 2);
        assert_eq!(sent.len(), 2);
        let out: Vec<_> = dropped(&received, &configured).collect();
        assert_eq!(out, ["x-other"]);
        let received = map(&[("x-tenant", "a"), ("connection", "X-Tenant")]);
        assert!(outgoing(&received, &configured).is_empty());
    }

    #[test]
    fn connection_cannot_take_the_token_out() {
        let received = map(&[
            (
                "connection",
                "x-vault-token, authorization, x-vault-namespace",
            ),
            ("x-vault-token", "s.x"),
            ("authorization", "Bearer s.y"),
            ("x-vault-namespace", "team"),
        ]);
        let sent = outgoing(&received, &[]);
        assert_eq!(sent.len(), 3, "{sent:?}");
    }

    #[test]
    fn the_token_is_found_where_the_primary_finds_it() {
        let found = |pairs: &[(&'static str, &'static str)]| {
            token(&map(pairs)).map(|token| token.expose().clone())
        };
        assert_eq!(
            found(&[("x-vault-token", "a"), ("authorization", "Bearer b")]).as_deref(),
            Some("a")
        );
        assert_eq!(
            found(&[("x-vault-token", ""), ("authorization", "Bearer b ")]).as_deref(),
            Some("b")
        );
        assert_eq!(
            found(&[
                ("authorization", "Basic eA=="),
                ("authorization", "Bearer b")
            ])
            .as_deref(),
            Some("b")
        );
        assert_eq!(found(&[("authorization", "bearer b")]), None);
        assert_eq!(found(&[]), None);
    }

    #[test]
    fn only_a_request_without_any_proof_is_without_proof() {
        assert!(!brings_proof(&map(&[("x-vault-token", "")])));
        assert!(brings_proof(&map(&[("authorization", "Basic eA==")])));
        assert!(brings_proof(&map(&[("x-vault-inline-auth-path", "x")])));
    }

    #[test]
    fn what_asks_for_more_or_brings_two_tokens_does_not_read_alike() {
        let plain = [("x-vault-token", "a"), ("x-vault-request", "true")];
        assert!(read_alike(&map(&plain)) && read_alike(&map(&[("authorization", "Bearer a")])));
        for header in [
            ("authorization", "Bearer b"),
            ("authorization", "Basic eA=="),
            ("x-vault-token", "a"),
            ("x-vault-index", "v1:0:1:"),
            ("x-vault-inconsistent", "fail"),
            ("x-vault-wrap-ttl", "60"),
            ("x-vault-mfa", "id:1"),
        ] {
            let mut headers = map(&plain);
            headers.append(header.0, HeaderValue::from_static(header.1));
            assert!(!read_alike(&headers), "{header:?}");
        }
    }

    #[test]
    fn what_is_not_modelled_is_named() {
        assert_eq!(unmodelled(&map(&[("x-vault-wrap-ttl", "0")])), None);
        assert_eq!(
            unmodelled(&map(&[("x-vault-wrap-ttl", "60")])),
            Some("x-vault-wrap-ttl")
        );
        assert_eq!(
            unmodelled(&map(&[("x-vault-mfa", "id:1")])),
            Some("x-vault-mfa")
        );
        assert_eq!(
            unmodelled(&map(&[("x-vault-inline-auth-path", "x")])),
            Some("x-vault-inline-auth-path")
        );
        assert_eq!(unmodelled(&map(&[("x-vault-request", "true")])), None);
    }
}
