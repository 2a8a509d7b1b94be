//! The ledger: chained entries, aggregation of reads and denials, verification.

use shared::{
    ledger::claim::Owner,
    name::{Accessor, OutageId, WorkloadName},
};

mod aggregate;
mod chain;

pub use aggregate::{Aggregate, DENIALS_PER_MINUTE};
pub use chain::{ChainError, Chained, Head, verify};
pub(crate) use chain::{LedgerRow, claim, link, open, size};

/// Something to be aggregated rather than written at once.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Note {
    /// The replica served a read or list.
    Read {
        /// The grant.
        accessor: Option<Accessor>,
        /// The workload behind it.
        workload: Option<WorkloadName>,
        /// The peer.
        uid: Option<u32>,
        /// The path.
        path: String,
        /// The outage.
        outage: Option<OutageId>,
    },
    /// The replica refused a request.
    Denial {
        /// The workload, if the peer is of one alone.
        workload: Option<WorkloadName>,
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

impl Note {
    /// Whose quota it counts against.
    fn owner(&self) -> Owner {
        let (workload, uid) = match self {
            Self::Read { workload, uid, .. } | Self::Denial { workload, uid, .. } => {
                (workload.as_ref(), *uid)
            }
            Self::Unclaimed { uid, .. } => (None, *uid),
        };
        match (workload, uid) {
            (Some(workload), _) => Owner::Workload(workload.clone()),
            (None, Some(uid)) => Owner::Uid(uid),
            (None, None) => Owner::Unnamed,
        }
    }

    /// The same without its details: who, and no more.
    fn bare(self) -> Self {
        match self {
            Self::Read {
                workload,
                uid,
                outage,
                ..
            } => Self::Read {
                accessor: None,
                workload,
                uid,
                path: String::new(),
                outage,
            },
            Self::Denial { .. } => self,
            Self::Unclaimed { uid, outcome, .. } => Self::Unclaimed {
                uid,
                unit: None,
                path: String::new(),
                outcome,
            },
        }
    }

    /// A denial, as one of those that are more than its quota.
    fn over_quota(mut self) -> Self {
        if let Self::Denial { reason, .. } = &mut self {
            *reason = "quota";
        }
        self
    }

    /// The same of nobody, where more of them are there than can be told apart.
    fn unnamed(mut self) -> Self {
        match &mut self {
            Self::Read { uid, .. } | Self::Denial { uid, .. } | Self::Unclaimed { uid, .. } => {
                *uid = None;
            }
        }
        self
    }
}
