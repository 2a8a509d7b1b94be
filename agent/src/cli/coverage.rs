//! `holdover coverage`: of what passed through the socket, how much an outage would have served, and why not the rest.

use std::{fmt::Write, path::Path, time::Duration};

use crate::{
    admin::client::AdminClient,
    cli::{ANSWER, Exit, Failure, converse, daemon, out},
    status::coverage::{CallerReport, CoverageReport, RowReport},
};

/// Rows that are shown unless all are asked for.
const SCREEN: usize = 20;

#[derive(clap::Args)]
pub(super) struct CoverageArgs {
    /// How far back, as in 12h or 7d.
    #[arg(long, value_name = "SPAN", default_value = "7d", value_parser = span)]
    since: Duration,
    /// Only requests of this workload.
    #[arg(long, value_name = "NAME")]
    workload: Option<String>,
    /// Every row, instead of the first twenty.
    #[arg(long)]
    all: bool,
    /// As JSON, with every row.
    #[arg(long)]
    json: bool,
}

/// Reads a span as the configuration writes it.
pub(super) fn span(text: &str) -> Result<Duration, String> {
    shared::span::parse(text).map_err(str::to_owned)
}

pub(super) fn perform(args: &CoverageArgs, config: &Path) -> Result<Exit, Failure> {
    let mut report = ask(&daemon(config)?, args.since)?;
    if let Some(workload) = &args.workload {
        report
            .rows
            .retain(|row| row.caller.workload.as_ref() == Some(workload));
        report.carried.clear();
        report.sum_up();
    }
    let rows = if args.all { usize::MAX } else { SCREEN };
    out::show(&report, args.json, |report| screen(report, rows))?;
    Ok(Exit::Done)
}

/// What the daemon counted within the last `since`.
pub(super) fn ask(client: &AdminClient, since: Duration) -> Result<CoverageReport, Failure> {
    let path = format!("/v1/coverage?since={}", since.as_secs());
    Ok(converse(client.get(&path, ANSWER))??)
}

fn screen(report: &CoverageReport, most: usize) -> String {
    let since = report.counted_since.as_ref().max(Some(&report.since));
    let since = since.map_or("", String::as_str);
    let Some(percent) = report.percent else {
        return format!("Nothing was asked since {since}.\n");
    };
    let mut text = format!(
        "Of {} requests since {since}, {} ({percent} %) would have been answered had the primary been dead.\n\n",
        report.requests, report.served,
    );
    let callers: Vec<_> = report.callers.iter().map(caller).collect();
    text += &out::table(["CALLER", "REQUESTS", "ANSWERED", "%"], &callers);
    let lost: Vec<&RowReport> = report.rows.iter().filter(|row| !row.is_served()).collect();
    if lost.is_empty() {
        return text;
    }
    let rows: Vec<_> = lost.iter().take(most).map(|row| cells(row)).collect();
    text += "\nNot answered:\n";
    text += &out::table(["COUNT", "CALLER", "DOES", "PATH", "LAST", "WHY"], &rows);
    if lost.len() > rows.len() {
        // A String takes everything.
        let _ = writeln!(
            text,
            "… and {} more; --all shows them",
            lost.len() - rows.len()
        );
    }
    text += "\nholdover config suggest prints what can be done about it.\n";
    text
}

fn caller(sum: &CallerReport) -> [String; 4] {
    [
        sum.caller.shown(),
        sum.requests.to_string(),
        sum.served.to_string(),
        sum.percent
            .map_or_else(String::new, |percent| percent.to_string()),
    ]
}

fn cells(row: &RowReport) -> [String; 6] {
    [
        row.requests.to_string(),
        row.caller.shown(),
        row.operation.clone(),
        row.path.clone(),
        row.last.clone(),
        format!("{}: {}", row.verdict, row.reason),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::coverage::CallerName;

    fn report(lost: usize) -> CoverageReport {
        let row = |path: String, verdict: &str| RowReport {
            caller: CallerName {
                workload: Some("orders".to_owned()),
                ..CallerName::default()
            },
            operation: "read".to_owned(),
            path,
            verdict: verdict.to_owned(),
            reason: "because".to_owned(),
            requests: 2,
            last: "2027-01-15T08:00:00Z".to_owned(),
            ..RowReport::default()
        };
        let mut rows = vec![row("secret/data/served".to_owned(), "served")];
        rows.extend((0..lost).map(|number| row(format!("secret/data/{number}"), "not_mirrored")));
        let mut report = CoverageReport {
            since: "2027-01-14T08:00:00Z".to_owned(),
            counted_since: Some("2027-01-15T07:00:00Z".to_owned()),
            rows,
            ..CoverageReport::default()
        };
        report.sum_up();
        report
    }

    #[test]
    fn one_screen_says_how_much_and_why_not_the_rest() {
        let text = screen(&report(30), SCREEN);
        assert!(text.starts_with(
            "Of 62 requests since 2027-01-15T07:00:00Z, 2 (3.2 %) would have been answered"
        ));
        assert!(text.contains("orders") && text.contains("not_mirrored: because"));
        assert!(text.contains("… and 10 more") && !text.contains("secret/data/20"));
        assert!(!text.contains("secret/data/served"));
        assert!(screen(&report(30), usize::MAX).contains("secret/data/29"));
    }

    #[test]
    fn where_all_is_served_nothing_is_listed() {
        let text = screen(&report(0), SCREEN);
        assert!(text.contains("(100 %)") && !text.contains("Not answered"));
        let nothing = CoverageReport::default();
        assert!(screen(&nothing, SCREEN).contains("Nothing was asked"));
    }
}
