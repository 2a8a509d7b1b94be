//! Which headers of a client's request may be sent on: a list of names, and what no configuration may put on it.

use http::HeaderName;

/// What the primary and what stands before it look at: whole names, and beginnings that end in `-`.
const SENT_ON: [&str; 9] = [
    "accept",
    "accept-",
    "authorization",
    "content-",
    "if-",
    "traceparent",
    "tracestate",
    "user-agent",
    "x-vault-",
];

/// Meant for one hop, besides what `Connection` names.
pub(crate) const HOP_BY_HOP: [&str; 9] = [
    "connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// Said anew where the request is sent.
const SAID_ANEW: [&str; 2] = ["expect", "host"];

/// What a client says of where it comes from, which the primary could take for what Holdover says.
const ORIGIN: [&str; 3] = ["forwarded", "x-forwarded-", "x-real-ip"];

/// The names in which Holdover alone speaks.
pub(crate) const OURS: &str = "x-holdover-";

/// Whether a header passes that nobody has configured.
pub(crate) fn is_sent_on(name: &str) -> bool {
    is_among(name, &SENT_ON)
}

/// Whether HTTP has a header end at each hop: that it does is not worth a word.
pub(crate) fn is_of_this_hop(name: &str) -> bool {
    is_among(name, &HOP_BY_HOP) || is_among(name, &SAID_ANEW)
}

/// Whether `listed` has a name, or a beginning of it that ends in `-`.
pub(crate) fn is_among(name: &str, listed: &[&str]) -> bool {
    listed.iter().any(|one| match one.ends_with('-') {
        true => name.starts_with(one),
        false => name == *one,
    })
}

/// The name of a header that is sent on as well.
pub(super) fn forward_header(text: &str) -> Result<HeaderName, &'static str> {
    let name = HeaderName::from_bytes(text.as_bytes())
        .map_err(|_| "is no name of a header; write one name, as in \"X-Tenant\"")?;
    if is_of_this_hop(name.as_str()) {
        return Err("is of one connection alone and never forwarded; leave it out");
    }
    if is_among(name.as_str(), &ORIGIN) {
        return Err("says where a request comes from, which no client may say; leave it out");
    }
    if name.as_str().starts_with(OURS) {
        return Err("is Holdover's own and never forwarded; leave it out");
    }
    Ok(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_named_in_any_case_and_never_one_of_a_hop_of_the_origin_or_ours() {
        for (text, name) in [
            ("X-Tenant", "x-tenant"),
            ("x_y", "x_y"),
            ("COOKIE", "cookie"),
        ] {
            assert_eq!(forward_header(text).unwrap().as_str(), name);
        }
        for text in [
            "",
            "X Tenant",
            "X-Tenant:",
            "Connection",
            "Transfer-Encoding",
            "Upgrade",
            "TE",
            "Proxy-Authorization",
            "Host",
            "Expect",
            "X-Holdover-Source",
            "X-Forwarded-For",
            "Forwarded",
            "X-Real-IP",
        ] {
            assert!(forward_header(text).is_err(), "{text}");
        }
    }
}
