//! What an entry claims of the ledger's space, and for whom.

use core::fmt;

use serde::{Deserialize, Serialize};

use super::{Entry, EntryKind};
use crate::{grant::Grant, name::WorkloadName};

/// More than the entry of an end takes beside names, policies and units, sealed and with its row.
const END: u64 = 640;

/// Whose entries count together.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Owner {
    /// Holdover itself, and operators.
    Host,
    /// A user whose peer is no workload's.
    Uid(u32),
    /// Whoever is not told apart.
    Unnamed,
    /// A workload entry.
    Workload(WorkloadName),
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host => f.write_str("Holdover itself"),
            Self::Uid(uid) => write!(f, "uid {uid}"),
            Self::Unnamed => f.write_str("whoever is not told apart"),
            Self::Workload(name) => write!(f, "workload {name}"),
        }
    }
}

/// What room is taken for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Purpose {
    /// An entry of something that is done only if it has room.
    Act,
    /// An entry of an end, for which no room was promised.
    End,
    /// An entry that stands for many requests, and is left out where it has no room.
    Note,
    /// Room for the end of what is granted.
    Promise,
    /// An entry of an end, for which room was promised.
    PromisedEnd,
}

/// Room that is asked for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Claim {
    /// For whom.
    pub owner: Owner,
    /// For what.
    pub purpose: Purpose,
    /// How much.
    pub bytes: u64,
}

impl Entry {
    /// As whose it counts.
    pub fn owner(&self) -> Owner {
        if self.is_of_host() {
            return Owner::Host;
        }
        match (&self.workload, self.uid) {
            (Some(workload), _) => Owner::Workload(workload.clone()),
            (None, Some(uid)) => Owner::Uid(uid),
            (None, None) => Owner::Unnamed,
        }
    }

    /// What its room is taken for, where none was promised.
    pub fn purpose(&self) -> Purpose {
        match self.kind {
            EntryKind::Denial | EntryKind::Read => Purpose::Note,
            EntryKind::Unknown if self.count.is_some() => Purpose::Note,
            // A command that ends a token is a revocation like any other.
            EntryKind::Operator if self.token.is_some() => Purpose::End,
            EntryKind::Exchange | EntryKind::Revocation => Purpose::End,
            EntryKind::Grant
            | EntryKind::Lease
            | EntryKind::Offboarding
            | EntryKind::Operator
            | EntryKind::Parity
            | EntryKind::Renewal
            | EntryKind::State
            | EntryKind::Unknown => Purpose::Act,
        }
    }

    /// Whether it only says something more of what it comes with, which is done without it where it finds no room: what nobody
    /// here decided, or what stands for many requests. Of a host that is offboarded no more the primary decided, and to refuse
    /// that would have Holdover's own token given up.
    pub fn is_remark(&self) -> bool {
        let decided_elsewhere = matches!(self.kind, EntryKind::Offboarding | EntryKind::Unknown);
        decided_elsewhere || self.purpose() == Purpose::Note
    }

    fn is_of_host(&self) -> bool {
        match self.kind {
            EntryKind::Offboarding | EntryKind::Parity | EntryKind::State => true,
            EntryKind::Operator => !self.is_end_of_issued(),
            // What of Holdover's own requests is not known.
            EntryKind::Unknown => {
                self.count.is_none() && self.workload.is_none() && self.uid.is_none()
            }
            EntryKind::Denial
            | EntryKind::Exchange
            | EntryKind::Grant
            | EntryKind::Lease
            | EntryKind::Read
            | EntryKind::Renewal
            | EntryKind::Revocation => false,
        }
    }

    /// Whether it is about a token that the replica issued to a workload: room for its end was promised to that workload, and
    /// whoever ends it, the entry takes that room. Holdover's own is for what nobody was promised.
    fn is_end_of_issued(&self) -> bool {
        self.token.is_some() && self.outage.is_some() && self.workload.is_some()
    }
}

/// The room that is kept for the end of `grant`.
pub fn promise(grant: &Grant) -> Claim {
    let length = |text: &str| u64::try_from(text.len()).unwrap_or(u64::MAX);
    let peer = grant.peer.as_ref();
    let unit = peer
        .and_then(|peer| peer.unit.as_deref())
        .unwrap_or_default();
    let policies = grant.facts.policies.iter();
    let names = peer.map(|peer| length(peer.workload.as_str()));
    let texts = policies
        .map(|policy| length(policy.as_str()).saturating_add(3))
        .chain(names)
        // Escaped in JSON.
        .chain([length(unit).saturating_mul(2)]);
    Claim {
        owner: peer.map_or(Owner::Unnamed, |peer| {
            Owner::Workload(peer.workload.clone())
        }),
        purpose: Purpose::Promise,
        bytes: texts.fold(END, u64::saturating_add),
    }
}
