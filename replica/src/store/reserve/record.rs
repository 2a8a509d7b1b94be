//! One commit as a record: rows, ledger entries, and what the header would have said. Little endian, fields in a fixed order.

use std::sync::Arc;

use shared::time::WallTime;

use crate::{
    key::epoch::Reserve,
    ledger::{Head, LedgerRow},
    seal::Sealed,
    store::header::{NEVER, Undecoded},
    table::{At, Op, Table},
};

/// A commit that the replica itself could not take.
pub(crate) struct Record {
    /// Its generation.
    pub(crate) generation: u64,
    /// The encryption counter.
    pub(crate) reserve: Reserve,
    /// The ledger's ends after it.
    pub(crate) ledger: Head,
    /// What is done to rows.
    pub(crate) ops: Vec<Op>,
    /// What the ledger says.
    pub(crate) entries: Vec<LedgerRow>,
}

const DELETE: u8 = 0;
const PUT: u8 = 1;

impl Record {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        number(&mut out, self.generation);
        let began = self.reserve.began.map_or(NEVER, WallTime::as_millis);
        number(&mut out, self.reserve.epoch.into());
        number(&mut out, self.reserve.first);
        out.extend_from_slice(&began.to_le_bytes());
        number(&mut out, self.reserve.reserved);
        self.ledger.encode(&mut out);
        length(&mut out, self.ops.len());
        for op in &self.ops {
            let (kind, at, put) = match op {
                Op::Delete(at) => (DELETE, at, None),
                Op::Put(at, sealed) => (PUT, at, Some(sealed)),
            };
            out.extend_from_slice(&[kind, at.table.number()]);
            out.extend_from_slice(&at.key);
            put.inspect(|put| sealed(&mut out, put));
        }
        length(&mut out, self.entries.len());
        for row in &self.entries {
            number(&mut out, row.seq);
            out.extend_from_slice(&row.mac);
            sealed(&mut out, &row.sealed);
        }
        out
    }

    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut from = Undecoded(bytes);
        let generation = from.number()?;
        let epoch = u32::try_from(from.number()?).ok()?;
        let first = from.number()?;
        let began = i64::from_le_bytes(from.take()?);
        let reserve = Reserve {
            epoch,
            first,
            began: (began != NEVER).then(|| WallTime::from_millis(began)),
            reserved: from.number()?,
        };
        let ledger = from.ledger()?;
        let (mut ops, mut entries) = (Vec::new(), Vec::new());
        for _ in 0..from.number()? {
            ops.push(op(&mut from)?);
        }
        for _ in 0..from.number()? {
            entries.push(LedgerRow {
                seq: from.number()?,
                mac: from.take()?,
                sealed: unsealed(&mut from)?,
            });
        }
        from.0.is_empty().then_some(Self {
            generation,
            reserve,
            ledger,
            ops,
            entries,
        })
    }
}

fn op(from: &mut Undecoded<'_>) -> Option<Op> {
    let [kind, table] = from.take()?;
    let mut tables = Table::ROWS.iter();
    let table = *tables.find(|of| of.number() == table)?;
    let at = At {
        table,
        key: from.take()?,
    };
    match kind {
        DELETE => Some(Op::Delete(at)),
        PUT => Some(Op::Put(at, unsealed(from)?)),
        _ => None,
    }
}

fn sealed(out: &mut Vec<u8>, sealed: &Sealed) {
    number(out, sealed.version);
    number(out, sealed.epoch.into());
    length(out, sealed.bytes.len());
    out.extend_from_slice(&sealed.bytes);
}

fn unsealed(from: &mut Undecoded<'_>) -> Option<Sealed> {
    let version = from.number()?;
    let epoch = u32::try_from(from.number()?).ok()?;
    let length = usize::try_from(from.number()?).ok()?;
    let bytes = Arc::from(from.bytes(length)?);
    Some(Sealed {
        epoch,
        version,
        bytes,
    })
}

fn number(out: &mut Vec<u8>, number: u64) {
    out.extend_from_slice(&number.to_le_bytes());
}

fn length(out: &mut Vec<u8>, length: usize) {
    number(out, u64::try_from(length).unwrap_or(u64::MAX));
}
