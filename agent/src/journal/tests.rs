//! Delivery to a stand-in for journald: in order, once, nothing lost, whoever fails.

use std::{
    io::Read as _,
    os::{fd::OwnedFd, unix::net::UnixDatagram as Stand},
};

use replica::sequencer::Lane;
use shared::{
    change::{Change, Expects},
    ledger::{Entry, EntryKind},
    name::{Accessor, TokenDigest, WorkloadName},
    workload::OnRecovery,
};

use super::*;
use crate::samples::{self, bench::Bench};

/// What journald would hold.
struct Standin {
    folder: tempfile::TempDir,
    socket: Stand,
}

impl Standin {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let socket = Stand::bind(folder.path().join("socket")).unwrap();
        socket.set_nonblocking(true).unwrap();
        Self { folder, socket }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("socket")
    }

    /// One message, if there is one.
    fn next(&self) -> Option<String> {
        let mut message = vec![0; 1 << 20];
        let length = self.socket.recv(&mut message).ok()?;
        message.truncate(length);
        Some(String::from_utf8(message).unwrap())
    }

    /// The numbers of the entries that came.
    fn numbers(&self) -> Vec<u64> {
        std::iter::from_fn(|| self.next())
            .map(|message| field(&message, "HOLDOVER_SEQ").parse().unwrap())
            .collect()
    }
}

fn field<'a>(message: &'a str, name: &str) -> &'a str {
    let lines = message.lines();
    let mut values = lines.filter_map(|line| line.strip_prefix(name)?.strip_prefix('='));
    values
        .next()
        .unwrap_or_else(|| panic!("no {name}: {message}"))
}

fn courier(bench: &Bench, path: PathBuf) -> Courier {
    Courier {
        local: bench.local.clone(),
        journal: Journal::at(path),
        sent: 0,
    }
}

async fn say(bench: &Bench, count: u64) {
    let entries = (0..count).map(|nr| {
        let mut entry = Entry::new(EntryKind::State, "holdover", samples::at(0).wall);
        entry.count = Some(nr);
        Change::Ledger(Box::new(entry))
    });
    let stored = bench
        .local
        .commit(Lane::Mirror, entries.collect(), Expects::default());
    stored.await.unwrap();
}

#[tokio::test]
async fn entries_are_delivered_in_order_and_remembered() {
    let (bench, journald) = (Bench::new(OnRecovery::Exchange), Standin::new());
    say(&bench, 100).await;
    let mut courier = courier(&bench, journald.path());
    let reading = tokio::task::spawn_blocking(move || {
        let mut numbers = Vec::new();
        while numbers.len() < 100 {
            numbers.extend(journald.numbers());
        }
        (numbers, journald)
    });
    assert_eq!(courier.deliver().await, Hindered::default());
    let (numbers, journald) = reading.await.unwrap();
    assert_eq!(numbers, (1..=100).collect::<Vec<_>>());
    let room = bench.local.sequencer.ledger_room();
    assert_eq!((room.delivered, room.undelivered_bytes), (100, 0));
    assert_eq!(courier.deliver().await, Hindered::default());
    assert!(journald.numbers().is_empty(), "nothing is new");
    say(&bench, 1).await;
    assert_eq!(courier.deliver().await, Hindered::default());
    assert_eq!(journald.numbers(), [101]);
}

#[tokio::test]
async fn what_could_not_be_sent_counts_as_undelivered_and_is_sent_once_journald_is_back() {
    let (bench, journald) = (Bench::new(OnRecovery::Exchange), Standin::new());
    say(&bench, 3).await;
    let path = journald.path();
    let mut courier = courier(&bench, path.clone());
    std::fs::remove_file(&path).unwrap();
    let error = courier.deliver().await;
    assert_eq!(error.unstored, None, "the replica is well");
    let error = error.untaken.unwrap();
    assert!(error.contains(path.to_str().unwrap()), "{error}");
    assert_eq!(bench.local.sequencer.ledger_room().delivered, 0);
    let again = Standin {
        socket: Stand::bind(&path).unwrap(),
        ..journald
    };
    again.socket.set_nonblocking(true).unwrap();
    assert_eq!(courier.deliver().await, Hindered::default());
    assert_eq!(again.numbers(), [1, 2, 3]);
    assert_eq!(bench.local.sequencer.ledger_room().delivered, 3);
}

#[tokio::test]
async fn what_was_sent_before_a_crash_and_not_remembered_is_sent_again_the_same() {
    let (bench, journald) = (Bench::new(OnRecovery::Exchange), Standin::new());
    say(&bench, 3).await;
    let mut before = courier(&bench, journald.path());
    let (entries, _) = before.read(1, 2).await.unwrap();
    before.send(&entries).await.unwrap();
    drop(before);
    let first: Vec<String> = std::iter::from_fn(|| journald.next()).collect();
    let hindered = courier(&bench, journald.path()).deliver().await;
    assert_eq!(hindered, Hindered::default());
    let again: Vec<String> = std::iter::from_fn(|| journald.next()).collect();
    assert_eq!((first.len(), again.len()), (2, 3));
    assert_eq!(first, again[..2]);
}

