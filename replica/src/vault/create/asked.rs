//! The fields of a creation, converted as the primary's framework converts them, with its texts where they do not.

use std::collections::BTreeMap;

use serde_json::Value;
use shared::token::create::TokenRequest;

use super::super::{
    fields,
    parameter::{self, Params},
    refusal::{Answered, Refusal, Why},
};

/// Every field that the three paths know.
const KNOWN: [&str; 14] = [
    "display_name",
    "entity_alias",
    "explicit_max_ttl",
    "id",
    "lease",
    "meta",
    "no_default_policy",
    "no_parent",
    "num_uses",
    "period",
    "policies",
    "renewable",
    "ttl",
    "type",
];

/// What was asked, and what the primary says of parameters that it did not look at.
pub(super) struct AskedFields {
    pub(super) asked: TokenRequest,
    pub(super) warnings: Vec<String>,
}

impl AskedFields {
    /// Reads a body. With a `role` in the path one in the body does not count.
    pub(super) fn read(data: &Params, role: bool) -> Answered<Self> {
        let text = |name| text(data, name);
        let flag = |name| flag(data, name, false);
        let asked = TokenRequest {
            policies: policies(data)?,
            no_default_policy: flag("no_default_policy")?,
            no_parent: flag("no_parent")?,
            not_renewable: !self::flag(data, "renewable", true)?,
            ttl: text("ttl")?,
            lease: text("lease")?,
            explicit_max_ttl: text("explicit_max_ttl")?,
            period: text("period")?,
            num_uses: uses(data)?,
            kind: text("type")?,
            display_name: text("display_name")?,
            meta: meta(data)?,
            entity_alias: text("entity_alias")?,
            id: text("id")?,
        };
        Ok(Self {
            asked,
            warnings: unread(data, role),
        })
    }
}

/// What the primary says of fields that it does not know, or takes from the path.
fn unread(data: &Params, role: bool) -> Vec<String> {
    let replaced = Some("role_name").filter(|name| role && data.contains_key(*name));
    let names = data.keys().map(String::as_str);
    let ignored = names.filter(|name| !KNOWN.contains(name) && Some(*name) != replaced);
    fields::warnings(ignored.collect(), replaced)
}

/// A value as the primary's weak conversion makes a string of it; none of lists and objects.
fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::Null => Some(String::new()),
        Value::Bool(true) => Some("1".into()),
        Value::Bool(false) => Some("0".into()),
        Value::Number(number) => Some(number.to_string()),
        Value::String(text) => Some(text.clone()),
        Value::Array(_) | Value::Object(_) => None,
    }
}

fn unconvertible(name: &str, at: &str, wanted: &str, value: &Value) -> Refusal {
    let kind = match value {
        Value::Array(_) => "[]interface {}",
        _ => "map[string]interface {}",
    };
    let list = match at {
        "" => "",
        _ => "decoding failed due to the following error(s):\n\n",
    };
    let reason = format!("{list}'{at}' expected type '{wanted}', got unconvertible type '{kind}'");
    Refusal::field(name, &reason)
}

fn text(data: &Params, name: &'static str) -> Answered<String> {
    let value = data.get(name).unwrap_or(&Value::Null);
    scalar(value).ok_or_else(|| unconvertible(name, "", "string", value))
}

/// Absent is `default`; `null` and empty are false.
fn flag(data: &Params, name: &'static str, default: bool) -> Answered<bool> {
    let Some(value) = data.get(name) else {
        return Ok(default);
    };
    let text = scalar(value).ok_or_else(|| unconvertible(name, "", "bool", value))?;
    match text.as_str() {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Ok(true),
        "" | "0" | "f" | "F" | "FALSE" | "false" | "False" => Ok(false),
        _ => {
            let reason = "'' cannot parse value as 'bool': strconv.ParseBool: invalid syntax";
            Err(Refusal::field(name, reason))
        }
    }
}

fn uses(data: &Params) -> Answered<i64> {
    const NAME: &str = "num_uses";
    let value = data.get(NAME).unwrap_or(&Value::Null);
    let text = scalar(value).ok_or_else(|| unconvertible(NAME, "", "int", value))?;
    let data = Params::from_iter([(NAME.to_owned(), Value::String(text))]);
    Ok(parameter::integer(&data, NAME)?.unwrap_or(0))
}

/// A list of names; one string is one name, with whatever commas are in it.
fn policies(data: &Params) -> Answered<Vec<String>> {
    const NAME: &str = "policies";
    let one = |(at, value): (usize, &Value)| {
        scalar(value).ok_or_else(|| unconvertible(NAME, &format!("[{at}]"), "string", value))
    };
    match data.get(NAME) {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(Value::String(text)) if text.is_empty() => Ok(Vec::new()),
        Some(Value::Object(object)) if object.is_empty() => Ok(Vec::new()),
        Some(Value::Array(all)) => all.iter().enumerate().map(one).collect(),
        Some(value) => Ok(vec![one((0, value))?]),
    }
}

