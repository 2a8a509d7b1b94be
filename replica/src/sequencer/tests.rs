//! What binds when, what is refused, and what happens when the disk fails.

use std::{
    collections::HashMap,
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc::{self, Receiver, Sender},
    },
    time::Duration,
};

use shared::{
    change::{PhaseRecord, Pooled},
    failover::Phase,
    grant::RevokeCause,
    lease::{Assignee, Lease, LeaseHolder},
    ledger::{Entry, EntryKind},
    name::LeaseId,
    secret::SecretBytes,
};

use super::*;
use crate::{
    ledger::{LedgerRow, verify},
    samples::{self, T0, digest, grant, granted, now, outage, revoked},
    seal::Sealed,
    store::{
        FailStop, Storage, Trimmed,
        schema::HeaderRow,
        tests::{Home, wait},
        writer::Writer,
    },
    table::At,
};

mod stage;

/// Storage that asks before each call.
struct Asking<A> {
    inner: Box<dyn Storage>,
    ask: A,
}

/// The calls that change the disk, in the order of one commit.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Call {
    Put,
    Delete,
    Append,
    Trim,
    Commit,
    Checkpoint,
}

impl<A: FnMut(Call) -> bool + Send> Asking<A> {
    fn ask(&mut self, call: Call) -> rusqlite::Result<()> {
        match (self.ask)(call) {
            true => Ok(()),
            false => Err(rusqlite::Error::InvalidQuery),
        }
    }
}

impl<A: FnMut(Call) -> bool + Send> Storage for Asking<A> {
    fn put(&mut self, at: &At, sealed: &Sealed) -> rusqlite::Result<Option<u64>> {
        self.ask(Call::Put)?;
        self.inner.put(at, sealed)
    }

    fn delete(&mut self, at: &At) -> rusqlite::Result<Option<u64>> {
        self.ask(Call::Delete)?;
        self.inner.delete(at)
    }

    fn append(&mut self, row: &LedgerRow) -> rusqlite::Result<()> {
        self.ask(Call::Append)?;
        self.inner.append(row)
    }

    fn trim(&mut self, below: u64) -> rusqlite::Result<Trimmed> {
        self.ask(Call::Trim)?;
        self.inner.trim(below)
    }

    fn commit(&mut self, header: &HeaderRow) -> rusqlite::Result<()> {
        self.ask(Call::Commit)?;
        self.inner.commit(header)
    }

    fn entries(&mut self, from: u64, limit: usize) -> rusqlite::Result<Vec<LedgerRow>> {
        self.inner.entries(from, limit)
    }

    fn checkpoint(&mut self) -> rusqlite::Result<()> {
        self.ask(Call::Checkpoint)?;
        self.inner.checkpoint()
    }
}

/// A sequencer whose storage asks `ask` before each call: `false` fails it.
fn asking(home: &Home, ask: impl FnMut(Call) -> bool + Send + 'static) -> Sequencer {
    let mut opened = home.open();
    let inner = opened.writer.storage.inner;
    opened.writer = Writer {
        storage: FailStop::new(Box::new(Asking { inner, ask })),
        ..opened.writer
    };
    opened.start(|| now(1)).unwrap()
}

/// Holds the writer inside a commit until it is let go.
struct Held {
    sequencer: Sequencer,
    inside: Receiver<()>,
    go: Sender<()>,
}

impl Held {
    fn new(home: &Home) -> Self {
        let (entered, inside) = mpsc::channel();
        let (go, gone) = mpsc::channel::<()>();
        let sequencer = asking(home, move |call| {
            if call == Call::Commit {
                let _ = entered.send(());
                let _ = gone.recv_timeout(Duration::from_secs(10));
            }
            true
        });
        Self {
            sequencer,
            inside,
            go,
        }
    }

