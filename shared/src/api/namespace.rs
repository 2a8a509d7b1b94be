//! Which namespace a request is in, by its header and its path, and how it is sent on.
//!
//! From OpenBao 2.7.2: a header and the beginning of a path add up; names are told apart by case; `root` and nothing are
//! the root namespace, whichever slashes are around it. A request without a header means the configured namespace here.

use alloc::{
    string::{String, ToString},
    vec::Vec,
};

use super::Call;
use crate::{name::Namespace, percent};

/// The namespace that a request is in.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum RequestNamespace {
    /// It names none: the configured one is meant.
    Configured,
    /// This one.
    Is(Namespace),
    /// It names what is no namespace here, or several: only the primary knows which it is.
    Foreign,
}

/// Paths below `sys/` that exist in the root namespace alone, and those that are answered for the whole server whichever is
/// named. Each with all that is below it.
const ROOT_ONLY: [&str; 30] = [
    "audit",
    "audit-hash",
    "config/auditing",
    "config/cors",
    "config/reload",
    "config/state",
    "config/ui",
    "generate-recovery-token",
    "generate-root",
    "health",
    "host-info",
    "in-flight-req",
    "init",
    "internal/counters/activity",
    "internal/inspect/router",
    "leader",
    "loggers",
    "metrics",
    "monitor",
    "pprof",
    "quotas",
    "raw",
    "rekey",
    "rekey-recovery-key",
    "replication",
    "seal",
    "seal-status",
    "step-down",
    "storage",
    "unseal",
];

/// Those of them that any namespace answers.
const ANYWHERE: [&str; 2] = ["leader", "seal-status"];

/// Those of them that other namespaces do not know at all; the others they know, and refuse.
const UNKNOWN_ELSEWHERE: [&str; 14] = [
    "generate-recovery-token",
    "generate-root",
    "health",
    "in-flight-req",
    "init",
    "metrics",
    "pprof",
    "raw",
    "rekey",
    "rekey-recovery-key",
    "seal",
    "step-down",
    "storage",
    "unseal",
];

impl RequestNamespace {
    /// What the values of `X-Vault-Namespace` say.
    pub fn of_header<'v>(mut values: impl Iterator<Item = &'v [u8]>) -> Self {
        match (values.next(), values.next()) {
            (None, _) => Self::Configured,
            (Some(only), None) => Namespace::exactly(only).map_or(Self::Foreign, Self::Is),
            (Some(_), Some(_)) => Self::Foreign,
        }
    }

    /// Whether it is the one that is mirrored.
    pub fn is(&self, configured: &Namespace) -> bool {
        match self {
            Self::Configured => true,
            Self::Is(named) => named == configured,
            Self::Foreign => false,
        }
    }

    /// With what the path adds to it; `call` is seen from there afterwards.
    #[must_use]
    pub fn entered(self, call: &mut Call, configured: &Namespace) -> Self {
        let path = call.path.as_str();
        match self {
            Self::Configured if is_root_only(path) => Self::Is(Namespace::default()),
            Self::Configured => {
                if let Some(below) = below(path, configured).map(ToString::to_string) {
                    call.see_from(&below);
                }
                Self::Configured
            }
            Self::Is(named) if named != *configured => {
                let whole = [named.as_str(), path].join("/");
                let below = below(whole.trim_start_matches('/'), configured);
                match below.map(ToString::to_string) {
                    Some(below) if call.see_from(&below) => Self::Is(configured.clone()),
                    _ => Self::Is(named),
                }
            }
            other => other,
        }
    }
}

/// Whether a request without a header is sent on with the configured namespace in one: its target neither begins with it, nor
/// is one that the root namespace alone has. What is not below `/v1/` has no namespace.
pub fn is_sent_with_namespace(target: &str, configured: &Namespace) -> bool {
    if configured.as_str().is_empty() {
        return false;
    }
    let path = target.split('?').next().unwrap_or_default();
    let path = percent::decode_leniently(path.as_bytes());
    let path = cleaned(&String::from_utf8_lossy(&path));
    let meant = path.strip_prefix("v1/");
    meant.is_some_and(|path| below(path, configured).is_none() && !is_root_only(path))
}

