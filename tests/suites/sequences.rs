//! Token roles and the arithmetic of TTLs: random sequences of creations, look-ups, renewals and revocations are put to
//! a live OpenBao and to the replica, in real elapsed time, and must end alike.
//!
//! Each sequence has roles and a first token of its own. `HOLDOVER_SEQUENCES` says how many are played (500),
//! `HOLDOVER_SEED` repeats their choices; what is chosen later in a sequence hangs on what lives at that moment.

#[path = "sequences/asked.rs"]
mod asked;
#[path = "sequences/causes.rs"]
mod causes;
#[path = "sequences/compare.rs"]
mod compare;
#[path = "sequences/mirrored.rs"]
mod mirrored;
#[path = "sequences/play.rs"]
mod play;
#[path = "sequences/tokens.rs"]
mod tokens;

use std::sync::Arc;

use harness::bao::{Primary, Transport};
use harness::random::Seeded;
use harness::{Context, Failure, Result};
use serde_json::json;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use causes::Tally;
use mirrored::Mirrored;
use play::{Ended, Play};

/// Sequences of a run, unless told otherwise.
const SEQUENCES: usize = 200;

/// Sequences that are played at the same time.
const AT_ONCE: usize = 64;

/// A sequence that a slow machine took across a token's end, or in which it took long itself, is begun anew, at most so
/// often.
const ATTEMPTS: usize = 40;

/// Of what was asked, so much at most may be left undecided by the replica, in percent.
const UNDECIDED: usize = 5;

/// Both sides, and what was seen.
struct World {
    primary: Primary,
    replica: Mirrored,
    tally: Tally,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn random_sequences_of_roles_tokens_and_renewals_end_alike_on_both_sides() -> Result<()> {
    let count = match std::env::var("HOLDOVER_SEQUENCES") {
        Ok(text) => text.parse().context(format!("HOLDOVER_SEQUENCES={text}"))?,
        Err(_) => SEQUENCES,
    };
    let mut random = Seeded::start("sequences")?;
    let primary = Primary::start(Transport::Plain).await?;
    set_up(&primary).await?;
    let replica = Mirrored::of(&primary, &mut random, count).await?;
    let world = Arc::new(World {
        primary,
        replica,
        tally: Tally::default(),
    });
    let permits = Arc::new(Semaphore::new(AT_ONCE));
    let mut playing = JoinSet::new();
    for nr in 0..count {
        let (world, permits, random) = (world.clone(), permits.clone(), random.fork());
        playing.spawn(async move {
            let _permit = permits.acquire().await?;
            one(&world, nr, random).await
        });
    }
    let mut failures = Vec::new();
    while let Some(played) = playing.join_next().await {
        if let Err(failure) = played? {
            failures.push(failure.to_string());
        }
    }
    eprintln!("{count} sequences\n{}", world.tally);
    let some = failures.iter().take(5).cloned().collect::<Vec<_>>();
    assert!(
        failures.is_empty(),
        "{} disagree:\n{}",
        failures.len(),
        some.join("\n\n")
    );
    world.tally.assert_telling(UNDECIDED);
    Ok(())
}

/// Plays one sequence to its end.
async fn one(world: &Arc<World>, nr: usize, mut random: Seeded) -> Result<()> {
    for _ in 0..ATTEMPTS {
        let mut play = Play::begin(world, nr, random.fork()).await?;
        match play.run().await {
            Ok(Ended::Complete) => return Ok(()),
            Ok(Ended::Late) => world.tally.late(),
            Err(failure) => {
                let told = play.told();
                return Err(Failure::new(format!("sequence {nr}: {failure}\n{told}")));
            }
        }
    }
    Err(Failure::new(format!(
        "sequence {nr}: the machine is too slow to play it"
    )))
}

/// Policies, and TTLs of a few seconds for whatever says nothing else.
async fn set_up(primary: &Primary) -> Result<()> {
    let root = primary.root();
    for (name, text) in mirrored::POLICIES {
        let body = json!({ "policy": text });
        root.write(&format!("sys/policies/acl/{name}"), &body)
            .await?;
    }
    let tune = json!({ "default_lease_ttl": "20s", "max_lease_ttl": "60s" });
    root.write("sys/mounts/auth/token/tune", &tune).await?;
    Ok(())
}
