//! What coverage remembers: requests by who asked, for what, and what an outage would have made of them. Never values.

use alloc::{
    borrow::Cow,
    string::{String, ToString},
    vec::Vec,
};

use serde::{Deserialize, Serialize};

use crate::{name::WorkloadName, time::WallTime};

/// What was counted within one hour.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct CoverageHour {
    /// When the hour began: a whole number of hours since the Unix epoch.
    pub start: WallTime,
    /// What was asked, each once, in order.
    pub rows: Vec<CoverageRow>,
    /// What is known of callers that no workload entry matches, each once, in order.
    pub carried: Vec<Carried>,
}

/// How often the same was asked.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct CoverageRow {
    /// The same for all that is counted in it.
    pub asked: CoverageKey,
    /// Within the hour of the row.
    pub tally: Tally,
}

/// What is counted together.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct CoverageKey {
    /// The peer, as far as the configuration tells peers apart.
    pub caller: Caller,
    /// For what kind of thing: `read`, `list`, `login`, …
    pub operation: Cow<'static, str>,
    /// For what, with what differs from request to request replaced by `*`; without its query.
    pub path: String,
    /// What an outage would have made of it.
    pub verdict: Foretold,
}

/// Counters of one row.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Tally {
    /// Requests.
    pub requests: u64,
    /// Those that the primary answered with 4xx.
    pub refused: u64,
    /// Whether an answer came with a lease.
    pub leased: bool,
    /// When the last of them came.
    pub last: WallTime,
    /// Why the verdict, in words, as of the last request; empty where the verdict says it all.
    pub reason: String,
}

/// Who asked.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Caller {
    /// What found no row of its own.
    Others,
    /// A peer that no workload entry matches.
    Peer {
        /// As the kernel named it at accept.
        uid: u32,
        /// Its systemd unit, if it runs in one.
        unit: Option<String>,
    },
    /// A peer of this entry; the first one where several match.
    Workload(WorkloadName),
}

/// What the tokens of a caller that no entry matches carry. Names alone.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Carried {
    /// The one that presented the tokens.
    pub caller: Caller,
    /// The token role that its last known token came from.
    pub role: Option<String>,
    /// The policies of that token.
    pub policies: Vec<String>,
}

/// What an outage would have made of a request.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Foretold {
    /// Refused, and so it was by the primary.
    Denied,
    /// 503: the workload's `failover` table does not enable issuing.
    IssueDisabled,
    /// 503: a read of what no mirror covers, though one could.
    NotMirrored,
    /// 503: the replica does not do such a thing at all.
    NotModelled,
    /// 4xx, though the primary did not refuse.
    Refused,
    /// Answered as the primary would.
    Served,
    /// 503: what is held is too old, or not complete, or not there yet.
    Stale,
    /// 503: only the primary can decide it.
    Undecidable,
    /// 503: the token is not known here.
    UnknownToken,
    /// 503: a write.
    Write,
}

impl Foretold {
    /// Every verdict.
    pub const ALL: [Self; 10] = [
        Self::Denied,
        Self::IssueDisabled,
        Self::NotMirrored,
        Self::NotModelled,
        Self::Refused,
        Self::Served,
        Self::Stale,
        Self::Undecidable,
        Self::UnknownToken,
        Self::Write,
    ];

    /// Whether the caller would have got the answer that it got, or as good a one.
    pub fn is_answered(self) -> bool {
        matches!(self, Self::Denied | Self::Served)
    }

    /// As the API names it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Denied => "denied",
            Self::IssueDisabled => "issue_disabled",
            Self::NotMirrored => "not_mirrored",
            Self::NotModelled => "not_modelled",
            Self::Refused => "refused",
            Self::Served => "served",
            Self::Stale => "stale",
            Self::Undecidable => "undecidable",
            Self::UnknownToken => "unknown_token",
            Self::Write => "write",
        }
    }

    /// The verdict of that name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|verdict| verdict.name() == name)
    }

    /// Why, for people, where nothing more exact is known.
    pub fn words(self) -> &'static str {
        match self {
            Self::Denied => "refused by the primary too",
            Self::IssueDisabled => "issuing in an outage is not enabled for this workload",
            Self::NotMirrored => "no mirror covers the path; holdover config suggest prints one",
            Self::NotModelled => "the replica does not do this",
            Self::Refused => "the replica would refuse it",
            Self::Served => "would be answered",
            Self::Stale => "what the replica holds is too old or not complete",
            Self::Undecidable => "only the primary can decide it",
            Self::UnknownToken => "the token is not known to the replica",
            Self::Write => "writes are not possible in an outage",
        }
    }
}

impl Tally {
    /// Adds what was counted of the same elsewhere.
    pub fn add(&mut self, other: &Self) {
        self.requests = self.requests.saturating_add(other.requests);
        self.refused = self.refused.saturating_add(other.refused);
        self.leased |= other.leased;
        if other.last >= self.last {
            self.last = other.last;
            self.reason = other.reason.to_string();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verdict_is_stored_under_the_name_that_the_api_shows() {
        for verdict in Foretold::ALL {
            let stored = serde_json::to_value(verdict).unwrap();
            assert_eq!(stored, serde_json::json!(verdict.name()));
            assert_eq!(Foretold::named(verdict.name()), Some(verdict));
        }
        assert_eq!(Foretold::named("lost"), None);
    }

    #[test]
    fn counts_of_the_same_add_up_and_keep_the_later_reason() {
        let tally = |requests, secs, reason: &str| Tally {
            requests,
            refused: 1,
            leased: secs > 5,
            last: WallTime::from_secs(secs),
            reason: reason.into(),
        };
        let mut sum = tally(2, 9, "late");
        sum.add(&tally(3, 4, "early"));
        assert_eq!(
            sum,
            Tally {
                requests: 5,
                refused: 2,
                ..tally(0, 9, "late")
            }
        );
    }
}
