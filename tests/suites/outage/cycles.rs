//! Constant load over many outages.

use std::time::Duration;

use harness::load::Load;
use harness::random::Seeded;
use harness::{Context, Result, eventually};

use harness::host::Host;

use crate::{MACHINE, answered, flawless, in_flight, load, plan};

/// Answers that each cycle must see from either side.
const ENOUGH: usize = 50;

/// Of the usual run, where the machine may be busy with other things.
const CYCLES: usize = 3;

/// How often the primary is killed, and how often it is stopped, where `HOLDOVER_OUTAGE_CYCLES` says so.
fn many_cycles() -> Result<Option<usize>> {
    let given = std::env::var("HOLDOVER_OUTAGE_CYCLES").ok();
    let parsed = |text: String| {
        text.parse()
            .context(format!("HOLDOVER_OUTAGE_CYCLES={text}"))
    };
    given.map(parsed).transpose()
}

/// How far an outage goes before the primary is back.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Depth {
    /// Until Holdover is in charge.
    Outage,
    /// As soon as enough reads have fallen back: perhaps nobody has decided anything yet.
    Blip,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_read_fails_however_often_the_primary_is_killed_or_hangs() -> Result<()> {
    let _alone = MACHINE.write().await;
    let mut seed = Seeded::start("outage cycles")?;
    // Half of the default: what a read may take, 2 s, is kept for a machine that is busy with other things.
    let host = plan().set("primary.read_deadline", "500ms").start().await?;
    let token = host.login("orders").await?.token;
    let load = load(&host, &token, 10).await?;
    answered(&host, &load, "primary", ENOUGH).await?;
    let many = many_cycles()?;
    let deep = many.unwrap_or(CYCLES);
    let depths = std::iter::repeat_n(Depth::Outage, deep);
    for (nr, depth) in depths
        .chain(std::iter::repeat_n(Depth::Blip, deep.div_ceil(4)))
        .enumerate()
    {
        let which = |what| format!("{what}, cycle {nr}, {depth:?}");
        kill(&host, &load, depth, &mut seed)
            .await
            .context(which("kill"))?;
        hang(&host, &load, depth, &mut seed)
            .await
            .context(which("stop"))?;
    }
    let report = flawless(&host, load).await?;
    let per_second = report.answered_total() as f64 / report.lasted.as_secs_f64();
    eprintln!("{per_second:.0} reads a second over all cycles\n{report}");
    // Many cycles have the machine to themselves.
    let least = many.map_or(50.0, |_| 200.0);
    assert!(per_second >= least, "the load was too thin: {report}");
    assert_eq!(report.from("unnamed"), 0, "an answer without its source");
    Ok(())
}

async fn kill(host: &Host, load: &Load, depth: Depth, seed: &mut Seeded) -> Result<()> {
    somewhen(load, seed).await?;
    host.primary.kill9()?;
    fallen_back(host, load, depth).await?;
    host.primary.start_again().await?;
    followed(host, load).await
}

async fn hang(host: &Host, load: &Load, depth: Depth, seed: &mut Seeded) -> Result<()> {
    somewhen(load, seed).await?;
    host.primary.stop()?;
    fallen_back(host, load, depth).await?;
    host.primary.cont()?;
    followed(host, load).await
}

async fn fallen_back(host: &Host, load: &Load, depth: Depth) -> Result<()> {
    if depth == Depth::Outage {
        host.daemon
            .wait_state("holdover", harness::host::FAILOVER)
            .await?;
    }
    answered(host, load, "replica", ENOUGH).await
}

/// Holdover is back with the primary, and the load has seen it.
async fn followed(host: &Host, load: &Load) -> Result<()> {
    host.daemon
        .wait_state("following", harness::host::RECOVERY)
        .await?;
    answered(host, load, "primary", ENOUGH).await
}

/// A moment that the seed picks, with a request in flight.
async fn somewhen(load: &Load, seed: &mut Seeded) -> Result<()> {
    let until = load.elapsed() + Duration::from_millis(seed.below(400));
    eventually(Duration::from_secs(5), "the moment", async || {
        match load.elapsed() >= until {
            true => Ok(()),
            false => Err("too early"),
        }
    })
    .await?;
    in_flight(load).await
}
