//! Parameters of requests, converted as the primary's framework converts them, with its texts where they do not.

use std::time::Duration;

use serde_json::{Map, Value};
use shared::{api::Call, span::go};

use self::integer::NoInteger;
use super::refusal::{Answered, Refusal, Why};

mod integer;

/// What the primary calls a request's data.
pub(crate) type Params = Map<String, Value>;

/// The `version` of a KV v2 read. Zero, less and nothing are the latest.
pub(crate) fn version(data: &Params) -> Answered<Option<u64>> {
    positive(data, "version")
}

/// The `depth` of subkeys. Zero and nothing are without end; less is as one.
pub(crate) fn depth(data: &Params) -> Answered<Option<u64>> {
    let depth = integer(data, "depth")?;
    Ok(depth
        .filter(|depth| *depth != 0)
        .map(|depth| u64::try_from(depth).unwrap_or(1)))
}

/// The `limit` of a list. Zero, less and nothing are none.
pub(crate) fn limit(data: &Params) -> Answered<Option<u64>> {
    positive(data, "limit")
}

fn positive(data: &Params, name: &'static str) -> Answered<Option<u64>> {
    let number = integer(data, name)?.and_then(|number| u64::try_from(number).ok());
    Ok(number.filter(|number| *number > 0))
}

/// The `after` of a list.
pub(crate) fn after(data: &Params) -> Answered<&str> {
    match data.get("after") {
        None | Some(Value::Null) => Ok(""),
        Some(Value::String(after)) => Ok(after),
        Some(_) => Err(unconvertible("after", "string")),
    }
}

/// A string of a body; absent, `null` and empty are the same.
pub(crate) fn text<'a>(data: &'a Params, name: &'static str) -> Answered<Option<&'a str>> {
    match data.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.as_str()).filter(|text| !text.is_empty())),
        Some(_) => Err(Why::Parameter(name).into()),
    }
}

/// A list of strings, or a string of several with commas between them.
pub(crate) fn texts(data: &Params, name: &'static str) -> Answered<Vec<String>> {
    let unread = || Refusal::from(Why::Parameter(name));
    match data.get(name) {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(Value::String(text)) if text.is_empty() => Ok(Vec::new()),
        Some(Value::String(text)) => Ok(text.split(',').map(|one| one.trim().into()).collect()),
        Some(Value::Array(all)) => all
            .iter()
            .map(|one| match one {
                Value::String(text) => Ok(text.trim().to_owned()),
                Value::Number(number) if !number.is_f64() => Ok(number.to_string()),
                _ => Err(unread()),
            })
            .collect(),
        Some(Value::Number(number)) if !number.is_f64() => Ok(vec![number.to_string()]),
        Some(_) => Err(unread()),
    }
}

/// A boolean of a body; absent is `None`.
pub(crate) fn boolean(data: &Params, name: &'static str) -> Answered<Option<bool>> {
    match data.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Bool(value)) => Ok(Some(*value)),
        Some(_) => Err(Why::Parameter(name).into()),
    }
}

/// The `increment` of a renewal; zero and nothing are none.
pub(crate) fn increment(data: &Params) -> Answered<Option<Duration>> {
    const NAME: &str = "increment";
    let span = match data.get(NAME) {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::Number(number)) => seconds(&number.to_string()),
        Some(Value::String(text)) if text.is_empty() => return Ok(None),
        Some(Value::String(text)) => seconds(text),
        Some(_) => Err("could not parse duration from input".into()),
    };
    let span = span.map_err(|reason| Refusal::field(NAME, &reason))?;
    Ok(Some(span).filter(|span| !span.is_zero()))
}

/// Whether `help` asks for the backend's documentation instead.
pub(crate) fn asks_for_help(call: &Call) -> bool {
    call.parameter("help").is_some_and(|help| !help.is_empty())
}

