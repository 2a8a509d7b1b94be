//! Several waits side by side, of things that are borrowed.

use std::future::poll_fn;
use std::task::Poll;

use crate::failure::Result;

/// Runs all to their ends, side by side; what they gave, in their order, or the first failure.
pub async fn together<T>(
    work: impl IntoIterator<Item = impl Future<Output = Result<T>>>,
) -> Result<Vec<T>> {
    let start = |work| (Box::pin(work), None);
    let mut running: Vec<_> = work.into_iter().map(start).collect();
    poll_fn(|context| {
        for (work, done) in &mut running {
            if done.is_some() {
                continue;
            }
            match work.as_mut().poll(context) {
                Poll::Ready(Ok(value)) => *done = Some(value),
                Poll::Ready(Err(failure)) => return Poll::Ready(Err(failure)),
                Poll::Pending => {}
            }
        }
        match running.iter().all(|(_, done)| done.is_some()) {
            true => Poll::Ready(Ok(running
                .iter_mut()
                .filter_map(|(_, done)| done.take())
                .collect())),
            false => Poll::Pending,
        }
    })
    .await
}
