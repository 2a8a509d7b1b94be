//! The one source of nonces, keys, tokens and ids.

use shared::hex;
use zeroize::Zeroizing;

/// Where randomness comes from. Decisions take it as an argument, so that tests can repeat them.
pub trait Entropy: Send + Sync {
    /// Fills `bytes` with randomness fit for keys.
    ///
    /// # Errors
    /// If there is none to be had: nothing may be issued or sealed then.
    fn fill(&self, bytes: &mut [u8]) -> Result<(), NoEntropy>;
}

/// The operating system gives no randomness.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the operating system provides no randomness")]
pub struct NoEntropy;

/// The operating system's.
#[derive(Clone, Copy, Debug, Default)]
pub struct OsEntropy;

impl Entropy for OsEntropy {
    fn fill(&self, bytes: &mut [u8]) -> Result<(), NoEntropy> {
        getrandom::fill(bytes).map_err(|_| NoEntropy)
    }
}

/// `length` random characters of base62, without modulo bias.
///
/// # Errors
/// As [`Entropy::fill`].
pub fn base62(entropy: &dyn Entropy, length: usize) -> Result<Zeroizing<String>, NoEntropy> {
    const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    let mut text = Zeroizing::new(String::with_capacity(length));
    let mut pool = Zeroizing::new([0u8; 64]);
    while text.len() < length {
        entropy.fill(pool.as_mut())?;
        let picked = pool
            .iter()
            .filter_map(|byte| DIGITS.get(usize::from(byte & 63)));
        for digit in picked.take(length - text.len()) {
            text.push(char::from(*digit));
        }
    }
    Ok(text)
}

/// A random UUID (RFC 9562, version 4).
///
/// # Errors
/// As [`Entropy::fill`].
pub fn uuid(entropy: &dyn Entropy) -> Result<String, NoEntropy> {
    let mut bytes = [0u8; 16];
    entropy.fill(&mut bytes)?;
    let [_, _, _, _, _, _, version, _, variant, ..] = &mut bytes;
    *version = *version & 0x0f | 0x40;
    *variant = *variant & 0x3f | 0x80;
    let mut text = String::with_capacity(36);
    for (at, byte) in bytes.iter().enumerate() {
        if matches!(at, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        text.extend(hex::digits(*byte).map(char::from));
    }
    Ok(text)
}

/// A random number: an id that no other has.
///
/// # Errors
/// As [`Entropy::fill`].
pub fn unique_u64(entropy: &dyn Entropy) -> Result<u64, NoEntropy> {
    let mut bytes = [0; 8];
    entropy.fill(&mut bytes)?;
    Ok(u64::from_le_bytes(bytes))
}

/// A random number in 0..1 that spreads hosts over time; its middle where there is no randomness: then hosts act in
/// step, which is a nuisance, not a danger.
pub fn jitter(entropy: &dyn Entropy) -> f64 {
    let mut bytes = [0; 4];
    match entropy.fill(&mut bytes) {
        Ok(()) => f64::from(u32::from_le_bytes(bytes)) / (f64::from(u32::MAX) + 1.0),
        Err(NoEntropy) => 0.5,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base62_has_the_length_asked_for_and_only_its_digits() {
        let text = base62(&OsEntropy, 43).unwrap();
        assert_eq!(text.len(), 43);
        assert!(text.bytes().all(|b| b.is_ascii_alphanumeric()));
        assert_ne!(*text, *base62(&OsEntropy, 43).unwrap());
    }

    #[test]
    fn uuids_say_that_they_are_random_ones() {
        let text = uuid(&OsEntropy).unwrap();
        assert_eq!(text.len(), 36);
        assert_eq!(text.as_bytes()[14], b'4');
        assert!(matches!(text.as_bytes()[19], b'8' | b'9' | b'a' | b'b'));
    }
}