/// An integer of a query.
pub(crate) fn integer(data: &Params, name: &'static str) -> Answered<Option<i64>> {
    match data.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) if text.is_empty() => Ok(None),
        Some(Value::String(text)) => match integer::parse(text) {
            Ok(value) => Ok(Some(value)),
            Err(reason) => Err(unparsable(name, reason)),
        },
        Some(_) => Err(unconvertible(name, "int")),
    }
}

fn unparsable(name: &str, reason: NoInteger) -> Refusal {
    let reason = format!("'' cannot parse value as 'int': strconv.ParseInt: {reason}");
    Refusal::field(name, &reason)
}

fn unconvertible(name: &str, wanted: &str) -> Refusal {
    let reason = format!("'' expected type '{wanted}', got unconvertible type '[]string'");
    Refusal::field(name, &reason)
}

/// Whole seconds of a span, in the primary's words where there are none.
fn seconds(text: &str) -> Result<Duration, String> {
    let given = go::parse(text).map_err(|error| error.to_string())?;
    let whole = given.span.as_secs();
    if given.negative && whole > 0 {
        return Err(format!("cannot provide negative value '-{whole}'"));
    }
    Ok(Duration::from_secs(whole))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn query(name: &str, value: &str) -> Map<String, Value> {
        Map::from_iter([(name.to_owned(), json!(value))])
    }

    #[test]
    fn a_version_is_read_as_the_primary_reads_it() {
        for (text, version) in [
            ("3", Some(3)),
            ("+3", Some(3)),
            ("0", None),
            ("", None),
            ("-1", None),
        ] {
            assert_eq!(
                super::version(&query("version", text)),
                Ok(version),
                "{text:?}"
            );
        }
        for text in ["abc", "1.5", "1e0", " 1", "-", "99999999999999999999"] {
            let refusal = super::version(&query("version", text)).unwrap_err();
            assert_eq!(refusal.status(), 400, "{text:?}");
        }
        for (text, version) in [("0x1", 1), ("010", 8), ("1_0", 10), ("0b1", 1)] {
            assert_eq!(
                super::version(&query("version", text)),
                Ok(Some(version)),
                "{text:?}"
            );
        }
    }

    #[test]
    fn a_version_that_is_no_number_is_refused_in_the_primarys_words() {
        let refusal = super::version(&query("version", "abc")).unwrap_err();
        assert_eq!(
            refusal.errors("").errors,
            [
                "Field validation failed: error converting input for field \"version\": '' cannot parse value as \
              'int': strconv.ParseInt: invalid syntax"
            ]
        );
    }

    #[test]
    fn increments_are_seconds_or_go_durations() {
        let read = |value: Value| increment(&Map::from_iter([("increment".to_owned(), value)]));
        for (value, secs) in [
            (json!(90), 90),
            (json!("90"), 90),
            (json!("1h30m"), 5400),
            (json!("1.5h"), 5400),
            (json!("2d"), 172_800),
        ] {
            assert_eq!(read(value), Ok(Some(Duration::from_secs(secs))));
        }
        for value in [json!(null), json!(""), json!(0), json!("0s")] {
            assert_eq!(read(value), Ok(None));
        }
        for value in [
            json!("abc"),
            json!(-5),
            json!(1.5),
            json!([]),
            json!({}),
            json!(true),
            json!("1d12h"),
        ] {
            assert_eq!(read(value.clone()).unwrap_err().status(), 400, "{value}");
        }
    }

    #[test]
    fn lists_of_paths_may_be_one_string_with_commas() {
        let read = |value: Value| texts(&Map::from_iter([("paths".to_owned(), value)]), "paths");
        assert_eq!(read(json!("a, b")).unwrap(), ["a", "b"]);
        assert_eq!(read(json!([" a ", "b"])).unwrap(), ["a", "b"]);
        assert!(read(json!("")).unwrap().is_empty());
        assert_eq!(read(json!("  ")).unwrap(), [""]);
        assert_eq!(read(json!([1])).unwrap(), ["1"]);
        assert_eq!(read(json!(3)).unwrap(), ["3"]);
        assert!(read(json!([1.5])).is_err());
        assert!(read(json!({})).is_err());
    }
}
