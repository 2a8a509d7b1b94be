//! Answers recorded from a live OpenBao 2.7.2, replayed. The files are in `tests/samples`.

use alloc::{collections::BTreeMap, string::String, vec::Vec};
use core::time::Duration;

use serde::Deserialize;
use serde_json::{Map, Value};

use crate::{
    acl::{Acl, AclRequest, Decision, Operation, Policy, PolicyEntry, Templating, Undecidable},
    identity::Identity,
    time::WallTime,
};

/// When the samples were taken: 2026-11-23.
const NOW: WallTime = WallTime::from_secs(1_795_400_000);

fn acl(policies: &[Policy]) -> Acl {
    let entries = policies.iter().map(PolicyEntry::Known);
    Acl::compile(entries, &Identity::default(), NOW).unwrap()
}

#[derive(Deserialize)]
struct Matching {
    policies: Vec<String>,
    capabilities: BTreeMap<String, Vec<String>>,
}

#[test]
fn sixty_random_policy_sets_have_the_primarys_capabilities() {
    let samples = include_str!("../../../tests/samples/matching.json");
    let samples: Vec<Matching> = serde_json::from_str(samples).unwrap();
    assert_eq!(samples.len(), 60);
    for sample in samples {
        let parse = |text: &String| Policy::parse("p", text, NOW).unwrap();
        let acl = acl(&sample.policies.iter().map(parse).collect::<Vec<_>>());
        for (path, names) in sample.capabilities {
            assert_eq!(
                acl.capabilities(&path).unwrap(),
                names,
                "{path} {:?}",
                sample.policies
            );
        }
    }
}

#[derive(Deserialize)]
struct Text {
    name: String,
    text: String,
    /// `None` where the primary rejected it.
    capabilities: Option<BTreeMap<String, Vec<String>>>,
}

#[test]
fn policy_texts_are_read_or_rejected_as_the_primary_does() {
    let samples = include_str!("../../../tests/samples/hcl1.json");
    let samples: Vec<Text> = serde_json::from_str(samples).unwrap();
    for sample in samples {
        // The API, not the parser, refuses an empty text.
        if sample.text.is_empty() {
            continue;
        }
        let parsed = Policy::parse("p", &sample.text, NOW);
        let accepted = sample.capabilities.is_some();
        assert_eq!(parsed.is_ok(), accepted, "{}: {parsed:?}", sample.name);
        let Ok(policy) = parsed else { continue };
        let acl = acl(&[policy]);
        for (path, names) in sample.capabilities.unwrap_or_default() {
            assert_eq!(
                acl.capabilities(&path).unwrap(),
                names,
                "{} {path}",
                sample.name
            );
        }
    }
}

#[derive(Deserialize)]
struct Sample {
    label: String,
    policy: String,
    accepted: bool,
    #[serde(default)]
    checks: Vec<Check>,
}

#[derive(Deserialize)]
struct Check {
    method: String,
    path: String,
    result: String,
    #[serde(default)]
    body: Map<String, Value>,
    #[serde(default)]
    query: String,
    #[serde(default)]
    headers: BTreeMap<String, String>,
}

#[test]
fn requests_are_allowed_and_denied_as_by_the_primary() {
    let samples = include_str!("../../../tests/samples/policies.json");
    let samples: Vec<Sample> = serde_json::from_str(samples).unwrap();
    let mut checked = 0;
    for sample in samples {
        if sample.label == "base64" {
            continue;
        }
        let parsed = Policy::parse("p", &sample.policy, NOW);
        assert_eq!(
            parsed.is_ok(),
            sample.accepted,
            "{}: {parsed:?}",
            sample.label
        );
        let Ok(policy) = parsed else { continue };
        let acl = acl(&[policy]);
        for check in &sample.checks {
            let decision = decide(&acl, check);
            let agrees = match (check.result.as_str(), &decision) {
                ("allow", Decision::Allow(_)) | ("deny", Decision::Deny) => true,
                // The response was wrapped for approval.
                ("status 200", Decision::Undecidable(Undecidable::ControlGroup { .. })) => true,
                // The backend could not be filtered; the ACL had allowed it.
                ("status 500", Decision::Allow(allowed)) => allowed.filter().is_some(),
                // Refused before the ACL is asked.
                ("status 307" | "status 400", _) => true,
                _ => false,
            };
            let (label, method) = (&sample.label, &check.method);
            assert!(agrees, "{label}: {method} {}: {decision:?}", check.path);
            checked += 1;
        }
    }
    assert!(checked > 150, "{checked}");
}

