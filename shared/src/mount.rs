//! What is mounted, by type: what its answers carry, what it asks of a caller, and which of its paths answer anybody.

use alloc::string::String;

use serde::{Deserialize, Serialize};

/// The type of a mount, as `sys/mounts` and `sys/auth` show it: `kv`, `database`, `token`, …
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct MountKind(String);

/// The KV backend; `generic` is its name of old.
const KV: [&str; 2] = ["generic", "kv"];

/// Backends besides KV that have no path which answers without a token.
const CLOSED: [&str; 2] = ["cubbyhole", "database"];

/// Backends whose answers carry leases.
const LEASING: [&str; 13] = [
    "ad",
    "alicloud",
    "aws",
    "azure",
    "consul",
    "database",
    "gcp",
    "kubernetes",
    "ldap",
    "nomad",
    "pki",
    "rabbitmq",
    "ssh",
];

/// Backends of which a read brings nothing into being and uses nothing up. Of any other, plugins among them, nobody knows.
const ONLY_READING: [&str; 11] = [
    "approle",
    "cert",
    "cubbyhole",
    "generic",
    "identity",
    "kv",
    "system",
    "token",
    "totp",
    "transit",
    "userpass",
];

/// Parts of the server itself, below which no path is mirrored for its own sake.
const OF_THE_SERVER: [&str; 4] = ["cubbyhole", "identity", "system", "token"];

/// Paths that the primary answers without a token: it looks at none that comes along, good or bad, and asks no policy.
///
/// By the type of the mount, the paths below it. A `+` stands for one segment, a trailing `*` for anything. From the
/// backends of OpenBao 2.7.2, confirmed against a live one; ACME, OCSP and token endpoints, which are never mirrored,
/// are left out: there the replica asks for a token, which is no more than the primary gives.
const OPEN: [(&str, &[&str]); 3] = [
    (
        "identity",
        &["oidc/.well-known/*", "oidc/provider/+/.well-known/*"],
    ),
    (
        "pki",
        &[
            "ca",
            "ca/pem",
            "ca_chain",
            "cert/*",
            "crl",
            "crl/delta",
            "crl/delta/pem",
            "crl/pem",
            "issuer/+/crl",
            "issuer/+/crl/delta",
            "issuer/+/crl/delta/der",
            "issuer/+/crl/delta/pem",
            "issuer/+/crl/der",
            "issuer/+/crl/pem",
            "issuer/+/der",
            "issuer/+/json",
            "issuer/+/pem",
            "issuers/",
        ],
    ),
    ("ssh", &["issuer/+/public_key", "public_key"]),
];

impl MountKind {
    /// The type's name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it logs in by role id and secret id.
    pub fn is_approle(&self) -> bool {
        self.0 == "approle"
    }

    /// Whether it keeps values under keys, in whichever version.
    pub fn is_kv(&self) -> bool {
        KV.contains(&self.as_str())
    }

    /// Whether it names who callers are.
    pub fn is_identity(&self) -> bool {
        self.0 == "identity"
    }

    /// Whether it is a part of the server that is not mirrored by path.
    pub fn is_of_the_server(&self) -> bool {
        OF_THE_SERVER.contains(&self.as_str())
    }

    /// Whether its answers carry leases. Others stream.
    pub fn leases(&self) -> bool {
        LEASING.contains(&self.as_str())
    }

    /// Whether reading from it has no effect: it may be done twice.
    pub fn only_reads(&self) -> bool {
        ONLY_READING.contains(&self.as_str())
    }

    /// Whether none of its paths answers without a token that the primary accepts.
    pub fn asks_for_a_token(&self) -> bool {
        self.is_kv() || CLOSED.contains(&self.as_str())
    }

    /// Whether it answers `path`, which is below it, to anybody.
    pub fn answers_anybody(&self, path: &str) -> bool {
        OPEN.iter()
            .filter(|(of, _)| *of == self.0)
            .flat_map(|(_, patterns)| *patterns)
            .any(|pattern| matches(pattern, path))
    }
}

impl From<&str> for MountKind {
    fn from(name: &str) -> Self {
        Self(name.into())
    }
}

fn matches(pattern: &str, path: &str) -> bool {
    let (pattern, open_end) = match pattern.strip_suffix('*') {
        Some(pattern) => (pattern, true),
        None => (pattern, false),
    };
    let mut path = path.split('/');
    let mut pattern = pattern.split('/').peekable();
    while let Some(wanted) = pattern.next() {
        let Some(segment) = path.next() else {
            return false;
        };
        let last = open_end && pattern.peek().is_none();
        match wanted {
            "+" if !segment.is_empty() => {}
            _ if last => return segment.starts_with(wanted),
            _ if segment == wanted => {}
            _ => return false,
        }
    }
    path.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_gives_something_out_is_not_taken_for_reading_alone() {
        for kind in LEASING.into_iter().chain(["jwt", "oidc", "a-plugin"]) {
            assert!(!MountKind::from(kind).only_reads(), "{kind}");
        }
        assert!(
            KV.into_iter()
                .all(|kind| MountKind::from(kind).only_reads())
        );
    }

    /// What a live server did without a token: 403 `permission denied` is the sign of a path that asks for one.
    #[test]
    fn open_paths_are_those_that_a_live_server_answered() {
        for (kind, path) in [
            ("identity", "oidc/.well-known/keys"),
            ("identity", "oidc/.well-known/"),
            (
                "identity",
                "oidc/provider/default/.well-known/openid-configuration",
            ),
            ("pki", "ca"),
            ("pki", "ca/pem"),
            ("pki", "ca_chain"),
            ("pki", "cert/ca"),
            ("pki", "cert/crl"),
            ("pki", "cert/"),
            ("pki", "cert/6c:35/raw/pem"),
            ("pki", "crl"),
            ("pki", "crl/delta/pem"),
            ("pki", "issuer/default/json"),
            ("pki", "issuer/default/crl/delta/der"),
            ("pki", "issuers/"),
            ("ssh", "public_key"),
            ("ssh", "issuer/default/public_key"),
        ] {
            assert!(MountKind::from(kind).answers_anybody(path), "{kind} {path}");
        }
        for (kind, path) in [
            ("identity", "oidc/.well-known"),
            ("identity", "oidc/x/.well-known/keys"),
            ("identity", "oidc/provider/default/authorize"),
            ("identity", "oidc/config"),
            ("identity", "entity/id/x"),
            ("kv", "ca"),
            ("pki", "ca/"),
            ("pki", "cert"),
            ("pki", "certs"),
            ("pki", "certs/"),
            ("pki", "config/urls"),
            ("pki", "crl/"),
            ("pki", "issuer/a/b/pem"),
            ("pki", "issuer//pem"),
            ("pki", "issuer/default"),
            ("pki", "issuer/default/unified-crl"),
            ("pki", "issuers"),
            ("pki", "unified-crl"),
            ("ssh", "config/ca"),
            ("ssh", "issuer/default"),
            ("ssh", "issuers/"),
            ("ssh", "public_key/"),
            ("", "ca"),
        ] {
            assert!(
                !MountKind::from(kind).answers_anybody(path),
                "{kind} {path}"
            );
        }
    }
}
