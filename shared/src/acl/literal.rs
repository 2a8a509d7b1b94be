//! Texts and numbers as the primary reads them: as Go reads its own source.

use alloc::{borrow::Cow, string::String, vec::Vec};
use core::str::Chars;

use super::{
    document::{Notation, Quoted},
    error::Reason,
};

/// The text that a quoted one stands for.
///
/// HCL leaves what is between `${` and its `}` as it is written.
pub(super) fn unquote<'a>(quoted: Quoted<'a>) -> Result<Cow<'a, str>, Reason> {
    let raw = quoted.raw;
    let interpolates = quoted.notation == Notation::Hcl && raw.contains("${");
    if !interpolates && !raw.contains('\\') {
        return Ok(Cow::Borrowed(raw));
    }
    let mut bytes = Vec::with_capacity(raw.len());
    let mut rest = raw.chars();
    while !rest.as_str().is_empty() {
        if interpolates && let Some(inner) = rest.as_str().strip_prefix("${") {
            bytes.extend_from_slice(b"${");
            rest = copy_braces(inner, &mut bytes)?.chars();
            // The character after a closing brace is taken as it is, a `$` too: the primary does not look
            // for a second `${` there.
        }
        unquote_char(&mut rest, quoted.notation, &mut bytes)?;
    }
    String::from_utf8(bytes)
        .map(Cow::Owned)
        .map_err(|_| Reason::NotUtf8)
}

/// Copies up to and with the brace that closes; returns what follows.
fn copy_braces<'a>(text: &'a str, bytes: &mut Vec<u8>) -> Result<&'a str, Reason> {
    let mut open = 1_u32;
    for (at, c) in text.char_indices() {
        match c {
            '{' => open = open.saturating_add(1),
            '}' => open = open.saturating_sub(1),
            char::REPLACEMENT_CHARACTER => return Err(Reason::BadEscape),
            _ => {}
        }
        if open == 0 {
            let (inside, rest) = text.split_at_checked(at + 1).unwrap_or((text, ""));
            bytes.extend_from_slice(inside.as_bytes());
            return Ok(rest);
        }
    }
    Err(Reason::BadEscape)
}

fn unquote_char(
    rest: &mut Chars<'_>,
    notation: Notation,
    bytes: &mut Vec<u8>,
) -> Result<(), Reason> {
    let Some(c) = rest.next() else { return Ok(()) };
    if c == '"' {
        return Err(Reason::BadEscape);
    }
    if c != '\\' {
        push(bytes, c);
        return Ok(());
    }
    match rest.next() {
        Some('a') => bytes.push(7),
        Some('b') => bytes.push(8),
        Some('f') => bytes.push(12),
        Some('n') => bytes.push(b'\n'),
        Some('r') => bytes.push(b'\r'),
        Some('t') => bytes.push(b'\t'),
        Some('v') => bytes.push(11),
        Some('\\') => bytes.push(b'\\'),
        Some('"') => bytes.push(b'"'),
        Some('x') => bytes.push(byte(code(rest, 2, 16, 0)?)?),
        Some('u') => push(bytes, scalar(code(rest, 4, 16, 0)?, notation)?),
        Some('U') => push(bytes, scalar(code(rest, 8, 16, 0)?, notation)?),
        Some(first @ '0'..='7') => {
            let first = first.to_digit(8).ok_or(Reason::BadEscape)?;
            bytes.push(byte(code(rest, 2, 8, first)?)?);
        }
        _ => return Err(Reason::BadEscape),
    }
    Ok(())
}

fn push(bytes: &mut Vec<u8>, c: char) {
    bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
}

fn byte(code: u32) -> Result<u8, Reason> {
    u8::try_from(code).map_err(|_| Reason::BadEscape)
}

/// The character of a code. A lone surrogate is an error in JSON, and the replacement character in HCL; so is there a
/// code that is negative to a reader with 32 bits and a sign.
fn scalar(code: u32, notation: Notation) -> Result<char, Reason> {
    match char::from_u32(code) {
        Some(c) => Ok(c),
        None if notation == Notation::Hcl
            && (code <= 0x0010_ffff || i32::try_from(code).is_err()) =>
        {
            Ok(char::REPLACEMENT_CHARACTER)
        }
        None => Err(Reason::BadEscape),
    }
}

fn code(rest: &mut Chars<'_>, count: usize, radix: u32, start: u32) -> Result<u32, Reason> {
    (0..count).try_fold(start, |code, _| {
        let digit = rest.next().and_then(|c| c.to_digit(radix));
        let digit = digit.ok_or(Reason::BadEscape)?;
        code.checked_mul(radix)
            .and_then(|code| code.checked_add(digit))
            .ok_or(Reason::BadEscape)
    })
}

