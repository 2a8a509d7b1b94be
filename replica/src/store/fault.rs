//! What is wrong with the disk, by the numbers that SQLite and the system give, and what mends it.

use std::io;

use rusqlite::ffi;
use rustix::io::Errno;

use super::{CreateError, StoreError};
use crate::private::PrivateError;

/// What is wrong with the disk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Fault {
    /// The file is not what was written to it.
    Corrupt,
    /// There is no room, or no more of a quota.
    Full,
    /// It could not be read.
    Read,
    /// It must not be written to: the mount is read-only, or its owner or mode are others.
    ReadOnly,
    /// What was written may never have reached the disk, and the kernel says so once only.
    Sync,
    /// It could not be opened when the daemon started.
    Unopened,
    /// It could not be written.
    Write,
    /// It is not the disk's: no randomness, no memory, another process.
    Other,
}

/// What makes a store good again after a fault.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Remedy {
    /// A copy to a new file, each row proven: what lies in the old one, and in the kernel's pages of it, may be lost.
    Copy,
    /// The same file is tried again: what failed was undone, and what was acknowledged is there.
    InPlace,
    /// The same, after it was opened anew: what was opened when it must not be written to never can be.
    Reopen,
}

impl Fault {
    /// What SQLite's error says.
    pub(crate) fn of(error: &rusqlite::Error) -> Self {
        let Some(error) = error.sqlite_error() else {
            return Self::Other;
        };
        match error.extended_code {
            ffi::SQLITE_IOERR_FSYNC | ffi::SQLITE_IOERR_DIR_FSYNC => Self::Sync,
            // What must not be written to is opened for reading, and cannot be locked then.
            ffi::SQLITE_IOERR_LOCK => Self::ReadOnly,
            ffi::SQLITE_IOERR_READ | ffi::SQLITE_IOERR_SHORT_READ => Self::Read,
            code => match code & PRIMARY {
                ffi::SQLITE_CANTOPEN | ffi::SQLITE_READONLY | ffi::SQLITE_PERM => Self::ReadOnly,
                ffi::SQLITE_CORRUPT | ffi::SQLITE_NOTADB => Self::Corrupt,
                ffi::SQLITE_FULL => Self::Full,
                ffi::SQLITE_IOERR => Self::Write,
                _ => Self::Other,
            },
        }
    }

    /// What the system's error says of a file that was to be written.
    pub(crate) fn of_io(error: &io::Error) -> Self {
        match Errno::from_io_error(error) {
            Some(Errno::NOSPC | Errno::DQUOT | Errno::FBIG) => Self::Full,
            Some(Errno::ROFS | Errno::ACCESS | Errno::PERM) => Self::ReadOnly,
            Some(_) => Self::Write,
            None => Self::Other,
        }
    }

    pub(crate) fn of_private(error: &PrivateError) -> Self {
        match error {
            PrivateError::Io { source, .. } => Self::of_io(source),
            _ => Self::Other,
        }
    }

    /// What mends it.
    pub(crate) fn remedy(self) -> Remedy {
        match self {
            Self::Corrupt | Self::Read | Self::Sync => Remedy::Copy,
            Self::Full | Self::Other | Self::Write => Remedy::InPlace,
            Self::ReadOnly | Self::Unopened => Remedy::Reopen,
        }
    }

    /// As people are told it.
    pub(crate) fn says(self) -> &'static str {
        match self {
            Self::Corrupt => "the file is damaged",
            Self::Full => "the disk is full",
            Self::Other => "it failed",
            Self::Read => "the disk cannot be read",
            Self::ReadOnly => "it may not be written to",
            Self::Sync => "the disk did not keep what was written",
            Self::Unopened => "it cannot be opened",
            Self::Write => "the disk cannot be written",
        }
    }
}

/// Whether an error proves that the file itself is damaged: SQLite says so, a table is missing, or what was read is nothing
/// that was ever written. Whatever may pass proves nothing: a disk that cannot be read, no memory, no descriptor, no right.
pub(crate) fn is_damage(error: &rusqlite::Error) -> bool {
    use rusqlite::Error;
    match error {
        Error::SqliteFailure(..) => Fault::of(error) == Fault::Corrupt || is_missing(error),
        Error::FromSqlConversionFailure(..)
        | Error::IntegralValueOutOfRange(..)
        | Error::InvalidColumnType(..)
        | Error::QueryReturnedNoRows => true,
        _ => is_missing(error),
    }
}

/// Whether a table or a column is not there: SQLite has no number of its own for that.
pub(crate) fn is_missing(error: &rusqlite::Error) -> bool {
    match error {
        rusqlite::Error::SqliteFailure(_, Some(text)) => text.starts_with("no such "),
        rusqlite::Error::SqlInputError { msg, .. } => msg.starts_with("no such "),
        _ => false,
    }
}

