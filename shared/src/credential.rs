//! What a credential file has to hold: one line of text, and nothing that only looks like it.
//!
//! Editors and shells put things into files that nobody sees. A credential with such a thing in it is refused by the primary, and
//! five refusals lock a role id for everybody: so it is found here, before anything is sent.

/// Why the content of a file is no credential, or no text. Nothing of it is quoted.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum TextFault {
    /// Nothing is in it but space.
    #[error("is empty; put the credential into it")]
    Empty,
    /// It begins as editors mark the encoding of a text.
    #[error("begins with a byte order mark; save it as UTF-8 without one")]
    ByteOrderMark,
    /// It is in another encoding, or no text at all.
    #[error("is not UTF-8 text; save it as UTF-8")]
    NotText,
    /// Text stands on more than one line.
    #[error("has more than one line; leave only the credential in it")]
    SecondLine,
    /// There is space in the middle of it.
    #[error("has a space within the credential; leave only the credential in it")]
    InnerSpace,
    /// There is something in it that is not shown.
    #[error("has a character in it that cannot be seen; write the credential into it anew")]
    Unseen,
}

/// As UTF-8, and as UTF-16 of either order.
const MARKS: [&[u8]; 3] = [&[0xef, 0xbb, 0xbf], &[0xff, 0xfe], &[0xfe, 0xff]];

/// The credential in `content`, without the space around it: a line's end above all.
///
/// # Errors
/// If it is not one line of text that can be seen.
pub fn line(content: &[u8]) -> Result<&str, TextFault> {
    if is_marked(content) {
        return Err(TextFault::ByteOrderMark);
    }
    let text = core::str::from_utf8(content).map_err(|_| TextFault::NotText)?;
    let line = text.trim_matches([' ', '\t', '\r', '\n']);
    if line.is_empty() {
        return Err(TextFault::Empty);
    }
    match line.chars().find_map(fault) {
        Some(fault) => Err(fault),
        None => Ok(line),
    }
}

/// Whether a content begins as editors mark the encoding of a text.
pub fn is_marked(content: &[u8]) -> bool {
    MARKS.into_iter().any(|mark| content.starts_with(mark))
}

fn fault(letter: char) -> Option<TextFault> {
    match letter {
        '\r' | '\n' => Some(TextFault::SecondLine),
        letter if letter.is_whitespace() => Some(TextFault::InnerSpace),
        // Of no width: a mark in the middle, joiners, signs of direction.
        '\u{feff}'
        | '\u{200b}'..='\u{200f}'
        | '\u{202a}'..='\u{202e}'
        | '\u{2060}'..='\u{2064}' => Some(TextFault::Unseen),
        letter if letter.is_control() => Some(TextFault::Unseen),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use alloc::{format, string::String, vec, vec::Vec};

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn each_fault_has_its_name() {
        let utf16: Vec<u8> = vec![0xff, 0xfe, b'a', 0];
        let faults: [(&[u8], TextFault); 13] = [
            (b"", TextFault::Empty),
            (b" \r\n\t\n", TextFault::Empty),
            (b"\xef\xbb\xbfabc\n", TextFault::ByteOrderMark),
            (b"\xef\xbb\xbf", TextFault::ByteOrderMark),
            (&utf16, TextFault::ByteOrderMark),
            (b"ab\xffc", TextFault::NotText),
            (b"abc\ndef\n", TextFault::SecondLine),
            (b"abc\r\n\r\ndef", TextFault::SecondLine),
            (b"ab c", TextFault::InnerSpace),
            ("ab\u{a0}c".as_bytes(), TextFault::InnerSpace),
            ("ab\u{200b}c".as_bytes(), TextFault::Unseen),
            ("abc\u{feff}".as_bytes(), TextFault::Unseen),
            (b"ab\0c", TextFault::Unseen),
        ];
        for (content, fault) in faults {
            assert_eq!(line(content), Err(fault), "{content:?}");
        }
    }

    proptest! {
        /// Whatever space and line's ends are around it, a credential is read as it is.
        #[test]
        fn a_credential_is_read_whatever_space_is_around_it(
            credential in "[!-~]{1,64}",
            before in "[ \t]{0,2}",
            after in "[ \t]{0,2}(\r?\n){0,2}",
        ) {
            let content = format!("{before}{credential}{after}");
            prop_assert_eq!(line(content.as_bytes()), Ok(credential.as_str()));
        }

        /// What is read is a piece of what is there, and can be sent as it is.
        #[test]
        fn what_is_read_is_one_visible_piece_of_the_content(content in proptest::collection::vec(any::<u8>(), 0..48)) {
            if let Ok(line) = line(&content) {
                prop_assert!(!line.is_empty());
                prop_assert!(!line.chars().any(|letter| letter.is_whitespace() || letter.is_control()));
                prop_assert!(String::from_utf8_lossy(&content).contains(line));
            }
        }
    }
}
