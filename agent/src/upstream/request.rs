//! A request of Holdover's own: verb, decoded path, body. Paths are encoded here and nowhere else.

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;
use http::Method;
use serde::Serialize;
use shared::percent;
use zeroize::Zeroizing;

/// How long an ordinary request may take, to the last byte.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// How long a request may take whose answer grows with the number of keys.
pub const BULK_PATIENCE: Duration = Duration::from_secs(60);

/// The largest body that a request of the cluster's own state is answered with, in bytes: its health, its leader, its seal.
const LARGEST_STATE: usize = 64 << 10;

/// The largest answer to a write, in bytes: a look-up, a login, a token, a lease.
const LARGEST_RESULT: usize = 1 << 20;

/// The largest answer to a read of one thing, in bytes: what the primary takes in one request, if nothing else is set there
/// (`max_request_size`).
const LARGEST_READ: usize = 32 << 20;

/// The largest listing that is read, in bytes: detailed metadata of about 150,000 keys.
const LARGEST_LISTING: usize = 64 << 20;

/// A request without its token.
pub struct Request {
    pub(super) method: Method,
    pub(super) path: String,
    pub(super) query: Option<String>,
    pub(super) body: Option<Bytes>,
    pub(super) patience: Duration,
    pub(super) repeatable: bool,
    /// Whether it changes nothing, so that only a current answer to it is worth anything.
    pub(super) only_asks: bool,
    pub(super) namespaced: bool,
    /// Bytes.
    largest: usize,
}

impl Request {
    /// GET. `path` is decoded and without `/v1/`.
    pub fn read(path: impl Into<String>) -> Self {
        Self::new(Method::GET, path.into(), true)
    }

    /// LIST: names right below a folder.
    pub fn list(folder: impl Into<String>) -> Self {
        Self::listing(b"LIST", folder.into())
    }

    /// SCAN: names anywhere below a folder. OpenBao alone has it.
    pub fn scan(folder: impl Into<String>) -> Self {
        Self::listing(b"SCAN", folder.into())
    }

    /// POST of `body`. It is sent a second time only where the first surely did not arrive.
    pub fn write(path: impl Into<String>, body: &impl Serialize) -> Self {
        let body = serde_json::to_vec(body).unwrap_or_default();
        Self {
            body: Some(wiped(Zeroizing::new(body))),
            ..Self::new(Method::POST, path.into(), false).at_most(LARGEST_RESULT)
        }
    }

    /// POST of one object with these texts in it.
    pub fn fields(path: impl Into<String>, fields: &[(&str, &str)]) -> Self {
        let object: BTreeMap<_, _> = fields.iter().copied().collect();
        Self::write(path, &object)
    }

    /// Of something unauthenticated that belongs to the cluster, not to a namespace.
    #[must_use]
    pub fn of_cluster(self) -> Self {
        Self {
            namespaced: false,
            ..self.at_most(LARGEST_STATE)
        }
    }

    /// Another answer of which more than one may exist: a read that creates something.
    #[must_use]
    pub fn creating(self) -> Self {
        Self {
            repeatable: false,
            only_asks: false,
            ..self
        }
    }

    /// A write that may be repeated without harm.
    #[must_use]
    pub fn repeatable(self) -> Self {
        Self {
            repeatable: true,
            ..self
        }
    }

    /// A write in form that changes nothing: a look-up.
    #[must_use]
    pub fn asking(self) -> Self {
        Self {
            only_asks: true,
            ..self.repeatable()
        }
    }

    /// One version of a KV v2 key.
    #[must_use]
    pub fn version(self, version: u64) -> Self {
        Self {
            query: Some(format!("version={version}")),
            ..self
        }
    }

    /// Bounded by `patience` instead of [`PATIENCE`].
    #[must_use]
    pub fn within(self, patience: Duration) -> Self {
        Self { patience, ..self }
    }

    /// Answered with a body of no more than so many bytes.
    #[must_use]
    pub fn at_most(self, largest: usize) -> Self {
        Self { largest, ..self }
    }

