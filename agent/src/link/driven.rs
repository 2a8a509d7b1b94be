//! Which runtime drives connections to the primary.
//!
//! Whoever sends first opens a connection, and others send over it later: it must be driven by a runtime that is not kept busy by
//! those who are served apart, whoever opened it.

use hyper::rt::Executor;
use tokio::{
    runtime::Handle,
    task::{JoinError, JoinSet},
};

/// The runtime that drives the connections of a link.
#[derive(Clone)]
pub(crate) struct Driven(Option<Handle>);

impl Driven {
    /// That which this is called on; without one, each connection is driven where it is opened.
    pub(crate) fn here() -> Self {
        Self(Handle::try_current().ok())
    }

    /// What comes of `work`, which that runtime does: sockets that it opens are watched there. It ends when this is dropped.
    ///
    /// # Errors
    /// If the runtime ends before.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Result<T, JoinError> {
        let Some(runtime) = &self.0 else {
            return Ok(work.await);
        };
        let mut one = JoinSet::new();
        one.spawn_on(work, runtime);
        match one.join_next().await {
            Some(done) => done,
            // It holds one.
            None => std::future::pending().await,
        }
    }
}

impl<F> Executor<F> for Driven
where
    F: Future<Output: Send + 'static> + Send + 'static,
{
    fn execute(&self, work: F) {
        match &self.0 {
            Some(runtime) => drop(runtime.spawn(work)),
            None => drop(tokio::spawn(work)),
        }
    }
}
