//! Tokens that are bound to a peer: attested, replica, draining and standing ones.

use std::time::Duration;

use serde_json::json;
use shared::{change::Change, grant::Settled, name::WorkloadName, workload::OnFailover};

use super::world::{HO, Opened, World, identity_of, peer, replica};

#[test]
fn a_token_obtained_by_attestation_is_its_peers_alone_in_an_outage() {
    let attested = |world: World| {
        let world = world.token_as("s.minted", &["app"], |grant| {
            grant.peer = Some(identity_of("orders"))
        });
        world.secret("app/a", 1).open()
    };
    let read = |world: &Opened, peer| {
        world
            .ask("GET", "/v1/secret/data/app/a")
            .token("s.minted")
            .peer(peer)
            .said()
            .status
    };
    let world = attested(World::in_outage());
    assert_eq!(read(&world, peer("orders")), 200);
    assert_eq!(read(&world, peer("billing")), 403);
    let following = attested(World::following());
    assert_eq!(
        read(&following, peer("billing")),
        503,
        "there the primary decides"
    );
}

#[test]
fn workloads_that_must_log_in_anew_use_no_older_token_until_they_did() {
    let strict = |world: World| {
        let mut world = world
            .token_as("s.minted", &["app"], |grant| {
                grant.peer = Some(identity_of("orders"))
            })
            .token("s.brought", &["app"])
            .secret("app/a", 1);
        world.settings.workloads[0].failover.on_failover = OnFailover::Reauthenticate;
        world.open()
    };
    let read = |world: &Opened, token, workload: &str| {
        world
            .ask("GET", "/v1/secret/data/app/a")
            .token(token)
            .peer(peer(workload))
            .said()
    };
    let world = strict(World::in_outage());
    for token in ["s.minted", "s.brought"] {
        let said = read(&world, token, "orders");
        assert_eq!(said.status, 403);
        assert!(said.error().ends_with("log in again"));
    }
    assert_eq!(
        read(&world, "s.brought", "billing").status,
        200,
        "another workload's affair"
    );
    let logged_in = strict(replica(World::in_outage(), Settled::Not));
    for token in ["s.minted", "s.brought", HO] {
        assert_eq!(read(&logged_in, token, "orders").status, 200, "{token}");
    }
    assert_eq!(
        read(&strict(World::following()), "s.minted", "orders").status,
        200
    );
}

#[test]
fn the_standing_token_serves_its_workload_and_shows_itself_to_nobody() {
    let world = World::in_outage().secret("app/a", 1).open();
    let ask = |method, target, peer_of: &str, at| {
        world
            .ask(method, target)
            .standing("orders")
            .peer(peer(peer_of))
            .at(at)
            .said()
    };
    assert_eq!(
        ask("GET", "/v1/secret/data/app/a", "orders", 160).status,
        200
    );
    assert_eq!(
        ask("GET", "/v1/secret/data/app/a", "billing", 160).status,
        403
    );
    let shown = ask("GET", "/v1/auth/token/lookup-self", "orders", 160);
    assert_eq!(
        (&shown.body["data"]["id"], &shown.body["data"]["ttl"]),
        (&json!(""), &json!(3440))
    );
    let renewed = ask("PUT", "/v1/auth/token/renew-self", "orders", 160);
    assert_eq!(renewed.body["auth"]["client_token"], "");
    let revoked = ask("PUT", "/v1/auth/token/revoke-self", "orders", 160);
    assert_eq!(
        (revoked.status, revoked.error()),
        (403, "permission denied")
    );
    assert!(revoked.changes.is_empty());
    let ended = ask("GET", "/v1/secret/data/app/a", "orders", 3600);
    assert_eq!(ended.status, 403);
    assert!(ended.error().ends_with("log in again"));
}

#[test]
fn the_standing_token_is_held_to_what_every_token_is() {
    let ask = |world: World| {
        let world = world.secret("app/a", 1).open();
        let ask = world
            .ask("GET", "/v1/secret/data/app/a")
            .standing("orders")
            .peer(peer("orders"));
        ask.said().status
    };
    let with = |change: fn(&mut World)| {
        let mut world = World::in_outage();
        change(&mut world);
        ask(world)
    };
    assert_eq!(with(|_| {}), 200);
    assert_eq!(
        with(|world| world.settings.workloads[0].auto_token = false),
        403
    );
    assert_eq!(
        with(|world| world.settings.bounds.token_max_age = Duration::from_secs(99)),
        503
    );
    assert_eq!(
        with(|world| world.settings.workloads[0].failover.on_failover = OnFailover::Reauthenticate),
        403
    );
    assert_eq!(
        with(|world| world
            .changes
            .retain(|change| !matches!(change, Change::Authority(_)))),
        503
    );
    let both = {
        let world = World::in_outage().secret("app/a", 1).open();
        let mut both = peer("orders");
        both.workloads.push(WorkloadName::parse("billing").unwrap());
        world
            .ask("GET", "/v1/secret/data/app/a")
            .standing("orders")
            .peer(both)
            .said()
            .status
    };
    assert_eq!(both, 403, "only a peer of exactly one workload has one");
}
