//! Which policies say something else without an entity.

use alloc::{format, vec::Vec};

use proptest::prelude::*;
use serde_json::json;

use super::{Operation, Policy, allows, compile, policy};
use crate::identity::Identity;

/// What OpenBao's own `default` says of identities, and some of the rest.
const DEFAULT: &str = r#"
    path "auth/token/lookup-self" { capabilities = ["read"] }
    path "identity/entity/id/{{identity.entity.id}}" { capabilities = ["read"] }
    path "identity/entity/name/{{identity.entity.name}}" { capabilities = ["read"] }
    path "cubbyhole/*" { capabilities = ["create", "read", "update", "delete", "list"] }
    path "sys/leases/renew" { capabilities = ["update"] }
    path "identity/oidc/provider/+/authorize" { capabilities = ["read", "update"] }"#;

fn are_templated(texts: &[&str]) -> bool {
    let policies: Vec<_> = texts.iter().map(|text| policy(text)).collect();
    Policy::are_templated(&policies.iter().collect::<Vec<_>>())
}

#[test]
fn a_policy_that_names_an_identity_is_but_for_what_default_says() {
    assert!(!are_templated(&[]));
    assert!(!are_templated(&[
        r#"path "kv/*" { capabilities = ["read"] }"#
    ]));
    assert!(!are_templated(&[
        r#"path "kv/{{time.now.unix}}/*" { capabilities = ["read"] }"#
    ]));
    assert!(!are_templated(&[DEFAULT]));
    for path in [
        "kv/{{identity.entity.id}}",
        "kv/+/{{ identity.entity.name }}/*",
        "{{identity.entity.metadata.team}}/*",
        "kv/{{identity.groups.names.ops.id}}",
        "identity-of/{{identity.entity.id}}",
        "id{{identity.entity.name}}",
    ] {
        let text = format!("path {path:?} {{ capabilities = [\"read\"] }}");
        assert!(are_templated(&[&text]), "{path}");
        assert!(are_templated(&[DEFAULT, &text]), "{path}");
    }
}

#[test]
fn a_rule_about_the_entity_itself_counts_where_it_may_be_what_narrows_another() {
    for (path, narrowed) in [
        ("*", true),
        ("+/entity/*", true),
        ("identity/*", true),
        ("identity/entity/id/*", true),
        ("identity/entity/name/a", true),
        ("identity/+/id/a", true),
        ("identity/group/*", false),
        ("identity/entity/merge", false),
        ("kv/*", false),
    ] {
        let text = format!("path {path:?} {{ capabilities = [\"update\"] }}");
        assert_eq!(are_templated(&[DEFAULT, &text]), narrowed, "{path}");
        assert_eq!(are_templated(&[&text, DEFAULT]), narrowed, "{path}");
        assert!(!are_templated(&[&text]), "{path}");
    }
    // Neither is there without the entity.
    let same = r#"path "identity/entity/id/{{identity.entity.id}}" { capabilities = ["deny"] }"#;
    assert!(!are_templated(&[DEFAULT, same]));
}

#[test]
fn without_the_entity_what_is_not_templated_allows_no_more() {
    let entity: Identity =
        serde_json::from_value(json!({"entity": {"id": "e1", "name": "n"}})).unwrap();
    let wide = r#"path "identity/*" { capabilities = ["update"] }"#;
    let allows_update = |texts: &[&str], identity: &Identity| {
        let policies: Vec<_> = texts.iter().map(|text| policy(text)).collect();
        let acl = compile(&policies, identity).unwrap();
        allows(&acl, Operation::Update, "identity/entity/id/e1")
    };
    // What is guarded against: one without it may do what one with it may not.
    assert!(!allows_update(&[DEFAULT, wide], &entity));
    assert!(allows_update(&[DEFAULT, wide], &Identity::default()));
    assert!(are_templated(&[DEFAULT, wide]));
}

/// Paths of rules, and what may match them.
const RULES: [&str; 12] = [
    "*",
    "+/entity/*",
    "identity/*",
    "identity/entity/*",
    "identity/entity/id/e1",
    "identity/entity/id/{{identity.entity.id}}",
    "identity/+/id/{{identity.entity.id}}",
    "identity/entity/{{identity.entity.name}}/*",
    "identity/group/*",
    "kv/*",
    "kv/{{identity.entity.id}}",
    "{{identity.entity.name}}/*",
];
const PATHS: [&str; 6] = [
    "identity/entity/id/e1",
    "identity/entity/id/e2",
    "identity/entity/n/a",
    "identity/group/id/e1",
    "kv/e1",
    "n/a",
];
const CAPABILITIES: [&str; 4] = ["read", "update", "delete", "deny"];

proptest! {
    /// What is not templated lets a token without the entity do no more than one with it, and no less but to that entity.
    #[test]
    fn a_token_of_nobody_does_no_more(
        drawn in proptest::collection::vec(proptest::collection::vec((0usize..12, 0usize..4), 0..4), 1..4),
    ) {
        let policies = drawn.iter().map(|rules| {
            let rules = rules.iter().map(|(path, capability)| {
                let (path, capability) = (RULES[*path], CAPABILITIES[*capability]);
                format!("path {path:?} {{ capabilities = [{capability:?}] }}\n")
            });
            policy(&rules.collect::<alloc::string::String>())
        });
        let policies: Vec<_> = policies.collect();
        if Policy::are_templated(&policies.iter().collect::<Vec<_>>()) {
            return Ok(());
        }
        let entity = json!({"entity": {"id": "e1", "name": "n"}});
        let entity: Identity = serde_json::from_value(entity).unwrap();
        let with = compile(&policies, &entity).unwrap();
        let without = compile(&policies, &Identity::default()).unwrap();
        for path in PATHS {
            for operation in [Operation::Read, Operation::Update, Operation::Delete] {
                let (with, without) = (allows(&with, operation, path), allows(&without, operation, path));
                prop_assert!(with || !without, "{path}");
                prop_assert!(with == without || path.starts_with("identity/"), "{path}");
            }
        }
    }
}
