//! Tokens about themselves and each other.

use std::{collections::BTreeMap, time::Duration};

use serde_json::{Value, json};
use shared::{
    change::{Change, RevocationTarget},
    failover::Phase,
    grant::{Grant, RevokeCause, Settled},
    ledger::EntryKind,
    name::{Accessor, PolicyName},
    time::Deadline,
    token::TokenKind,
};

use super::{
    asked::Said,
    likeness::assert_like,
    world::{HO, Opened, World, outage, peer, phase, replica},
};
use crate::samples::now;

fn world() -> World {
    World::in_outage().token("s.app", &["app", "default"])
}

fn ask(world: &Opened, target: &str, token: &str, body: Value) -> Said {
    ask_at(world, target, token, body, 160)
}

fn ask_at(world: &Opened, target: &str, token: &str, body: Value, at: u64) -> Said {
    let method = match target.ends_with("lookup-self") {
        true => "GET",
        false => "PUT",
    };
    let target = format!("/v1/auth/token/{target}");
    world
        .ask(method, &target)
        .token(token)
        .body(body)
        .peer(peer("orders"))
        .at(at)
        .said()
}

fn renewed(said: &Said) -> &Grant {
    let Some(Change::Grant(grant)) = said.changes.first() else {
        panic!("not renewed: {}", said.text);
    };
    grant
}

#[test]
fn a_look_up_shows_what_the_primary_showed_and_what_remains() {
    let world = World::in_outage()
        .token_as("s.app", &["app", "default"], |grant| {
            grant.facts.orphan = false;
            grant.facts.issue_time = Some("2026-11-22T11:12:44.461281577Z".into());
        })
        .open();
    let said = ask(&world, "lookup-self", "s.app", json!({}));
    assert_eq!(said.body["data"]["ttl"], 3440);
    assert_eq!(said.body["data"]["expire_time"], "2027-01-15T09:00:00Z");
    assert_eq!(said.body["data"]["id"], "s.app");
    assert_eq!(
        ask_at(&world, "lookup-self", "s.app", json!({}), 161).body["data"]["ttl"],
        3439
    );
    assert_like(&said, "token_lookup_self");
    let other = ask(&world, "lookup", "s.app", json!({"token": "s.app"}));
    assert_like(&other, "token_lookup_self");
    let accessor = ask(
        &world,
        "lookup-accessor",
        "s.app",
        json!({"accessor": "accessor-of-s.app"}),
    );
    assert_eq!(accessor.body["data"]["id"], "");
    assert_like(&accessor, "token_lookup_accessor");
}

#[test]
fn roles_metadata_addresses_and_batches_are_shown_as_the_primary_shows_them() {
    let mut changed = world()
        .token_as("s.role", &["app"], |grant| {
            grant.facts.bound_cidrs = vec!["127.0.0.0/8".into()];
            grant.facts.issue_time = Some("t".into());
            grant.facts.path = "auth/token/create/r2/v1-x".into();
            grant.facts.role = Some("r2".into());
        })
        .token_as("b.batch", &["app", "default"], |grant| {
            grant.facts.kind = TokenKind::Batch;
            grant.facts.issue_time = Some("t".into());
            grant.facts.renewable = false;
            grant.facts.orphan = false;
        });
    changed = changed.token_as("s.meta", &["app"], |grant| {
        grant.facts.meta = Some(BTreeMap::from([("role_name".into(), "ns".into())]));
        grant.facts.identity_policies = vec![PolicyName::parse("unseen").unwrap()];
    });
    let world = changed.open();
    let role = ask(&world, "lookup", "s.app", json!({"token": "s.role"}));
    assert_like(&role, "role_token_lookup");
    let mut batch = ask(&world, "lookup-self", "b.batch", json!({}));
    assert_eq!(
        batch.body["data"]["accessor"], "",
        "what it is kept under here is nobody's to see"
    );
    batch.body["data"]["num_uses"] = json!(0);
    assert_like(&batch, "batch_lookup_self");
    let meta = ask(&world, "lookup", "s.app", json!({"token": "s.meta"}));
    assert_eq!(meta.body["data"]["meta"], json!({"role_name": "ns"}));
    assert!(
        meta.body["data"].get("identity_policies").is_none(),
        "there is no entity to have any"
    );
}