/// The one spelling of a path, without a slash at its beginning: no empty, `.` or `..` segments, but the slash at its end.
pub(crate) fn cleaned(path: &str) -> String {
    let mut segments: Vec<&str> = Vec::new();
    for segment in path.split('/') {
        match segment {
            "" | "." => {}
            ".." => drop(segments.pop()),
            name => segments.push(name),
        }
    }
    let mut cleaned = segments.join("/");
    if path.ends_with('/') && !cleaned.is_empty() {
        cleaned.push('/');
    }
    cleaned
}

/// What any namespace but the root answers at `path`, with 400 and whoever asks; none where there may be something.
pub fn refused_in_namespaces(path: &str) -> Option<&'static str> {
    if !is_root_only(path) || is_below_sys(path, &ANYWHERE) {
        return None;
    }
    Some(match is_below_sys(path, &UNKNOWN_ELSEWHERE) {
        true => "operation unavailable in namespaces",
        false => "operation only available in root namespace",
    })
}

fn is_root_only(path: &str) -> bool {
    is_below_sys(path, &ROOT_ONLY)
}

fn is_below_sys(path: &str, listed: &[&str]) -> bool {
    let Some(rest) = path.strip_prefix("sys/") else {
        return false;
    };
    let rest = rest.trim_end_matches('/');
    let is = |of: &&str| {
        rest.strip_prefix(*of)
            .is_some_and(|below| below.is_empty() || below.starts_with('/'))
    };
    listed.iter().any(is)
}

