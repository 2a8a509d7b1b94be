//! Claims about what a write touches.

use alloc::{borrow::ToOwned, format, string::String, vec::Vec};
use core::time::Duration;

use proptest::prelude::*;

use super::super::*;
use crate::{
    change::{Cluster, Mount},
    kv::{Doubted, Place},
    name::{ClusterId, MountAccessor, Namespace, RequestPath},
    percent,
    settings::{Bounds, Mirror, MirrorPath, Settings},
    time::WallTime,
};

fn cluster() -> Cluster {
    let mount = |kind: &str, version: &str| Mount {
        accessor: MountAccessor::parse(&format!("{kind}_{version}")).unwrap(),
        kind: kind.into(),
        version: Some(version.into()),
        shown: serde_json::Value::Null,
    };
    Cluster {
        id: ClusterId::parse("c").unwrap(),
        namespace: Default::default(),
        name: String::new(),
        version: String::new(),
        seal_status: serde_json::Value::Null,
        performance_mode: String::new(),
        mounts: [
            ("secret/", mount("kv", "2")),
            ("old/", mount("kv", "1")),
            ("pki/", mount("pki", "0")),
        ]
        .map(|(at, mount)| (at.to_owned(), mount))
        .into(),
        token_ttls: None,
        verified_at: WallTime::EPOCH,
    }
}

fn settings(namespace: &str) -> Settings {
    let paths = [
        "secret/data/shop/*",
        "secret/data/one",
        "secret/config",
        "old/a/*",
        "pki/cert/ca",
    ];
    let hour = Duration::from_secs(3600);
    Settings {
        namespace: Namespace::parse(namespace),
        workloads: Vec::new(),
        mirrors: paths
            .map(|path| Mirror {
                path: MirrorPath::parse(path),
                interval: hour,
                max_staleness: hour,
                versions: 1,
                pool: 0,
            })
            .into(),
        approle_mounts: Vec::new(),
        bounds: Bounds {
            max_outage: hour,
            authority_max_age: hour,
            token_max_age: hour,
            credential_max_age: hour,
            policy_max_age: hour,
            issue_after_reboot: false,
            max_staleness: hour,
            grants_per_workload: 10_000,
        },
    }
}

/// What is touched, in words: a key by its path, a mirror by its own with `mirror` before it.
fn words(touched: &Touched) -> Vec<String> {
    let each = touched.doubted.iter().map(|doubted| match doubted {
        Doubted::Key(place) => place.path.as_str().to_owned(),
        Doubted::Mirror(path) => format!("mirror {path}"),
        Doubted::Absence(path) => format!("absence {path}"),
    });
    each.collect()
}

fn of(method: &str, target: &str, namespace: Option<&str>, body: &str, inside: &str) -> Touched {
    let Some(write) = WriteLine::parse(method, target) else {
        return Touched::default();
    };
    let body = Some(body.as_bytes());
    let named = namespace.map(Namespace::parse);
    touched(
        &write,
        named.as_ref(),
        body,
        Some(&cluster()),
        &settings(inside),
    )
}

fn at_root(method: &str, target: &str) -> Touched {
    of(method, target, None, "", "")
}

#[test]
fn every_endpoint_of_a_key_touches_its_data() {
    for (method, target) in [
        ("PUT", "/v1/secret/data/shop/a"),
        ("POST", "/v1/secret/data/shop/a?version=1"),
        ("PATCH", "/v1/secret/data/shop/a"),
        ("DELETE", "/v1/secret/data/shop/a"),
        ("POST", "/v1/secret/delete/shop/a"),
        ("PUT", "/v1/secret/undelete/shop/a"),
        ("PUT", "/v1/secret/destroy/shop/a"),
        ("POST", "/v1/secret/metadata/shop/a"),
        ("PATCH", "/v1/secret/metadata/shop/a"),
        ("PUT", "/v1/secret/to-come/shop/a"),
    ] {
        let touched = at_root(method, target);
        assert_eq!(words(&touched), ["secret/data/shop/a"], "{method} {target}");
        assert!(!touched.vanishes && !touched.authority, "{method} {target}");
    }
    let gone = at_root("DELETE", "/v1/secret/metadata/shop/a");
    assert_eq!(words(&gone), ["secret/data/shop/a"]);
    assert!(gone.vanishes);
}