    /// The writer is in a commit of `changes` afterwards.
    fn enter(&self, lane: Lane, changes: Vec<Change>, expects: Expects) -> Answer {
        let answer = submit(&self.sequencer, lane, changes, expects);
        self.inside.recv_timeout(Duration::from_secs(10)).unwrap();
        answer
    }

    /// Lets this commit and `more` go.
    fn release(&self, more: usize) {
        (0..=more).for_each(|_| self.go.send(()).unwrap());
    }
}

type Answer = Receiver<Result<(), SubmitError>>;

fn submit(sequencer: &Sequencer, lane: Lane, changes: Vec<Change>, expects: Expects) -> Answer {
    let (done, answer) = mpsc::channel();
    sequencer.submit(lane, changes, expects, move |result| {
        let _ = done.send(result);
    });
    answer
}

fn got(answer: &Answer) -> Result<(), SubmitError> {
    answer.recv_timeout(Duration::from_secs(10)).unwrap()
}

fn live(parents: &[u64]) -> Expects {
    Expects {
        live: parents.iter().map(|n| digest(*n)).collect(),
        ..Expects::default()
    }
}

fn issues() -> Expects {
    Expects {
        issues: true,
        ..Expects::default()
    }
}

fn nothing() -> Expects {
    Expects::default()
}

fn said(kind: EntryKind) -> Change {
    Change::Ledger(Box::new(Entry::new(kind, "allowed", T0)))
}

#[test]
fn revocations_go_before_grants_and_grants_before_the_mirror() {
    let home = Home::made(1);
    let held = Held::new(&home);
    let first = held.enter(Lane::Grant, vec![granted(1)], nothing());
    let (order, answered) = mpsc::channel();
    let lanes = [Lane::Mirror, Lane::Grant, Lane::Revocation];
    let changes = [
        samples::value("secret/data/a", 1, "{}"),
        granted(2),
        revoked(1),
    ];
    for (lane, change) in lanes.into_iter().zip(changes) {
        let order = order.clone();
        held.sequencer
            .submit(lane, vec![change], nothing(), move |result| {
                order.send((lane, result)).unwrap();
            });
    }
    held.release(1);
    got(&first).unwrap();
    let order: Vec<_> = answered.iter().take(3).collect();
    let lanes = [Lane::Revocation, Lane::Grant, Lane::Mirror].map(|lane| (lane, Ok(())));
    assert_eq!(order, lanes);
    held.release(9);
    held.sequencer.stop();
}

#[test]
fn a_revocation_binds_at_once_and_a_grant_once_it_is_durable() {
    let home = Home::made(1);
    home.store(vec![granted(1)]);
    let held = Held::new(&home);
    let view = Arc::clone(held.sequencer.view());
    let grant = held.enter(Lane::Grant, vec![granted(2)], nothing());
    let revocation = submit(
        &held.sequencer,
        Lane::Revocation,
        vec![revoked(1)],
        nothing(),
    );
    assert!(
        view.grant(&digest(1)).unwrap().revoked.get().is_some(),
        "it binds"
    );
    assert!(revocation.try_recv().is_err(), "but is not durable");
    assert!(view.grant(&digest(2)).is_none());
    held.release(9);
    got(&grant).unwrap();
    got(&revocation).unwrap();
    assert!(view.grant(&digest(2)).is_some());
    held.sequencer.stop();
}

#[test]
fn a_state_binds_at_once_and_in_the_order_it_was_said() {
    let home = Home::made(1);
    let held = Held::new(&home);
    let view = Arc::clone(held.sequencer.view());
    let first = held.enter(Lane::Grant, vec![granted(1)], nothing());
    submit(&held.sequencer, Lane::Revocation, vec![outage()], nothing());
    let following = samples::phase(Phase::Following, 5);
    let last = submit(
        &held.sequencer,
        Lane::Revocation,
        vec![following],
        nothing(),
    );
    assert_eq!(
        (view.authority().epoch, &view.authority().phase),
        (5, &Phase::Following)
    );
    held.release(9);
    got(&first).unwrap();
    got(&last).unwrap();
    assert_eq!(
        view.authority().phase,
        Phase::Following,
        "publishing changes nothing back"
    );
    held.sequencer.stop();
    let stored = home.open().phase;
    let phase = Phase::Following;
    assert_eq!(stored, Some(PhaseRecord { phase, epoch: 5 }));
}

