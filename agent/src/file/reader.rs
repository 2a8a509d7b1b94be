//! Looks at files beside the threads that serve.
//!
//! One look at a time is at a path: what hangs is asked once, not over and over. Yet what hangs may hang for ever, while something
//! that does not is put in its place: so a look is given up, sooner where something was mounted since it began.

use std::{
    collections::BTreeMap,
    fs::File,
    path::{Path, PathBuf},
    sync::{Arc, mpsc},
    time::Duration,
};

use parking_lot::Mutex;
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::retry_on_intr,
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use super::{FileError, FileFault, PATIENCE};

/// A look that hangs is given up after this, one at the same path after twice as long, and so on: so threads that hang stay few
/// however long that lasts.
const GIVEN_UP: Duration = Duration::from_secs(60);

/// With so many looks at a path that hang, nothing that is mounted has one given up before its time.
const SOONER: usize = 8;

/// So many looks at a path hang at most: the last ones after days.
const AT_ONCE: usize = 20;

/// Looks at files, and waits for none longer than it has to. Cheap to clone; the paths are those that a configuration names.
#[derive(Clone)]
pub struct FileReader {
    places: Arc<Mutex<BTreeMap<PathBuf, LookedAt>>>,
    patience: Duration,
    given_up: Duration,
}

/// A path that is looked at.
struct LookedAt {
    /// For one look.
    turn: Arc<Semaphore>,
    /// Each look that did not end has one of it.
    out: Arc<()>,
    mounts: Mounts,
}

impl Default for FileReader {
    fn default() -> Self {
        Self {
            places: Arc::default(),
            patience: PATIENCE,
            given_up: GIVEN_UP,
        }
    }
}

impl FileReader {
    /// What comes of `look`, which is at `path` and nowhere else. One that hangs is left behind, and stands in the way of none at
    /// other paths.
    ///
    /// # Errors
    /// [`FileFault::Slow`].
    pub async fn look<T: Send + 'static>(
        &self,
        path: &Path,
        look: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, FileError> {
        let looked = tokio::time::timeout(self.patience, self.looked(path, look)).await;
        let looked = looked.ok().flatten();
        looked.ok_or_else(|| FileFault::Slow.at(path))
    }

    async fn looked<T: Send + 'static>(
        &self,
        path: &Path,
        look: impl FnOnce() -> T + Send + 'static,
    ) -> Option<T> {
        let turn = self.turn(path).acquire_owned().await.ok()?;
        let out = self.begin(path)?;
        // One of them is the place's own, and one this look's.
        let others = Arc::strong_count(&out).saturating_sub(2);
        let (tell, told) = oneshot::channel();
        let looking = tokio::task::spawn_blocking(move || {
            let looked = look();
            drop(out);
            // Whoever waited may be gone.
            let _ = tell.send(looked);
        });
        let within = self.given_up.saturating_mul(1 << others.min(AT_ONCE));
        tokio::spawn(keep(turn, looking, within));
        told.await.ok()
    }

    /// Where to wait for one's turn at `path`: anew where another look has it, and what it looks at may be covered by now.
    fn turn(&self, path: &Path) -> Arc<Semaphore> {
        let mut places = self.places.lock();
        let place = places.entry(path.to_owned()).or_insert_with(LookedAt::new);
        let is_taken = place.turn.available_permits() == 0;
        if is_taken && place.mounts.changed() && Arc::strong_count(&place.out) <= SOONER {
            place.turn = Arc::new(Semaphore::new(1));
        }
        Arc::clone(&place.turn)
    }

    /// What a look holds until it ends; none if too many did not.
    fn begin(&self, path: &Path) -> Option<Arc<()>> {
        let places = self.places.lock();
        let place = places.get(path)?;
        place.mounts.changed();
        (Arc::strong_count(&place.out) <= AT_ONCE).then(|| Arc::clone(&place.out))
    }
}

/// Keeps the `turn` of a look until it ends or is given up.
async fn keep(turn: OwnedSemaphorePermit, looking: tokio::task::JoinHandle<()>, within: Duration) {
    let _ = tokio::time::timeout(within, looking).await;
    drop(turn);
}

impl LookedAt {
    fn new() -> Self {
        Self {
            turn: Arc::new(Semaphore::new(1)),
            out: Arc::default(),
            mounts: Mounts::watched(),
        }
    }
}

