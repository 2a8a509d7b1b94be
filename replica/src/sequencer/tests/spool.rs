//! The ledger: read in pieces, shared among whom it is about, delivered, cut, and full.

use shared::{
    grant::{Grant, Origin, ReplicaGrant, Settled},
    ledger::{
        claim::Owner,
        share::{Full, ShareFigures},
    },
    name::{OutageId, RoleName, WorkloadName},
    offboarding::Offboarded,
    settings::Settings,
    workload::{FailoverPolicy, OnFailover, OnRecovery, PeerId, Workload},
};

use super::*;
use crate::store::RoomFigures;

/// Small enough to be filled at once.
const SMALL: u64 = 128 << 10;

fn name(text: &str) -> WorkloadName {
    WorkloadName::parse(text).unwrap()
}

fn workload(text: &str) -> Workload {
    Workload {
        name: name(text),
        role: RoleName::parse(text).unwrap(),
        entity_alias: None,
        auto_token: true,
        failover: FailoverPolicy {
            issue: true,
            ttl: Duration::from_secs(900),
            max_ttl: Duration::from_secs(7200),
            on_recovery: OnRecovery::Exchange,
            on_failover: OnFailover::Resume,
        },
    }
}

fn peer(of: &str) -> PeerId {
    PeerId {
        workload: name(of),
        uid: 1000,
        unit: Some(format!("{of}.service")),
    }
}

/// A grant that the replica gave a workload.
fn issued(of: &str, nr: u64) -> Grant {
    let deadline = shared::time::Deadline::after(Duration::from_secs(3600), now(0));
    Grant {
        origin: Origin::Replica(ReplicaGrant {
            outage: OutageId::parse("o-1").unwrap(),
            issued_at: T0,
            ttl_ms: 900_000,
            asked_ms: 900_000,
            max_deadline: deadline,
            workload_end: deadline,
            spared: false,
            settled: Settled::Not,
            approle: None,
            of_nobody: false,
        }),
        peer: Some(peer(of)),
        ..grant(nr, 3600)
    }
}

fn said_of(kind: EntryKind, of: &str) -> Entry {
    Entry::new(kind, "allowed", T0).of_peer(Some(&peer(of)))
}

fn entry(entry: Entry) -> Change {
    Change::Ledger(Box::new(entry))
}

/// A replica with a small ledger that two workloads share.
struct Rig {
    home: Home,
    sequencer: Sequencer,
    grants: u64,
}

impl Rig {
    fn new() -> Self {
        let mut home = Home::made(1);
        home.location.ledger_max = SMALL;
        let sequencer = Self::start(&home);
        Self {
            home,
            sequencer,
            grants: 0,
        }
    }

    fn start(home: &Home) -> Sequencer {
        let sequencer = home.start();
        let settings = Settings {
            workloads: vec![workload("a"), workload("b")],
            ..Settings::clone(&samples::settings())
        };
        sequencer.set_settings(&Arc::new(settings));
        sequencer
    }

    fn restart(&mut self) {
        self.sequencer.stop();
        self.sequencer = Self::start(&self.home);
    }

    fn commit(&self, lane: Lane, changes: Vec<Change>) -> Result<(), SubmitError> {
        wait(&self.sequencer, lane, changes, nothing())
    }

    fn log_in(&mut self, of: &str) -> Result<u64, SubmitError> {
        let grant = issued(of, 100 + self.grants);
        let said = Entry::new(EntryKind::Grant, "allowed", T0).about(&grant);
        let unit = vec![Change::Grant(Box::new(grant)), entry(said)];
        self.commit(Lane::Grant, unit)?;
        self.grants += 1;
        Ok(99 + self.grants)
    }

    fn renew(&self, of: &str) -> Result<(), SubmitError> {
        let unit = vec![granted(1), entry(said_of(EntryKind::Renewal, of))];
        self.commit(Lane::Grant, unit)
    }

    /// Logs in until it is refused.
    fn fill(&mut self, of: &str) -> (u64, Full) {
        for logins in 0..1000 {
            match self.log_in(of) {
                Ok(_) => {}
                Err(SubmitError::LedgerFull(full)) => return (logins, full),
                Err(error) => panic!("{error}"),
            }
        }
        panic!("it never fills");
    }

