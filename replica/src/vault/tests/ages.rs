//! Policies, mounts and identities that the primary did not show recently enough before the outage decide nothing in it.

use std::time::Duration;

use serde_json::json;
use shared::{
    change::{Change, PhaseRecord},
    failover::Phase,
    grant::Grant,
    identity::{Entity, Identity},
    name::{EntityId, PolicyName},
    time::WallTime,
};

use super::{
    asked::Said,
    world::{CUTOVER, World, authority, outage, peer},
};
use crate::samples::T0;

/// How old what decides may be, in seconds: less than what [`World`] knows from `T0` is at the cutover.
const MAX: u64 = 60;

/// Good at the cutover, and older than [`MAX`] by the time of the questions.
fn recent() -> WallTime {
    T0.plus(Duration::from_secs(CUTOVER - MAX))
}

fn too_old() -> WallTime {
    T0.plus(Duration::from_secs(CUTOVER - MAX - 1))
}

/// When each of them was verified.
struct Seen {
    identity: WallTime,
    mounts: WallTime,
    policies: WallTime,
    /// The policy `app` alone.
    policy: Option<WallTime>,
}

fn all(at: WallTime) -> Seen {
    Seen {
        identity: at,
        mounts: at,
        policies: at,
        policy: None,
    }
}

/// An outage that began when each was as old as that; in it a token of an entity, and one of none.
fn world(seen: &Seen) -> World {
    let mut world = World::in_outage();
    world.settings.bounds.policy_max_age = Duration::from_secs(MAX);
    for change in &mut world.changes {
        match change {
            Change::Cluster(cluster) => cluster.verified_at = seen.mounts,
            Change::Policies(set) => {
                set.verified_at = seen.policies;
                let app = PolicyName::parse("app").unwrap();
                set.unread = seen.policy.iter().map(|at| (app.clone(), *at)).collect();
            }
            _ => {}
        }
    }
    let entity = EntityId::parse("e").unwrap();
    let identity = Identity {
        entity: Some(Entity {
            id: "e".into(),
            ..Entity::default()
        }),
        groups: Vec::new(),
    };
    world
        .and(Change::Identity(
            entity.clone(),
            Box::new(identity),
            seen.identity,
        ))
        .and(authority("orders", T0.plus(Duration::from_secs(CUTOVER))))
        .token("s.app", &["app"])
        .token("s.default", &["default"])
        .token_as("s.of", &["app"], |grant| {
            grant.facts.entity_id = Some(entity)
        })
        .secret("app/a", 1)
}

fn read(seen: &Seen, token: &str) -> Said {
    let world = world(seen).open();
    let said = world.ask("GET", "/v1/secret/data/app/a").token(token);
    said.said()
}

fn undecided(said: &Said, what: &str) {
    assert_eq!(said.status, 503, "{}", said.text);
    let text =
        format!("; {what}: not verified within 1m before the outage (failover.policy_max_age)");
    assert!(said.error().ends_with(&text), "{}", said.error());
}

#[test]
fn what_was_good_at_the_cutover_is_good_for_the_whole_outage() {
    assert_eq!(read(&all(recent()), "s.app").status, 200);
    assert_eq!(read(&all(recent()), "s.of").status, 200);
}

#[test]
fn policies_that_were_not_read_for_too_long_decide_for_nobody() {
    let seen = Seen {
        policies: too_old(),
        ..all(recent())
    };
    for token in ["s.app", "s.default", "s.of"] {
        undecided(&read(&seen, token), "policies");
    }
    let world = world(&seen).open();
    let ask = |method, target| world.ask(method, target).token("s.app");
    for (method, target) in [
        ("GET", "/v1/auth/token/lookup-self"),
        ("GET", "/v1/sys/internal/ui/mounts/secret"),
        ("GET", "/v1/sys/internal/ui/mounts"),
    ] {
        undecided(&ask(method, target).said(), "policies");
    }
    let capabilities = ask("POST", "/v1/sys/capabilities-self");
    undecided(&capabilities.body(json!({"path": "x"})).said(), "policies");
}

#[test]
fn one_policy_that_was_not_read_for_too_long_is_no_matter_of_tokens_without_it() {
    let seen = Seen {
        policy: Some(too_old()),
        ..all(recent())
    };
    undecided(&read(&seen, "s.app"), "policy app");
    assert_eq!(read(&seen, "s.default").status, 403);
    let world = world(&seen).open();
    let looked_up = world.ask("GET", "/v1/auth/token/lookup-self");
    assert_eq!(looked_up.token("s.default").said().status, 200);
    let asked = world.ask("POST", "/v1/sys/capabilities-accessor");
    let asked = asked.token("s.default").said();
    assert_eq!(asked.status, 403, "{}", asked.text);
}

