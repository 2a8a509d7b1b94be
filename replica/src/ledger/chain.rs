//! The chain: each entry's MAC covers its number, the MAC before it, and the entry as it was written.
//!
//! `mac = HMAC-SHA-256(ledger key, seq (8 bytes, little endian) | prev (32) | entry as JSON)`. The header of each
//! commit seals both ends of the chain, so nothing can be cut off at either end unseen.

use serde::{Serialize, Serializer};
use shared::ledger::{Entry, claim::Claim};

use crate::{
    key::{self, Keys, Sealer},
    seal::{NONCE, SealError, Sealed, SealingError, Subject, TAG, Wiped},
    table::Table,
};

/// What a row costs beside its entry, in bytes of the spool.
const OVERHEAD: u64 = 96;

/// The ends of the chain.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Head {
    /// The number of the oldest entry that is kept, or of the next one if there is none.
    pub first: u64,
    /// The MAC before it: zeros before the first entry ever.
    pub before: [u8; 32],
    /// The number of the next entry.
    pub next: u64,
    /// The MAC of the last entry.
    pub last: [u8; 32],
    /// What the kept entries count for against `[ledger] max_size`, in bytes.
    pub bytes: u64,
}

impl Default for Head {
    fn default() -> Self {
        Self {
            first: 1,
            before: [0; 32],
            next: 1,
            last: [0; 32],
            bytes: 0,
        }
    }
}

/// An entry in its place in the chain; written out with the fields of the entry, and MACs in hex.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Chained {
    /// Its number, from 1, without gaps.
    pub seq: u64,
    /// What it says.
    #[serde(flatten)]
    pub entry: Entry,
    /// The MAC of the entry before it.
    #[serde(serialize_with = "hex")]
    pub prev: [u8; 32],
    /// Its own.
    #[serde(serialize_with = "hex")]
    pub mac: [u8; 32],
}

/// Where the chain is broken.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ChainError {
    /// Entries at the end are missing, or there are more than there should be.
    #[error(
        "the ledger ends at entry {found}, but its sealed header says {expected}: entries were removed or added"
    )]
    End {
        /// As the header has it.
        expected: u64,
        /// As the entries have it.
        found: u64,
    },
    /// An entry is missing, or was put elsewhere.
    #[error("entry {expected} of the ledger is missing: {found} stands in its place")]
    Gap {
        /// The number that should follow.
        expected: u64,
        /// The number that does.
        found: u64,
    },
    /// An entry was changed, or what came before it was.
    #[error("entry {seq} of the ledger was changed, or the chain before it was")]
    Mac {
        /// Its number.
        seq: u64,
    },
}

/// Proves that `entries` are the whole chain that `head` speaks of.
///
/// # Errors
/// At the first place where they are not.
pub fn verify<'e>(
    keys: &Keys,
    head: &Head,
    entries: impl IntoIterator<Item = &'e Chained>,
) -> Result<(), ChainError> {
    let (mut next, mut last) = (head.first, head.before);
    for entry in entries {
        let (expected, found) = (next, entry.seq);
        if expected != found {
            return Err(ChainError::Gap { expected, found });
        }
        let broken = ChainError::Mac { seq: found };
        let written = written(&entry.entry).map_err(|_| broken)?;
        let mac = mac(keys, found, &entry.prev, written.as_slice());
        if !key::same(&entry.prev, &last) || !key::same(&entry.mac, &mac) {
            return Err(broken);
        }
        (next, last) = (found + 1, mac);
    }
    if next != head.next || !key::same(&last, &head.last) {
        return Err(ChainError::End {
            expected: head.next.saturating_sub(1),
            found: next.saturating_sub(1),
        });
    }
    Ok(())
}

/// An entry as it lies in the file.
#[derive(Clone, Debug)]
pub(crate) struct LedgerRow {
    pub(crate) seq: u64,
    pub(crate) mac: [u8; 32],
    pub(crate) sealed: Sealed,
}

impl LedgerRow {
    /// What it counts for against the spool's size.
    pub(crate) fn size(&self) -> u64 {
        size(
            u64::try_from(self.sealed.bytes.len()).unwrap_or(u64::MAX),
            1,
        )
    }
}

/// Puts `entry` at the end of the chain.
pub(crate) fn link(
    head: &mut Head,
    entry: &Entry,
    sealer: &mut Sealer<'_>,
) -> Result<LedgerRow, SealingError> {
    let seq = head.next;
    let written = written(entry)?;
    let mac = mac(sealer.keys, seq, &head.last, written.as_slice());
    let key = seq.to_le_bytes();
    let sealed = sealer.seal(&subject(&key), written.as_slice())?;
    let row = LedgerRow { seq, mac, sealed };
    head.next += 1;
    head.last = mac;
    head.bytes = head.bytes.saturating_add(row.size());
    Ok(row)
}

