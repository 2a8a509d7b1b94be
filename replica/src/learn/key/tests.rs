//! Claims about what forwarded calls tell of mirrored keys.

use serde_json::{Value, json};
use shared::{
    change::{Change, Cluster},
    kv::{Form, KvVersion, Record, VersionState},
    name::{ClusterId, MountAccessor},
    secret::SecretBytes,
    settings::{Mirror, MirrorPath},
};

use super::*;
use crate::{
    key::Keys,
    samples::{self, Seeded, T0, place},
};

const SHOP: &str = "secret/data/shop/*";

fn settings() -> Arc<Settings> {
    let mirrors = [SHOP, "old/a/*", "pki/cert/ca", "database/creds/ro"];
    let mut settings = Settings::clone(&samples::settings());
    settings.mirrors = mirrors
        .map(|path| Mirror {
            path: MirrorPath::parse(path),
            interval: std::time::Duration::from_secs(30),
            max_staleness: std::time::Duration::from_secs(600),
            versions: 1,
            pool: 0,
        })
        .into();
    Arc::new(settings)
}

fn cluster() -> Change {
    let mount = |kind: &str, version: &str, accessor: &str| Mount {
        accessor: MountAccessor::parse(accessor).unwrap(),
        kind: kind.into(),
        version: Some(version.into()),
        shown: Value::Null,
    };
    let mounts = [
        ("secret/", mount("kv", "2", "kv_1")),
        ("old/", mount("kv", "1", "kv_1")),
        ("pki/", mount("pki", "", "kv_1")),
        ("database/", mount("database", "", "kv_1")),
    ];
    Change::Cluster(Box::new(Cluster {
        id: ClusterId::parse("c").unwrap(),
        namespace: Default::default(),
        name: "c".into(),
        version: "2.7.2".into(),
        seal_status: Value::Null,
        performance_mode: String::new(),
        mounts: mounts.map(|(at, mount)| (at.to_owned(), mount)).into(),
        token_ttls: None,
        verified_at: T0,
    }))
}

fn key(name: &str, current: u64) -> Change {
    let versions = (1..=current).map(|version| {
        let dates =
            json!({ "created_time": created(version), "deletion_time": "", "destroyed": false });
        (version.to_string(), dates)
    });
    let versions: serde_json::Map<String, Value> = versions.collect();
    let known = (1..=current).map(|version| {
        let known = KvVersion {
            deletion_time: String::new(),
            destroyed: false,
        };
        (version, known)
    });
    Change::Key(Box::new(KvKey {
        place: place(&format!("secret/data/shop/{name}")),
        current,
        versions: known.collect(),
        metadata: json!({
            "current_version": current, "custom_metadata": null, "created_time": created(1),
            "updated_time": created(current), "versions": versions,
        })
        .to_string(),
    }))
}

fn created(version: u64) -> String {
    format!("2026-11-22T11:12:{version:02}.5Z")
}

fn kept(path: &str, body: &str) -> Change {
    let record = Record {
        form: Form::default(),
        state: VersionState::Live,
        ..samples::record(path, None, T0)
    };
    Change::Record(Box::new(record), Some(SecretBytes::new(body.into())))
}

fn view(changes: Vec<Change>) -> View {
    let keys = Keys::ephemeral(&Seeded::new(1)).unwrap();
    let passed = [SHOP, "old/a/*", "pki/cert/ca"].map(|path| samples::mirror(path, T0));
    let changes = std::iter::once(cluster()).chain(passed).chain(changes);
    View::from_changes(settings(), keys, changes, &Seeded::new(2)).unwrap()
}

fn write(view: &View, method: &str, target: &str) -> Written {
    let line = WriteLine::parse(method, target).unwrap();
    let write = SentWrite {
        line: &line,
        namespace: None,
        body: Some(b"{}"),
    };
    written(view, &write, T0)
}

fn words(written: &Written) -> Vec<String> {
    let each = written.doubts.iter().map(|doubt| word(&doubt.of));
    each.collect()
}

fn word(of: &Doubted) -> String {
    match of {
        Doubted::Key(place) => place.path.as_str().to_owned(),
        Doubted::Mirror(path) => format!("mirror {path}"),
        Doubted::Absence(path) => format!("absence {path}"),
    }
}

fn read(view: &View, method: &str, target: &str, status: u16, body: &Value) -> Vec<(String, Told)> {
    let call = Call::parse(method, target).unwrap();
    let body = body.to_string();
    let read = AnsweredRead {
        call: &call,
        told: say(status, body.as_bytes()),
    };
    let differences = shown(view, &read).into_iter();
    differences.map(|one| (word(&one.of), one.told)).collect()
}

