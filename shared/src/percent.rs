//! Percent-encoding (RFC 3986), of request paths, queries and forms.

use alloc::{string::String, vec::Vec};
use core::fmt;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode, utf8_percent_encode};

/// What is encoded in a path: all but unreserved characters and the slashes between segments.
const IN_PATHS: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'/')
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~');

/// Shows a path as it is sent.
pub fn encode_path(path: &str) -> impl fmt::Display + '_ {
    utf8_percent_encode(path, IN_PATHS)
}

/// Decodes; none where an escape is broken, or where the result is not UTF-8.
pub fn decode(text: &str) -> Option<String> {
    let begins_with_digits = |rest: &str| {
        let digits = rest.as_bytes().get(..2);
        digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))
    };
    let whole = text.split('%').skip(1).all(begins_with_digits);
    whole.then(|| String::from_utf8(decode_leniently(text.as_bytes())).ok())?
}

/// Decodes; what is not an escape stays.
pub fn decode_leniently(text: &[u8]) -> Vec<u8> {
    percent_decode(text).collect()
}

#[cfg(test)]
mod tests {
    use alloc::{
        format,
        string::{String, ToString},
    };

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn broken_escapes_are_refused_or_stay() {
        for broken in ["%", "a%", "%4", "%4%41", "%%41", "%g0", "%+4", "% 4", "%é1"] {
            assert_eq!(decode(broken), None, "{broken}");
        }
        assert_eq!(decode("%ff"), None);
        assert_eq!(decode("%C3%a9%25"), Some("é%".into()));
        assert_eq!(decode_leniently(b"%4%41%%41%+4%ff%"), b"%4A%A%+4\xff%");
    }

    /// The decoder by the letter of the grammar, byte by byte.
    fn decoded(text: &str) -> Option<String> {
        let mut bytes = text.bytes();
        let mut out = Vec::new();
        let digit = |byte: u8| char::from(byte).to_digit(16);
        while let Some(byte) = bytes.next() {
            out.push(match byte {
                b'%' => {
                    let (high, low) = (digit(bytes.next()?)?, digit(bytes.next()?)?);
                    u8::try_from(high * 16 + low).ok()?
                }
                byte => byte,
            });
        }
        String::from_utf8(out).ok()
    }

    /// The encoder by the letter of the grammar, byte by byte.
    fn encoded(path: &str) -> String {
        let unreserved = |byte: &u8| byte.is_ascii_alphanumeric() || b"/-_.~".contains(byte);
        path.bytes()
            .map(|byte| match unreserved(&byte) {
                true => char::from(byte).to_string(),
                false => format!("%{byte:02X}"),
            })
            .collect()
    }

    proptest! {
        #[test]
        fn texts_with_escapes_whole_and_broken_are_decoded_by_the_grammar(text in "([a-f0-9%+é/]|%[0-9a-fA-F]{2}|%[^%]{0,2}){0,12}") {
            let wanted = decoded(&text);
            if let Some(wanted) = &wanted {
                prop_assert_eq!(&decode_leniently(text.as_bytes()), wanted.as_bytes());
            }
            prop_assert_eq!(decode(&text), wanted);
        }

        #[test]
        fn paths_are_encoded_by_the_grammar_and_read_back(path in "\\PC{0,40}") {
            let text = encode_path(&path).to_string();
            prop_assert_eq!(&text, &encoded(&path));
            prop_assert_eq!(decode(&text), Some(path));
        }
    }
}
