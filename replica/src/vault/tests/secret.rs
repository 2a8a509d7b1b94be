//! KV v2 values, metadata and lists.

use std::{collections::BTreeMap, time::Duration};

use serde_json::{Value, json};
use shared::{
    change::Change,
    kv::{KvKey, VersionState},
    name::{MountAccessor, WorkloadName},
};

use super::{
    likeness::assert_like,
    world::{CREATED, Opened, World, body, outage, peer},
};
use crate::{
    ledger::Note,
    samples::{self, T0, now},
};

fn world() -> World {
    World::in_outage().token("s.app", &["app"])
}

fn get(world: &Opened, path: &str) -> super::asked::Said {
    let target = format!("/v1/secret/{path}");
    world.ask("GET", &target).token("s.app").said()
}

fn list(world: &Opened, target: &str) -> (u16, Value) {
    let said = world.ask("GET", target).token("s.app").said();
    (said.status, said.body["data"]["keys"].clone())
}

#[test]
fn the_latest_version_is_served_with_the_primarys_bytes() {
    let world = world().secret("app/a", 3).open();
    for target in ["data/app/a", "data/app/a?version=0", "data/app/a?version=3"] {
        let said = get(&world, target);
        assert_eq!(said.status, 200);
        assert!(
            said.text.contains(&format!("\"data\":{},", body(3))),
            "{}",
            said.text
        );
        assert_eq!(said.age, Some(160));
        assert_eq!(said.outage, Some(outage("o-1").id));
        assert_eq!(
            said.warning(),
            "answered by holdover's replica: last verified 160 s ago; primary unavailable since \
             2027-01-15T08:01:40Z (outage o-1)"
        );
    }
}

#[test]
fn a_value_looks_as_it_did_at_the_primary() {
    let sample = super::likeness::sample("kv2_read");
    let sent = sample["body"]["data"].to_string();
    let world = world()
        .key("app/a", 1, |_, _| (String::new(), false))
        .value("app/a", 1, VersionState::Live, &sent)
        .open();
    assert_like(&get(&world, "data/app/a"), "kv2_read");
}

#[test]
fn every_answer_has_a_request_id_of_its_own() {
    let world = world().secret("app/a", 1).open();
    let id = |at| {
        let said = world
            .ask("GET", "/v1/secret/data/app/a")
            .token("s.app")
            .at(at)
            .said();
        said.body["request_id"].as_str().unwrap().to_owned()
    };
    assert_eq!(id(160).len(), 36);
    assert_ne!(id(160), id(161));
}

#[test]
fn versions_that_were_not_kept_are_undecidable_and_those_that_never_were_are_404() {
    let world = world().secret("app/a", 3).open();
    let old = get(&world, "data/app/a?version=1");
    assert_eq!(old.status, 503);
    assert!(old.error().ends_with("; version 1 is not mirrored"));
    assert_like(&get(&world, "data/app/a?version=9"), "kv2_read_version9");
    assert_like(
        &get(&world, "data/app/a?version=abc"),
        "kv2_read_badversion",
    );
}

#[test]
fn deleted_and_destroyed_versions_are_404_with_what_the_primary_still_says() {
    let past = "2026-11-22T11:12:11.889736708Z";
    let world = world()
        .key("app/deleted", 3, |_, _| (past.into(), false))
        .key("app/destroyed", 3, |_, _| (String::new(), true))
        .value("app/deleted", 3, VersionState::Gone, "{\"data\":null}")
        .open();
    assert_like(&get(&world, "data/app/deleted"), "kv2_read_deleted");
    assert_like(
        &get(&world, "data/app/destroyed?version=3"),
        "kv2_read_destroyed",
    );
    assert!(
        get(&world, "data/app/deleted").text.ends_with('}'),
        "the primary ends these without a newline"
    );
    let older = get(&world, "data/app/deleted?version=1");
    assert_eq!(
        (older.status, &older.body["data"]["metadata"]["version"]),
        (404, &json!(1))
    );
    assert_eq!(older.body["data"]["metadata"]["created_time"], CREATED);
}