/// The room that `entry` takes.
///
/// # Errors
/// If it cannot be written out.
pub(crate) fn claim(entry: &Entry) -> Result<Claim, SealingError> {
    let length = written(entry)?.as_slice().len().saturating_add(NONCE + TAG);
    Ok(Claim {
        owner: entry.owner(),
        purpose: entry.purpose(),
        bytes: size(u64::try_from(length).unwrap_or(u64::MAX), 1),
    })
}

/// Opens a row that follows an entry with the MAC `prev`.
pub(crate) fn open(keys: &Keys, row: &LedgerRow, prev: [u8; 32]) -> Result<Chained, SealError> {
    let key = row.seq.to_le_bytes();
    let plain = keys.open(&subject(&key), &row.sealed)?;
    let entry = serde_json::from_slice(plain.expose()).map_err(|_| SealError)?;
    Ok(Chained {
        seq: row.seq,
        entry,
        prev,
        mac: row.mac,
    })
}

/// What so many entries, sealed in so many bytes, count for.
pub(crate) fn size(sealed: u64, entries: u64) -> u64 {
    OVERHEAD.saturating_mul(entries).saturating_add(sealed)
}

fn subject(key: &[u8; 8]) -> Subject<'_> {
    Subject {
        table: Table::Ledger.number(),
        key,
    }
}

fn written(entry: &Entry) -> Result<Wiped, serde_json::Error> {
    let mut written = Wiped::default();
    serde_json::to_writer(&mut written, entry)?;
    Ok(written)
}

fn mac(keys: &Keys, seq: u64, prev: &[u8; 32], written: &[u8]) -> [u8; 32] {
    keys.ledger_mac(&[&seq.to_le_bytes(), prev, written])
}

fn hex<S: Serializer>(bytes: &[u8; 32], to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(&shared::name::TokenDigest(*bytes))
}

#[cfg(test)]
mod tests {
    use shared::ledger::EntryKind;

    use super::*;
    use crate::{
        key::epoch::Budget,
        samples::{Seeded, T0},
    };

    fn chain(entries: u64) -> (Keys, Head, Vec<Chained>) {
        let entropy = Seeded::new(1);
        let keys = Keys::ephemeral(&entropy).unwrap();
        let mut budget = Budget::unbounded();
        let mut head = Head::default();
        let mut made = Vec::new();
        for n in 0..entries {
            let mut sealer = Sealer {
                keys: &keys,
                budget: &mut budget,
                entropy: &entropy,
            };
            let prev = head.last;
            let mut entry = Entry::new(EntryKind::Grant, "allowed", T0);
            entry.count = Some(n);
            let row = link(&mut head, &entry, &mut sealer).unwrap();
            made.push(open(&keys, &row, prev).unwrap());
        }
        (keys, head, made)
    }

    #[test]
    fn a_whole_chain_verifies_and_an_empty_one_too() {
        for length in [0, 1, 7] {
            let (keys, head, entries) = chain(length);
            assert_eq!(verify(&keys, &head, &entries), Ok(()));
        }
    }

    #[test]
    fn a_changed_missing_swapped_or_cut_entry_is_named() {
        let (keys, head, entries) = chain(5);
        let mut changed = entries.clone();
        changed[2].entry.outcome = "denied".into();
        assert_eq!(
            verify(&keys, &head, &changed),
            Err(ChainError::Mac { seq: 3 })
        );
        let mut missing = entries.clone();
        missing.remove(1);
        let gap = ChainError::Gap {
            expected: 2,
            found: 3,
        };
        assert_eq!(verify(&keys, &head, &missing), Err(gap));
        let end = ChainError::End {
            expected: 5,
            found: 4,
        };
        assert_eq!(verify(&keys, &head, &entries[..4]), Err(end));
        let mut renumbered = entries.clone();
        renumbered.remove(1);
        renumbered[1].seq = 2;
        assert_eq!(
            verify(&keys, &head, &renumbered),
            Err(ChainError::Mac { seq: 2 })
        );
    }

    #[test]
    fn without_the_key_no_entry_can_be_made() {
        let (_, head, entries) = chain(3);
        let other = Keys::ephemeral(&Seeded::new(2)).unwrap();
        assert_eq!(
            verify(&other, &head, &entries),
            Err(ChainError::Mac { seq: 1 })
        );
    }

    #[test]
    fn an_entry_is_written_out_with_its_number_first_and_its_macs_last() {
        let (_, _, entries) = chain(1);
        let text = serde_json::to_string(&entries[0]).unwrap();
        assert!(text.starts_with(r#"{"seq":1,"time":""#), "{text}");
        let zeros = "0".repeat(64);
        assert!(
            text.contains(&format!(r#","prev":"{zeros}","mac":""#)),
            "{text}"
        );
    }
}
