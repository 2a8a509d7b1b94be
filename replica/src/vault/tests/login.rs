//! Attested logins in an outage.

use std::time::Duration;

use serde_json::{Value, json};
use shared::{
    block::BlockCause,
    change::Change,
    failover::Phase,
    grant::{Grant, Settled},
    ledger::EntryKind,
    settings::Settings,
    time::Deadline,
    token::is_replica_token,
    workload::{Peer, WorkloadAuthority},
};

use super::{
    asked::Said,
    likeness::assert_like,
    world::{
        CUTOVER, Opened, World, authority_as, identity_of, names, outage, peer, phase, replica,
    },
};
use crate::samples::{self, T0, now};

fn log_in(world: &Opened, peer: Option<Peer>, body: Value) -> Said {
    let mut ask = world.ask("PUT", "/v1/auth/holdover/login").body(body);
    if let Some(peer) = peer {
        ask = ask.peer(peer);
    }
    ask.said()
}

fn orders(world: &Opened) -> Said {
    log_in(world, Some(peer("orders")), json!({"role": "orders"}))
}

fn with(change: impl FnOnce(&mut WorkloadAuthority)) -> Opened {
    World::in_outage()
        .and(authority_as("orders", T0, change))
        .open()
}

fn configured(change: impl FnOnce(&mut Settings)) -> Opened {
    let mut world = World::in_outage();
    change(&mut world.settings);
    world.open()
}

fn granted(said: &Said) -> &Grant {
    let Some(Change::Grant(grant)) = said.changes.first() else {
        panic!("no grant: {}", said.text);
    };
    grant
}

#[test]
fn an_attested_workload_gets_a_grant_that_looks_like_the_primarys() {
    let world = World::in_outage().open();
    let said = orders(&world);
    let auth = &said.body["auth"];
    let token = auth["client_token"].as_str().unwrap();
    assert!(is_replica_token(token));
    assert_eq!(auth["accessor"].as_str().unwrap().len(), 24);
    assert!(auth["accessor"].as_str().unwrap().starts_with("ho"));
    assert_eq!(
        (&auth["lease_duration"], &auth["policies"]),
        (&json!(900), &json!(["app", "default"]))
    );
    assert_eq!(said.age, Some(160));
    let grant = granted(&said);
    assert_eq!(grant.digest, world.digest(token));
    assert_eq!(grant.peer, Some(identity_of("orders")));
    assert_eq!(grant.deadline.remaining(now(160)), Duration::from_secs(900));
    assert_eq!(grant.facts.path, "auth/token/create/orders");
    let replica = grant.replica().unwrap();
    assert_eq!(
        (&replica.outage, replica.ttl_ms),
        (&outage("o-1").id, 900_000)
    );
    assert_eq!(replica.settled, Settled::Not);
    assert_eq!(
        replica.max_deadline.remaining(now(160)),
        Duration::from_secs(7200)
    );
    let expects = &said.expects;
    let relied = (expects.epoch, expects.settings, expects.issues);
    assert_eq!(relied, (Some(7), Some(0), true));
}

#[test]
fn the_answer_has_the_shape_of_a_token_of_the_role() {
    let world = with(|authority| {
        authority.standing.policies = names(&["app"]);
        authority.role.token_no_default_policy = true;
    });
    let mut said = orders(&world);
    said.body["auth"]["entity_id"] =
        super::likeness::sample("role_token_alias")["body"]["auth"]["entity_id"].clone();
    assert!(said.warning().contains("outage o-1"));
    assert_like(&said, "role_token_alias");
}

#[test]
fn a_login_is_in_the_ledger_with_all_that_was_granted() {
    let world = World::in_outage().open();
    let said = orders(&world);
    let grant = granted(&said);
    let Some(Change::Ledger(entry)) = said.changes.get(1) else {
        panic!("no entry");
    };
    assert_eq!(
        (entry.kind, entry.outcome.as_str()),
        (EntryKind::Grant, "allowed")
    );
    assert_eq!(entry.outage, Some(outage("o-1").id));
    assert_eq!(
        entry.workload.as_ref().map(|name| name.as_str()),
        Some("orders")
    );
    assert_eq!(
        (entry.uid, entry.unit.as_deref()),
        (Some(1000), Some("orders.service"))
    );
    assert_eq!(entry.accessor.as_ref(), Some(&grant.accessor));
    assert_eq!(entry.token, Some(grant.digest));
    assert_eq!(entry.path.as_deref(), Some("auth/holdover/login"));
    assert_eq!(entry.policies, names(&["app", "default"]));
    assert_eq!(entry.ttl_seconds, Some(900));
    assert_eq!(entry.deadline, Some(grant.deadline.wall));
    assert_eq!(entry.replica_age_seconds, Some(160));
    assert_eq!(entry.time, now(160).steady);
}

