//! Starts of every kind: files that are there, absent, empty, corrupt, cut, stale, unreadable or no files at all; disks that
//! are full or may only be read; a primary that answers or does not. Holdover serves what it can and says what it cannot,
//! or exits with 78 where its configuration is bad, and does nothing else.
//!
//! `HOLDOVER_STARTS` says how many are played (100), `HOLDOVER_SEED` repeats their choices, `HOLDOVER_START` plays a single
//! one of them.

#[path = "starts/case.rs"]
mod case;
#[path = "starts/judge.rs"]
mod judge;
#[path = "starts/original.rs"]
mod original;
#[path = "starts/scene.rs"]
mod scene;

use std::rc::Rc;

use harness::played::{failures, number};
use harness::random::Seeded;
use harness::{Context, Failure, Result};
use tokio::sync::Semaphore;
use tokio::task::{JoinSet, LocalSet};

use case::Case;
use original::Original;
use scene::Scene;

const HOLDOVER: &str = env!("CARGO_BIN_EXE_holdover-under-test");

/// Starts of a run, unless told otherwise.
const STARTS: usize = 100;

/// Starts that are played at the same time: they mostly wait.
const AT_ONCE: usize = 8;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_start_serves_what_it_can_and_says_what_it_cannot() -> Result<()> {
    let count = number("HOLDOVER_STARTS")?.unwrap_or(STARTS);
    let only = number("HOLDOVER_START")?;
    let mut random = Seeded::start("starts")?;
    let original = Rc::new(Original::make().await?);
    let permits = Rc::new(Semaphore::new(AT_ONCE));
    let (local, mut playing) = (LocalSet::new(), JoinSet::new());
    for nr in 0..count {
        let (original, permits, mut random) = (original.clone(), permits.clone(), random.fork());
        let case = Case::of(&mut random);
        if only.is_some_and(|only| only != nr) {
            continue;
        }
        let start = async move {
            let _permit = permits.acquire().await?;
            let played = one(&original, &case, &mut random).await;
            played.context(format!("start {nr} ({case:?})"))
        };
        playing.spawn_local_on(start, &local);
    }
    let failures = local.run_until(failures(playing)).await?;
    let first = failures.first().map(Failure::to_string).unwrap_or_default();
    assert!(
        failures.is_empty(),
        "{} of {count} starts went wrong, the first of them:\n{first}",
        failures.len()
    );
    Ok(())
}

async fn one(original: &Original, case: &Case, random: &mut Seeded) -> Result<()> {
    let scene = Scene::set(original, case, random)?;
    judge::judge(original, case, &scene).await
}
