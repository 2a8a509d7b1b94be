//! The forms in which a program writes bytes down, and how a window of a file is undone before it is searched.

use std::borrow::Cow;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};

/// How a secret was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Form {
    /// As it is.
    Raw,
    /// One half of it as it is, where a database split it over two pages. Only of secrets of 24 bytes and more.
    Half,
    /// In two hex digits a byte, of any case, with or without spaces or colons between bytes.
    Hex,
    /// In base64 of the standard alphabet, at any alignment, in lines or in one.
    Base64,
    /// In base64 of the URL-safe alphabet, at any alignment, in lines or in one.
    Base64Url,
    /// As a list of decimal numbers, as a debugger prints bytes.
    Decimal,
    /// With some or all characters as `%XX`, or spaces as `+`.
    UrlEscaped,
    /// With some or all characters as `\uXXXX`, `\xXX`, `\u{X}`, or one letter after a backslash.
    Escaped,
    /// In two bytes a character, little-endian, for texts of single bytes.
    Utf16,
}

/// How a window is rewritten before some forms are looked for in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum View {
    /// Not at all.
    Plain,
    /// Upper-case letters made small; spaces, line ends and colons dropped.
    Compact,
    /// Line ends and spaces dropped.
    Joined,
    /// `%XX` and `+` undone.
    Unquoted,
    /// Backslash escapes undone.
    Unescaped,
}

impl View {
    pub(super) const ALL: [View; 5] = [
        View::Plain,
        View::Compact,
        View::Joined,
        View::Unquoted,
        View::Unescaped,
    ];

    /// The window, rewritten; none if rewriting changes nothing that the plain view does not show.
    pub(super) fn of(self, window: &[u8]) -> Option<Cow<'_, [u8]>> {
        match self {
            View::Plain => Some(Cow::Borrowed(window)),
            View::Compact => Some(without(b" \t\r\n:", &window.to_ascii_lowercase()).into()),
            View::Joined => Some(without(b" \t\r\n", window).into()),
            View::Unquoted => window
                .iter()
                .any(|b| b"%+".contains(b))
                .then(|| unquoted(window).into()),
            View::Unescaped => window.contains(&b'\\').then(|| unescaped(window).into()),
        }
    }

    /// What is looked for in this view of a window, for one secret.
    pub(super) fn patterns(self, secret: &[u8]) -> Vec<(Form, Vec<u8>)> {
        match self {
            View::Plain => [(Form::Raw, secret.to_vec()), (Form::Utf16, utf16(secret))]
                .into_iter()
                .chain(halves(secret).map(|half| (Form::Half, half)))
                .collect(),
            View::Compact => vec![(Form::Hex, hex(secret))],
            View::Joined => (0..3)
                .flat_map(|shift| {
                    [
                        (Form::Base64, base64(&STANDARD_NO_PAD, shift, secret)),
                        (Form::Base64Url, base64(&URL_SAFE_NO_PAD, shift, secret)),
                    ]
                })
                .chain([(Form::Decimal, decimal(secret))])
                .collect(),
            View::Unquoted => vec![(Form::UrlEscaped, spaced(secret))],
            View::Unescaped => vec![(Form::Escaped, secret.to_vec())],
        }
    }
}

/// The longest that any form writes one byte: `\u{0000XX}` with room to spare, and line ends in between.
pub(super) const WIDEST: usize = 12;

fn without(dropped: &[u8], window: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(window.len());
    for run in window.split(|byte| dropped.contains(byte)) {
        out.extend_from_slice(run);
    }
    out
}

/// Wherever a secret is cut in two, one of these is whole.
fn halves(secret: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    let half = secret.len() / 2;
    let (first, last) = (secret.get(..half), secret.get(secret.len() - half..));
    [first, last]
        .into_iter()
        .flatten()
        .filter(|part| part.len() >= 12)
        .map(<[u8]>::to_vec)
}

fn hex(secret: &[u8]) -> Vec<u8> {
    secret
        .iter()
        .flat_map(|b| format!("{b:02x}").into_bytes())
        .collect()
}

fn utf16(secret: &[u8]) -> Vec<u8> {
    secret.iter().flat_map(|b| [*b, 0]).collect()
}

fn decimal(secret: &[u8]) -> Vec<u8> {
    secret
        .iter()
        .map(u8::to_string)
        .collect::<Vec<_>>()
        .join(",")
        .into_bytes()
}

/// The characters that the secret alone decides when `shift` bytes stand before it in its group of three.
fn base64(engine: &impl Engine, shift: usize, secret: &[u8]) -> Vec<u8> {
    let padded: Vec<u8> = std::iter::repeat_n(0, shift)
        .chain(secret.iter().copied())
        .collect();
    let text = engine.encode(&padded).into_bytes();
    // Six bits a character: skip those that hold bits of what stands before, and a last one that is not full.
    let first = (shift * 8).div_ceil(6);
    let whole = padded.len() * 8 / 6;
    text.into_iter().take(whole).skip(first).collect()
}

fn unquoted(window: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(window.len());
    let mut rest = window;
    while let Some((&byte, after)) = rest.split_first() {
        let escaped = (byte == b'%').then(|| after.split_at_checked(2)).flatten();
        let decoded = escaped.and_then(|(digits, after)| Some((number(digits, 16)?, after)));
        match decoded.and_then(|(value, after)| Some((u8::try_from(value).ok()?, after))) {
            Some((value, after)) => {
                out.push(value);
                rest = after;
            }
            None => {
                out.push(byte);
                rest = after;
            }
        }
    }
    spaced(&out)
}

/// Whether a plus means itself or a space depends on the writer: here all are spaces, in the secret too.
fn spaced(text: &[u8]) -> Vec<u8> {
    text.iter()
        .map(|b| if *b == b'+' { b' ' } else { *b })
        .collect()
}

fn unescaped(window: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(window.len());
    let mut rest = window;
    while let Some((&byte, after)) = rest.split_first() {
        match (byte == b'\\').then(|| escape(after)).flatten() {
            Some((bytes, after)) => {
                out.extend(bytes);
                rest = after;
            }
            None => {
                out.push(byte);
                rest = after;
            }
        }
    }
    out
}

/// Undoes one escape, of which the backslash is gone already.
fn escape(text: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    let (&kind, after) = text.split_first()?;
    let simple = |byte: u8| Some((vec![byte], after));
    match kind {
        b'n' => simple(b'\n'),
        b't' => simple(b'\t'),
        b'r' => simple(b'\r'),
        b'b' => simple(8),
        b'f' => simple(12),
        b'0' => simple(0),
        b'"' | b'\\' | b'/' | b'\'' => simple(kind),
        b'x' => {
            let (digits, after) = after.split_at_checked(2)?;
            Some((vec![u8::try_from(number(digits, 16)?).ok()?], after))
        }
        b'u' => {
            let (digits, after) = match after.strip_prefix(b"{") {
                Some(braced) => {
                    let end = braced.iter().take(9).position(|b| *b == b'}')?;
                    let (digits, after) = braced.split_at_checked(end)?;
                    (digits, after.get(1..)?)
                }
                None => after.split_at_checked(4)?,
            };
            let letter = char::from_u32(number(digits, 16)?)?;
            Some((letter.to_string().into_bytes(), after))
        }
        _ => None,
    }
}

fn number(digits: &[u8], radix: u32) -> Option<u32> {
    u32::from_str_radix(std::str::from_utf8(digits).ok()?, radix).ok()
}
