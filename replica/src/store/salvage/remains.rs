//! What remains of a damaged file of which it can be read whose it is: as it lies, or with a first page that is like its own was.

use std::{fs, io, os::unix::fs::FileExt as _, path::Path};

use rusqlite::Result;

use super::place::Scratch;
use crate::{
    key::{
        ReplicaId, RootKey,
        slot::{Slot, Source},
    },
    private::{self, PrivateError},
    store::{
        OpenError,
        fault::is_damage,
        open::{unlock, unreadable},
        schema::{Database, Recognised},
    },
};

/// SQLite's pages, in bytes, as every replica has them.
const PAGE: usize = 4096;

/// What remains of a damaged file, and its key.
pub(super) struct Remains {
    pub(super) old: Database,
    pub(super) id: ReplicaId,
    pub(super) slots: Vec<Slot>,
    pub(super) root: RootKey,
    /// What is read instead of the file itself. Behind what reads it, so that it goes after that.
    _scratch: Option<Scratch>,
}

impl Remains {
    /// The one at `path`. None if it does not say which replica it is.
    pub(super) fn of(path: &Path, sources: &[Source]) -> Result<Option<Self>, OpenError> {
        let (identity, scratch) = match Identity::of(path, path)? {
            Some(identity) => (Some(identity), None),
            None => {
                let scratch = with_first_page(path)?;
                (Identity::of(scratch.path(), path)?, Some(scratch))
            }
        };
        let Some(Identity { old, id, slots }) = identity else {
            return Ok(None);
        };
        let root = unlock(path, &slots, sources, id)?;
        Ok(Some(Self {
            old,
            id,
            slots,
            root,
            _scratch: scratch,
        }))
    }
}

struct Identity {
    old: Database,
    id: ReplicaId,
    slots: Vec<Slot>,
}

impl Identity {
    /// What the file `at` says, which is the replica at `named` or a likeness of it. None if it is too damaged for that.
    fn of(at: &Path, named: &Path) -> Result<Option<Self>, OpenError> {
        match Self::read(at) {
            Ok(identity) => Ok(identity),
            Err(error) if is_damage(&error) => Ok(None),
            Err(error) => Err(unreadable(named)(error)),
        }
    }

    fn read(at: &Path) -> Result<Option<Self>> {
        let old = Database::open_damaged(at)?;
        if !matches!(old.recognise()?, Recognised::Ours) {
            return Ok(None);
        }
        let (id, slots) = (old.id()?, old.slots()?);
        Ok((!slots.is_empty()).then_some(Self { old, id, slots }))
    }
}

/// The file at `path` with the first page that it had when it was made: all that is in there is the schema, and every replica is
/// made alike. What lies behind is proven by the keys alone.
fn with_first_page(path: &Path) -> Result<Scratch, OpenError> {
    let scratch = Scratch::beside(path, ".grafted")?;
    let first = first_page(scratch.path()).map_err(unreadable(path))??;
    scratch.remove()?;
    for log in ["", "-wal"] {
        let (from, to) = (
            private::beside(path, log),
            private::beside(scratch.path(), log),
        );
        match private::open(&from) {
            Err(error) if error.is_missing() => {}
            Err(error) => return Err(error.into()),
            Ok(mut source) => io::copy(&mut source, &mut private::create(&to)?)
                .map(drop)
                .map_err(PrivateError::io(&to, "write"))?,
        }
    }
    private::open_writable(scratch.path())?
        .write_all_at(&first, 0)
        .map_err(PrivateError::io(scratch.path(), "write"))?;
    Ok(scratch)
}

/// That of a replica that is made at `path` for this.
fn first_page(path: &Path) -> Result<Result<Vec<u8>, PrivateError>> {
    let made = match private::create(path) {
        Ok(made) => made,
        Err(error) => return Ok(Err(error)),
    };
    Database::open(path)?.format(ReplicaId([0; 16]), &[])?;
    let mut page = vec![0; PAGE];
    let read = made.read_exact_at(&mut page, 0);
    for (at, byte) in page.iter_mut().enumerate() {
        match at {
            // Commits are in a log.
            18 | 19 => *byte = 2,
            // The file is as long as it is.
            28..32 => *byte = 0,
            _ => {}
        }
    }
    drop(made);
    Ok(read
        .and_then(|()| fs::metadata(path).map(|_| page))
        .map_err(PrivateError::io(path, "read")))
}
