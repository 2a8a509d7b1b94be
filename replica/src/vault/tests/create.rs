//! Tokens created in an outage: who may, what they are, and how long they live. What the primary makes of requests is
//! compared with itself by the suite `sequences`.

use std::time::Duration;

use serde_json::{Value, json};
use shared::{
    change::Change,
    failover::Phase,
    grant::{Grant, Settled},
    ledger::EntryKind,
    settings::Settings,
    workload::Peer,
};

use super::{
    asked::Said,
    world::{HO, Opened, World, authority_as, identity_of, names, outage, peer, phase, replica},
};
use crate::samples::{T0, now};

/// The world with a token that may create others, and one that has sudo.
fn world() -> World {
    World::in_outage()
        .token("s.parent", &["app", "default", "parent"])
        .token("s.admin", &["admin", "default"])
        .and(proven(&["admin", "app", "default", "gone", "parent"]))
}

/// What the primary proved for the workload.
fn proven(policies: &[&str]) -> Change {
    authority_as("orders", T0, |authority| {
        authority.standing.policies = names(policies);
    })
}

fn create(world: &Opened, place: &str, token: &str, body: Value) -> Said {
    from(world, place, token, body, Some(peer("orders")))
}

fn from(world: &Opened, place: &str, token: &str, body: Value, peer: Option<Peer>) -> Said {
    let target = format!("/v1/auth/token/{place}");
    let mut ask = world.ask("POST", &target).token(token).body(body);
    if let Some(peer) = peer {
        ask = ask.peer(peer);
    }
    ask.said()
}

fn made(said: &Said) -> &Grant {
    let Some(Change::Grant(grant)) = said.changes.first() else {
        panic!("no grant: {}", said.text);
    };
    grant
}

#[test]
fn a_child_is_like_its_parent_and_hangs_on_it() {
    let world = world().open();
    let body = json!({"ttl": "60s", "meta": {"a": "b"}, "display_name": "ci 1"});
    let said = create(&world, "create", "s.parent", body);
    let auth = &said.body["auth"];
    assert_eq!(auth["policies"], json!(["app", "default", "parent"]));
    assert_eq!(
        (&auth["lease_duration"], &auth["orphan"], &auth["metadata"]),
        (&json!(60), &json!(false), &json!({"a": "b"}))
    );
    let grant = made(&said);
    assert_eq!(grant.parent, Some(world.digest("s.parent")));
    assert_eq!(grant.peer, Some(identity_of("orders")));
    assert_eq!(said.expects.live, [world.digest("s.parent")]);
    assert!(said.expects.issues && said.expects.epoch == Some(7));
    assert_eq!(said.expects.settings, Some(0));
    assert_eq!(grant.facts.display_name, "token-ci-1");
    let Some(Change::Ledger(entry)) = said.changes.get(1) else {
        panic!("no entry");
    };
    assert_eq!(
        (entry.kind, entry.ttl_seconds),
        (EntryKind::Grant, Some(60))
    );
    assert_eq!(entry.accessor.as_ref(), Some(&grant.accessor));
}

#[test]
fn an_orphan_hangs_on_nothing_and_is_committed_only_while_its_creator_lives() {
    let world = world().open();
    for (place, token, body) in [
        ("create-orphan", "s.parent", json!({})),
        ("create", "s.admin", json!({"no_parent": true})),
        ("create/orders", "s.parent", json!({})),
    ] {
        let said = create(&world, place, token, body);
        let grant = made(&said);
        assert_eq!((grant.parent, grant.facts.orphan), (None, true), "{place}");
        assert_eq!(said.expects.live, [world.digest(token)]);
    }
}

#[test]
fn no_child_outlives_the_bounds_of_its_workload() {
    let world = world().open();
    for place in ["create", "create-orphan", "create/orders"] {
        let said = create(&world, place, "s.parent", json!({"ttl": "10h"}));
        assert_eq!(said.body["auth"]["lease_duration"], 900, "{place}");
        let replica = made(&said).replica().unwrap();
        let longest = replica.max_deadline.remaining(now(160));
        assert_eq!(longest, Duration::from_secs(7200));
        assert_eq!((replica.ttl_ms, replica.asked_ms), (900_000, 36_000_000));
    }
    let grandchild = replica(self::world(), Settled::Not)
        .and(may_create())
        .open();
    let said = create(&grandchild, "create-orphan", HO, json!({}));
    let longest = made(&said).replica().unwrap().max_deadline;
    assert_eq!(
        longest.remaining(now(100)),
        Duration::from_secs(1200),
        "its creator's own end"
    );
}