/// The text of a heredoc, given with its marker lines.
///
/// The primary finds the end of the text by the length of the opening line, whatever the closing line looks
/// like; so do we.
pub(super) fn heredoc(token: &str) -> Result<String, Reason> {
    let marker = token.find('\n').ok_or(Reason::Unterminated)?;
    let body = |more: usize| {
        let end = (token.len() + more).checked_sub(marker)?;
        token.get(marker + 1..end)
    };
    if token.as_bytes().get(2) != Some(&b'-') {
        return body(1).map(Into::into).ok_or(Reason::NotUtf8);
    }
    let lines: Vec<&str> = body(2).ok_or(Reason::NotUtf8)?.split('\n').collect();
    let indent = lines.last().copied().unwrap_or("");
    if !lines.iter().all(|line| line.starts_with(indent)) {
        let body = body(1).ok_or(Reason::NotUtf8)?;
        return Ok(body.trim_end_matches([' ', '\t']).into());
    }
    let mut text = String::new();
    for line in lines.iter().take(lines.len().saturating_sub(1)) {
        text.push_str(line.strip_prefix(indent).unwrap_or(line));
        text.push('\n');
    }
    Ok(text)
}

/// An integer in the notation of Go's source: signs, `0x`, `0o`, `0b`, leading zero, underscores.
pub(super) fn integer(text: &str) -> Result<i64, Reason> {
    let (negative, digits) = match text.strip_prefix(['-', '+']) {
        Some(digits) => (text.starts_with('-'), digits),
        None => (false, text),
    };
    let lower = digits.to_ascii_lowercase();
    let (radix, body) = match lower.get(..2) {
        Some("0x") => (16, lower.get(2..)),
        Some("0b") => (2, lower.get(2..)),
        Some("0o") => (8, lower.get(2..)),
        Some(_) if lower.starts_with('0') => (8, lower.get(1..)),
        _ => (10, Some(lower.as_str())),
    };
    let body = body.ok_or(Reason::BadNumber)?;
    // An underscore stands between digits, or between the prefix and the first.
    let underscores =
        radix == 10 && body.starts_with('_') || body.ends_with('_') || body.contains("__");
    if underscores {
        return Err(Reason::BadNumber);
    }
    let body = body.replace('_', "");
    if body.starts_with(['-', '+']) {
        return Err(Reason::BadNumber);
    }
    let magnitude = i128::from_str_radix(&body, radix).map_err(|_| Reason::BadNumber)?;
    i64::try_from(if negative { -magnitude } else { magnitude }).map_err(|_| Reason::BadNumber)
}

/// A finite number with a fraction or an exponent.
pub(super) fn float(text: &str) -> Result<f64, Reason> {
    let value: f64 = text.parse().map_err(|_| Reason::BadNumber)?;
    value.is_finite().then_some(value).ok_or(Reason::BadNumber)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hcl(raw: &str) -> Result<Cow<'_, str>, Reason> {
        unquote(Quoted {
            raw,
            notation: Notation::Hcl,
        })
    }

    #[test]
    fn escapes_are_read_and_interpolation_is_left_alone() {
        assert_eq!(hcl(r"kv/\x41\u0041\101\t").unwrap(), "kv/AAA\t");
        assert_eq!(hcl(r#"${"a\x41"}\x41"#).unwrap(), r#"${"a\x41"}A"#);
        assert_eq!(hcl(r"${a}${\x41}").unwrap(), "${a}${A}");
        assert_eq!(hcl(r"\xc3\xa9").unwrap(), "é");
        assert_eq!(hcl(r"\xff"), Err(Reason::NotUtf8));
        assert_eq!(hcl(r"\400"), Err(Reason::BadEscape));
        assert_eq!(hcl(r"\ud800").unwrap(), "\u{fffd}");
        assert_eq!(hcl(r"\U80110000").unwrap(), "\u{fffd}");
        let json = Quoted {
            raw: r"\ud800",
            notation: Notation::Json,
        };
        assert_eq!(unquote(json), Err(Reason::BadEscape));
    }

    #[test]
    fn heredocs_lose_their_markers_and_their_common_indent() {
        assert_eq!(heredoc("<<EOF\na\nb\nEOF\n").unwrap(), "a\nb\n");
        assert_eq!(heredoc("<<-EOF\n  a\n   b\n  EOF\n").unwrap(), "a\n b\n");
        assert_eq!(heredoc("<<-EOF\na\n  EOF\n").unwrap(), "a\n");
        assert_eq!(heredoc("<<EOF\na\n  EOF\n").unwrap(), "a\n  ");
    }

    #[test]
    fn integers_follow_gos_source_notation() {
        for (text, value) in [
            ("7", 7),
            ("-7", -7),
            ("0x1F", 31),
            ("010", 8),
            ("0b11", 3),
            ("1_000", 1000),
            ("0_7", 7),
            ("0", 0),
        ] {
            assert_eq!(integer(text), Ok(value), "{text}");
        }
        for text in [
            "",
            "08",
            "_1",
            "1_",
            "1__0",
            "0x",
            "--1",
            "1e3",
            "0x-1",
            "9223372036854775808",
        ] {
            assert!(integer(text).is_err(), "{text}");
        }
    }
}
