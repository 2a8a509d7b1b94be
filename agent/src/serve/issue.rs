//! Logins and token creations while the primary is authoritative: sent once, and answered by whichever side is in charge.

use std::time::Duration;

use http::Response;
use shared::api::Kind;

use super::{
    Handled, Server, ask::Ask, body::RelayBody, custody::Unsendable, forward_token::ForwardToken,
    limits::Exceeded, respond,
};
use crate::{driver::Side, link::once::Undone};

/// Between attempts at issuing while the machine has not decided.
const RETRY: Duration = Duration::from_millis(100);

/// What came of an attempt to have a token issued by the primary.
pub(crate) enum Tried {
    /// It said something.
    Answered(Response<RelayBody>),
    /// Nothing was sent: too many of the same share are unanswered.
    Crowded,
    /// It could not, and did nothing; what it said nevertheless.
    Undone(Undone, Option<Response<RelayBody>>),
    /// It may have issued, but nobody has what it did; what it said nevertheless.
    Unknown(Option<Response<RelayBody>>),
}

impl Tried {
    /// It may not be sent now.
    pub(crate) fn unsendable(unsendable: Unsendable) -> Self {
        match unsendable {
            Unsendable::NoPlace => Self::Crowded,
            Unsendable::Sent => Self::Unknown(None),
        }
    }

    /// It failed, and said this.
    pub(crate) fn failed(undone: Option<Undone>, said: Option<Response<RelayBody>>) -> Self {
        match undone {
            Some(undone) => Self::Undone(undone, said),
            None => Self::Unknown(said),
        }
    }
}

impl Server {
    /// A login or token creation: by whichever side is in charge once that is decided, within `issue_deadline` from when it
    /// was asked. It is sent again only where nothing came of it.
    pub(super) async fn issue(&self, ask: &mut Ask, token: ForwardToken) -> Handled {
        loop {
            let left = self.left_to_issue(ask);
            let trying = self.doubting(self.try_to_issue(ask, &token));
            let tried = tokio::time::timeout(left, self.while_primary(trying)).await;
            let tried = tried.ok().flatten().unwrap_or(Tried::Unknown(None));
            let said = match tried {
                Tried::Answered(answer) => return Ok(answer),
                // It waits for room, or for the replica to take over: that those before it hang may be an outage.
                Tried::Crowded => Some(respond::exceeded(Exceeded::Unanswered)),
                Tried::Undone(undone, said) => {
                    ask.once.undone(undone);
                    self.forward_failed();
                    said
                }
                Tried::Unknown(said) => {
                    self.forward_failed();
                    said
                }
            };
            let left = self.left_to_issue(ask);
            let was_in_doubt = self.driver.snapshot().side().is_none();
            let side = match (ask.once.is_sent(), &said) {
                (false, _) => self.driver.side(left).await,
                (true, None) => self.who_takes_over(left, left).await,
                // What it said waits for the end of the probe, and no longer.
                (true, Some(_)) => {
                    let patience = self.rules.load().read_deadline;
                    self.who_takes_over(patience, left).await
                }
            };
            match side {
                Some(Side::Replica) => {
                    let answer = self.decide(ask).await?;
                    return self.unless_taken_over(ask, answer).await;
                }
                // That it is well after all is news: nothing is to be waited for any more.
                Some(Side::Primary) if !ask.once.is_sent() && was_in_doubt => {}
                Some(Side::Primary) if !ask.once.is_sent() && left > RETRY => {
                    tokio::time::sleep(RETRY).await;
                }
                _ => return Ok(said.unwrap_or_else(|| undecided(ask))),
            }
        }
    }

    async fn try_to_issue(&self, ask: &mut Ask, token: &ForwardToken) -> Tried {
        let is_attested = |kind: &Kind| *kind == Kind::AttestedLogin;
        if ask.call.as_ref().is_ok_and(|call| is_attested(&call.kind)) {
            return self.attested_login(ask).await;
        }
        let patience = self.rules.load().read_deadline;
        let sending = match self.sending(ask, token) {
            Ok(sending) => sending,
            Err(unsendable) => return Tried::unsendable(unsendable),
        };
        match sending.await {
            Err(error) => Tried::failed(error.undone(), None),
            Ok(reply) if self.cannot_serve(&reply, patience).await => {
                Tried::failed(reply.undone(), Some(reply.into_response()))
            }
            Ok(reply) => Tried::Answered(self.finish(ask, token, reply).await),
        }
    }

    /// Who is in charge after a request of unknown outcome, once the primary has come into doubt: the replica if it takes over,
    /// the primary if it is well after all; none if neither is sure within `left`, or nobody doubts it within `patience`.
    async fn who_takes_over(&self, patience: Duration, left: Duration) -> Option<Side> {
        let decided = async {
            match self.comes_into_doubt(patience).await {
                true => self.driver.side(left).await,
                false => None,
            }
        };
        tokio::time::timeout(left, decided).await.ok().flatten()
    }

    pub(super) fn left_to_issue(&self, ask: &Ask) -> Duration {
        let waited = self.replica.now().boot.since(ask.asked_at.boot);
        self.rules.load().issue_deadline.saturating_sub(waited)
    }
}

fn undecided(ask: &Ask) -> Response<RelayBody> {
    match ask.once.unsent() {
        Some(right) => respond::not_applied(right, ", and the replica has not taken over"),
        None => respond::unknown(),
    }
}
