//! What is answered after the primary took away what the host was entitled to.

use std::time::Duration;

use serde_json::json;
use shared::{change::Change, offboarding::Offboarded};

use super::{
    asked::Said,
    world::{Opened, World, peer},
};
use crate::samples::now;

const REASON: &str = "the primary refuses Holdover's own credential since";

/// Seconds after the start at which that was sure.
const AT: u64 = 130;

fn world(since: Option<u64>) -> Opened {
    let mut world = World::in_outage()
        .token("s.app", &["app", "default", "parent"])
        .secret("app/a", 1);
    world.settings.bounds.authority_max_age = Duration::from_secs(100);
    for workload in &mut world.settings.workloads {
        workload.auto_token = true;
    }
    let since = since.map(|secs| Offboarded {
        at: now(secs).steady,
    });
    world.and(Change::Offboarded(since)).open()
}

fn refused(said: &Said) {
    assert_eq!(said.status, 503, "{}", said.text);
    assert!(said.error().contains(REASON), "{}", said.text);
    assert!(said.changes.is_empty());
}

fn read(world: &Opened, at: u64) -> Said {
    let ask = world.ask("GET", "/v1/secret/data/app/a");
    ask.token("s.app").at(at).said()
}

#[test]
fn nothing_is_issued() {
    let asked = |world: &Opened| {
        let login = world.ask("PUT", "/v1/auth/holdover/login");
        let create = world.ask("PUT", "/v1/auth/token/create");
        [
            login
                .body(json!({"role": "orders"}))
                .peer(peer("orders"))
                .said(),
            create
                .token("s.app")
                .body(json!({}))
                .peer(peer("orders"))
                .said(),
        ]
    };
    for said in asked(&world(Some(AT))) {
        refused(&said);
    }
    let [login, _] = asked(&world(None));
    assert_eq!(login.status, 200, "{}", login.text);
}

#[test]
fn reads_end_authority_max_age_after_it_and_not_before() {
    let offboarded = world(Some(AT));
    assert_eq!(read(&offboarded, AT + 99).status, 200);
    refused(&read(&offboarded, AT + 100));
    assert_eq!(read(&world(None), AT + 100).status, 200);
}

#[test]
fn the_standing_token_is_presented_no_more() {
    let ask = |world: &Opened| {
        let ask = world.ask("GET", "/v1/secret/data/app/a");
        ask.standing("orders").peer(peer("orders")).said()
    };
    refused(&ask(&world(Some(AT))));
    assert_ne!(ask(&world(None)).status, 503);
}

#[test]
fn a_token_can_still_be_given_up() {
    let revoke = world(Some(0));
    let revoke = revoke.ask("PUT", "/v1/auth/token/revoke-self");
    let said = revoke.token("s.app").peer(peer("orders")).said();
    assert_eq!(said.status, 204, "{}", said.text);
}
