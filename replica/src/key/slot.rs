//! Key slots: what wraps the root key inside of the replica's file.
//!
//! A replica has one or more slots, each of a kind that says where its key comes from. Only `file` is built; other
//! kinds have names of their own in the file, and slots of a kind that this build does not know are left alone.

use std::{
    io::{Read as _, Write as _},
    path::{Path, PathBuf},
};

use aes_gcm::{Aes256Gcm, KeyInit as _};
use shared::hex;
use zeroize::Zeroizing;

use super::{ReplicaId, RootKey, hkdf};
use crate::{
    entropy::{Entropy, NoEntropy},
    private::{self, PrivateError},
    seal::{self, FORMAT, NONCE, SealError, SealingError},
};

/// Where the key of a slot comes from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Source {
    /// 64 hex digits in a file of mode 0600 that belongs to this process's user.
    File(PathBuf),
}

/// Why the key of a slot cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// No randomness for a new key.
    #[error(transparent)]
    Entropy(#[from] NoEntropy),
    /// The root key cannot be wrapped.
    #[error(transparent)]
    Wrap(#[from] SealingError),
    /// A file does not hold 64 hex digits.
    #[error("the key file {} does not hold exactly 64 hex digits; restore it from where it was kept", .0.display())]
    Form(PathBuf),
    /// The file is not fit to hold a key, or cannot be read.
    #[error("the key file is not usable: {0}")]
    File(#[from] PrivateError),
}

/// The key of a slot, which wraps the root key.
pub(crate) struct SlotKey(Zeroizing<[u8; 32]>);

/// A slot as it lies in the file.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Slot {
    /// Its number.
    pub(crate) number: u32,
    /// The kind of its source: `file`, later `passphrase`, `systemd-credential`, `recovery`.
    pub(crate) kind: String,
    /// What the kind needs beside the key, such as the costs of a password hash; bound by the wrapping.
    pub(crate) parameters: Vec<u8>,
    /// The salt of the wrapping key.
    pub(crate) salt: Vec<u8>,
    /// Nonce, wrapped root key, tag.
    pub(crate) wrapped: Vec<u8>,
}

impl Source {
    /// The kind of slot that it opens, as the file names it.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::File(_) => "file",
        }
    }

    /// Reads the key.
    pub(crate) fn read(&self) -> Result<SlotKey, SourceError> {
        match self {
            Self::File(path) => read_file(path),
        }
    }
}

impl std::fmt::Display for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::File(path) => write!(f, "the key file {}", path.display()),
        }
    }
}

/// Makes a key file that was not there: 32 random bytes as 64 hex digits, mode 0600, on disk when this returns.
///
/// # Errors
/// If it exists, cannot be made, or there is no randomness.
pub fn create_file(path: &Path, entropy: &dyn Entropy) -> Result<(), SourceError> {
    let mut key = Zeroizing::new([0u8; 32]);
    entropy.fill(key.as_mut())?;
    let mut text = Zeroizing::new(Vec::with_capacity(65));
    text.extend(key.iter().flat_map(|byte| hex::digits(*byte)));
    text.push(b'\n');
    let mut file = private::create(path)?;
    file.write_all(&text)
        .and_then(|()| file.sync_all())
        .map_err(PrivateError::io(path, "write"))?;
    private::sync_parent(path)?;
    Ok(())
}

impl Slot {
    /// Wraps `root` with the key of `source`.
    pub(crate) fn wrap(
        number: u32,
        source: &Source,
        root: &RootKey,
        id: ReplicaId,
        entropy: &dyn Entropy,
    ) -> Result<Self, SourceError> {
        let key = source.read()?;
        let (mut salt, mut nonce) = ([0; 16], [0; NONCE]);
        entropy.fill(&mut salt)?;
        entropy.fill(&mut nonce)?;
        let mut slot = Self {
            number,
            kind: source.kind().into(),
            parameters: Vec::new(),
            salt: salt.to_vec(),
            wrapped: Vec::new(),
        };
        let cipher = slot.cipher(&key);
        let aad = slot.associated(id);
        slot.wrapped = seal::encrypt(&cipher, nonce, &aad, root.expose())?;
        Ok(slot)
    }

