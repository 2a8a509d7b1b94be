//! Which tokens are good, and whose identity they carry.

use std::time::Duration;

use shared::{
    change::Change,
    grant::{Origin, Revocation, RevokeCause},
    identity::{Entity, Identity},
    name::EntityId,
    time::{Deadline, WallTime},
};

use super::{
    likeness::assert_like,
    world::{CUTOVER, World},
};
use crate::samples::{T0, now};

fn world() -> World {
    World::in_outage().token("s.app", &["app", "default"])
}

#[test]
fn dead_tokens_are_refused_as_the_primary_refuses_them() {
    let revoked = world().token_as("s.gone", &["app"], |_| {});
    let digest = revoked.digest("s.gone");
    let revocation = Revocation {
        digest,
        accessor: shared::name::Accessor::parse("accessor-of-s.gone").unwrap(),
        cause: RevokeCause::Primary,
        at: T0,
    };
    let world = revoked
        .and(Change::Revoked(revocation))
        .token_as("s.short", &["app"], |grant| {
            grant.deadline = Deadline::after(Duration::from_secs(160), now(0));
        })
        .open();
    for token in ["s.gone", "s.short"] {
        for target in [
            "/v1/secret/data/app/a",
            "/v1/elsewhere",
            "/v1/auth/token/lookup-self",
        ] {
            let said = world.ask("GET", target).token(token).said();
            assert_like(&said, "expired_use");
        }
        // Whether a namespace exists, and has such a path, is said before the token is looked at: 404 and 400.
        let elsewhere = world.ask("LIST", "/v1/sys/config/cors").token(token);
        assert_eq!(elsewhere.namespace("team").said().status, 503);
    }
    let alive = world
        .ask("GET", "/v1/secret/data/app/a")
        .token("s.short")
        .at(159)
        .said();
    assert_eq!(alive.status, 404);
}

#[test]
fn a_token_that_the_primary_refused_is_undecidable_with_all_that_hangs_on_it() {
    let refused_at = Some(now(10).steady);
    let asked = |doubted: Option<WallTime>, ended: Option<RevokeCause>| {
        let world = world().token_as("s.parent", &["app"], |grant| grant.doubted_at = doubted);
        let parent = world.digest("s.parent");
        let world = world.token_as("s.child", &["app"], |grant| grant.parent = Some(parent));
        let accessor = shared::name::Accessor::parse("accessor-of-s.parent").unwrap();
        let ended = ended.map(|cause| Revocation {
            digest: parent,
            accessor,
            cause,
            at: T0,
        });
        let world = match ended {
            Some(revocation) => world.and(Change::Revoked(revocation)),
            None => world,
        };
        let world = world.open();
        ["s.parent", "s.child"].map(|token| {
            let said = world.ask("GET", "/v1/secret/data/app/a").token(token);
            said.said().status
        })
    };
    assert_eq!(asked(None, None), [404, 404]);
    assert_eq!(asked(Some(T0), None), [404, 404], "proven since");
    assert_eq!(asked(refused_at, None), [503, 503]);
    assert_eq!(
        asked(refused_at, Some(RevokeCause::Primary)),
        [403, 403],
        "its look-up has told"
    );
    assert_eq!(
        asked(refused_at, Some(RevokeCause::Orphaning)),
        [403, 404],
        "it hangs on nothing any more"
    );
}

#[test]
fn a_token_of_a_namespace_that_was_configured_before_is_undecidable() {
    let world = world()
        .token_as("s.elsewhere", &["app"], |grant| {
            grant.namespace = shared::name::Namespace::parse("team");
        })
        .open();
    let read = world.ask("GET", "/v1/secret/data/app/a");
    let said = read.token("s.elsewhere").said();
    assert_eq!(said.status, 503);
    assert!(said.error().contains("namespace"), "{}", said.error());
}

#[test]
fn a_token_that_the_primary_proved_too_long_before_the_cutover_is_undecidable() {
    let cutover = now(CUTOVER).wall;
    let world = world()
        .token_as("s.old", &["app"], |grant| {
            grant.verified_at = cutover.minus(Duration::from_secs(3601));
        })
        .token_as("s.just", &["app"], |grant| {
            grant.verified_at = cutover.minus(Duration::from_secs(3600));
        })
        .open();
    let said = world
        .ask("GET", "/v1/secret/data/app/a")
        .token("s.old")
        .said();
    assert_eq!(said.status, 503);
    assert!(said.error().contains("not verified recently enough"));
    let said = world
        .ask("GET", "/v1/secret/data/app/a")
        .token("s.just")
        .said();
    assert_eq!(said.status, 404);
}