fn say(status: u16, body: &[u8]) -> StateTold<'_> {
    StateTold {
        is_there: status == 200,
        body,
        current: false,
    }
}

fn value(version: u64) -> Value {
    json!({ "request_id": "r", "lease_id": "", "data": { "data": {}, "metadata": {
        "version": version, "created_time": created(version), "custom_metadata": null, "deletion_time": "",
        "destroyed": false,
    } } })
}

const NEWER: Told = Told::Newer { vanished: false };

#[test]
fn a_write_leaves_its_key_in_doubt_as_of_its_answer() {
    let view = view(vec![key("a", 1)]);
    let doubts = write(&view, "DELETE", "/v1/secret/metadata/shop/a").doubts;
    let [doubt] = &doubts[..] else {
        panic!("{doubts:?}")
    };
    assert_eq!(
        (word(&doubt.of).as_str(), doubt.since, doubt.vanished),
        ("secret/data/shop/a", T0, true)
    );
    assert_eq!(
        words(&write(&view, "PUT", "/v1/secret/data/shop/new")),
        ["secret/data/shop/new"]
    );
    assert_eq!(words(&write(&view, "PUT", "/v1/old/a/x")), ["old/a/x"]);
    assert_eq!(words(&write(&view, "PUT", "/v1/secret/data/else")), [""; 0]);
    assert!(write(&view, "PUT", "/v1/sys/policies/acl/x").authority);
}

/// Nothing counts as absent there, and nothing more is kept: it would be asked for again and again.
#[test]
fn what_there_is_no_room_for_is_not_in_doubt() {
    let Change::Mirror(state) = samples::mirror(SHOP, T0) else {
        panic!("no mirror");
    };
    let partial = shared::kv::MirrorState {
        partial: true,
        ..*state
    };
    let view = view(vec![key("a", 1), Change::Mirror(Box::new(partial))]);
    assert_eq!(
        words(&write(&view, "PUT", "/v1/secret/data/shop/new")),
        [""; 0]
    );
    assert_eq!(
        read(&view, "GET", "/v1/secret/data/shop/new", 200, &value(1)),
        []
    );
    let names = json!({ "data": { "keys": ["a", "new"] } });
    assert_eq!(
        read(&view, "LIST", "/v1/secret/metadata/shop", 200, &names),
        []
    );
    assert_eq!(
        words(&write(&view, "PUT", "/v1/secret/data/shop/a")),
        ["secret/data/shop/a"]
    );
    assert_eq!(
        read(&view, "GET", "/v1/secret/data/shop/a", 200, &value(2)),
        [("secret/data/shop/a".to_owned(), NEWER)]
    );
}

/// To ask for a leased path anew would make another lease.
#[test]
fn only_where_values_are_kept_is_anything_in_doubt() {
    let bare = view(vec![]);
    for target in [
        "/v1/database/creds/ro",
        "/v1/pki/cert/ca",
        "/v1/sys/mounts/database",
        "/v1/sys/mounts/pki",
    ] {
        assert_eq!(words(&write(&bare, "POST", target)), [""; 0], "{target}");
    }
    let held = view(vec![kept("pki/cert/ca", "{}")]);
    assert_eq!(
        words(&write(&held, "POST", "/v1/pki/cert/ca")),
        ["pki/cert/ca"]
    );
    assert_eq!(
        words(&write(&held, "DELETE", "/v1/sys/mounts/pki")),
        ["mirror pki/cert/ca"]
    );
    assert_eq!(
        words(&write(&held, "DELETE", "/v1/sys/mounts/secret")),
        [format!("mirror {SHOP}")]
    );
}

#[test]
fn keys_that_clients_make_up_are_bounded_and_those_that_are_kept_are_not() {
    let many = (0..MOST_UNKEPT).map(|nr| samples::doubted(&format!("secret/data/shop/n{nr}"), T0));
    let view = view(many.chain([key("a", 1)]).collect());
    let put = |name: &str| {
        words(&write(
            &view,
            "PUT",
            &format!("/v1/secret/data/shop/{name}"),
        ))
    };
    assert_eq!(put("one-more"), [format!("absence {SHOP}")]);
    assert_eq!(put("a"), ["secret/data/shop/a"]);
    assert_eq!(put("n7"), ["secret/data/shop/n7"]);
    let list = json!({ "data": { "keys": ["x", "y", "a", "n7"] } });
    let told = read(&view, "LIST", "/v1/secret/metadata/shop", 200, &list);
    assert_eq!(
        told,
        [
            (format!("absence {SHOP}"), NEWER),
            ("secret/data/shop/n7".into(), NEWER)
        ]
    );
}

