//! The load counts what went right and reports what did not.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use harness::load::{Plan, Report};
use harness::place::Room;
use harness::{Result, eventually};
use serde_json::json;

use crate::stand_in::{answering, response};

const BOUND: Duration = Duration::from_secs(10);

fn plan(room: &Room) -> Plan {
    Plan {
        per_second: 200,
        limit: BOUND,
        ..Plan::new(
            &room.join("s"),
            "t",
            vec![("secret/data/a".into(), json!({ "v": 1 }))],
        )
    }
}

fn right(source: &str) -> Option<String> {
    Some(response(
        200,
        &format!("X-Holdover-Source: {source}"),
        r#"{"data":{"v":1}}"#,
    ))
}

async fn until(
    load: &harness::load::Load,
    what: &str,
    holds: impl Fn(&Report) -> bool,
) -> Result<()> {
    eventually(BOUND, what, async || {
        let report = load.so_far();
        if holds(&report) { Ok(()) } else { Err(report) }
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn right_answers_are_counted_by_their_source_with_no_pause_between_them() -> Result<()> {
    let room = Room::make()?;
    let replica = Arc::new(AtomicBool::new(false));
    let seen = replica.clone();
    let _server = answering(&room.join("s"), move |_, _| {
        right(if seen.load(Ordering::SeqCst) {
            "replica"
        } else {
            "primary"
        })
    })?;
    let load = plan(&room).start()?;
    until(&load, "answers of the primary", |r| r.from("primary") > 100).await?;
    replica.store(true, Ordering::SeqCst);
    until(&load, "answers of the replica", |r| r.from("replica") > 100).await?;
    let report = load.stop().await?;
    report.flawless()?;
    let (primary, replica) = (&report.by_source["primary"], &report.by_source["replica"]);
    assert!(
        primary.first < replica.first && primary.last < replica.last,
        "{report}"
    );
    assert!(report.latencies().quantile(0.5) <= report.latencies().max());
    assert!(
        report.longest_pause < Duration::from_millis(100),
        "{report}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_kind_of_failure_is_reported_with_its_reason() -> Result<()> {
    for (reply, reason) in [
        (Some(response(503, "A: b", "no")), "status 503: no"),
        (
            Some(response(200, "A: b", r#"{"data":{"v":2}}"#)),
            "body differs",
        ),
        (Some(response(200, "A: b", "not json")), "expected ident"),
        (
            Some("HTTP/1.1 200 X\r\nContent-Length: 9\r\n\r\n".into()),
            "no complete answer within 1s",
        ),
        (None, "connection closed"),
    ] {
        let room = Room::make()?;
        let _server = answering(&room.join("s"), move |_, _| reply.clone())?;
        // Only what hangs needs a bound to fail at; the others must not run into one on a busy machine.
        let mut plan = plan(&room);
        if reason.starts_with("no complete answer") {
            plan.limit = Duration::from_secs(1);
        }
        let load = plan.start()?;
        until(&load, reason, |r| r.failures > 3).await?;
        let report = load.stop().await?;
        assert_eq!(report.answered_total(), 0, "{report}");
        assert!(
            report
                .details
                .iter()
                .all(|failed| failed.why.to_string().contains(reason)),
            "{report}"
        );
        assert!(report.flawless().is_err());
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_not_there_fails_every_request() -> Result<()> {
    // Both kinds of requests, each alone, use both kinds of connections.
    for (per_second, relays) in [(200, 0), (0, 1)] {
        let room = Room::make()?;
        let load = Plan {
            per_second,
            relays,
            ..plan(&room)
        }
        .start()?;
        until(&load, "failures", |r| r.failures > 3).await?;
        let report = load.stop().await?;
        for kept in [false, true] {
            assert!(
                report.details.iter().any(|failed| failed.kept == kept),
                "{report}"
            );
        }
    }
    Ok(())
}