/// `default` lets its holders create tokens.
fn may_create() -> Change {
    const TEXT: &str = r#"path "auth/token/create*" { capabilities = ["update"] }"#;
    crate::samples::policies(&[("default", TEXT), ("app", "")], T0)
}

#[test]
fn a_token_of_its_parents_identity_goes_on_having_it_unless_it_is_an_orphan() {
    let entity = shared::name::EntityId::parse("e-1").unwrap();
    let world = self::world()
        .token_as("s.somebody", &["default", "parent"], |grant| {
            grant.facts.entity_id = Some(entity.clone());
        })
        .open();
    let child = create(&world, "create", "s.somebody", json!({}));
    assert_eq!(made(&child).facts.entity_id, Some(entity));
    let orphan = create(&world, "create-orphan", "s.somebody", json!({}));
    assert_eq!(made(&orphan).facts.entity_id, None);
}

#[test]
fn what_the_primary_would_refuse_is_refused_in_its_words() {
    let world = world().open();
    for (place, token, body, wanted) in [
        (
            "create",
            "s.parent",
            json!({"policies": ["other"]}),
            "child policies must be subset of parent",
        ),
        (
            "create",
            "s.admin",
            json!({"policies": ["root"]}),
            "root tokens may not be created without parent token being root",
        ),
        (
            "create",
            "s.parent",
            json!({"no_parent": true}),
            "root or sudo privileges required to create orphan token",
        ),
        (
            "create/orders",
            "s.parent",
            json!({"policies": ["x"]}),
            "token policies ([\"default\" \"x\"]) must be subset of the role's allowed policies ([\"app\" \"default\"]) or glob policies ([])",
        ),
    ] {
        let said = create(&world, place, token, body);
        assert_eq!((said.status, said.error()), (400, wanted));
        assert!(said.changes.is_empty());
    }
    let denied = create(&world, "create", "s.parent", json!({"ttl": []}));
    assert_eq!(denied.status, 400);
    let unable = World::in_outage().token("s.app", &["app"]).open();
    assert_eq!(
        create(&unable, "create", "s.app", json!({"ttl": []})).status,
        403
    );
    let read = world
        .ask("GET", "/v1/auth/token/create")
        .token("s.admin")
        .said();
    assert_eq!(read.status, 403);
    let path = create(&world, "create/a/b", "s.parent", json!({}));
    assert_eq!(
        (path.status, path.error()),
        (404, "1 error occurred:\n\t* unsupported path\n\n")
    );
}

#[test]
fn a_batch_token_creates_none() {
    let world = World::in_outage()
        .token_as("b.batch", &["parent"], |grant| {
            grant.facts.kind = shared::token::TokenKind::Batch;
        })
        .open();
    let said = create(&world, "create", "b.batch", json!({}));
    assert_eq!(
        (said.status, said.error()),
        (400, "batch tokens cannot create more tokens")
    );
}