#[tokio::test]
async fn where_nothing_can_be_remembered_nothing_is_sent_over_and_over() {
    let (bench, journald) = (Bench::new(OnRecovery::Exchange), Standin::new());
    say(&bench, 3).await;
    let mut courier = courier(&bench, journald.path());
    let (entries, _) = courier.read(1, 10).await.unwrap();
    courier.send(&entries).await.unwrap();
    bench.local.sequencer.stop();
    for _ in 0..2 {
        let hindered = courier.deliver().await;
        assert_eq!(hindered.untaken, None, "journald took them");
        assert!(hindered.unstored.is_some());
    }
    assert_eq!(journald.numbers(), [1, 2, 3]);
}

#[tokio::test]
async fn an_entry_has_a_sentence_fields_and_all_that_the_ledger_says() {
    let (bench, journald) = (Bench::new(OnRecovery::Exchange), Standin::new());
    let mut entry = Entry::new(EntryKind::Grant, "allowed", samples::at(0).wall);
    entry.workload = Some(WorkloadName::parse("orders").unwrap());
    entry.uid = Some(1000);
    entry.unit = Some("orders.service".to_owned());
    entry.accessor = Some(Accessor::parse("ho.accessor").unwrap());
    entry.token = Some(TokenDigest([7; 32]));
    entry.path = Some("auth/holdover/login".to_owned());
    let change = vec![Change::Ledger(Box::new(entry))];
    bench
        .local
        .commit(Lane::Grant, change, Expects::default())
        .await
        .unwrap();
    let hindered = courier(&bench, journald.path()).deliver().await;
    assert_eq!(hindered, Hindered::default());
    let message = journald.next().unwrap();
    let expected = "The replica issued a token to workload orders (uid 1000, orders.service), accessor ho.accessor.";
    assert_eq!(field(&message, "MESSAGE"), expected);
    for (name, value) in [
        ("PRIORITY", "6"),
        ("SYSLOG_IDENTIFIER", "holdover"),
        ("HOLDOVER_SEQ", "1"),
        ("HOLDOVER_KIND", "grant"),
        ("HOLDOVER_OUTCOME", "allowed"),
        ("HOLDOVER_WORKLOAD", "orders"),
        ("HOLDOVER_UID", "1000"),
        ("HOLDOVER_UNIT", "orders.service"),
        ("HOLDOVER_ACCESSOR", "ho.accessor"),
        ("HOLDOVER_PATH", "auth/holdover/login"),
    ] {
        assert_eq!(field(&message, name), value);
    }
    let whole: serde_json::Value = serde_json::from_str(field(&message, "HOLDOVER_ENTRY")).unwrap();
    assert_eq!(whole["seq"], 1);
    assert_eq!(whole["token"], "07".repeat(32));
    assert_eq!(whole["mac"].as_str().unwrap().len(), 64);
}

#[test]
fn no_value_can_pass_for_a_field_of_its_own() {
    let mut entry = Entry::new(EntryKind::Read, "allowed", samples::at(0).wall);
    entry.path = Some("a\nHOLDOVER_KIND=grant".to_owned());
    let message = datagram::encoded(&Chained {
        seq: 1,
        entry,
        prev: [0; 32],
        mac: [0; 32],
    });
    let length = 21u64.to_le_bytes();
    let field = [b"HOLDOVER_PATH\n", &length[..], b"a\nHOLDOVER_KIND=grant\n"].concat();
    assert!(message.windows(field.len()).any(|found| found == field));
}

#[tokio::test]
async fn what_is_too_large_for_a_datagram_is_handed_over_as_a_sealed_file() {
    use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
    let journald = Standin::new();
    let mut journal = Journal::at(journald.path());
    let large = vec![b'x'; 4 << 20];
    journal.send(&large).await.unwrap();
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut nothing = [0];
    let mut into = [io::IoSliceMut::new(&mut nothing)];
    recvmsg(
        &journald.socket,
        &mut into,
        &mut control,
        RecvFlags::empty(),
    )
    .unwrap();
    let mut files: Vec<OwnedFd> = control
        .drain()
        .filter_map(|message| match message {
            RecvAncillaryMessage::ScmRights(files) => Some(files),
            _ => None,
        })
        .flatten()
        .collect();
    let file = files.pop().unwrap();
    let seals = rustix::fs::fcntl_get_seals(&file).unwrap();
    assert!(seals.contains(rustix::fs::SealFlags::WRITE));
    let mut read = Vec::new();
    use std::io::Seek as _;
    let mut file = std::fs::File::from(file);
    file.rewind().unwrap();
    file.read_to_end(&mut read).unwrap();
    assert_eq!(read.len(), large.len());
}

#[test]
fn entries_go_where_the_log_goes_or_where_the_variable_says() {
    assert_eq!(chosen(None, false), None);
    assert_eq!(chosen(None, true), Some(SOCKET.into()));
    let named = OsStr::new("/journal/socket");
    assert_eq!(chosen(Some(named), false), Some(named.into()));
    assert_eq!(chosen(Some(OsStr::new("")), false), None);
}
