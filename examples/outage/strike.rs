//! The primary dies under load.

use std::time::Duration;

use harness::host::{FAILOVER, Host};
use harness::load::Load;
use harness::{Context, Result, eventually};

use crate::before::Usual;
use crate::figures;
use crate::teller::Teller;

/// Reads a second, besides one that is always in flight.
pub(crate) const PER_SECOND: u32 = 200;

/// `kill -9`, and what the clients notice.
pub(crate) async fn the_primary_dies(
    teller: &mut Teller,
    host: &Host,
    usual: &Usual,
) -> Result<()> {
    teller.chapter("kill -9 of the primary, under load");
    let mut plan = usual.load(host);
    plan.per_second = PER_SECOND;
    let load = plan.start()?;
    answers(&load, "primary", 200).await?;
    let killed = teller
        .promise("the next answer comes from the replica", async {
            in_flight(&load).await?;
            let killed = load.elapsed();
            host.primary.kill9()?;
            answers(&load, "replica", 200).await?;
            let report = load.so_far();
            let first = report.by_source.get("replica").context("no answer")?.first;
            let after = figures::span(first.saturating_sub(killed));
            Ok((killed, format!("{after} after the kill, in mid-flight")))
        })
        .await?;
    teller
        .promise("Holdover takes charge", async {
            let status = host.daemon.wait_state("holdover", FAILOVER).await?;
            let after = figures::span(load.elapsed().saturating_sub(killed));
            let cause = figures::text(&status, "/outage/cause");
            let cause: String = cause.chars().take(36).collect();
            Ok(((), format!("after {after} · {cause}…")))
        })
        .await?;
    teller
        .promise("no read failed", figures::flawless(load))
        .await?;
    let reply = host
        .read("secret/data/shop/shared", &usual.login.token)
        .await?;
    let warning = figures::text(&reply.json()?, "/warnings/0");
    let age = reply.header("x-holdover-age").unwrap_or("?");
    teller.shows(&format!(
        "X-Holdover-Source: replica · X-Holdover-Age: {age}"
    ));
    teller.shows(&format!("warnings: {warning}"));
    Ok(())
}

/// Waits until this many more answers came from `source`.
pub(crate) async fn answers(load: &Load, source: &str, more: usize) -> Result<()> {
    let wanted = load.counted(source).0 + more;
    let bound = Duration::from_secs(20);
    eventually(
        bound,
        &format!("answers of the {source}"),
        async || match load.counted(source) {
            (count, _) if count >= wanted => Ok(()),
            _ => Err(load.so_far()),
        },
    )
    .await
}

async fn in_flight(load: &Load) -> Result<()> {
    eventually(
        Duration::from_secs(5),
        "a request in flight",
        async || match load.in_flight() {
            0 => Err("none"),
            _ => Ok(()),
        },
    )
    .await
}