#[test]
fn tokens_that_only_the_primary_can_judge_say_why() {
    let world = world()
        .token_as("s.uses", &[], |grant| grant.origin = Origin::LimitedUse)
        .token_as("s.cidr", &["app"], |grant| {
            grant.facts.bound_cidrs = vec!["10.0.0.0/8".into()];
        })
        .token("s.broken", &["app", "broken"])
        .token("s.root", &["root"])
        .open();
    for (token, text) in [
        ("s.uses", "limited number of uses"),
        ("s.cidr", "bound to addresses"),
        ("s.broken", "policy \"broken\" cannot be read"),
        ("s.root", "root tokens are not served"),
    ] {
        let said = world
            .ask("GET", "/v1/secret/data/app/a")
            .token(token)
            .said();
        assert_eq!(said.status, 503, "{token}");
        assert!(said.error().contains(text), "{token}: {}", said.error());
    }
}

#[test]
fn a_token_known_only_from_its_login_is_good() {
    let world = world()
        .token_as("s.new", &["app"], |grant| grant.origin = Origin::Learned)
        .secret("app/a", 1)
        .open();
    let said = world
        .ask("GET", "/v1/secret/data/app/a")
        .token("s.new")
        .said();
    assert_eq!(said.status, 200);
}

#[test]
fn identities_decide_as_they_do_at_the_primary() {
    let entity = |name: &str, disabled| Identity {
        entity: Some(Entity {
            id: "e".into(),
            name: name.into(),
            policies: vec!["named".into()],
            disabled,
            ..Entity::default()
        }),
        groups: Vec::new(),
    };
    let ask = |identity: Identity, path: &str| {
        let id = EntityId::parse("e").unwrap();
        let world = World::in_outage()
            .token_as("s.of", &["default"], |grant| {
                grant.facts.entity_id = Some(id.clone())
            })
            .and(Change::Identity(id.clone(), Box::new(identity), T0))
            .secret("app/a", 1)
            .open();
        let said = world.ask("GET", path).token("s.of").said();
        (said.status, said.text)
    };
    assert_eq!(ask(entity("app", false), "/v1/secret/data/app/a").0, 200);
    assert_eq!(ask(entity("shop", false), "/v1/secret/data/app/a").0, 403);
    assert_eq!(
        ask(entity("app", true), "/v1/secret/data/app/a"),
        (403, "{\"errors\":[\"permission denied\"]}\n".into())
    );
    let vanished = ask(Identity::default(), "/v1/secret/data/app/a");
    assert_eq!(
        vanished,
        (403, "{\"errors\":[\"permission denied\"]}\n".into())
    );
    let forbidden = (400, "{\"errors\":[\"Forbidden\"]}\n".to_owned());
    assert_eq!(
        ask(entity("a/b", false), "/v1/secret/data/app/a"),
        forbidden
    );
    assert_eq!(
        ask(entity("a/b", false), "/v1/auth/token/lookup-self"),
        forbidden
    );
    // The policies are put together before the entity is looked at.
    assert_eq!(ask(entity("a/b", true), "/v1/secret/data/app/a"), forbidden);
    assert_eq!(
        ask(entity("a/b", false), "/v1/sys/internal/ui/mounts/secret"),
        (403, forbidden.1)
    );
}

#[test]
fn what_is_wrong_with_another_token_is_no_fault_of_the_caller() {
    let ask = |name: &str, disabled| {
        let id = EntityId::parse("e").unwrap();
        let entity = Entity {
            id: "e".into(),
            name: name.into(),
            disabled,
            ..Entity::default()
        };
        let identity = Identity {
            entity: Some(entity),
            groups: Vec::new(),
        };
        let world = World::in_outage()
            .token("s.app", &["app"])
            .token_as("s.of", &["named"], |grant| {
                grant.facts.entity_id = Some(id.clone())
            })
            .and(Change::Identity(id.clone(), Box::new(identity), T0))
            .open();
        let said = world
            .ask("POST", "/v1/sys/capabilities-accessor")
            .token("s.app")
            .body(serde_json::json!({"accessor": "accessor-of-s.of", "path": "x"}))
            .said();
        (said.status, said.text)
    };
    assert_eq!(ask("a", false).0, 200);
    let (status, text) = ask("a", true);
    assert!(status == 400 && text.contains("* invalid token"), "{text}");
    let (status, text) = ask("a/b", false);
    assert!(
        status == 503 && text.contains("policies contradict each other"),
        "{text}"
    );
}

#[test]
fn a_token_of_an_entity_not_yet_mirrored_has_what_the_primary_showed_with_it() {
    let world = World::in_outage()
        .token_as("s.new", &["default"], |grant| {
            grant.facts.entity_id = Some(EntityId::parse("e").unwrap());
            grant.facts.identity_policies = super::world::names(&["app"]);
        })
        .token_as("s.named", &["app", "named"], |grant| {
            grant.facts.entity_id = Some(EntityId::parse("e").unwrap());
        })
        .secret("app/a", 1)
        .open();
    let ask = |token, target| world.ask("GET", target).token(token).said();
    assert_eq!(ask("s.new", "/v1/secret/data/app/a").status, 200);
    let templated = ask("s.named", "/v1/secret/data/app/a");
    assert_eq!(templated.status, 503);
    assert!(
        templated
            .error()
            .contains("a rule for paths below \"secret/data/\" is not modelled")
    );
    assert_eq!(
        ask("s.named", "/v1/secret/metadata/app/?list=true").status,
        200
    );
}
