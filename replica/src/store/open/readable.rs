//! The file that is read: the replica itself, a copy of it in memory where it must not be written to, or one that is yet to be
//! made; and by which key.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
};

use super::super::{
    CreateError, Location, OpenError, Replica, StoreError,
    anchor::Anchor,
    aside::Aside,
    copy,
    fault::Fault,
    header::Header,
    lock,
    schema::{Database, Recognised},
};
use crate::{
    entropy::Entropy,
    key::{
        Keys, ReplicaId, RootKey,
        slot::{Slot, Source},
    },
    private::{self, PrivateError},
};

/// A replica that can be read.
pub(super) struct Readable {
    pub(super) database: Database,
    pub(super) keys: Keys,
    pub(super) header: Header,
    /// Why the file itself cannot be used, if this is a copy of it in memory.
    pub(super) failing: Option<StoreError>,
    /// All of the file, where it has yet to be made.
    pub(super) made: Option<Vec<u8>>,
    /// Where it lies.
    pub(super) lies: PathBuf,
    /// Where the copy is. It goes with this.
    pub(super) _aside: Option<Aside>,
}

/// The replica, or a copy of it where it must not be written to.
pub(super) fn readable(
    path: &Path,
    sources: &[Source],
    entropy: &dyn Entropy,
) -> Result<Readable, OpenError> {
    let opened = match copy::finish(path) {
        Ok(()) => proven(path, path, sources),
        Err(error) => return from_aside(&copy::whole(path), path, sources, entropy, error),
    };
    match opened {
        Ok((database, keys, header)) => Ok(Readable {
            database,
            keys,
            header,
            failing: None,
            made: None,
            lies: path.into(),
            _aside: None,
        }),
        Err(OpenError::Damaged { source, .. }) if is_unwritable(&source) => {
            let action = "open the file for writing";
            let failing = StoreError::Database { action, source };
            from_aside(path, path, sources, entropy, failing)
        }
        Err(error) => Err(error),
    }
}

/// A copy in memory of the file `at`, which is the replica at `path`.
fn from_aside(
    at: &Path,
    path: &Path,
    sources: &[Source],
    entropy: &dyn Entropy,
    failing: StoreError,
) -> Result<Readable, OpenError> {
    let aside = Aside::of(at, entropy)?;
    let (database, keys, header) = proven(&aside.replica(), path, sources)?;
    Ok(Readable {
        database,
        keys,
        header,
        failing: Some(failing),
        made: None,
        lies: aside.replica(),
        _aside: Some(aside),
    })
}

/// A replica that is made in memory.
pub(super) fn unmade(
    location: &Location,
    sources: &[Source],
    entropy: &dyn Entropy,
    why: CreateError,
) -> Result<Readable, OpenError> {
    let aside = Aside::folder(entropy)?;
    let there = Location {
        path: aside.replica(),
        anchor: None,
        ..location.clone()
    };
    let made = |error: CreateError| OpenError::Unmade(Box::new(error));
    let Some(source) = sources.first() else {
        return Err(made(why));
    };
    Replica::create(&there, source, entropy).map_err(made)?;
    let bytes = fs::read(&there.path).map_err(PrivateError::io(&there.path, "read"))?;
    let (database, keys, header) = proven(&there.path, &location.path, sources)?;
    Ok(Readable {
        database,
        keys,
        header,
        failing: Some(StoreError::Create(Box::new(why))),
        made: Some(bytes),
        lies: there.path,
        _aside: Some(aside),
    })
}

/// Whether that can come of a file, a folder or a mount that must not be written to, or has no room.
fn is_unwritable(error: &rusqlite::Error) -> bool {
    matches!(
        Fault::of(error),
        Fault::Full | Fault::ReadOnly | Fault::Write
    )
}

/// The file at `path`, its keys, and the header of its last commit. Errors name it as `named`.
fn proven(
    path: &Path,
    named: &Path,
    sources: &[Source],
) -> Result<(Database, Keys, Header), OpenError> {
    let database = Database::open(path).map_err(unreadable(named))?;
    match database.recognise().map_err(unreadable(named))? {
        Recognised::Ours => {}
        Recognised::Newer(found) => {
            let path = named.into();
            return Err(OpenError::Newer { path, found });
        }
        Recognised::Other if is_empty(path) => return Err(OpenError::NotADatabase(named.into())),
        Recognised::Other => return Err(OpenError::Other(named.into())),
    }
    if !database.has_tables().map_err(unreadable(named))? {
        return Err(OpenError::Incomplete(named.into()));
    }
    let id = database.id().map_err(unreadable(named))?;
    let slots = database.slots().map_err(unreadable(named))?;
    let root = unlock(named, &slots, sources, id)?;
    let row = database.header().map_err(unreadable(named))?;
    let keys = Keys::derive(root, id, row.sealed.epoch);
    match Header::open(&keys, &row) {
        Some(header) => Ok((database, keys, header)),
        None => Err(OpenError::Header(named.into())),
    }
}

/// Whether nothing is left of it.
fn is_empty(path: &Path) -> bool {
    path.metadata().is_ok_and(|file| file.len() == 0)
}

/// The replica's lock, once the file is known to be there and fit.
pub(super) fn present(location: &Location) -> Result<File, OpenError> {
    let path = &location.path;
    if let Err(error) = path.symlink_metadata()
        && error.kind() == std::io::ErrorKind::NotFound
    {
        let anchor = location.anchor.as_deref().map(Anchor::at);
        return Err(OpenError::Missing {
            path: path.clone(),
            anchored: anchor.is_some_and(|anchor| anchor.exists()),
        });
    }
    private::directory(private::parent(path))?;
    let lock = lock(path)?.ok_or_else(|| OpenError::Busy(path.clone()))?;
    drop(private::open(path)?);
    Ok(lock)
}

/// The root key, by the first of these sources that opens a slot.
pub(in crate::store) fn unlock(
    path: &Path,
    slots: &[Slot],
    sources: &[Source],
    id: ReplicaId,
) -> Result<RootKey, OpenError> {
    let mut reasons = Vec::new();
    for source in sources {
        let key = match source.read() {
            Ok(key) => key,
            Err(error) => {
                reasons.push(error.to_string());
                continue;
            }
        };
        let fitting = slots.iter().filter(|slot| slot.kind == source.kind());
        match fitting
            .map(|slot| slot.unwrap(&key, id))
            .find_map(Result::ok)
        {
            Some(root) => return Ok(root),
            None => reasons.push(format!("{source} belongs to another replica")),
        }
    }
    Err(OpenError::Key {
        path: path.into(),
        reasons,
    })
}

/// What SQLite's error says of the file.
pub(in crate::store) fn unreadable(path: &Path) -> impl FnOnce(rusqlite::Error) -> OpenError {
    use rusqlite::ErrorCode::{DatabaseBusy, DatabaseLocked, NotADatabase};
    |source| {
        let path = path.into();
        match source.sqlite_error_code() {
            Some(DatabaseBusy | DatabaseLocked) => OpenError::Busy(path),
            Some(NotADatabase) => OpenError::NotADatabase(path),
            _ => OpenError::Damaged { path, source },
        }
    }
}
