//! The ledger: chained entries, aggregation of reads and denials, verification.

use shared::name::{Accessor, OutageId, WorkloadName};

mod aggregate;
mod chain;

pub use aggregate::{Aggregate, DENIALS_PER_MINUTE};
pub use chain::{ChainError, Chained, Head, verify};
pub(crate) use chain::{LedgerRow, link, open, size};

/// Something to be aggregated rather than written at once.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Note {
    /// The replica served a read or list.
    Read {
        /// The grant.
        accessor: Option<Accessor>,
        /// The workload behind it.
        workload: Option<WorkloadName>,
        /// The path.
        path: String,
        /// The outage.
        outage: Option<OutageId>,
    },
    /// The replica refused a request.
    Denial {
        /// The peer.
        uid: Option<u32>,
        /// Why, as a fixed word.
        reason: &'static str,
        /// The outage.
        outage: Option<OutageId>,
    },
    /// The primary may have brought something into being for a request whose answer nobody got.
    Unclaimed {
        /// The peer that asked.
        uid: Option<u32>,
        /// Its unit.
        unit: Option<String>,
        /// The path.
        path: String,
        /// What becomes of it, as a fixed word.
        outcome: &'static str,
    },
}
