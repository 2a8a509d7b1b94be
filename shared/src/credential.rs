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
    let text = text(content)?;
    let line = text.trim_matches([' ', '\t', '\r', '\n']);
    if line.is_empty() {
        return Err(TextFault::Empty);
    }
    match line.chars().find_map(fault) {
        Some(fault) => Err(fault),
        None => Ok(line),
    }
}

/// The text in `content`.
///
/// # Errors
/// If it is in another encoding than UTF-8, or marked as in one.
pub fn text(content: &[u8]) -> Result<&str, TextFault> {
    if MARKS.into_iter().any(|mark| content.starts_with(mark)) {
        return Err(TextFault::ByteOrderMark);
    }
    match core::str::from_utf8(content) {
        Ok(text) if !is_utf16(content) => Ok(text),
        _ => Err(TextFault::NotText),
    }
}

/// Whether every other byte is zero, as where letters of Latin are written in UTF-16 without a mark. It would be UTF-8 too.
fn is_utf16(content: &[u8]) -> bool {
    let (pairs, _) = content.as_chunks();
    let all = |is_one: fn(&[u8; 2]) -> bool| !pairs.is_empty() && pairs.iter().all(is_one);
    all(|[low, high]| *low != 0 && *high == 0) || all(|[high, low]| *low != 0 && *high == 0)
}

fn fault(letter: char) -> Option<TextFault> {
    match letter {
        '\r' | '\n' => Some(TextFault::SecondLine),
        letter if letter.is_whitespace() => Some(TextFault::InnerSpace),
        letter if letter.is_control() || is_unseen(letter) => Some(TextFault::Unseen),
        _ => None,
    }
}

/// Whether a letter is for formatting, or is not shown where it is not minded: in Unicode 17 those of general category Cf
/// (`DerivedGeneralCategory.txt`) and those that are `Default_Ignorable_Code_Point` (`DerivedCoreProperties.txt`), among them all
/// variation selectors and tags; and the one pattern of Braille that has no dots.
fn is_unseen(letter: char) -> bool {
    matches!(
        letter,
        '\u{ad}'
            | '\u{34f}'
            | '\u{600}'..='\u{605}'
            | '\u{61c}'
            | '\u{6dd}'
            | '\u{70f}'
            | '\u{890}'..='\u{891}'
            | '\u{8e2}'
            | '\u{115f}'..='\u{1160}'
            | '\u{17b4}'..='\u{17b5}'
            | '\u{180b}'..='\u{180f}'
            | '\u{200b}'..='\u{200f}'
            | '\u{202a}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{2800}'
            | '\u{3164}'
            | '\u{fe00}'..='\u{fe0f}'
            | '\u{feff}'
            | '\u{ffa0}'
            | '\u{fff0}'..='\u{fffb}'
            | '\u{110bd}'
            | '\u{110cd}'
            | '\u{13430}'..='\u{1343f}'
            | '\u{1bca0}'..='\u{1bca3}'
            | '\u{1d173}'..='\u{1d17a}'
            | '\u{e0000}'..='\u{e0fff}'
    )
}

#[cfg(test)]
mod tests {
    use alloc::{format, string::String, vec, vec::Vec};

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn each_fault_has_its_name() {
        let utf16: Vec<u8> = vec![0xff, 0xfe, b'a', 0];
        let unmarked: Vec<u8> = "abc\n".encode_utf16().flat_map(u16::to_be_bytes).collect();
        let faults: [(&[u8], TextFault); 21] = [
            (b"", TextFault::Empty),
            (b" \r\n\t\n", TextFault::Empty),
            (b"\xef\xbb\xbfabc\n", TextFault::ByteOrderMark),
            (b"\xef\xbb\xbf", TextFault::ByteOrderMark),
            (&utf16, TextFault::ByteOrderMark),
            (b"ab\xffc", TextFault::NotText),
            (b"a\0b\0c\0\n\0", TextFault::NotText),
            (&unmarked, TextFault::NotText),
            (b"abc\ndef\n", TextFault::SecondLine),
            (b"abc\r\n\r\ndef", TextFault::SecondLine),
            (b"ab c", TextFault::InnerSpace),
            ("ab\u{a0}c".as_bytes(), TextFault::InnerSpace),
            ("ab\u{200b}c".as_bytes(), TextFault::Unseen),
            ("abc\u{feff}".as_bytes(), TextFault::Unseen),
            (b"ab\0c", TextFault::Unseen),
            (b"abc\0", TextFault::Unseen),
            ("ab\u{ad}c".as_bytes(), TextFault::Unseen),
            ("\u{2066}abc".as_bytes(), TextFault::Unseen),
            ("abc\u{fe0f}".as_bytes(), TextFault::Unseen),
            ("abc\u{e0101}".as_bytes(), TextFault::Unseen),
            ("ab\u{e0041}c".as_bytes(), TextFault::Unseen),
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

        /// Letters of any script that can be seen are nobody's mistake.
        #[test]
        fn letters_that_can_be_seen_are_taken(credential in "[a-zA-Z0-9äöüßéñøЖжλשक語한]{1,32}") {
            prop_assert_eq!(line(credential.as_bytes()), Ok(credential.as_str()));
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