#[test]
fn a_grant_in_the_queue_is_refused_once_it_or_its_parent_is_revoked() {
    let home = Home::made(1);
    home.store(vec![granted(1)]);
    let held = Held::new(&home);
    held.enter(Lane::Mirror, vec![granted(9)], nothing());
    let child = submit(&held.sequencer, Lane::Grant, vec![granted(2)], live(&[1]));
    let itself = submit(&held.sequencer, Lane::Grant, vec![granted(3)], nothing());
    let free = submit(&held.sequencer, Lane::Grant, vec![granted(4)], nothing());
    submit(
        &held.sequencer,
        Lane::Revocation,
        vec![revoked(1), revoked(3)],
        nothing(),
    );
    held.release(9);
    assert_eq!(got(&child), Err(SubmitError::Conflict));
    assert_eq!(got(&itself), Err(SubmitError::Conflict));
    assert_eq!(got(&free), Ok(()));
    let view = held.sequencer.view();
    assert!(view.grant(&digest(2)).is_none() && view.grant(&digest(3)).is_none());
    held.sequencer.stop();
}

fn pooled(id: &str) -> Change {
    let lease = Lease {
        holder: LeaseHolder::Pooled,
        ..samples::lease(id)
    };
    Change::Lease(Box::new(lease), Some(SecretBytes::new(b"{}".to_vec())))
}

fn take(id: &str, by: u64) -> (Vec<Change>, Expects) {
    let (lease, by) = (LeaseId::parse(id).unwrap(), Assignee::Token(digest(by)));
    let pooled = Pooled {
        lease: lease.clone(),
        to: Some(by.clone()),
    };
    let expects = Expects {
        pooled: Some(pooled),
        ..Expects::default()
    };
    (vec![Change::LeaseTaken(lease, by)], expects)
}

#[test]
fn a_lease_leaves_its_pool_once_whoever_asks_at_the_same_moment() {
    const IDS: [&str; 2] = ["database/creds/orders/a", "database/creds/orders/b"];
    let home = Home::made(1);
    home.store(IDS.map(pooled).into());
    let held = Held::new(&home);
    held.enter(Lane::Mirror, vec![granted(9)], nothing());
    let ask = |id, by| {
        let (changes, expects) = take(id, by);
        submit(&held.sequencer, Lane::Grant, changes, expects)
    };
    let (first, second) = (ask(IDS[0], 1), ask(IDS[0], 2));
    let (another, own) = (ask(IDS[1], 1), ask(IDS[1], 2));
    held.release(9);
    assert_eq!(got(&first), Ok(()));
    assert_eq!(got(&second), Err(SubmitError::Conflict), "it is taken");
    assert_eq!(got(&another), Err(SubmitError::Conflict), "it has one");
    assert_eq!(got(&own), Ok(()));
    held.sequencer.stop();
    let secrets = home.open().view.secrets();
    for (id, by) in IDS.into_iter().zip([1, 2]) {
        let lease = &secrets.leases[&LeaseId::parse(id).unwrap()].lease;
        assert!(
            lease.is_assigned_to(&Assignee::Token(digest(by))),
            "{lease:?}"
        );
    }
}

