//! The names of a value's fields, read past the values.

use std::{collections::BTreeMap, fmt};

use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{IgnoredAny, MapAccess, SeqAccess, Visitor},
};

/// Names and what is below them. Of values nothing is kept.
#[derive(PartialEq, Eq, Debug)]
pub(super) enum Names {
    /// An object.
    Below(BTreeMap<String, Self>),
    /// Anything else.
    Leaf,
}

impl Names {
    /// The same down to `depth`, without end where there is none. An empty object below the top is a leaf.
    pub(super) fn pruned(self, depth: Option<u64>) -> Self {
        let Self::Below(names) = self else {
            return Self::Leaf;
        };
        let below = depth.map(|depth| depth.saturating_sub(1));
        let pruned = names.into_iter().map(|(name, at)| {
            let leaf = below == Some(0) || matches!(&at, Self::Below(names) if names.is_empty());
            (name, if leaf { Self::Leaf } else { at.pruned(below) })
        });
        Self::Below(pruned.collect())
    }
}

impl Serialize for Names {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Below(names) => names.serialize(serializer),
            Self::Leaf => serializer.serialize_none(),
        }
    }
}

impl<'de> Deserialize<'de> for Names {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Reader)
    }
}

struct Reader;

/// Values of which nothing is kept.
macro_rules! leaves {
    ($($visit:ident($of:ty)),*) => {
        $(fn $visit<E>(self, _: $of) -> Result<Names, E> {
            Ok(Names::Leaf)
        })*
    };
}

impl<'de> Visitor<'de> for Reader {
    type Value = Names;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Names, A::Error> {
        let mut names = BTreeMap::new();
        while let Some((name, below)) = map.next_entry()? {
            names.insert(name, below);
        }
        Ok(Names::Below(names))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Names, A::Error> {
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Names::Leaf)
    }

    leaves!(
        visit_bool(bool),
        visit_i64(i64),
        visit_u64(u64),
        visit_f64(f64),
        visit_str(&str)
    );

    fn visit_unit<E>(self) -> Result<Names, E> {
        Ok(Names::Leaf)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subkeys(value: &str, depth: Option<u64>) -> String {
        let names: Names = serde_json::from_str(value).unwrap();
        serde_json::to_string(&names.pruned(depth)).unwrap()
    }

    /// What a live server answered for this value.
    #[test]
    fn names_are_shown_to_their_depth_and_values_never() {
        let value = r#"{"v":2,"nest":{"b":{"c":1.5,"d":[1,{"x":"s"}],"z":{}},"e":{},"arr":[]},"nul":null,"k":{}}"#;
        let whole = r#"{"k":null,"nest":{"arr":null,"b":{"c":null,"d":null,"z":null},"e":null},"nul":null,"v":null}"#;
        assert_eq!(subkeys(value, None), whole);
        assert_eq!(subkeys(value, Some(3)), whole);
        assert_eq!(
            subkeys(value, Some(2)),
            r#"{"k":null,"nest":{"arr":null,"b":null,"e":null},"nul":null,"v":null}"#
        );
        assert_eq!(
            subkeys(value, Some(1)),
            r#"{"k":null,"nest":null,"nul":null,"v":null}"#
        );
        assert_eq!(subkeys("{}", None), "{}");
        assert_eq!(subkeys("null", None), "null");
    }
}
