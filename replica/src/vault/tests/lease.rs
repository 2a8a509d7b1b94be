//! Leased secrets and `sys/leases`.

use std::{iter::repeat_n, time::Duration};

use serde_json::{Value, json};
use shared::{
    change::{Change, Expects, Pooled, QueuedRevocation, RevocationTarget},
    failover::Phase,
    grant::Grant,
    kv::Place,
    lease::{Assignee, Lease, LeaseHolder},
    ledger::EntryKind,
    name::{LeaseId, MountAccessor},
    secret::SecretBytes,
    time::Deadline,
    token::TokenKind,
};

use super::{
    asked::Said,
    likeness::assert_like,
    world::{Opened, World, identity_of, peer, phase},
};
use crate::{
    samples::{self, T0, now},
    vault::entry,
};

mod pool;

const SHARED: &str = "database/creds/ro/pYeJqgvtSV6IUyWXGtn5ORDs";
const OWN: &str = "database/creds/ro/Own00000000000000000000";

fn world() -> World {
    World::in_outage()
        .token("s.app", &["app"])
        .token("s.other", &["app"])
        .token("s.none", &["default"])
}

pub(super) fn lease(
    id: &str,
    path: &str,
    holder: LeaseHolder,
    user: &str,
    change: impl FnOnce(&mut Lease),
) -> Change {
    let mut lease = Lease {
        id: LeaseId::parse(id).unwrap(),
        place: Place {
            mount: MountAccessor::parse("database_1").unwrap(),
            ..samples::place(path)
        },
        holder,
        detached: Vec::new(),
        answers_reads: true,
        renewable: true,
        granted: 600,
        issued_at: T0,
        renewed_at: T0,
        deadline: Deadline::after(Duration::from_secs(600), now(0)),
        verified_at: T0,
    };
    change(&mut lease);
    let body = json!({"password": "p", "username": user}).to_string();
    Change::Lease(Box::new(lease), Some(SecretBytes::new(body.into_bytes())))
}

fn shared() -> Change {
    lease(
        SHARED,
        "database/creds/ro",
        LeaseHolder::Shared,
        "shared",
        |_| {},
    )
}

fn own(world: &World, token: &str) -> Change {
    let holder = LeaseHolder::Token(world.keys.token_digest(token));
    lease(OWN, "database/creds/ro", holder, "own", |_| {})
}

fn read(world: &Opened, token: &str, secs: u64) -> Said {
    world
        .ask("GET", "/v1/database/creds/ro")
        .token(token)
        .at(secs)
        .said()
}

fn call(world: &Opened, target: &str, body: Value) -> Said {
    world
        .ask("PUT", target)
        .token("s.app")
        .body(body)
        .peer(peer("orders"))
        .said()
}

#[test]
fn a_shared_lease_is_served_with_what_remains_of_it() {
    let world = world().and(shared()).open();
    let said = read(&world, "s.app", 160);
    assert_like(&said, "db_creds");
    assert_eq!(
        (&said.body["lease_id"], &said.body["lease_duration"]),
        (&json!(SHARED), &json!(440))
    );
    assert_eq!(
        said.body["data"],
        json!({"password": "p", "username": "shared"})
    );
    assert_eq!(read(&world, "s.app", 599).body["lease_duration"], 1);
    let ended = read(&world, "s.app", 600);
    assert!(
        ended
            .error()
            .ends_with("the lease held for this path has ended")
    );
    assert_eq!(read(&world, "s.none", 160).status, 403);
}

#[test]
fn a_lease_that_a_token_read_is_served_to_that_token_only_and_before_the_shared_one() {
    let world = world();
    let own = own(&world, "s.app");
    let world = world.and(shared()).and(own).open();
    assert_eq!(read(&world, "s.app", 160).body["data"]["username"], "own");
    assert_eq!(
        read(&world, "s.other", 160).body["data"]["username"],
        "shared"
    );
}

