//! Replica tokens (`ho.…`) on their way through: found wherever a token may stand, so that none leaves the host.
//!
//! Only well-formed strings count, and only where the API puts a token: header, URL, the token field of a body. Other
//! text is not touched, for a secret may contain anything.

use std::fmt;

use bytes::{Bytes, BytesMut};
use serde::{
    Deserializer as _,
    de::{IgnoredAny, MapAccess, Visitor},
};
use shared::{
    api::Kind,
    percent,
    token::{REPLICA_PREFIX, REPLICA_RANDOM, is_replica_token},
};
use zeroize::Zeroizing;

/// Bytes of a replica token.
const LENGTH: usize = REPLICA_PREFIX.len() + REPLICA_RANDOM;

/// Whether a request target has a replica token in it, escaped or not.
pub(crate) fn in_target(target: &str) -> bool {
    in_text(target.as_bytes())
        || (target.contains('%') && in_text(&percent::decode_leniently(target.as_bytes())))
}

/// The replica token in a header value: all of it, or what follows a scheme.
pub(crate) fn in_header(value: &str) -> Option<&str> {
    value
        .split_ascii_whitespace()
        .find(|word| is_replica_token(word))
}

/// The replica token in a token field of a body that the primary would read as JSON or as a form.
pub(crate) fn in_body(kind: &Kind, form: bool, body: &[u8]) -> Option<Zeroizing<String>> {
    // Nearly no body has one: looking for the prefix alone is cheap.
    if !in_text(body) && !body.contains(&b'\\') && !body.contains(&b'%') {
        return None;
    }
    let field = field(kind);
    if form && !matches!(first_visible(body), Some(b'{' | b'[')) {
        return form_field(body, field);
    }
    let mut json = serde_json::Deserializer::from_slice(body);
    json.deserialize_map(Field(field)).ok().flatten()
}

/// `bytes` with `new` wherever `old` stands, and the rest byte for byte. `None` if it stands nowhere.
///
/// Tokens are plain characters in any JSON, so that a search in the text finds every one of them.
pub(crate) fn replaced(bytes: &[u8], old: &str, new: &str) -> Option<Bytes> {
    let old = old.as_bytes();
    let mut rest = bytes;
    let mut out = BytesMut::with_capacity(bytes.len());
    while let Some(at) = find(rest, old) {
        let (before, found) = rest.split_at_checked(at)?;
        out.extend_from_slice(before);
        out.extend_from_slice(new.as_bytes());
        rest = found.get(old.len()..)?;
    }
    (rest.len() < bytes.len()).then(|| {
        out.extend_from_slice(rest);
        out.freeze()
    })
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    let mut windows = haystack.windows(needle.len().max(1));
    windows.position(|window| window == needle)
}

/// Whether a replica token stands in `text`, not as a part of a longer word.
fn in_text(text: &[u8]) -> bool {
    let prefix = REPLICA_PREFIX.as_bytes();
    let word = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    text.windows(prefix.len())
        .enumerate()
        .filter(|(_, window)| *window == prefix)
        .any(|(at, _)| {
            let token = text.get(at..at + LENGTH);
            let before = at.checked_sub(1).and_then(|at| text.get(at));
            token
                .and_then(|token| std::str::from_utf8(token).ok())
                .is_some_and(is_replica_token)
                && !word(before)
                && !word(text.get(at + LENGTH))
        })
}

/// The body field that holds a token, for the calls that have one.
fn field(kind: &Kind) -> &'static str {
    match kind {
        Kind::TokenCreate => "id",
        _ => "token",
    }
}

fn first_visible(body: &[u8]) -> Option<u8> {
    body.iter()
        .copied()
        .find(|byte| !byte.is_ascii_whitespace())
}

fn form_field(body: &[u8], field: &str) -> Option<Zeroizing<String>> {
    body.split(|byte| *byte == b'&').find_map(|pair| {
        let mut parts = pair.splitn(2, |byte| *byte == b'=');
        let name = percent::decode_leniently(parts.next()?);
        let value = Zeroizing::new(percent::decode_leniently(parts.next()?));
        let value = std::str::from_utf8(&value).ok()?;
        (name == field.as_bytes() && is_replica_token(value))
            .then(|| Zeroizing::new(value.to_owned()))
    })
}

/// Finds a replica token under one key of an object, wherever that key is repeated.
struct Field(&'static str);

impl<'de> Visitor<'de> for Field {
    type Value = Option<Zeroizing<String>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut found = None;
        while let Some(key) = map.next_key::<String>()? {
            if key == self.0 {
                let value: serde_json::Value = map.next_value()?;
                if let serde_json::Value::String(text) = value {
                    let text = Zeroizing::new(text);
                    found = is_replica_token(&text).then_some(text).or(found);
                }
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token() -> String {
        format!("ho.{}", "a1B".repeat(15).get(..43).unwrap())
    }

    #[test]
    fn a_target_gives_a_token_away_escaped_or_not() {
        let token = token();
        for target in [
            format!("/v1/auth/token/lookup/{token}"),
            format!("/v1/x?token={token}&y=1"),
            format!("/v1/x/%68%6F.{}", &token[3..]),
        ] {
            assert!(in_target(&target), "{target}");
        }
        for target in [
            format!("/v1/secret/data/{token}z"),
            format!("/v1/secret/data/z{token}"),
            "/v1/secret/data/ho.short".to_owned(),
        ] {
            assert!(!in_target(&target), "{target}");
        }
    }

    #[test]
    fn a_header_gives_a_token_away_behind_any_scheme() {
        let token = token();
        assert_eq!(in_header(&format!("Bearer {token}")), Some(token.as_str()));
        assert_eq!(in_header(&token), Some(token.as_str()));
        assert_eq!(in_header("Bearer s.abc"), None);
    }

    #[test]
    fn only_the_token_field_of_a_body_holds_a_token() {
        let token = token();
        let found = |kind: &Kind, body: &str| in_body(kind, false, body.as_bytes()).is_some();
        assert!(found(
            &Kind::TokenLookup,
            &format!(r#"{{"a":1,"token":"{token}"}}"#)
        ));
        assert!(found(
            &Kind::TokenLookup,
            &format!(r#"{{"token":"{token}","token":"s.x"}}"#)
        ));
        assert!(found(
            &Kind::TokenLookup,
            &format!(r#"{{"token":"\u0068{}"}}"#, &token[1..])
        ));
        assert!(found(&Kind::TokenCreate, &format!(r#"{{"id":"{token}"}}"#)));
        assert!(!found(
            &Kind::TokenLookup,
            &format!(r#"{{"note":"{token}"}}"#)
        ));
        assert!(!found(
            &Kind::TokenLookup,
            &format!(r#"{{"data":{{"token":"{token}"}}}}"#)
        ));
        assert!(!found(&Kind::TokenLookup, "not json"));
        assert!(
            in_body(
                &Kind::TokenLookup,
                true,
                format!("a=1&token={token}").as_bytes()
            )
            .is_some()
        );
    }

    #[test]
    fn replacing_leaves_every_other_byte() {
        let body = br#"{ "data":{"id":"s.secret" ,"n":12345678901234567000}, "x":"s.secret"}"#;
        let out = replaced(body, "s.secret", "").unwrap();
        assert_eq!(
            &out[..],
            br#"{ "data":{"id":"" ,"n":12345678901234567000}, "x":""}"#
        );
        assert!(replaced(body, "s.other", "").is_none());
        assert!(replaced(body, "", "x").is_none());
    }
}
