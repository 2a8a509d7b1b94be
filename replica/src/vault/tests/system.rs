//! Endpoints about the system, mounts and capabilities.

use serde_json::{Value, json};

use super::{
    likeness::assert_like,
    world::{World, outage, phase},
};
use shared::{change::Change, failover::Phase};

fn world() -> World {
    World::in_outage()
        .token("s.app", &["app", "default"])
        .token("s.none", &["default"])
}

#[test]
fn status_endpoints_keep_the_primarys_fields_and_say_who_answers() {
    let world = world().open();
    let who = json!({"state": "holdover", "since": "2027-01-15T08:01:40Z", "outage": "o-1"});
    for (target, sample) in [
        ("/v1/sys/health", "sys_health"),
        ("/v1/sys/leader", "sys_leader"),
        ("/v1/sys/seal-status", "sys_seal_status"),
    ] {
        let said = world.ask("GET", target).said();
        assert_eq!(said.body["holdover"], who);
        assert_like(&said, sample);
        assert_eq!((said.age, said.outage), (Some(160), Some(outage("o-1").id)));
        assert_eq!(world.ask("PUT", target).said().status, 405);
    }
}

#[test]
fn the_fields_of_seal_status_come_in_the_primarys_order() {
    let said = world().open().ask("GET", "/v1/sys/seal-status").said();
    let places: Vec<_> = [
        "type",
        "initialized",
        "t",
        "nonce",
        "cluster_name",
        "storage_type",
        "holdover",
    ]
    .into_iter()
    .map(|name| said.text.find(&format!("\"{name}\":")).unwrap())
    .collect();
    assert!(places.is_sorted(), "{}", said.text);
}

#[test]
fn whether_it_is_initialized_is_told_to_anybody() {
    let world = world().open();
    let said = world.ask("GET", "/v1/sys/init").said();
    assert_eq!(
        (said.status, said.text.as_str()),
        (200, "{\"initialized\":true}\n")
    );
    assert_eq!(world.ask("PUT", "/v1/sys/init").said().status, 503);
    assert_eq!(world.ask("DELETE", "/v1/sys/init").said().status, 405);
}

#[test]
fn health_without_an_outage_claims_none() {
    let world = World::following().and(phase(Phase::Suspect)).open();
    let said = world.ask("GET", "/v1/sys/health").said();
    assert_eq!(
        said.body["holdover"],
        json!({"state": "suspect", "since": null, "outage": null})
    );
    assert_eq!(said.outage, None);
}

#[test]
fn health_answers_with_the_code_that_the_prober_wants() {
    let world = world().open();
    for (query, status) in [
        ("?activecode=299&standbycode=298&drsecondarycode=297", 299),
        ("?activecode=abc", 400),
        ("?standbycode=abc", 400),
        ("", 200),
    ] {
        let target = format!("/v1/sys/health{query}");
        assert_eq!(world.ask("GET", &target).said().status, status, "{query}");
        let head = world.ask("HEAD", &target).said();
        assert_eq!(head.status, status);
        assert!(status == 400 || head.text.is_empty());
    }
}

#[test]
fn a_mount_is_shown_to_whoever_has_anything_to_do_with_it() {
    let world = world().open();
    for path in ["secret/data/foo", "secret", "secret/"] {
        let target = format!("/v1/sys/internal/ui/mounts/{path}");
        let said = world.ask("GET", &target).token("s.app").said();
        assert_eq!(
            (
                &said.body["data"]["path"],
                &said.body["data"]["options"]["version"]
            ),
            (&json!("secret/"), &json!("2"))
        );
        assert!(said.warning().starts_with("answered by holdover's replica"));
    }
    let token = world
        .ask("GET", "/v1/sys/internal/ui/mounts/auth/token/x")
        .token("s.none")
        .said();
    assert_like(&token, "ui_mounts_auth_token_x");
    let refused = world
        .ask("GET", "/v1/sys/internal/ui/mounts/secret/data/foo")
        .token("s.none")
        .said();
    assert_like(&refused, "ui_mounts_nopriv");
    let unknown = world
        .ask("GET", "/v1/sys/internal/ui/mounts/secre")
        .token("s.app")
        .said();
    assert!(unknown.error().ends_with("access to path \"secre/\""));
    let nobody = world.ask("GET", "/v1/sys/internal/ui/mounts/secret").said();
    assert_eq!((nobody.status, nobody.error()), (403, "permission denied"));
}

