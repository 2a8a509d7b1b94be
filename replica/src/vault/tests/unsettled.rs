//! Grants that an outage left unsettled: judged at each use by what was verified since, while the primary is in charge and
//! in a later outage.

use std::time::Duration;

use serde_json::{Value, json};
use shared::{
    approle::{AppRole, Basis, SecretId},
    change::{Change, PhaseRecord},
    failover::Phase,
    grant::{Grant, Origin, ReplicaGrant, RevokeCause, Settled},
    identity::{Entity, Identity},
    name::{Accessor, EntityId},
    time::Deadline,
    workload::OnRecovery,
};

use super::{
    asked::Said,
    world::{HO, Opened, World, authority_as, identity_of, names, outage, peer},
};
use crate::samples::{self, now};

/// The recovery that ended the last outage began then, in seconds after the beginning. The outage that there may be after it
/// begins later.
const FROM: u64 = 50;

/// What the grant has left when it is asked for.
const LEFT: u64 = 760;

/// Whether the primary is in charge, or away again.
fn states() -> [(&'static str, Phase); 2] {
    [("following", Phase::Following), ("later", later())]
}

fn later() -> Phase {
    Phase::Holdover(outage("o-1"))
}

fn since(phase: Phase) -> Change {
    Change::Phase(PhaseRecord {
        phase,
        epoch: 7,
        proven_from: Some(now(FROM).steady),
    })
}

/// The primary gives the workload these policies, as it said then.
fn proven(policies: &[&str], at: u64) -> Change {
    authority_as("orders", now(at).steady, |authority| {
        authority.standing.policies = names(policies);
    })
}

fn world(phase: Phase) -> World {
    let world = World::following().secret("app/a", 1);
    let world = world.token("s.admin", &["admin", "app", "default"]);
    let mut world = policies_read(world.and(since(phase)), FROM);
    // The others are proven, whatever is so of that one.
    for change in &mut world.changes {
        if let Change::Grant(grant) = change {
            grant.verified_at = now(150).steady;
        }
    }
    world
}

/// All policies, as they were read then.
fn policies_read(mut world: World, at: u64) -> World {
    for change in &mut world.changes {
        if let Change::Policies(set) = change {
            set.verified_at = now(at).steady;
        }
    }
    world
}

/// With a grant of `orders` from the outage before.
fn left(world: World, change: impl FnOnce(&mut Grant, &mut ReplicaGrant)) -> World {
    let end = Deadline::after(Duration::from_secs(900), now(20));
    world.token_as(HO, &["app", "default", "parent"], |grant| {
        let mut replica = ReplicaGrant {
            outage: outage("o-0").id,
            issued_at: now(20).steady,
            ttl_ms: 900_000,
            asked_ms: 900_000,
            max_deadline: Deadline::after(Duration::from_secs(1200), now(20)),
            workload_end: Deadline::after(Duration::from_secs(1200), now(20)),
            spared: false,
            of_nobody: false,
            settled: Settled::Not,
            approle: None,
        };
        grant.peer = Some(identity_of("orders"));
        grant.deadline = end;
        change(grant, &mut replica);
        grant.origin = Origin::Replica(replica);
    })
}

fn unsettled(world: World) -> World {
    left(world, |_, _| {})
}

/// With a grant that an AppRole login was given, and with what was proven of role, secret id and entity since, as these
/// leave it.
fn by_login(
    world: World,
    role: impl FnOnce(&mut AppRole),
    proof: impl FnOnce(&mut SecretId),
) -> World {
    let mut known_role = samples::approle();
    known_role.verified_at = now(FROM).steady;
    role(&mut known_role);
    let mut known_proof = samples::secret_id();
    known_proof.verified_at = now(FROM).steady;
    proof(&mut known_proof);
    let entity = known_proof.entity.clone();
    let world = left(world, |grant, replica| {
        grant.facts.entity_id = entity;
        grant.facts.policies = names(&["app", "default", "named"]);
        replica.approle = Some(Box::new(Basis {
            role: samples::approle().key,
            secret_id: samples::secret_id().digest,
        }));
    });
    world
        .and(Change::AppRole(Box::new(known_role)))
        .and(Change::SecretId(Box::new(known_proof)))
}

fn of_entity(proof: &mut SecretId) {
    proof.entity = EntityId::parse("e-1").ok();
}

fn entity(at: u64, change: impl FnOnce(&mut Identity)) -> Change {
    let mut identity = Identity {
        entity: Some(Entity {
            id: "e-1".into(),
            name: "ci".into(),
            ..Entity::default()
        }),
        groups: Vec::new(),
    };
    change(&mut identity);
    let id = EntityId::parse("e-1").unwrap();
    Change::Identity(id, Box::new(identity), now(at).steady)
}

fn ask(world: &Opened, method: &str, target: &str, body: Value) -> Said {
    let target = format!("/v1/{target}");
    let ask = world.ask(method, &target).token(HO).peer(peer("orders"));
    match body {
        Value::Null => ask.said(),
        body => ask.body(body).said(),
    }
}

fn read(world: &Opened) -> Said {
    ask(world, "GET", "secret/data/app/a", Value::Null)
}

fn look_up(world: &Opened) -> Said {
    ask(world, "GET", "auth/token/lookup-self", Value::Null)
}

/// Everything is left to the primary.
fn assert_undecided(world: World, what: &str) {
    let world = world.open();
    for said in [read(&world), look_up(&world)] {
        assert_eq!(said.status, 503, "{what}: {}", said.text);
        assert!(said.text.contains("not settled"), "{what}: {}", said.text);
    }
}

/// Nobody can use it any more.
fn assert_dead(world: World, what: &str) {
    let world = world.open();
    for said in [read(&world), look_up(&world)] {
        assert_eq!(
            (said.status, said.error()),
            (403, "permission denied"),
            "{what}"
        );
        assert!(said.changes.is_empty(), "{what}");
    }
}

/// It reads what is mirrored, and is told to log in again for the rest. Nothing of that is stored.
fn assert_draining(world: World, what: &str) {
    let world = world.open();
    assert_eq!(read(&world).status, 200, "{what}");
    let written = ask(&world, "PUT", "secret/data/app/a", json!({}));
    assert_eq!(written.status, 403, "{what}");
    assert!(
        written.error().ends_with("log in again"),
        "{what}: {}",
        written.text
    );
    for said in [read(&world), look_up(&world), written] {
        assert!(said.changes.is_empty(), "{what}");
    }
}

/// It does what these policies let it do.
fn assert_serves(world: World, policies: &[&str], what: &str) {
    let world = world.open();
    let shown = look_up(&world);
    assert_eq!(shown.status, 200, "{what}: {}", shown.text);
    assert_eq!(shown.body["data"]["policies"], json!(policies), "{what}");
    assert_eq!(shown.body["data"]["ttl"], json!(LEFT), "{what}");
    let asked = ask(
        &world,
        "PUT",
        "sys/capabilities-self",
        json!({"path": "secret/data/app/a"}),
    );
    let reads = policies.contains(&"app");
    let expected = if reads {
        json!(["list", "read"])
    } else {
        json!(["deny"])
    };
    assert_eq!(
        asked.body["data"]["capabilities"], expected,
        "{what}: {}",
        asked.text
    );
    assert_eq!(read(&world).status, if reads { 200 } else { 403 }, "{what}");
    for said in [shown, asked, read(&world)] {
        assert!(said.changes.is_empty(), "{what}");
    }
}

#[test]
fn it_has_what_its_workload_still_gets() {
    for (what, phase) in states() {
        let world = |policies| unsettled(world(phase.clone())).and(proven(policies, FROM));
        let all = &["app", "default", "parent"];
        assert_serves(world(all), all, what);
        assert_serves(
            world(&["default", "new", "parent"]),
            &["default", "parent"],
            what,
        );
        assert_serves(world(&["app", "default"]), &["app", "default"], what);
        assert_dead(world(&["new"]), what);
    }
}

#[test]
fn where_its_workload_was_not_verified_since_it_drains() {
    for (what, phase) in states() {
        let with = |change| unsettled(world(phase.clone())).and(change);
        assert_draining(with(proven(&["app", "default", "parent"], FROM - 1)), what);
        let mut other_role = with(proven(&["app", "default", "parent"], FROM));
        other_role.settings.workloads[0].role = shared::name::RoleName::parse("orders-2").unwrap();
        assert_draining(other_role, what);
    }
}

#[test]
fn where_nothing_may_be_issued_for_its_workload_any_more_it_is_dead() {
    for (what, phase) in states() {
        let mut gone = unsettled(world(phase.clone()));
        gone.changes
            .retain(|change| !matches!(change, Change::Authority(_)));
        assert_dead(gone, what);
        // Asked or not.
        for at in [FROM - 1, FROM] {
            let mut revokes = unsettled(world(phase.clone())).and(proven(&["app"], at));
            revokes.settings.workloads[0].failover.on_recovery = OnRecovery::Revoke;
            assert_dead(revokes, what);
        }
        let mut unconfigured = unsettled(world(phase)).and(proven(&["app"], FROM));
        unconfigured.settings.workloads.remove(0);
        assert_dead(unconfigured, what);
    }
}

#[test]
fn where_all_is_to_drain_or_it_is_about_to_end_it_drains() {
    for (what, phase) in states() {
        let all = || unsettled(world(phase.clone())).and(proven(&["app", "default"], FROM));
        let mut drains = all();
        drains.settings.workloads[0].failover.on_recovery = OnRecovery::Drain;
        assert_draining(drains, what);
        let late = all().open();
        let write = |at| {
            let asked = late.ask("PUT", "/v1/secret/data/app/a").token(HO);
            asked.peer(peer("orders")).at(at).said().status
        };
        assert_eq!((write(915), write(916)), (503, 403), "{what}");
    }
}

#[test]
fn where_what_it_hangs_on_was_not_proven_since_nothing_is_decided() {
    for (what, phase) in states() {
        let world = |proven_at: u64| {
            let world = world(phase.clone()).token_as("s.parent", &["app"], |grant| {
                grant.verified_at = now(proven_at).steady;
            });
            let parent = world.digest("s.parent");
            let world = left(world, |grant, _| grant.parent = Some(parent));
            world.and(proven(&["app", "default", "parent"], FROM))
        };
        let early = world(FROM - 1).open();
        assert_eq!(
            (read(&early).status, look_up(&early).status),
            (503, 503),
            "{what}"
        );
        assert_serves(world(FROM), &["app", "default", "parent"], what);
    }
}

#[test]
fn it_falls_with_a_parent_that_the_outage_left_too() {
    const PARENT: &str = "ho.1111111111111111111111111111111111111111111";
    for (what, phase) in states() {
        let below = |of: &str, at: u64, child_of: &str| {
            let world = world(phase.clone()).and(proven(&["app", "default", "parent"], FROM));
            let verified = authority_as(of, now(at).steady, |_| {});
            let mut world = unsettled(world.and(verified));
            let Some(Change::Grant(mut parent)) = world.changes.pop() else {
                panic!("no grant");
            };
            parent.digest = world.digest(PARENT);
            parent.accessor = Accessor::parse("parent").unwrap();
            parent.peer = Some(identity_of(of));
            let digest = parent.digest;
            let world = world.and(Change::Grant(parent));
            left(world, |grant, replica| {
                grant.parent = Some(digest);
                replica.outage = outage(child_of).id;
            })
        };
        for child_of in ["o-0", "o-1"] {
            let mut revoked = below("billing", FROM, child_of);
            revoked.settings.workloads[1].failover.on_recovery = OnRecovery::Revoke;
            assert_dead(revoked, what);
            assert_draining(below("billing", FROM - 1, child_of), what);
            let all = &["app", "default", "parent"];
            // Of a following primary's outage there is none that goes on.
            assert_serves(below("billing", FROM, child_of), all, what);
        }
    }
}

#[test]
fn that_of_a_login_goes_by_the_login() {
    for (what, phase) in states() {
        let plain = |proof: &dyn Fn(&mut SecretId)| {
            let unproven = world(phase.clone()).and(proven(&["other"], FROM - 1));
            by_login(unproven, |_| {}, proof)
        };
        assert_serves(plain(&|_| {}), &["app", "default"], what);
        let unseen = plain(&|proof| proof.verified_at = now(FROM - 1).steady);
        assert_undecided(unseen, what);
        assert_undecided(
            plain(&|proof| proof.doubted_at = Some(now(FROM + 1).steady)),
            what,
        );
        assert_dead(
            plain(&|proof| proof.dead = Some(now(FROM + 1).steady)),
            what,
        );
        let role_unseen = by_login(
            world(phase.clone()),
            |role| role.verified_at = now(0).steady,
            |_| {},
        );
        assert_undecided(role_unseen, what);
        let mut gone = plain(&|_| {});
        gone.changes
            .retain(|change| !matches!(change, Change::AppRole(_)));
        assert_dead(gone, what);
    }
}

#[test]
fn that_of_a_login_goes_by_its_entity_too() {
    for (what, phase) in states() {
        let world = |identity| by_login(world(phase.clone()), |_| {}, of_entity).and(identity);
        assert_serves(world(entity(FROM, |_| {})), &["app", "default"], what);
        assert_undecided(world(entity(FROM - 1, |_| {})), what);
        let disabled = entity(FROM, |identity| {
            identity.entity.as_mut().unwrap().disabled = true
        });
        assert_dead(world(disabled), what);
        assert_dead(world(entity(FROM, |identity| identity.entity = None)), what);
        let unread = by_login(self::world(phase.clone()), |_| {}, of_entity);
        assert_undecided(unread, what);
    }
}

#[test]
fn that_of_a_login_drains_where_only_its_entity_could_be_given_the_same() {
    for (what, phase) in states() {
        let templated = |role: &mut AppRole| role.facts.token_policies = names(&["app", "named"]);
        let named = by_login(world(phase.clone()), templated, of_entity);
        assert_draining(named.and(entity(FROM, |_| {})), what);
        let nobody = by_login(world(phase), templated, |_| {});
        assert_serves(nobody, &["app", "default", "named"], what);
    }
}

#[test]
fn that_of_a_login_drains_until_what_its_policies_say_of_its_entity_was_read() {
    for (what, phase) in states() {
        let unread = |proof: fn(&mut SecretId)| {
            let known = by_login(world(phase.clone()), |_| {}, proof);
            policies_read(known.and(entity(FROM, |_| {})), FROM - 1)
        };
        assert_draining(unread(of_entity), what);
        assert_serves(unread(|_| {}), &["app", "default"], what);
    }
}

#[test]
fn it_keeps_its_deadline_and_is_not_renewed() {
    for (what, phase) in states() {
        let world = unsettled(world(phase)).and(proven(&["app", "default", "parent"], FROM));
        let world = world.open();
        let renewed = ask(
            &world,
            "PUT",
            "auth/token/renew-self",
            json!({"increment": "1h"}),
        );
        assert_eq!(
            renewed.body["auth"]["lease_duration"],
            json!(LEFT),
            "{what}"
        );
        let warnings = renewed.body["warnings"].to_string();
        assert!(
            warnings.contains("only the primary can renew this"),
            "{what}: {warnings}"
        );
        assert!(renewed.changes.is_empty(), "{what}");
        let at = |secs| {
            let asked = world.ask("GET", "/v1/auth/token/lookup-self").token(HO);
            asked.peer(peer("orders")).at(secs).said().status
        };
        assert_eq!((at(919), at(920)), (200, 403), "{what}");
    }
    // One of the outage that goes on is.
    let current = left(world(later()), |_, replica| {
        replica.outage = outage("o-1").id
    });
    let renewed = ask(&current.open(), "PUT", "auth/token/renew-self", json!({}));
    assert_eq!(renewed.changes.len(), 2);
}

#[test]
fn what_it_creates_is_within_what_is_left_of_it() {
    let world = |policies: &[&str]| unsettled(world(later())).and(proven(policies, FROM));
    let create = |world: World, body| ask(&world.open(), "POST", "auth/token/create", body);
    let asked = create(world(&["default", "parent"]), json!({"policies": ["app"]}));
    assert_eq!(
        (asked.status, asked.changes.len()),
        (400, 0),
        "{}",
        asked.text
    );
    let said = create(world(&["default", "parent"]), json!({"ttl": "100h"}));
    let Some(Change::Grant(child)) = said.changes.first() else {
        panic!("no grant: {}", said.text);
    };
    assert_eq!(child.facts.policies, names(&["default", "parent"]));
    assert_eq!(child.parent, Some(World::following().digest(HO)));
    let replica = child.replica().unwrap();
    assert_eq!(replica.outage, outage("o-1").id);
    let end = Deadline::after(Duration::from_secs(1200), now(20));
    assert!(child.deadline.wall <= end.wall && replica.workload_end.wall <= end.wall);
    assert_eq!(
        said.changes.len(),
        2,
        "the child and its entry, and nothing of the parent"
    );
    // Without the right to it, and without knowing what is left.
    let refused = create(world(&["app", "default"]), json!({}));
    assert_eq!(refused.status, 403);
    let old = unsettled(self::world(later())).and(proven(&["app", "default", "parent"], FROM - 1));
    let drained = create(old, json!({}));
    assert!(
        drained.error().ends_with("log in again"),
        "{}",
        drained.text
    );
}

#[test]
fn it_is_still_its_peers_alone() {
    for (what, phase) in states() {
        let world = unsettled(world(phase))
            .and(proven(&["app", "default"], FROM))
            .open();
        let asked = world.ask("GET", "/v1/secret/data/app/a").token(HO);
        assert_eq!(asked.peer(peer("billing")).said().status, 403, "{what}");
    }
}

#[test]
fn its_accessor_is_answered_whatever_it_comes_to() {
    let name = |world: &Opened, target: &str| {
        let target = format!("/v1/{target}");
        let asked = world.ask("POST", &target).token("s.admin");
        let body = json!({"accessor": format!("accessor-of-{HO}"), "path": "secret/data/app/a"});
        asked.peer(peer("billing")).body(body).said()
    };
    let phases = [
        Phase::Following,
        Phase::Suspect,
        later(),
        Phase::Recovering(outage("o-1")),
        Phase::Exhausted(outage("o-1")),
    ];
    let behind = || Settled::Exchanged(Accessor::parse("behind").unwrap());
    for phase in phases {
        let of = |settled: Settled| {
            left(world(phase.clone()), |grant, replica| {
                grant.verified_at = now(FROM - 1).steady;
                replica.settled = settled;
            })
        };
        let unseen = |proof: &mut SecretId| proof.verified_at = now(0).steady;
        let current = left(world(phase.clone()), |_, replica| {
            replica.outage = outage("o-1").id;
        });
        let mut unproven_parent = current.token_as("s.parent", &["app"], |grant| {
            grant.verified_at = now(FROM - 1).steady;
        });
        let parent = unproven_parent.digest("s.parent");
        for change in &mut unproven_parent.changes {
            if let Change::Grant(grant) = change
                && grant.is_replica()
            {
                grant.parent = Some(parent);
            }
        }
        let mut old = left(world(phase.clone()), |grant, replica| {
            grant.verified_at = now(FROM).steady;
            replica.settled = behind();
        });
        old.settings.bounds.token_max_age = Duration::from_secs(40);
        for (what, world) in [
            ("workload", of(Settled::Not).and(proven(&["app"], FROM))),
            (
                "unproven workload",
                of(Settled::Not).and(proven(&["app"], 0)),
            ),
            (
                "unproven login",
                by_login(world(phase.clone()), |_| {}, unseen),
            ),
            ("draining", of(Settled::Draining)),
            ("unproven parent", unproven_parent),
            ("unproven token behind it", of(behind())),
            ("old token behind it", old),
        ] {
            let world = world.open();
            let what = format!("{what}, {}", phase.name());
            let shown = name(&world, "auth/token/lookup-accessor");
            assert_eq!(
                (shown.status, &shown.body["data"]["id"]),
                (200, &json!("")),
                "{what}: {}",
                shown.text
            );
            assert_eq!(shown.body["data"]["ttl"], json!(LEFT), "{what}");
            let ended = name(&world, "auth/token/revoke-accessor");
            assert_eq!(ended.status, 204, "{what}: {}", ended.text);
            let Some(Change::Revoked(revocation)) = ended.changes.first() else {
                panic!("{what}: not revoked");
            };
            assert_eq!(revocation.cause, RevokeCause::Requested, "{what}");
            // What stands for a token of the primary's is renewed by nobody but the primary while it is in charge.
            let stuck = what.contains("behind") && !phase.is_outage();
            let renewed = name(&world, "auth/token/renew-accessor");
            assert_eq!(
                renewed.status,
                if stuck { 400 } else { 200 },
                "{what}: {}",
                renewed.text
            );
            assert!(renewed.changes.is_empty(), "{what}: {}", renewed.text);
        }
        // What is dead is so by its accessor too, and what a token may do is not said where it is not decided by.
        let dead = of(Settled::Not).and(proven(&["new"], FROM)).open();
        let shown = name(&dead, "auth/token/lookup-accessor");
        assert!(
            shown.status == 400 && shown.error().contains("invalid accessor"),
            "{}",
            shown.text
        );
        let undecided = by_login(world(phase.clone()), |_| {}, unseen).open();
        assert_eq!(name(&undecided, "sys/capabilities-accessor").status, 503);
    }
    // The primary tells of its own.
    let own = world(later()).token_as(HO, &["app"], |grant| grant.verified_at = now(0).steady);
    let own = own.open();
    for target in ["auth/token/lookup-accessor", "auth/token/revoke-accessor"] {
        assert_eq!(name(&own, target).status, 503, "{target}");
    }
}
