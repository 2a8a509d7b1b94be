//! In the place of a replica that cannot be opened: nothing is known and nothing is kept, so that requests are forwarded while
//! the primary answers, and everything is left to it while it does not.

use std::sync::Arc;

use rusqlite::{Error, Result, ffi};
use shared::settings::Settings;

use super::{
    AnchorState, FailStop, Location, OpenReport, Opened, Proof, Replica, Room, Storage, StoreError,
    Trimmed, fault::Remedy, header::Header, reserve::ReserveFile, schema::HeaderRow,
    writer::Writer,
};
use crate::{
    entropy::{Entropy, NoEntropy},
    key::{
        Keys,
        epoch::{Budget, Limits},
    },
    ledger::LedgerRow,
    private,
    seal::Sealed,
    table::At,
    view::View,
};

impl Replica {
    /// What stands in for a replica that cannot be opened, as long as it cannot. Its writer takes nothing, and says `why`.
    ///
    /// # Errors
    /// If there is no randomness.
    pub fn without(
        location: &Location,
        why: &str,
        settings: Arc<Settings>,
        entropy: Arc<dyn Entropy>,
    ) -> Result<Opened, NoEntropy> {
        let keys = Keys::ephemeral(&*entropy)?;
        let budget = Budget::fresh();
        let header = Header::fresh(budget.reserve(0));
        let (room, _) = Room::resume(None, &header.ledger, location.ledger_max);
        let writer = Writer {
            storage: FailStop::new(Box::new(Absent(why.into()))),
            reserve: ReserveFile::none(&location.path),
            keys: keys.clone(),
            entropy,
            budget,
            limits: Limits::default(),
            committed: header.clone(),
            header,
            tried: 0,
            durable: 0,
            kept: Vec::new(),
            anchor: None,
            anchored: 0,
            since_checkpoint: 0,
            folder: private::parent(&location.path).into(),
            cleanup: Vec::new(),
            failing: Some(StoreError::Unopened(why.into())),
            _lock: None,
        };
        let view = View::new(settings, keys);
        // Not to know a token is no reason to deny it.
        view.lose_everything();
        Ok(Opened {
            view: Arc::new(view),
            mark: None,
            phase: None,
            queue: Vec::new(),
            coverage: Vec::new(),
            report: OpenReport {
                generation: 0,
                rolled_back: false,
                anchor: AnchorState::Unset,
                values_lost: 0,
                values_changed: false,
                salvage: None,
                ledger_cut: false,
            },
            writer,
            room,
        })
    }
}

/// Nothing can be put anywhere.
struct Absent(String);

impl Absent {
    fn refuses<T>() -> Result<T> {
        let cannot_open = ffi::Error::new(ffi::SQLITE_CANTOPEN);
        Err(Error::SqliteFailure(cannot_open, None))
    }
}

impl Storage for Absent {
    fn put(&mut self, _: &At, _: &Sealed) -> Result<Option<u64>> {
        Self::refuses()
    }

    fn delete(&mut self, _: &At) -> Result<Option<u64>> {
        Self::refuses()
    }

    fn append(&mut self, _: &LedgerRow) -> Result<()> {
        Self::refuses()
    }

    fn trim(&mut self, _: u64) -> Result<Trimmed> {
        Self::refuses()
    }

    fn commit(&mut self, _: &HeaderRow) -> Result<()> {
        Self::refuses()
    }

    fn entries(&mut self, _: u64, _: usize) -> Result<Vec<LedgerRow>> {
        Self::refuses()
    }

    fn checkpoint(&mut self) -> Result<()> {
        Self::refuses()
    }

    fn drop_from(&mut self, _: u64) -> Result<u64> {
        Self::refuses()
    }

    fn roll_back(&mut self) -> Result<()> {
        Ok(())
    }

    /// Only a new start opens a replica.
    fn mend(&mut self, _: Remedy, _: &Proof<'_>) -> Result<(), StoreError> {
        Err(StoreError::Unopened(self.0.clone()))
    }
}
