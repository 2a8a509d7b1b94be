//! Every path, with every read operation, every kind of query, and tokens of different rights.

use crate::asked;

/// Answers that are kept as they are, of engines that are not KV.
pub(crate) const AUTHORITIES: [&str; 12] = [
    "pki/cert/ca",
    "pki/cert/crl",
    "pki/cert/none",
    "pki/ca",
    "pki/ca/pem",
    "pki/ca_chain",
    "pki/crl",
    "pki/issuer/default/json",
    "ssh/config/ca",
    "ssh/public_key",
    "identity/oidc/.well-known/keys",
    "identity/oidc/.well-known/openid-configuration",
];

/// Whose token comes with a question.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Bearer {
    All,
    Some,
    Paged,
    Filtered,
    Bound,
    Nothing,
    /// One that was revoked.
    Dead,
    /// One that nobody ever issued.
    Unknown,
    /// None at all.
    Nobody,
}

const BEARERS: [Bearer; 9] = [
    Bearer::All,
    Bearer::Some,
    Bearer::Paged,
    Bearer::Filtered,
    Bearer::Bound,
    Bearer::Nothing,
    Bearer::Dead,
    Bearer::Unknown,
    Bearer::Nobody,
];

/// A request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Question {
    pub(crate) method: &'static str,
    pub(crate) target: String,
    pub(crate) bearer: Bearer,
    /// The primary asks for no token.
    pub(crate) open: bool,
    /// It is kept as it is, and not of KV.
    pub(crate) kept: bool,
    /// No mirror covers it.
    pub(crate) uncovered: bool,
}

impl Question {
    /// Whether a method asks for something that has an operation.
    pub(crate) fn is_call(&self) -> bool {
        !matches!(self.method, "OPTIONS" | "BREW")
    }

    /// Whether it asks to read, list or scan.
    pub(crate) fn reads(&self) -> bool {
        matches!(self.method, "GET" | "LIST" | "SCAN")
    }

    /// Whether it asks for a version that exists and is older than those that are kept.
    pub(crate) fn of_old_version(&self) -> bool {
        let of_a = ["data/app/a?", "subkeys/app/a?"]
            .iter()
            .any(|of| self.target.contains(of));
        let first = ["version=1", "version=0x1", "version=01"];
        let asks = self
            .target
            .split(['?', '&'])
            .any(|pair| first.contains(&pair));
        of_a && asks
    }

    /// Whether one of its parameters begins like this.
    pub(crate) fn has_any(&self, begins: &[&str]) -> bool {
        let mut pairs = self.target.split(['?', '&']).skip(1);
        pairs.any(|pair| begins.iter().any(|begin| pair.starts_with(begin)))
    }
}

/// All of them.
pub(crate) fn all() -> Vec<Question> {
    let mut questions = Vec::new();
    for (method, path, query) in asked::of_everything() {
        questions.push(question(method, &path, &query, Bearer::All));
    }
    for bearer in BEARERS.into_iter().filter(|bearer| *bearer != Bearer::All) {
        for (method, path, query) in asked::of_rights() {
            questions.push(question(method, &path, &query, bearer));
        }
    }
    questions
}

fn question(method: &'static str, path: &str, query: &str, bearer: Bearer) -> Question {
    let lists = matches!(method, "LIST" | "SCAN")
        || query.contains("list=true")
        || query.contains("scan=1");
    let mark = if query.is_empty() { "" } else { "?" };
    Question {
        method,
        target: format!("/v1/{path}{mark}{query}"),
        bearer,
        open: is_open(path),
        kept: is_kept(path),
        uncovered: is_uncovered(path, lists),
    }
}

/// Whether it is kept as it is.
pub(crate) fn is_kept(path: &str) -> bool {
    AUTHORITIES.contains(&path) || path == "secret/config"
}

/// Whether the primary asks for no token there.
pub(crate) fn is_open(path: &str) -> bool {
    AUTHORITIES.contains(&path) && path != "ssh/config/ca"
}

fn is_uncovered(path: &str, lists: bool) -> bool {
    if is_kept(path) {
        return false;
    }
    let decoded = decoded(path);
    let path = decoded.as_str();
    let of_data = [
        "data/",
        "metadata/",
        "detailed-metadata/",
        "subkeys/",
        "undelete/",
        "delete/",
        "destroy/",
    ];
    let slashed = |key: &str| match lists && !key.ends_with('/') {
        true => format!("{key}/"),
        false => key.to_owned(),
    };
    let (mount, rest) = path.split_once('/').unwrap_or((path, ""));
    match mount {
        "secret" => {
            let key = of_data.iter().find_map(|of| rest.strip_prefix(of));
            let key = slashed(key.unwrap_or(rest));
            let folders = ["app/", "shop/"];
            !(folders.iter().any(|folder| key.starts_with(folder)) || (key == "one" && !lists))
        }
        "kv1" => {
            let key = slashed(rest);
            !(key.starts_with("shop/") || (key == "one" && !lists))
        }
        "whole" => rest == "config" && !lists,
        "whole1" => false,
        _ => true,
    }
}

/// A name as it stands in a request line.
pub(crate) fn encoded(name: &str) -> String {
    let mut text = String::new();
    for byte in name.bytes() {
        match byte {
            b'/' | b'-' | b'_' | b'.' | b'~' => text.push(char::from(byte)),
            _ if byte.is_ascii_alphanumeric() => text.push(char::from(byte)),
            _ => text += &format!("%{byte:02X}"),
        }
    }
    text
}

fn decoded(path: &str) -> String {
    let target = format!("/v1/{path}");
    match shared::api::Call::parse("GET", &target) {
        Ok(call) => call.path.as_str().to_owned(),
        Err(_) => path.to_owned(),
    }
}
