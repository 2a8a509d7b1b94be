//! journald's native protocol: one datagram for each message, or a sealed memory file where it is too large for one.

use std::{
    fs::File,
    io::{self, IoSlice, Write as _},
    mem::MaybeUninit,
    os::fd::AsFd as _,
    path::{Path, PathBuf},
    time::Duration,
};

use replica::ledger::Chained;
use rustix::{
    fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create},
    io::Errno,
    net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg},
};
use tokio::{io::Interest, net::UnixDatagram};

use super::sentence::sentence;

/// What all of these messages have in common: `journalctl MESSAGE_ID=…` shows them alone.
const MESSAGE_ID: &str = "6d1f0c5a9b5c4c0f8f2c6b9d0e7a4b31";

/// Informational, as syslog has it.
const PRIORITY: &str = "6";

/// journald takes a message within so long, or is to be asked again later.
const PATIENCE: Duration = Duration::from_secs(5);

/// The journal's socket.
pub(super) struct Journal {
    path: PathBuf,
    /// None before the first message, and after a failure: journald may have been started again.
    socket: Option<UnixDatagram>,
}

impl Journal {
    pub(super) fn at(path: PathBuf) -> Self {
        Self { path, socket: None }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Hands one message over.
    ///
    /// # Errors
    /// If there is nobody to take it, or it is not taken in time.
    pub(super) async fn send(&mut self, message: &[u8]) -> io::Result<()> {
        let socket = match self.socket.take() {
            Some(socket) => socket,
            None => connected(&self.path)?,
        };
        let sent = tokio::time::timeout(PATIENCE, sent(&socket, message)).await;
        sent.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))?;
        self.socket = Some(socket);
        Ok(())
    }
}

fn connected(path: &Path) -> io::Result<UnixDatagram> {
    let socket = UnixDatagram::unbound()?;
    socket.connect(path)?;
    Ok(socket)
}

async fn sent(socket: &UnixDatagram, message: &[u8]) -> io::Result<()> {
    match socket.send(message).await {
        Err(error) if is_too_large(&error) => sent_as_file(socket, message).await,
        sent => sent.map(drop),
    }
}

fn is_too_large(error: &io::Error) -> bool {
    [Errno::MSGSIZE, Errno::NOBUFS].contains(&Errno::from_io_error(error).unwrap_or(Errno::IO))
}

async fn sent_as_file(socket: &UnixDatagram, message: &[u8]) -> io::Result<()> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let mut file = File::from(memfd_create("holdover-ledger", flags)?);
    file.write_all(message)?;
    fcntl_add_seals(
        &file,
        SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE | SealFlags::SEAL,
    )?;
    let hand_over = || {
        let files = [file.as_fd()];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        control.push(SendAncillaryMessage::ScmRights(&files));
        let nothing: [IoSlice<'_>; 0] = [];
        Ok(sendmsg(socket, &nothing, &mut control, SendFlags::empty())?)
    };
    socket.async_io(Interest::WRITABLE, hand_over).await?;
    Ok(())
}

/// An entry as journald takes it: what it says as a sentence, what is asked for most as fields, and all of it as it stands
/// in the ledger.
pub(super) fn encoded(of: &Chained) -> Vec<u8> {
    let entry = &of.entry;
    let text = |value: &Option<String>| value.clone();
    let whole = serde_json::to_value(of).unwrap_or_default();
    let kind = whole.get("kind").and_then(|kind| kind.as_str());
    let optional = [
        ("HOLDOVER_KIND", kind.map(str::to_owned)),
        ("HOLDOVER_REASON", text(&entry.reason)),
        (
            "HOLDOVER_OUTAGE",
            entry.outage.as_ref().map(ToString::to_string),
        ),
        (
            "HOLDOVER_WORKLOAD",
            entry.workload.as_ref().map(ToString::to_string),
        ),
        ("HOLDOVER_UID", entry.uid.map(|uid| uid.to_string())),
        ("HOLDOVER_UNIT", text(&entry.unit)),
        (
            "HOLDOVER_ACCESSOR",
            entry.accessor.as_ref().map(ToString::to_string),
        ),
        ("HOLDOVER_PATH", text(&entry.path)),
        ("HOLDOVER_COUNT", entry.count.map(|count| count.to_string())),
        ("HOLDOVER_ENTRY", serde_json::to_string(of).ok()),
    ];
    let (seq, sentence) = (of.seq.to_string(), sentence(entry));
    let mut message = Vec::new();
    for (name, value) in [
        ("MESSAGE", sentence.as_str()),
        ("MESSAGE_ID", MESSAGE_ID),
        ("PRIORITY", PRIORITY),
        ("SYSLOG_IDENTIFIER", "holdover"),
        ("HOLDOVER_SEQ", &seq),
        ("HOLDOVER_OUTCOME", &entry.outcome),
    ] {
        put(&mut message, name, value);
    }
    for (name, value) in optional {
        if let Some(value) = value {
            put(&mut message, name, &value);
        }
    }
    message
}

/// A field. One whose value has lines says how long it is, so that no value can pass for further fields.
fn put(message: &mut Vec<u8>, name: &str, value: &str) {
    message.extend_from_slice(name.as_bytes());
    if value.contains('\n') {
        let length = u64::try_from(value.len()).unwrap_or(u64::MAX);
        message.push(b'\n');
        message.extend_from_slice(&length.to_le_bytes());
    } else {
        message.push(b'=');
    }
    message.extend_from_slice(value.as_bytes());
    message.push(b'\n');
}