    /// The most bytes that its answer's body may have: what is longer is not read.
    pub fn largest(&self) -> usize {
        self.largest
    }

    /// The decoded path, for messages.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The capability that it takes.
    pub(super) fn capability(&self) -> &'static str {
        match self.method.as_str() {
            "LIST" => "list",
            "SCAN" => "scan",
            "POST" => "update",
            _ => "read",
        }
    }

    /// The target below an address: `/v1/…`.
    pub(super) fn target(&self) -> String {
        let path = percent::encode_path(&self.path);
        match &self.query {
            Some(query) => format!("/v1/{path}?{query}"),
            None => format!("/v1/{path}"),
        }
    }

    fn listing(verb: &[u8], folder: String) -> Self {
        Self::new(extension(verb), as_folder(folder), true)
            .within(BULK_PATIENCE)
            .at_most(LARGEST_LISTING)
    }

    fn new(method: Method, path: String, repeatable: bool) -> Self {
        Self {
            method,
            path,
            query: None,
            body: None,
            patience: PATIENCE,
            repeatable,
            only_asks: repeatable,
            namespaced: true,
            largest: LARGEST_READ,
        }
    }
}

/// Bytes that are shared without copies and wiped when the last owner goes.
pub(super) fn wiped(bytes: Zeroizing<Vec<u8>>) -> Bytes {
    struct Owner(Zeroizing<Vec<u8>>);
    impl AsRef<[u8]> for Owner {
        fn as_ref(&self) -> &[u8] {
            &self.0
        }
    }
    Bytes::from_owner(Owner(bytes))
}

fn as_folder(mut path: String) -> String {
    if !path.ends_with('/') {
        path.push('/');
    }
    path
}

fn extension(name: &[u8]) -> Method {
    // Both names are tokens; GET is never reached.
    Method::from_bytes(name).unwrap_or(Method::GET)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use shared::api::Call;

    #[test]
    fn what_would_be_read_as_syntax_is_encoded() {
        let request = Request::read("secret/data/a b+c?d#e%2f{é}").version(3);
        assert_eq!(
            request.target(),
            "/v1/secret/data/a%20b%2Bc%3Fd%23e%252f%7B%C3%A9%7D?version=3"
        );
    }

    #[test]
    fn lists_and_scans_ask_for_folders() {
        assert_eq!(
            Request::list("secret/metadata/a").target(),
            "/v1/secret/metadata/a/"
        );
        assert_eq!(
            Request::scan("secret/metadata/a/").target(),
            "/v1/secret/metadata/a/"
        );
        assert_eq!(Request::scan("a").method.as_str(), "SCAN");
    }

    #[test]
    fn every_kind_of_request_bounds_its_answer() {
        let largest = |request: Request| request.largest();
        assert_eq!(largest(Request::read("sys/health").of_cluster()), 65_536);
        assert_eq!(largest(Request::fields("auth/token/lookup", &[])), 1 << 20);
        assert_eq!(largest(Request::read("secret/data/a").version(3)), 32 << 20);
        assert_eq!(largest(Request::list("secret/metadata")), 64 << 20);
        assert_eq!(largest(Request::scan("a").at_most(10)), 10);
    }

    /// Printable, of one to four bytes each.
    const SEGMENT: &str =
        "[ -.0-~\u{c0}-\u{17f}\u{3b1}-\u{3c9}\u{4e00}-\u{4eff}\u{1f600}-\u{1f64f}]{1,20}";

    proptest! {
        /// What the primary decodes, and what reqwest makes of it on the way, is the path that was meant.
        #[test]
        fn a_path_survives_its_encoding(path in proptest::collection::vec(SEGMENT, 1..4)) {
            let path = path.join("/");
            prop_assume!(shared::name::RequestPath::parse(&path).is_ok());
            let target = Request::read(path.clone()).target();
            let url = reqwest::Url::parse(&format!("https://vault:8200{target}")).unwrap();
            prop_assert_eq!(url.path(), &target);
            let call = Call::parse("GET", &target).unwrap();
            prop_assert_eq!(call.path.as_str(), path);
        }
    }
}
