//! Space that is taken before it is needed, so that revocations last where the replica takes no changes.
//!
//! A file of fixed size beside the replica, whose blocks were written when it was made. While the store is being
//! mended, each commit of the revocation lane is a record in it: written in place, which needs no room, and synced
//! before anybody is told. The first commit that the replica takes again holds them all. A record says which commit of the
//! replica it follows, and which generation it is: one that the replica has gone beyond is of no use any more.

use std::{collections::HashMap, fs::File, os::unix::fs::FileExt as _, path::PathBuf};

use super::StoreError;
use crate::{
    entropy::Entropy,
    key::{Keys, Purpose},
    private::{self, PrivateError},
    seal::{self, NONCE, Sealed, SealingError, Subject},
};

mod record;

pub(crate) use record::Record;

/// The size of the file, in bytes: about a thousand revocations.
pub(crate) const SIZE: u64 = 1 << 20;
/// Where what is Holdover's own ends: the rest is for operators.
const OWN: u64 = SIZE / 4 * 3;
/// Where what others cause ends.
const OTHERS: u64 = SIZE / 2;
/// What one peer may take.
const PEER: u64 = SIZE / 16;
/// What was learned may take together: clients can cause as much of it as they like.
const LEARNED: u64 = SIZE / 8;

/// What stands before a record: the generation that it follows (8), its index (4), its length (4).
const FRAME: usize = 16;
/// As the associated data names it; no table of the replica has this number.
const TABLE: u8 = 0xfe;
/// Records are few, and each takes a random nonce: their key does not roll over.
const EPOCH: u32 = 1;

/// On whose account space is taken.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Share {
    /// What was learned from answers to clients: doubts, and what was revoked at the primary.
    Learned,
    /// Holdover's own: its state, and what it queues for the primary.
    Own,
    /// An operator's.
    Operator,
    /// A peer's, by its uid.
    Peer(u32),
}

/// The file, and what is in it.
pub(crate) struct ReserveFile {
    path: PathBuf,
    /// None where there is none, or where what was written to it may not be there.
    file: Option<File>,
    /// The generation that its records follow.
    base: Option<u64>,
    end: u64,
    records: u32,
    used: HashMap<Share, u64>,
}

/// What was found in it.
#[derive(Default)]
pub(crate) struct Found {
    /// The generation that they follow.
    pub(crate) base: u64,
    pub(crate) records: Vec<Record>,
    end: u64,
}

impl ReserveFile {
    /// That of the replica at `path`, as far as it can be opened for writing, and what is in it.
    pub(crate) fn open(replica: &std::path::Path, keys: &Keys) -> (Self, Found) {
        let path = private::beside(replica, ".reserve");
        let found = match private::open(&path).map(|file| read(&file, keys)) {
            Ok(found) => found,
            Err(error) if error.is_missing() => Found::default(),
            Err(error) => {
                tracing::error!(%error, "revocations of a time in which the replica took no changes cannot be read");
                Found::default()
            }
        };
        let mut reserve = Self {
            file: private::open_writable(&path).ok(),
            path,
            base: (!found.records.is_empty()).then_some(found.base),
            end: found.end,
            records: u32::try_from(found.records.len()).unwrap_or(u32::MAX),
            used: HashMap::new(),
        };
        if !reserve.is_whole() {
            reserve.file = None;
        }
        (reserve, found)
    }

    /// None, and nothing in it.
    pub(crate) fn none(replica: &std::path::Path) -> Self {
        Self {
            path: private::beside(replica, ".reserve"),
            file: None,
            base: None,
            end: 0,
            records: 0,
            used: HashMap::new(),
        }
    }

    /// Makes the file where it is missing or not to be trusted: there is nothing in it that is needed.
    ///
    /// # Errors
    /// If it cannot be written; there is none then.
    pub(crate) fn make(&mut self) -> Result<(), PrivateError> {
        if self.file.is_some() {
            return Ok(());
        }
        let zeros = vec![0; usize::try_from(SIZE).unwrap_or(0)];
        private::replace(&self.path, &zeros)?;
        self.file = Some(private::open_writable(&self.path)?);
        self.forget();
        Ok(())
    }

    /// Adds a record. The first follows the replica's commit of generation `base`. It is durable when this returns.
    ///
    /// # Errors
    /// If there is no room for it, or it could not be written.
    pub(crate) fn append(
        &mut self,
        record: &Record,
        base: u64,
        share: Share,
        (keys, entropy): (&Keys, &dyn Entropy),
    ) -> Result<(), StoreError> {
        let base = self.base.unwrap_or(base);
        let sealed = sealed(record, base, self.records, keys, entropy)?;
        let size = u64::try_from(FRAME.saturating_add(sealed.len())).unwrap_or(u64::MAX);
        if !self.admits(share, size) {
            return Err(StoreError::ReserveFull);
        }
        let mut frame = Vec::with_capacity(FRAME.saturating_add(sealed.len()));
        frame.extend_from_slice(&base.to_le_bytes());
        frame.extend_from_slice(&self.records.to_le_bytes());
        let length = u32::try_from(sealed.len()).unwrap_or(u32::MAX);
        frame.extend_from_slice(&length.to_le_bytes());
        frame.extend_from_slice(&sealed);
        self.write(&frame, self.end)?;
        self.base = Some(base);
        self.end = self.end.saturating_add(size);
        self.records = self.records.saturating_add(1);
        let used = self.used.entry(share).or_default();
        *used = used.saturating_add(size);
        Ok(())
    }

