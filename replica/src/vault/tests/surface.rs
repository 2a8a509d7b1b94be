//! The rest of the read surface: KV v1, answers kept as they are, paths without a token, scans, metadata of lists, names
//! of fields, hints and remarks. Texts are what OpenBao 2.7.2 answered.

use serde_json::{Value, json};
use shared::{
    change::{Change, Mount, PolicyText},
    kv::{Content, Form, KvKey, MirrorState, Place, Record, VersionState},
    name::{MountAccessor, PolicyName, RequestPath},
    secret::SecretBytes,
    settings::{Mirror, MirrorPath},
};

use super::{
    asked::Said,
    world::{Opened, World, body},
};
use crate::{
    ledger::Note,
    samples::{T0, now},
};

const POLICY: &str = r#"
    path "secret/*" { capabilities = ["read", "list", "scan"] }
    path "kv1/*" { capabilities = ["read", "list", "scan"] }
    path "ssh/config/ca" { capabilities = ["read"] }
    path "pki/cert/none" { capabilities = ["read"] }"#;

const PAGED: &str = r#"
    path "kv1/*" { capabilities = ["list", "scan"] pagination_limit = 2 }
    path "secret/*" { capabilities = ["list", "scan"] pagination_limit = 2 }"#;

const FILTERED: &str = r#"
    path "secret/detailed-metadata/*" {
        capabilities = ["list", "scan"]
        list_scan_response_keys_filter_path = "seen/{{ .key }}"
    }
    path "seen/a" { capabilities = ["read"] }
    path "seen/a/" { capabilities = ["list"] }
    path "seen/b/c" { capabilities = ["read"] }"#;

fn world() -> World {
    let mut world = World::in_outage()
        .token("s.all", &["all"])
        .token("s.app", &["app"])
        .token("s.pages", &["pages"])
        .token("s.some", &["some"]);
    let mirrors = [
        "kv1/shop/*",
        "secret/config",
        "ssh/config/ca",
        "ssh/public_key",
        "pki/cert/ca",
        "pki/cert/none",
    ];
    for path in mirrors {
        world.settings.mirrors.push(Mirror {
            path: MirrorPath::parse(path),
            interval: std::time::Duration::from_secs(30),
            max_staleness: std::time::Duration::from_secs(600),
            versions: 1,
            pool: 0,
        });
    }
    for change in &mut world.changes {
        match change {
            Change::Cluster(cluster) => {
                for (at, kind) in [("kv1/", "kv"), ("pki/", "pki"), ("ssh/", "ssh")] {
                    let mount = Mount {
                        accessor: accessor(at),
                        kind: kind.into(),
                        version: None,
                        shown: Value::Null,
                    };
                    cluster.mounts.insert(at.into(), mount);
                }
            }
            Change::Policies(set) => {
                for (name, text) in [("all", POLICY), ("pages", PAGED), ("some", FILTERED)] {
                    let policy = PolicyText {
                        text: text.into(),
                        version: 1,
                        allow_slashes: false,
                        allow_wildcards: false,
                        expiration: None,
                    };
                    set.policies
                        .insert(PolicyName::parse(name).unwrap(), policy);
                }
            }
            _ => {}
        }
    }
    world
}

fn accessor(at: &str) -> MountAccessor {
    MountAccessor::parse(&format!("of_{}", at.trim_end_matches('/'))).unwrap()
}

fn place(path: &str) -> Place {
    let (at, _) = path.split_once('/').unwrap();
    let mount = match at {
        "secret" => super::world::kv(),
        at => accessor(at),
    };
    Place {
        namespace: Default::default(),
        mount,
        path: RequestPath::parse(path).unwrap(),
    }
}

fn kept(world: World, path: &str, state: VersionState, form: Form, body: &[u8]) -> World {
    let record = Record {
        place: place(path),
        version: None,
        state,
        verified_at: T0,
        covered: true,
        form,
    };
    let body = SecretBytes::new(body.to_vec());
    world.and(Change::Record(Box::new(record), Some(body)))
}

fn passed(world: World, mirror: &str, path: &str) -> World {
    world.and(Change::Mirror(Box::new(MirrorState {
        path: mirror.into(),
        mount: place(path).mount,
        verified_at: now(10).wall,
        fingerprint: String::new(),
        partial: false,
    })))
}