#[test]
fn a_renewal_that_was_asked_for_before_does_not_put_a_lease_back() {
    const ID: &str = "database/creds/orders/a";
    let home = Home::made(1);
    home.store(vec![pooled(ID)]);
    let sequencer = home.open().start(|| now(1)).unwrap();
    let (changes, expects) = take(ID, 1);
    wait(&sequencer, Lane::Grant, changes, expects).unwrap();
    let who = Assignee::Token(digest(2));
    let id = LeaseId::parse(ID).unwrap();
    let detached = Change::LeaseDetached(id.clone(), who.clone());
    wait(&sequencer, Lane::Grant, vec![detached], nothing()).unwrap();
    let renewed = Lease {
        holder: LeaseHolder::Pooled,
        granted: 77,
        ..samples::lease(ID)
    };
    let renewed = Change::Lease(Box::new(renewed), None);
    wait(&sequencer, Lane::Mirror, vec![renewed], nothing()).unwrap();
    let replaced = Expects {
        pooled: Some(Pooled {
            lease: id.clone(),
            to: None,
        }),
        ..Expects::default()
    };
    let gone = vec![Change::LeaseGone(id.clone())];
    let refused = wait(&sequencer, Lane::Mirror, gone, replaced);
    assert_eq!(refused, Err(SubmitError::Conflict));
    let lease = sequencer.view().secrets().leases[&id].lease.clone();
    assert_eq!((lease.granted, lease.detached.clone()), (77, vec![who]));
    assert!(lease.is_assigned_to(&Assignee::Token(digest(1))));
    sequencer.stop();
}

#[test]
fn a_grant_in_mid_commit_is_taken_back_when_its_parent_is_revoked() {
    let home = Home::made(1);
    home.store(vec![granted(1)]);
    let held = Held::new(&home);
    let child = held.enter(Lane::Grant, vec![granted(2)], live(&[1]));
    submit(
        &held.sequencer,
        Lane::Revocation,
        vec![revoked(1)],
        nothing(),
    );
    held.release(9);
    assert_eq!(got(&child), Err(SubmitError::Conflict));
    let view = Arc::clone(held.sequencer.view());
    let cause = view.revocation(&digest(2)).unwrap().cause;
    assert_eq!(cause, RevokeCause::Parent);
    held.sequencer.stop();
    let opened = home.open();
    assert_eq!(
        opened.view.revocation(&digest(2)).unwrap().cause,
        RevokeCause::Parent
    );
    drop(opened);
    let entries = ledger(&home);
    assert_eq!(
        entries.last().map(|entry| entry.entry.kind),
        Some(EntryKind::Revocation)
    );
}

#[test]
fn a_grant_or_renewal_in_mid_commit_is_taken_back_when_the_fence_comes_down() {
    let home = Home::made(1);
    home.store(vec![outage(), granted(1)]);
    let held = Held::new(&home);
    let expects = Expects {
        epoch: Some(4),
        ..issues()
    };
    let longer = Change::Grant(Box::new(grant(1, 9000)));
    let both = held.enter(Lane::Grant, vec![granted(2), longer], expects);
    let following = samples::phase(Phase::Following, 5);
    submit(
        &held.sequencer,
        Lane::Revocation,
        vec![following],
        nothing(),
    );
    held.release(9);
    assert_eq!(got(&both), Err(SubmitError::Conflict));
    held.sequencer.stop();
    let restarted = home.open().view;
    for view in [held.sequencer.view(), &restarted] {
        assert_eq!(
            view.revocation(&digest(2)).unwrap().cause,
            RevokeCause::Recovery
        );
        let renewed = view.grant(&digest(1)).unwrap();
        assert!(renewed.revoked.get().is_none());
        assert_eq!(renewed.grant, grant(1, 3600), "as before the renewal");
    }
}