/// The rest of a path that leads into `namespace`, which is not the root.
fn below<'p>(path: &'p str, namespace: &Namespace) -> Option<&'p str> {
    match namespace.as_str() {
        "" => None,
        namespace => path.strip_prefix(namespace)?.strip_prefix('/'),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::Kind;
    use proptest::prelude::*;

    fn of_header(values: &[&str]) -> RequestNamespace {
        RequestNamespace::of_header(values.iter().map(|value| value.as_bytes()))
    }

    /// The namespace of a request, and its path as seen from there.
    fn entered(header: Option<&str>, path: &str, configured: &str) -> (RequestNamespace, String) {
        let mut call = Call::parse("GET", &["/v1/", path].concat()).unwrap();
        let named = of_header(&header.into_iter().collect::<Vec<_>>());
        let named = named.entered(&mut call, &Namespace::parse(configured));
        (named, call.path.as_str().to_string())
    }

    fn is(name: &str) -> RequestNamespace {
        RequestNamespace::Is(Namespace::parse(name))
    }

    #[test]
    fn a_header_is_a_namespace_exactly_or_foreign() {
        assert_eq!(of_header(&[]), RequestNamespace::Configured);
        for (text, name) in [
            ("team", "team"),
            ("team/", "team"),
            ("/team/child/", "team/child"),
            ("", ""),
            ("/", ""),
            ("root", ""),
            ("root/", ""),
        ] {
            assert_eq!(of_header(&[text]), is(name), "{text}");
        }
        for text in [
            "te am",
            "t\u{e9}am",
            "team\u{7f}",
            "a//b",
            "//team",
            "./team",
            "team/../team",
        ] {
            assert_eq!(of_header(&[text]), RequestNamespace::Foreign, "{text}");
        }
        let broken = [&b"te\xffam"[..]];
        let broken = RequestNamespace::of_header(broken.into_iter());
        assert_eq!(broken, RequestNamespace::Foreign);
        let twice = of_header(&["team", "team"]);
        assert_eq!(twice, RequestNamespace::Foreign, "which is meant?");
    }

    #[test]
    fn header_and_path_add_up_and_what_leads_into_the_configured_namespace_is_seen_from_there() {
        let path = "auth/token/lookup-self";
        let inside = ["team/", path].concat();
        for (header, sent, named) in [
            (None, path, RequestNamespace::Configured),
            (None, &inside, RequestNamespace::Configured),
            (Some("team"), path, is("team")),
            (Some(""), &inside, is("team")),
            (Some("root"), &inside, is("team")),
        ] {
            let expected = (named, path.to_string());
            assert_eq!(entered(header, sent, "team"), expected, "{header:?} {sent}");
        }
        let deep = entered(Some("team"), &["child/", path].concat(), "team/child");
        assert_eq!(deep, (is("team/child"), path.to_string()));
        let elsewhere = entered(Some("other"), path, "team");
        assert_eq!(elsewhere, (is("other"), path.to_string()));
        // The primary knows no `team` in `team`: nothing of that is caused here.
        let twice = entered(Some("team"), &inside, "team");
        assert_eq!(twice, (is("team"), inside.clone()));
        let likely = entered(None, "teams/a", "team");
        assert_eq!(likely, (RequestNamespace::Configured, "teams/a".into()));
    }

    #[test]
    fn the_kind_of_a_call_is_that_of_its_path_in_the_namespace() {
        let mut call = Call::parse("POST", "/v1/team/auth/userpass/login/u").unwrap();
        assert_eq!(call.kind, Kind::Data);
        let team = Namespace::parse("team");
        let named = RequestNamespace::Configured.entered(&mut call, &team);
        assert!(named.is(&team));
        assert_eq!(call.kind, Kind::Login);
    }

    #[test]
    fn what_the_root_alone_has_is_the_roots_unless_a_header_says_otherwise() {
        for path in ["sys/health", "sys/storage/raft/configuration", "sys/unseal"] {
            assert_eq!(entered(None, path, "team").0, is(""), "{path}");
            assert_eq!(entered(Some("team"), path, "team").0, is("team"));
        }
        for path in [
            "sys/mounts",
            "sys/generate-root-token/attempt",
            "sys/seals",
            "sys/plugins/catalog",
            "health",
        ] {
            assert_eq!(
                entered(None, path, "team").0,
                RequestNamespace::Configured,
                "{path}"
            );
        }
    }

    #[test]
    fn what_a_namespace_refuses_it_refuses_in_the_primarys_words() {
        let unknown = Some("operation unavailable in namespaces");
        let refused = Some("operation only available in root namespace");
        for (path, text) in [
            ("sys/health", unknown),
            ("sys/raw/core/x", unknown),
            ("sys/rekey/init", unknown),
            ("sys/storage/raft/snapshot", unknown),
            ("sys/audit", refused),
            ("sys/audit-hash/file", refused),
            ("sys/quotas/rate-limit/x", refused),
            ("sys/replication/status", refused),
            ("sys/leader", None),
            ("sys/seal-status", None),
            ("sys/plugins/catalog", None),
            ("sys/mounts", None),
            ("secret/data/sys/raw", None),
        ] {
            assert_eq!(refused_in_namespaces(path), text, "{path}");
        }
        let all_are_listed = [&ANYWHERE[..], &UNKNOWN_ELSEWHERE].concat();
        assert!(all_are_listed.iter().all(|one| ROOT_ONLY.contains(one)));
    }

    #[test]
    fn a_request_is_sent_with_the_configured_namespace_where_nothing_else_says_so() {
        let team = Namespace::parse("team");
        for target in [
            "/v1/secret/data/a",
            "/v1/secret%2Fdata/a?x=team/",
            "/v1/teams/a",
            "/v1/sys/mounts",
            "/v1//secret",
        ] {
            assert!(is_sent_with_namespace(target, &team), "{target}");
            assert!(!is_sent_with_namespace(target, &Namespace::default()));
        }
        for target in [
            "/v1/team/secret/data/a",
            "/v1//team/a",
            "/v1/x/../team/a",
            "/v1/te%61m/a",
            "/v1/sys/health?standbyok=true",
            "/v1/sys//seal-status",
            "/ui/",
        ] {
            assert!(!is_sent_with_namespace(target, &team), "{target}");
        }
    }

    proptest! {
        /// What is in doubt is foreign, and nothing makes it panic.
        #[test]
        fn whatever_a_header_holds_it_is_a_namespace_that_reads_back_or_foreign(value: Vec<u8>) {
            let read = RequestNamespace::of_header([value.as_slice()].into_iter());
            if let RequestNamespace::Is(namespace) = read {
                let again = Namespace::exactly(namespace.as_str().as_bytes());
                prop_assert_eq!(again, Some(namespace));
            }
        }
    }
}
