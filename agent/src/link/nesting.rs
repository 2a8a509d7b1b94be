//! Whether a text that arrives in parts is one whole JSON document.

/// How far a text is, taken for one document in brackets: no part that begins it is whole as well.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Nesting {
    /// Nothing of it came.
    Before,
    /// In so many brackets.
    Inside(usize),
    /// In a string, in so many brackets.
    Text(usize),
    /// The same, behind a backslash.
    Escape(usize),
    /// The last bracket is closed: it is whole.
    Closed,
    /// It is something else.
    Other,
}

impl Nesting {
    /// Behind these bytes.
    pub(crate) fn behind(self, bytes: &[u8]) -> Self {
        bytes.iter().fold(self, |nesting, byte| nesting.next(*byte))
    }

    fn next(self, byte: u8) -> Self {
        match (self, byte) {
            (Self::Text(depth), b'"') => Self::Inside(depth),
            (Self::Text(depth), b'\\') => Self::Escape(depth),
            (Self::Escape(depth), _) => Self::Text(depth),
            (Self::Text(_) | Self::Other, _) => self,
            (_, b' ' | b'\t' | b'\r' | b'\n') => self,
            (Self::Before, b'{' | b'[') => Self::Inside(1),
            (Self::Inside(depth), b'{' | b'[') => Self::Inside(depth.saturating_add(1)),
            (Self::Inside(..=1), b'}' | b']') => Self::Closed,
            (Self::Inside(depth), b'}' | b']') => Self::Inside(depth - 1),
            (Self::Inside(depth), b'"') => Self::Text(depth),
            (Self::Inside(_), _) => self,
            (Self::Before | Self::Closed, _) => Self::Other,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    fn whole(text: &[u8]) -> bool {
        Nesting::Before.behind(text) == Nesting::Closed
    }

    fn documents() -> impl Strategy<Value = Value> {
        let text = "[a\"\\\\{}\\[\\] é\n]{0,6}";
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<i64>().prop_map(Value::from),
            text.prop_map(Value::from),
        ];
        let values = leaf.prop_recursive(4, 32, 4, move |inner| {
            let pairs = prop::collection::btree_map(text, inner.clone(), 0..4);
            prop_oneof![
                prop::collection::vec(inner, 0..4).prop_map(Value::from),
                pairs.prop_map(|pairs| Value::Object(pairs.into_iter().collect())),
            ]
        });
        prop::collection::vec(values, 0..3).prop_map(Value::from)
    }

    proptest! {
        /// In whatever parts it comes.
        #[test]
        fn a_document_is_whole_with_its_last_byte_and_not_before(document in documents()) {
            let text = serde_json::to_vec_pretty(&document).unwrap();
            for cut in 0..text.len() {
                let (one, other) = text.split_at(cut);
                prop_assert!(!whole(one));
                prop_assert_eq!(Nesting::Before.behind(one).behind(other), Nesting::Closed);
            }
        }
    }

    #[test]
    fn what_is_no_single_document_is_never_whole() {
        assert!(whole(b" \n{} \r\n"));
        for text in [
            "", " ", "null", "7", "\"{}\"", "{}{}", "{}\n{}", "a {}", "}", "{}x",
        ] {
            assert!(!whole(text.as_bytes()), "{text}");
        }
    }
}
