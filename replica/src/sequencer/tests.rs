//! A sequencer whose storage can be held and made to fail.

use std::{
    collections::HashMap,
    fs,
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc::{self, Receiver, Sender},
    },
    time::Duration,
};

use shared::{
    change::{PhaseRecord, Pooled},
    failover::Phase,
    grant::RevokeCause,
    lease::{Assignee, Lease, LeaseHolder},
    ledger::{Entry, EntryKind},
    name::LeaseId,
    offboarding::Offboarded,
    secret::SecretBytes,
};

use super::*;
use crate::{
    ledger::{LedgerRow, verify},
    private,
    samples::{self, T0, digest, grant, granted, now, outage, revoked},
    seal::Sealed,
    store::{
        AnchorState, FailStop, Proof, Storage, StoreError, Trimmed,
        fault::Remedy,
        schema::HeaderRow,
        tests::{Home, wait},
        writer::Writer,
    },
    table::At,
};

mod blocks;
mod doubts;
mod failing;
mod lanes;
mod relied;
mod spool;
mod stage;
mod unchanged;

/// Storage that asks before each call.
struct Asking<A> {
    inner: Box<dyn Storage>,
    ask: A,
    /// SQLite's extended code of a call that fails.
    code: i32,
}

/// The calls that change the disk, in the order of one commit.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Call {
    Put,
    Delete,
    Append,
    Trim,
    Commit,
    Checkpoint,
    Mend,
}

impl<A: FnMut(Call) -> bool + Send> Asking<A> {
    fn ask(&mut self, call: Call) -> rusqlite::Result<()> {
        match (self.ask)(call) {
            true => Ok(()),
            false => Err(rusqlite::Error::SqliteFailure(
                rusqlite::ffi::Error::new(self.code),
                None,
            )),
        }
    }
}

impl<A: FnMut(Call) -> bool + Send> Storage for Asking<A> {
    fn put(&mut self, at: &At, sealed: &Sealed) -> rusqlite::Result<Option<u64>> {
        self.ask(Call::Put)?;
        self.inner.put(at, sealed)
    }

    fn delete(&mut self, at: &At) -> rusqlite::Result<Option<u64>> {
        self.ask(Call::Delete)?;
        self.inner.delete(at)
    }

    fn append(&mut self, row: &LedgerRow) -> rusqlite::Result<()> {
        self.ask(Call::Append)?;
        self.inner.append(row)
    }

    fn trim(&mut self, below: u64) -> rusqlite::Result<Trimmed> {
        self.ask(Call::Trim)?;
        self.inner.trim(below)
    }

    fn commit(&mut self, header: &HeaderRow) -> rusqlite::Result<()> {
        self.ask(Call::Commit)?;
        self.inner.commit(header)
    }

    fn entries(&mut self, from: u64, limit: usize) -> rusqlite::Result<Vec<LedgerRow>> {
        self.inner.entries(from, limit)
    }

    fn checkpoint(&mut self) -> rusqlite::Result<()> {
        self.ask(Call::Checkpoint)?;
        self.inner.checkpoint()
    }

    fn drop_from(&mut self, from: u64) -> rusqlite::Result<u64> {
        self.inner.drop_from(from)
    }

    fn roll_back(&mut self) -> rusqlite::Result<()> {
        self.inner.roll_back()
    }

    fn mend(&mut self, remedy: Remedy, proof: &Proof<'_>) -> Result<(), StoreError> {
        let action = "mend it";
        self.ask(Call::Mend)
            .map_err(|source| StoreError::Database { action, source })?;
        self.inner.mend(remedy, proof)
    }
}

/// A sequencer whose storage asks `ask` before each call: `false` fails it.
fn asking(home: &Home, ask: impl FnMut(Call) -> bool + Send + 'static) -> Sequencer {
    asking_with(home, rusqlite::ffi::SQLITE_FULL, ask)
}

/// The same, failing with SQLite's extended code.
fn asking_with(
    home: &Home,
    code: i32,
    ask: impl FnMut(Call) -> bool + Send + 'static,
) -> Sequencer {
    let mut opened = home.open();
    let inner = opened.writer.storage.inner;
    opened.writer = Writer {
        storage: FailStop::new(Box::new(Asking { inner, ask, code })),
        ..opened.writer
    };
    opened.start(|| now(1)).unwrap()
}

/// Holds the writer inside a commit until it is let go.
struct Held {
    sequencer: Sequencer,
    inside: Receiver<()>,
    go: Sender<()>,
}

impl Held {
    fn new(home: &Home) -> Self {
        let (entered, inside) = mpsc::channel();
        let (go, gone) = mpsc::channel::<()>();
        let sequencer = asking(home, move |call| {
            if call == Call::Commit {
                let _ = entered.send(());
                let _ = gone.recv_timeout(Duration::from_secs(10));
            }
            true
        });
        Self {
            sequencer,
            inside,
            go,
        }
    }

    /// The writer is in a commit of `changes` afterwards.
    fn enter(&self, lane: Lane, changes: Vec<Change>, expects: Expects) -> Answer {
        let answer = submit(&self.sequencer, lane, changes, expects);
        self.inside.recv_timeout(Duration::from_secs(10)).unwrap();
        answer
    }

    /// Lets this commit and `more` go.
    fn release(&self, more: usize) {
        (0..=more).for_each(|_| self.go.send(()).unwrap());
    }
}

type Answer = Receiver<Result<(), SubmitError>>;

fn submit(sequencer: &Sequencer, lane: Lane, changes: Vec<Change>, expects: Expects) -> Answer {
    let (done, answer) = mpsc::channel();
    sequencer.submit(lane, changes, expects, move |result| {
        let _ = done.send(result);
    });
    answer
}

fn got(answer: &Answer) -> Result<(), SubmitError> {
    answer.recv_timeout(Duration::from_secs(10)).unwrap()
}

fn live(parents: &[u64]) -> Expects {
    Expects {
        live: parents.iter().map(|n| digest(*n)).collect(),
        ..Expects::default()
    }
}

fn issues() -> Expects {
    Expects {
        issues: true,
        ..Expects::default()
    }
}

fn nothing() -> Expects {
    Expects::default()
}

fn said(kind: EntryKind) -> Change {
    Change::Ledger(Box::new(Entry::new(kind, "allowed", T0)))
}

/// Every entry of the ledger, proven.
fn ledger(home: &Home) -> Vec<Chained> {
    let sequencer = home.start();
    let (entries, head) = read(&sequencer, 0, 10_000);
    verify(sequencer.view().keys(), &head, &entries).unwrap();
    sequencer.stop();
    entries
}

fn read(sequencer: &Sequencer, from: u64, limit: usize) -> (Vec<Chained>, Head) {
    let (done, answer) = mpsc::channel();
    sequencer.read_ledger(from, limit, move |read| done.send(read).unwrap());
    answer.recv().unwrap().unwrap()
}
