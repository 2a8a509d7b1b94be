//! The writer thread: takes a group, rechecks it, seals it, commits it, publishes it, answers.

use std::{sync::Arc, time::Duration};

use shared::{
    change::{Change, Expects},
    grant::RevokeCause,
    time::Now,
};

use super::{
    Lane, Stats, SubmitError,
    queue::{Control, Done, Shared, Submission, Work, answer},
    recheck::{authority_holds, stands},
    stage::{Stage, When},
};
use crate::store::{StoreError, writer::Writer};

mod mending;
mod overtaken;
mod room;

use mending::Mending;
use overtaken::Handed;

/// The log is moved into the file after about so many bytes, when nobody waits.
const CHECKPOINT_IDLE: u64 = 1 << 20;
/// After so many, whoever waits.
const CHECKPOINT_FORCED: u64 = 64 << 20;
/// What a commit adds to the log beside its rows: the pages that it touches.
const COMMIT_WEIGHT: u64 = 16 << 10;
/// Nothing came for so long: there is time for a checkpoint.
const IDLE: Duration = Duration::from_millis(50);

/// The writer thread's own.
pub(super) struct Worker {
    writer: Writer,
    shared: Arc<Shared>,
    commits: u64,
    /// While the store takes no commit.
    mending: Option<Mending>,
}

/// A submission that is in the group.
struct Accepted {
    done: Done,
    expects: Expects,
    handed: Vec<Handed>,
    /// It is answered once the state file holds its generation.
    anchored: bool,
    /// What is kept of it in the reserve if the commit fails.
    spare: Option<Vec<Change>>,
}

/// Refuses whatever waits when the thread ends, even where it ends by a panic.
struct Ended<'a>(&'a Shared);

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        self.0.ended();
    }
}

impl Worker {
    pub(super) fn new(mut writer: Writer, shared: Arc<Shared>) -> Self {
        let failing = writer.failing.take();
        let mut worker = Self {
            writer,
            shared,
            commits: 0,
            mending: None,
        };
        worker.report();
        failing.inspect(|error| worker.begin_mending(error));
        worker
    }

    pub(super) fn run(&mut self) {
        let shared = Arc::clone(&self.shared);
        let _ended = Ended(&shared);
        loop {
            let pause = self.pause();
            if pause == Some(Duration::ZERO) && self.mending.is_some() {
                self.mend();
                continue;
            }
            let result = match shared.next(pause) {
                Work::Control(control) => self.control(control),
                Work::Group(group) => self.group(group),
                Work::Idle if self.mending.is_some() => {
                    self.mend();
                    Ok(())
                }
                Work::Idle => self.checkpoint(),
                Work::Stop => break,
            };
            let forced = self.writer.since_checkpoint >= CHECKPOINT_FORCED;
            let result = result.and_then(|()| match forced && self.mending.is_none() {
                true => self.checkpoint(),
                false => Ok(()),
            });
            if let Err(error) = result {
                self.begin_mending(&error);
            }
        }
        self.end();
    }

    /// The last try to get everything into the file, and the generation into the state file.
    fn end(&mut self) {
        if self.mending.is_some() {
            self.mend();
        }
        if self.mending.is_none()
            && let Err(error) = self.checkpoint()
        {
            tracing::warn!(%error, "the log of commits was not moved into the replica's file");
        }
    }

    /// How long nothing may come before there is something to do.
    fn pause(&self) -> Option<Duration> {
        let idle = || (self.writer.since_checkpoint >= CHECKPOINT_IDLE).then_some(IDLE);
        match &self.mending {
            Some(mending) => Some(mending.pause((self.shared.clock)())),
            None => idle(),
        }
    }

    fn group(&mut self, group: Vec<Submission>) -> Result<(), StoreError> {
        if self.mending.is_some() {
            self.keep_all(group);
            return Ok(());
        }
        let mut accepted = Vec::with_capacity(group.len());
        let mut refused = Vec::new();
        let result = self.store(group, &mut accepted, &mut refused);
        if result.is_err() {
            self.shared.room.lock().failed();
        }
        self.report();
        for (done, error) in refused {
            answer(done, Err(error));
        }
        match result {
            Ok(now) => self.answer_all(accepted, now),
            Err(error) => {
                self.failed(accepted, &error);
                Ok(())
            }
        }
    }

