//! Random lives of a host: outages, and before, in and between them revocations, narrowed and deleted policies, roles,
//! people and secrets, restarts and returns, against a real OpenBao; every second life in a namespace of its own.
//!
//! In an outage nothing is readable, and nothing is issued, that the primary would have refused at the last pass that ended
//! before the cut, or that Holdover was told of since; and what the primary granted then is granted, but for
//! `lives/causes.rs`. The primary itself says what that is: each token is tried there, too.
//!
//! `HOLDOVER_LIVES` says how many are played (100), `HOLDOVER_SEED` repeats their choices, `HOLDOVER_LIFE` plays a single one
//! of them.

#[path = "lives/acts.rs"]
mod acts;
#[path = "lives/cast.rs"]
mod cast;
#[path = "lives/causes.rs"]
mod causes;
#[path = "lives/host.rs"]
mod host;
#[path = "lives/known.rs"]
mod known;
#[path = "lives/place.rs"]
mod place;
#[path = "lives/play.rs"]
mod play;
#[path = "lives/script.rs"]
mod script;

use std::rc::Rc;

use harness::bao::{Primary, Transport};
use harness::played::{failures, number};
use harness::random::Seeded;
use harness::{Context, Failure, Result};
use tokio::sync::Semaphore;
use tokio::task::{JoinSet, LocalSet};

use causes::Tally;
use play::Life;
use script::Script;

const HOLDOVER: &str = env!("CARGO_BIN_EXE_holdover-under-test");

/// Lives of a run, unless told otherwise.
const LIVES: usize = 100;

/// Lives that are played at the same time: they mostly wait.
const AT_ONCE: usize = 16;

/// A life in which Holdover took a busy machine for an outage is begun anew, at most so often.
const ATTEMPTS: usize = 20;

/// Of what was asked in outages, so much at most may be left undecided by the replica, in percent.
const UNDECIDED: usize = 10;

/// What is shared by all lives.
struct World {
    primary: Primary,
    tally: Tally,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_granted_in_an_outage_that_the_primary_refused_before_it() -> Result<()> {
    let count = number("HOLDOVER_LIVES")?.unwrap_or(LIVES);
    let only = number("HOLDOVER_LIFE")?;
    let mut random = Seeded::start("lives")?;
    let primary = Primary::start(Transport::Plain).await?;
    place::enable_logins(&primary.root()).await?;
    let world = Rc::new(World {
        primary,
        tally: Tally::default(),
    });
    let permits = Rc::new(Semaphore::new(AT_ONCE));
    let (local, mut playing) = (LocalSet::new(), JoinSet::new());
    for nr in 0..count {
        let (world, permits, random) = (world.clone(), permits.clone(), random.fork());
        if only.is_some_and(|only| only != nr) {
            continue;
        }
        let life = async move {
            let _permit = permits.acquire().await?;
            one(&world, nr, random).await
        };
        playing.spawn_local_on(life, &local);
    }
    let failures = local.run_until(failures(playing)).await?;
    eprintln!("{count} lives\n{}", world.tally);
    let first = failures.first().map(Failure::to_string).unwrap_or_default();
    assert!(
        failures.is_empty(),
        "{} lives went wrong, the first of them:\n{first}",
        failures.len()
    );
    if only.is_none() {
        world.tally.assert_telling(UNDECIDED);
    }
    Ok(())
}

/// Plays one life to its end; anew, where a busy machine was taken for an outage.
async fn one(world: &World, nr: usize, mut random: Seeded) -> Result<()> {
    let script = Script::of(nr, &mut random);
    for attempt in 1..=ATTEMPTS {
        let mark = format!("q{nr}x{attempt}");
        let life = Life::begin(&world.primary, &world.tally, &mark, &script).await;
        let mut life = life.context(format!("life {nr}"))?;
        let Err(failure) = life.run(&script).await else {
            return life.place.leave().await;
        };
        if !life.is_disturbed().await {
            let told = life.told();
            return Err(Failure::new(format!(
                "life {nr} ({script:?}):\n{told}\n{failure}"
            )));
        }
        world.tally.saw("lives begun anew", "");
    }
    Err(Failure::new(format!(
        "life {nr}: the machine is too slow to play it"
    )))
}
