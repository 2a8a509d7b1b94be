//! Judging without effect.

use std::time::Duration;

use serde_json::json;
use shared::{
    change::Change,
    name::{Accessor, EntityId, WorkloadName},
    quarantine::{Quarantine, Quarantined},
    workload::WorkloadAuthority,
};

use super::world::{CUTOVER, World, authority, authority_as, identity_of, names, peer};
use crate::{
    samples::{self, T0, quarantine},
    vault::judge::{Standing, text},
};

fn app() -> World {
    app_in(World::following())
}

fn app_in(world: World) -> World {
    world.secret("app/a", 1).token("s.app", &["app"])
}

#[test]
fn a_request_is_judged_as_an_outage_beginning_now_would_answer_it() {
    let world = app().token("s.none", &["default"]).open();
    let read = |token| world.ask("GET", "/v1/secret/data/app/a").token(token);
    let judged = read("s.app").judged();
    assert_eq!(
        (judged.response.status, judged.standing),
        (200, Standing::Decided)
    );
    assert_eq!(judged.behind.rule, names(&["app"]));
    let refused = read("s.none").judged();
    assert_eq!(
        (refused.response.status, refused.standing),
        (403, Standing::Decided)
    );
    // Nobody else sees an outage.
    assert!(world.0.authority().phase.outage().is_none());
}

#[test]
fn a_login_is_judged_and_nothing_is_issued() {
    let world = World::following().open();
    let before = world.0.grants().len();
    let ask = world.ask("PUT", "/v1/auth/holdover/login");
    let judged = ask.peer(peer("orders")).body(json!({})).judged();
    assert_eq!(
        (judged.response.status, judged.standing),
        (200, Standing::Decided)
    );
    let orders = WorkloadName::parse("orders").unwrap();
    assert_eq!(judged.behind.issuing, Some(orders));
    assert_eq!(world.0.grants().len(), before);
}

#[test]
fn what_the_replica_by_design_does_not_serve_is_told_from_what_it_cannot_decide() {
    let world = app()
        .token("s.broken", &["broken"])
        .token_as("s.anothers", &["app"], |grant| {
            grant.peer = Some(identity_of("billing"));
        })
        .open();
    let standing = |method, target, token| {
        let ask = world.ask(method, target).token(token);
        ask.peer(peer("orders")).judged().standing
    };
    let data = "/v1/secret/data/app/a";
    for (method, target, token) in [
        ("PUT", data, "s.app"),
        ("GET", "/v1/secret/data/elsewhere/a", "s.app"),
        ("GET", data, "s.unknown"),
        ("GET", data, "s.anothers"),
        ("PUT", "/v1/auth/userpass/login/u", "s.app"),
        ("GET", "/v1/secret/data/never/a?help=1", "s.app"),
    ] {
        let standing = standing(method, target, token);
        assert!(
            matches!(standing, Standing::Uncovered(_)),
            "{method} {target} {token}: {standing:?}"
        );
    }
    let broken = standing("GET", data, "s.broken");
    assert_eq!(broken, Standing::Undecidable("policy"));
    let never = standing("GET", "/v1/secret/data/never/a", "s.app");
    assert_eq!(never, Standing::Undecidable("staleness"));
}

#[test]
fn what_it_went_by_says_when_that_was_verified_and_whether_it_changed() {
    let later = samples::now(50).wall;
    let ask = |world: World| {
        let world = world.open();
        world
            .ask("GET", "/v1/secret/data/app/a")
            .token("s.app")
            .judged()
            .inputs
    };
    let first = ask(app());
    assert_eq!((first.authority_at, first.value_at), (Some(T0), Some(T0)));
    let passed = ask(app().passed("secret/data/app/*", later));
    // The token and the policies are still as old as before.
    assert_eq!(passed.value_at, Some(T0));
    assert!(passed.are_as(&first));
    let again = |world: World| world.token_as("s.app", &["app"], |grant| grant.verified_at = later);
    assert_eq!(ask(again(app())).authority_at, Some(T0));
    let mut rewritten = app();
    rewritten
        .changes
        .push(samples::policies(&[("app", "path \"secret/*\" {}")], later));
    let rewritten = ask(again(rewritten));
    assert_eq!(rewritten.authority_at, Some(later));
    assert!(!rewritten.are_as(&first));
    let mut narrowed = app();
    narrowed = narrowed.token("s.app", &["app", "default"]);
    assert!(!ask(narrowed).are_as(&first));
}