    /// Forgets every record: the replica holds them.
    ///
    /// # Errors
    /// If that cannot be written. They are passed over by their generation all the same.
    pub(crate) fn clear(&mut self) -> Result<(), StoreError> {
        let written = match self.end {
            0 => Ok(()),
            _ => self.write(&[0; FRAME], 0),
        };
        self.forget();
        written
    }

    /// Nothing in it is of use any more: it is written from its beginning.
    pub(super) fn forget(&mut self) {
        (self.end, self.records, self.base) = (0, 0, None);
        self.used.clear();
    }

    fn admits(&self, share: Share, size: u64) -> bool {
        let own = self.used.get(&share).copied().unwrap_or(0);
        let (own, all) = (own.saturating_add(size), self.end.saturating_add(size));
        match share {
            Share::Operator => all <= SIZE,
            Share::Own => all <= OWN,
            Share::Peer(_) => own <= PEER && all <= OTHERS,
            Share::Learned => own <= LEARNED && all <= OTHERS,
        }
    }

    /// What one write or sync did not do may look done at the next: after a failure the file is not trusted again.
    fn write(&mut self, bytes: &[u8], at: u64) -> Result<(), StoreError> {
        let missing = || std::io::Error::from(std::io::ErrorKind::NotFound);
        let written = match &self.file {
            None => Err(missing()),
            Some(file) => file.write_all_at(bytes, at).and_then(|()| file.sync_data()),
        };
        written.map_err(|error| {
            self.file = None;
            StoreError::Reserve(PrivateError::io(&self.path, "write")(error))
        })
    }

    /// Whether it is as long as it should be.
    fn is_whole(&self) -> bool {
        let meta = self.file.as_ref().map(File::metadata);
        matches!(meta, Some(Ok(meta)) if meta.len() == SIZE)
    }
}

/// The records at the beginning of `file` that follow each other. What comes behind was never acknowledged, or is of an
/// earlier time.
fn read(file: &File, keys: &Keys) -> Found {
    let mut bytes = Vec::new();
    if let Err(error) = std::io::Read::read_to_end(&mut std::io::Read::take(file, SIZE), &mut bytes)
    {
        tracing::error!(%error, "what is kept for revocations cannot be read whole");
    }
    let mut found = Found::default();
    let mut rest = bytes.as_slice();
    while let Some((base, record, left)) = first(rest, &found, keys) {
        found.base = base;
        found.records.push(record);
        rest = left;
    }
    found.end = u64::try_from(bytes.len().saturating_sub(rest.len())).unwrap_or(u64::MAX);
    found
}

/// The record at the beginning of `bytes`, with the generation that it follows and what is behind it, if it is the next one
/// after those `found`.
fn first<'b>(bytes: &'b [u8], found: &Found, keys: &Keys) -> Option<(u64, Record, &'b [u8])> {
    let (base, rest) = bytes.split_first_chunk()?;
    let (index, rest) = rest.split_first_chunk()?;
    let (length, rest) = rest.split_first_chunk()?;
    let base = u64::from_le_bytes(*base);
    let index = u32::from_le_bytes(*index);
    let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
    let follows = found.records.is_empty() || base == found.base;
    if !follows || usize::try_from(index).ok()? != found.records.len() {
        return None;
    }
    let (bytes, rest) = rest.split_at_checked(length)?;
    let sealed = Sealed {
        epoch: EPOCH,
        version: index.into(),
        bytes: bytes.into(),
    };
    let key = base.to_le_bytes();
    let cipher = keys.cipher(Purpose::Reserve, EPOCH);
    let plain = seal::open(&cipher, &subject(&key), &sealed).ok()?;
    Some((base, Record::decode(plain.expose())?, rest))
}

fn sealed(
    record: &Record,
    base: u64,
    index: u32,
    keys: &Keys,
    entropy: &dyn Entropy,
) -> Result<Vec<u8>, SealingError> {
    let mut nonce = [0; NONCE];
    entropy.fill(&mut nonce)?;
    let cipher = keys.cipher(Purpose::Reserve, EPOCH);
    let key = base.to_le_bytes();
    let version = (index.into(), EPOCH);
    let sealed = seal::seal(&cipher, nonce, &subject(&key), version, &record.encode())?;
    Ok(sealed.bytes.to_vec())
}

fn subject(base: &[u8; 8]) -> Subject<'_> {
    Subject {
        table: TABLE,
        key: base,
    }
}

#[cfg(test)]
mod tests;