/// What is mounted where, as far as it changes.
struct Mounts(Option<File>);

impl Mounts {
    fn watched() -> Self {
        Self(File::open("/proc/self/mountinfo").ok())
    }

    /// Whether something was mounted or taken away since this was last asked, as proc(5) has it told by poll(2). Costs a call.
    fn changed(&self) -> bool {
        let Some(table) = &self.0 else {
            return false;
        };
        let mut told = [PollFd::new(table, PollFlags::PRI)];
        let at_once = Timespec::default();
        retry_on_intr(|| poll(&mut told, Some(&at_once))).is_ok_and(|changed| changed > 0)
    }
}

/// The same before anything serves: the calling thread waits.
///
/// # Errors
/// [`FileFault::Slow`].
pub fn look_at_start<T: Send + 'static>(
    path: &Path,
    look: impl FnOnce() -> T + Send + 'static,
) -> Result<T, FileError> {
    let (tell, told) = mpsc::sync_channel(1);
    let looking = std::thread::Builder::new()
        .name("file".into())
        .spawn(move || tell.send(look()));
    let looked = looking.ok().and_then(|_| told.recv_timeout(PATIENCE).ok());
    looked.ok_or_else(|| FileFault::Slow.at(path))
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex as Lock;

    use super::*;

    const BRIEFLY: Duration = Duration::from_millis(20);

    fn reader(given_up: Duration) -> FileReader {
        FileReader {
            patience: BRIEFLY,
            given_up,
            ..FileReader::default()
        }
    }

    /// A look that hangs until the sender is dropped.
    fn hanging() -> (impl Fn() -> bool + Clone + Send, mpsc::Sender<()>) {
        let (go, gone) = mpsc::channel::<()>();
        let gone = Arc::new(Lock::new(gone));
        let look = move || gone.lock().map(|gone| gone.recv().is_err()).is_ok();
        (look, go)
    }

    fn out(reader: &FileReader, path: &Path) -> usize {
        Arc::strong_count(&reader.places.lock()[path].out) - 1
    }

    #[tokio::test]
    async fn what_hangs_is_asked_once_and_keeps_nobody_from_another_file() {
        let reader = reader(GIVEN_UP);
        let (hung, fine) = (Path::new("/hung"), Path::new("/fine"));
        let (look, go) = hanging();
        for _ in 0..20 {
            let told = reader.look(hung, look.clone()).await.unwrap_err();
            assert!(told.to_string().contains("/hung: could not be read within"));
        }
        assert_eq!(out(&reader, hung), 1);
        let patient = FileReader {
            patience: PATIENCE,
            ..reader
        };
        assert!(patient.look(fine, || true).await.unwrap());
        drop(go);
        assert!(patient.look(hung, || true).await.unwrap());
        assert_eq!(out(&patient, hung), 0);
    }

    /// As where a filesystem that answers was put over one that never will.
    #[tokio::test]
    async fn a_look_that_never_ends_is_given_up_and_the_next_one_is_told_what_is_there() {
        let reader = FileReader {
            patience: PATIENCE,
            ..reader(BRIEFLY)
        };
        let path = Path::new("/hung");
        let (look, _go) = hanging();
        let hung = tokio::spawn({
            let reader = reader.clone();
            async move { reader.look(path, look).await }
        });
        // It has its turn before the next one asks.
        while reader
            .places
            .lock()
            .get(path)
            .is_none_or(|place| Arc::strong_count(&place.out) < 2)
        {
            tokio::task::yield_now().await;
        }
        assert!(reader.look(path, || true).await.unwrap());
        assert_eq!(out(&reader, path), 1);
        hung.abort();
    }

    #[tokio::test]
    async fn those_that_hang_are_bounded_however_often_they_are_given_up() {
        let reader = reader(Duration::ZERO);
        let path = Path::new("/hung");
        let (look, go) = hanging();
        for _ in 0..2 * AT_ONCE {
            assert!(reader.look(path, look.clone()).await.is_err());
        }
        assert_eq!(out(&reader, path), AT_ONCE);
        drop(go);
        while out(&reader, path) > 0 {
            tokio::task::yield_now().await;
        }
        let patient = FileReader {
            patience: PATIENCE,
            ..reader
        };
        assert!(patient.look(path, || true).await.unwrap());
    }
}
