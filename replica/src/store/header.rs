//! The sealed header of a commit: what the store must look like for it to be believed.
//!
//! It holds the generation, the reserved end of the encryption counter, the ledger's ends, and a keyed multiset hash
//! over (table, key, version) of all rows of a class. Each row adds a pseudo-random vector of four 64-bit lanes (an
//! HMAC), and a removed row takes it away again. Without the key nobody can tell which other set of rows has the same
//! sum, so none can be removed, moved, or put back in an older version unseen.

use shared::time::WallTime;

use super::schema::HeaderRow;
use crate::{
    key::{Keys, Purpose, Sealer, epoch::Reserve},
    ledger::Head,
    seal::{self, SealingError, Subject},
    table::{At, Table},
};

/// What each commit seals.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Header {
    /// Raised by every commit.
    pub(crate) generation: u64,
    /// The replica was found to be older than its anchor, and the primary was not seen since.
    pub(crate) rolled_back: bool,
    /// A state file holds a generation of this replica.
    pub(crate) anchored: bool,
    /// The encryption counter.
    pub(crate) reserve: Reserve,
    /// Over authority rows.
    pub(crate) authority: Tally,
    /// Over value rows.
    pub(crate) values: Tally,
    /// The ledger's ends.
    pub(crate) ledger: Head,
}

/// A keyed multiset hash over rows, and how many they are.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) struct Tally {
    lanes: [u64; 4],
    pub(crate) rows: u64,
}

const ROLLED_BACK: u8 = 1;
const ANCHORED: u8 = 2;
/// No clock was seen in this epoch yet.
pub(super) const NEVER: i64 = i64::MIN;

impl Tally {
    /// The row is there in this version.
    pub(crate) fn add(&mut self, keys: &Keys, at: &At, version: u64) {
        self.rows = self.rows.wrapping_add(1);
        for (lane, by) in self.lanes.iter_mut().zip(element(keys, at, version)) {
            *lane = lane.wrapping_add(by);
        }
    }

    /// The same with what lies between `from` and `to` added.
    pub(crate) fn moved(mut self, from: Self, to: Self) -> Self {
        self.rows = self.rows.wrapping_add(to.rows).wrapping_sub(from.rows);
        let by = from.lanes.iter().zip(to.lanes);
        for (lane, (from, to)) in self.lanes.iter_mut().zip(by) {
            *lane = lane.wrapping_add(to).wrapping_sub(*from);
        }
        self
    }

    /// The row is no longer there in this version.
    pub(crate) fn remove(&mut self, keys: &Keys, at: &At, version: u64) {
        self.rows = self.rows.wrapping_sub(1);
        for (lane, by) in self.lanes.iter_mut().zip(element(keys, at, version)) {
            *lane = lane.wrapping_sub(by);
        }
    }
}

fn element(keys: &Keys, at: &At, version: u64) -> [u64; 4] {
    let mac = keys.authority_mac(&[&[at.table.number()], &at.key, &version.to_le_bytes()]);
    let (lanes, _) = mac.as_chunks::<8>();
    let mut element = [0; 4];
    for (to, from) in element.iter_mut().zip(lanes) {
        *to = u64::from_le_bytes(*from);
    }
    element
}

impl Header {
    /// That of a replica that is being made.
    pub(crate) fn fresh(reserve: Reserve) -> Self {
        Self {
            generation: 0,
            rolled_back: false,
            anchored: false,
            reserve,
            authority: Tally::default(),
            values: Tally::default(),
            ledger: Head::default(),
        }
    }

    /// The row that it is stored as.
    pub(crate) fn seal(&self, sealer: &mut Sealer<'_>) -> Result<HeaderRow, SealingError> {
        let generation = self.generation;
        let key = generation.to_le_bytes();
        let sealed = sealer.seal_as(Purpose::Header, &subject(&key), &self.encode())?;
        Ok(HeaderRow { generation, sealed })
    }

    /// The header of a row. `None` if it was not sealed as that.
    pub(crate) fn open(keys: &Keys, row: &HeaderRow) -> Option<Self> {
        let key = row.generation.to_le_bytes();
        let cipher = keys.cipher(Purpose::Header, row.sealed.epoch);
        let plain = seal::open(&cipher, &subject(&key), &row.sealed).ok()?;
        let header = Self::decode(plain.expose(), row.sealed.epoch)?;
        (header.generation == row.generation).then_some(header)
    }

