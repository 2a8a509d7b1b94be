//! `GET /v1/coverage`: what passed through the socket, and what an outage would have made of it.

use std::{collections::BTreeMap, time::Duration};

use http::StatusCode;
use serde::{Deserialize, Serialize};
use shared::{
    change::Cluster,
    coverage::{Asked, Caller, Carried, CoverageRow, Verdict},
    time::WallTime,
};

use crate::{
    admin::{Deps, Reply, Request},
    coverage::{Snapshot, place},
};

/// Where the request does not say how far back: the last week.
const WEEK: Duration = Duration::from_secs(7 * 86_400);

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
    pub place: Option<PlaceReport>,
    /// Why it cannot be mirrored, of what no mirror covers.
    pub unmirrorable: Option<String>,
}

/// Where a path would be mirrored.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct PlaceReport {
    /// The mount, with its slash.
    pub mount: String,
    /// Its type; `kv2` is KV version 2.
    pub kind: String,
    /// What the paths of its mirrors begin with.
    pub base: String,
    /// The rest; empty or with a slash at its end where the whole folder is needed.
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

/// Answers a request.
pub(super) fn answer(deps: &Deps, request: &Request) -> Reply {
    let span = match since(request.query.as_deref().unwrap_or_default()) {
        Ok(span) => span.unwrap_or(WEEK),
        Err(error) => return Reply::error(StatusCode::BAD_REQUEST, error),
    };
    let since = deps.local.clock.now().steady.minus(span);
    let snapshot = deps.coverage.snapshot(since);
    let authority = deps.local.view.authority();
    Reply::ok(&report(&snapshot, since, authority.cluster.as_deref()))
}

fn since(query: &str) -> Result<Option<Duration>, &'static str> {
    const FORM: &str = "since is a number of seconds, as in ?since=604800; nothing else is taken";
    let mut since = None;
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let seconds = pair.strip_prefix("since=").ok_or(FORM)?;
        let seconds = seconds.parse().map_err(|_| FORM)?;
        since = Some(Duration::from_secs(seconds));
    }
    Ok(since)
}

/// What a snapshot says.
fn report(snapshot: &Snapshot, since: WallTime, cluster: Option<&Cluster>) -> CoverageReport {
    let rows: Vec<RowReport> = snapshot.rows.iter().map(|row| told(row, cluster)).collect();
    let mut report = CoverageReport {
        since: WallTime::from_secs(since.as_secs()).to_string(),
        counted_since: snapshot.oldest.map(|oldest| oldest.to_string()),
        stored: snapshot.stored,
        rows,
        carried: snapshot.carried.iter().map(CarriedReport::of).collect(),
        ..CoverageReport::default()
    };
    report.sum_up();
    report
}

fn told(row: &CoverageRow, cluster: Option<&Cluster>) -> RowReport {
    let CoverageRow { asked, tally } = row;
    let placed = (asked.verdict == Verdict::NotMirrored && asked.caller != Caller::Others)
        .then(|| place::of(&asked.path, cluster));
    let (place, unmirrorable) = match placed {
        Some(Ok(place)) => (Some(place), None),
        Some(Err(why)) => (None, Some(why)),
        None => (None, None),
    };
    RowReport {
        caller: CallerName::of(&asked.caller),
        operation: asked.operation.to_string(),
        path: asked.path.clone(),
        verdict: asked.verdict.name().to_owned(),
        reason: reason(asked, &tally.reason, unmirrorable.as_deref()),
        requests: tally.requests,
        refused: tally.refused,
        leased: tally.leased,
        last: WallTime::from_secs(tally.last.as_secs()).to_string(),
        place: place.map(PlaceReport::of),
        unmirrorable,
    }
}

fn reason(asked: &Asked, exact: &str, unmirrorable: Option<&str>) -> String {
    match (exact, unmirrorable) {
        (_, Some(why)) => format!("no mirror can cover the path: {why}"),
        ("", None) => asked.verdict.words().to_owned(),
        (exact, None) => exact.to_owned(),
    }
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
        Verdict::named(&self.verdict).is_some_and(Verdict::is_answered)
    }
}

impl CallerName {
    fn of(caller: &Caller) -> Self {
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
    fn of(carried: &Carried) -> Self {
        Self {
            caller: CallerName::of(&carried.caller),
            role: carried.role.clone(),
            policies: carried.policies.clone(),
        }
    }
}

impl PlaceReport {
    fn of(place: place::Place) -> Self {
        Self {
            mount: place.mount,
            kind: place.kind,
            base: place.base,
            key: place.key,
            folders: place.folders,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use shared::coverage::Tally;

    fn row(caller: Caller, path: &str, verdict: Verdict, requests: u64) -> CoverageRow {
        CoverageRow {
            asked: Asked {
                caller,
                operation: "read".into(),
                path: path.to_owned(),
                verdict,
            },
            tally: Tally {
                requests,
                refused: 0,
                leased: false,
                last: WallTime::from_secs(9),
                reason: String::new(),
            },
        }
    }

    fn peer() -> Caller {
        Caller::Peer {
            uid: 7,
            unit: Some("a.service".to_owned()),
        }
    }

    #[test]
    fn a_report_sums_up_and_never_rounds_up_to_everything() {
        let snapshot = Snapshot {
            rows: vec![
                row(peer(), "secret/data/a", Verdict::Served, 9998),
                row(peer(), "secret/data/b", Verdict::Denied, 1),
                row(Caller::Others, "…", Verdict::Write, 1),
            ],
            carried: Vec::new(),
            oldest: Some(WallTime::EPOCH),
            stored: true,
        };
        let report = report(&snapshot, WallTime::EPOCH, None);
        assert_eq!((report.requests, report.served), (10_000, 9999));
        assert_eq!(report.percent, Some(99.9));
        assert_eq!(report.callers[0].percent, Some(100.0));
        assert_eq!(report.callers[0].caller.shown(), "uid 7 in a.service");
        assert_eq!(report.callers[1].percent, Some(0.0));
        let back: CoverageReport =
            serde_json::from_str(&serde_json::to_string(&report).unwrap()).unwrap();
        assert_eq!(back, report);
    }

    #[test]
    fn what_no_mirror_covers_says_whether_one_could() {
        let rows = vec![row(peer(), "secret/data/a", Verdict::NotMirrored, 1)];
        let snapshot = Snapshot {
            rows,
            ..Snapshot::default()
        };
        let report = report(&snapshot, WallTime::EPOCH, None);
        let row = &report.rows[0];
        assert!(row.place.is_none() && row.reason.contains("not been seen yet"));
        assert_eq!(report.percent, Some(0.0));
    }

    #[test]
    fn only_since_may_be_asked_for() {
        assert_eq!(since(""), Ok(None));
        assert_eq!(since("since=60"), Ok(Some(Duration::from_secs(60))));
        for wrong in ["since=", "since=7d", "until=3", "since=1&x"] {
            assert!(since(wrong).is_err(), "{wrong}");
        }
    }
}
