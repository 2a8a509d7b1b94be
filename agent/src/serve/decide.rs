//! Answers of the replica: decided by the local vault, sent only once what they promise is durable.

use std::time::Duration;

use http::{Response, StatusCode};
use replica::{
    sequencer::{Lane, SubmitError},
    vault::Answer,
};
use shared::{
    api::{Call, Kind},
    approle::{Attempt, Outcome as Login},
    change::Change,
    ledger::{Entry, EntryKind, share::Full},
    time::Now,
};

use super::{
    Again, HANDOVER, Handled, Server,
    ask::{Ask, Outcome},
    body::RelayBody,
    respond,
};
use crate::{clock::Stopwatch, driver::Side};

/// How often a decision is taken anew because what it relied on had changed.
const CONFLICTS: usize = 2;

/// Between looks at whether issuing goes on.
const PAUSE: Duration = Duration::from_millis(50);

impl Server {
    /// Answers as the replica.
    ///
    /// # Errors
    /// [`Again`] if the primary took over while issuing was paused: then it is the primary's to answer.
    pub(crate) async fn decide(&self, ask: &Ask) -> Handled {
        let outage = self.replica.outage();
        let call = match &ask.call {
            Ok(call) => call,
            Err(error) => return Ok(respond::call_error(*error, outage.as_ref())),
        };
        let Some(body) = ask.whole_body() else {
            return Ok(respond::error_in(
                outage.as_ref(),
                StatusCode::PAYLOAD_TOO_LARGE,
                "the request is larger than what the replica answers",
            ));
        };
        let waited = Stopwatch::start();
        let mut conflicts = 0;
        loop {
            let now = self.replica.now();
            let mut answer = self.replica.answer(&ask.query(call, body, now));
            if let (Some((_, digest)), true) = (&ask.token, is_use(call, answer.response.status)) {
                self.replica.used(digest, ask.peer.uid);
            }
            let noted = ask.once.outcome() == Outcome::Unknown && !answer.changes.is_empty();
            if noted {
                let remark = unused_token(ask, call, &answer.changes, now);
                answer.changes.push(remark);
            }
            let takes_away = answer.changes.iter().any(binds);
            match self.promise(answer).await {
                Ok(response) => {
                    if noted {
                        ask.once.told();
                    }
                    return Ok(response);
                }
                Err(SubmitError::Conflict) if conflicts < CONFLICTS => conflicts += 1,
                Err(SubmitError::Paused) => self.wait_for_the_fence(waited).await?,
                Err(SubmitError::LedgerFull(full)) => {
                    let text =
                        format!("{full}: nothing is done for it that must be recorded there");
                    return Ok(respond::error_in(outage.as_ref(), over(&full), &text));
                }
                Err(error) => {
                    tracing::error!(%error, "an answer was withheld: what it promises is not durable");
                    return Ok(respond::error_in(
                        outage.as_ref(),
                        StatusCode::SERVICE_UNAVAILABLE,
                        &withheld(&error, takes_away),
                    ));
                }
            }
        }
    }

    /// The replica's answer, unless it was in charge a moment ago and cannot issue now: then it is the primary's to answer.
    ///
    /// # Errors
    /// [`Again::Retake`].
    pub(crate) async fn unless_taken_over(
        &self,
        ask: &Ask,
        answer: Response<RelayBody>,
    ) -> Handled {
        let issues = ask.call.as_ref().is_ok_and(Call::is_issuance);
        let refused = answer.status() == StatusCode::SERVICE_UNAVAILABLE;
        match issues && refused && self.replica.outage().is_none() {
            true => {
                // The machine says so a moment later. Until then it would be the replica's again, and again refused.
                self.driver.while_replicas(HANDOVER).await;
                Err(Again::Retake)
            }
            false => Ok(answer),
        }
    }

    /// The answer, once what it promises is durable.
    async fn promise(&self, mut answer: Answer) -> Result<Response<RelayBody>, SubmitError> {
        if !answer.changes.is_empty() {
            let changes = std::mem::take(&mut answer.changes);
            let lane = lane(&changes);
            self.replica
                .commit(lane, changes, std::mem::take(&mut answer.expects))
                .await?;
        }
        self.replica.note(&mut answer);
        let failed = |attempt: &Attempt| attempt.outcome == Login::Failed;
        let failed = answer.attempt.as_ref().is_some_and(failed);
        let mut response = respond::of_replica(answer.response);
        if failed {
            response.extensions_mut().insert(LoginFailed);
        }
        Ok(response)
    }

    /// Issuing is paused while the primary takes over: a moment, and then one of the two issues again.
    async fn wait_for_the_fence(&self, waited: Stopwatch) -> Result<(), Again> {
        let primary = self.driver.until(|side| side == Some(Side::Primary));
        if tokio::time::timeout(PAUSE, primary).await.is_ok() {
            return Err(Again::Retake);
        }
        if waited.elapsed() >= self.rules.load().issue_deadline {
            return Err(Again::GiveUp);
        }
        Ok(())
    }
}

/// Who takes too much is told so; where others did, it is this host that cannot serve now.
fn over(full: &Full) -> StatusCode {
    match full {
        Full::Share { .. } => StatusCode::TOO_MANY_REQUESTS,
        Full::Shared { .. } => StatusCode::SERVICE_UNAVAILABLE,
    }
}

/// Marks an answer to a login that was wrong: the primary said so, or what it once said. What was not decided counts for
/// nobody, nor what could not be read.
#[derive(Clone, Copy)]
pub(crate) struct LoginFailed;

/// Whether a token was used by a request that is answered so: what cannot be judged now (503) was asked all the same, and is asked
/// again. Who only looks a token up has done nothing with it that would need one at the primary.
pub(super) fn is_use(call: &Call, status: u16) -> bool {
    call.kind != Kind::TokenLookupSelf && matches!(status, ..400 | 503)
}

/// What is said of an answer whose promise is not durable.
fn withheld(error: &SubmitError, takes_away: bool) -> String {
    match takes_away {
        true => format!(
            "what was to be revoked is refused here from now on, but that is not stored, and a restart before it is would undo it: {error}"
        ),
        false => format!("nothing is issued or changed here: {error}"),
    }
}

/// Revocations and refusals go first, and those of tokens bind before they are on disk. They are kept where nothing else is.
pub(crate) fn lane(changes: &[Change]) -> Lane {
    let takes_away = |change: &Change| {
        binds(change) || matches!(change, Change::LeaseDetached(..) | Change::Queue(_))
    };
    match changes.iter().any(takes_away) {
        true => Lane::Revocation,
        false => Lane::Grant,
    }
}

fn binds(change: &Change) -> bool {
    matches!(change, Change::Revoked(_) | Change::TokenDoubted(..))
}

/// The ledger's note that the primary may hold a token that nobody uses. It counts for the workload that `issued` issues to,
/// because what a uid that is no workload's may have noted is little, and shared.
fn unused_token(ask: &Ask, call: &Call, issued: &[Change], now: Now) -> Change {
    let holder = issued.iter().find_map(|change| match change {
        Change::Grant(grant) => grant.peer.as_ref(),
        _ => None,
    });
    let mut entry = Entry::new(EntryKind::Unknown, "unknown", now.steady);
    entry.workload = holder.map(|peer| peer.workload.clone());
    entry.uid = Some(ask.peer.uid);
    entry.unit.clone_from(&ask.peer.unit);
    entry.path = Some(call.path.as_str().to_owned());
    Change::Ledger(Box::new(entry))
}