#[test]
fn the_grant_works_for_its_peer_and_for_no_other() {
    let world = World::in_outage().secret("app/a", 1);
    let opened = world.open();
    let said = orders(&opened);
    let token = said.body["auth"]["client_token"]
        .as_str()
        .unwrap()
        .to_owned();
    let world = World::in_outage()
        .secret("app/a", 1)
        .and(Change::Grant(Box::new(granted(&said).clone())))
        .open();
    let read = |peer: Option<Peer>, at| {
        let mut ask = world
            .ask("GET", "/v1/secret/data/app/a")
            .token(&token)
            .at(at);
        if let Some(peer) = peer {
            ask = ask.peer(peer);
        }
        ask.said().status
    };
    assert_eq!(read(Some(peer("orders")), 161), 200);
    assert_eq!(read(Some(peer("billing")), 161), 403);
    let other_unit = Peer {
        unit: Some("cron.service".into()),
        ..peer("orders")
    };
    assert_eq!(read(Some(other_unit), 161), 403);
    assert_eq!(read(None, 161), 403);
    assert_eq!(
        read(Some(peer("orders")), 160 + 900),
        403,
        "it ends at its deadline"
    );
}

#[test]
fn who_may_log_in_as_what_is_decided_before_anything_else() {
    let world = World::in_outage().open();
    let both = Peer {
        workloads: [peer("orders").workloads, peer("billing").workloads].concat(),
        ..peer("orders")
    };
    let nobody = Peer {
        workloads: Vec::new(),
        ..peer("orders")
    };
    let cases = [
        (None, json!({"role": "orders"}), 403),
        (Some(nobody), json!({"role": "orders"}), 403),
        (Some(peer("billing")), json!({"role": "orders"}), 403),
        (Some(peer("orders")), json!({"role": "unheard-of"}), 400),
        (Some(both.clone()), json!({}), 400),
        (Some(both), json!({"role": "orders"}), 200),
        (Some(peer("orders")), json!({}), 200),
        (Some(peer("orders")), json!({"role": 5}), 503),
    ];
    for (peer, body, status) in cases {
        let said = log_in(&world, peer, body.clone());
        assert_eq!(said.status, status, "{body}: {}", said.text);
        assert_eq!(said.changes.is_empty(), status != 200);
    }
    let read = world
        .ask("GET", "/v1/auth/holdover/login")
        .peer(peer("orders"))
        .said();
    assert_eq!(read.status, 405);
    let bad = world
        .ask("PUT", "/v1/auth/holdover/login")
        .peer(peer("orders"))
        .token("ho.bad")
        .said();
    assert_eq!(bad.status, 200, "a login does not look at the token");
}

#[test]
fn nothing_is_issued_where_the_configuration_does_not_allow_it() {
    let world = configured(|settings| settings.workloads[0].failover.issue = false);
    assert!(
        orders(&world)
            .error()
            .ends_with("issuing in an outage is not enabled for this workload")
    );
}

#[test]
fn nothing_is_issued_from_authority_that_is_too_old_or_of_another_role() {
    let cutover = now(CUTOVER).wall;
    for (age, status) in [(900, 200), (901, 503)] {
        let verified_at = cutover.minus(Duration::from_secs(age));
        let world = World::in_outage()
            .and(authority_as("orders", verified_at, |_| {}))
            .open();
        assert_eq!(orders(&world).status, status, "{age}");
    }
    let other = configured(|settings| {
        settings.workloads[0].role = shared::name::RoleName::parse("new").unwrap()
    });
    assert!(
        orders(&other)
            .error()
            .contains("no authority verified recently enough")
    );
    let world = World::in_outage().open();
    assert_eq!(
        log_in(&world, Some(peer("billing")), json!({})).status,
        503,
        "never verified"
    );
}

