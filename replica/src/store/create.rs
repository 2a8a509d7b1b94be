//! Making a replica: under another name, and renamed when it is whole.

use std::{fs, path::Path};

use rustix::fs::{CWD, RenameFlags, renameat_with};

use super::{
    CreateError, FailStop, Location, Replica, StoreError, anchor::Anchor, header::Header, lock,
    schema::Database,
};
use crate::{
    entropy::Entropy,
    key::{
        Keys, ReplicaId, RootKey, Sealer,
        epoch::{Budget, Reserve},
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
        make(&new, source, Header::fresh, entropy)?;
        match renameat_with(CWD, &new, CWD, path, RenameFlags::NOREPLACE) {
            Ok(()) => Ok(private::sync_parent(path)?),
            Err(_) => {
                let _ = fs::remove_file(&new);
                Err(CreateError::Exists(path.clone()))
            }
        }
    }
}

/// Makes an empty one at `new`, where nothing is and nobody looks for one, with the `first` header.
pub(super) fn make(
    new: &Path,
    source: &Source,
    first: impl FnOnce(Reserve) -> Header,
    entropy: &dyn Entropy,
) -> Result<(), CreateError> {
    let id = ReplicaId::random(entropy)?;
    let root = RootKey::random(entropy)?;
    let slot = Slot::wrap(1, source, &root, id, entropy)?;
    drop(private::create(new)?);
    let formatted = Database::open(new).and_then(|mut database| {
        database.format(id, &[slot])?;
        Ok(database)
    });
    let database = formatted.map_err(|source| CreateError::Database {
        path: new.into(),
        source,
    })?;
    let budget = Budget::fresh();
    let header = first(budget.reserve(0));
    let keys = Keys::derive(root, id, budget.epoch());
    Ok(first_commit(database, header, budget, &keys, entropy)?)
}

fn first_commit(
    database: Database,
    mut header: Header,
    mut budget: Budget,
    keys: &Keys,
    entropy: &dyn Entropy,
) -> Result<(), StoreError> {
    header.generation = 1;
    let mut sealer = Sealer {
        keys,
        budget: &mut budget,
        entropy,
    };
    FailStop::new(Box::new(database)).commit(&header.seal(&mut sealer)?)
}
