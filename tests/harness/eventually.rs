//! Waiting for a condition, with a bound: the only way in which suites wait.

use std::time::Duration;

use crate::clock::Stopwatch;
use crate::failure::{Failure, Result};

/// Polls `probe` until it gives a value.
///
/// `probe` answers `Ok(value)` when the condition holds, and `Err(state)` with what it saw otherwise; the last of these
/// is in the failure. `what` completes "waited for". The first poll is immediate, later ones 2 ms to 50 ms apart.
pub async fn eventually<T, S>(
    bound: Duration,
    what: &str,
    mut probe: impl AsyncFnMut() -> std::result::Result<T, S>,
) -> Result<T>
where
    S: std::fmt::Display,
{
    let watch = Stopwatch::start();
    let mut pause = Duration::from_millis(2);
    let mut last: Option<S> = None;
    loop {
        match tokio::time::timeout(watch.left_of(bound), probe()).await {
            Ok(Ok(value)) => return Ok(value),
            Ok(Err(state)) => last = Some(state),
            Err(_) => {}
        }
        if watch.elapsed() >= bound {
            let seen = last.map_or_else(|| "no answer at all".to_owned(), |s| s.to_string());
            return Err(Failure::new(format!(
                "waited {bound:?} for {what}; last seen: {seen}"
            )));
        }
        tokio::time::sleep(pause.min(watch.left_of(bound))).await;
        pause = (pause * 2).min(Duration::from_millis(50));
    }
}
