//! Bytes as hex digits.

use core::fmt::{self, Write};

/// Shows bytes as lower-case digits.
pub struct Hex<'a>(pub &'a [u8]);

impl fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut digits = self.0.iter().flat_map(|byte| digits(*byte));
        digits.try_for_each(|digit| f.write_char(char::from(digit)))
    }
}

/// The two lower-case digits of a byte.
pub fn digits(byte: u8) -> [u8; 2] {
    [byte >> 4, byte & 15].map(|value| value + if value < 10 { b'0' } else { b'a' - 10 })
}

/// Reads exactly as many digits as fill `bytes`, of either case; none if they are not that. What was read of others is
/// left in `bytes`.
pub fn read(text: &[u8], bytes: &mut [u8]) -> Option<()> {
    let (pairs, rest) = text.as_chunks::<2>();
    if pairs.len() != bytes.len() || !rest.is_empty() {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(pairs) {
        let [high, low] = pair.map(|digit| char::from(digit).to_digit(16));
        *byte = u8::try_from(high? << 4 | low?).ok()?;
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn only_digits_that_fill_the_bytes_are_read() {
        let mut bytes = [0; 2];
        assert_eq!(read(b"aBcD", &mut bytes), Some(()));
        assert_eq!(bytes, [0xab, 0xcd]);
        for other in ["abc", "abcde", "abcdef", "", "abcg", "+a+b", "0xab"] {
            assert_eq!(read(other.as_bytes(), &mut bytes), None, "{other}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(bytes: [u8; 16]) {
            let (text, mut read_back) = (Hex(&bytes).to_string(), [0; 16]);
            prop_assert_eq!(text.len(), 32);
            prop_assert_eq!(read(text.as_bytes(), &mut read_back), Some(()));
            prop_assert_eq!(read_back, bytes);
        }
    }
}
