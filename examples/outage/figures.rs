//! Numbers as people read them.

use std::time::Duration;

use harness::Result;
use harness::load::{Load, Plan, Report};
use serde_json::Value;

/// `0.4 ms`, `12 ms`, `1.2 s`, `14 m 30 s`, `11 h 59 m`.
pub(crate) fn span(span: Duration) -> String {
    let seconds = span.as_secs();
    match seconds {
        0 if span < Duration::from_millis(10) => format!("{:.1} ms", span.as_secs_f64() * 1e3),
        0 => format!("{} ms", span.as_millis()),
        1..100 => format!("{:.1} s", span.as_secs_f64()),
        100..3600 => format!("{} m {} s", seconds / 60, seconds % 60),
        _ => format!("{} h {} m", seconds / 3600, seconds % 3600 / 60),
    }
}

/// What is at this JSON pointer; null where nothing is.
pub(crate) fn at<'a>(body: &'a Value, pointer: &str) -> &'a Value {
    body.pointer(pointer).unwrap_or(&Value::Null)
}

/// The text at this JSON pointer; empty where none is.
pub(crate) fn text(body: &Value, pointer: &str) -> String {
    at(body, pointer).as_str().unwrap_or_default().to_owned()
}

/// The number at this JSON pointer; zero where none is.
pub(crate) fn number(body: &Value, pointer: &str) -> u64 {
    at(body, pointer).as_u64().unwrap_or_default()
}

/// With commas between thousands.
pub(crate) fn count(number: usize) -> String {
    let digits = number.to_string();
    let groups: Vec<&[u8]> = digits.as_bytes().rchunks(3).rev().collect();
    String::from_utf8_lossy(&groups.join(&b","[..])).into_owned()
}

/// How many a second.
pub(crate) fn rate(number: usize, span: Duration) -> String {
    count((number as f64 / span.as_secs_f64().max(1e-3)).round() as usize)
}

/// Reads as fast as eight clients can, for this long; none may fail, and all must come from `source`.
pub(crate) async fn burst(plan: Plan, source: &str, lasting: Duration) -> Result<String> {
    let load = Plan {
        relays: 8,
        per_second: 0,
        ..plan
    }
    .start()?;
    passing(&load, lasting).await?;
    let report = load.stop().await?;
    report.flawless()?;
    let answers = report.from(source);
    if answers != report.answered_total() {
        return Err(harness::Failure::new(format!(
            "not all from the {source}: {report}"
        )));
    }
    Ok(figures(&report, answers))
}

/// Ends a load none of whose reads may have failed.
pub(crate) async fn flawless(load: Load) -> Result<((), String)> {
    let report = load.stop().await?;
    report.flawless()?;
    let (answers, slowest) = (report.answered_total(), report.latencies().max());
    let text = format!("0 of {} · slowest {}", count(answers), span(slowest));
    Ok(((), text))
}

fn figures(report: &Report, answers: usize) -> String {
    let latencies = report.latencies();
    format!(
        "{} reads/s · p50 {} · p99 {}",
        rate(answers, report.lasted),
        span(latencies.quantile(0.5)),
        span(latencies.quantile(0.99)),
    )
}

/// Returns once the load has run for this long.
async fn passing(load: &Load, lasting: Duration) -> Result<()> {
    harness::eventually(lasting * 2, "the load to last", async || {
        match load.elapsed() >= lasting {
            true => Ok(()),
            false => Err("not yet"),
        }
    })
    .await
}
