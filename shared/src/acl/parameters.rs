//! What a rule asks of a request's body keys or query parameters.

use alloc::{collections::BTreeMap, string::String, vec::Vec};

use serde_json::{Map, Value};

use super::{
    decode::{Datum, DatumLists},
    error::Reason,
};

/// Values listed for each parameter name, names in lower case; an empty list stands for any value.
#[derive(Clone, PartialEq, Debug, Default)]
pub(super) struct ParameterLists(BTreeMap<String, Vec<Datum>>);

/// Where a request's data comes from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum RuleOrigin {
    /// A JSON body.
    Body,
    /// The query.
    Query,
}

impl ParameterLists {
    /// Lowers the names. Two spellings of one name with different values have no certain meaning: the
    /// primary keeps whichever its map gives last.
    pub(super) fn new(lists: DatumLists) -> Result<Self, Reason> {
        let mut lower = BTreeMap::new();
        for (name, values) in lists {
            let name = lowered(&name);
            if lower.get(&name).is_some_and(|other| *other != values) {
                return Err(Reason::AmbiguousParameter { name });
            }
            lower.insert(name, values);
        }
        Ok(Self(lower))
    }

    /// Merges another policy's lists: values are joined, and any value on either side stays any value.
    pub(super) fn merge(&mut self, other: &Self) {
        for (name, values) in &other.0 {
            let ours = self.0.entry(name.clone());
            let known = matches!(ours, alloc::collections::btree_map::Entry::Occupied(_));
            let ours = ours.or_default();
            if values.is_empty() || (known && ours.is_empty()) {
                ours.clear();
            } else {
                ours.extend(values.iter().cloned());
            }
        }
    }

    /// Whether these, as denied parameters, stand against `data`.
    pub(super) fn deny(&self, data: &Map<String, Value>, origin: RuleOrigin) -> bool {
        if self.0.contains_key("*") {
            return true;
        }
        data.iter().any(|(name, value)| {
            let listed = self.0.get(&lowered(name));
            listed.is_some_and(|listed| matches(listed, value, origin))
        })
    }

    /// Whether these, as allowed parameters, let all of `data` pass.
    pub(super) fn allow(&self, data: &Map<String, Value>, origin: RuleOrigin) -> bool {
        let any_name = self.0.contains_key("*");
        if self.0.is_empty() || (any_name && self.0.len() == 1) {
            return true;
        }
        data.iter()
            .all(|(name, value)| match self.0.get(&lowered(name)) {
                Some(listed) => matches(listed, value, origin),
                None => any_name,
            })
    }
}

/// Go's lower case: character by character, without regard to what stands around.
pub(super) fn lowered(name: &str) -> String {
    if name.is_ascii() {
        return name.to_ascii_lowercase();
    }
    name.chars()
        .map(|c| c.to_lowercase().next().unwrap_or(c))
        .collect()
}

/// The required names, as keys that a request must have.
pub(super) fn required_keys(names: &[String]) -> Vec<String> {
    names.iter().map(|name| lowered(name)).collect()
}

fn matches(listed: &[Datum], value: &Value, origin: RuleOrigin) -> bool {
    if listed.is_empty() {
        return true;
    }
    // What a query repeats is of another type at the primary than any list of a policy, and equals none.
    let repeated = origin == RuleOrigin::Query && value.is_array();
    !repeated && listed.iter().any(|item| matches_one(item, value))
}

fn matches_one(item: &Datum, value: &Value) -> bool {
    match (item, value) {
        (Datum::Text(item), Value::String(value)) => glob(item, value),
        _ => equal(item, value),
    }
}

/// Deep equality. Numbers of a policy and of a request are of different types at the primary, never equal.
fn equal(item: &Datum, value: &Value) -> bool {
    match (item, value) {
        (Datum::Bool(item), Value::Bool(value)) => item == value,
        (Datum::Text(item), Value::String(value)) => item == value,
        (Datum::List(items), Value::Array(values)) => {
            items.len() == values.len() && items.iter().zip(values).all(|(i, v)| equal(i, v))
        }
        (Datum::Map(items), Value::Object(values)) => {
            items.len() == values.len()
                && items
                    .iter()
                    .all(|(key, item)| values.get(key).is_some_and(|value| equal(item, value)))
        }
        _ => false,
    }
}

