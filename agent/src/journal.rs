//! Sends the ledger to journald, so that what was delivered there need not be kept here.
//!
//! Entries go in their order, and count as delivered once the journal's socket has taken them and the replica has stored
//! that. After a crash between the two some are sent again: their number and MAC say that they are the same. journald
//! drops what one service says beyond 10,000 messages in 30 s, without a word to the sender, so no more than a part of
//! that is sent.

mod datagram;
mod sentence;

use std::{ffi::OsStr, io, path::PathBuf, time::Duration};

use replica::{
    ledger::{Chained, Head},
    sequencer::SubmitError,
};
use shared::backoff::Backoff;
use tokio::sync::{oneshot, watch};

use self::datagram::Journal;
use crate::local::Local;

/// Where journald listens.
const SOCKET: &str = "/run/systemd/journal/socket";

/// Names another place for it: in a container, where the host's is mounted.
const SOCKET_VARIABLE: &str = "HOLDOVER_JOURNAL";

/// Between looks at whether there are new entries.
const EVERY: Duration = Duration::from_secs(1);

/// Entries that are sent at one look: with what the log says beside, within what journald takes of one service.
const BATCH: usize = 256;

/// How entries get to journald now.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Delivery {
    /// Whether they are sent there.
    pub to_journald: bool,
    /// Why it did not take the last ones.
    pub untaken: Option<String>,
    /// Why the replica does not give them, or does not store which it took: those still count.
    pub unstored: Option<String>,
}

/// Why entries are not delivered.
#[derive(Debug, thiserror::Error)]
enum DeliverError {
    /// The journal's socket does not take them.
    #[error("its socket {}: {source}", path.display())]
    Journal {
        /// The socket.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The ledger is not read.
    #[error(transparent)]
    Replica(#[from] SubmitError),
}

/// What hindered one look at new entries. What the replica does is not told of journald: whoever is to mend it looks there.
#[derive(PartialEq, Eq, Default, Debug)]
struct Hindered {
    untaken: Option<String>,
    unstored: Option<String>,
}

impl Hindered {
    fn by(sent: Result<(), DeliverError>, stored: Result<(), SubmitError>) -> Self {
        let unstored = stored.err().map(|error| error.to_string());
        match sent {
            Ok(()) => Self {
                untaken: None,
                unstored,
            },
            Err(error @ DeliverError::Journal { .. }) => Self {
                untaken: Some(error.to_string()),
                unstored,
            },
            Err(DeliverError::Replica(error)) => Self {
                untaken: None,
                unstored: Some(error.to_string()),
            },
        }
    }

    fn is_news(&self, told: &Delivery) -> bool {
        (&self.untaken, &self.unstored) != (&told.untaken, &told.unstored)
    }

    fn log(&self, told: &Delivery) {
        if let Some(problem) = newly(&self.untaken, &told.untaken) {
            tracing::warn!(problem, "journald does not take the ledger's entries");
        }
        if let Some(problem) = newly(&self.unstored, &told.unstored) {
            tracing::warn!(
                problem,
                "what journald took of the ledger is not read or not stored"
            );
        }
    }

    fn tell(self, delivery: &mut Delivery) {
        (delivery.untaken, delivery.unstored) = (self.untaken, self.unstored);
    }
}

fn newly<'a>(now: &'a Option<String>, told: &Option<String>) -> Option<&'a str> {
    now.as_deref().filter(|_| now != told)
}

/// Whether standard error goes to the journal, as systemd's `JOURNAL_STREAM` names it.
pub fn is_standard_error() -> bool {
    let Ok(named) = std::env::var("JOURNAL_STREAM") else {
        return false;
    };
    rustix::fs::fstat(io::stderr())
        .is_ok_and(|found| named == format!("{}:{}", found.st_dev, found.st_ino))
}

/// Where entries are to be sent, if the daemon runs with journald.
pub fn socket() -> Option<PathBuf> {
    chosen(
        std::env::var_os(SOCKET_VARIABLE).as_deref(),
        is_standard_error(),
    )
}

fn chosen(named: Option<&OsStr>, logs_there: bool) -> Option<PathBuf> {
    match named.filter(|path| !path.is_empty()) {
        Some(path) => Some(path.into()),
        None => logs_there.then(|| SOCKET.into()),
    }
}

/// Sends entries to `socket` until the daemon stops, and tells how that goes.
pub async fn run(local: Local, socket: PathBuf, told: watch::Sender<Delivery>) {
    let mut courier = Courier {
        journal: Journal::at(socket),
        sent: 0,
        local,
    };
    let mut backoff = Backoff::PROBES;
    loop {
        let hindered = courier.deliver().await;
        let pause = match hindered == Hindered::default() {
            true => {
                backoff = Backoff::PROBES;
                EVERY
            }
            false => backoff.next(Backoff::EVEN),
        };
        let before = told.borrow().clone();
        if hindered.is_news(&before) {
            // Outside the lock, because a log can hang.
            hindered.log(&before);
            told.send_modify(|delivery| hindered.tell(delivery));
        }
        tokio::time::sleep(pause).await;
    }
}

/// The way of entries to journald.
struct Courier {
    local: Local,
    journal: Journal,
    /// The last entry that was sent, whether or not that could be stored.
    sent: u64,
}

impl Courier {
    /// Sends what is new, as much as may be sent at once.
    async fn deliver(&mut self) -> Hindered {
        let stats = self.local.sequencer.stats();
        let from = stats.ledger_delivered.max(self.sent).saturating_add(1);
        if stats.ledger.next <= from && self.sent <= stats.ledger_delivered {
            return Hindered::default();
        }
        let sent = match self.read(from, BATCH).await {
            Ok((entries, _)) => self.send(&entries).await,
            Err(SubmitError::Damaged) => self.pass_damaged(from).await,
            Err(error) => Err(error.into()),
        };
        Hindered::by(sent, self.remember().await)
    }

    async fn send(&mut self, entries: &[Chained]) -> Result<(), DeliverError> {
        for entry in entries {
            let sent = self.journal.send(&datagram::encoded(entry)).await;
            sent.map_err(|source| DeliverError::Journal {
                path: self.journal.path().to_owned(),
                source,
            })?;
            self.sent = entry.seq;
        }
        Ok(())
    }

    /// One of the next entries does not open: those before it are sent, and it is told.
    async fn pass_damaged(&mut self, from: u64) -> Result<(), DeliverError> {
        let mut next = from;
        loop {
            match self.read(next, 1).await {
                Ok((entries, head)) => {
                    self.send(&entries).await?;
                    next = self.sent.saturating_add(1);
                    if next >= head.next {
                        return Ok(());
                    }
                }
                Err(error @ SubmitError::Damaged) => {
                    tracing::error!(seq = next, %error, "an entry of the ledger is not sent to journald");
                    self.sent = next;
                    return Ok(());
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    async fn read(&self, from: u64, limit: usize) -> Result<(Vec<Chained>, Head), SubmitError> {
        let (done, read) = oneshot::channel();
        let done = move |result| drop(done.send(result));
        self.local.sequencer.read_ledger(from, limit, done);
        read.await.unwrap_or(Err(SubmitError::Stopped))
    }

    async fn remember(&self) -> Result<(), SubmitError> {
        let (done, stored) = oneshot::channel();
        let done = move |result| drop(done.send(result));
        self.local.sequencer.ledger_delivered(self.sent, done);
        stored.await.unwrap_or(Err(SubmitError::Stopped))
    }
}

#[cfg(test)]
mod tests;
