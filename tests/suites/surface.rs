//! The whole read surface of mirrored secrets, asked twice: of the primary, one server or three nodes behind a balancer,
//! through Holdover, and of the replica once the primary is gone. Status, headers and bodies must be the same to the
//! byte, but for `surface/masks.rs`.

#[path = "surface/answer.rs"]
mod answer;
#[path = "surface/asked.rs"]
mod asked;
#[path = "surface/masks.rs"]
mod masks;
#[path = "surface/questions.rs"]
mod questions;
#[path = "surface/tree.rs"]
mod tree;

use std::time::Duration;

use harness::client::raw::Ask;
use harness::host::{Host, READY, Servers};
use harness::{Context, Result, eventually, together};
use serde_json::Value;

use answer::Answer;
use masks::MASKS;
use questions::Question;
use tree::Tree;

const HOLDOVER: &str = env!("CARGO_BIN_EXE_holdover-under-test");

/// So many parts of the questions, each over other connections.
const PARTS: usize = 6;

/// Fewer questions than this mean that the generator is broken.
const LEAST: usize = 1000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_replica_answers_every_read_as_the_primary_answered_it() -> Result<()> {
    let tree = tree::plant(HOLDOVER).await?;
    the_same_of_both(&tree).await.map(drop)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_replica_answers_every_read_as_any_node_behind_a_balancer_answered_it() -> Result<()> {
    let tree = tree::plant_balanced(HOLDOVER).await?;
    let before = the_same_of_both(&tree).await?;
    let asked = |node: &str| {
        let of = |answer: &&Answer| answer.node.as_deref() == Some(node);
        before.iter().filter(of).count()
    };
    let asked = ["node0", "node1", "node2"].map(asked);
    eprintln!("asked of each node: {asked:?}");
    assert!(
        asked.iter().all(|count| count * 10 >= before.len()),
        "{asked:?}"
    );
    Ok(())
}

/// Asks everything of the primary, and of the replica once the primary is gone; the primary's answers.
async fn the_same_of_both<P: Servers>(tree: &Tree<P>) -> Result<Vec<Answer>> {
    let questions = questions::all();
    assert!(questions.len() >= LEAST, "{}", questions.len());
    let before = ask_all(tree, &questions).await?;
    let strangers: Vec<&Question> = questions
        .iter()
        .zip(&before)
        .filter(|(_, answer)| answer.source != "primary")
        .map(|(question, _)| question)
        .collect();
    assert!(strangers.is_empty(), "not forwarded: {strangers:?}");
    nothing_is_doubted(tree).await?;
    tree.host.cut().await?;
    let after = ask_all(tree, &questions).await?;
    let mut different = Vec::new();
    let mut applied = [0usize; MASKS.len()];
    for ((question, was), is) in questions.iter().zip(&before).zip(&after) {
        assert_eq!(is.source, "replica", "{question:?}");
        let mask = MASKS.iter().position(|mask| (mask.applies)(question, was));
        let same = match mask.map(|nr| (nr, &MASKS[nr])) {
            None => is.same_as(was),
            Some((nr, mask)) => {
                applied[nr] += 1;
                is.status == 503 && (question.method == "HEAD" || is.text().contains(mask.says))
            }
        };
        if !same {
            different.push(format!("{question:?}\n  primary {was:?}\n  replica {is:?}"));
        }
    }
    assert!(
        different.is_empty(),
        "{} of {} differ:\n{}",
        different.len(),
        questions.len(),
        different.join("\n")
    );
    let idle: Vec<&str> = MASKS
        .iter()
        .zip(applied)
        .filter(|(_, applied)| *applied == 0)
        .map(|(mask, _)| mask.reason)
        .collect();
    assert!(idle.is_empty(), "masks that nothing needs: {idle:?}");
    let masked: usize = applied.iter().sum();
    eprintln!(
        "{} questions, {masked} of them undecidable by {} masks",
        questions.len(),
        MASKS.len()
    );
    a_version_that_ends_in_the_outage_ends_as_at_the_primary(tree).await?;
    Ok(before)
}

/// Waits until what the answers put in doubt was read anew: in an outage nothing is said of it.
async fn nothing_is_doubted<P: Servers>(tree: &Tree<P>) -> Result<()> {
    let is_read = |status: &Value| {
        let mut mirrors = status["mirrors"].as_array().into_iter().flatten();
        mirrors.all(|mirror| mirror["doubted"] == 0)
    };
    let waited = tree
        .host
        .daemon
        .wait_for("what is doubted to be read", READY, is_read);
    waited.await.map(drop)
}

/// What the replica shows of a version whose time passed while it was in charge, and the primary once it is back.
async fn a_version_that_ends_in_the_outage_ends_as_at_the_primary<P: Servers>(
    tree: &Tree<P>,
) -> Result<()> {
    let asks = ["data", "subkeys"].map(|of| format!("/v1/secret/{of}/app/soon"));
    let asks = asks.map(|target| Ask::get(&target).token(&tree.all));
    let [data, subkeys] = asks;
    let (data, subkeys) = (data?, subkeys?);
    let gone = async |ask: &Ask| match tree.host.ask(ask).await {
        Ok(reply) if reply.status == 404 => Ok(Answer::of(&reply)),
        Ok(reply) => Err(format!("{}: {}", reply.status, reply.text())),
        Err(failure) => Err(failure.to_string()),
    };
    let bound = tree::SOON + Duration::from_secs(10);
    let replica = eventually(bound, "the end of a version", || gone(&data)).await?;
    let names = gone(&subkeys).await.map_err(harness::Failure::new)?;
    assert_eq!(
        (replica.source.as_str(), names.source.as_str()),
        ("replica", "replica")
    );
    tree.host.restore().await?;
    for (ask, was) in [(&data, replica), (&subkeys, names)] {
        let is = gone(ask).await.map_err(harness::Failure::new)?;
        assert_eq!(is.source, "primary");
        assert!(is.same_as(&was), "replica {was:?}\n  primary {is:?}");
    }
    Ok(())
}

/// Asks everything in parts, of each part each lane on one connection.
async fn ask_all<P>(tree: &Tree<P>, questions: &[Question]) -> Result<Vec<Answer>> {
    let numbered: Vec<_> = questions.iter().enumerate().collect();
    let mut answers: Vec<(usize, Answer)> = Vec::new();
    for part in numbered.chunks(numbered.len().div_ceil(PARTS)) {
        tree.turn()?;
        let lanes = (0..tree.lanes).map(|lane| ask_lane(tree, part, lane));
        answers.extend(together(lanes).await?.into_iter().flatten());
    }
    answers.sort_by_key(|(nr, _)| *nr);
    Ok(answers.into_iter().map(|(_, answer)| answer).collect())
}

/// Asks a lane's part of everything, in order, on one connection.
async fn ask_lane<P>(
    tree: &Tree<P>,
    questions: &[(usize, &Question)],
    lane: usize,
) -> Result<Vec<(usize, Answer)>> {
    let client = tree.host.daemon.client().within(Duration::from_secs(15));
    let mut connection = client.connect().await?;
    let mut answers = Vec::new();
    for (nr, question) in questions.iter().skip(lane).step_by(tree.lanes) {
        if connection.closed() {
            connection = client.connect().await?;
        }
        let ask = tree.ask(question)?;
        let reply = connection.send(&ask).await;
        let reply = reply.map_err(|failure| told(&tree.host, question, &failure));
        let reply = reply.context(format!("{question:?}"))?;
        answers.push((*nr, Answer::of(&reply)));
    }
    Ok(answers)
}

fn told<P>(host: &Host<P>, question: &Question, failure: &harness::Failure) -> harness::Failure {
    host.daemon.failure(format!("{question:?}: {failure}"))
}