#[test]
fn what_a_change_relied_on_is_judged_when_it_is_committed() {
    let home = Home::made(1);
    let short = Change::Grant(Box::new(grant(7, 1)));
    home.store(vec![granted(1), short]);
    let sequencer = home.start();
    let submit = |expects| wait(&sequencer, Lane::Grant, vec![granted(2)], expects);
    let epoch = |epoch| Expects {
        epoch: Some(epoch),
        ..Expects::default()
    };
    let conflict = Err(SubmitError::Conflict);
    assert_eq!(submit(epoch(3)), conflict);
    assert_eq!(submit(live(&[1, 8])), conflict, "a grant that is not there");
    assert_eq!(submit(live(&[7])), conflict, "a grant that is past");
    assert_eq!(submit(issues()), conflict, "the primary is in charge");
    wait(&sequencer, Lane::Revocation, vec![outage()], nothing()).unwrap();
    assert_eq!(submit(issues()), Ok(()));
    assert_eq!(submit(live(&[1])), Ok(()));
    assert_eq!(submit(epoch(4)), Ok(()));
    let revoke_self = || wait(&sequencer, Lane::Revocation, vec![revoked(1)], live(&[1]));
    assert_eq!(revoke_self(), Ok(()));
    assert_eq!(
        revoke_self(),
        conflict,
        "the second time it is dead already"
    );
    sequencer.stop();
}

#[test]
fn a_refused_submission_leaves_nothing_and_its_neighbours_alone() {
    let home = Home::made(1);
    let held = Held::new(&home);
    held.enter(Lane::Mirror, vec![granted(9)], nothing());
    let bad = vec![
        granted(2),
        samples::value("secret/data/a", 1, "{}"),
        said(EntryKind::Grant),
    ];
    let bad = submit(&held.sequencer, Lane::Grant, bad, live(&[77]));
    let good = submit(&held.sequencer, Lane::Grant, vec![granted(3)], nothing());
    let child = submit(&held.sequencer, Lane::Grant, vec![granted(4)], live(&[3]));
    held.release(9);
    assert_eq!(got(&bad), Err(SubmitError::Conflict));
    assert_eq!(got(&good), Ok(()));
    assert_eq!(got(&child), Ok(()), "its parent came in the same commit");
    assert_eq!(held.sequencer.stats().commits, 2);
    held.sequencer.stop();
    let opened = home.open();
    assert!(opened.view.grant(&digest(2)).is_none() && opened.view.secrets().records.is_empty());
    assert!(opened.view.grant(&digest(3)).is_some());
    drop(opened);
    assert!(ledger(&home).is_empty());
}

#[test]
fn what_waits_together_is_one_commit_and_one_publication() {
    let home = Home::made(1);
    let held = Held::new(&home);
    held.enter(Lane::Mirror, vec![granted(0)], nothing());
    let answers: Vec<_> = (1..=100)
        .map(|n| {
            let value = samples::value(&format!("secret/data/{n}"), 1, "{}");
            submit(
                &held.sequencer,
                Lane::Grant,
                vec![granted(n), value],
                nothing(),
            )
        })
        .collect();
    held.release(9);
    assert!(answers.iter().all(|answer| got(answer).is_ok()));
    assert_eq!(held.sequencer.stats().commits, 2);
    held.sequencer.stop();
}

#[test]
fn after_a_pause_is_answered_no_grant_appears() {
    let home = Home::made(1);
    home.store(vec![outage()]);
    let held = Held::new(&home);
    let before = held.enter(Lane::Grant, vec![granted(1)], issues());
    let (done, paused) = mpsc::channel();
    held.sequencer
        .pause_issuing(true, move |result| done.send(result).unwrap());
    let after = submit(&held.sequencer, Lane::Grant, vec![granted(2)], issues());
    assert!(paused.try_recv().is_err(), "one is still on its way");
    held.release(9);
    paused.recv().unwrap().unwrap();
    assert_eq!(got(&before), Ok(()));
    assert_eq!(got(&after), Err(SubmitError::Paused));
    held.sequencer.pause_issuing(false, |_| {});
    let again = submit(&held.sequencer, Lane::Grant, vec![granted(3)], issues());
    assert_eq!(got(&again), Ok(()));
    held.sequencer.stop();
}

