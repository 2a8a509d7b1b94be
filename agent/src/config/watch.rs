//! The configuration while the daemon runs: a changed file is applied as a whole, or rejected as a whole and told.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher, event::AccessKind};
use tokio::sync::{mpsc, watch};

use crate::{
    config::{Config, ConfigErrors},
    file::{FileError, FileReader},
};

/// An editor writes a file in several steps: what follows within this belongs to the same change.
const QUIET: Duration = Duration::from_millis(200);

/// Why a changed configuration is not applied. The one in force stays.
#[derive(Debug, thiserror::Error)]
pub enum Rejected {
    /// The file is not read.
    #[error(transparent)]
    Unread(#[from] FileError),
    /// The file is wrong.
    #[error(transparent)]
    Wrong(#[from] ConfigErrors),
    /// It changes what only a start can.
    #[error("{}: {} can only be changed by a restart", path.display(), keys.join(", "))]
    Restart {
        /// The file.
        path: PathBuf,
        /// The changed keys.
        keys: Vec<&'static str>,
    },
}

/// Reads the file again and hands it on if it differs from what is in force. Two at a time would hand on the older one last.
///
/// # Errors
/// If it is wrong, changes what only a start can, or is not read in time.
pub async fn reload(
    current: &watch::Sender<Arc<Config>>,
    reader: &FileReader,
) -> Result<(), Rejected> {
    let before = Arc::clone(&current.borrow());
    let path = before.path.clone();
    let config = reader
        .look(&before.path, move || Config::load(&path))
        .await??;
    let keys = before.fixed_changes(&config);
    if !keys.is_empty() {
        let path = config.path;
        return Err(Rejected::Restart { path, keys });
    }
    if config != *before {
        tracing::info!(path = %config.path.display(), "the changed configuration is in force");
        current.send_replace(Arc::new(config));
    }
    Ok(())
}

/// Files that are watched: through their folders, so that replacing one is seen as well.
pub struct WatchedFiles {
    changes: mpsc::Receiver<()>,
    _watcher: RecommendedWatcher,
}

impl WatchedFiles {
    /// Watches `files`, each of which need not exist yet; its folder must.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn new(files: &[PathBuf]) -> notify::Result<Self> {
        // Symbolic links are how a whole folder is replaced at once: their targets are watched too.
        let targets = files.iter().filter_map(|file| file.canonicalize().ok());
        let all: Vec<PathBuf> = files.iter().cloned().chain(targets).collect();
        let watched = all.clone();
        let (tell, changes) = mpsc::channel(1);
        let mut watcher = notify::recommended_watcher(
            move |event: notify::Result<notify::Event>| {
                let concerns = event.is_ok_and(|event| {
                !matches!(event.kind, EventKind::Access(kind) if kind != AccessKind::Close(notify::event::AccessMode::Write))
                    && event.paths.iter().any(|path| concerns(path, &watched))
            });
                if concerns {
                    // One unread notice is enough.
                    let _ = tell.try_send(());
                }
            },
        )?;
        let mut folders: Vec<&Path> = all.iter().filter_map(|file| file.parent()).collect();
        folders.sort_unstable();
        folders.dedup();
        for folder in folders {
            watcher.watch(folder, RecursiveMode::NonRecursive)?;
        }
        Ok(Self {
            changes,
            _watcher: watcher,
        })
    }

    /// Waits until one of the files changed and has come to rest.
    pub async fn changed(&mut self) {
        if self.changes.recv().await.is_none() {
            std::future::pending::<()>().await;
        }
        while tokio::time::timeout(QUIET, self.changes.recv())
            .await
            .is_ok_and(|more| more.is_some())
        {}
    }
}

/// Whether a change of `path` may be one of a file: itself, or something like Kubernetes' `..data` beside it.
fn concerns(path: &Path, files: &[PathBuf]) -> bool {
    let linked = path.file_name().is_some_and(|name| name == "..data");
    files
        .iter()
        .any(|file| file == path || (linked && file.parent() == path.parent()))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::config::tests::LEAST;

    const PATIENCE: Duration = Duration::from_secs(10);

    fn reader() -> FileReader {
        FileReader::default()
    }

    fn started(folder: &Path) -> (PathBuf, watch::Sender<Arc<Config>>) {
        let path = folder.join("holdover.toml");
        fs::write(&path, LEAST).unwrap();
        let config = Arc::new(Config::load(&path).unwrap());
        (path, watch::Sender::new(config))
    }

    #[tokio::test]
    async fn a_good_change_is_handed_on() {
        let folder = tempfile::tempdir().unwrap();
        let (path, current) = started(folder.path());
        let mut seen = current.subscribe();
        fs::write(&path, LEAST.to_owned() + "[limits]\nconnections = 7\n").unwrap();
        reload(&current, &reader()).await.unwrap();
        assert!(seen.has_changed().unwrap());
        assert_eq!(seen.borrow_and_update().limits.connections, 7);
        reload(&current, &reader()).await.unwrap();
        assert!(
            !seen.has_changed().unwrap(),
            "an unchanged file is no change"
        );
    }

    #[tokio::test]
    async fn a_bad_change_changes_nothing_and_is_refused_until_it_is_mended() {
        let folder = tempfile::tempdir().unwrap();
        let (path, current) = started(folder.path());
        let seen = current.subscribe();
        fs::write(
            &path,
            LEAST.to_owned() + "[limits]\nconnections = 7\nconnection = 8\n",
        )
        .unwrap();
        let rejected = reload(&current, &reader()).await.unwrap_err();
        assert!(matches!(rejected, Rejected::Wrong(_)));
        assert!(rejected.to_string().contains("limits.connection"));
        assert!(!seen.has_changed().unwrap());
        fs::write(&path, LEAST).unwrap();
        reload(&current, &reader()).await.unwrap();
    }

    #[tokio::test]
    async fn what_only_a_start_can_change_is_rejected_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let (path, current) = started(folder.path());
        let changed = LEAST
            .replace("holdover.sock", "other.sock")
            .replace("replica.db", "other.db");
        fs::write(&path, changed).unwrap();
        let Err(Rejected::Restart { keys, .. }) = reload(&current, &reader()).await else {
            panic!("applied")
        };
        assert_eq!(keys, ["replica", "listener"]);
    }

    #[tokio::test]
    async fn writing_replacing_and_removing_a_file_are_all_seen() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("secret_id");
        let mut watched = WatchedFiles::new(std::slice::from_ref(&file)).unwrap();
        type Step = fn(&Path);
        let steps: [Step; 4] = [
            |file| fs::write(file, "one").unwrap(),
            |file| fs::write(file, "two").unwrap(),
            |file| {
                fs::write(file.with_extension("new"), "three").unwrap();
                fs::rename(file.with_extension("new"), file).unwrap();
            },
            |file| fs::remove_file(file).unwrap(),
        ];
        for step in steps {
            step(&file);
            tokio::time::timeout(PATIENCE, watched.changed())
                .await
                .expect("the change was not seen");
        }
    }

    #[tokio::test]
    async fn other_files_and_reading_are_no_change() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("holdover.toml");
        fs::write(&file, "a").unwrap();
        let mut watched = WatchedFiles::new(std::slice::from_ref(&file)).unwrap();
        fs::write(folder.path().join("other"), "b").unwrap();
        fs::read(&file).unwrap();
        let seen = tokio::time::timeout(QUIET * 2, watched.changed()).await;
        assert!(seen.is_err());
    }
}
