//! What a start must come to.

use std::path::PathBuf;
use std::time::Duration;

use harness::client::raw::{Ask, Reply};
use harness::host::login_request;
use harness::{Failure, Result, eventually};
use serde_json::Value;

use crate::case::{Case, Configuration, Disk, Primary};
use crate::original::{Original, SECRET, WORKLOAD};
use crate::scene::Scene;

/// How long anything may take that a start comes to: several are played at the same time.
const BOUND: Duration = Duration::from_secs(60);

/// How long a stop may take: the time to drain, and some more.
const STOP: Duration = Duration::from_secs(20);

/// The exit code of a bad configuration, `EX_CONFIG` of `sysexits.h`.
const BAD_CONFIGURATION: i32 = 78;

pub(crate) async fn judge(original: &Original, case: &Case, scene: &Scene) -> Result<()> {
    scene.daemon.start()?;
    let judged = match case.configuration {
        Configuration::Good => serves(original, case, scene).await,
        _ => exits(scene).await,
    };
    judged.map_err(|failure| scene.daemon.failure(failure))
}

async fn exits(scene: &Scene) -> Result<()> {
    let status = scene.daemon.exited(BOUND).await?;
    match status.code() {
        Some(BAD_CONFIGURATION) => Ok(()),
        _ => Err(Failure::new(format!("ended with {status}"))),
    }
}

async fn serves(original: &Original, case: &Case, scene: &Scene) -> Result<()> {
    // The first check of the store may not have ended yet.
    eventually(BOUND, "a status that says what is wrong", async || {
        let status = scene.daemon.wait_for("a status", BOUND, |_| true).await;
        let status = status.map_err(|failure| failure.to_string())?;
        says(case, scene, &status)
    })
    .await?;
    match case.primary {
        Primary::Answers => forwards(original, scene).await?,
        Primary::Refuses => decides(original, case, scene).await?,
    }
    scene.daemon.terminate(STOP).await
}

/// The status names a file that something is wrong with, and is not ready on a disk that takes nothing.
fn says(case: &Case, scene: &Scene, status: &Value) -> std::result::Result<(), String> {
    let told = [&status["reasons"], &status["findings"]]
        .map(Value::to_string)
        .concat();
    let is_named = |path: &PathBuf| told.contains(&path.display().to_string());
    if !scene.faulty.is_empty() && !scene.faulty.iter().any(is_named) {
        return Err(format!("none of {:?} is named: {status:#}", scene.faulty));
    }
    if case.disk != Disk::Plain && status["ready"] == true {
        return Err(format!("is ready: {status:#}"));
    }
    Ok(())
}

/// The primary's answer to its own token comes through, whatever the replica is like.
async fn forwards(original: &Original, scene: &Scene) -> Result<()> {
    eventually(BOUND, "a read at the primary", async || {
        let reply = read(original, scene).await?;
        match (reply.status, password(&reply).as_deref()) {
            (200, Some(found)) if original.passwords.iter().any(|one| one == found) => Ok(()),
            _ => Err(Failure::new(reply.text())),
        }
    })
    .await
}

/// With the primary away the replica decides, if it opens; and nothing but what it holds is ever shown.
async fn decides(original: &Original, case: &Case, scene: &Scene) -> Result<()> {
    scene.daemon.wait_state("holdover", BOUND).await?;
    let reply = read(original, scene).await?;
    let shown = password(&reply);
    let is_ours = |found: &str| original.passwords.iter().any(|one| one == found);
    match (reply.status, shown.as_deref()) {
        (200, Some(found)) if is_ours(found) => {}
        (503, _) if !case.opens() => {}
        _ => {
            let text = format!("a read is {}: {}", reply.status, reply.text());
            return Err(Failure::new(text));
        }
    }
    let login = send(scene, &login_request(WORKLOAD)).await?;
    let may_issue = case.disk == Disk::Plain && case.opens() && !case.is_stale();
    match login.status {
        200 if may_issue => Ok(()),
        503 if !may_issue => Ok(()),
        // What is wrong with the anchor need not show that the replica is older, and one as old as that shows nothing.
        200 if case.disk == Disk::Plain && !case.shows_its_age() => Ok(()),
        status => Err(Failure::new(format!(
            "a login is {status}: {}",
            login.text()
        ))),
    }
}

async fn read(original: &Original, scene: &Scene) -> Result<Reply> {
    let ask = Ask::get(&format!("/v1/{SECRET}")).token(&original.token)?;
    send(scene, &ask).await
}

async fn send(scene: &Scene, ask: &Ask) -> Result<Reply> {
    let client = scene.daemon.client().within(Duration::from_secs(20));
    client.send(ask).await
}

fn password(reply: &Reply) -> Option<String> {
    reply.json_text("/data/data/password").ok()
}