    /// As it is sealed: fields in a fixed order, little endian. The epoch is bound by the seal.
    fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(208);
        let flags = [(self.rolled_back, ROLLED_BACK), (self.anchored, ANCHORED)];
        let flags = flags.iter().filter(|(set, _)| *set);
        let began = self.reserve.began.map_or(NEVER, WallTime::as_millis);
        out.extend_from_slice(&self.generation.to_le_bytes());
        out.push(flags.fold(0, |all, (_, flag)| all | flag));
        out.extend_from_slice(&self.reserve.reserved.to_le_bytes());
        out.extend_from_slice(&self.reserve.first.to_le_bytes());
        out.extend_from_slice(&began.to_le_bytes());
        for tally in [&self.authority, &self.values] {
            for number in tally.lanes.iter().chain([&tally.rows]) {
                out.extend_from_slice(&number.to_le_bytes());
            }
        }
        self.ledger.encode(&mut out);
        out
    }

    /// What [`Header::encode`] wrote, of a row that claims this epoch. `None` if it is not that.
    fn decode(bytes: &[u8], epoch: u32) -> Option<Self> {
        let mut from = Undecoded(bytes);
        let generation = from.number()?;
        let [flags] = from.take::<1>()?;
        let reserved = from.number()?;
        let first = from.number()?;
        let began = i64::from_le_bytes(from.take()?);
        let header = Self {
            generation,
            rolled_back: flags & ROLLED_BACK != 0,
            anchored: flags & ANCHORED != 0,
            reserve: Reserve {
                epoch,
                first,
                began: (began != NEVER).then(|| WallTime::from_millis(began)),
                reserved,
            },
            authority: from.tally()?,
            values: from.tally()?,
            ledger: from.ledger()?,
        };
        from.0.is_empty().then_some(header)
    }
}

fn subject(generation: &[u8; 8]) -> Subject<'_> {
    Subject {
        table: Table::Header.number(),
        key: generation,
    }
}

impl Head {
    /// As a header and a record of the reserve hold it.
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.first.to_le_bytes());
        out.extend_from_slice(&self.before);
        out.extend_from_slice(&self.next.to_le_bytes());
        out.extend_from_slice(&self.last);
        out.extend_from_slice(&self.bytes.to_le_bytes());
    }
}

/// What is left of something encoded.
pub(super) struct Undecoded<'a>(pub(super) &'a [u8]);

impl<'a> Undecoded<'a> {
    pub(super) fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*taken)
    }

    pub(super) fn bytes(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    pub(super) fn number(&mut self) -> Option<u64> {
        self.take().map(u64::from_le_bytes)
    }

    pub(super) fn ledger(&mut self) -> Option<Head> {
        Some(Head {
            first: self.number()?,
            before: self.take()?,
            next: self.number()?,
            last: self.take()?,
            bytes: self.number()?,
        })
    }

    fn tally(&mut self) -> Option<Tally> {
        let mut lanes = [0; 4];
        for lane in &mut lanes {
            *lane = self.number()?;
        }
        let rows = self.number()?;
        Some(Tally { lanes, rows })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{samples::Seeded, table::Table};

    fn at(key: u8) -> At {
        At {
            table: Table::Grant,
            key: [key; 32],
        }
    }

    #[test]
    fn a_header_is_read_back_as_it_was_written() {
        let mut header = Header::fresh(Reserve {
            epoch: 3,
            first: 7,
            began: Some(WallTime::from_secs(9)),
            reserved: 11,
        });
        header.generation = 5;
        header.anchored = true;
        header.authority.rows = 2;
        header.ledger.last = [4; 32];
        let bytes = header.encode();
        assert_eq!(bytes.len(), 201, "the layout is documented byte by byte");
        assert_eq!(Header::decode(&bytes, 3), Some(header));
        assert_eq!(Header::decode(&bytes[..200], 3), None);
        assert_eq!(Header::decode(&[&bytes[..], &[0]].concat(), 3), None);
    }

    proptest! {
        #[test]
        fn a_tally_tells_sets_apart_whatever_the_order(rows in prop::collection::btree_map(0u8..40, 0u64..5, 1..20), seed: u64) {
            let keys = Keys::ephemeral(&Seeded::new(seed)).unwrap();
            let sum = |rows: &mut dyn Iterator<Item = (&u8, &u64)>| {
                let mut tally = Tally::default();
                for (key, version) in rows {
                    tally.add(&keys, &at(*key), *version);
                }
                tally
            };
            let all = sum(&mut rows.iter());
            prop_assert_eq!(all, sum(&mut rows.iter().rev()));
            let (key, version) = rows.first_key_value().unwrap();
            prop_assert_ne!(all, sum(&mut rows.iter().skip(1)), "removed");
            let mut replayed = all;
            replayed.remove(&keys, &at(*key), *version);
            replayed.add(&keys, &at(*key), version + 100);
            prop_assert_ne!(all, replayed);
            let mut moved = all;
            moved.remove(&keys, &at(*key), *version);
            moved.add(&keys, &at(200), *version);
            prop_assert_ne!(all, moved);
        }
    }
}