#[test]
fn nothing_is_issued_outside_of_an_outage_and_its_bound() {
    let mut ended = outage("o-1");
    ended.bound = Deadline::after(Duration::from_secs(160), now(0));
    for (state, text) in [
        (Phase::Following, "the primary is in charge"),
        (
            Phase::Exhausted(outage("o-1")),
            "the outage has outlived its bounds",
        ),
        (Phase::Holdover(ended), "the outage has outlived its bounds"),
    ] {
        let world = World::in_outage().and(phase(state)).open();
        let said = orders(&world);
        assert_eq!(said.status, 503);
        assert!(said.error().ends_with(text), "{}", said.error());
    }
    let settling = World::in_outage()
        .and(phase(Phase::Recovering(outage("o-1"))))
        .open();
    assert_eq!(orders(&settling).status, 200);
}

#[test]
fn nothing_is_issued_while_something_stands_against_it() {
    let world = World::in_outage().open();
    for cause in [BlockCause::ClockBehind, BlockCause::Rebooted] {
        world.0.block_issuing(samples::block(cause));
        assert!(orders(&world).error().ends_with(cause.text()));
        world.0.lift_block(cause);
        assert_eq!(orders(&world).status, 200);
    }
    world.0.set_rolled_back(true);
    assert!(
        orders(&world)
            .error()
            .ends_with("the replica is damaged, or older than its anchor")
    );
}

#[test]
fn roles_that_are_not_modelled_issue_nothing() {
    let changes: [fn(&mut WorkloadAuthority); 5] = [
        |authority| authority.role.token_type = "batch".into(),
        |authority| authority.role.token_type = "default-batch".into(),
        |authority| authority.role.token_period = 60,
        |authority| authority.role.token_num_uses = 5,
        |authority| authority.role.token_bound_cidrs = vec!["10.0.0.0/8".into()],
    ];
    for change in changes {
        let said = orders(&with(change));
        assert!(
            said.error()
                .ends_with("the role makes tokens that the replica does not model")
        );
    }
    let nothing = with(|authority| {
        authority.role.allowed_policies = names(&["other"]);
        authority.role.token_no_default_policy = true;
    });
    assert!(
        orders(&nothing)
            .error()
            .ends_with("the role allows none of the workload's policies")
    );
}

#[test]
fn policies_are_what_role_and_proof_agree_on() {
    let world = with(|authority| {
        authority.standing.policies = names(&["app", "default", "paged"]);
        authority.role.disallowed_policies_glob = vec!["pag*".into()];
    });
    assert_eq!(
        granted(&orders(&world)).facts.policies,
        names(&["app", "default"])
    );
}

#[test]
fn the_earliest_of_all_bounds_ends_a_grant() {
    let by_role = with(|authority| authority.role.token_explicit_max_ttl = 300);
    assert_eq!(orders(&by_role).body["auth"]["lease_duration"], 300);
    let mut near = outage("o-1");
    near.bound = Deadline::after(Duration::from_secs(200), now(0));
    let by_outage = World::in_outage().and(phase(Phase::Holdover(near))).open();
    let said = orders(&by_outage);
    assert_eq!(said.body["auth"]["lease_duration"], 40);
    assert_eq!(
        granted(&said)
            .replica()
            .unwrap()
            .max_deadline
            .remaining(now(160)),
        Duration::from_secs(40)
    );
    let by_proof = configured(|settings| settings.bounds.max_outage = Duration::from_secs(500));
    assert_eq!(orders(&by_proof).body["auth"]["lease_duration"], 340);
}

#[test]
fn a_workload_has_so_many_grants_alive_and_no_more() {
    let login = |most| {
        let mut world = replica(World::in_outage(), Settled::Not);
        world.settings.bounds.grants_per_workload = most;
        let said = orders(&world.open());
        (said.status, said.changes.is_empty(), said.text)
    };
    assert_eq!(login(2).0, 200);
    let (status, unchanged, text) = login(1);
    assert_eq!((status, unchanged), (429, true), "{text}");
    assert!(text.contains("limits.grants_per_workload"), "{text}");
    // Others have their own.
    let mut world = replica(World::in_outage(), Settled::Not);
    world.settings.bounds.grants_per_workload = 1;
    let world = world.and(authority_as("billing", T0, |_| {})).open();
    let said = log_in(&world, Some(peer("billing")), json!({"role": "billing"}));
    assert_eq!(said.status, 200, "{}", said.text);
}
