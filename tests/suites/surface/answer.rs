//! What came back, as far as it is compared.

use std::collections::BTreeSet;
use std::fmt;

use bytes::Bytes;
use harness::client::raw::Reply;
use serde_json::Value;

/// How every warning of the replica begins.
const OWN_WARNING: &str = "\"answered by holdover's replica: last verified ";

/// An answer without what differs by nature: the request's id, and the warning that tells a replica's answer.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) source: String,
    /// The node that took the question, where there are several; it is not compared.
    pub(crate) node: Option<String>,
    kind: Option<String>,
    cache: Option<String>,
    /// `Content-Length`, where it is not that of the body.
    length: Option<String>,
    body: Bytes,
}

impl Answer {
    pub(crate) fn of(reply: &Reply) -> Answer {
        let header = |name| reply.header(name).map(str::to_owned);
        let length = header("content-length");
        Answer {
            status: reply.status,
            source: header("x-holdover-source").unwrap_or_default(),
            node: header("x-node"),
            kind: header("content-type"),
            cache: header("cache-control"),
            length: length.filter(|length| *length != reply.body.len().to_string()),
            body: match std::str::from_utf8(&reply.body) {
                Ok(text) => without_nature(text).into(),
                Err(_) => reply.body.clone(),
            },
        }
    }

    pub(crate) fn same_as(&self, other: &Answer) -> bool {
        (self.status, &self.kind, &self.cache) == (other.status, &other.kind, &other.cache)
            && self.length == other.length
            && (self.body == other.body || self.has_the_keys_of(other))
    }

    /// Public keys of an identity provider, of which each node keeps an order of its own.
    fn has_the_keys_of(&self, other: &Answer) -> bool {
        let keys = |answer: &Answer| {
            let body: Value = serde_json::from_slice(&answer.body).ok()?;
            let keys = body.get("keys")?.as_array()?.iter();
            keys.map(|key| key["kid"].as_str().map(|_| key.to_string()))
                .collect::<Option<BTreeSet<String>>>()
        };
        let several = self.node.is_some() || other.node.is_some();
        several && keys(self).is_some() && keys(self) == keys(other)
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// Whether the token and its policies allowed it.
    pub(crate) fn is_allowed(&self) -> bool {
        self.status != 403
    }

    /// Whether it got past the token, and past what is no call at all.
    pub(crate) fn is_judged(&self) -> bool {
        self.text() != "{\"errors\":[\"permission denied\"]}\n" && !self.is_no_call()
    }

    fn is_no_call(&self) -> bool {
        let text = self.text();
        let says_nothing = text == "{\"errors\":[]}\n";
        matches!(self.status, 400 | 405) && says_nothing || text.contains("internal-only")
    }
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:?} {:?}", self.status, self.kind, self.cache)?;
        if let Some(length) = &self.length {
            write!(f, " length {length}")?;
        }
        write!(f, " {:?}", self.text())
    }
}

fn without_nature(text: &str) -> String {
    let mut text = text.to_owned();
    if let Some(at) = text.find("\"request_id\":\"") {
        let from = at + "\"request_id\":\"".len();
        let length = text[from..].find('"').unwrap_or(0);
        text.replace_range(from..from + length, "-");
    }
    if let Some(from) = text.find(OWN_WARNING) {
        let end = text[from..]
            .find("\"]")
            .map_or(text.len(), |at| from + at + 1);
        let from = if text[..from].ends_with(',') {
            from - 1
        } else {
            from
        };
        text.replace_range(from..end, "");
        text = text.replace("\"warnings\":[]", "\"warnings\":null");
    }
    text
}
