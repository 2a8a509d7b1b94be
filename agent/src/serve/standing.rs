//! The first standing token of a workload is waited for, as a first login is: what comes in the first moments after a start, or
//! after a primary is back that was away then, is no reason to send it without a token, which the primary refuses.

use http::{Response, StatusCode};

use super::{Handled, Server, ask::Ask, body::RelayBody, forward_token, respond};
use crate::{driver::Side, upstream::UpstreamError};

impl Server {
    /// Has the primary answer, once there is what is to be presented for it.
    pub(super) async fn follow_once_presentable(&self, ask: &mut Ask) -> Handled {
        match self.first_standing(ask).await {
            Some(handled) => handled,
            None => self.follow(ask).await,
        }
    }

    /// What becomes of a request that a standing token would be presented for, where that is not there in time; none where it is,
    /// or where it was tried for and there is none.
    async fn first_standing(&self, ask: &Ask) -> Option<Handled> {
        let workload = forward_token::presents(ask, self.replica.as_ref())?;
        let left = self.left_to_issue(ask);
        tokio::select! {
            biased;
            () = self.minter.first_standing(&workload) => None,
            why = self.without_own_token() => Some(Ok(unpresented(&why.to_string()))),
            () = self.driver.until(|side| side == Some(Side::Replica)) => Some(self.decide(ask).await),
            () = tokio::time::sleep(left) => Some(Ok(unpresented("the primary was not asked for it yet"))),
        }
    }

    /// Why no standing token can be had: Holdover has no token of its own, and none is tried for. While the machine has not
    /// decided that says nothing yet. Never returns where there is one.
    async fn without_own_token(&self) -> UpstreamError {
        loop {
            let was_undecided = self.driver.snapshot().side().is_none();
            match self.minter.ready().await {
                Ok(()) => std::future::pending().await,
                Err(UpstreamError::NoCredential) if was_undecided => {
                    self.driver.until(|side| side.is_some()).await;
                }
                Err(why) => return why,
            }
        }
    }
}

fn unpresented(why: &str) -> Response<RelayBody> {
    let text = format!("there is no token for this workload yet: {why}; nothing was sent");
    respond::error(StatusCode::SERVICE_UNAVAILABLE, &text)
}
