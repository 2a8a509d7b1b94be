//! What an outage would make of requests, judged while there is none.

use std::time::Duration;

use serde_json::json;
use shared::{coverage::Foretold, failover::Phase};

use super::world::{World, authority_as, outage, peer, phase};
use crate::{
    samples::T0,
    vault::{foresee::Foreseen, tests::world::Opened},
};

fn verdict(foreseen: Foreseen) -> Foretold {
    foreseen.verdict
}

fn following() -> World {
    World::following()
        .token("s.app", &["app"])
        .token("s.none", &["default"])
        .secret("app/db", 2)
}

#[test]
fn a_read_is_foreseen_by_token_policy_mirror_and_age() {
    let world = following().open();
    let read = |token: &str, path: &str| {
        let target = format!("/v1/secret/data/{path}");
        verdict(world.ask("GET", &target).token(token).foreseen())
    };
    assert_eq!(read("s.app", "app/db"), Foretold::Served);
    assert_eq!(read("s.none", "app/db"), Foretold::Refused);
    assert_eq!(read("s.unknown", "app/db"), Foretold::UnknownToken);
    assert_eq!(read("s.app", "app/nothing"), Foretold::Served, "a 404");
    let mut strict = following();
    strict.settings.mirrors[0].max_staleness = Duration::from_secs(30);
    let strict = strict.open();
    let old = strict.ask("GET", "/v1/secret/data/app/db").token("s.app");
    let foreseen = old.foreseen();
    assert_eq!(foreseen.verdict, Foretold::Stale);
    assert!(foreseen.reason.contains("too stale"), "{}", foreseen.reason);
}

#[test]
fn a_login_is_foreseen_though_the_primary_is_in_charge() {
    let log_in = |world: &Opened| {
        let ask = world.ask("PUT", "/v1/auth/holdover/login");
        ask.body(json!({"role": "orders"}))
            .peer(peer("orders"))
            .foreseen()
    };
    assert_eq!(verdict(log_in(&following().open())), Foretold::Served);
    let mut disabled = following();
    disabled.settings.workloads[0].failover.issue = false;
    assert_eq!(verdict(log_in(&disabled.open())), Foretold::IssueDisabled);
    let proven = |ago| {
        let old = T0.minus(ago);
        let known = authority_as("orders", old, |known| known.verified_at = old);
        verdict(log_in(&following().and(known).open()))
    };
    let bounds = following().settings.bounds;
    assert_eq!(proven(bounds.authority_max_age), Foretold::Stale);
    assert_eq!(proven(bounds.max_outage), Foretold::Undecidable);
}

#[test]
fn an_outage_that_is_there_is_judged_as_it_is() {
    let mut over = outage("o-1");
    over.bound = shared::time::Deadline::after(Duration::ZERO, crate::samples::now(0));
    let world = following().and(phase(Phase::Holdover(over))).open();
    let ask = world.ask("PUT", "/v1/auth/holdover/login");
    let foreseen = ask
        .body(json!({"role": "orders"}))
        .peer(peer("orders"))
        .foreseen();
    assert_eq!(foreseen.verdict, Foretold::Undecidable);
    assert!(foreseen.reason.contains("outlived its bounds"));
}