fn envelope(lease_duration: u64) -> Form {
    Form::Envelope {
        lease_duration,
        warnings: Vec::new(),
    }
}

fn key_of_v1(path: &str) -> Change {
    Change::Key(Box::new(KvKey {
        place: place(path),
        current: 0,
        versions: Default::default(),
        metadata: String::new(),
    }))
}

/// A KV v1 mount with keys and folders, of which one key could not be read.
fn shop() -> World {
    let mut world = passed(world(), "kv1/shop/*", "kv1/shop/a");
    for name in ["a", "dir", "dir/one", "dir/sub/two", "unread"] {
        let path = format!("kv1/shop/{name}");
        world = world.and(key_of_v1(&path));
        if name != "unread" {
            let body = format!("{{\"n\":12345678901234567890,\"name\":\"{name}\"}}");
            let form = envelope(1800);
            world = kept(world, &path, VersionState::Live, form, body.as_bytes());
        }
    }
    world
}

fn ask(world: &Opened, method: &str, target: &str, token: &str) -> Said {
    let target = format!("/v1/{target}");
    world.ask(method, &target).token(token).said()
}

fn all(world: &Opened, method: &str, target: &str) -> Said {
    ask(world, method, target, "s.all")
}

/// Warnings without the last one, which is ours.
fn remarks(said: &Said) -> Vec<String> {
    let warnings: Vec<String> = serde_json::from_value(said.body["warnings"].clone()).unwrap();
    let (own, theirs) = warnings.split_last().unwrap();
    assert!(own.starts_with("answered by holdover's replica"), "{own}");
    theirs.to_vec()
}

#[test]
fn a_value_of_kv1_keeps_its_bytes_and_its_lease_duration() {
    let world = shop().open();
    let said = all(&world, "GET", "kv1/shop/a");
    let data = "\"lease_id\":\"\",\"renewable\":false,\"lease_duration\":1800,\
                \"data\":{\"n\":12345678901234567890,\"name\":\"a\"},";
    assert!(said.text.contains(data), "{}", said.text);
    assert_eq!((said.status, said.age), (200, Some(150)));
    let odd = all(&world, "GET", "kv1/shop/a?version=1&list=0&path=x");
    assert_eq!(
        remarks(&odd),
        [
            "Endpoint ignored these unrecognized parameters: [list version]",
            "Endpoint replaced the value of these parameters with the values captured from the endpoint's path: [path]"
        ]
    );
}

#[test]
fn what_is_not_in_kv1_is_404_and_what_could_not_be_read_is_undecidable() {
    let world = shop().open();
    for target in ["kv1/shop/none", "kv1/shop/dir/", "kv1/shop/"] {
        let said = all(&world, "GET", target);
        assert_eq!(
            (said.status, said.text.as_str()),
            (404, "{\"errors\":[]}\n"),
            "{target}"
        );
    }
    let unread = all(&world, "GET", "kv1/shop/unread");
    assert!(unread.error().ends_with("the value could not be mirrored"));
    assert_eq!(all(&world, "GET", "kv1/other").status, 503);
    let stale = world
        .ask("GET", "/v1/kv1/shop/a")
        .token("s.all")
        .at(611)
        .said();
    assert!(stale.error().contains("too stale"), "{}", stale.text);
}

#[test]
fn kv1_lists_know_no_pages_and_show_folders_once() {
    let world = shop().open();
    let keys = json!(["a", "dir", "dir/", "unread"]);
    let listed = all(&world, "LIST", "kv1/shop");
    assert_eq!(listed.body["data"], json!({ "keys": keys }));
    let paged = all(&world, "LIST", "kv1/shop?after=a&limit=1");
    assert_eq!(paged.body["data"], json!({ "keys": keys }));
    let ignored = "Endpoint ignored these unrecognized parameters: [after limit]";
    assert_eq!(remarks(&paged), [ignored]);
    assert_eq!(all(&world, "LIST", "kv1/shop/none").status, 404);
    assert_eq!(all(&world, "LIST", "kv1/").status, 503);
    // The page that a policy sets is a parameter that KV v1 does not know, and an empty list has something to say.
    let bounded = ask(&world, "LIST", "kv1/shop/none", "s.pages");
    assert_eq!((bounded.status, &bounded.body["data"]), (200, &json!({})));
    let ignored = "Endpoint ignored these unrecognized parameters: [limit]";
    assert_eq!(remarks(&bounded), [ignored]);
}

