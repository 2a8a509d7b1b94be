//! What tokens do to each other: renewal and revocation by others, and what dies with whom.

use std::time::Duration;

use serde_json::{Value, json};
use shared::{
    change::{Change, RevocationTarget},
    grant::{Grant, Origin, ReplicaGrant, Revocation, RevokeCause, Settled},
    name::Accessor,
    time::Deadline,
};

use super::{
    asked::Said,
    world::{HO, Opened, World, authority_as, peer, replica},
};
use crate::samples::{T0, now};

/// A world with a replica grant, and tokens with and without the right to see to others.
fn world() -> World {
    replica(World::in_outage(), Settled::Not)
        .token("s.app", &["app", "default"])
        .token("s.admin", &["admin", "default"])
}

fn ask(world: &Opened, target: &str, token: &str, body: Value) -> Said {
    let target = format!("/v1/auth/token/{target}");
    let ask = world.ask("PUT", &target).token(token).body(body);
    ask.peer(peer("orders")).said()
}

fn changed(said: &Said) -> &Grant {
    let grants = said.changes.iter().find_map(|change| match change {
        Change::Grant(grant) => Some(grant),
        _ => None,
    });
    grants.unwrap_or_else(|| panic!("no grant: {}", said.text))
}

#[test]
fn a_grant_is_renewed_by_whoever_may_renew_tokens() {
    let opened = world().open();
    let said = ask(
        &opened,
        "renew",
        "s.admin",
        json!({"token": HO, "increment": 60}),
    );
    assert_eq!(said.body["auth"]["lease_duration"], 60);
    assert_eq!(said.body["auth"]["client_token"], HO);
    assert_eq!(changed(&said).digest, opened.digest(HO));
    let accessor = json!({"accessor": format!("accessor-of-{HO}")});
    let said = ask(&opened, "renew-accessor", "s.admin", accessor);
    assert_eq!(said.body["auth"]["client_token"], "");
    assert_eq!(said.body["auth"]["lease_duration"], 900);
    let primary = ask(&opened, "renew", "s.admin", json!({"token": "s.app"}));
    assert_eq!(primary.body["auth"]["lease_duration"], 3440);
    assert!(primary.warning().ends_with("what is shown is what remains"));
    assert!(primary.changes.is_empty());
    let denied = ask(&opened, "renew", "s.app", json!({"token": HO}));
    assert_eq!(denied.status, 403);
}

#[test]
fn a_renewal_without_an_increment_gives_what_was_granted_last() {
    let opened = replica(World::in_outage(), Settled::Not)
        .token("s.admin", &["admin"])
        .open();
    let first = ask(
        &opened,
        "renew",
        "s.admin",
        json!({"token": HO, "increment": 60}),
    );
    let renewed = changed(&first).clone();
    assert_eq!(renewed.replica().unwrap().asked_ms, 60_000);
    let opened = World::in_outage()
        .token("s.admin", &["admin"])
        .and(Change::Grant(Box::new(renewed)))
        .open();
    let again = ask(&opened, "renew", "s.admin", json!({"token": HO}));
    assert_eq!(again.body["auth"]["lease_duration"], 60);
}

#[test]
fn a_renewal_follows_the_role_as_it_is_mirrored_and_warns_where_it_cuts() {
    let through = |role: &str| {
        let role = role.to_owned();
        replica(World::in_outage(), Settled::Not)
            .token("s.admin", &["admin"])
            .and(authority_as("orders", T0, |authority| {
                authority.role.token_explicit_max_ttl = 300;
            }))
            .token_as(HO, &["default"], |grant| {
                grant.facts.role = Some(role);
                grant.peer = Some(super::world::identity_of("orders"));
                grant.origin = replica_from(100, 1200);
            })
            .open()
    };
    let said = ask(
        &through("orders"),
        "renew",
        "s.admin",
        json!({"token": HO, "increment": "1h"}),
    );
    assert_eq!(said.body["auth"]["lease_duration"], 240, "{}", said.text);
    assert_eq!(
        said.body["warnings"][0],
        "TTL of \"1h\" exceeded the effective max_ttl of \"4m\"; TTL value is capped accordingly"
    );
    let gone = ask(&through("gone"), "renew", "s.admin", json!({"token": HO}));
    assert_eq!(gone.status, 503);
    assert!(gone.error().contains("role is not mirrored"));
}