#[test]
fn looking_up_what_is_dead_or_unknown_differs() {
    let world = world()
        .token_as("s.short", &["app"], |grant| {
            grant.deadline = Deadline::after(Duration::from_secs(1), now(0));
        })
        .token("s.none", &["default"])
        .open();
    for token in ["s.short", "ho.unknown"] {
        assert_like(
            &ask(&world, "lookup", "s.app", json!({"token": token})),
            "token_lookup_bad",
        );
    }
    let dead = ask(
        &world,
        "lookup-accessor",
        "s.app",
        json!({"accessor": "accessor-of-s.short"}),
    );
    assert_like(&dead, "token_lookup_accessor_bad");
    for (target, body) in [
        ("lookup", json!({"token": "s.x"})),
        ("lookup-accessor", json!({"accessor": "x"})),
    ] {
        assert_eq!(ask(&world, target, "s.app", body.clone()).status, 503);
        assert_like(&ask(&world, target, "s.none", body), "token_lookup_noperm");
    }
    let post = world
        .ask("POST", "/v1/auth/token/lookup-self")
        .token("s.app")
        .said();
    assert_like(&post, "token_lookup_noperm");
}

#[test]
fn renewing_a_token_of_the_primary_returns_what_remains() {
    let world = World::in_outage()
        .token_as("s.app", &["app", "default"], |grant| {
            grant.facts.orphan = false
        })
        .token_as("s.fixed", &["default"], |grant| {
            grant.facts.renewable = false
        })
        .token_as("b.batch", &["default"], |grant| {
            grant.facts.kind = TokenKind::Batch
        })
        .open();
    let said = ask(&world, "renew-self", "s.app", json!({"increment": 36000}));
    assert_eq!(said.body["auth"]["lease_duration"], 3440);
    assert_eq!(said.body["auth"]["client_token"], "s.app");
    assert!(said.warning().ends_with("what is shown is what remains"));
    assert!(said.changes.is_empty());
    assert_like(&said, "token_renew_self");
    let fixed = ask(&world, "renew-self", "s.fixed", json!({}));
    assert_eq!(
        (fixed.status, fixed.error()),
        (400, "lease is not renewable")
    );
    assert_like(
        &ask(&world, "renew-self", "b.batch", json!({})),
        "batch_renew",
    );
    let bad = ask(&world, "renew-self", "s.app", json!({"increment": "abc"}));
    assert_eq!(bad.status, 400);
    for body in ["[]", "{bad"] {
        let said = world
            .ask("PUT", "/v1/auth/token/renew-self")
            .token("s.app")
            .raw(body)
            .said();
        assert_eq!(said.status, 400, "{body}");
    }
    for body in ["null", "  ", ""] {
        let said = world
            .ask("PUT", "/v1/auth/token/renew-self")
            .token("s.app")
            .raw(body)
            .said();
        assert_eq!(said.status, 200, "{body}");
    }
    let form = || {
        let ask = world.ask("PUT", "/v1/auth/token/renew-self");
        ask.token("s.app").raw("increment=60")
    };
    assert_eq!(form().unmodelled("content-type").said().status, 503);
    let malformed = form().said();
    assert_eq!(
        (malformed.status, malformed.error()),
        (
            400,
            "failed to decode JSON input: invalid character 'i' looking for beginning of value"
        )
    );
}

#[test]
fn a_replica_grant_is_renewed_by_its_policy_ttl_and_never_past_its_bounds() {
    let world = replica(world(), Settled::Not).open();
    let said = ask(&world, "renew-self", HO, json!({}));
    assert_eq!(said.body["auth"]["lease_duration"], 900);
    let grant = renewed(&said);
    assert_eq!(grant.deadline.remaining(now(160)), Duration::from_secs(900));
    assert_eq!(
        grant.facts.last_renewal_time,
        Some(now(160).steady.as_secs())
    );
    let expects = &said.expects;
    let relied = (expects.epoch, expects.settings, expects.issues);
    assert_eq!(relied, (Some(7), Some(0), true));
    assert_eq!(said.expects.live, [world.digest(HO)]);
    let Some(Change::Ledger(entry)) = said.changes.get(1) else {
        panic!("no entry");
    };
    assert_eq!(
        (entry.kind, entry.ttl_seconds),
        (EntryKind::Renewal, Some(900))
    );
    assert_eq!(entry.deadline, Some(grant.deadline.wall));
    let shorter = ask(&world, "renew-self", HO, json!({"increment": "1m"}));
    assert_eq!(shorter.body["auth"]["lease_duration"], 60);
    let longer = ask(&world, "renew-self", HO, json!({"increment": 5000}));
    assert_eq!(longer.body["auth"]["lease_duration"], 900);
    let late = ask_at(&world, "renew-self", HO, json!({}), 900);
    assert_eq!(
        late.body["auth"]["lease_duration"], 400,
        "the longest life ends at 1300"
    );
}