    /// The root key, if `key` is this slot's.
    pub(crate) fn unwrap(&self, key: &SlotKey, id: ReplicaId) -> Result<RootKey, SealError> {
        let root = seal::decrypt(&self.cipher(key), &self.associated(id), &self.wrapped)?;
        RootKey::from_slice(root.expose()).ok_or(SealError)
    }

    fn cipher(&self, key: &SlotKey) -> Aes256Gcm {
        let info: [&[u8]; 2] = [b"holdover slot 1 ", self.kind.as_bytes()];
        Aes256Gcm::new((&*hkdf(key.0.as_slice(), &self.salt, &info)).into())
    }

    /// `holdover slot`, format, replica, number, kind and parameters with their lengths; little endian.
    fn associated(&self, id: ReplicaId) -> Vec<u8> {
        let mut data = b"holdover slot".to_vec();
        data.extend_from_slice(&FORMAT.to_le_bytes());
        data.extend_from_slice(&id.0);
        data.extend_from_slice(&self.number.to_le_bytes());
        for part in [self.kind.as_bytes(), &self.parameters] {
            let length = u32::try_from(part.len()).unwrap_or(u32::MAX);
            data.extend_from_slice(&length.to_le_bytes());
            data.extend_from_slice(part);
        }
        data
    }
}

fn read_file(path: &Path) -> Result<SlotKey, SourceError> {
    let mut text = Zeroizing::new(Vec::with_capacity(256));
    private::open(path)?
        .take(256)
        .read_to_end(&mut text)
        .map_err(PrivateError::io(path, "read"))?;
    let digits = text.trim_ascii_end();
    let mut key = SlotKey(Zeroizing::new([0; 32]));
    match hex::read(digits, key.0.as_mut_slice()) {
        Some(()) => Ok(key),
        None => Err(SourceError::Form(path.into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::Seeded;

    fn made(dir: &Path, name: &str, entropy: &Seeded) -> Source {
        let path = dir.join(name);
        create_file(&path, entropy).unwrap();
        Source::File(path)
    }

    #[test]
    fn a_key_file_holds_64_hex_digits_and_is_never_overwritten() {
        let (dir, entropy) = (tempfile::tempdir().unwrap(), Seeded::new(1));
        let Source::File(path) = made(dir.path(), "key", &entropy);
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(text.trim_end().len(), 64);
        assert!(text.trim_end().bytes().all(|b| b.is_ascii_hexdigit()));
        assert!(create_file(&path, &entropy).is_err());
        assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
    }

    #[test]
    fn only_the_slot_s_own_key_and_place_give_the_root_key() {
        let (dir, entropy) = (tempfile::tempdir().unwrap(), Seeded::new(1));
        let (ours, theirs) = (
            made(dir.path(), "a", &entropy),
            made(dir.path(), "b", &entropy),
        );
        let root = RootKey::random(&entropy).unwrap();
        let id = ReplicaId([1; 16]);
        let slot = Slot::wrap(1, &ours, &root, id, &entropy).unwrap();
        let key = ours.read().unwrap();
        assert_eq!(slot.unwrap(&key, id).unwrap().expose(), root.expose());
        assert!(slot.unwrap(&theirs.read().unwrap(), id).is_err());
        assert!(
            slot.unwrap(&key, ReplicaId([2; 16])).is_err(),
            "another replica's slot"
        );
        let weaker = Slot {
            parameters: vec![1],
            ..slot.clone()
        };
        assert!(weaker.unwrap(&key, id).is_err(), "parameters are bound");
        let moved = Slot { number: 2, ..slot };
        assert!(moved.unwrap(&key, id).is_err());
    }

    #[test]
    fn anything_but_64_hex_digits_is_refused_by_name() {
        let (dir, entropy) = (tempfile::tempdir().unwrap(), Seeded::new(1));
        let Source::File(path) = made(dir.path(), "key", &entropy);
        let good = std::fs::read_to_string(&path).unwrap();
        for bad in [
            "",
            "00",
            &good[1..],
            &format!("0{good}"),
            &good.replace(&good[..1], "g"),
        ] {
            std::fs::write(&path, bad).unwrap();
            let error = read_file(&path).err().unwrap();
            assert!(matches!(&error, SourceError::Form(_)), "{error}");
            assert!(error.to_string().contains("key"));
        }
        std::fs::write(&path, good.trim_end().to_uppercase()).unwrap();
        assert!(read_file(&path).is_ok(), "capitals, and no newline");
    }
}