#[test]
fn a_scan_goes_through_folders_as_the_primary_does() {
    let world = shop().open();
    let said = all(&world, "SCAN", "kv1/shop");
    let keys = json!(["a", "dir", "unread", "dir/one", "dir/sub/two"]);
    assert_eq!(said.body["data"], json!({ "keys": keys }));
    let empty = all(&world, "SCAN", "kv1/shop/none");
    assert_eq!((empty.status, &empty.body["data"]), (200, &json!({})));
    let world = world_of_v2();
    let said = all(&world, "GET", "secret/metadata/app?scan=true&limit=1");
    assert_eq!(said.body["data"]["keys"], json!(["a", "b/c", "a/x"]));
    assert_eq!(
        all(&world, "SCAN", "secret/metadata/app?limit=x").status,
        400
    );
    assert_eq!(
        ask(&world, "SCAN", "secret/metadata/app", "s.app").status,
        403
    );
}

fn world_of_v2() -> Opened {
    let mut world = world();
    for key in ["app/a", "app/a/x", "app/b/c"] {
        world = world.secret(key, 2);
    }
    world.open()
}

#[test]
fn detailed_lists_show_metadata_and_a_folder_that_of_its_namesake() {
    let world = world_of_v2();
    let metadata = all(&world, "GET", "secret/metadata/app/a").body["data"].clone();
    let said = all(&world, "LIST", "secret/detailed-metadata/app");
    assert_eq!(said.body["data"]["keys"], json!(["a", "a/", "b/"]));
    let info = &said.body["data"]["key_info"];
    assert_eq!(*info, json!({ "a": metadata, "a/": metadata, "b/": {} }));
    let scanned = all(&world, "SCAN", "secret/detailed-metadata/app");
    assert_eq!(scanned.body["data"]["keys"], json!(["a", "b/c", "a/x"]));
    let names: Vec<&String> = scanned.body["data"]["key_info"]
        .as_object()
        .unwrap()
        .keys()
        .collect();
    assert_eq!(names, ["a", "a/x", "b/c"]);
    let page = ask(&world, "LIST", "secret/detailed-metadata/app", "s.pages");
    assert_eq!(page.body["data"]["keys"], json!(["a", "a/"]));
    assert_eq!(
        all(&world, "GET", "secret/detailed-metadata/app/a").status,
        405
    );
}

#[test]
fn a_filter_takes_names_out_of_keys_and_metadata_alike() {
    let world = world_of_v2();
    let some = |method, target| ask(&world, method, target, "s.some");
    let listed = some("LIST", "secret/detailed-metadata/app");
    assert_eq!(listed.body["data"]["keys"], json!(["a", "a/"]));
    assert!(listed.body["data"]["key_info"].get("b/").is_none());
    let scanned = some("SCAN", "secret/detailed-metadata/app");
    assert_eq!(scanned.body["data"]["keys"], json!(["a", "b/c"]));
    for query in ["", "?x=1"] {
        let target = format!("secret/detailed-metadata/app/a{query}");
        let said = ask(&world, "LIST", &target, "s.some");
        assert_eq!(said.status, 404, "{target}");
    }
    let nothing = some("SCAN", "secret/detailed-metadata/app/a");
    assert_eq!(nothing.body["data"], json!({ "key_info": {}, "keys": [] }));
    let none = some("SCAN", "secret/detailed-metadata/app/none");
    assert_eq!(none.body["data"], json!({}));
}

