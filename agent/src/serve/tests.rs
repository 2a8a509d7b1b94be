//! The socket from end to end: raw bytes of a client, a scripted primary, a replica that does as it is told.

mod callers;
mod covering;
mod cutting;
mod falling_back;
mod following;
mod issuing;
mod keys;
mod namespaces;
mod passing;
mod replica_tokens;
pub(super) mod rig;
mod sent_once;
mod sharing;
mod unsettled;
mod worth;
mod writers;

use std::time::Duration;

/// Waits for what must come, with a bound.
async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let waiting = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), waiting)
        .await
        .unwrap_or_else(|_| panic!("never came: {what}"));
}

/// A well-formed replica token.
fn replica_token() -> String {
    format!("ho.{}", "Ab3".repeat(15).get(..43).unwrap())
}