    /// Answers what was committed. The state file comes before, because whoever is told of a revocation must not lose it to
    /// an older copy.
    fn answer_all(&mut self, accepted: Vec<Accepted>, now: Now) -> Result<(), StoreError> {
        let anchored = match accepted.iter().any(|one| one.anchored) {
            true => self.writer.write_anchor(),
            false => Ok(()),
        };
        for one in accepted {
            let outcome = match &anchored {
                Err(error) if one.anchored => Err(SubmitError::Failed(error.to_string())),
                _ => self.take_back_overtaken(&one.expects, one.handed, now),
            };
            answer(one.done, outcome);
        }
        anchored
    }

    /// A group was not committed, or is not anchored: what takes authority away is kept in the reserve, the rest refused.
    fn failed(&mut self, accepted: Vec<Accepted>, error: &StoreError) {
        self.begin_mending(error);
        let why = self.mending.as_ref().map(Mending::reason);
        let refusal = SubmitError::Failed(why.unwrap_or_else(|| error.to_string()));
        let mut kept = Vec::new();
        for Accepted {
            done,
            expects,
            spare,
            ..
        } in accepted
        {
            match spare {
                Some(changes) => {
                    kept.push(Submission::new(Lane::Revocation, changes, expects, done));
                }
                None => answer(done, Err(refusal.clone())),
            }
        }
        self.keep_all(kept);
    }

    /// Everything up to the answers.
    ///
    /// Submissions are rechecked one by one, each against what those before it leave, because what two of them rely on may
    /// be the same. Nothing is published before the commit, because readers would act on what a crash takes back.
    fn store(
        &mut self,
        group: Vec<Submission>,
        accepted: &mut Vec<Accepted>,
        refused: &mut Vec<(Done, SubmitError)>,
    ) -> Result<Now, StoreError> {
        let now = (self.shared.clock)();
        let mut group = group.into_iter();
        let seals: u64 = group.as_slice().iter().map(Submission::seals).sum();
        // One more for who takes how much of the ledger.
        let prepared = self.writer.prepare(seals.saturating_add(1), now.steady);
        let view = Arc::clone(&self.shared.view);
        let mut stage = Stage::new(&view);
        let mut ends = false;
        let staged = prepared.and_then(|()| {
            for mut submission in group.by_ref() {
                let stands = self.recheck(&submission, &stage, now);
                match stands.and_then(|()| self.admit(&mut submission, &stage)) {
                    Ok(()) => {
                        ends |= submission.changes.iter().any(ends_a_grant);
                        stage_one(&mut self.writer, &mut stage, submission, accepted)?;
                    }
                    Err(error) => refused.push((submission.done, error)),
                }
            }
            Ok(())
        });
        // After a failure the rest is answered like those before it.
        accepted.extend(group.map(|submission| Accepted {
            spare: mending::spare(&submission),
            anchored: false,
            done: submission.done,
            expects: Expects::default(),
            handed: Vec::new(),
        }));
        staged?;
        let (mut ops, entries) = (stage.take_ops(), stage.take_entries());
        let told = self.tell_header(&stage);
        if told || !ops.is_empty() || !entries.is_empty() {
            self.make_space(&mut ops)?;
            self.writer.commit(&ops, &entries)?;
            self.writer.since_checkpoint += COMMIT_WEIGHT;
            self.commits += 1;
        }
        stage.publish();
        self.shared.room.lock().stored(ends);
        Ok(now)
    }

    /// What the next commit says beside its rows. Whether that differs from the last.
    fn tell_header(&mut self, stage: &Stage<'_>) -> bool {
        let authority = self.shared.view.authority();
        let header = &mut self.writer.header;
        let before = header.incomplete;
        header.incomplete = stage.lost().unwrap_or(&authority.lost).incomplete();
        let known = authority.cluster.as_ref().map(|cluster| &cluster.id);
        if let Some(cluster) = stage.cluster().or(known) {
            header.cluster = Some(cluster.clone());
        }
        header.incomplete != before
    }

