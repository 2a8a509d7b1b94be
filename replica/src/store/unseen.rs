//! A note beside the replica that requests were passed on without it: the next start that opens it doubts what it says.

use std::{io, path::Path};

use crate::private::{self, PrivateError};

/// What the note's file is called, after the replica's.
const SUFFIX: &str = ".unseen";

/// Notes it durably, for the replica at `path`.
///
/// # Errors
/// If nothing can be written there.
pub fn note(path: &Path) -> Result<(), PrivateError> {
    match private::create(&private::beside(path, SUFFIX)) {
        Err(error) if !error.exists() => Err(error),
        _ => private::sync_parent(path),
    }
}

/// Whether it was noted. What cannot be looked at may be there.
pub fn is_noted(path: &Path) -> bool {
    match private::beside(path, SUFFIX).symlink_metadata() {
        Ok(_) => true,
        Err(error) => error.kind() != io::ErrorKind::NotFound,
    }
}

/// What was doubted is stored: the note goes.
///
/// # Errors
/// If it cannot be removed.
pub fn forget(path: &Path) -> Result<(), PrivateError> {
    let note = private::beside(path, SUFFIX);
    match std::fs::remove_file(&note).map_err(PrivateError::io(&note, "remove")) {
        Err(error) if error.is_missing() => Ok(()),
        removed => removed.and_then(|()| private::sync_parent(path)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_is_found_until_it_is_forgotten_and_may_be_made_twice() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("replica.db");
        assert!(!is_noted(&path));
        forget(&path).unwrap();
        note(&path).unwrap();
        note(&path).unwrap();
        assert!(is_noted(&path));
        forget(&path).unwrap();
        assert!(!is_noted(&path));
        assert!(note(&folder.path().join("not there/replica.db")).is_err());
    }
}