#[test]
fn whoever_asks_a_child_has_no_policy_that_was_not_proven_for_its_workload() {
    let world = world().and(proven(&["app", "default"])).open();
    let refused = |place: &str, token: &str, body: Value| {
        let said = create(&world, place, token, body);
        assert_eq!(said.status, 503, "{place} {token}: {}", said.text);
        assert!(said.changes.is_empty());
        assert!(
            said.error().contains("no more than that"),
            "{}",
            said.error()
        );
    };
    for place in ["create", "create-orphan"] {
        // Given with sudo, and inherited.
        refused(place, "s.admin", json!({"policies": ["other"]}));
        refused(
            place,
            "s.admin",
            json!({"policies": ["app", "other"], "no_default_policy": true}),
        );
        refused(place, "s.admin", json!({}));
        refused(place, "s.parent", json!({"policies": ["parent"]}));
        refused(place, "s.parent", json!({}));
        let said = create(&world, place, "s.admin", json!({"policies": ["app"]}));
        assert_eq!(made(&said).facts.policies, names(&["app", "default"]));
    }
    let said = create(&world, "create/orders", "s.parent", json!({}));
    assert_eq!(made(&said).facts.policies, names(&["app", "default"]));
    let bare = self::world().and(proven(&["app"])).open();
    let body = |bare| json!({"policies": ["app"], "no_default_policy": bare});
    assert_eq!(create(&bare, "create", "s.admin", body(false)).status, 503);
    assert_eq!(create(&bare, "create", "s.admin", body(true)).status, 200);
}

#[test]
fn a_role_of_another_workload_gives_no_more_than_was_proven_for_ones_own() {
    let other = authority_as("billing", T0, |authority| {
        authority.role.allowed_policies = names(&["app", "other"]);
        authority.standing.policies = names(&["app", "other"]);
    });
    let world = world().and(proven(&["app", "default"])).and(other).open();
    let through = |policies: Value| {
        let body = json!({"policies": policies, "no_default_policy": true});
        create(&world, "create/billing", "s.parent", body)
    };
    assert_eq!(through(json!(["other"])).status, 503);
    assert_eq!(through(json!(["app"])).status, 200);
}

#[test]
fn policies_of_an_identity_count_as_well_and_what_names_one_was_proven_for_that_one() {
    let entity = |name: &str| Some(shared::name::EntityId::parse(name).unwrap());
    const BY_IDENTITY: &str = r#"path "x/{{identity.entity.id}}" { capabilities = ["read"] }"#;
    const CREATES: &str = r#"path "auth/token/create*" { capabilities = ["update"] }"#;
    let texts = [
        ("app", BY_IDENTITY),
        ("default", CREATES),
        ("other", ""),
        ("plain", ""),
    ];
    let said = |own: Option<shared::name::EntityId>, adds: &[&str], policy: &str| {
        let mut identity = crate::samples::identity("somebody");
        if let Some(entity) = &mut identity.entity {
            entity.policies = adds.iter().map(ToString::to_string).collect();
        }
        let known = own
            .clone()
            .map(|own| Change::Identity(own, Box::new(identity), T0));
        let world = World::in_outage()
            .and(crate::samples::policies(&texts, T0))
            .and(authority_as("orders", T0, |authority| {
                authority.standing.policies = names(&["app", "default", "plain"]);
                authority.standing.entity_id = entity("e-1");
            }))
            .token_as("s.somebody", &[policy, "default"], |grant| {
                grant.facts.entity_id = own.clone();
            });
        let world = known.into_iter().fold(world, World::and).open();
        create(&world, "create", "s.somebody", json!({})).status
    };
    assert_eq!(said(entity("e-1"), &[], "app"), 200);
    assert_eq!(
        said(entity("e-1"), &["other"], "app"),
        200,
        "its workload's own identity"
    );
    assert_eq!(said(entity("e-2"), &[], "app"), 503, "by another identity");
    assert_eq!(said(entity("e-2"), &[], "plain"), 200);
    assert_eq!(
        said(entity("e-2"), &["other"], "plain"),
        503,
        "what that adds was not proven"
    );
    assert_eq!(said(None, &[], "app"), 200);
}

#[test]
fn what_is_not_modelled_is_503_with_a_text_of_its_own() {
    let world = world().open();
    let mut texts = Vec::new();
    for (place, body) in [
        ("create", json!({"type": "batch"})),
        ("create", json!({"num_uses": 2})),
        ("create", json!({"period": "1h"})),
        ("create", json!({"id": "chosen"})),
        ("create/unknown", json!({})),
    ] {
        let said = create(&world, place, "s.admin", body);
        assert_eq!(said.status, 503, "{}", said.text);
        assert!(said.changes.is_empty());
        texts.push(said.error().to_owned());
    }
    texts.sort();
    texts.dedup();
    assert_eq!(texts.len(), 5);
}

