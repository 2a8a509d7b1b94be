//! The sealed header of a commit: what the store must look like for it to be believed.
//!
//! It holds the generation, the reserved end of the encryption counter, the ledger's ends, and for each table a keyed
//! multiset hash over (table, key, version) of its rows. Each row adds a pseudo-random vector of four 64-bit lanes (an
//! HMAC), and a removed row takes it away again. Without the key nobody can tell which other set of rows has the same
//! sum, so none can be removed, moved, or put back in an older version unseen; and what was done to one table leaves
//! the others believed.

use shared::{name::ClusterId, time::WallTime};

use super::{
    schema::HeaderRow,
    sums::{Sums, Tallies, Tally},
};
use crate::{
    key::{Keys, Purpose, Sealer, epoch::Reserve},
    ledger::Head,
    seal::{self, SealingError, Subject},
    table::{Accounted, Table, Tables},
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
    /// What the rows add up to.
    pub(crate) rows: Sums,
    /// The ledger's ends.
    pub(crate) ledger: Head,
    /// Tables of which rows were found to be missing or replaced, and that were not read anew since.
    pub(crate) incomplete: Tables,
    /// The steady wall time of the last commit, once a clock was seen: what no later time may fall behind.
    pub(crate) stamp: Option<WallTime>,
    /// The cluster that is trusted, as far as it was stored with one.
    pub(crate) cluster: Option<ClusterId>,
}

const ROLLED_BACK: u8 = 1;
const ANCHORED: u8 = 2;
/// No clock was seen in this epoch yet.
pub(super) const NEVER: i64 = i64::MIN;

impl Header {
    /// That of a replica that is being made.
    pub(crate) fn fresh(reserve: Reserve) -> Self {
        Self {
            generation: 0,
            rolled_back: false,
            anchored: false,
            reserve,
            rows: Sums::none(),
            ledger: Head::default(),
            incomplete: Tables::default(),
            stamp: None,
            cluster: None,
        }
    }

    /// That of a replica of which nobody can tell whether its rows are all, and of when: only what refuses is believed.
    pub(crate) fn unproven(reserve: Reserve) -> Self {
        Self {
            generation: 1,
            rolled_back: true,
            incomplete: Tables::counted(|table| table.kept().is_some()),
            ..Self::fresh(reserve)
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
        for class in [Accounted::Authority, Accounted::Value] {
            encode_tally(&self.rows.class(class), &mut out);
        }
        self.ledger.encode(&mut out);
        if let Sums::Tables(tallies) = &self.rows {
            self.encode_tables(tallies, &mut out);
        }
        out
    }

    /// What earlier builds did not keep.
    fn encode_tables(&self, tallies: &Tallies, out: &mut Vec<u8>) {
        let stamp = self.stamp.map_or(NEVER, WallTime::as_millis);
        out.extend_from_slice(&self.incomplete.bits().to_le_bytes());
        out.extend_from_slice(&stamp.to_le_bytes());
        let all = Table::ROWS
            .into_iter()
            .filter(|table| tallies.rows(*table) > 0);
        let all: Vec<Table> = all.collect();
        out.push(u8::try_from(all.len()).unwrap_or(u8::MAX));
        for table in all {
            out.push(table.number());
            encode_tally(&tallies.of(table), out);
        }
        let cluster = self.cluster.as_ref().map_or("", ClusterId::as_str);
        out.extend_from_slice(cluster.as_bytes());
    }

    /// What [`Header::encode`] wrote, of a row that claims this epoch. `None` if it is not that.
    fn decode(bytes: &[u8], epoch: u32) -> Option<Self> {
        let mut from = Undecoded(bytes);
        let generation = from.number()?;
        let [flags] = from.take::<1>()?;
        let reserved = from.number()?;
        let first = from.number()?;
        let began = i64::from_le_bytes(from.take()?);
        let reserve = Reserve {
            epoch,
            first,
            began: moment(began),
            reserved,
        };
        let (authority, values) = (from.tally()?, from.tally()?);
        let mut header = Self {
            generation,
            rolled_back: flags & ROLLED_BACK != 0,
            anchored: flags & ANCHORED != 0,
            reserve,
            rows: Sums::Classes { authority, values },
            ledger: from.ledger()?,
            incomplete: Tables::default(),
            stamp: None,
            cluster: None,
        };
        if !from.0.is_empty() {
            header.decode_tables(&mut from)?;
        }
        Some(header)
    }

    fn decode_tables(&mut self, from: &mut Undecoded<'_>) -> Option<()> {
        self.incomplete = Tables::of_bits(u32::from_le_bytes(from.take()?));
        self.stamp = moment(i64::from_le_bytes(from.take()?));
        let mut tallies = Tallies::default();
        let [tables] = from.take::<1>()?;
        for _ in 0..tables {
            let [number] = from.take::<1>()?;
            let mut all = Table::ROWS.into_iter();
            let table = all.find(|table| table.number() == number)?;
            tallies.set(table, from.tally()?);
        }
        self.rows = Sums::Tables(tallies);
        let cluster = str::from_utf8(from.0).ok()?;
        self.cluster = ClusterId::parse(cluster).ok();
        Some(())
    }
}

fn encode_tally(tally: &Tally, out: &mut Vec<u8>) {
    for number in tally.lanes.iter().chain([&tally.rows]) {
        out.extend_from_slice(&number.to_le_bytes());
    }
}

/// A moment as it is stored.
fn moment(millis: i64) -> Option<WallTime> {
    (millis != NEVER).then(|| WallTime::from_millis(millis))
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
    use super::*;
    use crate::{samples::Seeded, table::At};

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
        header.ledger.last = [4; 32];
        header.incomplete.insert(Table::Grant);
        header.stamp = Some(WallTime::from_secs(8));
        header.cluster = ClusterId::parse("c1").ok();
        let keys = Keys::ephemeral(&Seeded::new(1)).unwrap();
        let mut tallies = Tallies::default();
        for table in [Table::Grant, Table::Record] {
            let key = [1; 32];
            tallies.add(&keys, &At { table, key }, 4);
        }
        header.rows = Sums::Tables(tallies);
        let bytes = header.encode();
        let length = 201 + 4 + 8 + 1 + 2 * 41 + 2;
        assert_eq!(bytes.len(), length, "the layout is documented byte by byte");
        assert_eq!(Header::decode(&bytes, 3).as_ref(), Some(&header));
        for cut in (0..bytes.len() - 2).filter(|cut| *cut != 201) {
            assert_eq!(Header::decode(&bytes[..cut], 3), None, "{cut}");
        }
        // As earlier builds wrote it.
        let old = Header::decode(&bytes[..201], 3).unwrap();
        assert_eq!(old.encode(), bytes[..201]);
        assert_eq!((old.stamp, old.cluster), (None, None));
    }
}
