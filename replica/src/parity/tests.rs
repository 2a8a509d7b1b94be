//! Claims about what agrees.

use std::time::Duration;

use serde_json::json;
use shared::name::{PolicyName, WorkloadName};

use super::*;
use crate::{
    samples::{Seeded, T0},
    vault::judge::Behind,
};

fn facts(method: &str, target: &str, status: u16, body: &Value) -> Facts {
    let keys = Keys::ephemeral(&Seeded::new(1)).unwrap();
    let call = Call::parse(method, target).unwrap();
    let body = body.to_string();
    let mut facts = Facts::of(&call, status, Some(body.as_bytes()), T0..=T0, &keys);
    facts.denied_by = (status == 403).then_some(DeniedBy::AccessControl);
    facts
}

/// What comparing the primary's answer with the replica's comes to.
fn compared(method: &str, target: &str, primary: (u16, Value), replica: (u16, Value)) -> Outcome {
    let there = facts(method, target, primary.0, &primary.1);
    let here = facts(method, target, replica.0, &replica.1);
    compare(&there, &here, Standing::Decided)
}

fn read(primary: (u16, Value), replica: (u16, Value)) -> Outcome {
    compared("GET", "/v1/secret/data/a", primary, replica)
}

fn disagree(kind: Disagreement, fields: &[&'static str]) -> Outcome {
    Outcome::Disagree(kind, fields.to_vec())
}

#[test]
fn a_read_agrees_by_its_data_whatever_else_the_envelope_says() {
    let there = json!({"request_id": "1", "data": {"b": 1, "a": "x"}, "warnings": null});
    let here = json!({"request_id": "2", "data": {"a": "x", "b": 1}, "warnings": ["replica"]});
    assert_eq!(read((200, there.clone()), (200, here)), Outcome::Agree);
    let other = json!({"data": {"b": 1, "a": "y"}});
    let differs = disagree(Disagreement::Differs, &["data"]);
    assert_eq!(read((200, there.clone()), (200, other.clone())), differs);
    assert_eq!(read((404, there.clone()), (404, other)), differs);
    assert_eq!(read((404, there), (404, json!({"errors": []}))), differs);
    let nothing = json!({"errors": []});
    assert_eq!(read((404, nothing.clone()), (404, nothing)), Outcome::Agree);
}

#[test]
fn verdicts_are_told_apart_by_who_allows_more() {
    let body = json!({"data": {}});
    for (primary, replica, kind) in [
        (403, 200, Disagreement::GrantsMore),
        (403, 404, Disagreement::GrantsMore),
        // The request was refused for what it is.
        (400, 200, Disagreement::Differs),
        (405, 404, Disagreement::Differs),
        (200, 403, Disagreement::RefusesMore),
        (404, 403, Disagreement::RefusesMore),
        (204, 400, Disagreement::RefusesMore),
        (200, 404, Disagreement::Differs),
        (404, 200, Disagreement::Differs),
        (403, 400, Disagreement::Differs),
        (403, 405, Disagreement::Differs),
    ] {
        assert_eq!(
            read((primary, body.clone()), (replica, body.clone())),
            disagree(kind, &["status"]),
            "{primary} {replica}"
        );
    }
    let errors = json!({"errors": ["1 error occurred"]});
    let other = json!({"errors": ["permission denied"]});
    assert_eq!(read((403, errors), (403, other)), Outcome::Agree);
}

#[test]
fn what_is_not_decided_is_a_disagreement_of_its_own_kind_or_none() {
    let facts = facts("GET", "/v1/secret/data/a", 403, &json!({}));
    let of = |standing| compare(&facts, &facts, standing);
    assert_eq!(
        of(Standing::Undecidable("policy")),
        disagree(Disagreement::Undecidable, &["policy"])
    );
    assert_eq!(of(Standing::Uncovered("request")), Outcome::NotCovered);
}

#[test]
fn of_a_lease_only_that_there_is_one_must_agree() {
    let lease = |id: &str, user: &str| {
        let id = format!("database/creds/ro/{id}");
        json!({"lease_id": id, "renewable": true, "data": {"username": user}})
    };
    let target = "/v1/database/creds/ro";
    let of = |there: Value, here: Value| compared("GET", target, (200, there), (200, here));
    assert_eq!(of(lease("1", "a"), lease("2", "b")), Outcome::Agree);
    let none = json!({"lease_id": "", "data": {"username": "a"}});
    assert!(matches!(
        of(lease("1", "a"), none),
        Outcome::Disagree(Disagreement::Differs, _)
    ));
}

#[test]
fn look_ups_agree_by_rights_end_and_what_else_they_show() {
    let shown = |policies: &[&str], ttl: u64, meta: &str| {
        json!({"data": {
            "policies": policies, "ttl": ttl, "meta": {"k": meta}, "id": ttl.to_string(),
            "expire_time": ttl.to_string(), "last_renewal": null,
        }})
    };
    let of = |there: Value, here: Value| {
        let target = "/v1/auth/token/lookup-self";
        compared("GET", target, (200, there), (200, here))
    };
    let two = shown(&["a", "b"], 100, "m");
    assert_eq!(of(two.clone(), shown(&["b", "a"], 96, "m")), Outcome::Agree);
    let late = disagree(Disagreement::Differs, &["ttl"]);
    assert_eq!(of(two.clone(), shown(&["a", "b"], 94, "m")), late);
    let other = disagree(Disagreement::Differs, &["shown"]);
    assert_eq!(of(two.clone(), shown(&["a", "b"], 100, "n")), other);
    let less = disagree(Disagreement::Differs, &["policies"]);
    assert_eq!(of(two.clone(), shown(&["a"], 100, "m")), less);
    let more = disagree(Disagreement::GrantsMore, &["policies"]);
    assert_eq!(of(two.clone(), shown(&["a", "b", "c"], 100, "m")), more);
    let worst = disagree(Disagreement::GrantsMore, &["policies", "shown"]);
    assert_eq!(of(two, shown(&["a", "c"], 100, "n")), worst);
}

#[test]
fn what_is_issued_has_the_same_policies_and_at_most_the_primarys_life() {
    let auth = |policies: &[&str], ttl: u64| {
        json!({"auth": {
            "client_token": ttl.to_string(), "token_policies": policies, "lease_duration": ttl,
            "renewable": true,
        }})
    };
    let of = |there: Value, here: Value| {
        let target = "/v1/auth/holdover/login";
        compared("PUT", target, (200, there), (200, here))
    };
    assert_eq!(of(auth(&["a"], 3600), auth(&["a"], 900)), Outcome::Agree);
    let longer = disagree(Disagreement::GrantsMore, &["ttl"]);
    assert_eq!(of(auth(&["a"], 900), auth(&["a"], 3600)), longer);
    let more = disagree(Disagreement::GrantsMore, &["policies"]);
    assert_eq!(of(auth(&["a"], 900), auth(&["a", "b"], 900)), more);
}

#[test]
fn an_answer_that_was_long_on_its_way_agrees_with_the_end_that_it_meant() {
    let keys = Keys::ephemeral(&Seeded::new(1)).unwrap();
    let call = Call::parse("GET", "/v1/auth/token/lookup-self").unwrap();
    let shown = |ttl: u64, given| {
        let body = json!({"data": {"ttl": ttl}}).to_string();
        Facts::of(&call, 200, Some(body.as_bytes()), given, &keys)
    };
    let later = |secs| T0.plus(Duration::from_secs(secs));
    let slow = |ttl| shown(ttl, T0..=later(20));
    let judged = shown(880, later(20)..=later(20));
    let of = |there: &Facts| compare(there, &judged, Standing::Decided);
    for ttl in [875, 880, 900, 905] {
        assert_eq!(of(&slow(ttl)), Outcome::Agree, "{ttl}");
    }
    let late = disagree(Disagreement::Differs, &["ttl"]);
    for ttl in [874, 906] {
        assert_eq!(of(&slow(ttl)), late, "{ttl}");
    }
}

#[test]
fn a_capability_more_is_more_granted() {
    let shown = |granted: &[&str]| json!({"data": {"x": granted, "y": ["deny"]}});
    let of = |there: &[&str], here: &[&str]| {
        let target = "/v1/sys/capabilities-self";
        compared("PUT", target, (200, shown(there)), (200, shown(here)))
    };
    assert_eq!(of(&["read", "list"], &["list", "read"]), Outcome::Agree);
    let more = disagree(Disagreement::GrantsMore, &["capabilities"]);
    assert_eq!(of(&["deny"], &["read"]), more);
    let less = disagree(Disagreement::Differs, &["capabilities"]);
    assert_eq!(of(&["read"], &["deny"]), less);
}

#[test]
fn facts_hold_no_secret() {
    let canary = "canary-7f3a";
    let kept = facts(
        "GET",
        "/v1/secret/data/a",
        200,
        &json!({"data": {"password": canary}}),
    );
    assert!(!format!("{kept:?}").contains(canary));
}

#[test]
fn a_refusal_that_denies_nobody_is_no_sign_that_more_would_be_granted() {
    let there = Facts {
        denied_by: None,
        ..facts("GET", "/v1/secret/data/a", 403, &json!({}))
    };
    let here = facts("GET", "/v1/secret/data/a", 200, &json!({}));
    let differs = disagree(Disagreement::Differs, &["status"]);
    assert_eq!(compare(&there, &here, Standing::Decided), differs);
}

/// Of the same life a token is more that may be renewed, has no parent to end with, and is not used up.
#[test]
fn what_makes_a_new_token_live_longer_is_more_granted() {
    let auth = |renewable: bool, orphan: bool, num_uses: u64| {
        json!({"auth": {
            "token_policies": ["a"], "lease_duration": 900, "renewable": renewable, "orphan": orphan,
            "num_uses": num_uses,
        }})
    };
    let of = |target: &str, there: &Value, here: &Value| {
        compared("PUT", target, (200, there.clone()), (200, here.clone()))
    };
    let most = auth(true, true, 0);
    for (less, field) in [
        (auth(false, true, 0), "renewable"),
        (auth(true, false, 0), "orphan"),
        (auth(true, true, 3), "num_uses"),
    ] {
        for target in ["/v1/auth/token/create", "/v1/auth/approle/login"] {
            let more = disagree(Disagreement::GrantsMore, &[field]);
            assert_eq!(of(target, &less, &most), more);
            assert_eq!(
                of(target, &most, &less),
                disagree(Disagreement::Differs, &[field])
            );
            assert_eq!(of(target, &less, &less), Outcome::Agree);
            let (there, here) = (
                facts("PUT", target, 200, &less),
                facts("PUT", target, 200, &most),
            );
            assert_eq!(
                blame("PUT", target, &there, &here),
                ["issuing for workload orders"]
            );
        }
    }
    // A renewal says it again of a token that is known.
    let differs = disagree(Disagreement::Differs, &["renewable"]);
    assert_eq!(
        of("/v1/auth/token/renew-self", &auth(false, true, 0), &most),
        differs
    );
}

#[test]
fn a_token_that_the_primary_withheld_is_more_granted_and_its_workload_to_blame() {
    for target in ["/v1/auth/token/create", "/v1/auth/approle/login"] {
        let there = Facts {
            denied_by: Some(DeniedBy::Issuing),
            ..facts("PUT", target, 400, &json!({"errors": ["withheld"]}))
        };
        let here = |status| facts("PUT", target, status, &json!({}));
        let of = |status| compare(&there, &here(status), Standing::Decided);
        assert_eq!(of(200), disagree(Disagreement::GrantsMore, &["status"]));
        assert_eq!(
            blame("PUT", target, &there, &here(200)),
            ["issuing for workload orders"]
        );
        assert_eq!(of(400), Outcome::Agree);
        for status in [403, 404] {
            assert_eq!(
                of(status),
                disagree(Disagreement::Differs, &["status"]),
                "{status}"
            );
        }
    }
}

#[test]
fn a_mount_more_is_more_granted_and_what_shows_it_to_blame() {
    let target = "/v1/sys/internal/ui/mounts";
    let shown = |auth: &[&str], secret: &[&str]| {
        let all = |paths: &[&str]| -> Map<String, Value> {
            let one = |path: &&str| ((*path).to_owned(), json!({"type": "kv"}));
            paths.iter().map(one).collect()
        };
        facts(
            "GET",
            target,
            200,
            &json!({"data": {"auth": all(auth), "secret": all(secret)}}),
        )
    };
    let (there, here) = (shown(&[], &["a/"]), shown(&["x/"], &["a/"]));
    let of = |there, here| compare(there, here, Standing::Decided);
    let more = disagree(Disagreement::GrantsMore, &["mounts", "data"]);
    assert_eq!(of(&there, &here), more);
    assert_eq!(
        blame("GET", target, &there, &here),
        ["policy shows", "policy too"]
    );
    let less = disagree(Disagreement::Differs, &["mounts", "data"]);
    assert_eq!(of(&here, &there), less);
    let (there, here) = (shown(&[], &["a/"]), shown(&[], &["a/", "kv/"]));
    assert_eq!(blame("GET", target, &there, &here), ["policy shows"]);
    // One that is asked for by itself.
    let target = "/v1/sys/internal/ui/mounts/kv";
    let (there, here) = (
        facts("GET", target, 403, &json!({})),
        facts("GET", target, 200, &json!({"data": {}})),
    );
    assert_eq!(
        of(&there, &here),
        disagree(Disagreement::GrantsMore, &["status"])
    );
    assert_eq!(
        blame("GET", target, &there, &here),
        ["policy shows", "policy too"]
    );
}

fn names(names: &[&str]) -> Vec<PolicyName> {
    let names = names.iter().map(|name| PolicyName::parse(name).unwrap());
    names.collect()
}

fn behind() -> Behind {
    let asked = [("kv/a", &["of-a"][..]), ("kv/b", &["of-b", "too"])];
    let asked = asked.map(|(path, policies)| (path.to_owned(), names(policies)));
    Behind {
        rule: names(&["deciding", "too"]),
        asked: asked.into(),
        mounts: [("kv/", &["shows"][..]), ("auth/x/", &["shows", "too"])]
            .map(|(mount, policies)| (mount.to_owned(), names(policies)))
            .into(),
        issuing: Some(WorkloadName::parse("orders").unwrap()),
        policies: names(&["deciding", "other", "too"]),
    }
}

/// What is to blame, by name.
fn blame(method: &str, target: &str, there: &Facts, here: &Facts) -> Vec<String> {
    let call = Call::parse(method, target).unwrap();
    let blamed = super::blamed(&call, there, here, &behind()).into_iter();
    blamed.map(|what| what.to_string()).collect()
}

#[test]
fn the_policies_behind_the_deciding_rule_are_to_blame_for_an_access_that_was_denied() {
    let target = "/v1/secret/data/a";
    let there = facts("GET", target, 403, &json!({}));
    let here = facts("GET", target, 200, &json!({}));
    let blamed = blame("GET", target, &there, &here);
    assert_eq!(blamed, ["policy deciding", "policy too"]);
    // That the token is none there is a matter of that token.
    for denied_by in [Some(DeniedBy::Token), None] {
        let there = Facts {
            denied_by,
            ..there.clone()
        };
        assert!(blame("GET", target, &there, &here).is_empty());
    }
}

#[test]
fn where_a_token_would_have_been_issued_its_workload_is_to_blame() {
    let auth = |policies: &[&str]| json!({"auth": {"token_policies": policies}});
    for target in ["/v1/auth/holdover/login", "/v1/auth/token/create"] {
        let there = facts("PUT", target, 200, &auth(&["a"]));
        let here = facts("PUT", target, 200, &auth(&["a", "b"]));
        let blamed = blame("PUT", target, &there, &here);
        assert_eq!(blamed, ["issuing for workload orders"], "{target}");
    }
    let target = "/v1/auth/token/renew-self";
    let auth = |ttl: u64| json!({"auth": {"lease_duration": ttl}});
    let (there, here) = (
        facts("PUT", target, 200, &auth(10)),
        facts("PUT", target, 200, &auth(900)),
    );
    assert!(blame("PUT", target, &there, &here).is_empty());
}

#[test]
fn of_what_is_told_only_what_was_told_more_is_to_blame() {
    let target = "/v1/sys/capabilities-self";
    let told = |a: &[&str], b: &[&str], odd: &[&str]| {
        let data = json!({"data": {"kv/a": a, "kv/b": b, "//odd": odd}});
        facts("PUT", target, 200, &data)
    };
    let there = told(&["read"], &["deny"], &["deny"]);
    let here = told(&["read"], &["read", "list"], &["read"]);
    let blamed = blame("PUT", target, &there, &here);
    assert_eq!(blamed, ["policy of-b", "policy too"]);
    let target = "/v1/auth/token/lookup-self";
    let shown =
        |policies: &[&str]| facts("GET", target, 200, &json!({"data": {"policies": policies}}));
    let blamed = blame("GET", target, &shown(&["a", "b"]), &shown(&["a", "c"]));
    assert_eq!(blamed, ["policy c"]);
}
