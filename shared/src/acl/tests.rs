//! The module as a whole: against what a live OpenBao 2.7.2 answered, case by case, and against properties.

use alloc::{string::String, vec::Vec};
use core::time::Duration;

use serde_json::{Map, Value};

use super::{Acl, AclRequest, CompileError, Decision, Operation, Policy, PolicyEntry};
use crate::{identity::Identity, time::WallTime};

mod decisions;
mod hostile;
mod properties;
mod templated;
mod vectors;

/// 2026-11-23.
const NOW: WallTime = WallTime::from_secs(1_795_400_000);

fn policy(text: &str) -> Policy {
    Policy::parse("p", text, NOW).unwrap()
}

fn compile(policies: &[Policy], identity: &Identity) -> Result<Acl, CompileError> {
    Acl::compile(policies.iter().map(PolicyEntry::Known), identity, NOW)
}

fn acl(texts: &[&str]) -> Acl {
    let policies: Vec<_> = texts.iter().map(|text| policy(text)).collect();
    compile(&policies, &Identity::default()).unwrap()
}

fn decide_with(acl: &Acl, operation: Operation, path: &str, data: &Value) -> Decision {
    let data = data.as_object().cloned().unwrap_or_default();
    acl.decide(&request(operation, path, &data, None))
}

fn decide(acl: &Acl, operation: Operation, path: &str) -> Decision {
    decide_with(acl, operation, path, &Value::Null)
}

fn allows(acl: &Acl, operation: Operation, path: &str) -> bool {
    matches!(decide(acl, operation, path), Decision::Allow(_))
}

fn request<'a>(
    operation: Operation,
    path: &'a str,
    data: &'a Map<String, Value>,
    wrap_ttl: Option<Duration>,
) -> AclRequest<'a> {
    AclRequest {
        namespace: "",
        path,
        operation,
        data,
        wrap_ttl,
        help: false,
    }
}
