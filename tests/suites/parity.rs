//! The replica decides as the primary does: random policy sets, tokens and requests, put as real operations to a live
//! OpenBao and to a replica that holds what its mirror read there.
//!
//! Once it is one server, and once three nodes behind a balancer: then each question goes to the next of them.
//!
//! `HOLDOVER_SEED` repeats a run, `HOLDOVER_PARITY_DECISIONS` and `HOLDOVER_POLICY_TEXTS` make it longer.

#[path = "parity/asks.rs"]
mod asks;
#[path = "parity/causes.rs"]
mod causes;
#[path = "parity/judge.rs"]
mod judge;
#[path = "parity/mutate.rs"]
mod mutate;
#[path = "parity/people.rs"]
mod people;
#[path = "parity/report.rs"]
mod report;
#[path = "parity/round.rs"]
mod round;
#[path = "parity/rules.rs"]
mod rules;
#[path = "parity/run.rs"]
mod run;
#[path = "parity/server.rs"]
mod server;
#[path = "parity/sides.rs"]
mod sides;
#[path = "parity/texts.rs"]
mod texts;
#[path = "parity/words.rs"]
mod words;

use std::{io::Write, sync::Arc};

use harness::{Context, Result, bao::Primary, clock::Stopwatch, random::Seeded};

use crate::{people::People, report::Report, round::Round, server::Server, sides::Sides};

/// Decisions of a run, unless told otherwise.
const DECISIONS: u64 = 8_000;

/// The same of three nodes, where every write is one of raft.
const BALANCED: u64 = 1_000;

/// Fewer decisions than this have rounds in them that say too much of one kind.
const BALANCE: u64 = 4_000;

/// Texts of a run, unless told otherwise.
const TEXTS: u64 = 4_000;

/// Requests with one set of policies.
const PER_ROUND: usize = 800;

/// Differences that are looked into; more of them say no more.
const TOLD: usize = 5;

#[tokio::test(flavor = "multi_thread")]
async fn the_replica_decides_as_the_primary_does() -> Result<()> {
    let wanted = number("HOLDOVER_PARITY_DECISIONS", DECISIONS)?;
    decided_alike("parity", Server::alone().await?, wanted)
        .await
        .map(drop)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_replica_decides_as_every_node_behind_a_balancer_does() -> Result<()> {
    let wanted = number("HOLDOVER_PARITY_DECISIONS", BALANCED)?;
    let server = Server::balanced().await?;
    let report = decided_alike("parity, balanced", server, wanted).await?;
    let least = report.nodes.values().min();
    assert!(
        report.nodes.len() == 3 && least.is_some_and(|least| least * 5 >= report.decisions),
        "not every node was asked: {report:?}"
    );
    assert!(
        report.again * 50 <= report.decisions,
        "nodes fail too often: {report:?}"
    );
    Ok(())
}

/// Asks both sides until `wanted` decisions were compared, and fails if any differs.
async fn decided_alike(name: &str, server: Server, wanted: u64) -> Result<Report> {
    let mut random = Seeded::start(name)?;
    let watch = Stopwatch::start();
    let sides = Arc::new(Sides::start(server, &mut random).await?);
    let mut people = People::make(&sides).await?;
    let (mut report, mut told) = (Report::default(), Vec::new());
    let (mut differences, mut rounds) = (0, 0_u64);
    while report.decisions < wanted && told.len() < TOLD {
        let mut random = random.fork();
        let mut round = Round::begin(&mut random, &sides, &mut people).await?;
        told.append(&mut round.misread);
        let asks = round.asks(&mut random, &sides, PER_ROUND);
        let mut shared = Arc::new(round);
        let different = run::ask_all(&sides, &shared, asks, &mut report).await?;
        differences += different.len();
        let round = Arc::get_mut(&mut shared).context("the round is still asked with")?;
        for difference in different.iter().take(TOLD) {
            told.push(run::shrunk(&sides, round, difference).await?);
        }
        rounds += 1;
        if rounds.is_multiple_of(100) {
            told_whatever_happens(&format!(
                "{name}: {} decisions after {:?}",
                report.decisions,
                watch.elapsed()
            ))?;
        }
        let round = Arc::into_inner(shared).context("the round is still asked with")?;
        round.end(&sides).await?;
    }
    told_whatever_happens(&format!(
        "{name}: {rounds} rounds in {:?}, {differences} differences\n{report:?}",
        watch.elapsed()
    ))?;
    assert!(
        told.is_empty(),
        "the sides differ:\n{}",
        told.join("\n=====\n")
    );
    if report.decisions >= BALANCE {
        report.assert_balanced();
    }
    Ok(report)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_grants_more_is_found_out() -> Result<()> {
    let mut random = Seeded::start("parity, misled")?;
    let sides = Arc::new(Sides::start(Server::alone().await?, &mut random).await?);
    let mut people = People::make(&sides).await?;
    let round = Round::begin(&mut random, &sides, &mut people).await?;
    let asks = round.asks(&mut random, &sides, PER_ROUND);
    // One that many tokens have: a generated one, which both sides keep.
    let carriers = |name: &String| {
        let tokens = round.tokens.iter();
        tokens.filter(|token| token.policies.contains(name)).count()
    };
    let names = round.policies.iter().map(|policy| policy.name.clone());
    let misled = names.max_by_key(carriers).context("no policies")?;
    sides.mislead(&misled).await?;
    let (round, mut report) = (Arc::new(round), Report::default());
    let different = run::ask_all(&sides, &round, asks, &mut report).await?;
    assert!(!different.is_empty(), "{report:?}");
    for difference in &different {
        let policies = round.policies_of(difference.wanted.bearer);
        let about = policies.contains(&misled) || difference.wanted.body.contains("accessor");
        assert!(about, "{}: {:?}", difference.what, difference.wanted);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_text_is_a_policy_to_both_sides_or_to_neither() -> Result<()> {
    let mut random = Seeded::start("policy texts")?;
    let wanted = number("HOLDOVER_POLICY_TEXTS", TEXTS)?;
    let watch = Stopwatch::start();
    let primary = Primary::start_in_memory().await?;
    let tally = texts::compare(&mut random, &primary, wanted).await?;
    told_whatever_happens(&format!(
        "policy texts: in {:?}\n{tally:#?}",
        watch.elapsed()
    ))?;
    texts::assert_alike(&tally)
}

/// Prints past the test runner, which keeps what a test that passes prints to itself.
fn told_whatever_happens(text: &str) -> Result<()> {
    Ok(writeln!(std::io::stderr(), "{text}")?)
}

fn number(variable: &str, otherwise: u64) -> Result<u64> {
    match std::env::var(variable) {
        Ok(text) => text.parse().context(format!("{variable}={text}")),
        Err(_) => Ok(otherwise),
    }
}
