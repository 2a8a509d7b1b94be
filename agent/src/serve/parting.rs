//! Connections whose place is another's by now, while their last answer is read.
//!
//! They count to nobody any more, and each still has its descriptors: so there are few of them at a time.

use std::{pin::Pin, time::Duration};

use hyper::{body::Incoming, server::conn::http1, service::HttpService};
use hyper_util::rt::TokioIo;
use tokio::sync::{Semaphore, SemaphorePermit};

use super::{body::RelayBody, connection::trace, limits::HeldSeat, stream::AttributedStream};

/// For reading an answer on such a connection.
const WITHIN: Duration = Duration::from_secs(10);

/// Such connections at a time, of workloads and of all others. `crate::socket::descriptors` sets some aside for them.
const AT_ONCE: usize = 16;

/// How many more may be waited for.
pub(super) struct Parting {
    workloads: Semaphore,
    others: Semaphore,
}

impl Default for Parting {
    fn default() -> Self {
        let room = || Semaphore::new(AT_ONCE);
        Self {
            workloads: room(),
            others: room(),
        }
    }
}

impl Parting {
    /// Ends a connection whose place is another's by now. An answer that is on its way is read to its end, if somebody reads it, as
    /// long as few are waited for and there are descriptors for those who come.
    pub(super) async fn part<S>(
        &self,
        mut serving: Pin<&mut http1::Connection<TokioIo<AttributedStream>, S>>,
        is_workloads: bool,
        place: &HeldSeat,
    ) where
        S: HttpService<Incoming, ResBody = RelayBody>,
        S::Error: std::error::Error + Send + Sync,
    {
        if !place.is_unflushed() || place.is_needed_at_once() {
            return;
        }
        let Some(_one) = self.begin(is_workloads) else {
            return;
        };
        serving.as_mut().graceful_shutdown();
        tokio::select! {
            ended = serving => trace(ended),
            () = tokio::time::sleep(WITHIN) => {}
        }
    }

    fn begin(&self, is_workloads: bool) -> Option<SemaphorePermit<'_>> {
        let room = match is_workloads {
            true => &self.workloads,
            false => &self.others,
        };
        room.try_acquire().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_are_waited_for_and_strangers_take_nothing_of_that_from_workloads() {
        let parting = Parting::default();
        let others: Vec<_> = (0..100).filter_map(|_| parting.begin(false)).collect();
        assert_eq!(others.len(), AT_ONCE);
        let workloads: Vec<_> = (0..100).filter_map(|_| parting.begin(true)).collect();
        assert_eq!(workloads.len(), AT_ONCE);
        drop(others);
        assert!(parting.begin(false).is_some());
    }
}