/// An object of texts, or `key=value` texts.
fn meta(data: &Params) -> Answered<Option<BTreeMap<String, String>>> {
    const NAME: &str = "meta";
    let pair = |(at, text): (usize, &Value)| {
        let text = text.as_str().ok_or(Why::Parameter(NAME))?;
        let pair = text.split_once('=').filter(|(key, _)| !key.is_empty());
        let (key, value) = pair.ok_or_else(|| {
            Refusal::field(
                NAME,
                &format!("invalid key pair at index {at} in field \"{NAME}\""),
            )
        })?;
        Ok((key.to_owned(), value.to_owned()))
    };
    match data.get(NAME) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Object(object)) => object
            .iter()
            .map(|(key, value)| Ok((key.clone(), scalar(value).ok_or(Why::Parameter(NAME))?)))
            .collect::<Answered<_>>()
            .map(Some),
        Some(Value::Array(pairs)) => pairs
            .iter()
            .enumerate()
            .map(pair)
            .collect::<Answered<_>>()
            .map(Some),
        Some(text @ Value::String(_)) => Ok(Some(BTreeMap::from([pair((0, text))?]))),
        Some(_) => Err(Why::Parameter(NAME).into()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(body: Value) -> Result<AskedFields, Refusal> {
        let Value::Object(data) = body else {
            panic!("no object")
        };
        AskedFields::read(&data, false)
    }

    fn refused(body: Value) -> String {
        let Err(refusal) = read(body) else {
            panic!("read")
        };
        refusal.errors("").errors.concat()
    }

    /// Each as OpenBao 2.7.2 took it.
    #[test]
    fn fields_are_converted_weakly() {
        let asked = read(json!({
            "ttl": 90, "renewable": null, "num_uses": "", "display_name": true, "policies": [null, true, 1, "a,b"],
            "meta": {"a": true, "b": null, "c": 1}, "no_parent": "T",
        }))
        .unwrap()
        .asked;
        assert_eq!(
            (asked.ttl.as_str(), asked.display_name.as_str()),
            ("90", "1")
        );
        assert!(asked.not_renewable && asked.no_parent);
        assert_eq!(asked.num_uses, 0);
        assert_eq!(asked.policies, ["", "1", "1", "a,b"]);
        let meta: Vec<_> = asked.meta.unwrap().into_values().collect();
        assert_eq!(meta, ["1", "", "1"]);
        let empty = read(json!({"policies": "", "meta": "a=b=c"}))
            .unwrap()
            .asked;
        assert!(empty.policies.is_empty() && !empty.not_renewable);
        assert_eq!(empty.meta.unwrap()["a"], "b=c");
        assert_eq!(
            read(json!({"policies": "a,b"})).unwrap().asked.policies,
            ["a,b"]
        );
        assert_eq!(read(json!({"num_uses": true})).unwrap().asked.num_uses, 1);
    }

    #[test]
    fn what_does_not_convert_is_refused_in_the_primarys_words() {
        let field = "Field validation failed: error converting input for field";
        for (body, wanted) in [
            (
                json!({"renewable": "x"}),
                "\"renewable\": '' cannot parse value as 'bool': strconv.ParseBool: invalid syntax",
            ),
            (
                json!({"num_uses": 1.5}),
                "\"num_uses\": '' cannot parse value as 'int': strconv.ParseInt: invalid syntax",
            ),
            (
                json!({"ttl": {}}),
                "\"ttl\": '' expected type 'string', got unconvertible type 'map[string]interface {}'",
            ),
            (
                json!({"renewable": []}),
                "\"renewable\": '' expected type 'bool', got unconvertible type '[]interface {}'",
            ),
            (
                json!({"policies": {"a": 1}}),
                "\"policies\": decoding failed due to the following error(s):\n\n'[0]' expected type 'string', got \
                 unconvertible type 'map[string]interface {}'",
            ),
            (
                json!({"meta": "a"}),
                "\"meta\": invalid key pair at index 0 in field \"meta\"",
            ),
        ] {
            assert_eq!(refused(body), format!("{field} {wanted}"));
        }
    }

    #[test]
    fn unknown_parameters_are_told_as_the_primary_tells_them() {
        let body = json!({"zed": 1, "bogus": 1, "role_name": "x", "ttl": "5s"});
        let warnings = read(body.clone()).unwrap().warnings;
        assert_eq!(
            warnings,
            ["Endpoint ignored these unrecognized parameters: [bogus role_name zed]"]
        );
        let Value::Object(data) = body else {
            unreachable!()
        };
        let through_role = AskedFields::read(&data, true).unwrap().warnings;
        assert_eq!(
            through_role,
            [
                "Endpoint ignored these unrecognized parameters: [bogus zed]",
                "Endpoint replaced the value of these parameters with the values captured from the endpoint's path: \
                 [role_name]",
            ]
        );
    }
}