#[test]
fn a_learned_lease_needs_no_mirror_and_serves_nobody_else() {
    let world = world();
    let holder = LeaseHolder::Token(world.keys.token_digest("s.app"));
    let learned = lease(
        "database/creds/rw/x",
        "database/creds/rw",
        holder,
        "rw",
        |_| {},
    );
    let world = world.and(learned).open();
    let ask = |token| {
        world
            .ask("GET", "/v1/database/creds/rw")
            .token(token)
            .said()
    };
    assert_eq!(ask("s.app").body["data"]["username"], "rw");
    assert!(ask("s.other").error().ends_with("path is not mirrored"));
    let asked = world
        .ask("GET", "/v1/database/creds/rw?x=1")
        .token("s.app")
        .said();
    assert_eq!(asked.status, 503, "another question");
}

#[test]
fn the_lease_issued_last_is_the_one_that_is_served() {
    let newer = lease(
        "database/creds/ro/a",
        "database/creds/ro",
        LeaseHolder::Shared,
        "newer",
        |lease| {
            lease.issued_at = T0.plus(Duration::from_secs(5));
        },
    );
    let below = lease(
        "database/creds/ro/x/y",
        "database/creds/ro/x",
        LeaseHolder::Shared,
        "below",
        |lease| {
            lease.issued_at = T0.plus(Duration::from_secs(9));
        },
    );
    let world = world().and(shared()).and(newer).and(below).open();
    assert_eq!(read(&world, "s.app", 160).body["data"]["username"], "newer");
}

#[test]
fn a_mirrored_path_without_a_lease_is_undecidable() {
    let world = world().open();
    assert!(
        read(&world, "s.app", 160)
            .error()
            .ends_with("no lease of this path is held for this token")
    );
}

#[test]
fn a_lease_is_not_served_past_the_staleness_of_its_mirror() {
    let long = lease(
        SHARED,
        "database/creds/ro",
        LeaseHolder::Shared,
        "u",
        |lease| {
            lease.deadline = Deadline::after(Duration::from_secs(5000), now(0));
        },
    );
    let world = world().and(long).open();
    assert_eq!(read(&world, "s.app", 600).status, 200);
    assert!(read(&world, "s.app", 601).error().contains("too stale"));
}

#[test]
fn a_batch_token_sees_no_lease_longer_than_its_own_life() {
    let world = world()
        .token_as("b.batch", &["app"], |grant: &mut Grant| {
            grant.facts.kind = TokenKind::Batch;
            grant.deadline = Deadline::after(Duration::from_secs(200), now(0));
        })
        .and(shared())
        .open();
    assert_eq!(read(&world, "b.batch", 160).body["lease_duration"], 40);
}

#[test]
fn looking_a_lease_up_shows_what_the_primary_showed() {
    let world = world().and(shared()).open();
    let said = call(&world, "/v1/sys/leases/lookup", json!({"lease_id": SHARED}));
    assert_eq!(
        (&said.body["data"]["ttl"], &said.body["data"]["id"]),
        (&json!(440), &json!(SHARED))
    );
    assert_eq!(said.body["data"]["expire_time"], "2027-01-15T08:10:00Z");
    assert_eq!(said.body["data"]["last_renewal"], Value::Null);
    assert_like(&said, "lease_lookup");
    let late = world
        .ask("PUT", "/v1/sys/leases/lookup")
        .token("s.app")
        .body(json!({"lease_id": SHARED}))
        .at(600)
        .said();
    assert_like(&late, "lease_lookup_bad");
    assert_like(
        &call(&world, "/v1/sys/leases/lookup", json!({})),
        "lease_revoke_missing",
    );
}

