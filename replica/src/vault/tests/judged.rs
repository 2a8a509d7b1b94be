//! Judging without effect.

use serde_json::json;
use shared::{change::Change, name::EntityId, quarantine::AclKey};

use super::world::{CUTOVER, World, identity_of, names, peer};
use crate::{
    samples::{self, T0, quarantine},
    vault::judge::{Standing, texts},
};

fn app() -> World {
    World::following()
        .secret("app/a", 1)
        .token("s.app", &["app"])
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
    let set = AclKey {
        policies: names(&["app"]),
        entity: None,
    };
    assert_eq!(judged.set, Some(set));
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
    assert!(judged.set.is_some());
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

#[test]
fn tokens_of_a_quarantined_set_are_left_to_the_primary_and_no_others() {
    let world = |world: World| {
        let mut of_app = quarantine(&["app"]);
        of_app.path = "secret/data/app/a".into();
        let entity = Some(EntityId::parse("e-1").unwrap());
        let mut of_entity = quarantine(&["default"]);
        of_entity.set.entity = entity;
        world
            .secret("app/a", 1)
            .token("s.app", &["app"])
            .token("s.both", &["app", "default"])
            .token("s.default", &["default"])
            .and(Change::Quarantine(Box::new(of_app)))
            .and(Change::Quarantine(Box::new(of_entity)))
    };
    let open = world(World::in_outage()).open();
    let read = |token| open.ask("GET", "/v1/secret/data/app/a").token(token).said();
    let refused = read("s.app");
    assert_eq!(refused.status, 503);
    assert!(refused.error().contains("quarantined"), "{}", refused.text);
    assert_eq!(read("s.both").status, 200);
    let own = open
        .ask("GET", "/v1/auth/token/lookup-self")
        .token("s.default");
    assert_eq!(own.said().status, 200);
    // Whether it may be lifted shows only from what would be answered without.
    let open = world(World::following()).open();
    let judged = open
        .ask("GET", "/v1/secret/data/app/a")
        .token("s.app")
        .judged();
    assert_eq!(judged.response.status, 200);
    // Lifted, it is as before.
    let set = quarantine(&["app"]).set;
    let lifted = world(World::in_outage())
        .and(Change::QuarantineLifted(set))
        .open();
    let read = lifted.ask("GET", "/v1/secret/data/app/a").token("s.app");
    assert_eq!(read.said().status, 200);
}

#[test]
fn nothing_is_issued_of_a_quarantined_set() {
    let log_in = |world: World| {
        let world = world.open();
        let ask = world.ask("PUT", "/v1/auth/holdover/login");
        let ask = ask.peer(peer("orders")).body(json!({})).at(CUTOVER + 1);
        (ask.said(), world)
    };
    let (said, _) = log_in(World::in_outage());
    let policies: Vec<String> =
        serde_json::from_value(said.body["auth"]["policies"].clone()).unwrap();
    let policies: Vec<&str> = policies.iter().map(String::as_str).collect();
    let held = Change::Quarantine(Box::new(quarantine(&policies)));
    let (said, _) = log_in(World::in_outage().and(held));
    assert_eq!((said.status, said.changes.len()), (503, 0), "{}", said.text);
}

#[test]
fn the_digest_of_a_set_changes_with_each_of_its_policies_and_no_other() {
    let digest = |policies: &[(&str, &str)]| {
        let mut world = World::following();
        world.changes.push(samples::policies(policies, T0));
        texts(&world.open().0, &quarantine(&["a", "b"]).set).unwrap()
    };
    let first = digest(&[("a", "x"), ("b", "y"), ("c", "z")]);
    assert_eq!(first, digest(&[("a", "x"), ("b", "y"), ("c", "w")]));
    assert_ne!(first, digest(&[("a", "x"), ("b", "w"), ("c", "z")]));
    assert_ne!(first, digest(&[("a", "x"), ("c", "z")]));
}
