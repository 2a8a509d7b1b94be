//! Sealed values: AES-256-GCM with the record's identity as associated data.
//!
//! A value opens only as what it was sealed as: format, table, row key, row version and key epoch are its
//! associated data. Plaintext lives in wiped memory alone: in a [`Wiped`] buffer on its way in, in a
//! `SecretBytes` on its way out.

use std::{io, sync::Arc};

use aes_gcm::{AeadInOut as _, Aes256Gcm, Nonce, Tag};
use shared::secret::SecretBytes;
use zeroize::{Zeroize as _, Zeroizing};

use crate::entropy::NoEntropy;

/// The version of the file's format, which every sealed value binds.
pub const FORMAT: u16 = 1;

/// Bytes of a nonce.
pub const NONCE: usize = 12;

/// Bytes of a tag.
pub const TAG: usize = 16;

/// A value as it lies on disk and in memory: nonce, ciphertext, tag, and the epoch of its key.
#[derive(Clone, Debug)]
pub struct Sealed {
    /// Which record key.
    pub epoch: u32,
    /// The row's version, which the associated data binds.
    pub version: u64,
    /// Nonce (12 bytes), ciphertext, tag (16 bytes).
    pub bytes: Arc<[u8]>,
}

/// What a sealed value is of. It opens as nothing else.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    /// The table.
    pub table: u8,
    /// The row's key (an HMAC where a plain one would reveal something).
    pub key: &'a [u8],
}

/// It was changed, moved or sealed under another key.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("a sealed value does not open: it was changed, moved or sealed under another key")]
pub struct SealError;

/// Why nothing can be sealed.
#[derive(Debug, thiserror::Error)]
pub enum SealingError {
    /// A record has no serialised form.
    #[error("a record cannot be serialized: {0}")]
    Encode(#[from] serde_json::Error),
    /// No nonce.
    #[error(transparent)]
    Entropy(#[from] NoEntropy),
    /// Longer than a ciphertext may be.
    #[error("a record is too long to be sealed")]
    Long,
    /// The epoch's encryptions were not reserved on disk.
    #[error("no encryption of this epoch is reserved on disk")]
    Unreserved,
}

/// Seals `plain` for `subject` under this version, which nothing else may have.
pub(crate) fn seal(
    cipher: &Aes256Gcm,
    nonce: [u8; NONCE],
    subject: &Subject<'_>,
    (version, epoch): (u64, u32),
    plain: &[u8],
) -> Result<Sealed, SealingError> {
    let aad = associated(subject, version, epoch);
    let bytes = encrypt(cipher, nonce, &aad, plain)?.into();
    Ok(Sealed {
        epoch,
        version,
        bytes,
    })
}

/// Opens `sealed` with `cipher`, as `subject`.
pub(crate) fn open(
    cipher: &Aes256Gcm,
    subject: &Subject<'_>,
    sealed: &Sealed,
) -> Result<SecretBytes, SealError> {
    let aad = associated(subject, sealed.version, sealed.epoch);
    decrypt(cipher, &aad, &sealed.bytes)
}

/// Nonce, ciphertext, tag of `plain`.
pub(crate) fn encrypt(
    cipher: &Aes256Gcm,
    nonce: [u8; NONCE],
    aad: &[u8],
    plain: &[u8],
) -> Result<Vec<u8>, SealingError> {
    let mut bytes = Vec::with_capacity(NONCE + plain.len() + TAG);
    bytes.extend_from_slice(&nonce);
    bytes.extend_from_slice(plain);
    let body = bytes.get_mut(NONCE..).unwrap_or_default();
    let Ok(tag) = cipher.encrypt_inout_detached(&Nonce::from(nonce), aad, body.into()) else {
        bytes.zeroize();
        return Err(SealingError::Long);
    };
    bytes.extend_from_slice(&tag);
    Ok(bytes)
}

/// What [`encrypt`] made nonce, ciphertext and tag of.
pub(crate) fn decrypt(
    cipher: &Aes256Gcm,
    aad: &[u8],
    bytes: &[u8],
) -> Result<SecretBytes, SealError> {
    let (nonce, rest) = bytes.split_first_chunk::<NONCE>().ok_or(SealError)?;
    let (ciphertext, tag) = rest.split_last_chunk::<TAG>().ok_or(SealError)?;
    let mut opened = Ok(());
    let plain = SecretBytes::filled(|plain| {
        plain.reserve_exact(ciphertext.len());
        plain.extend_from_slice(ciphertext);
        let body = plain.as_mut_slice().into();
        let (nonce, tag) = (Nonce::from(*nonce), Tag::from(*tag));
        opened = cipher.decrypt_inout_detached(&nonce, aad, body, &tag);
    });
    opened.map(|()| plain).map_err(|_| SealError)
}

/// The associated data: `holdover`, format, table, row key with its length, row version, key epoch; little endian.
fn associated(subject: &Subject<'_>, version: u64, epoch: u32) -> Vec<u8> {
    let length = u32::try_from(subject.key.len()).unwrap_or(u32::MAX);
    let mut data = Vec::with_capacity(27 + subject.key.len());
    data.extend_from_slice(b"holdover");
    data.extend_from_slice(&FORMAT.to_le_bytes());
    data.push(subject.table);
    data.extend_from_slice(&length.to_le_bytes());
    data.extend_from_slice(subject.key);
    data.extend_from_slice(&version.to_le_bytes());
    data.extend_from_slice(&epoch.to_le_bytes());
    data
}

/// A growing buffer that wipes what it leaves behind when it moves, and all of it at its end.
#[derive(Default)]
pub(crate) struct Wiped(Zeroizing<Vec<u8>>);

impl Wiped {
    pub(crate) fn as_slice(&self) -> &[u8] {
        &self.0
    }
}

impl io::Write for Wiped {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let needed = self.0.len() + bytes.len();
        if needed > self.0.capacity() {
            // A Vec that grows by itself frees its old memory unwiped: move by hand.
            let mut larger = Zeroizing::new(Vec::with_capacity(needed.max(256) * 2));
            larger.extend_from_slice(&self.0);
            self.0 = larger;
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_record_goes_through_the_wiped_buffer_whole() {
        let text = "x".repeat(100_000);
        let mut plain = Wiped::default();
        serde_json::to_writer(&mut plain, &text).unwrap();
        assert_eq!(plain.as_slice(), serde_json::to_vec(&text).unwrap());
    }
}
