//! Coverage as it is shown: what passed through the socket, and what an outage would have made of it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use shared::coverage::{Caller, Carried, Foretold};

/// `GET /v1/coverage?since=SECONDS`.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct CoverageReport {
    /// From when on requests are told of, RFC 3339 in UTC.
    pub since: String,
    /// The beginning of the oldest hour that is kept, RFC 3339 in UTC; null before the first request.
    pub counted_since: Option<String>,
    /// Whether all of it is in the replica: a crash would lose nothing.
    pub stored: bool,
    /// Requests.
    pub requests: u64,
    /// Those that would have been answered as they were, had the primary been dead.
    pub served: u64,
    /// The same of a hundred; null where nothing was asked.
    pub percent: Option<f64>,
    /// Per caller, most asking first.
    pub callers: Vec<CallerReport>,
    /// Per caller, operation, path and verdict, most asked first.
    pub rows: Vec<RowReport>,
    /// Callers that no workload entry matches, and what their tokens carry.
    pub carried: Vec<CarriedReport>,
}

/// Who asked: exactly one of `workload` and `uid`, or none of them for what found no row of its own.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Default, Serialize, Deserialize)]
pub struct CallerName {
    /// The workload entry.
    pub workload: Option<String>,
    /// The user id of a peer that no entry matches.
    pub uid: Option<u32>,
    /// Its systemd unit.
    pub unit: Option<String>,
}

/// Sums of one caller.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct CallerReport {
    /// Who.
    #[serde(flatten)]
    pub caller: CallerName,
    /// Requests.
    pub requests: u64,
    /// Those that would have been answered.
    pub served: u64,
    /// The same of a hundred.
    pub percent: Option<f64>,
}

/// What was asked alike.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct RowReport {
    /// Who.
    #[serde(flatten)]
    pub caller: CallerName,
    /// `read`, `list`, `login`, …
    pub operation: String,
    /// For what, without its query; `*` stands for what differs.
    pub path: String,
    /// What an outage would have made of it.
    pub verdict: String,
    /// Why, in words.
    pub reason: String,
    /// How often.
    pub requests: u64,
    /// How often the primary refused it.
    pub refused: u64,
    /// Whether an answer came with a lease.
    pub leased: bool,
    /// The last time, RFC 3339 in UTC.
    pub last: String,
    /// Where it would be mirrored, of what no mirror covers.
    pub place: Option<Place>,
    /// Why it cannot be mirrored, of what no mirror covers.
    pub unmirrorable: Option<String>,
}

/// What to mirror for a path to be answered.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Place {
    /// The mount, with its slash.
    pub mount: String,
    /// Its type: `kv`, `database`, …; KV version 2 is `kv2`.
    pub kind: String,
    /// What the paths of its mirrors begin with: `secret/data/` for KV version 2, else the mount.
    pub base: String,
    /// The rest; ends in `/`, or is empty, where the whole folder is needed.
    pub key: String,
    /// Whether whole folders of it can be mirrored.
    pub folders: bool,
}

/// What the tokens of a caller carry.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct CarriedReport {
    /// Who.
    #[serde(flatten)]
    pub caller: CallerName,
    /// The token role that its last known token came from.
    pub role: Option<String>,
    /// The policies of that token.
    pub policies: Vec<String>,
}

impl CoverageReport {
    /// Sums of the rows that are in it.
    pub fn sum_up(&mut self) {
        let mut callers: BTreeMap<&CallerName, (u64, u64)> = BTreeMap::new();
        (self.requests, self.served) = (0, 0);
        for row in &self.rows {
            let served = if row.is_served() { row.requests } else { 0 };
            let sum = callers.entry(&row.caller).or_default();
            *sum = (sum.0 + row.requests, sum.1 + served);
            self.requests += row.requests;
            self.served += served;
        }
        let mut callers: Vec<CallerReport> = callers
            .into_iter()
            .map(|(caller, (requests, served))| CallerReport {
                caller: caller.clone(),
                requests,
                served,
                percent: percent(served, requests),
            })
            .collect();
        callers.sort_by_key(|caller| std::cmp::Reverse(caller.requests));
        self.callers = callers;
        self.percent = percent(self.served, self.requests);
    }
}

/// Of a hundred, to a tenth, and never rounded up to all of them.
fn percent(served: u64, requests: u64) -> Option<f64> {
    let thousandths = u128::from(served) * 1000 / u128::from(requests).max(1);
    let thousandths = u16::try_from(thousandths).unwrap_or(1000);
    (requests > 0).then(|| f64::from(thousandths) / 10.0)
}

impl RowReport {
    /// Whether it would have been answered.
    pub fn is_served(&self) -> bool {
        Foretold::named(&self.verdict).is_some_and(Foretold::is_answered)
    }
}

impl CallerName {
    pub(crate) fn of(caller: &Caller) -> Self {
        match caller {
            Caller::Others => Self::default(),
            Caller::Peer { uid, unit } => Self {
                workload: None,
                uid: Some(*uid),
                unit: unit.clone(),
            },
            Caller::Workload(name) => Self {
                workload: Some(name.as_str().to_owned()),
                ..Self::default()
            },
        }
    }

    /// For people.
    pub fn shown(&self) -> String {
        match (&self.workload, self.uid, &self.unit) {
            (Some(workload), _, _) => workload.clone(),
            (None, Some(uid), Some(unit)) => format!("uid {uid} in {unit}"),
            (None, Some(uid), None) => format!("uid {uid}"),
            (None, None, _) => "others".to_owned(),
        }
    }
}

impl CarriedReport {
    pub(crate) fn of(carried: &Carried) -> Self {
        Self {
            caller: CallerName::of(&carried.caller),
            role: carried.role.clone(),
            policies: carried.policies.clone(),
        }
    }
}

impl Place {
    /// Whether a whole folder is needed.
    pub fn is_folder(&self) -> bool {
        self.key.is_empty() || self.key.ends_with('/')
    }

    /// The path to mirror, without the `*` of a folder.
    pub fn path(&self) -> String {
        format!("{}{}", self.base, self.key)
    }
}
