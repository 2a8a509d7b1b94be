//! What suites share that play many random cases side by side: how many, which one alone, and what went wrong.

use tokio::task::JoinSet;

use crate::failure::{Context, Failure, Result};

/// The number in a variable of the environment, if it is set.
pub fn number(name: &str) -> Result<Option<usize>> {
    match std::env::var(name) {
        Ok(text) => text.parse().map(Some).context(format!("{name}={text}")),
        Err(_) => Ok(None),
    }
}

/// What went wrong, once all are over. Each is printed when it is known.
pub async fn failures(mut playing: JoinSet<Result<()>>) -> Result<Vec<Failure>> {
    let mut failures = Vec::new();
    while let Some(played) = playing.join_next().await {
        if let Err(failure) = played? {
            eprintln!("{failure}\n");
            failures.push(failure);
        }
    }
    Ok(failures)
}