#[derive(Deserialize)]
struct Mutated {
    text: String,
    /// `None` where the primary rejected it; empty where what it grants is left to chance there.
    capabilities: Option<BTreeMap<String, Vec<String>>>,
}

#[test]
fn mutated_texts_are_read_or_rejected_as_the_primary_does() {
    let samples = include_str!("../../../tests/samples/texts.json");
    let samples: Vec<Mutated> = serde_json::from_str(samples).unwrap();
    assert!(samples.len() > 700, "{}", samples.len());
    for Mutated { text, capabilities } in samples {
        let parsed = Policy::parse("p", &text, NOW);
        assert_eq!(
            parsed.is_ok(),
            capabilities.is_some(),
            "{text:?}: {parsed:?}"
        );
        let Ok(policy) = parsed else { continue };
        let acl = acl(&[policy]);
        for (path, names) in capabilities.unwrap_or_default() {
            assert_eq!(acl.capabilities(&path).unwrap(), names, "{text:?} {path}");
        }
    }
}

#[derive(Deserialize)]
struct Recorded {
    policies: Vec<String>,
    capabilities: BTreeMap<String, Vec<String>>,
    mounts: BTreeMap<String, bool>,
    requests: Vec<Recording>,
}

#[derive(Deserialize)]
struct Recording {
    operation: String,
    path: String,
    data: Map<String, Value>,
    wrap: Option<u64>,
    result: String,
    #[serde(default)]
    keys: Vec<String>,
    shown: Option<Vec<String>>,
}

#[test]
fn a_hundred_random_policy_sets_decide_as_the_primary_did() {
    let samples = include_str!("../../../tests/samples/requests.json");
    let samples: Vec<Recorded> = serde_json::from_str(samples).unwrap();
    assert_eq!(samples.len(), 100);
    for sample in samples {
        let policies: Vec<_> = sample
            .policies
            .iter()
            .map(|text| Policy::parse("p", text, NOW).unwrap())
            .collect();
        let acl = acl(&policies);
        let unmodelled = |error: &Undecidable| {
            let modelled = policies
                .iter()
                .all(|policy| policy.undecided().count() == 0);
            assert!(
                !modelled && matches!(error, Undecidable::Rule { .. }),
                "{error}"
            );
        };
        for (path, names) in &sample.capabilities {
            match acl.capabilities(path) {
                Ok(ours) => assert_eq!(ours, *names, "{path} {:?}", sample.policies),
                Err(error) => unmodelled(&error),
            }
        }
        for (mount, access) in &sample.mounts {
            match acl.has_mount_access(mount) {
                Ok(ours) => assert_eq!(ours, *access, "{mount} {:?}", sample.policies),
                Err(error) => unmodelled(&error),
            }
        }
        for recording in &sample.requests {
            let decision = replay(&acl, recording);
            match (&decision, recording.result.as_str()) {
                (Decision::Allow(_), "allow") | (Decision::Deny, "deny") => {}
                (Decision::Undecidable(Undecidable::ControlGroup { .. }), "approval") => {}
                (Decision::Undecidable(error), _) => unmodelled(error),
                (_, result) => panic!(
                    "{result}: {} {} {:?}: {decision:?}",
                    recording.operation, recording.path, sample.policies
                ),
            }
        }
    }
}