#[test]
fn subkeys_show_names_of_the_version_and_no_value() {
    let past = "2026-11-22T11:12:11.889736708Z";
    let world = world()
        .secret("app/a", 3)
        .key("app/gone", 1, |_, _| (past.into(), false))
        .open();
    let said = all(&world, "GET", "secret/subkeys/app/a?depth=1&x=1");
    assert_eq!(
        said.body["data"]["subkeys"],
        json!({ "n": null, "t": null })
    );
    assert_eq!(said.body["data"]["metadata"]["version"], 3);
    assert_eq!(remarks(&said).len(), 1);
    let value: Value = serde_json::from_str(&body(3)).unwrap();
    assert_eq!(said.body["data"]["metadata"], value["metadata"]);
    let gone = all(&world, "GET", "secret/subkeys/app/gone");
    assert_eq!(
        (gone.status, &gone.body["data"]["subkeys"]),
        (404, &Value::Null)
    );
    assert_eq!(gone.body["data"]["metadata"]["deletion_time"], past);
    assert!(!gone.text.ends_with('\n'));
    for (target, status) in [
        ("app/a?version=1", 503),
        ("app/a?version=9", 404),
        ("app/a?version=x", 400),
        ("app/a?depth=x", 400),
        ("app/none", 404),
    ] {
        let said = all(&world, "GET", &format!("secret/subkeys/{target}"));
        assert_eq!(said.status, status, "{target}");
    }
}

#[test]
fn a_key_with_a_slash_too_many_is_found_where_the_primary_finds_it() {
    let past = "2026-11-22T11:12:11.889736708Z";
    let world = world()
        .secret("app/a", 1)
        .key("app/gone", 1, |_, _| (past.into(), false))
        .open();
    let of = |target| all(&world, "GET", target).status;
    assert_eq!(of("secret/metadata/app/a/"), 200);
    assert_eq!(of("secret/metadata/app/"), 404);
    assert_eq!(of("secret/data/app/gone/"), 404);
    assert_eq!(of("secret/data/app/"), 404);
    let fails = all(&world, "GET", "secret/data/app/a/");
    let text = "1 error occurred:\n\t* could not find version data\n\n";
    assert_eq!((fails.status, fails.error()), (500, text));
}

#[test]
fn paths_of_no_endpoint_are_404_with_a_hint() {
    let world = world().secret("app/a", 1).open();
    for (method, command) in [("GET", "get"), ("LIST", "list"), ("SCAN", "scan")] {
        let said = all(&world, method, "secret/app/a?x=1");
        let hint = format!(
            "Invalid path for a versioned K/V secrets engine. See the API docs for the appropriate API endpoints to \
             use. If using the OpenBao CLI, use 'bao kv {command}' for this operation."
        );
        assert_eq!((said.status, said.warning()), (404, hint.as_str()));
        assert!(said.body["data"].is_null() && !said.text.ends_with('\n'));
    }
    assert_eq!(ask(&world, "GET", "secret/app/a", "s.app").status, 403);
    assert_eq!(all(&world, "GET", "secret/elsewhere").status, 503);
    assert_eq!(all(&world, "GET", "secret/undelete/app/a").status, 405);
    assert_eq!(all(&world, "LIST", "secret/subkeys/app").status, 405);
}

#[test]
fn parameters_of_writes_are_the_primarys_to_read() {
    let world = world().secret("app/a", 1).open();
    for target in ["data/app/a?options=x", "metadata/app/a?cas_required=x"] {
        let said = all(&world, "GET", &format!("secret/{target}"));
        assert_eq!(said.status, 503, "{target}");
        assert!(
            said.error().contains("is spelled in a way"),
            "{}",
            said.text
        );
    }
    let gone = all(&world, "GET", "secret/data/app/none?x=1");
    assert_eq!(
        (gone.status, gone.text.as_str()),
        (404, "{\"errors\":[]}\n")
    );
}

fn authorities() -> World {
    let plain = Content {
        kind: Some("text/plain".into()),
        cache: Some("max-age=3600".into()),
    };
    let bare = |content: &Content| Form::Bare(content.clone());
    let live = VersionState::Live;
    let mut world = world();
    world = kept(
        world,
        "ssh/public_key",
        live,
        bare(&plain),
        b"ssh-ed25519 \xff\n",
    );
    world = kept(
        world,
        "ssh/config/ca",
        live,
        envelope(0),
        b"{\"public_key\":\"k\"}",
    );
    world = kept(
        world,
        "pki/cert/ca",
        live,
        envelope(0),
        b"{\"certificate\":\"c\"}",
    );
    world = kept(
        world,
        "secret/config",
        live,
        envelope(0),
        b"{\"max_versions\":0}",
    );
    let nothing = bare(&Content::default());
    let none = b"{\"errors\":[\"unsupported path\"]}\n";
    world = kept(world, "pki/cert/none", VersionState::Gone, nothing, none);
    for path in [
        "ssh/public_key",
        "ssh/config/ca",
        "pki/cert/ca",
        "secret/config",
        "pki/cert/none",
    ] {
        world = passed(world, path, path);
    }
    world
}