#[test]
fn a_version_ends_at_the_deletion_time_that_lay_ahead() {
    let ahead = T0.plus(Duration::from_secs(200)).to_string();
    let sent = body(1).replace(
        "\"deletion_time\":\"\"",
        &format!("\"deletion_time\":\"{ahead}\""),
    );
    let world = world()
        .key("app/a", 1, |_, _| (ahead.clone(), false))
        .value("app/a", 1, VersionState::Live, &sent)
        .value("one", 1, VersionState::Live, &sent)
        .open();
    let at = |key: &str, secs| {
        let target = format!("/v1/secret/data/{key}");
        world.ask("GET", &target).token("s.app").at(secs).said()
    };
    assert_eq!(at("app/a", 199).status, 200);
    let gone = at("app/a", 200);
    assert_eq!(
        (gone.status, &gone.body["data"]["data"]),
        (404, &Value::Null)
    );
    assert_eq!(gone.body["data"]["metadata"]["deletion_time"], ahead);
    assert_eq!(gone.body["warnings"], Value::Null);
    assert_eq!(at("one", 199).status, 200);
    assert_eq!(
        at("one", 200).status,
        503,
        "without metadata only the primary can say how it is shown"
    );
}

#[test]
fn a_value_whose_change_was_seen_and_not_fetched_is_undecidable() {
    let world = world()
        .key("app/a", 2, |_, _| (String::new(), false))
        .value("app/a", 1, VersionState::Live, &body(1))
        .open();
    assert!(
        get(&world, "data/app/a")
            .error()
            .ends_with("version 2 is not mirrored")
    );
}

#[test]
fn staleness_counts_from_the_last_proof_of_each_value() {
    let late = now(90).wall;
    let world = world()
        .secret("app/covered", 1)
        .key("app/uncovered", 1, |_, _| (String::new(), false))
        .value_as("app/uncovered", 1, &body(1), |record| {
            record.covered = false
        })
        .passed("secret/data/app/*", late)
        .open();
    let at = |key: &str, secs| {
        let target = format!("/v1/secret/data/app/{key}");
        world.ask("GET", &target).token("s.app").at(secs).said()
    };
    assert_eq!(
        (at("covered", 690).status, at("covered", 690).age),
        (200, Some(600))
    );
    let stale = at("covered", 691);
    assert_eq!((stale.status, stale.age), (503, Some(601)));
    assert!(stale.error().contains("too stale"));
    assert_eq!(at("uncovered", 600).status, 200);
    assert_eq!(at("uncovered", 601).status, 503);
    // The key itself was not verified with it: neither what it is nor which versions it has.
    for target in ["metadata/app/uncovered", "data/app/uncovered?version=9"] {
        let target = format!("/v1/secret/{target}");
        let at = |secs| world.ask("GET", &target).token("s.app").at(secs).said();
        assert_ne!(at(600).status, 503, "{target}");
        assert_eq!(at(601).status, 503, "{target}");
    }
}

#[test]
fn a_key_of_which_nothing_is_known_but_that_it_is_there_is_not_absent() {
    let unknown = Change::Key(Box::new(KvKey {
        place: samples::place("secret/data/app/new"),
        current: 0,
        versions: BTreeMap::new(),
        metadata: String::new(),
    }));
    let world = world().secret("app/a", 1).and(unknown).open();
    for target in ["data/app/new", "data/app/new?version=1", "metadata/app/new"] {
        assert_eq!(get(&world, target).status, 503, "{target}");
    }
    assert_eq!(get(&world, "data/app/none").status, 404);
    let (status, keys) = list(&world, "/v1/secret/metadata/app/?list=true");
    assert_eq!((status, keys), (200, json!(["a", "new"])));
}

#[test]
fn a_bound_of_zero_is_zero() {
    let mut world = world().secret("app/a", 1);
    for mirror in &mut world.settings.mirrors {
        mirror.max_staleness = Duration::ZERO;
    }
    let world = world.open();
    assert_eq!(get(&world, "data/app/a").status, 503);
}

#[test]
fn a_remounted_path_is_another_place() {
    let mut world = world().secret("app/a", 1);
    for change in &mut world.changes {
        if let Change::Cluster(cluster) = change
            && let Some(mount) = cluster.mounts.get_mut("secret/")
        {
            mount.accessor = MountAccessor::parse("kv_2").unwrap();
        }
    }
    let world = world.open();
    for target in ["data/app/a", "metadata/app/a", "metadata/app/?list=true"] {
        let said = get(&world, target);
        assert_eq!(said.status, 503, "{target}");
        assert!(said.error().ends_with("has not completed its first pass"));
    }
}

#[test]
fn metadata_is_read_as_the_primary_wrote_it() {
    let sample = super::likeness::sample("kv2_metadata_read");
    let mut world = world().secret("app/a", 3);
    for change in &mut world.changes {
        if let Change::Key(key) = change {
            key.metadata = sample["body"]["data"].to_string();
        }
    }
    let world = world.open();
    assert_like(&get(&world, "metadata/app/a"), "kv2_metadata_read");
    assert_eq!(get(&world, "metadata/app/none").status, 404);
    assert_eq!(get(&world, "metadata/other").status, 503);
}