/// A grant issued `at`, that renewals carry `max` seconds further.
fn replica_from(at: u64, max: u64) -> Origin {
    Origin::Replica(ReplicaGrant {
        outage: super::world::outage("o-1").id,
        issued_at: now(at).steady,
        ttl_ms: 900_000,
        asked_ms: 900_000,
        max_deadline: Deadline::after(Duration::from_secs(max), now(at)),
        workload_end: Deadline::after(Duration::from_secs(max), now(at)),
        spared: false,
        of_nobody: false,
        settled: Settled::Not,
        approle: None,
    })
}

#[test]
fn names_of_tokens_are_judged_as_at_the_primary() {
    let opened = world()
        .token("s.gone", &["default"])
        .and(revoked("s.gone", RevokeCause::Requested))
        .open();
    let unknown_ho = HO.replace('0', "1");
    for (target, body, status, text) in [
        ("renew", json!({}), 400, "missing token ID"),
        (
            "renew",
            json!({"token": unknown_ho}),
            400,
            "token not found",
        ),
        ("renew", json!({"token": "s.gone"}), 400, "token not found"),
        (
            "renew-accessor",
            json!({}),
            400,
            "1 error occurred:\n\t* missing accessor\n\n",
        ),
        (
            "renew-accessor",
            json!({"accessor": "accessor-of-s.gone"}),
            400,
            "1 error occurred:\n\t* invalid accessor\n\n",
        ),
        ("revoke", json!({}), 400, "missing token ID"),
        (
            "revoke-orphan",
            json!({"token": "s.gone"}),
            400,
            "token to revoke not found",
        ),
    ] {
        let said = ask(&opened, target, "s.admin", body);
        assert_eq!((said.status, said.error()), (status, text), "{target}");
    }
    assert_eq!(
        ask(&opened, "revoke", "s.admin", json!({"token": "s.gone"})).status,
        204
    );
    let accessor = json!({"accessor": "accessor-of-s.gone"});
    let said = ask(&opened, "revoke-accessor", "s.admin", accessor);
    assert_eq!(
        (said.status, &said.body["warnings"][0]),
        (200, &json!("No token found with this accessor"))
    );
    for target in ["renew", "revoke", "revoke-orphan"] {
        let said = ask(&opened, target, "s.admin", json!({"token": "s.never-seen"}));
        assert_eq!(said.status, 503, "{target}: only the primary knows it");
    }
}

fn revoked(token: &str, cause: RevokeCause) -> Change {
    Change::Revoked(Revocation {
        digest: World::in_outage().digest(token),
        accessor: Accessor::parse(&format!("accessor-of-{token}")).unwrap(),
        cause,
        at: now(150).steady,
    })
}

#[test]
fn revoking_another_is_at_once_here_and_queued_for_the_primarys_own() {
    let opened = world().open();
    for (target, body, token, queued) in [
        ("revoke", json!({"token": "s.app"}), "s.app", true),
        ("revoke", json!({"token": HO}), HO, false),
        (
            "revoke-accessor",
            json!({"accessor": "accessor-of-s.app"}),
            "s.app",
            true,
        ),
    ] {
        let said = ask(&opened, target, "s.admin", body);
        assert_eq!((said.status, said.text.as_str()), (204, ""));
        let Some(Change::Revoked(revocation)) = said.changes.first() else {
            panic!("not revoked");
        };
        assert_eq!(
            (revocation.digest, revocation.cause),
            (opened.digest(token), RevokeCause::Requested)
        );
        let queue = said.changes.iter().find_map(|change| match change {
            Change::Queue(queue) => Some((queue.requested_by, queue.target.clone())),
            _ => None,
        });
        let target = RevocationTarget::Token(Accessor::parse("accessor-of-s.app").unwrap());
        let asked_by = Some(opened.digest("s.admin"));
        assert_eq!(queue, queued.then_some((asked_by, target)));
    }
    let denied = ask(&opened, "revoke", "s.app", json!({"token": HO}));
    assert_eq!((denied.status, denied.changes.len()), (403, 0));
}

