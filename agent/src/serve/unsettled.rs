//! Requests with a grant that an outage left: it is judged before anything is answered, and exchanged where the primary is to
//! answer.

use http::{Response, StatusCode};
use shared::{
    api::{Call, Kind},
    name::TokenDigest,
};

use super::{
    Handled, Server,
    ask::Ask,
    body::RelayBody,
    decide::is_use,
    forward_token::{self, ForwardToken, Route},
    respond,
};
use crate::{
    driver::Side,
    recovery::settler::{Judged, Settlement},
};

/// The status of what cannot be told yet.
const UNTOLD: u16 = 503;

impl Server {
    /// What the request is forwarded with, once its grant is settled; else the answer to it.
    pub(super) async fn settled(
        &self,
        ask: &Ask,
        digest: TokenDigest,
    ) -> Result<ForwardToken, Handled> {
        let Ok(call) = &ask.call else {
            return Err(self.decide(ask).await);
        };
        // To give itself up it needs to be nothing else.
        if call.kind == Kind::TokenRevokeSelf {
            return Err(self.decide(ask).await);
        }
        // Whatever it comes to, somebody uses it: what cannot be told now is settled ahead of the next use.
        if is_use(call, UNTOLD) {
            self.replica.used(&digest, ask.peer.uid);
        }
        let judging = self.settler.judge(digest);
        let judged = self.in_time(ask, judging).await?;
        let outcome = match judged {
            Judged::As(outcome) => outcome,
            // What asks about the token itself needs nothing of the primary's.
            Judged::Exchange if call.kind == Kind::TokenLookupSelf => {
                return Err(self.decide(ask).await);
            }
            Judged::Exchange => {
                // It goes on, whoever waits for it.
                let minting = self.settler.settle(digest);
                if forward_token::is_read(ask, call) {
                    let answer = self.decide(ask).await;
                    let is_served = |answer: &Response<RelayBody>| {
                        answer.status() != StatusCode::SERVICE_UNAVAILABLE
                    };
                    if answer.as_ref().map_or(true, is_served) {
                        return Err(answer);
                    }
                }
                self.in_time(ask, minting).await?
            }
        };
        self.routed(ask, call, outcome).await
    }

    /// Where a request goes whose grant came to `outcome`.
    async fn routed(
        &self,
        ask: &Ask,
        call: &Call,
        outcome: Settlement,
    ) -> Result<ForwardToken, Handled> {
        let route = match outcome {
            Settlement::Settled => Route::of(ask, self.replica.as_ref()),
            Settlement::Drains => forward_token::draining(ask, call),
            Settlement::Later(why) if forward_token::may_drain(ask, call) => {
                // A refusal would be by what is not verified: clients throw a good token away for it.
                let is_refused =
                    |answer: &Response<RelayBody>| answer.status() == StatusCode::FORBIDDEN;
                return Err(match self.decide(ask).await {
                    Ok(answer) if is_refused(&answer) => Ok(later(&why)),
                    handled => handled,
                });
            }
            Settlement::Later(why) => return Err(Ok(later(&why))),
            Settlement::Unread(why) => return Err(Ok(later(&why))),
            Settlement::Unreachable(why) => {
                self.forward_failed();
                return Err(Ok(later(&why)));
            }
        };
        match route {
            Route::Forward(token) => Ok(token),
            Route::Local => Err(self.decide(ask).await),
            Route::Refused(answer) => Err(Ok(answer)),
            // It was left by yet another outage, or changed in this very moment.
            Route::Unsettled(_) => Err(Ok(later("it is being settled"))),
        }
    }

    /// What comes of `work`, unless the replica takes over first: then that answers; or it takes too long.
    async fn in_time<T>(&self, ask: &Ask, work: impl Future<Output = T>) -> Result<T, Handled> {
        let deadline = self.rules.load().issue_deadline;
        tokio::select! {
            done = work => Ok(done),
            () = self.driver.until(|side| side == Some(Side::Replica)) => {
                Err(self.decide(ask).await)
            }
            () = tokio::time::sleep(deadline) => {
                self.forward_failed();
                Err(Ok(later("the primary did not answer in time")))
            }
        }
    }
}

fn later(why: &str) -> Response<RelayBody> {
    let text = format!(
        "the token was issued in an outage that is over and could not be settled with the primary yet: {why}; try again"
    );
    respond::error(StatusCode::SERVICE_UNAVAILABLE, &text)
}
