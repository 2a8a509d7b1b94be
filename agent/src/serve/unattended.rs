//! What goes on though whoever asked for it has gone: to its end, or to that of the daemon. Then it is dropped while what may be
//! left of it, at the primary or in doubt, can still be stored.

use std::{pin::Pin, time::Duration};

use tokio::sync::watch;

/// At the end, what cannot be dropped is waited for no longer than this.
const DROPPED_WITHIN: Duration = Duration::from_millis(500);

/// Everything of the kind. The tasks hold the other ends, so that these are closed when the last one has ended.
pub(super) struct Unattended(watch::Sender<bool>);

/// One task. Its parts are dropped in this order: whoever sees the last one go knows that the work is gone.
struct Work {
    work: Pin<Box<dyn Future<Output = ()> + Send>>,
    ending: watch::Receiver<bool>,
}

impl Unattended {
    pub(super) fn new() -> Self {
        Self(watch::Sender::new(false))
    }

    /// Does `work` in a task of its own.
    pub(super) fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        let work = Work {
            work: Box::pin(work),
            ending: self.0.subscribe(),
        };
        tokio::spawn(work.go_on());
    }

    /// Drops what goes on, and what is begun from here on, and waits until that was done.
    pub(super) async fn end(&self) {
        self.0.send_replace(true);
        let dropped = tokio::time::timeout(DROPPED_WITHIN, self.0.closed());
        if dropped.await.is_err() {
            tracing::warn!("requests whose clients have gone did not end in time");
        }
    }
}

impl Work {
    async fn go_on(mut self) {
        tokio::select! {
            biased;
            _ = self.ending.wait_for(|ends| *ends) => {}
            () = self.work.as_mut() => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    };

    use super::*;

    /// Counts how often it was dropped.
    struct Dropped(Arc<AtomicUsize>);

    impl Drop for Dropped {
        fn drop(&mut self) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn nothing_is_left_once_it_was_ended_and_nothing_begins_after() {
        let (all, dropped) = (Unattended::new(), Arc::default());
        for _ in 0..8 {
            let held = Dropped(Arc::clone(&dropped));
            all.spawn(async move {
                let _held = held;
                std::future::pending().await
            });
        }
        all.end().await;
        assert_eq!(dropped.load(Ordering::SeqCst), 8);
        let held = Dropped(Arc::clone(&dropped));
        all.spawn(async move {
            let _held = held;
            std::future::pending().await
        });
        all.end().await;
        assert_eq!(dropped.load(Ordering::SeqCst), 9);
    }
}
