//! The order of checks, and what a refusal looks like.

use shared::{change::Change, failover::Phase, name::WorkloadName};

use super::{
    likeness::assert_like,
    world::{World, outage, peer, phase},
};
use crate::ledger::Note;

const SINCE: &str = "primary unavailable since 2027-01-15T08:01:40Z; ";

fn world() -> World {
    World::in_outage().token("s.app", &["app", "default"])
}

#[test]
fn the_first_check_that_fails_decides() {
    let world = world().secret("app/a", 1).open();
    let cases: [(&str, &str, Option<&str>, u16, &str); 15] = [
        (
            "PATCH",
            "/v1/secret/data/app/",
            None,
            400,
            "cannot write to a path ending in '/'",
        ),
        (
            "PUT",
            "/v1/secret/data/app/",
            None,
            400,
            "cannot write to a path ending in '/'",
        ),
        (
            "GET",
            "/v1/secret/data/app/a",
            None,
            403,
            "permission denied",
        ),
        (
            "GET",
            "/v1/secret/data/app/a",
            Some(""),
            403,
            "permission denied",
        ),
        (
            "GET",
            "/v1/secret/data/app/a",
            Some("ho.unknown"),
            403,
            "permission denied",
        ),
        (
            "GET",
            "/v1/elsewhere",
            Some("ho.unknown"),
            403,
            "permission denied",
        ),
        (
            "GET",
            "/v1/secret/data/app/a",
            Some("s.unknown"),
            503,
            "the token is not known to the replica",
        ),
        (
            "GET",
            "/v1/elsewhere",
            Some("s.unknown"),
            503,
            "the token is not known to the replica",
        ),
        (
            "GET",
            "/v1/elsewhere",
            Some("s.app"),
            503,
            "path is not mirrored",
        ),
        (
            "GET",
            "/v1/secret/data/other",
            Some("s.app"),
            503,
            "path is not mirrored",
        ),
        (
            "PUT",
            "/v1/secret/data/app/a",
            Some("s.app"),
            503,
            "writes are not possible; nothing was applied",
        ),
        (
            "GET",
            "/v1/secret/data/app/hidden",
            Some("s.app"),
            403,
            "1 error occurred:\n\t* permission denied\n\n",
        ),
        (
            "GET",
            "/v1/secret/data/never/a",
            Some("s.app"),
            503,
            "mirror secret/data/never/* has not completed its first pass",
        ),
        (
            "SCAN",
            "/v1/secret/metadata/app",
            Some("s.app"),
            403,
            "1 error occurred:\n\t* permission denied\n\n",
        ),
        (
            "GET",
            "/v1/secret/metadata/app/a?help=1",
            Some("s.app"),
            503,
            "operation is not served by the replica",
        ),
    ];
    for (method, target, token, status, text) in cases {
        let mut ask = world.ask(method, target);
        if let Some(token) = token {
            ask = ask.token(token);
        }
        let unread = ask.refused_unread();
        let said = ask.said();
        // What is refused without a look at its body is refused in the same words with one.
        let by_head = unread.map(|unread| (unread.status, unread.error().to_owned()));
        let whole = (said.status, said.error().to_owned());
        let is_by_token = token.is_none_or(|token| token != "s.app");
        assert_eq!(by_head, is_by_token.then_some(whole), "{method} {target}");
        let text = match status {
            503 => format!("{SINCE}{text}"),
            _ => text.to_owned(),
        };
        assert_eq!(
            (said.status, said.error()),
            (status, text.as_str()),
            "{method} {target}"
        );
        assert!(
            said.body.get("warnings").is_none(),
            "errors carry no warnings"
        );
        assert_eq!(said.outage.as_ref().map(|id| id.as_str()), Some("o-1"));
        assert_eq!(said.age, Some(160));
    }
}

#[test]
fn a_path_that_a_complete_mirror_does_not_have_is_404() {
    let world = world().open();
    let said = world
        .ask("GET", "/v1/secret/data/app/none")
        .token("s.app")
        .said();
    assert_like(&said, "kv1_missing");
    let late = world
        .ask("GET", "/v1/secret/data/app/none")
        .token("s.app")
        .at(601)
        .said();
    assert_eq!(late.status, 503);
    assert!(
        late.error()
            .ends_with("too stale: verified 601 s ago, at most 600 s allowed")
    );
}

#[test]
fn without_an_outage_the_same_rules_hold_and_no_outage_is_claimed() {
    let world = World::following()
        .token("s.app", &["app"])
        .secret("app/a", 1)
        .and(phase(Phase::Suspect))
        .open();
    let read = world
        .ask("GET", "/v1/secret/data/app/a")
        .token("s.app")
        .said();
    assert_eq!((read.status, read.outage.as_ref()), (200, None));
    assert_eq!(
        read.warning(),
        "answered by holdover's replica: last verified 160 s ago"
    );
    let refused = world.ask("GET", "/v1/elsewhere").token("s.app").said();
    assert_eq!(
        refused.error(),
        "primary did not answer; path is not mirrored"
    );
    let login = world
        .ask("PUT", "/v1/auth/holdover/login")
        .peer(peer("orders"))
        .said();
    assert!(login.error().ends_with("the primary is in charge"));
}