    fn revoke(&self, nr: u64) {
        let grant = self.sequencer.view().grant(&digest(nr)).unwrap();
        let said = Entry::new(EntryKind::Revocation, "operator", T0).about(&grant.grant);
        let unit = vec![revoked(nr), entry(said)];
        self.commit(Lane::Revocation, unit).unwrap();
    }

    fn note(&self, kind: EntryKind, of: &str, nr: u64) {
        let mut noted = said_of(kind, of);
        noted.count = Some(1);
        noted.path = Some(format!("secret/data/{nr}"));
        self.commit(Lane::Mirror, vec![entry(noted)]).unwrap();
    }

    /// Of states, until one is dropped: Holdover's own room is full.
    fn fill_own_room(&self) {
        let before = self.room().dropped;
        while self.room().dropped == before {
            self.commit(Lane::Revocation, vec![said(EntryKind::State)])
                .unwrap();
        }
    }

    fn deliver(&self, through: u64) {
        let (done, answer) = mpsc::channel();
        let done = move |result| done.send(result).unwrap();
        self.sequencer.ledger_delivered(through, done);
        answer.recv().unwrap().unwrap();
    }

    fn room(&self) -> RoomFigures {
        let room = self.sequencer.ledger_room();
        let stats = self.sequencer.stats();
        assert!(stats.ledger.bytes <= stats.ledger_max, "{stats:?}");
        room
    }

    fn share(&self, of: &str) -> ShareFigures {
        let owner = Owner::Workload(name(of));
        let shares = self.room().shares;
        let found = shares.into_iter().find(|share| share.owner == owner);
        found.unwrap()
    }

    /// What the ledger holds of a kind.
    fn count(&self, kind: EntryKind) -> usize {
        let (entries, head) = read(&self.sequencer, 0, 10_000);
        verify(self.sequencer.view().keys(), &head, &entries).unwrap();
        let of_kind = entries.iter().filter(|entry| entry.entry.kind == kind);
        of_kind.count()
    }
}

#[test]
fn the_ledger_reads_in_pieces_verifies_and_goes_on_after_it_was_cut() {
    let mut rig = Rig::new();
    for nr in 0..400 {
        rig.note(EntryKind::Read, "a", nr);
        rig.deliver(nr);
    }
    let (piece, head) = read(&rig.sequencer, 390, 3);
    let numbers = |entries: &[Chained]| -> Vec<u64> { entries.iter().map(|one| one.seq).collect() };
    assert_eq!(numbers(&piece), [390, 391, 392]);
    assert!(head.first > 1 && head.next == 401);
    assert!(head.bytes <= SMALL / 2 + 2000, "{head:?}");
    rig.restart();
    let (rest, after) = read(&rig.sequencer, 0, 1000);
    assert_eq!((head.first, head.next), (after.first, after.next));
    verify(rig.sequencer.view().keys(), &after, &rest).unwrap();
    assert_eq!(rig.room().delivered, 399);
}

#[test]
fn one_workload_that_fills_its_share_leaves_the_other_all_that_is_its_own() {
    let mut rig = Rig::new();
    let untouched = rig.share("b");
    let (logins, full) = rig.fill("a");
    assert!(logins > 20, "{logins}");
    assert!(
        matches!(&full, Full::Share { owner, .. } if *owner == Owner::Workload(name("a"))),
        "{full}"
    );
    // Every other kind of entry, as much as it can.
    let renewals = (0..1000).take_while(|_| rig.renew("a").is_ok()).count();
    assert!(renewals < 1000);
    for nr in 0..500 {
        rig.note(EntryKind::Read, "a", nr);
        rig.note(EntryKind::Denial, "a", nr);
        rig.note(EntryKind::Unknown, "a", nr);
        let lease = vec![
            entry(said_of(EntryKind::Revocation, "a")),
            revoked(5000 + nr),
        ];
        rig.commit(Lane::Revocation, lease).unwrap();
    }
    let room = rig.room();
    assert!(room.dropped > 0 && room.undelivered_bytes + room.promised_bytes <= SMALL);
    for restarted in [false, true] {
        if restarted {
            rig.restart();
        }
        assert!(rig.log_in("a").is_err());
        let nr = rig.log_in("b").unwrap();
        rig.renew("b").unwrap();
        rig.note(EntryKind::Read, "b", 1);
        rig.revoke(nr);
        let share = rig.share("b");
        assert_eq!(share.reserve, untouched.reserve);
        assert!(share.used > 0 && share.left >= untouched.reserve / 2);
    }
    assert_eq!(
        rig.count(EntryKind::Grant),
        usize::try_from(logins).unwrap() + 2
    );
}