#[test]
fn a_read_tells_of_its_key_by_what_is_kept() {
    let view = view(vec![key("a", 2), kept("old/a/x", "{\"n\":1}")]);
    let data = "/v1/secret/data/shop/a";
    let told = |target: &str, status, body: &Value| read(&view, "GET", target, status, body);
    let of = |path: &str, told| vec![(path.to_owned(), told)];
    assert_eq!(told(data, 200, &value(3)), of("secret/data/shop/a", NEWER));
    assert_eq!(
        told("/v1/secret/subkeys/shop/a", 200, &value(3)),
        of("secret/data/shop/a", NEWER)
    );
    assert!(told(data, 200, &value(2)).is_empty() && told(data, 200, &value(1)).is_empty());
    assert!(told("/v1/secret/data/shop/a?version=1", 200, &value(1)).is_empty());
    let absent = json!({ "errors": [] });
    let vanished = Told::Newer { vanished: true };
    assert_eq!(told(data, 404, &absent), of("secret/data/shop/a", vanished));
    assert_eq!(
        told("/v1/secret/metadata/shop/a", 404, &absent),
        of("secret/data/shop/a", vanished)
    );
    assert_eq!(
        told("/v1/secret/data/shop/b", 200, &value(1)),
        of("secret/data/shop/b", NEWER)
    );
    assert!(told("/v1/secret/data/shop/b", 404, &absent).is_empty());
    let plain = |n: u64| json!({ "request_id": "r", "lease_id": "", "data": { "n": n } });
    assert!(told("/v1/old/a/x", 200, &plain(1)).is_empty());
    assert_eq!(
        told("/v1/old/a/x", 200, &plain(2)),
        of("old/a/x", Told::Different)
    );
    assert_eq!(told("/v1/old/a/y", 200, &plain(2)), of("old/a/y", NEWER));
}

#[test]
fn what_no_mirror_follows_tells_nothing() {
    let view = view(vec![]);
    let told = |target: &str| read(&view, "GET", target, 200, &value(3));
    assert!(told("/v1/secret/data/other").is_empty() && told("/v1/nowhere/a").is_empty());
    assert!(told("/v1/database/creds/ro").is_empty() && told("/v1/pki/cert/ca").is_empty());
    let keys = Keys::ephemeral(&Seeded::new(1)).unwrap();
    let never = View::from_changes(settings(), keys, [cluster()], &Seeded::new(2)).unwrap();
    assert!(read(&never, "GET", "/v1/secret/data/shop/a", 200, &value(3)).is_empty());
    assert!(
        read(
            &never,
            "LIST",
            "/v1/secret/metadata/shop",
            200,
            &json!({"data":{"keys":["x"]}})
        )
        .is_empty()
    );
}

#[test]
fn a_list_tells_of_names_that_are_not_kept() {
    let view = view(vec![key("a", 1), key("dir/b", 1)]);
    let list = |folder: &str, keys: &[&str]| {
        let target = format!("/v1/secret/metadata/{folder}");
        read(
            &view,
            "LIST",
            &target,
            200,
            &json!({ "data": { "keys": keys } }),
        )
    };
    assert!(list("shop", &["a", "dir/"]).is_empty());
    assert_eq!(
        list("shop", &["a", "new", "dir/"]),
        [("secret/data/shop/new".to_owned(), NEWER)]
    );
    assert_eq!(
        list("shop/dir", &["b", "c"]),
        [("secret/data/shop/dir/c".to_owned(), NEWER)]
    );
    assert!(list("other", &["x"]).is_empty());
}

/// What a node shows that is behind is the same every time, until the key is another here.
#[test]
fn evidence_is_what_was_said_and_what_it_was_held_against() {
    let evidence = |view: &View, body: &Value| {
        let call = Call::parse("GET", "/v1/secret/data/shop/a").unwrap();
        let body = body.to_string();
        let read = AnsweredRead {
            call: &call,
            told: say(200, body.as_bytes()),
        };
        shown(view, &read)[0].evidence
    };
    let one = view(vec![key("a", 1)]);
    let mut again = value(3);
    again["request_id"] = json!("other");
    assert_eq!(evidence(&one, &value(3)), evidence(&one, &again));
    assert_ne!(evidence(&one, &value(3)), evidence(&one, &value(4)));
    assert_ne!(
        evidence(&one, &value(3)),
        evidence(&view(vec![key("a", 2)]), &value(3))
    );
}
