//! Making a replica: under another name, and renamed when it is whole.

use std::fs;

use rustix::fs::{CWD, RenameFlags, renameat_with};

use super::{
    CreateError, FailStop, Location, Replica, StoreError, anchor::Anchor, header::Header, lock,
    schema::Database,
};
use crate::{
    entropy::Entropy,
    key::{
        Keys, ReplicaId, RootKey, Sealer,
        epoch::Budget,
        slot::{Slot, Source},
    },
    private,
};

impl Replica {
    /// Makes a replica at a place where there is none, with one key slot. Its directory is made with mode 0700 if
    /// missing.
    ///
    /// # Errors
    /// If one is there, or was there according to the anchor, or if it cannot be made.
    pub fn create(
        location: &Location,
        source: &Source,
        entropy: &dyn Entropy,
    ) -> Result<(), CreateError> {
        let path = &location.path;
        if let Some(anchor) = &location.anchor
            && Anchor::at(anchor).exists()
        {
            return Err(CreateError::Anchored(anchor.clone()));
        }
        private::directory(private::parent(path))?;
        let _lock = lock(path)?.ok_or_else(|| CreateError::Busy(path.clone()))?;
        // Made under another name, so that a crash leaves no half of a replica.
        let new = private::beside(path, ".new");
        for leftover in ["", "-wal", "-journal"] {
            let _ = fs::remove_file(private::beside(&new, leftover));
        }
        let id = ReplicaId::random(entropy)?;
        let root = RootKey::random(entropy)?;
        let slot = Slot::wrap(1, source, &root, id, entropy)?;
        drop(private::create(&new)?);
        let formatted = Database::open(&new).and_then(|mut database| {
            database.format(id, &[slot])?;
            Ok(database)
        });
        let database = formatted.map_err(|source| CreateError::Database {
            path: path.clone(),
            source,
        })?;
        first_commit(database, root, id, entropy)?;
        match renameat_with(CWD, &new, CWD, path, RenameFlags::NOREPLACE) {
            Ok(()) => Ok(private::sync_parent(path)?),
            Err(_) => {
                let _ = fs::remove_file(&new);
                Err(CreateError::Exists(path.clone()))
            }
        }
    }
}

fn first_commit(
    database: Database,
    root: RootKey,
    id: ReplicaId,
    entropy: &dyn Entropy,
) -> Result<(), StoreError> {
    let mut budget = Budget::fresh();
    let keys = Keys::derive(root, id, budget.epoch());
    let mut header = Header::fresh(budget.reserve(0));
    header.generation = 1;
    let mut sealer = Sealer {
        keys: &keys,
        budget: &mut budget,
        entropy,
    };
    FailStop::new(Box::new(database)).commit(&header.seal(&mut sealer)?)
}