#[test]
fn renewing_a_lease_returns_what_remains_and_changes_nothing() {
    let fixed = lease(
        "database/creds/ro/fixed",
        "database/creds/ro",
        LeaseHolder::Shared,
        "u",
        |lease| {
            lease.renewable = false;
        },
    );
    let world = world().and(shared()).and(fixed).open();
    let in_path = format!("/v1/sys/leases/renew/{SHARED}");
    for (target, body) in [
        (
            "/v1/sys/leases/renew",
            json!({"lease_id": SHARED, "increment": 3600}),
        ),
        (in_path.as_str(), json!({"increment": null})),
    ] {
        let said = call(&world, target, body);
        assert_like(&said, "lease_renew");
        assert_eq!(said.body["lease_duration"], 440);
        assert!(said.warning().ends_with("what is shown is what remains"));
        assert!(said.changes.is_empty());
    }
    let fixed = call(
        &world,
        "/v1/sys/leases/renew",
        json!({"lease_id": "database/creds/ro/fixed"}),
    );
    assert_eq!(
        (fixed.status, fixed.error()),
        (400, "lease is not renewable")
    );
    let late = world.ask("PUT", &in_path).token("s.app").at(600).said();
    assert_eq!((late.status, late.error()), (400, "lease not found"));
}

#[test]
fn a_lease_that_was_never_seen_is_undecidable() {
    let world = world().and(shared()).open();
    for target in [
        "/v1/sys/leases/lookup",
        "/v1/sys/leases/renew",
        "/v1/sys/leases/revoke",
    ] {
        let said = call(
            &world,
            target,
            json!({"lease_id": "database/creds/ro/unseen"}),
        );
        assert_eq!(said.status, 503, "{target}");
        assert!(
            said.error()
                .ends_with("the lease is not known to the replica")
        );
        assert!(said.changes.is_empty());
        let denied = world
            .ask("PUT", target)
            .token("s.none")
            .body(json!({"lease_id": SHARED}))
            .said();
        assert_eq!(denied.status, 403, "{target}");
    }
}

#[test]
fn revoking_a_lease_of_ones_own_ends_it_here_and_queues_it_for_the_primary() {
    let world = world();
    let own = own(&world, "s.app");
    let world = world.and(own).open();
    let target = format!("/v1/sys/leases/revoke/{OWN}");
    let said = call(&world, &target, json!({"sync": false}));
    assert_eq!((said.status, said.text.as_str()), (202, ""));
    let [
        Change::LeaseGone(gone),
        Change::Queue(queued),
        Change::Ledger(entry),
    ] = &said.changes[..]
    else {
        panic!("{} changes", said.changes.len());
    };
    let id = LeaseId::parse(OWN).unwrap();
    assert_eq!(*gone, id);
    assert_eq!(queued.target, RevocationTarget::Lease(id));
    assert_eq!(queued.requested_by, Some(world.digest("s.app")));
    assert_eq!(
        (entry.kind, entry.path.as_deref()),
        (EntryKind::Revocation, Some(OWN))
    );
    assert_eq!(
        (entry.uid, entry.unit.as_deref()),
        (Some(1000), Some("orders.service"))
    );
}

/// What giving up its own lease comes to for a client, where `waiting` revocations wait for the primary.
fn gives_up(waiting: impl IntoIterator<Item = QueuedRevocation>) -> Said {
    let world = world();
    let own = own(&world, "s.app");
    let waiting = waiting
        .into_iter()
        .zip(0..)
        .map(|(queued, id)| Change::Queue(Box::new(QueuedRevocation { id, ..queued })));
    let world = waiting.fold(world.and(own), World::and).open();
    call(&world, "/v1/sys/leases/revoke", json!({"lease_id": OWN}))
}

