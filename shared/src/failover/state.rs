//! The states of the machine, each with its own data only.

use alloc::string::String;

use serde::{Deserialize, Serialize};

use crate::{
    name::OutageId,
    time::{Deadline, Now, WallTime},
};

/// Who is authoritative, as decisions and clients see it.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// The primary is.
    Following,
    /// The primary is, but something failed, or Holdover just started.
    Suspect,
    /// The replica is.
    Holdover(Outage),
    /// The replica still is; settling with the primary.
    Recovering(Outage),
    /// The outage outlived its bounds: reads only, each until its staleness.
    Exhausted(Outage),
}

impl Phase {
    /// As `status`, the metrics and the ledger name it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Following => "following",
            Self::Suspect => "suspect",
            Self::Holdover(_) => "holdover",
            Self::Recovering(_) => "recovering",
            Self::Exhausted(_) => "exhausted",
        }
    }

    /// The outage, while there is one.
    pub fn outage(&self) -> Option<&Outage> {
        match self {
            Self::Following | Self::Suspect => None,
            Self::Holdover(outage) | Self::Recovering(outage) | Self::Exhausted(outage) => {
                Some(outage)
            }
        }
    }

    /// Whether the replica answers.
    pub fn is_outage(&self) -> bool {
        self.outage().is_some()
    }

    /// Whether grants may be issued and renewed by the replica: in an outage, within its bound.
    pub fn issues(&self, now: Now) -> bool {
        match self {
            Self::Holdover(outage) | Self::Recovering(outage) => !outage.bound.passed(now),
            _ => false,
        }
    }
}

/// One outage.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Outage {
    /// As headers, ledger and `status` show it.
    pub id: OutageId,
    /// The cutover: when the replica became authoritative.
    pub started_at: WallTime,
    /// Why.
    pub cause: Cause,
    /// Last complete verification of authority before it, plus `max_outage`.
    pub bound: Deadline,
    /// Whether an operator holds it until `failover stop`.
    pub latched: bool,
}

/// Why an outage began.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// The primary could not be reached or did not answer in time; the last error's text.
    Unreachable(String),
    /// The primary answered, but could not serve: sealed, draining, or failing every audited request.
    Unavailable(String),
    /// An operator's `failover start`.
    Operator(String),
}

impl core::fmt::Display for Cause {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Unreachable(text) => write!(f, "unreachable: {text}"),
            Self::Unavailable(text) => write!(f, "unavailable: {text}"),
            Self::Operator(text) => write!(f, "operator: {text}"),
        }
    }
}
