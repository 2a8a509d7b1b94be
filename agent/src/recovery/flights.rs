//! One piece of work for each key at a time, however many wait for it: all of them get what it came to.

use std::{collections::HashMap, future::Future, hash::Hash, sync::Arc};

use parking_lot::Mutex;
use tokio::sync::watch;

use crate::local::Pending;

type UnderWay<K, T> = HashMap<K, watch::Receiver<Option<T>>>;

/// Work under way, by key. As many as there are keys with somebody waiting.
pub(super) struct Flights<K, T>(Arc<Mutex<UnderWay<K, T>>>);

impl<K, T> Default for Flights<K, T> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<K, T> Flights<K, T>
where
    K: Clone + Eq + Hash + Send + 'static,
    T: Clone + Send + Sync + 'static,
{
    /// Joins the work of `key`, or begins it as `work`. It goes on though nobody waits for it any more, because what it has
    /// done at the primary must be noted here.
    ///
    /// None if it ended without a result.
    pub(super) fn join<F>(&self, key: K, work: impl FnOnce() -> F) -> Pending<'static, Option<T>>
    where
        F: Future<Output = T> + Send + 'static,
    {
        let mut joined = self.joined(key, work);
        Box::pin(async move {
            let landed = joined.wait_for(Option::is_some).await;
            landed.ok().and_then(|landed| landed.clone())
        })
    }

    fn joined<F>(&self, key: K, work: impl FnOnce() -> F) -> watch::Receiver<Option<T>>
    where
        F: Future<Output = T> + Send + 'static,
    {
        let mut under_way = self.0.lock();
        if let Some(joined) = under_way.get(&key) {
            return joined.clone();
        }
        let (landed, joined) = watch::channel(None);
        under_way.insert(key.clone(), joined.clone());
        let (work, end) = (work(), Landing(Arc::clone(&self.0), key));
        tokio::spawn(async move {
            let result = work.await;
            // Who comes from now on begins anew, because what was judged for these may be another judgement by then.
            drop(end);
            landed.send_replace(Some(result));
        });
        joined
    }
}

/// Takes a key off when its work ended, in whatever way.
struct Landing<K: Eq + Hash, T>(Arc<Mutex<UnderWay<K, T>>>, K);

impl<K: Eq + Hash, T> Drop for Landing<K, T> {
    fn drop(&mut self) {
        self.0.lock().remove(&self.1);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::sync::Notify;

    use super::*;

    #[tokio::test]
    async fn however_many_wait_it_is_done_once_and_goes_on_without_them() {
        let (flights, done) = (Flights::default(), Arc::new(AtomicUsize::new(0)));
        let gate = Arc::new(Notify::new());
        let join = || {
            let (done, gate) = (Arc::clone(&done), Arc::clone(&gate));
            flights.join(1u8, move || async move {
                gate.notified().await;
                done.fetch_add(1, Ordering::SeqCst)
            })
        };
        let (first, second, gone) = (join(), join(), join());
        drop(gone);
        gate.notify_one();
        assert_eq!((first.await, second.await), (Some(0), Some(0)));
        gate.notify_one();
        assert_eq!(join().await, Some(1), "who comes later begins anew");
    }

    #[tokio::test]
    async fn work_that_panics_leaves_nobody_waiting_and_no_key_behind() {
        let flights: Flights<u8, u8> = Flights::default();
        let fails = flights.join(1, || async { panic!("of the test") });
        assert_eq!(fails.await, None);
        assert_eq!(flights.join(1, || async { 2 }).await, Some(2));
    }
}