/// `HO` hangs on `s.middle`, which hangs on `s.top`.
fn tree() -> World {
    let (middle, top) = {
        let keys = World::in_outage();
        (keys.digest("s.middle"), keys.digest("s.top"))
    };
    World::in_outage()
        .token("s.admin", &["admin", "default"])
        .token("s.top", &["default"])
        .token_as("s.middle", &["default"], |grant| grant.parent = Some(top))
        .token_as(HO, &["default"], |grant| {
            grant.parent = Some(middle);
            grant.peer = Some(super::world::identity_of("orders"));
            grant.origin = replica_from(100, 1200);
        })
}

fn lives(world: &Opened, at: u64) -> bool {
    let ask = world.ask("GET", "/v1/auth/token/lookup-self").token(HO);
    let said = ask.peer(peer("orders")).at(at).said();
    match said.status {
        200 => true,
        403 => {
            assert_eq!(said.error(), "permission denied");
            false
        }
        other => panic!("{other}: {}", said.text),
    }
}

#[test]
fn a_child_is_dead_the_moment_that_anything_above_it_is() {
    assert!(lives(&tree().open(), 160));
    for above in ["s.top", "s.middle"] {
        for cause in [
            RevokeCause::Requested,
            RevokeCause::Operator,
            RevokeCause::Primary,
        ] {
            assert!(
                !lives(&tree().and(revoked(above, cause)).open(), 160),
                "{above}"
            );
        }
        let ended = tree().token_as(above, &["default"], |grant| {
            grant.parent = (above == "s.middle").then(|| World::in_outage().digest("s.top"));
            grant.deadline = Deadline::after(Duration::from_secs(200), now(0));
        });
        let ended = ended.open();
        assert!(lives(&ended, 199) && !lives(&ended, 200), "{above}");
    }
    let dead = tree().and(revoked("s.top", RevokeCause::Requested)).open();
    let named = ask(&dead, "lookup", "s.admin", json!({"token": HO}));
    assert_eq!(named.status, 403);
}

#[test]
fn children_are_spared_where_that_was_asked_for() {
    let opened = replica(tree(), Settled::Not)
        .token_as("s.child", &["default"], |grant| {
            grant.parent = Some(World::in_outage().digest(HO));
            grant.peer = Some(super::world::identity_of("orders"));
            grant.origin = replica_from(100, 1200);
        })
        .open();
    let said = ask(&opened, "revoke-orphan", "s.admin", json!({"token": HO}));
    assert_eq!(said.status, 204, "{}", said.text);
    let child = changed(&said);
    assert_eq!((child.parent, child.facts.orphan), (None, true));
    // As at the primary: a look-up shows an orphan, a renewal what it was at issue.
    let spared = World::in_outage()
        .token_as("s.child", &["default"], |grant| *grant = child.clone())
        .open();
    let renewed = ask(&spared, "renew-self", "s.child", json!({}));
    assert_eq!(renewed.body["auth"]["orphan"], false, "{}", renewed.text);
    let of_primary = ask(
        &opened,
        "revoke-orphan",
        "s.admin",
        json!({"token": "s.top"}),
    );
    assert_eq!(of_primary.status, 503);
    assert!(lives(
        &tree()
            .and(revoked("s.middle", RevokeCause::Orphaning))
            .open(),
        160
    ));
    let mild = World::in_outage()
        .token("s.parent", &["parent"])
        .token("s.app", &["default"])
        .open();
    let said = ask(
        &mild,
        "revoke-orphan",
        "s.parent",
        json!({"token": "s.app"}),
    );
    assert_eq!(
        (said.status, said.error()),
        (400, "root or sudo privileges required to revoke and orphan")
    );
}