    /// Whether a submission may still be applied: others were committed since it was decided. What is in the revocation
    /// lane is not asked again, because it has bound in memory: refused now, it would hold until the next start only.
    fn recheck(
        &self,
        submission: &Submission,
        stage: &Stage<'_>,
        now: Now,
    ) -> Result<(), SubmitError> {
        if submission.when == When::Already {
            return Ok(());
        }
        authority_holds(&self.shared.view.authority(), &submission.expects, now)?;
        let lives = |digest| {
            let live = stage.live(digest);
            live.is_some_and(|live| stands(&self.shared.view, &live.grant, now))
                && !stage.is_revoked(digest)
        };
        if !submission.expects.live.iter().all(lives) {
            return Err(SubmitError::Conflict);
        }
        if let Some(kept) = &submission.expects.kept
            && !stage.is_kept(kept)
        {
            return Err(SubmitError::Conflict);
        }
        if let Some(pooled) = &submission.expects.pooled
            && !stage.is_pooled(pooled, now)
        {
            return Err(SubmitError::Conflict);
        }
        for change in &submission.changes {
            match change {
                Change::Grant(grant) if stage.is_revoked(&grant.digest) => {
                    return Err(SubmitError::Conflict);
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn control(&mut self, control: Control) -> Result<(), StoreError> {
        let (result, done) = match control {
            Control::ReadLedger { from, limit, done } => {
                let read = self.writer.entries(from, limit);
                // What the reserve holds comes with the next commit.
                let ledger = self.writer.committed.ledger.clone();
                done(
                    read.map(|entries| (entries, ledger))
                        .map_err(|error| match error {
                            StoreError::Opening(_) => SubmitError::Damaged,
                            error => failed(&error),
                        }),
                );
                return Ok(());
            }
            Control::LedgerDelivered { done, .. } | Control::ClearRollback(done)
                if let Some(mending) = &self.mending =>
            {
                answer(done, Err(SubmitError::Failed(mending.reason())));
                return Ok(());
            }
            Control::LedgerDelivered { through, done } => (self.delivered(through), done),
            Control::ClearRollback(done) => {
                let result = self.writer.clear_rollback();
                if result.is_ok() {
                    self.shared.view.set_rolled_back(false);
                }
                (result, done)
            }
        };
        self.report();
        done(result.as_ref().copied().map_err(failed));
        result
    }

    fn checkpoint(&mut self) -> Result<(), StoreError> {
        self.writer.checkpoint()?;
        self.writer.write_anchor()
    }

    fn report(&self) {
        let writer = &self.writer;
        let (ledger_max, ledger_delivered) = {
            let room = self.shared.room.lock();
            (room.max(), room.delivered())
        };
        self.shared.set_stats(Stats {
            generation: writer.durable,
            commits: self.commits,
            epoch: writer.budget.epoch(),
            ledger: writer.header.ledger.clone(),
            ledger_max,
            ledger_delivered,
            ..Stats::default()
        });
    }
}

/// Adds a submission to the stage; it is in `accepted` afterwards, whatever happens.
fn stage_one(
    writer: &mut Writer,
    stage: &mut Stage<'_>,
    submission: Submission,
    accepted: &mut Vec<Accepted>,
) -> Result<(), StoreError> {
    let conditional = submission.when == When::Committed && submission.expects.is_conditional();
    let mut handed = Vec::new();
    let mut result = Ok(());
    let spare = mending::spare(&submission);
    let anchored = submission.changes.iter().any(is_anchored);
    stage.asked_at(submission.expects.asked_at);
    for change in submission.changes {
        if conditional {
            handed.extend(Handed::by(&change, stage));
        }
        result = stage.add(change, submission.when, writer.sealer());
        if result.is_err() {
            break;
        }
    }
    accepted.push(Accepted {
        spare,
        anchored,
        done: submission.done,
        expects: submission.expects,
        handed,
    });
    result.map_err(StoreError::from)
}

fn failed(error: &StoreError) -> SubmitError {
    SubmitError::Failed(error.to_string())
}

fn ends_a_grant(change: &Change) -> bool {
    matches!(change, Change::GrantForgotten(_) | Change::Revoked(_))
}

/// Whether a rollback of this must be noticed: everything that takes authority away by somebody's decision.
fn is_anchored(change: &Change) -> bool {
    match change {
        // An older copy would give the same lease to somebody else, or to who gave it up.
        Change::Block(_)
        | Change::LeaseDetached(..)
        | Change::LeaseTaken(..)
        | Change::Phase(_) => true,
        Change::Revoked(revocation) => !matches!(
            revocation.cause,
            RevokeCause::Clock | RevokeCause::Expired | RevokeCause::OutageBound
        ),
        _ => false,
    }
}
