//! Tokens that the primary has not proven since the last outage: nothing is decided by them, or by what hangs on them.

use serde_json::json;
use shared::{
    change::{Change, PhaseRecord},
    failover::Phase,
    grant::{Grant, Settled},
    name::Accessor,
};

use super::world::{HO, Opened, World, authority, identity_of, outage, peer, replica};
use crate::samples::{T0, now};

/// The recovery that ended the last outage began then, the outage that there is after it.
const FROM: u64 = 50;

fn since(phase: Phase) -> Change {
    Change::Phase(PhaseRecord {
        phase,
        epoch: 7,
        proven_from: Some(now(FROM).steady),
    })
}

fn in_outage(world: World) -> World {
    world.and(since(Phase::Holdover(outage("o-1"))))
}

fn proven(at: u64) -> impl FnOnce(&mut Grant) {
    move |grant| grant.verified_at = now(at).steady
}

fn read(world: &Opened, token: &str) -> (u16, String) {
    let said = world
        .ask("GET", "/v1/secret/data/app/a")
        .token(token)
        .peer(peer("orders"))
        .said();
    (said.status, said.text)
}

#[test]
fn a_token_counts_only_if_it_was_proven_since_the_last_outage() {
    let world = |world: World| {
        world
            .token_as("s.before", &["app"], proven(FROM - 1))
            .token_as("s.since", &["app"], proven(FROM))
            .token_as("s.attested", &["app"], |grant| {
                grant.peer = Some(identity_of("orders"));
                grant.verified_at = now(FROM - 1).steady;
            })
            .secret("app/a", 1)
    };
    // Also where the primary is in charge, and the replica answers for it.
    let following = world(World::following().and(since(Phase::Following))).open();
    let outage = in_outage(world(World::in_outage())).open();
    for world in [&following, &outage] {
        assert_eq!(read(world, "s.since").0, 200);
        for token in ["s.before", "s.attested"] {
            let (status, text) = read(world, token);
            assert_eq!(status, 503, "{token}: {text}");
            assert!(text.contains("since the last outage"), "{text}");
        }
    }
    let named = |kind: &str, body| {
        let target = format!("/v1/{kind}");
        let asked = outage.ask("POST", &target).token("s.since").body(body);
        asked.said().status
    };
    let token = json!({"token": "s.before"});
    assert_eq!(named("auth/token/lookup", token.clone()), 503);
    assert_eq!(
        named(
            "sys/capabilities",
            json!({"token": "s.before", "path": "x"})
        ),
        503
    );
    assert_eq!(named("auth/token/lookup", json!({"token": "s.since"})), 200);
}

#[test]
fn what_hangs_on_a_token_that_was_not_proven_since_is_undecidable_too() {
    let world = |parent_at: u64, settled: Settled, own_at: u64| {
        let world = World::in_outage().token_as("s.parent", &["app"], proven(parent_at));
        let mut world = in_outage(replica(world, settled)).secret("app/a", 1);
        let parent = world.keys.token_digest("s.parent");
        for change in &mut world.changes {
            if let Change::Grant(grant) = change
                && grant.is_replica()
            {
                grant.parent = Some(parent);
                grant.verified_at = now(own_at).steady;
            }
        }
        read(&world.open(), HO).0
    };
    let exchanged = || Settled::Exchanged(Accessor::parse("behind").unwrap());
    for settled in [Settled::Not, Settled::Draining] {
        assert_eq!(world(FROM - 1, settled.clone(), 0), 503);
        assert_eq!(
            world(FROM, settled, 0),
            200,
            "no proof of its own is needed"
        );
    }
    assert_eq!(world(FROM, exchanged(), FROM), 200);
    assert_eq!(world(FROM, exchanged(), FROM - 1), 503);
    assert_eq!(world(FROM - 1, exchanged(), FROM), 503);
}

#[test]
fn the_standing_token_counts_only_if_its_workload_was_verified_since() {
    let world = |at: u64| {
        let mut world = in_outage(World::in_outage())
            .and(authority("orders", now(at).steady))
            .secret("app/a", 1);
        world.settings.workloads[0].auto_token = true;
        let world = world.open();
        let asked = world.ask("GET", "/v1/secret/data/app/a");
        asked.standing("orders").peer(peer("orders")).said().status
    };
    assert!(T0 < now(FROM).steady);
    assert_eq!(world(FROM - 1), 503);
    assert_eq!(world(FROM), 200);
}

#[test]
fn a_workload_logs_in_only_if_its_authority_was_verified_since() {
    let login = |at: u64| {
        let world = in_outage(World::in_outage()).and(authority("orders", now(at).steady));
        let said = world
            .open()
            .ask("PUT", "/v1/auth/holdover/login")
            .body(json!({"role": "orders"}))
            .peer(peer("orders"))
            .said();
        (said.status, said.text)
    };
    assert_eq!(login(FROM).0, 200);
    let (status, text) = login(FROM - 1);
    assert_eq!(status, 503, "{text}");
    assert!(text.contains("since the last outage"), "{text}");
}