#[test]
fn an_answer_without_an_envelope_is_given_as_it_was() {
    let view = authorities().open();
    let call = shared::api::Call::parse("GET", "/v1/ssh/public_key").unwrap();
    let query = crate::vault::Query {
        call: &call,
        presented: crate::vault::Presented::Nothing,
        namespace: &shared::api::RequestNamespace::Configured,
        unmodelled: None,
        body: b"",
        peer: None,
        now: now(160),
    };
    let answer = crate::vault::answer(&view.0, &query, &crate::samples::Seeded::new(1));
    assert_eq!(answer.response.status, 200);
    assert_eq!(answer.response.body.as_slice(), b"ssh-ed25519 \xff\n");
    assert_eq!(answer.response.age, Some(150));
    let content = answer.response.content;
    assert_eq!(content.kind.as_deref(), Some("text/plain"));
    assert_eq!(content.cache.as_deref(), Some("max-age=3600"));
    assert!(matches!(
        answer.note,
        Some(Note::Read {
            accessor: None,
            workload: None,
            ..
        })
    ));
}

#[test]
fn open_paths_look_at_no_token_and_closed_ones_do() {
    let world = authorities().open();
    let without = |method, target| world.ask(method, target).said();
    for token in ["s.unknown", "ho.unknown", "s.app"] {
        assert_eq!(
            ask(&world, "GET", "pki/cert/ca", token).status,
            200,
            "{token}"
        );
    }
    let said = without("GET", "/v1/pki/cert/ca");
    assert_eq!(said.body["data"], json!({ "certificate": "c" }));
    let none = without("GET", "/v1/pki/cert/none");
    assert_eq!((none.status, none.error()), (404, "unsupported path"));
    assert_eq!(without("GET", "/v1/ssh/config/ca").status, 403);
    assert_eq!(ask(&world, "GET", "ssh/config/ca", "s.app").status, 403);
    assert_eq!(all(&world, "GET", "ssh/config/ca").status, 200);
    assert_eq!(all(&world, "GET", "secret/config").status, 200);
    let head = without("HEAD", "/v1/pki/cert/ca");
    assert_eq!((head.status, head.error()), (405, "unsupported operation"));
    for (method, target) in [
        ("HEAD", "/v1/pki/cert/none"),
        ("HEAD", "/v1/pki/ca/pem"),
        ("GET", "/v1/pki/ca/pem"),
        ("GET", "/v1/pki/cert/ca?x=1"),
        ("GET", "/v1/pki/cert/ca?help=1"),
        ("LIST", "/v1/pki/issuers"),
        ("PUT", "/v1/pki/cert/ca"),
    ] {
        assert_eq!(without(method, target).status, 503, "{method} {target}");
    }
    let wrapped = world
        .ask("GET", "/v1/pki/cert/ca")
        .unmodelled("x-vault-wrap-ttl");
    assert_eq!(wrapped.said().status, 503);
    let elsewhere = world.ask("GET", "/v1/pki/cert/ca").namespace("team");
    assert_eq!(elsewhere.said().status, 503);
}

#[test]
fn a_kept_answer_grows_stale_and_is_not_made_up() {
    let world = authorities().open();
    let at = |secs| world.ask("GET", "/v1/pki/cert/ca").at(secs).said().status;
    assert_eq!((at(610), at(611)), (200, 503));
    let mut world = authorities();
    world
        .changes
        .push(Change::RecordGone(place("pki/cert/ca"), None));
    let said = world.open().ask("GET", "/v1/pki/cert/ca").said();
    assert!(said.error().ends_with("the value could not be mirrored"));
}