#[test]
fn values_without_versions_are_touched_by_their_own_path() {
    assert_eq!(words(&at_root("PUT", "/v1/old/a/x")), ["old/a/x"]);
    assert!(!at_root("PUT", "/v1/old/a/x").vanishes);
    assert!(at_root("DELETE", "/v1/old/a/x").vanishes);
    assert_eq!(
        words(&at_root("POST", "/v1/secret/config")),
        ["secret/config"]
    );
    assert_eq!(words(&at_root("POST", "/v1/pki/cert/ca")), ["pki/cert/ca"]);
}

#[test]
fn what_is_not_mirrored_or_only_reads_touches_nothing() {
    for (method, target) in [
        ("GET", "/v1/secret/data/shop/a"),
        ("LIST", "/v1/secret/metadata/shop"),
        ("SCAN", "/v1/secret/metadata/shop"),
        ("HEAD", "/v1/secret/data/shop/a"),
        ("put", "/v1/secret/data/shop/a"),
        ("PUT", "/v1/secret/data/other"),
        ("PUT", "/v1/secret/data/"),
        ("PUT", "/v1/old/b"),
        ("PUT", "/v1/nowhere/a"),
        ("PUT", "/ui/secret/data/shop/a"),
        ("PUT", "/v1/auth/token/create"),
        ("PUT", "/v1/sys/leases/renew"),
        ("POST", "/v1/pki/issue/x"),
    ] {
        assert_eq!(
            at_root(method, target),
            Touched::default(),
            "{method} {target}"
        );
    }
}

/// A live server writes the key at once, or sends a client on to where it does.
#[test]
fn a_key_is_touched_in_every_spelling_that_the_primary_reads() {
    for target in [
        "/v1/secret/data/shop%2fa",
        "/v1/secret/data/shop%2Fa",
        "/v1/secret/data/%73hop/a",
        "/v1//secret/data/shop/a",
        "/v1/secret/data/./shop/a",
        "/v1/secret/data/x/../shop/a",
        "/v1/secret/data/shop/a/",
        "/v1/secret/data/shop/a?x=%zz",
        "/v1/secret/data/shop/a?list=perhaps",
    ] {
        assert_eq!(
            words(&at_root("PUT", target)),
            ["secret/data/shop/a"],
            "{target}"
        );
    }
}

#[test]
fn a_key_is_touched_from_every_namespace_that_leads_to_it() {
    let data = "/v1/secret/data/shop/a";
    let key = ["secret/data/shop/a"];
    let touches = |target: &str, header: Option<&str>, inside: &str| {
        words(&of("PUT", target, header, "", inside))
    };
    assert_eq!(touches(data, Some("team"), "team"), key);
    assert_eq!(touches(data, Some("/team/"), "team"), key);
    assert_eq!(touches("/v1/team/secret/data/shop/a", None, "team"), key);
    assert_eq!(
        touches("/v1/b/secret/data/shop/a", Some("team"), "team/b"),
        key
    );
    assert_eq!(
        touches("/v1/team/b/secret/data/shop/a", Some("root"), "team/b"),
        key
    );
    // Whether none means the root or the configured one is not for this to say.
    assert_eq!(touches(data, None, "team"), key);
    for (header, inside) in [
        ("team", ""),
        ("other", "team"),
        ("team/b", "team"),
        ("teams", "team"),
    ] {
        assert!(
            touches(data, Some(header), inside).is_empty(),
            "{header} {inside}"
        );
    }
}

