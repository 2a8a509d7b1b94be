//! Paths that the primary answers without a token: it looks at none that comes along, good or bad, and asks no policy.

/// By the kind of the mount, the paths below it. A `+` stands for one segment, a trailing `*` for anything. From the
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

/// Whether a mount of this kind answers `path`, which is below it, without a token.
pub fn is_open(kind: &str, path: &str) -> bool {
    OPEN.iter()
        .filter(|(of, _)| *of == kind)
        .flat_map(|(_, patterns)| *patterns)
        .any(|pattern| matches(pattern, path))
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
            assert!(is_open(kind, path), "{kind} {path}");
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
            assert!(!is_open(kind, path), "{kind} {path}");
        }
    }
}