#[test]
fn a_lane_that_is_full_says_so_and_leaves_the_others_open() {
    let home = Home::made(1);
    let held = Held::new(&home);
    held.enter(Lane::Grant, vec![granted(1)], nothing());
    let big = "x".repeat(20 << 20);
    let answers: Vec<_> = (0..5)
        .map(|n| {
            let value = samples::value(&format!("secret/data/{n}"), 1, &big);
            // Refused when its turn comes: what is measured here is the wait.
            submit(&held.sequencer, Lane::Mirror, vec![value], live(&[77]))
        })
        .collect();
    let busy = answers
        .iter()
        .filter(|answer| answer.try_recv() == Ok(Err(SubmitError::Busy)));
    assert_eq!(busy.count(), 2);
    let revocation = submit(
        &held.sequencer,
        Lane::Revocation,
        vec![revoked(1)],
        nothing(),
    );
    assert!(revocation.try_recv().is_err(), "it waits");
    held.release(9);
    assert_eq!(got(&revocation), Ok(()));
    held.sequencer.stop();
}

#[test]
fn stopping_stores_what_waits_and_takes_nothing_more() {
    let home = Home::made(1);
    let sequencer = home.start();
    let answers: Vec<_> = (0..50)
        .map(|n| submit(&sequencer, Lane::Mirror, vec![granted(n)], nothing()))
        .collect();
    sequencer.stop();
    assert!(answers.iter().all(|answer| got(answer).is_ok()));
    let late = submit(&sequencer, Lane::Grant, vec![granted(99)], nothing());
    assert_eq!(got(&late), Err(SubmitError::Stopped));
    sequencer.stop();
    assert_eq!(home.open().view.grants().len(), 50);
}

#[test]
fn changed_settings_are_published_and_survive_commits() {
    let home = Home::made(1);
    let sequencer = home.start();
    let mut settings = shared::settings::Settings::clone(&samples::settings());
    settings.bounds.issue_after_reboot = true;
    sequencer.set_settings(&Arc::new(settings));
    wait(&sequencer, Lane::Mirror, samples::everything(), nothing()).unwrap();
    assert!(
        sequencer
            .view()
            .authority()
            .settings
            .bounds
            .issue_after_reboot
    );
    sequencer.stop();
}

/// Every call to the disk fails once, each time from a fresh copy of the same beginning.
#[test]
fn wherever_the_disk_fails_nothing_is_half_applied_and_nothing_is_acknowledged() {
    for failing in 0.. {
        let home = Home::made(1);
        home.store(samples::everything());
        let calls = Arc::new(AtomicU64::new(0));
        let failed = Arc::new(AtomicBool::new(false));
        let (counter, flag) = (Arc::clone(&calls), Arc::clone(&failed));
        let sequencer = asking(&home, move |_| {
            let fails = counter.fetch_add(1, Ordering::Relaxed) == failing;
            flag.fetch_or(fails, Ordering::Relaxed);
            !fails
        });
        let unit = vec![
            granted(11),
            samples::value("secret/data/new", 1, "{}"),
            said(EntryKind::Grant),
            Change::QueueDone(9),
        ];
        let outcome = wait(&sequencer, Lane::Grant, unit, nothing());
        let later = wait(&sequencer, Lane::Grant, vec![granted(12)], nothing());
        sequencer.stop();
        let first_failed = outcome.is_err();
        if first_failed {
            assert!(
                matches!(&outcome, Err(SubmitError::Failed(_))),
                "{outcome:?}"
            );
            assert!(
                matches!(&later, Err(SubmitError::Failed(_))),
                "fail stop: {later:?}"
            );
            assert!(
                sequencer.view().grant(&digest(11)).is_none(),
                "call {failing}"
            );
        }
        if !failed.load(Ordering::Relaxed) {
            assert!(failing >= 8, "only {failing} calls were made to fail");
            break;
        }
        let opened = home.open();
        let there = opened.view.grant(&digest(11)).is_some();
        assert_eq!(there, opened.queue.is_empty(), "call {failing}");
        assert_eq!(
            there,
            opened.view.secrets().records.len() == 3,
            "call {failing}"
        );
        assert_eq!(there, !first_failed, "call {failing}");
        assert_eq!(opened.view.grant(&digest(12)).is_some(), later.is_ok());
        drop(opened);
        assert_eq!(!ledger(&home).is_empty(), there, "call {failing}");
    }
}

