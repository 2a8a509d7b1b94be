//! `GET /v1/coverage`: what passed through the socket, and what an outage would have made of it.

use std::time::Duration;

use http::StatusCode;
use shared::{
    change::Cluster,
    coverage::{Caller, CoverageKey, CoverageRow, Foretold},
    time::WallTime,
};

use crate::{
    admin::{AdminReply, AdminRequest, Deps},
    coverage::{CoverageSnapshot, place},
    status::coverage::{CallerName, CarriedReport, CoverageReport, RowReport},
};

/// Where the request does not say how far back: the last week.
const WEEK: Duration = Duration::from_secs(7 * 86_400);

/// Answers a request.
pub(super) fn answer(deps: &Deps, request: &AdminRequest) -> AdminReply {
    let span = match since(request.query.as_deref().unwrap_or_default()) {
        Ok(span) => span.unwrap_or(WEEK),
        Err(error) => return AdminReply::error(StatusCode::BAD_REQUEST, error),
    };
    let since = deps.local.clock.now().steady.minus(span);
    let snapshot = deps.coverage.snapshot(since);
    let authority = deps.local.view.authority();
    AdminReply::ok(&report(&snapshot, since, authority.cluster.as_deref()))
}

fn since(query: &str) -> Result<Option<Duration>, &'static str> {
    const FORM: &str =
        "since is a number of seconds, as in ?since=604800; nothing else is accepted";
    let mut since = None;
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let seconds = pair.strip_prefix("since=").ok_or(FORM)?;
        let seconds = seconds.parse().map_err(|_| FORM)?;
        since = Some(Duration::from_secs(seconds));
    }
    Ok(since)
}

/// What a snapshot says.
fn report(
    snapshot: &CoverageSnapshot,
    since: WallTime,
    cluster: Option<&Cluster>,
) -> CoverageReport {
    let rows: Vec<RowReport> = snapshot
        .rows
        .iter()
        .map(|row| row_report(row, cluster))
        .collect();
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

fn row_report(row: &CoverageRow, cluster: Option<&Cluster>) -> RowReport {
    let CoverageRow { asked, tally } = row;
    let placed = (asked.verdict == Foretold::NotMirrored && asked.caller != Caller::Others)
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
        place,
        unmirrorable,
    }
}

fn reason(asked: &CoverageKey, exact: &str, unmirrorable: Option<&str>) -> String {
    match (exact, unmirrorable) {
        (_, Some(why)) => format!("no mirror can cover the path: {why}"),
        ("", None) => asked.verdict.words().to_owned(),
        (exact, None) => exact.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use shared::coverage::Tally;

    fn row(caller: Caller, path: &str, verdict: Foretold, requests: u64) -> CoverageRow {
        CoverageRow {
            asked: CoverageKey {
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
        let snapshot = CoverageSnapshot {
            rows: vec![
                row(peer(), "secret/data/a", Foretold::Served, 9998),
                row(peer(), "secret/data/b", Foretold::Denied, 1),
                row(Caller::Others, "…", Foretold::Write, 1),
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
        let rows = vec![row(peer(), "secret/data/a", Foretold::NotMirrored, 1)];
        let snapshot = CoverageSnapshot {
            rows,
            ..CoverageSnapshot::default()
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
