//! While the file takes no commit: when it is tried again, and what is kept of the revocation lane meanwhile.

use std::{sync::Arc, time::Duration};

use shared::{
    backoff::Backoff,
    change::{Change, Expects},
    grant::RevokeCause,
    lease::Assignee,
    ledger::EntryKind,
    time::{BootTime, Now, WallTime},
};

use super::{
    super::{
        Lane, SubmitError,
        bind::binds,
        queue::{Done, Submission, answer},
        stage::{Stage, When},
    },
    Worker, ends_a_grant, is_anchored,
};
use crate::store::{
    StoreError,
    fault::{Fault, Remedy},
    reserve::Share,
};

/// What bound in memory alone is stored once the file is mended, up to so many submissions.
const MAX_OWED: usize = 4096;

/// A store that takes no commit.
pub(super) struct Mending {
    fault: Fault,
    /// What was said when it was tried last.
    said: String,
    since: WallTime,
    pauses: Backoff,
    next: BootTime,
    /// What binds in memory and is on no disk, oldest first.
    owed: Vec<Vec<Change>>,
}

impl Mending {
    fn begun(error: &StoreError, now: Now) -> Self {
        let mut mending = Self {
            fault: error.fault(),
            said: String::new(),
            since: now.steady,
            pauses: pauses(error.fault().remedy()),
            next: now.boot,
            owed: Vec::new(),
        };
        mending.failed(error, now);
        mending
    }

    /// It was tried, and failed. Another kind of fault begins with short pauses again.
    fn failed(&mut self, error: &StoreError, now: Now) {
        let fault = error.fault();
        if fault.remedy() != self.fault.remedy() {
            self.pauses = pauses(fault.remedy());
        }
        (self.fault, self.said) = (fault, error.to_string());
        self.next = now.boot.plus(self.pauses.next(Backoff::EVEN));
    }

    /// As people are told it.
    pub(super) fn reason(&self) -> String {
        let (says, said, since) = (self.fault.says(), &self.said, self.since);
        format!("{says} since {since} ({said}); it is tried again by itself")
    }

    /// How long it is until it is tried again.
    pub(super) fn pause(&self, now: Now) -> Duration {
        self.next.since(now.boot)
    }

    fn owe(&mut self, changes: Vec<Change>) {
        if self.owed.len() < MAX_OWED {
            self.owed.push(changes);
        }
    }
}

/// A trial in place costs next to nothing, a copy all that is kept.
fn pauses(remedy: Remedy) -> Backoff {
    match remedy {
        Remedy::InPlace | Remedy::Reopen => {
            Backoff::new(Duration::from_millis(100), 150, Duration::from_secs(5))
        }
        Remedy::Copy => Backoff::new(Duration::from_millis(100), 200, Duration::from_secs(60)),
    }
}

impl Worker {
    /// The store failed: what was not committed is undone, and nothing but revocations is taken until it is mended.
    pub(super) fn begin_mending(&mut self, error: &StoreError) {
        let now = (self.shared.clock)();
        self.writer.take_back();
        let mending = match self.mending.take() {
            Some(mut mending) => {
                mending.failed(error, now);
                mending
            }
            None => {
                tracing::error!(%error, "the replica takes no changes; nothing is issued until it does");
                Mending::begun(error, now)
            }
        };
        self.shared.set_mending(Some(mending.reason()));
        self.mending = Some(mending);
        self.report();
    }

    /// Tries to make the store good again, and stores what is owed.
    pub(super) fn mend(&mut self) {
        let Some(mending) = &self.mending else {
            return;
        };
        if mending.fault == Fault::Full && !self.writer.has_room() {
            let error = StoreError::NoRoom;
            return self.begin_mending(&error);
        }
        if let Err(error) = self.writer.mend(mending.fault.remedy()) {
            return self.begin_mending(&error);
        }
        tracing::info!("the replica takes changes again");
        self.writer.renew_reserve();
        self.commits += 1;
        let owed = self.mending.take().map_or_else(Vec::new, |was| was.owed);
        for changes in owed.into_iter().rev() {
            let done = Box::new(|_| {});
            let expects = Expects::default();
            let owed = Submission::new(Lane::Revocation, changes, expects, done);
            self.shared.submit_first(owed);
        }
        self.shared.set_mending(None);
        self.report();
    }

    /// Keeps what must last of the revocation lane where the file does not take it.
    pub(super) fn keep_all(&mut self, group: Vec<Submission>) {
        for submission in group {
            let (result, done) = match submission.changes.is_empty() {
                true => (Ok(()), submission.done),
                false => self.keep(submission),
            };
            answer(done, result);
        }
        self.report();
    }

