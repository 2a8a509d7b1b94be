//! Files that something else puts in place: credentials, certificates, the configuration.
//!
//! What lies there may be a pipe, a folder, a socket, endless, or on a filesystem that hangs. It is looked at and read so that
//! nothing of that holds anything up but the file's own reader, and is told with the path and what to do.

pub mod exposed;
mod reader;

use std::{
    fs::{File, FileType, Metadata, OpenOptions},
    io::{self, Read as _},
    os::unix::fs::{FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    time::Duration,
};

use rustix::{fs::OFlags, io::Errno};
use shared::{
    credential::{self, TextFault},
    secret::SecretText,
};
use zeroize::Zeroizing;

pub use self::reader::{FileReader, look_at_start};

/// The longest credential that is read, in bytes.
const CREDENTIAL: u64 = 64 << 10;

/// A file that is not read within this is left alone for now.
const PATIENCE: Duration = Duration::from_secs(5);

/// A file that cannot be used, and why. Nothing of its content is told.
#[derive(Debug, thiserror::Error)]
#[error("{}: {fault}", path.display())]
pub struct FileError {
    /// The file.
    pub path: PathBuf,
    /// What is wrong with it.
    pub fault: FileFault,
}

/// What is wrong with a file, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum FileFault {
    /// The system refused.
    #[error("cannot be read: {0}{remedy}", remedy = remedy(.0))]
    Io(io::Error),
    /// It is no regular file.
    #[error("is {0}, not a regular file; put the file itself there")]
    Kind(&'static str),
    /// It is too long to be what it is to be.
    #[error("is longer than {0} bytes")]
    Long(u64),
    /// It was not read in time.
    #[error("could not be read within {} s; see whether its filesystem hangs", PATIENCE.as_secs())]
    Slow,
    /// What is in it is not what belongs there.
    #[error(transparent)]
    Text(#[from] TextFault),
}

impl FileFault {
    /// The error of the file at `path`.
    pub fn at(self, path: &Path) -> FileError {
        FileError {
            path: path.to_owned(),
            fault: self,
        }
    }
}

fn remedy(source: &io::Error) -> String {
    match source.kind() {
        io::ErrorKind::PermissionDenied => {
            let uid = rustix::process::geteuid().as_raw();
            format!("; let uid {uid} read it and search the folders above it")
        }
        _ => String::new(),
    }
}

/// Reads a regular file of no more than `largest` bytes. Blocks for as long as its filesystem does.
///
/// # Errors
/// [`FileError`].
pub fn read(path: &Path, largest: u64) -> Result<Zeroizing<Vec<u8>>, FileError> {
    content(path, largest).map_err(|fault| fault.at(path))
}

/// Reads a file that holds a credential and nothing else.
///
/// # Errors
/// [`FileError`].
pub fn read_credential(path: &Path) -> Result<SecretText, FileError> {
    let content = read(path, CREDENTIAL)?;
    let line = credential::line(&content).map_err(|fault| FileFault::from(fault).at(path))?;
    Ok(SecretText::filled(|secret| secret.push_str(line)))
}

fn content(path: &Path, largest: u64) -> Result<Zeroizing<Vec<u8>>, FileFault> {
    let (file, meta) = open(path)?;
    // As long as the file and a little more, so that no copy is left behind by a buffer that grew.
    let expected = meta.len().min(largest).saturating_add(64);
    let mut bytes = Zeroizing::new(Vec::with_capacity(usize::try_from(expected).unwrap_or(0)));
    let mut most = file.take(largest.saturating_add(1));
    most.read_to_end(&mut bytes).map_err(FileFault::Io)?;
    match u64::try_from(bytes.len()).is_ok_and(|read| read <= largest) {
        true => Ok(bytes),
        false => Err(FileFault::Long(largest)),
    }
}

/// What is opened is what is looked at and read. A pipe is opened without a writer, for as long as it takes to see what it is.
fn open(path: &Path) -> Result<(File, Metadata), FileFault> {
    // The bits of open(2)'s flags are a C int by definition.
    let flags = (OFlags::NONBLOCK | OFlags::NOCTTY).bits().cast_signed();
    let opened = OpenOptions::new().read(true).custom_flags(flags).open(path);
    let file = opened.map_err(|source| match Errno::from_io_error(&source) {
        Some(Errno::NXIO) => FileFault::Kind("a socket, or a device that is not there"),
        _ => FileFault::Io(source),
    })?;
    let meta = file.metadata().map_err(FileFault::Io)?;
    match kind(meta.file_type()) {
        None => Ok((file, meta)),
        Some(kind) => Err(FileFault::Kind(kind)),
    }
}

/// What a file is that is no regular one.
fn kind(of: FileType) -> Option<&'static str> {
    let kinds = [
        (of.is_dir(), "a directory"),
        (of.is_fifo(), "a named pipe"),
        (of.is_socket(), "a socket"),
        (of.is_char_device() || of.is_block_device(), "a device"),
        (!of.is_file(), "something else"),
    ];
    kinds.into_iter().find_map(|(is, kind)| is.then_some(kind))
}

/// What tells one content of a file from another without reading it, and whether it can be read from whether it could.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stamp(Option<FileSeen>);

/// Where symbolic links lead, so that a folder that is swapped as a whole is seen. A changed mode moves the time of change alone.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct FileSeen {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    /// That of `path` now; one of its own if it is not there. Blocks for as long as its filesystem does.
    pub fn of(path: &Path) -> Self {
        let seen = std::fs::metadata(path).map(|meta| FileSeen {
            device: meta.dev(),
            inode: meta.ino(),
            size: meta.size(),
            modified: (meta.mtime(), meta.mtime_nsec()),
            changed: (meta.ctime(), meta.ctime_nsec()),
        });
        Self(seen.ok())
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    fn folder() -> tempfile::TempDir {
        tempfile::tempdir().unwrap()
    }

    fn said<T>(read: Result<T, FileError>) -> String {
        read.err()
            .map(|error| error.to_string())
            .unwrap_or_default()
    }

    #[test]
    fn a_credential_is_the_text_without_the_space_around_it() {
        let folder = folder();
        let path = folder.path().join("secret_id");
        std::fs::write(&path, " abc\n").unwrap();
        assert_eq!(read_credential(&path).ok().unwrap().expose(), "abc");
        let link = folder.path().join("link");
        symlink(&path, &link).unwrap();
        assert_eq!(read_credential(&link).ok().unwrap().expose(), "abc");
    }

    #[test]
    fn whatever_else_lies_there_is_named_at_once_and_nothing_of_it_is_quoted() {
        let folder = folder();
        let at = |name: &str| folder.path().join(name);
        let fifo = rustix::fs::FileType::Fifo;
        let mode = rustix::fs::Mode::from_raw_mode(0o600);
        rustix::fs::mknodat(rustix::fs::CWD, at("pipe"), fifo, mode, 0).unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(at("socket")).unwrap();
        std::fs::write(at("long"), vec![b's'; 70_000]).unwrap();
        std::fs::write(at("marked"), "\u{feff}sss").unwrap();
        symlink(at("nowhere"), at("dangling")).unwrap();
        for (path, what) in [
            (at("pipe"), "is a named pipe, not a regular file"),
            (at("socket"), "is a socket"),
            (
                folder.path().to_owned(),
                "is a directory, not a regular file",
            ),
            ("/dev/zero".into(), "is a device, not a regular file"),
            (at("long"), "is longer than 65536 bytes"),
            (at("marked"), "begins with a byte order mark"),
            (at("none"), "No such file"),
            (at("dangling"), "No such file"),
        ] {
            let said = said(read_credential(&path));
            let named = said.starts_with(&format!("{}: ", path.display()));
            assert!(
                named && said.contains(what) && !said.contains("sss"),
                "{said}"
            );
        }
    }

    #[test]
    fn a_stamp_changes_with_content_place_and_mode() {
        let folder = folder();
        let at = |name: &str| folder.path().join(name);
        let path = at("token");
        let mut stamps = vec![Stamp::of(&path)];
        std::fs::write(&path, "1").unwrap();
        stamps.push(Stamp::of(&path));
        std::fs::write(at("other"), "1").unwrap();
        std::fs::rename(at("other"), &path).unwrap();
        stamps.push(Stamp::of(&path));
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o0)).unwrap();
        stamps.push(Stamp::of(&path));
        for (nr, stamp) in stamps.iter().enumerate() {
            assert!(!stamps[..nr].contains(stamp), "{nr}: {stamps:?}");
        }
    }

    #[test]
    fn a_folder_that_is_swapped_under_a_link_is_seen() {
        let folder = folder();
        let at = |name: &str| folder.path().join(name);
        for name in ["one", "two"] {
            std::fs::create_dir(at(name)).unwrap();
            std::fs::write(at(name).join("token"), "same").unwrap();
        }
        symlink("one", at("..data")).unwrap();
        symlink("..data/token", at("token")).unwrap();
        let before = Stamp::of(&at("token"));
        symlink("two", at("next")).unwrap();
        std::fs::rename(at("next"), at("..data")).unwrap();
        assert_ne!(before, Stamp::of(&at("token")));
    }
}