#[test]
fn the_primarys_warnings_stand_before_the_replicas() {
    let world = world().open();
    let body = json!({"ttl": "10s", "explicit_max_ttl": "5s", "policies": ["gone"], "zed": 1});
    let said = create(&world, "create", "s.admin", body);
    let warnings = said.body["warnings"].as_array().unwrap();
    let (last, before) = warnings.split_last().unwrap();
    assert!(last.as_str().unwrap().contains("outage o-1"));
    assert_eq!(
        before,
        [
            json!(
                "TTL of \"10s\" exceeded the effective max_ttl of \"5s\"; TTL value is capped accordingly"
            ),
            json!("Policy \"gone\" does not exist"),
            json!("Endpoint ignored these unrecognized parameters: [zed]"),
        ]
    );
}

#[test]
fn only_a_workload_that_may_issue_gets_children() {
    let stranger = Peer {
        uid: 7,
        unit: None,
        workloads: vec![],
    };
    let several = Peer {
        workloads: [peer("orders"), peer("billing")]
            .into_iter()
            .flat_map(|peer| peer.workloads)
            .collect(),
        ..peer("orders")
    };
    let opened = world().open();
    for (peer, wanted) in [
        (None, "belongs to a configured workload"),
        (Some(stranger), "belongs to a configured workload"),
        (Some(several.clone()), "several workloads match"),
        (
            Some(peer("billing")),
            "no authority verified recently enough",
        ),
    ] {
        let said = from(&opened, "create", "s.parent", json!({}), peer);
        assert_eq!(said.status, 503);
        assert!(said.error().contains(wanted), "{}", said.error());
        assert!(said.changes.is_empty());
    }
    let given = world()
        .token_as("s.given", &["parent"], |grant| {
            grant.peer = Some(identity_of("orders"))
        })
        .open();
    let said = from(&given, "create", "s.given", json!({}), Some(peer("orders")));
    assert_eq!(said.status, 200, "its token says which workload it is");
    let other = from(
        &given,
        "create",
        "s.given",
        json!({}),
        Some(peer("billing")),
    );
    assert_eq!(other.status, 403);
}

fn refused(change: impl FnOnce(&mut World)) -> String {
    let mut world = world();
    change(&mut world);
    let opened = world.open();
    let said = create(&opened, "create/orders", "s.parent", json!({}));
    assert_eq!(said.status, 503, "{}", said.text);
    assert!(said.changes.is_empty());
    said.error().to_owned()
}

#[test]
fn authority_and_outage_bound_creation_as_they_bind_logins() {
    let settings = |change: fn(&mut Settings)| move |world: &mut World| change(&mut world.settings);
    let disabled = refused(settings(|settings| {
        settings.workloads[0].failover.issue = false
    }));
    assert!(disabled.contains("not enabled for this workload"));
    let old = refused(settings(|settings| {
        settings.bounds.authority_max_age = Duration::from_secs(99);
    }));
    assert!(old.contains("no authority verified recently enough"));
    let moved = refused(|world| {
        let other = authority_as("orders", T0, |authority| {
            authority.role_name = shared::name::RoleName::parse("before").unwrap();
        });
        world.changes.push(other);
    });
    assert!(moved.contains("role is not mirrored"), "{moved}");
    let following = refused(|world| world.changes.push(phase(Phase::Suspect)));
    assert!(following.contains("the primary is in charge"));
    let over = refused(|world| {
        let mut over = outage("o-1");
        over.bound = shared::time::Deadline::after(Duration::from_secs(150), now(0));
        world.changes.push(phase(Phase::Holdover(over)));
    });
    assert!(over.contains("outlived its bounds"));
}

#[test]
fn the_standing_token_creates_nothing() {
    let mut world = world();
    world.settings.workloads[0].auto_token = true;
    let opened = world
        .and(authority_as("orders", T0, |authority| {
            authority.standing.policies = names(&["parent"]);
        }))
        .open();
    let said = opened
        .ask("POST", "/v1/auth/token/create")
        .standing("orders")
        .peer(peer("orders"))
        .body(json!({}))
        .said();
    assert_eq!(said.status, 403);
}