#[test]
fn every_grant_that_was_issued_has_room_for_the_entry_of_its_end() {
    let mut rig = Rig::new();
    let (a, _) = rig.fill("a");
    let (b, _) = rig.fill("b");
    for nr in 0..500 {
        rig.note(EntryKind::Read, "a", nr);
        rig.note(EntryKind::Read, "b", nr);
    }
    let dropped = rig.room().dropped;
    rig.restart();
    (0..a + b).for_each(|nr| rig.revoke(100 + nr));
    assert_eq!(
        rig.room().dropped,
        0,
        "since the start; {dropped} notes before"
    );
    assert_eq!(rig.room().promised_bytes, 0);
    assert_eq!(
        rig.count(EntryKind::Revocation),
        usize::try_from(a + b).unwrap()
    );
}

#[test]
fn an_act_without_room_is_not_done_and_a_revocation_without_room_is() {
    let mut rig = Rig::new();
    let (logins, _) = rig.fill("a");
    assert!(rig.sequencer.view().grant(&digest(100 + logins)).is_none());
    // Of tokens that the replica did not issue, more than there is room for.
    for nr in 0..1000 {
        let unit = vec![
            entry(said_of(EntryKind::Revocation, "a")),
            revoked(5000 + nr),
        ];
        rig.commit(Lane::Revocation, unit).unwrap();
    }
    assert!(rig.room().dropped > 0);
    let view = rig.sequencer.view();
    assert!((0..1000).all(|nr| view.revocation(&digest(5000 + nr)).is_some()));
    let state = vec![said(EntryKind::State)];
    rig.commit(Lane::Revocation, state).unwrap();
    let operator = vec![entry(said_of(EntryKind::Operator, "a"))];
    rig.commit(Lane::Revocation, operator).unwrap();
    assert_eq!(
        rig.count(EntryKind::State) + rig.count(EntryKind::Operator),
        2
    );
}

#[test]
fn what_uids_that_are_no_workloads_fill_takes_no_login_whose_outcome_at_the_primary_is_unknown() {
    let mut rig = Rig::new();
    for (uid, nr) in (0..8).flat_map(|uid| (0..200).map(move |nr| (uid, nr))) {
        let mut noted = Entry::new(EntryKind::Denial, "denied", T0);
        (noted.uid, noted.count, noted.ttl_seconds) = (Some(uid), Some(1), Some(nr));
        rig.commit(Lane::Mirror, vec![entry(noted)]).unwrap();
    }
    let dropped = rig.room().dropped;
    assert!(dropped > 0, "they have all that they can have");
    for (nr, uid, workload) in [(1, 0, None), (2, 1000, Some("a"))] {
        let grant = issued("a", nr);
        let said = Entry::new(EntryKind::Grant, "allowed", T0).about(&grant);
        let mut remark = Entry::new(EntryKind::Unknown, "unknown", T0);
        (remark.uid, remark.workload) = (Some(uid), workload.map(name));
        let unit = vec![Change::Grant(Box::new(grant)), entry(said), entry(remark)];
        rig.commit(Lane::Grant, unit).unwrap();
        assert!(rig.sequencer.view().grant(&digest(nr)).is_some());
    }
    assert_eq!(rig.room().dropped, dropped + 1, "what nobody has room for");
    assert_eq!(rig.count(EntryKind::Unknown), 1, "the workload has");
    assert_eq!(rig.count(EntryKind::Grant), 2);
    // Nor does it where the workload has no room for more than the login.
    rig.fill("a");
    assert!(rig.log_in("b").is_ok());
}