#[test]
fn revocations_and_states_bind_even_when_the_disk_has_failed() {
    let home = Home::made(1);
    home.store(vec![granted(1), granted(2)]);
    let sequencer = asking(&home, |call| call != Call::Commit);
    let first = wait(&sequencer, Lane::Revocation, vec![revoked(1)], nothing());
    assert!(matches!(first, Err(SubmitError::Failed(_))));
    let second = wait(
        &sequencer,
        Lane::Revocation,
        vec![revoked(2), outage()],
        nothing(),
    );
    assert!(matches!(second, Err(SubmitError::Failed(_))));
    let view = sequencer.view();
    assert!(view.revocation(&digest(1)).is_some() && view.revocation(&digest(2)).is_some());
    assert!(view.authority().phase.is_outage());
    let issued = wait(&sequencer, Lane::Grant, vec![granted(3)], issues());
    assert!(matches!(issued, Err(SubmitError::Failed(_))));
    assert!(sequencer.stats().failed.is_some());
    sequencer.stop();
}

/// Every entry of the ledger, proven.
fn ledger(home: &Home) -> Vec<Chained> {
    let sequencer = home.start();
    let (entries, head) = read(&sequencer, 0, 10_000);
    verify(sequencer.view().keys(), &head, &entries).unwrap();
    sequencer.stop();
    entries
}

fn read(sequencer: &Sequencer, from: u64, limit: usize) -> (Vec<Chained>, Head) {
    let (done, answer) = mpsc::channel();
    sequencer.read_ledger(from, limit, move |read| done.send(read).unwrap());
    answer.recv().unwrap().unwrap()
}

#[test]
fn the_ledger_reads_in_pieces_verifies_and_goes_on_after_it_was_cut() {
    let home = Home::made(1);
    let sequencer = home.start();
    for _ in 0..10 {
        wait(
            &sequencer,
            Lane::Grant,
            vec![said(EntryKind::State)],
            nothing(),
        )
        .unwrap();
    }
    let (piece, head) = read(&sequencer, 4, 3);
    assert_eq!(
        piece.iter().map(|entry| entry.seq).collect::<Vec<_>>(),
        [4, 5, 6]
    );
    assert_eq!((head.first, head.next), (1, 11));
    let before = head.bytes;
    let (done, answer) = mpsc::channel();
    sequencer.trim_ledger(8, move |result| done.send(result).unwrap());
    answer.recv().unwrap().unwrap();
    wait(
        &sequencer,
        Lane::Grant,
        vec![said(EntryKind::State)],
        nothing(),
    )
    .unwrap();
    let (rest, head) = read(&sequencer, 0, 100);
    assert_eq!(
        rest.iter().map(|entry| entry.seq).collect::<Vec<_>>(),
        [8, 9, 10, 11]
    );
    assert!(head.bytes < before);
    sequencer.stop();
    assert_eq!(ledger(&home), rest);
}

