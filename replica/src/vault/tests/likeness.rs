//! What OpenBao 2.7.2 sent, and whether an answer is like it.

use serde_json::Value;

use super::asked::Said;

/// What OpenBao 2.7.2 sent: `{status, body}`.
pub(super) fn sample(name: &str) -> Value {
    const SAMPLES: &str = include_str!("../../../tests/samples/answers.json");
    let samples: Value = serde_json::from_str(SAMPLES).unwrap();
    assert!(samples.get(name).is_some(), "no sample {name}");
    samples[name].clone()
}

/// Asserts that the answer is what the primary said, but for values that differ by nature.
pub(super) fn assert_like(said: &Said, name: &str) {
    let sample = sample(name);
    assert_eq!(Value::from(said.status), sample["status"], "{}", said.text);
    assert_eq!(
        masked(said.body.clone()),
        masked(sample["body"].clone()),
        "{name}"
    );
}

/// With ids, moments and texts replaced by their kind, so that shapes compare.
fn masked(value: Value) -> Value {
    const BY_NATURE: [&str; 18] = [
        "accessor",
        "client_token",
        "creation_time",
        "creation_ttl",
        "expire_time",
        "id",
        "issue_time",
        "last_renewal",
        "last_renewal_time",
        "lease_duration",
        "lease_id",
        "password",
        "request_id",
        "server_time_utc",
        "ttl",
        "updated_time",
        "username",
        "warnings",
    ];
    match value {
        Value::Object(fields) => fields
            .into_iter()
            .filter(|(name, _)| name != "holdover")
            .map(|(name, value)| match BY_NATURE.contains(&name.as_str()) {
                true if name == "warnings" => (name, Value::Null),
                true => (name, kind(&value).into()),
                false => (name, masked(value)),
            })
            .collect(),
        other => other,
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}