impl StoreError {
    /// What is wrong.
    pub(crate) fn fault(&self) -> Fault {
        match self {
            Self::Create(error) => error.fault(),
            Self::Anchor(error) | Self::Copy(error) | Self::Reserve(error) => {
                Fault::of_private(error)
            }
            Self::Database { source, .. } => Fault::of(source),
            Self::NoRoom => Fault::Full,
            Self::Opening(_) => Fault::Corrupt,
            Self::Unopened(_) => Fault::Unopened,
            Self::Busy(_)
            | Self::Changed
            | Self::ReserveFull
            | Self::Sealing(_)
            | Self::Stopped => Fault::Other,
        }
    }
}

impl CreateError {
    /// Whether it can be tried again: the place must not be written to, or has no room.
    pub fn is_unwritable(&self) -> bool {
        matches!(
            self.fault(),
            Fault::Full | Fault::ReadOnly | Fault::Sync | Fault::Write
        )
    }

    fn fault(&self) -> Fault {
        match self {
            Self::Database { source, .. } => Fault::of(source),
            Self::Private(error) => Fault::of_private(error),
            Self::Store(error) => error.fault(),
            _ => Fault::Other,
        }
    }
}

/// The bits of an extended code that are its primary one.
const PRIMARY: i32 = 0xff;

#[cfg(test)]
mod tests {
    use super::*;

    fn sqlite(code: i32) -> Fault {
        Fault::of(&rusqlite::Error::SqliteFailure(ffi::Error::new(code), None))
    }

    #[test]
    fn what_a_failed_sync_left_is_never_trusted_and_a_full_disk_is_tried_again() {
        for code in [
            ffi::SQLITE_IOERR_FSYNC,
            ffi::SQLITE_IOERR_DIR_FSYNC,
            ffi::SQLITE_IOERR_SHORT_READ,
            ffi::SQLITE_CORRUPT,
        ] {
            assert_eq!(sqlite(code).remedy(), Remedy::Copy, "{code}");
        }
        for (code, fault) in [
            (ffi::SQLITE_FULL, Fault::Full),
            (ffi::SQLITE_READONLY_DBMOVED, Fault::ReadOnly),
            (ffi::SQLITE_READONLY, Fault::ReadOnly),
            (ffi::SQLITE_IOERR_LOCK, Fault::ReadOnly),
            (ffi::SQLITE_CANTOPEN, Fault::ReadOnly),
            (ffi::SQLITE_IOERR_WRITE, Fault::Write),
            (ffi::SQLITE_NOMEM, Fault::Other),
        ] {
            assert_eq!(sqlite(code), fault, "{code}");
            assert_ne!(fault.remedy(), Remedy::Copy);
        }
    }

    #[test]
    fn only_what_cannot_pass_proves_damage() {
        let failed = |code| rusqlite::Error::SqliteFailure(ffi::Error::new(code), None);
        for code in [
            ffi::SQLITE_CORRUPT,
            ffi::SQLITE_CORRUPT_INDEX,
            ffi::SQLITE_NOTADB,
        ] {
            assert!(is_damage(&failed(code)), "{code}");
        }
        assert!(is_damage(&rusqlite::Error::QueryReturnedNoRows));
        for code in [
            ffi::SQLITE_BUSY,
            ffi::SQLITE_CANTOPEN,
            ffi::SQLITE_FULL,
            ffi::SQLITE_INTERRUPT,
            ffi::SQLITE_IOERR,
            ffi::SQLITE_IOERR_CORRUPTFS,
            ffi::SQLITE_IOERR_DATA,
            ffi::SQLITE_IOERR_NOMEM,
            ffi::SQLITE_IOERR_READ,
            ffi::SQLITE_IOERR_SHORT_READ,
            ffi::SQLITE_LOCKED,
            ffi::SQLITE_NOMEM,
            ffi::SQLITE_PERM,
            ffi::SQLITE_READONLY,
        ] {
            assert!(!is_damage(&failed(code)), "{code}");
        }
    }

    #[test]
    fn a_quota_is_a_full_disk_and_a_file_of_another_is_not_to_be_written() {
        let of = |errno: Errno| Fault::of_io(&errno.into());
        assert_eq!([Errno::NOSPC, Errno::DQUOT].map(of), [Fault::Full; 2]);
        assert_eq!([Errno::ROFS, Errno::ACCESS].map(of), [Fault::ReadOnly; 2]);
        assert_eq!(of(Errno::IO), Fault::Write);
        assert_eq!(Fault::of_io(&io::Error::other("no number")), Fault::Other);
    }
}