#[test]
fn an_operators_end_of_what_was_issued_takes_the_room_that_was_promised_and_not_holdovers_own() {
    let mut rig = Rig::new();
    let (logins, _) = rig.fill("a");
    rig.fill_own_room();
    // Since which nothing was dropped.
    rig.restart();
    for nr in 100..100 + logins {
        let grant = rig.sequencer.view().grant(&digest(nr)).unwrap();
        let mut said = Entry::new(EntryKind::Operator, "revoked", T0).about(&grant.grant);
        (said.uid, said.unit, said.deadline) = (Some(0), None, Some(T0));
        let unit = vec![revoked(nr), entry(said)];
        rig.commit(Lane::Revocation, unit).unwrap();
    }
    let room = rig.room();
    assert_eq!((room.dropped, room.promised_bytes), (0, 0));
    assert_eq!(
        rig.count(EntryKind::Operator),
        usize::try_from(logins).unwrap()
    );
    // What is counted for whom is the same for who counts it anew, and who gives it back.
    rig.sequencer.stop();
    rig.home.sql("DELETE FROM row WHERE tab = 26");
    rig.sequencer = Rig::start(&rig.home);
    assert_eq!(rig.room(), room);
    rig.deliver(rig.sequencer.stats().ledger.next - 1);
    assert_eq!(rig.room().undelivered_bytes, 0);
}

#[test]
fn a_host_that_is_offboarded_no_more_is_so_though_holdovers_own_room_is_full() {
    let rig = Rig::new();
    let begun = Offboarded { at: T0 };
    rig.commit(Lane::Revocation, vec![Change::Offboarded(Some(begun))])
        .unwrap();
    rig.fill_own_room();
    let dropped = rig.room().dropped;
    assert!(dropped > 0);
    let ended = vec![
        Change::Offboarded(None),
        entry(Entry::new(EntryKind::Offboarding, "ended", T0)),
    ];
    rig.commit(Lane::Grant, ended).unwrap();
    assert_eq!(rig.sequencer.view().authority().offboarded, None);
    assert_eq!(rig.room().dropped, dropped + 1, "and that is told");
}

#[test]
fn what_was_promised_is_there_where_the_ledger_was_made_smaller_than_what_is_in_it() {
    let mut rig = Rig::new();
    let (logins, _) = rig.fill("a");
    rig.home.location.ledger_max = SMALL / 16;
    rig.restart();
    assert!(rig.sequencer.ledger_room().undelivered_bytes > SMALL / 16);
    (100..100 + logins).for_each(|nr| rig.revoke(nr));
    assert_eq!(rig.sequencer.ledger_room().dropped, 0);
    assert_eq!(
        rig.count(EntryKind::Revocation),
        usize::try_from(logins).unwrap()
    );
    assert!(rig.log_in("b").is_err(), "nothing more is issued");
}

#[test]
fn what_was_delivered_counts_for_nobody_and_is_cut_off_where_room_is_wanted() {
    let mut rig = Rig::new();
    let mut logins = Vec::new();
    for _ in 0..4 {
        let before = rig.grants;
        logins.push(rig.fill("a").0);
        (before..rig.grants).for_each(|nr| rig.revoke(100 + nr));
        rig.deliver(rig.sequencer.stats().ledger.next - 1);
        assert_eq!(rig.share("a").used, 0);
        rig.restart();
    }
    assert!(logins.iter().all(|count| *count == logins[0]), "{logins:?}");
    let (first, next) = (
        rig.sequencer.stats().ledger.first,
        rig.sequencer.stats().ledger.next,
    );
    assert!(
        first > 1 && first < next,
        "the latest are kept: {first}, {next}"
    );
    assert_eq!(rig.room().delivered, next - 1);
    // Nothing that was not delivered is cut off, whatever is wanted.
    let before = rig.grants;
    rig.fill("a");
    rig.fill("b");
    (before..rig.grants).for_each(|nr| rig.revoke(100 + nr));
    for nr in 0..500 {
        rig.note(EntryKind::Read, "a", nr);
        rig.note(EntryKind::Read, "b", nr);
    }
    rig.room();
    let (entries, head) = read(&rig.sequencer, next, 10_000);
    assert!(head.first > first && head.first <= next);
    assert_eq!(entries.first().map(|entry| entry.seq), Some(next));
    rig.restart();
    let (entries, head) = read(&rig.sequencer, 0, 10_000);
    verify(rig.sequencer.view().keys(), &head, &entries).unwrap();
}

