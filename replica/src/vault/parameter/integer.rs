//! Integers as Go's `strconv.ParseInt` reads them with base 0: decimal, `0x`, `0o`, `0b`, a leading zero for octal, and
//! underscores between digits.

/// Why a text is no integer, in Go's words.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub(crate) enum NoInteger {
    /// It does not fit into 64 bits.
    #[error("value out of range")]
    Range,
    /// It is not written as one.
    #[error("invalid syntax")]
    Syntax,
}

/// Reads `text`.
pub(crate) fn parse(text: &str) -> Result<i64, NoInteger> {
    let (negative, unsigned) = match text.as_bytes() {
        [b'-', ..] => (true, text.get(1..).unwrap_or_default()),
        [b'+', ..] => (false, text.get(1..).unwrap_or_default()),
        _ => (false, text),
    };
    if unsigned.is_empty() {
        return Err(NoInteger::Syntax);
    }
    let (base, digits) = base(unsigned);
    let mut value: u64 = 0;
    for byte in digits.bytes().filter(|byte| *byte != b'_') {
        let digit = char::from(byte).to_digit(base).ok_or(NoInteger::Syntax)?;
        value = value
            .checked_mul(base.into())
            .and_then(|value| value.checked_add(digit.into()))
            .ok_or(NoInteger::Range)?;
    }
    if digits.contains('_') && !separates(unsigned) {
        return Err(NoInteger::Syntax);
    }
    match (negative, i64::try_from(value)) {
        (false, value) => value.map_err(|_| NoInteger::Range),
        (true, Ok(value)) => Ok(-value),
        (true, Err(_)) if value == i64::MIN.unsigned_abs() => Ok(i64::MIN),
        (true, Err(_)) => Err(NoInteger::Range),
    }
}

/// The base that the text begins with, and what follows it.
fn base(text: &str) -> (u32, &str) {
    let prefixed = |base, long: usize| (base, text.get(long..).unwrap_or_default());
    match text.as_bytes() {
        [b'0', b'b' | b'B', _, ..] => prefixed(2, 2),
        [b'0', b'o' | b'O', _, ..] => prefixed(8, 2),
        [b'0', b'x' | b'X', _, ..] => prefixed(16, 2),
        [b'0', ..] => prefixed(8, 1),
        _ => (10, text),
    }
}

/// Whether every underscore stands between digits; a prefix counts as one.
fn separates(text: &str) -> bool {
    let prefixed = matches!(
        text.as_bytes(),
        [b'0', b'b' | b'B' | b'o' | b'O' | b'x' | b'X', ..]
    );
    (prefixed || !text.starts_with('_')) && !text.ends_with('_') && !text.contains("__")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn every_spelling_that_go_reads_is_read() {
        for (text, value) in [
            ("3", 3),
            ("+3", 3),
            ("-3", -3),
            ("0", 0),
            ("-0", 0),
            ("0x1F", 31),
            ("0X1f", 31),
            ("0b11", 3),
            ("0o17", 15),
            ("017", 15),
            ("1_000", 1000),
            ("0x_1", 1),
            ("0_7", 7),
            ("9223372036854775807", i64::MAX),
            ("-9223372036854775808", i64::MIN),
        ] {
            assert_eq!(parse(text), Ok(value), "{text}");
        }
        for text in [
            "", "-", "abc", "1.5", "1e0", " 1", "08", "0x", "0b2", "_1", "1_", "1__0", "+-1", "é",
            "0xg",
        ] {
            assert_eq!(parse(text), Err(NoInteger::Syntax), "{text}");
        }
        for text in [
            "9223372036854775808",
            "-9223372036854775809",
            "99999999999999999999",
            "99999999999999999999x",
        ] {
            assert_eq!(parse(text), Err(NoInteger::Range), "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_in_every_base(value: i64) {
            let (sign, size) = (if value < 0 { "-" } else { "" }, value.unsigned_abs());
            prop_assert_eq!(parse(&value.to_string()), Ok(value));
            prop_assert_eq!(parse(&format!("{sign}{size:#x}")), Ok(value));
            prop_assert_eq!(parse(&format!("{sign}{size:#o}")), Ok(value));
            prop_assert_eq!(parse(&format!("{sign}{size:#b}")), Ok(value));
        }

        #[test]
        fn no_text_is_too_odd(text in "[0-9xXobOB_+a-fé-]{0,12}") {
            let _ = parse(&text);
        }
    }
}