/// Two policies that decide at paths of their own, and one that both have a rule for.
const RULES: [(&str, &str); 3] = [
    (
        "planted",
        r#"path "secret/data/app/*" { capabilities = ["read"] }
           path "secret/data/app/a" { capabilities = ["deny"] }
           path "sys/capabilities" { capabilities = ["update"] }"#,
    ),
    (
        "plain",
        r#"path "secret/data/sho*" { capabilities = ["read"] }
           path "secret/data/+/b" { capabilities = ["read"] }
           path "secret/data/one" { capabilities = ["read"] }
           path "sys/capabilities-self" { capabilities = ["update"] }
           path "auth/token/lookup-self" { capabilities = ["read"] }"#,
    ),
    (
        "too",
        r#"path "secret/data/one" { capabilities = ["list"] }"#,
    ),
];

fn quarantined(of: &str, world: World) -> super::world::Opened {
    let mut world = world
        .secret("app/a", 1)
        .secret("app/b", 1)
        .secret("shop", 1)
        .secret("one", 1)
        .token("s.both", &["planted", "plain"])
        .token("s.shared", &["plain", "too"]);
    world.changes.push(samples::policies(&RULES, T0));
    world
        .and(Change::Quarantine(Box::new(quarantine(of))))
        .open()
}

#[test]
fn what_a_quarantined_policy_has_a_part_in_is_left_to_the_primary_and_nothing_else() {
    let open = quarantined("planted", World::in_outage());
    let read = |path: &str, token| {
        let target = format!("/v1/{path}");
        open.ask("GET", &target).token(token).said()
    };
    // The shorter rule of another policy does not decide in its place.
    for path in [
        "secret/data/app/b",
        "secret/data/app/a",
        "secret/data/app/none",
    ] {
        let refused = read(path, "s.both");
        assert_eq!(refused.status, 503, "{path}: {}", refused.text);
        assert!(refused.error().contains("quarantined"), "{}", refused.text);
    }
    assert_eq!(read("secret/data/shop", "s.both").status, 200);
    assert_eq!(read("auth/token/lookup-self", "s.both").status, 200);
    assert_eq!(
        read("secret/data/elsewhere", "s.both").status,
        503,
        "not mirrored"
    );
    // What is told of capabilities is a decision, too.
    let asked = |paths: serde_json::Value| {
        let ask = open.ask("PUT", "/v1/sys/capabilities-self").token("s.both");
        ask.body(json!({ "paths": paths })).said().status
    };
    assert_eq!(asked(json!(["secret/data/shop"])), 200);
    assert_eq!(asked(json!(["secret/data/shop", "secret/data/app/b"])), 503);
}

#[test]
fn a_rule_that_several_policies_made_is_left_to_the_primary_with_each_of_them() {
    for policy in ["plain", "too"] {
        let open = quarantined(policy, World::in_outage());
        let read = open.ask("GET", "/v1/secret/data/one").token("s.shared");
        assert_eq!(read.said().status, 503, "{policy}");
    }
    let open = quarantined("planted", World::in_outage());
    let read = open.ask("GET", "/v1/secret/data/one").token("s.shared");
    assert_eq!(read.said().status, 200);
}

#[test]
fn judging_knows_no_quarantine_and_says_what_stands_behind() {
    let open = quarantined("planted", World::following());
    let judged = open
        .ask("GET", "/v1/secret/data/app/b")
        .token("s.both")
        .judged();
    assert_eq!(judged.response.status, 200);
    assert_eq!(judged.behind.rule, names(&["planted"]));
    assert_eq!(judged.behind.policies, names(&["plain", "planted"]));
    let shared = open.ask("GET", "/v1/secret/data/one").token("s.shared");
    assert_eq!(shared.judged().behind.rule, names(&["plain", "too"]));
    let paths = json!({ "paths": ["secret/data/app/b", "secret/data/one", "/odd//path", "none"] });
    let ask = open.ask("PUT", "/v1/sys/capabilities-self").token("s.both");
    let behind = ask.body(paths).judged().behind;
    assert_eq!(behind.rule, names(&["plain"]));
    let asked: Vec<_> = behind.asked.into_iter().collect();
    assert_eq!(
        asked,
        [
            ("none".to_owned(), names(&[])),
            ("secret/data/app/b".to_owned(), names(&["planted"])),
            ("secret/data/one".to_owned(), names(&["plain"])),
        ]
    );
}