#[test]
fn no_revocation_is_acknowledged_that_could_not_be_kept_and_one_client_takes_no_others_room() {
    let said = gives_up([]);
    let Some(Change::Queue(own)) = said.changes.get(1) else {
        panic!("{} changes", said.changes.len());
    };
    let others = QueuedRevocation {
        peer: None,
        ..QueuedRevocation::clone(own)
    };
    let holdovers = QueuedRevocation::own(0, own.target.clone(), T0);
    let waiting = |of: &QueuedRevocation, count| repeat_n(of.clone(), count);
    let most = entry::MOST_OF_ONE;
    let beside = || waiting(&others, most).chain(waiting(&holdovers, most));
    assert_eq!(gives_up(beside().chain(waiting(own, most - 1))).status, 204);
    let refused = gives_up(waiting(own, most));
    assert_eq!((refused.status, refused.changes.len()), (503, 0));
    assert!(refused.error().contains("as many revocations wait"));
    let refused = gives_up(waiting(&holdovers, crate::view::fill::MOST_WAITING));
    assert_eq!((refused.status, refused.changes.len()), (503, 0));
}

#[test]
fn revoking_a_shared_lease_detaches_that_client_only() {
    let world = world().and(shared()).open();
    let said = call(&world, "/v1/sys/leases/revoke", json!({"lease_id": SHARED}));
    assert_eq!((said.status, said.text.as_str()), (204, ""));
    let [Change::LeaseDetached(id, who), Change::Ledger(entry)] = &said.changes[..] else {
        panic!("{} changes", said.changes.len());
    };
    assert_eq!(id.as_str(), SHARED);
    assert_eq!(*who, Assignee::Token(world.digest("s.app")));
    assert_eq!(
        (entry.kind, entry.outcome.as_str()),
        (EntryKind::Revocation, "detached")
    );
    assert_eq!(read(&world, "s.other", 160).status, 200);
}

#[test]
fn who_gave_a_shared_lease_up_is_not_given_it_again_and_is_told_as_of_one_that_is_gone() {
    let gave_up = |world: &World| {
        let who = Assignee::Token(world.digest("s.app"));
        Change::LeaseDetached(LeaseId::parse(SHARED).unwrap(), who)
    };
    let world = world().and(shared());
    let change = gave_up(&world);
    let world = world.and(change).open();
    let refused = read(&world, "s.app", 160);
    assert_eq!(refused.status, 503);
    assert!(refused.error().contains("revoked the lease"));
    assert_eq!(read(&world, "s.other", 160).status, 200);
    let named = json!({"lease_id": SHARED});
    let shown = call(&world, "/v1/sys/leases/lookup", named.clone());
    assert_eq!((shown.status, shown.error()), (400, "invalid lease"));
    let renewed = call(&world, "/v1/sys/leases/renew", named.clone());
    assert_eq!((renewed.status, renewed.error()), (400, "lease not found"));
    let again = call(&world, "/v1/sys/leases/revoke", named);
    assert_eq!((again.status, again.changes.len()), (204, 0));
}

#[test]
fn a_lease_that_is_to_be_revoked_at_the_primary_is_known_to_be_gone() {
    let id = LeaseId::parse(OWN).unwrap();
    let queued = QueuedRevocation::own(1, RevocationTarget::Lease(id), T0);
    let world = world().and(Change::Queue(Box::new(queued))).open();
    let named = json!({"lease_id": OWN});
    let shown = call(&world, "/v1/sys/leases/lookup", named.clone());
    assert_eq!((shown.status, shown.error()), (400, "invalid lease"));
    let renewed = call(&world, "/v1/sys/leases/renew", named.clone());
    assert_eq!((renewed.status, renewed.error()), (400, "lease not found"));
    let again = call(&world, "/v1/sys/leases/revoke", named);
    assert_eq!((again.status, again.changes.len()), (204, 0));
}

#[test]
fn what_a_write_brought_answers_no_read() {
    let world = world();
    let holder = LeaseHolder::Token(world.digest("s.app"));
    let brought = lease(OWN, "database/creds/ro", holder, "own", |lease| {
        lease.answers_reads = false;
    });
    let world = world.and(brought).open();
    assert!(
        read(&world, "s.app", 160)
            .error()
            .contains("no lease of this path")
    );
    let shown = call(&world, "/v1/sys/leases/lookup", json!({"lease_id": OWN}));
    assert_eq!(shown.body["data"]["path"], "database/creds/ro");
}