#[test]
fn a_full_ledger_ends_issuing_keeps_room_for_revocations_and_drops_what_is_aggregated() {
    let mut home = Home::made(1);
    home.location.ledger_max = 8 << 10;
    let sequencer = home.start();
    let mut issued: u64 = 0;
    let refusal = loop {
        let unit = vec![granted(issued), said(EntryKind::Grant)];
        match wait(&sequencer, Lane::Grant, unit, nothing()) {
            Ok(()) => issued += 1,
            Err(error) => break error,
        }
        assert!(issued < 1000, "it never fills");
    };
    assert_eq!(refusal, SubmitError::LedgerFull);
    assert!(sequencer.view().grant(&digest(issued)).is_none());
    let stats = sequencer.stats();
    assert!(stats.ledger.bytes >= stats.ledger_issuing && stats.ledger.bytes < stats.ledger_max);
    let aggregated = vec![said(EntryKind::Read), said(EntryKind::Denial)];
    assert_eq!(
        wait(&sequencer, Lane::Mirror, aggregated, nothing()),
        Ok(())
    );
    assert_eq!(sequencer.stats().ledger_dropped, 2);
    for n in 0..issued {
        let unit = vec![revoked(n), said(EntryKind::Revocation)];
        assert_eq!(wait(&sequencer, Lane::Revocation, unit, nothing()), Ok(()));
    }
    let value = samples::value("secret/data/a", 1, "{}");
    assert_eq!(
        wait(&sequencer, Lane::Mirror, vec![value], nothing()),
        Ok(())
    );
    sequencer.stop();
    let entries = ledger(&home);
    assert_eq!(
        u64::try_from(entries.len()).unwrap(),
        2 * issued,
        "no revocation is lost"
    );
}

/// Children are issued while their parent is revoked with everything under it: none survives.
#[test]
fn no_child_survives_the_revocation_of_its_parent_whatever_the_timing() {
    let home = Home::made(1);
    let sequencer = home.start();
    let outcomes = Mutex::new(HashMap::new());
    for parent in (0..40).map(|n| n * 1000) {
        wait(&sequencer, Lane::Grant, vec![granted(parent)], nothing()).unwrap();
        thread::scope(|scope| {
            for child in 1..=4 {
                let (sequencer, outcomes) = (&sequencer, &outcomes);
                scope.spawn(move || {
                    let n = parent + child;
                    let done = wait(sequencer, Lane::Grant, vec![granted(n)], live(&[parent]));
                    outcomes.lock().unwrap().insert(n, done);
                });
            }
            scope.spawn(|| {
                let done = submit(
                    &sequencer,
                    Lane::Revocation,
                    vec![revoked(parent)],
                    nothing(),
                );
                for live in sequencer.view().grants() {
                    if (1..=4).any(|child| live.grant.digest == digest(parent + child)) {
                        let revocation = samples::revocation(0, RevokeCause::Parent);
                        let revocation = shared::grant::Revocation {
                            digest: live.grant.digest,
                            ..revocation
                        };
                        let change = Change::Revoked(revocation);
                        submit(&sequencer, Lane::Revocation, vec![change], nothing());
                    }
                }
                got(&done).unwrap();
            });
        });
    }
    sequencer.stop();
    let opened = home.open();
    for (n, outcome) in outcomes.into_inner().unwrap() {
        for view in [sequencer.view(), &opened.view] {
            let lives = view.grant(&digest(n)).is_some() && view.revocation(&digest(n)).is_none();
            assert!(!lives, "child {n}, answered {outcome:?}");
        }
    }
}

#[test]
fn a_receipt_that_panics_harms_nobody_else() {
    let home = Home::made(1);
    let held = Held::new(&home);
    held.enter(Lane::Mirror, vec![granted(9)], nothing());
    let panics = |_| panic!("in a receipt");
    held.sequencer
        .submit(Lane::Grant, vec![granted(1)], nothing(), panics);
    let together = submit(&held.sequencer, Lane::Grant, vec![granted(2)], nothing());
    held.release(9);
    assert_eq!(got(&together), Ok(()));
    let later = submit(&held.sequencer, Lane::Grant, vec![granted(3)], nothing());
    assert_eq!(got(&later), Ok(()));
    assert!(held.sequencer.view().grant(&digest(1)).is_some());
    held.sequencer.stop();
}