#[test]
fn an_identity_that_was_not_read_for_too_long_is_no_matter_of_other_tokens() {
    let seen = Seen {
        identity: too_old(),
        ..all(recent())
    };
    undecided(&read(&seen, "s.of"), "identity of entity e");
    assert_eq!(read(&seen, "s.app").status, 200);
}

#[test]
fn a_row_from_before_ages_were_kept_counts_as_never_verified() {
    let seen = Seen {
        identity: WallTime::EPOCH,
        ..all(recent())
    };
    undecided(&read(&seen, "s.of"), "identity of entity e");
}

#[test]
fn an_identity_that_was_never_read_is_as_old_as_its_token() {
    let ask = |made: WallTime| {
        let world = world(&all(recent())).token_as("s.new", &["app"], |grant| {
            grant.facts.entity_id = Some(EntityId::parse("new").unwrap());
            grant.facts.creation_time = made.as_secs();
        });
        let world = world.open();
        let said = world.ask("GET", "/v1/secret/data/app/a").token("s.new");
        said.said()
    };
    assert_eq!(ask(recent()).status, 200);
    undecided(&ask(too_old()), "identity of entity new");
}

#[test]
fn an_identity_that_was_not_read_since_the_last_outage_may_have_changed_in_it() {
    let read_after = |from: WallTime, token: &str| {
        let phase = Phase::Holdover(outage("o-1"));
        let world = world(&all(recent())).and(Change::Phase(PhaseRecord {
            phase,
            epoch: 7,
            proven_from: Some(from),
        }));
        let (made, at) = (recent().as_secs(), T0.plus(Duration::from_secs(CUTOVER)));
        let new = |name: &'static str| {
            move |grant: &mut Grant| {
                grant.facts.entity_id = Some(EntityId::parse(name).unwrap());
                grant.facts.creation_time = made;
                grant.verified_at = at;
            }
        };
        let world = world.token_as("s.of", &["app"], new("e"));
        let world = world.token_as("s.new", &["app"], new("new")).open();
        let asked = world.ask("GET", "/v1/secret/data/app/a").token(token);
        asked.said()
    };
    let later = recent().plus(Duration::from_secs(1));
    for token in ["s.of", "s.new"] {
        assert_eq!(read_after(recent(), token).status, 200, "{token}");
        let said = read_after(later, token);
        assert_eq!(said.status, 503, "{token}: {}", said.text);
        assert!(said.text.contains("since the last outage"), "{}", said.text);
    }
}

#[test]
fn mounts_that_were_not_read_for_too_long_name_no_place() {
    let seen = Seen {
        mounts: too_old(),
        ..all(recent())
    };
    undecided(&read(&seen, "s.app"), "mounts");
    let world = world(&seen).open();
    let ask = |target| world.ask("GET", target).token("s.app").said();
    undecided(&ask("/v1/sys/internal/ui/mounts"), "mounts");
    undecided(&ask("/v1/sys/internal/ui/mounts/secret"), "mounts");
    undecided(
        &world.ask("GET", "/v1/sys/internal/ui/mounts").said(),
        "mounts",
    );
    // What has nothing to do with them.
    assert_eq!(ask("/v1/auth/token/lookup-self").status, 403);
    let looked_up = world.ask("GET", "/v1/auth/token/lookup-self");
    assert_eq!(looked_up.token("s.default").said().status, 200);
    assert_eq!(world.ask("GET", "/v1/sys/health").said().status, 200);
}

#[test]
fn nothing_is_issued_by_what_decides_nothing() {
    let log_in = |seen: &Seen| {
        let world = world(seen).open();
        let ask = world.ask("PUT", "/v1/auth/holdover/login");
        ask.body(json!({"role": "orders"}))
            .peer(peer("orders"))
            .said()
    };
    assert_eq!(log_in(&all(recent())).status, 200);
    let policies = Seen {
        policies: too_old(),
        ..all(recent())
    };
    undecided(&log_in(&policies), "policies");
    let mounts = Seen {
        mounts: too_old(),
        ..all(recent())
    };
    undecided(&log_in(&mounts), "mounts");
}

#[test]
fn judging_supposes_an_outage_from_now_on() {
    let judge = |seen: &Seen| {
        let world = World {
            changes: world(seen)
                .changes
                .into_iter()
                .filter(|change| !matches!(change, Change::Phase(_)))
                .collect(),
            ..world(seen)
        };
        let world = world.open();
        let judged = world.ask("GET", "/v1/secret/data/app/a").token("s.app");
        judged.judged().response.status
    };
    let now = T0.plus(Duration::from_secs(super::world::NOW - MAX));
    assert_eq!(judge(&all(now)), 200);
    assert_eq!(judge(&all(recent())), 503);
}