#[test]
fn lists_are_sorted_and_folders_are_named_once() {
    let mut world = world();
    for key in [
        "app/a",
        "app/b/c",
        "app/b/d/e",
        "app/a-b",
        "app/a/x",
        "app/c",
        "shop/z",
    ] {
        world = world.secret(key, 1);
    }
    let world = world.open();
    let keys = json!(["a", "a-b", "a/", "b/", "c"]);
    assert_eq!(
        list(&world, "/v1/secret/metadata/app?list=true"),
        (200, keys.clone())
    );
    let listed = world
        .ask("LIST", "/v1/secret/metadata/app/")
        .token("s.app")
        .said();
    assert_eq!(listed.body["data"]["keys"], keys);
    assert_eq!(
        listed.warning().split(';').next(),
        Some("answered by holdover's replica: last verified 160 s ago")
    );
    assert_eq!(
        list(&world, "/v1/secret/metadata/app/b?list=true"),
        (200, json!(["c", "d/"]))
    );
    assert_eq!(
        list(&world, "/v1/secret/metadata/app/none?list=true").0,
        404
    );
}

#[test]
fn pages_follow_after_and_limit() {
    let mut world = world();
    for key in ["app/a", "app/a-b", "app/a/x", "app/b/c", "app/b/d"] {
        world = world.secret(key, 1);
    }
    let world = world.open();
    for (query, keys) in [
        ("after=a", json!(["a-b", "a/", "b/"])),
        ("after=a&limit=2", json!(["a-b", "a/"])),
        ("limit=1", json!(["a"])),
        ("limit=0", json!(["a", "a-b", "a/", "b/"])),
        ("limit=-1", json!(["a", "a-b", "a/", "b/"])),
        ("limit=max", json!(["a", "a-b", "a/", "b/"])),
        ("after=b", json!(["b/"])),
        ("after=..", json!(["a", "a-b", "a/", "b/"])),
        ("after=a%2F", json!(["b/"])),
    ] {
        let target = format!("/v1/secret/metadata/app/?list=true&{query}");
        assert_eq!(list(&world, &target), (200, keys), "{query}");
    }
    for query in ["after=b%2F", "after=zz"] {
        let target = format!("/v1/secret/metadata/app/?list=true&{query}");
        assert_eq!(list(&world, &target).0, 404, "{query}");
    }
    assert_eq!(
        list(&world, "/v1/secret/metadata/app/?list=true&limit=abc").0,
        400
    );
}

#[test]
fn policies_bound_pages_and_filter_names() {
    let mut world = World::in_outage()
        .token("s.paged", &["paged"])
        .token("s.seen", &["filtered"]);
    for key in ["app/a", "app/b/c", "app/c", "app/d/hidden"] {
        world = world.secret(key, 1);
    }
    let world = world.open();
    let ask = |token, target| {
        let said = world.ask("GET", target).token(token).said();
        (said.status, said.body["data"]["keys"].clone())
    };
    assert_eq!(
        ask("s.paged", "/v1/secret/metadata/app/?list=true"),
        (200, json!(["a", "b/"]))
    );
    assert_eq!(
        ask("s.paged", "/v1/secret/metadata/app/?list=true&limit=1"),
        (200, json!(["a"]))
    );
    assert_eq!(
        ask("s.paged", "/v1/secret/metadata/app/?list=true&limit=3").0,
        403
    );
    assert_eq!(
        ask("s.seen", "/v1/secret/metadata/app/?list=true"),
        (200, json!(["a", "b/"]))
    );
    assert_eq!(ask("s.seen", "/v1/secret/metadata/app/d/?list=true").0, 404);
}

#[test]
fn only_folders_wholly_inside_a_mirror_are_listed() {
    let world = world().secret("shop/a", 1).secret("one", 1).open();
    for (target, status) in [
        ("/v1/secret/metadata/shop/?list=true", 200),
        ("/v1/secret/metadata/sho?list=true", 404),
        ("/v1/secret/metadata/?list=true", 503),
        ("/v1/secret/metadata/one/?list=true", 503),
        ("/v1/secret/metadata/never/?list=true", 503),
    ] {
        assert_eq!(list(&world, target).0, status, "{target}");
    }
    let stale = world
        .ask("LIST", "/v1/secret/metadata/shop")
        .token("s.app")
        .at(601)
        .said();
    assert!(stale.error().contains("too stale"));
}

