//! Looks after who may use the files of the configuration that hold secrets, and says so.

use std::{path::PathBuf, sync::Arc, time::Duration};

use tokio::sync::watch;

use crate::{
    config::Config,
    file::{FileReader, exposed::exposed},
    status::board::Board,
};

/// How often they are looked at. Nobody is waiting for it.
const EVERY: Duration = Duration::from_secs(5);

/// Puts on the board what is wrong with them, until the daemon stops.
pub(super) async fn watch(config: watch::Receiver<Arc<Config>>, board: Arc<Board>) {
    let (reader, mut told) = (FileReader::default(), Vec::new());
    loop {
        let files = config.borrow().secret_files();
        let found = findings(&reader, files).await;
        for finding in found.iter().filter(|finding| !told.contains(*finding)) {
            tracing::warn!("{finding}");
        }
        board.put("exposed", found.clone());
        told = found;
        tokio::time::sleep(EVERY).await;
    }
}

/// What hangs is told by who reads it.
async fn findings(reader: &FileReader, files: Vec<PathBuf>) -> Vec<String> {
    let own = rustix::process::geteuid().as_raw();
    let mut findings = Vec::new();
    for path in files {
        let look = {
            let path = path.clone();
            move || exposed(&path, own)
        };
        let found = reader.look(&path, look).await.unwrap_or_default();
        findings.extend(found.iter().map(ToString::to_string));
    }
    findings
}
