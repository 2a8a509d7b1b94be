//! Decisions case by case.

use alloc::vec::Vec;
use core::time::Duration;

use serde_json::{Map, json};

use super::{NOW, acl, allows, compile, decide, decide_with, policy, request};
use crate::{
    acl::{
        Acl, AclRequest, CompileError, Decision, Operation, Policy, PolicyEntry, Templating,
        Undecidable,
    },
    identity::{Entity, Identity, Metadata},
    time::WallTime,
};

const READ: Operation = Operation::Read;
const LIST: Operation = Operation::List;

#[test]
fn exactly_one_rule_decides_and_rules_do_not_add_up() {
    let acl = acl(&[
        r#"path "kv/*" { capabilities = ["read"] }"#,
        r#"path "kv/a" { capabilities = ["list"] }"#,
        r#"path "kv/b" { }"#,
    ]);
    assert!(allows(&acl, READ, "kv/c"));
    assert!(!allows(&acl, READ, "kv/a") && !allows(&acl, READ, "kv/b"));
    assert_eq!(acl.capabilities("kv/a").unwrap(), ["list"]);
}

#[test]
fn equal_bounds_of_wrapping_leave_one_duration() {
    let acl = acl(&[
        r#"path "kv/*" { capabilities = ["read"] min_wrapping_ttl = 60 max_wrapping_ttl = "1m" }"#,
    ]);
    let data = Map::new();
    let wrapped = |seconds| {
        let request = request(READ, "kv/a", &data, Some(Duration::from_secs(seconds)));
        matches!(acl.decide(&request), Decision::Allow(_))
    };
    assert!(wrapped(60) && !wrapped(59) && !wrapped(61));
}

#[test]
fn nothing_is_allowed_without_a_rule() {
    let acl = acl(&[]);
    assert_eq!(decide(&acl, READ, "kv/a"), Decision::Deny);
    assert_eq!(acl.capabilities("kv/a").unwrap(), ["deny"]);
    assert!(!acl.has_mount_access("kv/").unwrap());
}

#[test]
fn head_is_allowed_to_nobody_but_root_and_help_to_everybody() {
    let everything = r#"path "*" { capabilities = ["create", "read", "update", "delete", "list", "sudo", "patch", "scan"] }"#;
    assert_eq!(
        decide(&acl(&[everything]), Operation::Header, "kv/a"),
        Decision::Deny
    );
    let data = Map::new();
    let help = AclRequest {
        help: true,
        ..request(READ, "sys/raw/x", &data, None)
    };
    assert!(matches!(acl(&[]).decide(&help), Decision::Allow(allowed) if !allowed.is_root()));
}