/// Decides, and checks what a list filter shows.
fn replay(acl: &Acl, recording: &Recording) -> Decision {
    let request = AclRequest {
        namespace: "",
        path: &recording.path,
        operation: operation(&recording.operation),
        data: &recording.data,
        wrap_ttl: recording.wrap.map(Duration::from_secs),
        help: false,
    };
    let decision = acl.decide(&request);
    if let (Decision::Allow(allowed), Some(shown)) = (&decision, &recording.shown) {
        let filter = allowed.filter().unwrap();
        let ours = recording.keys.iter();
        let ours: Vec<_> = ours
            .filter(|key| acl.shows(filter, &request, key).unwrap())
            .collect();
        assert_eq!(ours, shown.iter().collect::<Vec<_>>(), "{}", recording.path);
    }
    decision
}

fn operation(name: &str) -> Operation {
    match name {
        "GET" | "read" => Operation::Read,
        "LIST" | "list" => Operation::List,
        "SCAN" | "scan" => Operation::Scan,
        "create" => Operation::Create,
        "POST" | "update" => Operation::Update,
        "PATCH" | "patch" => Operation::Patch,
        "DELETE" | "delete" => Operation::Delete,
        name => panic!("{name}"),
    }
}

#[derive(Deserialize)]
struct Templated {
    identity: Identity,
    policies: Vec<TemplatedPolicy>,
    error: Option<String>,
    capabilities: BTreeMap<String, Vec<String>>,
}

#[derive(Deserialize)]
struct TemplatedPolicy {
    text: String,
    slashes: bool,
    wildcards: bool,
}

#[test]
fn templates_are_filled_in_or_forbidden_as_by_the_primary() {
    let samples = include_str!("../../../tests/samples/identities.json");
    let samples: Vec<Templated> = serde_json::from_str(samples).unwrap();
    assert_eq!(samples.len(), 120);
    for sample in samples {
        let parse = |policy: &TemplatedPolicy| {
            let templating = Templating {
                slashes: policy.slashes,
                wildcards: policy.wildcards,
            };
            let parsed = Policy::parse("p", &policy.text, NOW).unwrap();
            parsed.with_templating(templating)
        };
        let policies: Vec<_> = sample.policies.iter().map(parse).collect();
        let entries = policies.iter().map(PolicyEntry::Known);
        let compiled = Acl::compile(entries, &sample.identity, NOW);
        let error = compiled
            .as_ref()
            .err()
            .map(|error| alloc::format!("{error:?}"));
        assert_eq!(error, sample.error, "{:?}", sample.identity);
        let Ok(acl) = compiled else { continue };
        for (path, names) in sample.capabilities {
            assert_eq!(
                acl.capabilities(&path).unwrap(),
                names,
                "{path} {:?}",
                sample.identity
            );
        }
    }
}

fn decide(acl: &Acl, check: &Check) -> Decision {
    let operation = operation(&check.method);
    let mut path = decoded(&check.path);
    if matches!(operation, Operation::List | Operation::Scan) && !path.ends_with('/') {
        path.push('/');
    }
    let mut data = check.body.clone();
    for (name, value) in check
        .query
        .split('&')
        .filter_map(|pair| pair.split_once('='))
    {
        let value = Value::from(value);
        let repeated = data
            .remove(name)
            .map(|first| Value::from([first, value.clone()].to_vec()));
        data.insert(name.into(), repeated.unwrap_or(value));
    }
    let ttl = check
        .headers
        .get("X-Vault-Wrap-TTL")
        .and_then(|ttl| ttl.trim_end_matches('s').parse().ok());
    acl.decide(&AclRequest {
        namespace: "",
        path: &path,
        operation,
        data: &data,
        wrap_ttl: ttl.map(Duration::from_secs),
        help: false,
    })
}

fn decoded(path: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = path.bytes();
    while let Some(byte) = rest.next() {
        let mut digit = || char::from(rest.next().unwrap()).to_digit(16).unwrap();
        bytes.push(match byte {
            b'%' => u8::try_from(digit() * 16 + digit()).unwrap(),
            byte => byte,
        });
    }
    String::from_utf8(bytes).unwrap()
}