#[test]
fn the_list_of_mounts_is_filtered_by_what_the_token_may() {
    let world = world().open();
    let mounts = |token: &str| {
        let said = world
            .ask("GET", "/v1/sys/internal/ui/mounts")
            .token(token)
            .said();
        let names = |kind: &str| {
            let mounts = said.body["data"][kind].as_object().unwrap();
            mounts.keys().cloned().collect::<Vec<_>>()
        };
        (names("secret"), names("auth"))
    };
    let auth = vec!["token/".to_owned()];
    let app = ["database/", "secret/", "sys/"].map(String::from).to_vec();
    assert_eq!(mounts("s.app"), (app, auth.clone()));
    assert_eq!(mounts("s.none"), (vec!["sys/".to_owned()], auth));
}

#[test]
fn without_a_token_only_public_mounts_are_shown_and_little_of_them() {
    let mut world = world();
    for change in &mut world.changes {
        if let Change::Cluster(cluster) = change
            && let Some(mount) = cluster.mounts.get_mut("kv1/")
        {
            mount.shown["config"]["listing_visibility"] = json!("unauth");
        }
    }
    let world = world.open();
    let said = world.ask("GET", "/v1/sys/internal/ui/mounts").said();
    let shown = json!({"auth": {}, "secret": {"kv1/": {"description": "", "options": {"version": "1"}, "type": "kv"}}});
    assert_eq!((said.status, &said.body["data"]), (200, &shown));
    assert_eq!(
        world
            .ask("GET", "/v1/sys/internal/ui/mounts")
            .token("ho.bad")
            .said()
            .status,
        403
    );
    let public = world
        .ask("GET", "/v1/sys/internal/ui/mounts")
        .token("s.none")
        .said();
    assert!(public.body["data"]["secret"].get("kv1/").is_some());
}

#[test]
fn capabilities_are_shown_in_data_and_at_the_top() {
    let world = world().open();
    let ask = |body: Value| {
        world
            .ask("POST", "/v1/sys/capabilities-self")
            .token("s.app")
            .body(body)
            .said()
    };
    let one = ask(json!({"path": "secret/data/app/x"}));
    assert_eq!(one.body["capabilities"], json!(["list", "read"]));
    assert_eq!(
        one.body["data"],
        json!({"secret/data/app/x": ["list", "read"], "capabilities": ["list", "read"]})
    );
    let many = ask(json!({"paths": ["secret/data/app/x", "sys/mounts"]}));
    assert_eq!(many.body["sys/mounts"], json!(["deny"]));
    assert_eq!(many.body["data"].as_object().unwrap().len(), 2);
    assert!(many.warning().starts_with("answered by holdover's replica"));
    assert_like(&ask(json!({})), "token_capabilities_self_none");
    assert!(
        ask(json!({"path": [""], "paths": [""]}))
            .error()
            .contains("missing path")
    );
}

#[test]
fn capabilities_look_as_they_did_at_the_primary() {
    const READER: &str = r#"path "secret/data/*" { capabilities = ["read"] }
        path "sys/capabilities-self" { capabilities = ["update"] }"#;
    let world = World::in_outage()
        .token("s.reader", &["reader"])
        .and(crate::samples::policies(
            &[("reader", READER)],
            crate::samples::T0,
        ))
        .open();
    for (body, sample) in [
        (
            json!({"path": "secret/data/app/x"}),
            "token_capabilities_self_one",
        ),
        (
            json!({"paths": ["secret/data/app/x", "sys/mounts"]}),
            "token_capabilities_self",
        ),
    ] {
        let said = world
            .ask("POST", "/v1/sys/capabilities-self")
            .token("s.reader")
            .body(body)
            .said();
        assert_like(&said, sample);
    }
}

#[test]
fn capabilities_of_others_need_the_right_and_a_known_token() {
    let world = world().open();
    let ask = |token: &str, body: Value| {
        let target = match body.get("accessor") {
            Some(_) => "/v1/sys/capabilities-accessor",
            None => "/v1/sys/capabilities",
        };
        world.ask("POST", target).token(token).body(body).said()
    };
    let path = "secret/data/app/x";
    let said = ask("s.app", json!({"token": "s.none", "path": path}));
    assert_eq!(said.body["capabilities"], json!(["deny"]));
    let said = ask(
        "s.app",
        json!({"accessor": "accessor-of-s.app", "path": path}),
    );
    assert_eq!(said.body["capabilities"], json!(["list", "read"]));
    assert_eq!(
        ask("s.none", json!({"token": "s.app", "path": path})).status,
        403
    );
    assert_like(
        &ask("s.app", json!({"token": "ho.x", "path": path})),
        "token_capabilities_badtoken",
    );
    for body in [
        json!({"token": "s.x", "path": path}),
        json!({"accessor": "x", "path": path}),
    ] {
        assert_eq!(ask("s.app", body).status, 503);
    }
}