#[test]
fn a_start_that_finds_no_count_counts_anew_and_delivers_again() {
    let mut rig = Rig::new();
    for nr in 0..20 {
        rig.log_in("a").unwrap();
        rig.note(EntryKind::Read, "b", nr);
    }
    rig.deliver(7);
    let before = rig.room();
    assert_eq!(before.delivered, 7);
    rig.restart();
    assert_eq!(rig.room(), before);
    rig.sequencer.stop();
    rig.home.sql("DELETE FROM row WHERE tab = 26");
    rig.sequencer = Rig::start(&rig.home);
    let anew = rig.room();
    assert_eq!(anew.delivered, 0);
    assert_eq!(anew.undelivered_bytes, rig.sequencer.stats().ledger.bytes);
    rig.deliver(7);
    assert_eq!(rig.room(), before);
}

#[test]
fn the_count_is_kept_now_and_then_with_what_is_in_the_same_commit() {
    let mut home = Home::made(1);
    home.location.ledger_max = 16 << 20;
    let sequencer = Rig::start(&home);
    let mut rig = Rig {
        home,
        sequencer,
        grants: 0,
    };
    // In groups, so that the row is written in the midst of one.
    for group in 0..10 {
        let notes = (0..500).map(|nr| {
            let mut noted = said_of(EntryKind::Read, if nr % 3 == 0 { "a" } else { "b" });
            noted.count = Some(group * 500 + nr);
            entry(noted)
        });
        rig.commit(Lane::Mirror, notes.collect()).unwrap();
    }
    let before = rig.room();
    assert_eq!(before.undelivered_bytes, rig.sequencer.stats().ledger.bytes);
    rig.sequencer.stop();
    let rows: i64 = {
        let connection = rusqlite::Connection::open(&rig.home.location.path).unwrap();
        let sql = "SELECT count(*) FROM row WHERE tab = 26";
        connection.query_row(sql, [], |row| row.get(0)).unwrap()
    };
    assert_eq!(rows, 1);
    rig.sequencer = Rig::start(&rig.home);
    assert_eq!(rig.room(), before);
}

#[test]
fn an_entry_that_was_damaged_is_counted_and_can_be_passed() {
    let mut rig = Rig::new();
    for nr in 0..10 {
        rig.note(EntryKind::Read, "a", nr);
    }
    rig.sequencer.stop();
    rig.home
        .sql("UPDATE ledger SET payload = zeroblob(length(payload)) WHERE seq = 4");
    rig.sequencer = Rig::start(&rig.home);
    assert_eq!(
        rig.room().undelivered_bytes,
        rig.sequencer.stats().ledger.bytes
    );
    let (done, answer) = mpsc::channel();
    let done = move |read: Result<_, _>| done.send(read.map(drop)).unwrap();
    rig.sequencer.read_ledger(1, 10, done);
    assert_eq!(answer.recv().unwrap(), Err(SubmitError::Damaged));
    rig.deliver(10);
    let room = rig.room();
    assert_eq!((room.delivered, room.undelivered_bytes), (10, 0));
    assert!(rig.log_in("a").is_ok());
}

/// Each call to the disk fails once.
#[test]
fn wherever_the_disk_fails_what_is_counted_is_what_is_there() {
    for failing in 0.. {
        let mut rig = Rig::new();
        for nr in 0..40 {
            rig.note(EntryKind::Read, "a", nr);
            rig.note(EntryKind::Read, "b", nr);
        }
        rig.sequencer.stop();
        let mut home = Home::empty(1);
        std::mem::swap(&mut home, &mut rig.home);
        let calls = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&calls);
        let sequencer = asking(&home, move |_| {
            counter.fetch_add(1, Ordering::Relaxed) != failing
        });
        let (done, answer) = mpsc::channel();
        sequencer.ledger_delivered(70, move |result| done.send(result).unwrap());
        let delivered = answer.recv().unwrap().is_ok();
        let said = wait(
            &sequencer,
            Lane::Mirror,
            vec![said(EntryKind::State)],
            nothing(),
        );
        sequencer.stop();
        let sequencer = Rig::start(&home);
        let (room, head) = (sequencer.ledger_room(), sequencer.stats().ledger);
        assert_eq!(
            room.delivered,
            if delivered { 70 } else { 0 },
            "call {failing}"
        );
        assert_eq!(
            head.next,
            if said.is_ok() { 82 } else { 81 },
            "call {failing}"
        );
        assert!(room.undelivered_bytes <= head.bytes, "call {failing}");
        sequencer.stop();
        if calls.load(Ordering::Relaxed) <= failing {
            assert!(failing >= 4, "only {failing} calls were made to fail");
            break;
        }
    }
}