#[test]
fn sudo_paths_ask_for_sudo_of_the_same_rule() {
    let plain = acl(&[r#"path "sys/*" { capabilities = ["read", "list"] }"#]);
    let sudo = acl(&[r#"path "sys/*" { capabilities = ["read", "list", "sudo"] }"#]);
    assert!(!allows(&plain, READ, "sys/raw/x") && allows(&sudo, READ, "sys/raw/x"));
    assert!(allows(&plain, READ, "sys/mounts"));
    assert!(
        !allows(&plain, READ, "/sys/raw/x"),
        "a leading slash hides nothing"
    );
}

#[test]
fn root_allows_everything_and_must_be_alone() {
    let identity = Identity::default();
    let root = Acl::compile([PolicyEntry::Root, PolicyEntry::Absent], &identity, NOW).unwrap();
    let Decision::Allow(allowed) = decide(&root, Operation::Header, "sys/raw/x") else {
        panic!("root was denied");
    };
    assert!(allowed.is_root() && root.has_mount_access("kv/").unwrap());
    assert_eq!(root.capabilities("kv/a").unwrap(), ["root"]);
    let other = policy("");
    let both = [PolicyEntry::Root, PolicyEntry::Known(&other)];
    let refused = Acl::compile(both, &identity, NOW).err();
    assert_eq!(refused, Some(CompileError::RootNotAlone));
}

#[test]
fn an_unreadable_policy_leaves_everything_undecided() {
    let known = policy(r#"path "*" { capabilities = ["read"] }"#);
    let entries = [PolicyEntry::Known(&known), PolicyEntry::Unreadable("odd")];
    let acl = Acl::compile(entries, &Identity::default(), NOW).unwrap();
    let why = Undecidable::Policy {
        policy: "odd".into(),
    };
    assert_eq!(
        decide(&acl, READ, "kv/a"),
        Decision::Undecidable(why.clone())
    );
    assert_eq!(acl.capabilities("kv/a"), Err(why.clone()));
    assert_eq!(acl.has_mount_access("kv/"), Err(why));
}

#[test]
fn an_absent_policy_contributes_nothing() {
    let known = policy(r#"path "kv/a" { capabilities = ["read"] }"#);
    let entries = [PolicyEntry::Absent, PolicyEntry::Known(&known)];
    let acl = Acl::compile(entries, &Identity::default(), NOW).unwrap();
    assert!(allows(&acl, READ, "kv/a") && !allows(&acl, READ, "kv/b"));
}

#[test]
fn what_a_policy_leaves_undecided_is_known_beforehand() {
    let text = r#"
        path "kv/events/*" { capabilities = ["subscribe"] }
        path "kv/{{ identity.entity.id }}/x" {
            capabilities = ["read"]
            control_group = { factor "f" { controlled_capabilities = ["read"]
                identity { group_names = ["g"] approvals = 1 } } }
        }
        path "kv/filtered/*" { capabilities = ["list"] list_scan_response_keys_filter_path = "{{ if .key }}{{ .key }}{{ end }}" }
        path "kv/plain" { capabilities = ["read"] }"#;
    let policy = Policy::parse_stored("p", text, NOW).unwrap();
    let texts: Vec<_> = policy
        .undecided()
        .map(|why| alloc::format!("{why}"))
        .collect();
    assert_eq!(
        texts,
        [
            r#"a rule for paths below "kv/events/" is not modelled"#,
            r#"the rule for "kv/{{identity.entity.id}}/x" asks for approval by a control group"#,
            r#"the rule for "kv/filtered/*" filters lists by a template that is not modelled"#,
        ]
    );
}

#[test]
fn a_rule_not_modelled_leaves_undecided_only_what_it_could_match() {
    let text = r#"
        path "kv/events/*" { capabilities = ["subscribe"] }
        path "kv/*" { capabilities = ["read", "list"] }"#;
    assert!(Policy::parse("p", text, NOW).is_err());
    let policy = Policy::parse_stored("p", text, NOW).unwrap();
    assert_eq!((policy.rule_count(), policy.undecided().count()), (2, 1));
    let acl = compile(&[policy], &Identity::default()).unwrap();
    let why = Undecidable::Rule {
        prefix: "kv/events/".into(),
    };
    assert_eq!(
        decide(&acl, READ, "kv/events/x"),
        Decision::Undecidable(why.clone())
    );
    assert_eq!(
        decide(&acl, LIST, "kv/events/"),
        Decision::Undecidable(why.clone())
    );
    assert_eq!(acl.capabilities("kv/events/x"), Err(why));
    assert!(allows(&acl, READ, "kv/eventsx") && allows(&acl, READ, "kv/events"));
}

#[test]
fn mount_access_is_undecided_where_an_unmodelled_rule_could_give_it() {
    let stored = |text| {
        let policy = Policy::parse_stored("p", text, NOW).unwrap();
        compile(&[policy], &Identity::default()).unwrap()
    };
    let acl = stored(r#"path "kv/a/+" { capabilities = ["subscribe"] }"#);
    assert!(acl.has_mount_access("kv/").is_err() && acl.has_mount_access("kv2/") == Ok(false));
    let granted =
        stored(r#"path "kv/a" { capabilities = ["subscribe"] } path "kv/b" { policy = "read" }"#);
    assert_eq!(granted.has_mount_access("kv/"), Ok(true));
    // The covering prefix counts only if there are no segment rules, and the unmodelled one is such a rule.
    let covered = stored(r#"path "k*" { capabilities = ["deny"] } path "z/+" { bogus = 1 }"#);
    assert!(covered.has_mount_access("kv/").is_err());
}

#[test]
fn restrictions_of_one_policy_hold_for_what_another_grants() {
    let acl = acl(&[
        r#"path "kv/*" { capabilities = ["update"] }"#,
        r#"path "kv/*" { capabilities = ["read"] allowed_parameters = { "a" = ["1"] } }"#,
        r#"path "kv/*" { denied_parameters = { "b" = [] } required_parameters = ["A"] }"#,
        r#"path "kv/*" { allowed_parameters = { "a" = ["2"] "b" = [] } required_parameters = ["a"] }"#,
    ]);
    let update = |data| match decide_with(&acl, Operation::Update, "kv/x", &data) {
        Decision::Allow(_) => true,
        Decision::Deny => false,
        Decision::Undecidable(why) => panic!("{why}"),
    };
    assert!(update(json!({"a": "1"})) && update(json!({"a": "2"})));
    assert!(!update(json!({"a": "3"})) && !update(json!({"a": "1", "b": 1})));
    assert!(!update(json!({"a": "1", "c": 1})) && !update(json!({"A": "1"})) && !update(json!({})));
}

#[test]
fn control_groups_are_undecidable_for_what_they_control_only() {
    let acl = acl(&[r#"path "kv/*" {
        capabilities = ["read", "list", "update"]
        denied_parameters = { "no" = [] }
        control_group {
            factor "f" { controlled_capabilities = ["read"] identity { group_names = ["g"] approvals = 1 } }
        }
    }"#]);
    let why = Undecidable::ControlGroup {
        path: "kv/*".into(),
    };
    assert_eq!(decide(&acl, READ, "kv/a"), Decision::Undecidable(why));
    assert!(allows(&acl, LIST, "kv/") && allows(&acl, Operation::Update, "kv/a"));
    assert_eq!(
        decide_with(&acl, READ, "kv/a", &json!({"no": 1})),
        Decision::Deny
    );
    assert_eq!(decide(&acl, Operation::Delete, "kv/a"), Decision::Deny);
}

#[test]
fn list_filters_show_what_the_caller_may_read_or_list() {
    let acl = acl(&[r#"path "kv/metadata/*" {
            capabilities = ["list"]
            list_scan_response_keys_filter_path = "{{ .path | replace \"metadata\" \"data\" }}{{ .key }}"
        }
        path "kv/data/mine/*" { capabilities = ["list"] }
        path "kv/data/unlisted/*" { capabilities = ["read"] }
        path "kv/data/held" {
            capabilities = ["read"]
            control_group {
                factor "f" { controlled_capabilities = ["read"] identity { group_names = ["g"] approvals = 1 } }
            }
        }"#]);
    let data = Map::new();
    let listing = request(LIST, "kv/metadata/", &data, None);
    let Decision::Allow(allowed) = acl.decide(&listing) else {
        panic!("the listing was not allowed");
    };
    let filter = allowed.filter().unwrap();
    let shown = ["mine/", "mine", "unlisted/", "held", "other", "other/"]
        .into_iter()
        .filter(|key| acl.shows(filter, &listing, key).unwrap());
    assert_eq!(shown.collect::<Vec<_>>(), ["mine/", "held"]);
}

#[test]
fn list_filters_not_modelled_leave_only_lists_undecided() {
    let acl = acl(&[r#"path "kv/*" {
        capabilities = ["list", "read"]
        list_scan_response_keys_filter_path = "{{ sha256 .key }}"
    }"#]);
    let why = Undecidable::ListFilter {
        path: "kv/*".into(),
    };
    assert_eq!(decide(&acl, LIST, "kv/"), Decision::Undecidable(why));
    assert!(allows(&acl, READ, "kv/a"));
    assert_eq!(decide(&acl, Operation::Scan, "kv/"), Decision::Deny);
}

#[test]
fn rules_and_policies_end_after_their_moment() {
    let text = r#"path "kv/a" { capabilities = ["read"] expiration = 1795400010 }
                  path "kv/*" { capabilities = ["list"] }"#;
    let policy = policy(text);
    let at = |secs: i64| {
        let now = WallTime::from_secs(1_795_400_000 + secs);
        Acl::compile([PolicyEntry::Known(&policy)], &Identity::default(), now).unwrap()
    };
    assert!(allows(&at(10), READ, "kv/a") && !allows(&at(11), READ, "kv/a"));
    assert!(allows(&at(11), LIST, "kv/a"), "the rule behind it decides");
    assert_eq!(
        at(0).valid_until(),
        Some(WallTime::from_secs(1_795_400_010))
    );
    assert_eq!(at(11).valid_until(), None);
    let policy = policy.clone().expiring(WallTime::from_secs(1_795_400_005));
    let gone = Acl::compile(
        [PolicyEntry::Known(&policy)],
        &Identity::default(),
        WallTime::from_secs(1_795_400_006),
    );
    assert!(!allows(&gone.unwrap(), READ, "kv/a"));
}

#[test]
fn what_is_wrong_with_an_expired_rule_does_not_matter_later() {
    let text = r#"path "kv/a" { capabilities = ["bogus"] expiration = 1795400010 }"#;
    assert!(Policy::parse("p", text, NOW).is_err());
    assert!(Policy::parse("p", text, WallTime::from_secs(1_795_400_010)).is_err());
    assert!(Policy::parse("p", text, WallTime::from_secs(1_795_400_011)).is_ok());
}

fn entity(metadata: &[(&str, &str)]) -> Identity {
    let pairs = metadata
        .iter()
        .map(|(key, value)| ((*key).into(), (*value).into()));
    Identity {
        entity: Some(Entity {
            id: "e1".into(),
            name: "orders".into(),
            metadata: pairs.collect::<Metadata>(),
            ..Entity::default()
        }),
        groups: Vec::new(),
    }
}

#[test]
fn templates_take_values_and_leave_out_rules_without_one() {
    let text = r#"path "kv/{{ identity.entity.name }}/*" { capabilities = ["read"] }
                  path "kv/{{identity.entity.metadata.team}}" { capabilities = ["list"] }
                  path "kv/fixed" { capabilities = ["read"] }"#;
    let policy = policy(text);
    let known = compile(core::slice::from_ref(&policy), &entity(&[("team", "")])).unwrap();
    assert!(allows(&known, READ, "kv/orders/a") && allows(&known, LIST, "kv/"));
    let nobody = compile(&[policy], &Identity::default()).unwrap();
    assert!(!allows(&nobody, READ, "kv/orders/a") && allows(&nobody, READ, "kv/fixed"));
}

#[test]
fn an_empty_name_is_no_value() {
    let policy = policy(r#"path "kv/{{identity.entity.name}}" { capabilities = ["read"] }"#);
    let mut identity = entity(&[]);
    identity.entity.as_mut().unwrap().name.clear();
    assert!(!allows(
        &compile(&[policy], &identity).unwrap(),
        READ,
        "kv/"
    ));
}

#[test]
fn values_given_twice_in_a_block_are_joined_and_maps_compare_as_maps() {
    let acl = acl(&[r#"path "kv/*" {
        capabilities = ["update"]
        allowed_parameters = { "a" = ["1"] "a" = ["2"] }
        allowed_parameters = { "a" = ["3"] "m" = [{ "k" = "v" }] "deep" = [{ "k" = { "z" = "v" } }] }
    }"#]);
    let update = |data| decide_with(&acl, Operation::Update, "kv/x", &data) != Decision::Deny;
    for value in ["1", "2", "3"] {
        assert!(update(json!({"a": value})), "{value}");
    }
    assert!(!update(json!({"a": "4"})));
    assert!(update(json!({"m": {"k": "v"}})) && !update(json!({"m": {"k": "v", "l": "v"}})));
    assert!(
        !update(json!({"deep": {"k": {"z": "v"}}})),
        "the primary holds an inner map as a list"
    );
}

#[test]
fn separators_and_wildcards_in_values_forbid_the_token_unless_the_policy_takes_them() {
    let policy = policy(r#"path "kv/{{identity.entity.metadata.v}}" { capabilities = ["read"] }"#);
    let with = |value, slashes, wildcards| {
        let policy = policy
            .clone()
            .with_templating(Templating { slashes, wildcards });
        compile(&[policy], &entity(&[("v", value)]))
    };
    for (value, slashes, wildcards) in
        [("a/b", false, true), ("*", true, false), ("+", true, false)]
    {
        let refused = with(value, slashes, wildcards).err();
        assert_eq!(refused, Some(CompileError::Forbidden), "{value}");
    }
    assert!(allows(&with("a/b", true, false).unwrap(), READ, "kv/a/b"));
    assert!(allows(&with("*", false, true).unwrap(), READ, "kv/x/y"));
    assert!(!allows(&with("+", false, true).unwrap(), READ, "kv/x/y"));
    let mixed = with("+*", false, true).err();
    assert_eq!(mixed, Some(CompileError::MixedWildcards));
}

#[test]
fn a_forbidden_value_counts_in_an_expired_rule_too() {
    let policy = policy(
        r#"path "kv/{{identity.entity.metadata.v}}" { policy = "read" expiration = "2020-01-01T00:00:00Z" }"#,
    );
    let refused = compile(&[policy], &entity(&[("v", "a/b")])).err();
    assert_eq!(refused, Some(CompileError::Forbidden));
}

#[test]
fn templates_of_the_time_hold_for_their_second() {
    let policy = policy(r#"path "kv/{{time.now.plus.1h}}" { capabilities = ["read"] }"#);
    let now = WallTime::from_millis(1_795_400_000_250);
    let acl = Acl::compile([PolicyEntry::Known(&policy)], &Identity::default(), now).unwrap();
    assert!(allows(&acl, READ, "kv/1795403600"));
    assert_eq!(
        acl.valid_until(),
        Some(WallTime::from_millis(1_795_400_000_999))
    );
}

#[test]
fn rules_of_a_namespace_are_below_it() {
    let policy = policy(
        r#"path "kv/+" { capabilities = ["read"] } path "sys/*" { capabilities = ["read"] }"#,
    );
    let acl = compile(&[policy.in_namespace("n1/")], &Identity::default()).unwrap();
    let data = Map::new();
    let below = |namespace, path| {
        let request = AclRequest {
            namespace,
            ..request(READ, path, &data, None)
        };
        matches!(acl.decide(&request), Decision::Allow(_))
    };
    assert!(below("n1/", "kv/a") && below("", "n1/kv/a") && !below("", "kv/a"));
    assert!(
        below("n1/", "sys/mounts") && !below("n1/", "sys/raw"),
        "sudo paths are of the namespace"
    );
    assert!(acl.has_mount_access("n1/kv/").unwrap() && !acl.has_mount_access("kv/").unwrap());
}

#[test]
fn the_default_policy_lets_a_token_look_itself_up_by_reading_only() {
    let sample = include_str!("../../../tests/samples/default_policy.hcl");
    let acl = acl(&[sample]);
    assert!(allows(&acl, READ, "auth/token/lookup-self"));
    assert!(!allows(&acl, Operation::Update, "auth/token/lookup-self"));
    assert!(allows(&acl, Operation::Update, "auth/token/renew-self"));
    assert!(allows(&acl, Operation::Update, "sys/capabilities-self"));
    assert!(!allows(&acl, READ, "secret/a"));
}
