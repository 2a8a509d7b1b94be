//! Whether two answers are the same, after what must differ is taken out. What that is, is all here.

use serde_json::{Map, Value};
use shared::span::go;

use crate::tokens::End;

/// Random or named by the side itself.
const OWN: [&str; 4] = ["accessor", "client_token", "id", "request_id"];

/// Moments, which both sides read a little apart. That they are there, or are not, is compared.
const MOMENTS: [&str; 5] = [
    "creation_time",
    "expire_time",
    "issue_time",
    "last_renewal",
    "last_renewal_time",
];

/// Spans of whole seconds that may fall on either side of a second.
const SPANS: [&str; 1] = ["lease_duration"];

/// Spans of look-ups: each side's is compared with what that side gave before.
const LEFT: [&str; 2] = ["creation_ttl", "ttl"];

/// What one side answered.
pub(crate) type Said = (u16, Value);

/// What an answer is measured by.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Measure {
    /// What the workload's bounds leave, in seconds: the replica gives the smaller of that and what the primary gives.
    pub(crate) most: f64,
    /// How far apart the sides may have acted, in seconds, at the token's issue and now.
    pub(crate) apart: f64,
    /// A token that the primary made for both: its moments are the same on both sides.
    pub(crate) mirrored: bool,
}

/// What is different, if anything is.
pub(crate) fn difference(primary: &Said, replica: &Said, measure: Measure) -> Result<(), String> {
    if primary.0 != replica.0 {
        return Err(format!("status {} and {}", primary.0, replica.0));
    }
    let part = |said: &Said, name: &str| said.1.get(name).cloned().unwrap_or_default();
    if part(primary, "errors") != part(replica, "errors") {
        return Err("errors differ".into());
    }
    // Where a maximum cuts, whole seconds are counted from issue on, and the replica ends with the maximum itself.
    let cut = [primary, replica]
        .iter()
        .any(|said| said.1.to_string().contains("is capped accordingly"));
    let slack = measure.apart + if cut { 2.01 } else { 1.01 };
    for name in ["auth", "data"] {
        objects(
            name,
            &part(primary, name),
            &part(replica, name),
            slack,
            measure,
        )?;
    }
    for name in ["lease_id", "renewable", "lease_duration", "wrap_info"] {
        if part(primary, name) != part(replica, name) {
            return Err(format!("{name} differs"));
        }
    }
    warnings(
        &part(primary, "warnings"),
        &part(replica, "warnings"),
        slack,
    )
}

fn objects(
    what: &str,
    primary: &Value,
    replica: &Value,
    slack: f64,
    measure: Measure,
) -> Result<(), String> {
    let (Value::Object(primary), Value::Object(replica)) = (primary, replica) else {
        return match primary == replica {
            true => Ok(()),
            false => Err(format!("{what} differs")),
        };
    };
    let keys = |object: &Map<String, Value>| object.keys().cloned().collect::<Vec<_>>();
    if keys(primary) != keys(replica) {
        return Err(format!(
            "{what} has {:?} and {:?}",
            keys(primary),
            keys(replica)
        ));
    }
    for (key, of_primary) in primary {
        let of_replica = &replica[key];
        let same = match key.as_str() {
            key if OWN.contains(&key) && !measure.mirrored => {
                of_primary.is_string() && of_replica.is_string()
            }
            key if MOMENTS.contains(&key) && !measure.mirrored => {
                of_primary.is_null() == of_replica.is_null()
            }
            key if SPANS.contains(&key) => spans(of_primary, of_replica, slack, measure),
            key if LEFT.contains(&key) => of_primary.is_u64() && of_replica.is_u64(),
            _ => of_primary == of_replica,
        };
        if !same {
            return Err(format!(
                "{what}.{key} is {of_primary} and {of_replica}, with {measure:?}"
            ));
        }
    }
    Ok(())
}

fn spans(primary: &Value, replica: &Value, slack: f64, measure: Measure) -> bool {
    let (Some(primary), Some(replica)) = (primary.as_f64(), replica.as_f64()) else {
        return false;
    };
    (primary.min(measure.most) - replica).abs() <= slack
}

/// Whether a look-up shows what is left until `end`, and what was given at first, give or take a second and the rounding of either side. It was asked
/// between the two moments of `asked`.
pub(crate) fn fits(said: &Said, end: End, first: f64, asked: (f64, f64)) -> Result<(), String> {
    let shown = |name: &str| {
        said.1
            .pointer(&format!("/data/{name}"))
            .and_then(Value::as_f64)
    };
    let (Some(ttl), Some(creation)) = (shown("ttl"), shown("creation_ttl")) else {
        return Ok(());
    };
    let (least, most) = (end.earliest - asked.1 - 1.6, end.latest - asked.0 + 1.6);
    if ttl < least || ttl > most {
        return Err(format!(
            "ttl is {ttl}, not between {least:.2} and {most:.2}"
        ));
    }
    match (creation - first).abs() < 0.5 {
        true => Ok(()),
        false => Err(format!("creation_ttl is {creation}, and {first} was given")),
    }
}

/// The replica's last one says that it is the replica's answer.
fn warnings(primary: &Value, replica: &Value, slack: f64) -> Result<(), String> {
    let texts = |value: &Value| -> Vec<String> {
        let all = value.as_array().into_iter().flatten();
        all.filter_map(Value::as_str).map(str::to_owned).collect()
    };
    let (primary, mut replica) = (texts(primary), texts(replica));
    replica.pop();
    let alike = |primary: &[String], replica: &[String]| {
        let mut pairs = primary.iter().zip(replica);
        primary.len() == replica.len() && pairs.all(|(one, other)| texts_alike(one, other, slack))
    };
    let telling = |all: &[String]| -> Vec<String> {
        let telling = all.iter().filter(|text| !cuts_little(text, slack));
        telling.cloned().collect()
    };
    let same = alike(&primary, &replica) || alike(&telling(&primary), &telling(&replica));
    match same {
        true => Ok(()),
        false => Err(format!("warnings are {primary:?} and {replica:?}")),
    }
}

/// The spans that a warning quotes.
fn quoted(text: &str) -> Vec<f64> {
    let parts = text.split('"').skip(1).step_by(2);
    let spans = parts.filter_map(|part| go::parse(part).ok());
    spans.map(|given| given.span.as_secs_f64()).collect()
}

/// A TTL that was cut by so little that only one side may have cut it.
fn cuts_little(text: &str, slack: f64) -> bool {
    let spans = quoted(text);
    text.contains("is capped accordingly")
        && matches!(spans[..], [asked, left] if asked - left <= slack)
}

fn texts_alike(one: &str, other: &str, slack: f64) -> bool {
    let plain = |text: &str| -> String { text.split('"').step_by(2).collect() };
    if !one.contains("is capped accordingly") {
        return one == other;
    }
    let (first, second) = (quoted(one), quoted(other));
    plain(one) == plain(other)
        && first.len() == second.len()
        && first
            .iter()
            .zip(&second)
            .all(|(a, b)| (a - b).abs() <= slack)
}

/// Whether the primary warned of anything.
pub(crate) fn warned(said: &Said) -> bool {
    said.1.get("warnings").is_some_and(Value::is_array)
}