#[test]
fn what_headers_ask_for_beyond_the_model_is_undecidable() {
    let world = world().secret("app/a", 1).open();
    let wrapped = world
        .ask("GET", "/v1/secret/data/app/a")
        .token("s.app")
        .unmodelled("X-Vault-Wrap-TTL")
        .said();
    assert_eq!(wrapped.status, 503);
    assert!(wrapped.error().contains("X-Vault-Wrap-TTL"));
    let inline = world
        .ask("GET", "/v1/secret/data/app/a")
        .unmodelled("X-Vault-Inline-Auth-Path")
        .said();
    assert_eq!(inline.status, 503, "an inline login is no missing token");
    let elsewhere = world
        .ask("GET", "/v1/secret/data/app/a")
        .token("s.app")
        .namespace("team");
    assert!(
        elsewhere
            .said()
            .error()
            .ends_with("the namespace of the request is not mirrored")
    );
    let root = world
        .ask("GET", "/v1/secret/data/app/a")
        .token("s.app")
        .namespace("/");
    assert_eq!(root.said().status, 200);
    for (target, status) in [
        ("/v1/sys/health", 503),
        ("/v1/sys/init", 503),
        ("/v1/sys/leader", 200),
        ("/v1/sys/seal-status", 200),
    ] {
        let elsewhere = world.ask("GET", target).namespace("team").said();
        assert_eq!(elsewhere.status, status, "{target}");
        let root = world.ask("GET", target).namespace("root").said();
        assert_eq!(root.status, 200, "{target}");
        let foreign = world.ask("GET", target).namespace("te am").said();
        assert_eq!(foreign.status, 503, "{target}");
    }
    let unwrap = world.ask("PUT", "/v1/sys/wrapping/unwrap").said();
    assert_eq!(unwrap.status, 503);
}

#[test]
fn what_is_the_roots_alone_is_refused_in_the_configured_namespace_before_the_token_is_looked_at() {
    let mut world = world();
    world.settings.namespace = shared::name::Namespace::parse("team");
    let world = world.open();
    for target in ["/v1/sys/raw/core", "/v1/sys/audit", "/v1/sys/health"] {
        for token in ["s.app", "s.dead", ""] {
            let named = world.ask("GET", target).token(token).namespace("team");
            assert_eq!(named.said().status, 400, "{target}");
        }
    }
    for target in ["/v1/sys/leader", "/v1/sys/seal-status"] {
        let named = world.ask("GET", target).namespace("team").said();
        assert_eq!(named.status, 200, "{target}");
    }
}

#[test]
fn other_logins_say_what_to_use() {
    let world = world().open();
    let login = world.ask("PUT", "/v1/auth/approle/login").said();
    assert_eq!(login.status, 503);
    assert!(login.error().contains("auth/holdover/login"));
}

#[test]
fn head_is_refused_as_the_primary_refuses_it() {
    let world = world().open();
    for (target, token, status) in [
        ("/v1/secret/data/app/a", Some("s.app"), 403),
        ("/v1/secret/data/app/a", None, 403),
        ("/v1/sys/seal-status", None, 405),
        ("/v1/sys/health", None, 200),
    ] {
        let mut ask = world.ask("HEAD", target);
        if let Some(token) = token {
            ask = ask.token(token);
        }
        assert_eq!(ask.said().status, status, "{target}");
    }
}

#[test]
fn denials_are_counted_by_uid_and_reason() {
    let world = world().open();
    let ask = |token: &str| {
        let said = world
            .ask("GET", "/v1/secret/data/app/hidden")
            .token(token)
            .peer(peer("orders"))
            .said();
        said.note
    };
    let denial = |reason| {
        Some(Note::Denial {
            workload: Some(WorkloadName::parse("orders").unwrap()),
            uid: Some(1000),
            reason,
            outage: Some(outage("o-1").id),
        })
    };
    assert_eq!(ask("s.app"), denial("policy"));
    assert_eq!(ask("ho.x"), denial("token"));
    assert_eq!(ask("s.x"), denial("undecidable"));
    let absent = world
        .ask("GET", "/v1/secret/data/app/none")
        .token("s.app")
        .said();
    assert_eq!(absent.note, None);
}

#[test]
fn nothing_is_decided_before_the_primary_was_ever_seen() {
    let mut world = World::in_outage().token("s.app", &["app"]);
    world
        .changes
        .retain(|change| !matches!(change, Change::Policies(_) | Change::Cluster(_)));
    let world = world.open();
    for target in [
        "/v1/secret/data/app/a",
        "/v1/auth/token/lookup-self",
        "/v1/sys/health",
    ] {
        let said = world.ask("GET", target).token("s.app").said();
        assert_eq!(said.status, 503);
        assert!(
            said.error()
                .ends_with("the replica has not seen the primary yet"),
            "{target}"
        );
        assert_eq!(said.age, None);
    }
}