#[test]
fn values_are_not_listed_and_what_is_not_modelled_is_undecidable() {
    let world = world().secret("app/a", 1).open();
    let said = get(&world, "data/app/?list=true");
    assert_eq!(
        (said.status, said.error()),
        (405, "1 error occurred:\n\t* unsupported operation\n\n")
    );
    for target in ["config", "other/a", "subkeys/other", "metadata/other"] {
        assert_eq!(get(&world, target).status, 503, "{target}");
    }
    // Any text but an empty one asks for help.
    for help in ["help=1", "help=0"] {
        assert!(
            get(&world, &format!("data/app/a?{help}"))
                .error()
                .ends_with("operation is not served by the replica")
        );
    }
    assert_eq!(get(&world, "data/app/a?help=").status, 200);
}

#[test]
fn a_list_flag_that_is_false_is_a_parameter_that_policies_may_deny() {
    let world = World::in_outage()
        .token("s.bare", &["bare"])
        .secret("app/a", 1)
        .open();
    let status = |query: &str| {
        let target = format!("/v1/secret/data/app/a{query}");
        world.ask("GET", &target).token("s.bare").said().status
    };
    assert_eq!(status(""), 200);
    for query in ["?list=0", "?scan=false", "?list=", "?a=b"] {
        assert_eq!(status(query), 403, "{query}");
    }
}

#[test]
fn metadata_is_read_with_a_slash_behind_the_key_and_with_the_fields_of_a_list() {
    let world = world().secret("app/a", 1).open();
    assert_eq!(get(&world, "metadata/app/a/").status, 200);
    assert_eq!(get(&world, "metadata/app/a/?limit=2&after=x").status, 200);
    for query in ["limit=x", "after=x&after=y"] {
        let said = get(&world, &format!("metadata/app/a?{query}"));
        assert_eq!(said.status, 400, "{query}");
        assert!(said.error().starts_with("Field validation failed"));
    }
}

#[test]
fn an_empty_list_is_absent_unless_the_primary_has_something_to_warn_of() {
    let world = world().secret("app/a", 1).open();
    let shown = |query: &str| {
        let said = get(&world, &format!("metadata/app/none/?list=true{query}"));
        (said.status, said.body["data"].clone())
    };
    assert_eq!(shown(""), (404, Value::Null));
    assert_eq!(shown("&after=a&limit=2"), (404, Value::Null));
    for query in ["&other=1", "&path=x", "&version=1"] {
        assert_eq!(shown(query), (200, json!({})), "{query}");
    }
}

#[test]
fn a_damaged_value_is_undecidable() {
    let world = world()
        .key("app/a", 1, |_, _| (String::new(), false))
        .value("app/a", 1, VersionState::Live, "{\"data\":")
        .open();
    assert!(
        get(&world, "data/app/a")
            .error()
            .ends_with("the mirrored value is damaged")
    );
}

#[test]
fn reads_are_counted_by_grant_and_path() {
    let world = world().secret("app/a", 1).open();
    let said = world
        .ask("GET", "/v1/secret/data/app/a")
        .token("s.app")
        .peer(peer("orders"))
        .said();
    assert_eq!(
        said.note,
        Some(Note::Read {
            accessor: Some(shared::name::Accessor::parse("accessor-of-s.app").unwrap()),
            workload: Some(WorkloadName::parse("orders").unwrap()),
            uid: Some(1000),
            path: "secret/data/app/a".into(),
            outage: Some(outage("o-1").id),
        })
    );
    assert!(said.changes.is_empty());
}

#[test]
fn a_long_folder_costs_what_it_shows() {
    let mut world = world();
    for n in 0..3000 {
        world = world.key(&format!("app/deep/{n:05}"), 1, |_, _| {
            (String::new(), false)
        });
    }
    let world = world.secret("app/z", 1).open();
    assert_eq!(
        list(&world, "/v1/secret/metadata/app/?list=true"),
        (200, json!(["deep/", "z"]))
    );
    let (status, keys) = list(
        &world,
        "/v1/secret/metadata/app/deep/?list=true&after=01499&limit=2",
    );
    assert_eq!((status, keys), (200, json!(["01500", "01501"])));
    let (_, all) = list(&world, "/v1/secret/metadata/app/deep/?list=true");
    assert_eq!(all.as_array().unwrap().len(), 3000);
}
