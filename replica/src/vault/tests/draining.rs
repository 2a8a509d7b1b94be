//! Draining tokens, in every state: what they read, what clients do around that, and nothing else.

use serde_json::{Value, json};
use shared::{
    change::Change,
    failover::Phase,
    grant::{RevokeCause, Settled},
    lease::{Assignee, LeaseHolder},
};

use super::{
    asked::Said,
    lease::lease,
    world::{HO, Opened, World, identity_of, outage, peer, phase, replica},
};

fn phases() -> [Phase; 6] {
    [
        Phase::Following,
        Phase::Suspect,
        Phase::Holdover(outage("o-1")),
        Phase::Holdover(outage("o-2")),
        Phase::Recovering(outage("o-2")),
        Phase::Exhausted(outage("o-2")),
    ]
}

fn world(state: Phase) -> World {
    let world = replica(World::in_outage(), Settled::Draining);
    world.secret("app/a", 1).and(phase(state))
}

fn ask(world: &Opened, method: &str, target: &str, body: Value) -> Said {
    let target = format!("/v1/{target}");
    let ask = world.ask(method, &target).token(HO).peer(peer("orders"));
    match body {
        Value::Null => ask.said(),
        body => ask.body(body).said(),
    }
}

#[test]
fn one_reads_what_is_mirrored_and_does_nothing_else() {
    for state in phases() {
        let name = state.name();
        let world = world(state).token("s.app", &["app"]).open();
        for (method, target, body, status) in [
            ("GET", "secret/data/app/a", Value::Null, 200),
            ("GET", "secret/metadata/app/?list=true", Value::Null, 200),
            ("GET", "sys/internal/ui/mounts/secret", Value::Null, 200),
            ("GET", "sys/internal/ui/mounts", Value::Null, 200),
            ("GET", "auth/token/lookup-self", Value::Null, 200),
            ("PUT", "auth/token/renew-self", json!({}), 200),
            ("GET", "elsewhere", Value::Null, 403),
            ("GET", "secret/data/elsewhere/a", Value::Null, 403),
            ("PUT", "secret/data/app/a", json!({"data": {}}), 403),
            ("DELETE", "secret/data/app/a", Value::Null, 403),
            ("PUT", "auth/token/create", json!({}), 403),
            ("PUT", "auth/token/lookup", json!({"token": "s.app"}), 403),
            (
                "PUT",
                "auth/token/lookup-accessor",
                json!({"accessor": "accessor-of-s.app"}),
                403,
            ),
            ("PUT", "auth/token/renew", json!({"token": "s.app"}), 403),
            ("PUT", "auth/token/revoke", json!({"token": "s.app"}), 403),
            ("PUT", "sys/capabilities-self", json!({"path": "x"}), 403),
            (
                "PUT",
                "sys/capabilities",
                json!({"path": "x", "token": "s.app"}),
                403,
            ),
            (
                "PUT",
                "sys/leases/revoke",
                json!({"lease_id": "database/creds/ro/x"}),
                403,
            ),
        ] {
            let said = ask(&world, method, target, body);
            assert_eq!(
                said.status, status,
                "{name}: {method} {target}: {}",
                said.text
            );
            assert!(said.changes.is_empty(), "{name}: {method} {target}");
            if status == 403 {
                assert!(said.error().ends_with("log in again"), "{}", said.error());
            }
        }
        // A policy forbids this one.
        let hidden = ask(&world, "GET", "secret/data/app/hidden", Value::Null);
        assert_eq!(
            (hidden.status, hidden.error()),
            (403, "1 error occurred:\n\t* permission denied\n\n")
        );
    }
}

#[test]
fn renewing_one_tells_what_remains_and_changes_nothing() {
    for state in phases() {
        let name = state.name();
        let world = world(state).open();
        let shown = ask(&world, "GET", "auth/token/lookup-self", Value::Null);
        assert_eq!(shown.body["data"]["ttl"], json!(840), "{name}");
        for body in [json!({}), json!({"increment": "100h"})] {
            let said = ask(&world, "PUT", "auth/token/renew-self", body);
            assert_eq!(
                said.body["auth"]["lease_duration"],
                json!(840),
                "{name}: {}",
                said.text
            );
            assert_eq!(said.body["auth"]["client_token"], json!(HO), "{name}");
            let warnings = said.body["warnings"].to_string();
            assert!(
                warnings.contains("what is shown is what remains"),
                "{name}: {warnings}"
            );
            assert!(said.changes.is_empty(), "{name}");
        }
    }
}

#[test]
fn one_can_be_given_up() {
    for state in phases() {
        let name = state.name();
        let world = world(state).open();
        let said = ask(&world, "PUT", "auth/token/revoke-self", Value::Null);
        assert_eq!(said.status, 204, "{name}: {}", said.text);
        let [Change::Revoked(revocation), Change::Ledger(_)] = said.changes.as_slice() else {
            panic!("{name}: not revoked");
        };
        let itself = (world.digest(HO), RevokeCause::Requested);
        assert_eq!((revocation.digest, revocation.cause), itself, "{name}");
    }
}

#[test]
fn only_its_own_leases_are_looked_up_and_renewed_with_it() {
    for state in phases() {
        let name = state.name();
        let world = world(state);
        let (own, other) = (world.digest(HO), world.digest("s.other"));
        let workload = |of: &str| LeaseHolder::Assigned(Assignee::Workload(identity_of(of)));
        let held = [
            ("shared", LeaseHolder::Shared, true),
            ("taken", workload("orders"), true),
            ("read", LeaseHolder::Token(own), true),
            ("pooled", LeaseHolder::Pooled, false),
            ("taken-by-another", workload("billing"), false),
            (
                "taken-by-a-token",
                LeaseHolder::Assigned(Assignee::Token(other)),
                false,
            ),
            ("read-by-another", LeaseHolder::Token(other), false),
        ];
        let id = |called: &str| format!("database/creds/ro/{called}");
        let leases = held.clone().map(|(called, holder, _)| {
            lease(&id(called), "database/creds/ro", holder, "u", |_| {})
        });
        let world = leases.into_iter().fold(world, World::and).open();
        let asked = held.map(|(called, _, is_own)| (called, is_own));
        for (called, is_own) in asked.into_iter().chain([("unknown", false)]) {
            let body = json!({"lease_id": id(called)});
            let in_path = format!("sys/leases/renew/{}", id(called));
            for said in [
                ask(&world, "PUT", "sys/leases/lookup", body.clone()),
                ask(&world, "PUT", "sys/leases/renew", body.clone()),
                ask(&world, "PUT", &in_path, json!({})),
            ] {
                let expected = if is_own { 200 } else { 403 };
                assert_eq!(said.status, expected, "{name}: {called}: {}", said.text);
                assert!(said.changes.is_empty(), "{name}: {called}");
                if !is_own {
                    assert!(said.error().ends_with("log in again"), "{}", said.error());
                }
            }
            let renewed = ask(&world, "PUT", "sys/leases/renew", body);
            let remains = if is_own { json!(440) } else { Value::Null };
            assert_eq!(renewed.body["lease_duration"], remains, "{name}: {called}");
        }
        // What is wrong with the request is said as to any token.
        let missing = ask(&world, "PUT", "sys/leases/lookup", json!({}));
        assert_eq!(
            (missing.status, missing.error()),
            (400, "lease_id must be specified")
        );
    }
}