    fn keep(&mut self, submission: Submission) -> (Result<(), SubmitError>, Done) {
        let changes = &submission.changes;
        let binds = changes.iter().any(binds);
        let again: Option<Vec<_>> = changes.iter().map(Change::again).collect();
        let binding = changes.iter().any(is_anchored);
        let (kept, done) = match share(changes) {
            Some(share) => self.keep_for(submission, share),
            None => (Err(StoreError::Stopped), submission.done),
        };
        let result = match kept {
            // The state file is written when the store is mended; until then it is as if an older copy could be put back.
            Ok(()) if binding => self
                .writer
                .write_anchor()
                .map_err(|error| self.unkept(&error)),
            Ok(()) => Ok(()),
            Err(error) => {
                let refused = self.unkept(&error);
                match (&mut self.mending, again) {
                    (Some(mending), Some(again)) if binds => mending.owe(again),
                    // Nothing of it was done.
                    _ => {}
                }
                Err(refused)
            }
        };
        (result, done)
    }

    fn keep_for(
        &mut self,
        mut submission: Submission,
        share: Share,
    ) -> (Result<(), StoreError>, Done) {
        let view = Arc::clone(&self.shared.view);
        let mut stage = Stage::new(&view);
        stage.asked_at(submission.expects.asked_at);
        // What has bound is not refused for the ledger: entries that find no room are left out.
        let admitted = self.admit(&mut submission, &stage);
        let ends = submission.changes.iter().any(ends_a_grant);
        let (wanted, done) = (submission.seals(), submission.done);
        let kept = match admitted {
            Ok(()) => self.keep_staged(submission.changes, &mut stage, wanted, share),
            Err(_) => Err(StoreError::Stopped),
        };
        match kept {
            Ok(()) => {
                stage.publish();
                self.shared.room.lock().stored(ends);
            }
            Err(_) => self.shared.room.lock().failed(),
        }
        (kept, done)
    }

    fn keep_staged(
        &mut self,
        changes: Vec<Change>,
        stage: &mut Stage<'_>,
        wanted: u64,
        share: Share,
    ) -> Result<(), StoreError> {
        self.writer.prepare_kept(wanted)?;
        for change in changes {
            stage.add(change, When::Already, self.writer.sealer())?;
        }
        let (ops, entries) = (stage.take_ops(), stage.take_entries());
        self.writer.keep(ops, &entries, 0, share)
    }

    /// What is said of something that is on no disk.
    fn unkept(&self, error: &StoreError) -> SubmitError {
        let mending = self.mending.as_ref();
        let reason = mending.map_or_else(|| error.to_string(), Mending::reason);
        SubmitError::Failed(match error {
            StoreError::Stopped => reason,
            error => format!("{reason}; {error}"),
        })
    }
}

/// On whose account something is kept; none for what need not be: it ends by itself, or is found again.
fn share(changes: &[Change]) -> Option<Share> {
    let is_operators = |change: &Change| matches!(change, Change::Ledger(entry) if entry.kind == EntryKind::Operator);
    let is_doubt =
        |change: &Change| matches!(change, Change::Doubted(_) | Change::TokenDoubted(..));
    if !changes.iter().any(lasts) {
        return changes.iter().any(is_doubt).then_some(Share::Learned);
    }
    if changes.iter().any(is_operators) {
        return Some(Share::Operator);
    }
    Some(match (peer(changes), changes.iter().any(is_requested)) {
        (Some(uid), _) => Share::Peer(uid),
        // Seen in an answer of the primary's to a client.
        (None, true) => Share::Learned,
        (None, false) => Share::Own,
    })
}

/// What a restart must not undo.
fn lasts(change: &Change) -> bool {
    let own = matches!(
        change,
        Change::Grant(_) | Change::Offboarded(_) | Change::Quarantine(_) | Change::Queue(_)
    );
    own || is_anchored(change)
}

fn is_requested(change: &Change) -> bool {
    let by_request = [RevokeCause::Orphaning, RevokeCause::Requested];
    matches!(change, Change::Revoked(of) if by_request.contains(&of.cause))
}

/// Who asked for it, if it was a peer: whom the queue or, of a request, the ledger names.
fn peer(changes: &[Change]) -> Option<u32> {
    let requested = changes.iter().any(is_requested);
    changes.iter().find_map(|change| match change {
        Change::Queue(queued) => queued.peer.as_ref().map(|peer| peer.uid),
        Change::Ledger(entry) if requested => entry.uid,
        Change::LeaseDetached(_, Assignee::Workload(peer)) => Some(peer.uid),
        _ => None,
    })
}

/// What of a submission is kept in the reserve if its commit fails.
pub(super) fn spare(submission: &Submission) -> Option<Vec<Change>> {
    match submission.when {
        When::Already => submission.changes.iter().map(Change::again).collect(),
        When::Committed => None,
    }
}
