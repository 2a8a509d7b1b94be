//! A changed configuration on its way to those who follow it.

use std::{future::Future, path::PathBuf, pin::Pin, sync::Arc};

use tokio::sync::watch;

use super::{Config, watch::WatchedFiles};
use crate::file::FileReader;

type Apply = Box<dyn FnMut(Arc<Config>) -> Pin<Box<dyn Future<Output = ()> + Send>> + Send>;

/// Those whom a changed configuration reaches, one after the other in the order in which they were added.
#[derive(Default)]
pub struct Followers(Vec<Apply>);

impl Followers {
    /// Has `apply` called with every changed configuration; the next one waits for its end.
    pub fn add<F: Future<Output = ()> + Send + 'static>(
        &mut self,
        mut apply: impl FnMut(Arc<Config>) -> F + Send + 'static,
    ) {
        self.0.push(Box::new(move |config| Box::pin(apply(config))));
    }

    /// Reaches them with every configuration that changes from now on.
    pub async fn follow(mut self, mut current: watch::Receiver<Arc<Config>>) {
        while current.changed().await.is_ok() {
            let config = Arc::clone(&current.borrow_and_update());
            for apply in &mut self.0 {
                apply(Arc::clone(&config)).await;
            }
        }
    }
}

/// Calls `changed` whenever `file` did, until the daemon stops.
///
/// # Errors
/// If the kernel lets nobody watch it, or its filesystem hangs.
pub async fn watch_file<F: Future<Output = ()>>(
    file: PathBuf,
    reader: &FileReader,
    mut changed: impl FnMut() -> F,
) -> notify::Result<()> {
    let path = file.clone();
    let watched = reader.look(&path, move || WatchedFiles::new(&[file])).await;
    let mut watched = watched.map_err(|slow| notify::Error::generic(&slow.to_string()))??;
    loop {
        watched.changed().await;
        changed().await;
    }
}
