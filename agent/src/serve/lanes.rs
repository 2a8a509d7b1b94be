//! Where connections are served: workloads apart from all others, so that the kernel shares the processors between the two.
//!
//! On one runtime a workload's request would wait behind whatever a crowd has ready, at each of its steps. Those whom no entry
//! matches have threads of their own, half as many as there are processors. Where there is no entry they are everybody, and
//! have all threads.

use std::{io, num::NonZero, thread::available_parallelism};

use tokio::runtime::{Builder, Handle, Runtime};

/// The runtimes that serve connections.
pub(super) struct Lanes {
    workloads: Handle,
    others: Option<Runtime>,
}

impl Lanes {
    /// Workloads are served on the runtime that this is called on.
    ///
    /// # Errors
    /// If the other one cannot be started.
    pub(super) fn start() -> io::Result<Self> {
        let processors = available_parallelism().map_or(1, NonZero::get);
        let others = Builder::new_multi_thread()
            .thread_name("holdover-others")
            .worker_threads((processors / 2).max(1))
            .enable_all()
            .build()?;
        Ok(Self {
            workloads: Handle::current(),
            others: Some(others),
        })
    }

    /// The one that serves such a peer.
    pub(super) fn of(&self, is_apart: bool) -> &Handle {
        match &self.others {
            Some(others) if is_apart => others.handle(),
            _ => &self.workloads,
        }
    }
}

impl Drop for Lanes {
    /// Waits for nobody: it is dropped where nothing may block, after what had to be waited for.
    fn drop(&mut self) {
        if let Some(others) = self.others.take() {
            others.shutdown_background();
        }
    }
}