#[test]
fn what_happens_to_a_mount_touches_every_mirror_in_it() {
    let secret = [
        "mirror secret/data/shop/*",
        "mirror secret/data/one",
        "mirror secret/config",
    ];
    for (method, target) in [
        ("DELETE", "/v1/sys/mounts/secret"),
        ("DELETE", "/v1/sys/mounts/secret/"),
        ("POST", "/v1/sys/mounts/secret"),
        ("POST", "/v1/sys/mounts/secret/tune"),
    ] {
        let touched = at_root(method, target);
        assert_eq!(words(&touched), secret, "{method} {target}");
        assert!(touched.authority);
    }
    let remount = |body| words(&of("POST", "/v1/sys/remount", None, body, ""));
    assert_eq!(remount(r#"{"from":"new","to":"old/"}"#), ["mirror old/a/*"]);
    assert_eq!(remount(r#"{"from":"x","to":"y"}"#), [""; 0]);
    let all = settings("").mirrors.len();
    assert_eq!(remount("{").len(), all);
    for target in [
        "/v1/sys/storage/raft/snapshot-force",
        "/v1/sys/raw/logical/x",
        "/v1/sys/namespaces/team",
    ] {
        assert_eq!(words(&at_root("POST", target)).len(), all, "{target}");
    }
    let from_above = of(
        "DELETE",
        "/v1/sys/namespaces/team",
        Some("root"),
        "",
        "team",
    );
    assert_eq!(words(&from_above).len(), all);
    let within = of(
        "POST",
        "/v1/sys/remount",
        None,
        r#"{"from":"team/old","to":"b/x"}"#,
        "team",
    );
    assert_eq!(words(&within), ["mirror old/a/*"]);
}

#[test]
fn writes_about_who_may_do_what_are_told() {
    for target in [
        "/v1/sys/policies/acl/orders",
        "/v1/sys/policy/orders",
        "/v1/auth/approle/role/ci",
        "/v1/auth/token/roles/orders",
        "/v1/auth/a/b/role/ci",
        "/v1/identity/entity/id/x",
        "/v1/sys/auth/approle",
    ] {
        let touched = at_root("POST", target);
        assert!(touched.authority && touched.doubted.is_empty(), "{target}");
    }
    for target in [
        "/v1/auth/approle/login",
        "/v1/auth/token/create/role",
        "/v1/sys/leases/renew",
    ] {
        assert!(!at_root("POST", target).authority, "{target}");
    }
}

proptest! {
    /// Whatever of a path is escaped, and wherever slashes are doubled.
    #[test]
    fn a_spelling_touches_what_the_plain_path_does(
        name in "[a-z0-9 .é%-]{1,12}",
        escaped in proptest::collection::vec(any::<bool>(), 40),
        doubled: bool,
    ) {
        prop_assume!(RequestPath::parse(&format!("secret/data/shop/{name}")).is_ok());
        prop_assume!(name != ".");
        let plain: Vec<u8> = format!("secret/data/shop/{name}").into_bytes();
        let spelled: String = plain.iter().zip(escaped.iter().cycle()).map(|(byte, escape)| {
            match byte.is_ascii_alphanumeric() && !escape {
                true => String::from(char::from(*byte)),
                false if *byte == b'/' && !escape => "/".into(),
                false => format!("%{byte:02x}"),
            }
        }).collect();
        let doubled = if doubled { spelled.replacen('/', "//", 1) } else { spelled };
        let touched = at_root("PUT", &format!("/v1/{doubled}"));
        let place = Place {
            namespace: Namespace::default(),
            mount: MountAccessor::parse("kv_2").unwrap(),
            path: RequestPath::parse(&format!("secret/data/shop/{name}")).unwrap(),
        };
        prop_assert_eq!(touched.doubted, [Doubted::Key(place)]);
        prop_assert!(percent::decode(&doubled).is_some());
    }

    /// Nothing that is sent makes it panic, and it never touches what no mirror covers.
    #[test]
    fn only_what_a_mirror_covers_is_touched(target in "/v1/[a-z/%2f.]{0,40}", body: Vec<u8>) {
        if let Some(write) = WriteLine::parse("DELETE", &target) {
            let settings = settings("");
            let touched = touched(&write, None, Some(&body), Some(&cluster()), &settings);
            for doubted in &touched.doubted {
                if let Doubted::Key(place) = doubted {
                    prop_assert!(settings.mirror(place.path.as_str()).is_some());
                }
            }
        }
    }
}