#[test]
fn the_outage_bound_and_a_lowered_configuration_bind_renewals_too() {
    let mut near = outage("o-1");
    near.bound = Deadline::after(Duration::from_secs(200), now(0));
    let world = replica(world(), Settled::Not)
        .and(phase(Phase::Holdover(near)))
        .open();
    assert_eq!(
        ask(&world, "renew-self", HO, json!({})).body["auth"]["lease_duration"],
        40
    );
    let over = ask_at(&world, "renew-self", HO, json!({}), 200);
    assert!(over.error().ends_with("the outage has outlived its bounds"));
    let mut lowered = replica(self::world(), Settled::Not);
    lowered.settings.workloads[0].failover.max_ttl = Duration::from_secs(100);
    assert_eq!(
        ask(&lowered.open(), "renew-self", HO, json!({})).body["auth"]["lease_duration"],
        40
    );
    let mut taken = replica(self::world(), Settled::Not);
    taken.settings.workloads[0].failover.issue = false;
    assert_eq!(ask(&taken.open(), "renew-self", HO, json!({})).status, 503);
}

#[test]
fn an_exchanged_token_is_a_primary_token_of_its_peer() {
    let behind = Accessor::parse("behind").unwrap();
    let exchanged = || replica(World::in_outage(), Settled::Exchanged(behind.clone()));
    let world = exchanged()
        .and(phase(Phase::Holdover(outage("o-2"))))
        .open();
    let renewed = ask(&world, "renew-self", HO, json!({}));
    assert_eq!(renewed.body["auth"]["lease_duration"], 840);
    assert_eq!(renewed.body["auth"]["client_token"], HO);
    assert!(renewed.changes.is_empty());
    let revoked = ask(&world, "revoke-self", HO, json!({}));
    let queued = revoked.changes.iter().find_map(|change| match change {
        Change::Queue(queued) => Some(queued.target.clone()),
        _ => None,
    });
    assert_eq!(queued, Some(RevocationTarget::Token(behind.clone())));
    let stranger = world
        .ask("GET", "/v1/auth/token/lookup-self")
        .token(HO)
        .peer(peer("billing"))
        .said();
    assert_eq!(stranger.status, 403);
    let following = exchanged().and(phase(Phase::Suspect)).open();
    let said = ask(&following, "renew-self", HO, json!({}));
    assert_eq!((said.status, said.error()), (400, "lease is not renewable"));
}

#[test]
fn revoking_oneself_is_at_once_here_and_queued_for_the_primarys_own() {
    let world = replica(world(), Settled::Not)
        .token_as("b.batch", &["default"], |grant| {
            grant.facts.kind = TokenKind::Batch
        })
        .open();
    for (token, queued) in [("s.app", true), (HO, false)] {
        let said = ask(&world, "revoke-self", token, json!({}));
        assert_eq!((said.status, said.text.as_str()), (204, ""));
        let Some(Change::Revoked(revocation)) = said.changes.first() else {
            panic!("not revoked");
        };
        assert_eq!(
            (revocation.digest, revocation.cause),
            (world.digest(token), RevokeCause::Requested)
        );
        let queue = said.changes.iter().any(|change| {
            matches!(change, Change::Queue(queue) if queue.requested_by == Some(world.digest(token)))
        });
        assert_eq!(queue, queued);
        let entry = said.changes.iter().find_map(|change| match change {
            Change::Ledger(entry) => Some(entry),
            _ => None,
        });
        assert_eq!(entry.unwrap().kind, EntryKind::Revocation);
    }
    assert_like(
        &ask(&world, "revoke-self", "b.batch", json!({})),
        "batch_revoke",
    );
}
