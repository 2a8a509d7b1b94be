//! Readings of JSON that take nothing for something else: a field that is missing is not null, and no name stands twice.

use alloc::collections::BTreeMap;
use core::{fmt, marker::PhantomData};

use serde::{
    Deserialize, Deserializer,
    de::{Error, MapAccess, Visitor},
};

/// Reads a field that is always there and may be null. Without this, an `Option` takes a field that is missing for null.
///
/// # Errors
/// If it is neither null nor a `T`.
pub fn present<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    field: D,
) -> Result<Option<T>, D::Error> {
    Option::deserialize(field)
}

/// An object by its names. One in which a name stands twice is refused: another reader might take the other of the two.
pub struct Unique<K, V>(pub BTreeMap<K, V>);

impl<'de, K: Deserialize<'de> + Ord, V: Deserialize<'de>> Deserialize<'de> for Unique<K, V> {
    fn deserialize<D: Deserializer<'de>>(object: D) -> Result<Self, D::Error> {
        object.deserialize_map(UniqueVisitor(PhantomData))
    }
}

struct UniqueVisitor<K, V>(PhantomData<(K, V)>);

impl<'de, K: Deserialize<'de> + Ord, V: Deserialize<'de>> Visitor<'de> for UniqueVisitor<K, V> {
    type Value = Unique<K, V>;

    fn expecting(&self, text: &mut fmt::Formatter<'_>) -> fmt::Result {
        text.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<Self::Value, A::Error> {
        let mut read = BTreeMap::new();
        while let Some((name, value)) = object.next_entry()? {
            if read.insert(name, value).is_some() {
                return Err(A::Error::custom("a name stands twice"));
            }
        }
        Ok(Unique(read))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::String;

    #[derive(Deserialize)]
    struct Read {
        #[serde(deserialize_with = "present")]
        end: Option<String>,
    }

    #[test]
    fn what_is_missing_is_not_null() {
        let read = |text: &str| serde_json::from_str::<Read>(text).map(|read| read.end);
        assert_eq!(read(r#"{"end":null}"#).ok(), Some(None));
        assert_eq!(read(r#"{"end":"x"}"#).ok(), Some(Some("x".into())));
        assert!(read("{}").is_err() && read(r#"{"end":1}"#).is_err());
    }

    #[test]
    fn a_name_that_stands_twice_is_refused() {
        let read = |text: &str| serde_json::from_str::<Unique<u64, bool>>(text);
        assert!(read(r#"{"1":true,"2":false}"#).is_ok_and(|read| read.0.len() == 2));
        assert!(read(r#"{"1":true,"1":true}"#).is_err());
    }
}