/// A leading and a trailing `*` stand for anything, in items of at least two bytes.
fn glob(item: &str, value: &str) -> bool {
    if item.len() < 2 {
        return item == value;
    }
    match (item.strip_prefix('*'), item.strip_suffix('*')) {
        (Some(rest), Some(_)) => value.contains(rest.strip_suffix('*').unwrap_or(rest)),
        (Some(suffix), None) => value.ends_with(suffix),
        (None, Some(prefix)) => value.starts_with(prefix),
        (None, None) => item == value,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::borrow::ToOwned;
    use serde_json::json;

    fn lists(pairs: &[(&str, &[&str])]) -> ParameterLists {
        let text = |value: &&str| Datum::Text((*value).to_owned());
        let pairs = pairs
            .iter()
            .map(|(name, values)| ((*name).to_owned(), values.iter().map(text).collect()));
        ParameterLists::new(pairs.collect()).unwrap()
    }

    fn data(value: Value) -> Map<String, Value> {
        value.as_object().unwrap().clone()
    }

    #[test]
    fn a_lone_star_is_a_star_and_longer_ones_are_globs() {
        let cases: [(&str, &str, bool); 9] = [
            ("*", "x", false),
            ("*", "*", true),
            ("", "", true),
            ("x*", "xy", true),
            ("*y", "xy", true),
            ("**", "", true),
            ("*m*", "amb", true),
            ("a*b", "axb", false),
            ("xy", "xyz", false),
        ];
        for (item, value, verdict) in cases {
            assert_eq!(glob(item, value), verdict, "{item} {value}");
        }
    }

    #[test]
    fn merging_keeps_any_value_and_joins_the_rest() {
        let mut ours = lists(&[("a", &["1"]), ("any", &[])]);
        ours.merge(&lists(&[("a", &["2"]), ("any", &["x"]), ("b", &["3"])]));
        assert_eq!(
            ours,
            lists(&[("a", &["1", "2"]), ("any", &[]), ("b", &["3"])])
        );
        ours.merge(&lists(&[("b", &[])]));
        assert!(ours.allow(&data(json!({"b": 9})), RuleOrigin::Body));
    }

    #[test]
    fn names_are_compared_in_lower_case_and_numbers_never_match() {
        let listed = lists(&[("a", &["ex"])]);
        assert!(listed.allow(&data(json!({"A": "ex"})), RuleOrigin::Body));
        assert!(!listed.allow(&data(json!({"A": "ex", "b": 1})), RuleOrigin::Body));
        let mut numbers = DatumLists::new();
        numbers.insert(
            "n".to_owned(),
            [Datum::Integer(5), Datum::Float(1.5)].into(),
        );
        let numbers = ParameterLists::new(numbers).unwrap();
        assert!(
            !numbers.allow(&data(json!({"n": 5})), RuleOrigin::Body)
                && !numbers.deny(&data(json!({"n": 1.5})), RuleOrigin::Body)
        );
    }

    #[test]
    fn a_list_of_denied_values_does_not_see_into_repeated_parameters() {
        let denied = lists(&[("a", &["x*"])]);
        assert!(denied.deny(&data(json!({"a": "xx"})), RuleOrigin::Body));
        assert!(!denied.deny(&data(json!({"a": ["xx", "y"]})), RuleOrigin::Body));
    }

    #[test]
    fn a_list_of_a_policy_equals_one_in_a_body_and_none_in_a_query() {
        let pair = ["x", "y"].map(|text| Datum::Text(text.to_owned()));
        let mut lists = DatumLists::new();
        lists.insert("a".to_owned(), [Datum::List(pair.to_vec())].into());
        let lists = ParameterLists::new(lists).unwrap();
        let data = data(json!({"a": ["x", "y"]}));
        assert!(lists.deny(&data, RuleOrigin::Body) && lists.allow(&data, RuleOrigin::Body));
        assert!(!lists.deny(&data, RuleOrigin::Query) && !lists.allow(&data, RuleOrigin::Query));
    }

    #[test]
    fn two_spellings_of_one_name_are_not_guessed_about() {
        let mut both = DatumLists::new();
        both.insert("A".to_owned(), [Datum::Bool(true)].into());
        both.insert("a".to_owned(), Vec::new());
        let name = "a".to_owned();
        assert_eq!(
            ParameterLists::new(both),
            Err(Reason::AmbiguousParameter { name })
        );
    }
}