#[test]
fn a_quarantine_of_issuing_leaves_reads_and_other_workloads_alone() {
    let orders = Quarantine {
        what: Quarantined::Issuing(WorkloadName::parse("orders").unwrap()),
        ..quarantine("app")
    };
    let held = Change::Quarantine(Box::new(orders.clone()));
    let world = app_in(World::in_outage())
        .and(authority("billing", T0))
        .and(held)
        .open();
    let log_in = |name| {
        let ask = world.ask("PUT", "/v1/auth/holdover/login");
        ask.peer(peer(name)).body(json!({})).at(CUTOVER + 1).said()
    };
    let refused = log_in("orders");
    assert_eq!(
        (refused.status, refused.changes.len()),
        (503, 0),
        "{}",
        refused.text
    );
    assert!(refused.error().contains("quarantined"), "{}", refused.text);
    assert_eq!(log_in("billing").status, 200);
    let read = world.ask("GET", "/v1/secret/data/app/a").token("s.app");
    assert_eq!(read.peer(peer("orders")).said().status, 200);
    // Lifted, it is as before.
    let world = app_in(World::in_outage())
        .and(Change::Quarantine(Box::new(orders.clone())))
        .and(Change::QuarantineLifted(orders.what))
        .open();
    let ask = world.ask("PUT", "/v1/auth/holdover/login");
    let said = ask
        .peer(peer("orders"))
        .body(json!({}))
        .at(CUTOVER + 1)
        .said();
    assert_eq!(said.status, 200);
}

#[test]
fn a_token_that_was_made_anew_with_the_same_string_is_another_input() {
    let ask = |world: World| {
        let open = world.open();
        let read = open.ask("GET", "/v1/secret/data/app/a").token("s.app");
        read.judged().inputs
    };
    let first = ask(app());
    let anew = app().token_as("s.app", &["app"], |grant| {
        grant.accessor = Accessor::parse("another").unwrap();
    });
    assert!(ask(app()).are_as(&first));
    assert!(!ask(anew).are_as(&first));
}

/// What a token would have been created by has a part in it, as what a login would have been granted by.
#[test]
fn a_workload_whose_role_changed_is_another_input_to_a_creation() {
    let ask = |change: fn(&mut WorkloadAuthority), at| {
        let policy = r#"path "auth/token/create" { capabilities = ["update"] }"#;
        let mut world = World::following();
        world
            .changes
            .push(samples::policies(&[("app", policy)], T0));
        let world = world
            .and(authority_as("orders", at, change))
            .token("s.app", &["app"])
            .open();
        let asked = world.ask("PUT", "/v1/auth/token/create").token("s.app");
        let judged = asked.peer(peer("orders")).body(json!({})).judged();
        assert_eq!(judged.response.status, 200);
        judged.inputs
    };
    let first = ask(|_| {}, T0);
    assert!(ask(|_| {}, T0).are_as(&first));
    assert!(!ask(|known| known.role.renewable ^= true, T0).are_as(&first));
    let earlier = T0.minus(Duration::from_secs(60));
    assert_eq!(ask(|_| {}, earlier).authority_at, Some(earlier));
}

#[test]
fn an_identity_that_was_changed_and_changed_back_is_another_input() {
    let ask = |written: &str| {
        let entity = EntityId::parse("entity-1").unwrap();
        let mut identity = samples::identity("orders");
        identity.entity.as_mut().unwrap().last_update_time = written.into();
        let change = Change::Identity(entity.clone(), Box::new(identity), T0);
        let world = app().and(change).token_as("s.app", &["app"], |grant| {
            grant.facts.entity_id = Some(entity);
        });
        let open = world.open();
        let read = open.ask("GET", "/v1/secret/data/app/a").token("s.app");
        read.judged().inputs
    };
    let first = ask("2026-01-01T00:00:00Z");
    assert_eq!(first.entities.len(), 1);
    assert!(ask("2026-01-01T00:00:00Z").are_as(&first));
    assert!(!ask("2026-01-01T00:00:01Z").are_as(&first));
}

#[test]
fn what_stands_for_a_policy_changes_with_it_and_with_no_other() {
    let digest = |policies: &[(&str, &str)]| {
        let mut world = World::following();
        world.changes.push(samples::policies(policies, T0));
        let open = world.open();
        text(&open.0, &quarantine("a").what).unwrap()
    };
    let first = digest(&[("a", "x"), ("b", "y")]);
    assert_eq!(first, digest(&[("a", "x"), ("b", "z")]));
    assert_ne!(first, digest(&[("a", "w"), ("b", "y")]));
    assert_ne!(first, digest(&[("b", "y")]));
}
