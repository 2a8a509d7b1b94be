//! Leases handed out of a pool.

use shared::block::BlockCause;

use super::*;

/// Two leases in a pool; the second lives longer.
fn pooled() -> World {
    let mut world = world();
    world.settings.mirrors[4].pool = 2;
    let ready = |nr: u64| {
        lease(
            &format!("database/creds/ro/pool-{nr}"),
            "database/creds/ro",
            LeaseHolder::Pooled,
            &format!("pool-{nr}"),
            |lease| {
                lease.deadline = Deadline::after(Duration::from_secs(500 + nr), now(0));
            },
        )
    };
    world.and(ready(1)).and(ready(2))
}

fn taken(nr: u64, by: Assignee) -> Change {
    Change::LeaseTaken(
        LeaseId::parse(&format!("database/creds/ro/pool-{nr}")).unwrap(),
        by,
    )
}

#[test]
fn the_first_read_takes_what_lives_longest_out_of_the_pool_and_only_once() {
    let world = pooled().open();
    let said = read(&world, "s.app", 160);
    assert_like(&said, "db_creds");
    assert_eq!(said.body["data"]["username"], "pool-2");
    assert_eq!(said.body["lease_duration"], 342);
    let [Change::LeaseTaken(id, by), Change::Ledger(entry)] = &said.changes[..] else {
        panic!("{} changes", said.changes.len());
    };
    let who = Assignee::Token(world.digest("s.app"));
    assert_eq!((id.as_str(), by), ("database/creds/ro/pool-2", &who));
    assert_eq!(
        (entry.kind, entry.ttl_seconds, entry.path.as_deref()),
        (
            EntryKind::Lease,
            Some(342),
            Some("database/creds/ro/pool-2")
        )
    );
    assert_eq!(
        said.expects,
        Expects {
            epoch: Some(7),
            live: vec![world.digest("s.app")],
            issues: true,
            pooled: Some(Pooled {
                lease: id.clone(),
                to: Some(who),
            }),
            settings: Some(0),
            ..Expects::default()
        }
    );
    let denied = read(&world, "s.none", 160);
    assert_eq!((denied.status, denied.changes.len()), (403, 0));
}

#[test]
fn every_later_read_of_a_holder_gets_the_same_lease_and_nobody_else_does() {
    let world = pooled();
    let app = Assignee::Token(world.digest("s.app"));
    let world = world.and(taken(2, app)).open();
    for at in [160, 400] {
        let said = read(&world, "s.app", at);
        assert_eq!(said.body["data"]["username"], "pool-2");
        assert_eq!(said.body["lease_duration"], 502 - at);
        assert!(said.changes.is_empty());
    }
    let other = read(&world, "s.other", 160);
    assert_eq!(other.body["data"]["username"], "pool-1");
}

#[test]
fn a_workload_keeps_its_lease_over_all_of_its_tokens() {
    let of_orders = |grant: &mut Grant| grant.peer = Some(identity_of("orders"));
    let world = pooled()
        .token_as("s.first", &["app"], of_orders)
        .token_as("s.second", &["app"], of_orders)
        .and(taken(1, Assignee::Workload(identity_of("orders"))))
        .open();
    let ask = |token| {
        let ask = world
            .ask("GET", "/v1/database/creds/ro")
            .peer(peer("orders"));
        ask.token(token).said()
    };
    assert_eq!(ask("s.first").body["data"]["username"], "pool-1");
    assert_eq!(ask("s.second").body["data"]["username"], "pool-1");
    let standing = world
        .ask("GET", "/v1/database/creds/ro")
        .peer(peer("orders"))
        .standing("orders")
        .said();
    assert_eq!(standing.body["data"]["username"], "pool-1");
    // What it brought itself, and did not get by attestation, is no workload's.
    assert_eq!(ask("s.app").body["data"]["username"], "pool-2");
}

#[test]
fn an_empty_pool_is_undecidable_and_says_which() {
    let world = pooled();
    let (app, other) = (world.digest("s.app"), world.digest("s.other"));
    let world = world
        .token("s.third", &["app"])
        .and(taken(1, Assignee::Token(app)))
        .and(taken(2, Assignee::Token(other)))
        .open();
    let refused = read(&world, "s.third", 160);
    assert_eq!(refused.status, 503);
    assert!(
        refused
            .error()
            .contains("the pool of database/creds/ro (pool = 2) has no lease left"),
        "{}",
        refused.error()
    );
    // An ended one is no longer there to be taken, and its holder gets no more of it.
    let late = read(&world, "s.app", 501);
    assert_eq!(late.status, 503);
}

#[test]
fn a_holder_whose_lease_ended_takes_another_while_there_is_one() {
    let world = pooled();
    let app = Assignee::Token(world.digest("s.app"));
    let world = world.and(taken(1, app)).open();
    assert_eq!(
        read(&world, "s.app", 500).body["data"]["username"],
        "pool-1"
    );
    let next = read(&world, "s.app", 501);
    assert_eq!(next.body["data"]["username"], "pool-2");
    assert_eq!(next.changes.len(), 2);
}

#[test]
fn nothing_is_handed_out_where_nothing_may_be_issued() {
    let world = pooled().open();
    world.0.set_rolled_back(true);
    let refused = read(&world, "s.app", 160);
    assert!(refused.error().contains("older than its anchor"));
    world.0.set_rolled_back(false);
    world
        .0
        .block_issuing(samples::block(BlockCause::ClockBehind));
    assert!(
        read(&world, "s.app", 160)
            .error()
            .contains("its clock behind")
    );
}

#[test]
fn a_primary_that_is_only_late_costs_no_read_of_a_pool() {
    let world = pooled().and(phase(Phase::Suspect)).open();
    let said = read(&world, "s.app", 160);
    assert_eq!(said.body["data"]["username"], "pool-2");
    assert_eq!((said.changes.len(), said.expects.issues), (2, false));
}

#[test]
fn giving_up_a_lease_of_a_pool_has_it_revoked_and_another_taken() {
    let world = pooled();
    let app = Assignee::Token(world.digest("s.app"));
    let world = world.and(taken(2, app)).open();
    let named = json!({"lease_id": "database/creds/ro/pool-2"});
    let said = call(&world, "/v1/sys/leases/revoke", named);
    let [
        Change::LeaseGone(gone),
        Change::Queue(queued),
        Change::Ledger(_),
    ] = &said.changes[..]
    else {
        panic!("{} changes", said.changes.len());
    };
    assert_eq!(gone.as_str(), "database/creds/ro/pool-2");
    // It was Holdover's own: no policy of the asker is needed later on.
    assert_eq!(queued.requested_by, None);
    let renewed = call(
        &world,
        "/v1/sys/leases/renew",
        json!({"lease_id": "database/creds/ro/pool-2"}),
    );
    assert_eq!(renewed.body["lease_duration"], 342);
}
