//! What waits for the writer: bounded lanes, in the order of their urgency.

use std::{
    collections::VecDeque,
    panic::{self, AssertUnwindSafe},
    sync::Arc,
    thread::{self, JoinHandle},
    time::Duration,
};

use parking_lot::{Condvar, Mutex};
use shared::{
    change::{Change, Expects},
    time::Now,
};

use super::{Lane, Stats, SubmitError, bind::bind, recheck::holds, stage::When};
use crate::{
    ledger::{Chained, Head},
    store::Room,
    view::View,
};

/// Submissions of one group, over all lanes.
const MAX_GROUP: usize = 512;
/// Bytes of one group, roughly: what a commit costs is what a grant waits for.
const GROUP_WEIGHT: usize = 4 << 20;
/// The same for what the mirror adds to a group that somebody waits for.
const SHARED_WEIGHT: usize = 256 << 10;
/// What may wait in a lane, in bytes roughly. One submission is always accepted, whatever its size.
const LANE_WEIGHT: usize = 64 << 20;
/// What a change weighs beside the bodies in it.
const CHANGE_WEIGHT: usize = 512;
/// What a row of coverage weighs.
const COVERAGE_WEIGHT: usize = 256;

pub(super) type Done = Box<dyn FnOnce(Result<(), SubmitError>) + Send>;
pub(super) type LedgerDone = Box<dyn FnOnce(Result<(Vec<Chained>, Head), SubmitError>) + Send>;

/// A unit of changes.
pub(super) struct Submission {
    pub(super) changes: Vec<Change>,
    pub(super) expects: Expects,
    pub(super) when: When,
    pub(super) done: Done,
    weight: usize,
}

/// What is not a change.
pub(super) enum Control {
    ClearRollback(Done),
    ReadLedger {
        from: u64,
        limit: usize,
        done: LedgerDone,
    },
    LedgerDelivered {
        through: u64,
        done: Done,
    },
}

/// What the writer is to do next.
pub(super) enum Work {
    Control(Control),
    Group(Vec<Submission>),
    /// Nothing came for a while.
    Idle,
    Stop,
}

/// What threads share with the writer.
pub(super) struct Shared {
    pub(super) view: Arc<View>,
    pub(super) clock: Box<dyn Fn() -> Now + Send + Sync>,
    pub(super) thread: Mutex<Option<JoinHandle<()>>>,
    pub(super) room: Mutex<Room>,
    queue: Mutex<Queue>,
    wake: Condvar,
}

#[derive(Default)]
struct Queue {
    lanes: [Waiting; 3],
    controls: VecDeque<Control>,
    state: State,
    /// Why the store takes nothing but revocations, while it does.
    mending: Option<String>,
    stats: Stats,
}

#[derive(Default)]
struct Waiting {
    submissions: VecDeque<Submission>,
    weight: usize,
}

#[derive(Default)]
enum State {
    #[default]
    Running,
    /// Accepts nothing more, stores what waits.
    Stopping,
    Stopped,
}

impl Submission {
    pub(super) fn new(lane: Lane, changes: Vec<Change>, expects: Expects, done: Done) -> Self {
        let weight = changes.iter().map(weight).sum();
        let when = match lane {
            Lane::Revocation => When::Already,
            Lane::Grant | Lane::Mirror => When::Committed,
        };
        Self {
            changes,
            expects,
            when,
            done,
            weight,
        }
    }

    /// Encryptions that it needs at most.
    pub(super) fn seals(&self) -> u64 {
        u64::try_from(self.changes.len())
            .unwrap_or(u64::MAX)
            .saturating_mul(2)
    }
}

impl Shared {
    pub(super) fn new(
        view: Arc<View>,
        room: Room,
        clock: Box<dyn Fn() -> Now + Send + Sync>,
    ) -> Self {
        Self {
            view,
            clock,
            thread: Mutex::new(None),
            room: Mutex::new(room),
            queue: Mutex::default(),
            wake: Condvar::new(),
        }
    }

    pub(super) fn submit(&self, lane: Lane, submission: Submission) {
        let now = (lane == Lane::Revocation).then(|| (self.clock)());
        let mut queue = self.queue.lock();
        if let Some(now) = now {
            // Under the queue's lock, so that states bind in memory in the order that they are stored in.
            if let Err(error) = holds(&self.view, &submission.expects, now) {
                drop(queue);
                return answer(submission.done, Err(error));
            }
            bind(&self.view, &submission.changes);
        }
        match queue.accept(lane, submission) {
            None => {
                self.wake.notify_one();
            }
            Some((submission, error)) => {
                drop(queue);
                answer(submission.done, Err(error));
            }
        }
    }

    pub(super) fn control(&self, control: Control) {
        let mut queue = self.queue.lock();
        match queue.refusal(control.is_read()) {
            None => {
                queue.controls.push_back(control);
                self.wake.notify_one();
            }
            Some(error) => {
                drop(queue);
                control.refuse(error);
            }
        }
    }

    /// What to do next; waits for it, or until nothing came for as long as `idle`.
    pub(super) fn next(&self, idle: Option<Duration>) -> Work {
        let mut queue = self.queue.lock();
        loop {
            if let Some(control) = queue.controls.pop_front() {
                return Work::Control(control);
            }
            let group = queue.group();
            if !group.is_empty() {
                return Work::Group(group);
            }
            if !matches!(queue.state, State::Running) {
                return Work::Stop;
            }
            match idle {
                None => self.wake.wait(&mut queue),
                Some(patience) => {
                    if self.wake.wait_for(&mut queue, patience).timed_out() {
                        return Work::Idle;
                    }
                }
            }
        }
    }

    /// Puts a submission of the writer's own before everything else.
    pub(super) fn submit_first(&self, submission: Submission) {
        let mut queue = self.queue.lock();
        let revocations = queue.lane(Lane::Revocation);
        revocations.weight = revocations.weight.saturating_add(submission.weight);
        revocations.submissions.push_front(submission);
    }

    /// While there is a reason, nothing but revocations is taken: what waits is refused, and what comes.
    pub(super) fn set_mending(&self, why: Option<String>) {
        let mut queue = self.queue.lock();
        queue.mending.clone_from(&why);
        let Some(why) = why else { return };
        let [_, grants, mirror] = &mut queue.lanes;
        let refused = [grants, mirror].map(Waiting::take_what_changes);
        drop(queue);
        for submission in refused.into_iter().flatten() {
            answer(submission.done, Err(SubmitError::Failed(why.clone())));
        }
    }

    pub(super) fn is_mending(&self) -> bool {
        self.queue.lock().mending.is_some()
    }

    /// The thread has ended.
    pub(super) fn ended(&self) {
        self.close(State::Stopped);
    }

    pub(super) fn stop(&self) {
        {
            let mut queue = self.queue.lock();
            if matches!(queue.state, State::Running) {
                queue.state = State::Stopping;
            }
            self.wake.notify_one();
        }
        let thread = self.thread.lock().take();
        if let Some(thread) = thread
            && thread.thread().id() != thread::current().id()
        {
            let _ = thread.join();
        }
    }

    pub(super) fn stats(&self) -> Stats {
        let queue = self.queue.lock();
        Stats {
            waiting: queue.lanes.each_ref().map(|lane| lane.submissions.len()),
            failed: queue.mending.clone(),
            ..queue.stats.clone()
        }
    }

    pub(super) fn set_stats(&self, stats: Stats) {
        self.queue.lock().stats = stats;
    }

    fn close(&self, state: State) {
        let mut queue = self.queue.lock();
        queue.state = state;
        let error = SubmitError::Stopped;
        let waiting: Vec<_> = queue
            .lanes
            .iter_mut()
            .flat_map(|lane| lane.submissions.drain(..))
            .collect();
        let controls: Vec<_> = queue.controls.drain(..).collect();
        drop(queue);
        for submission in waiting {
            answer(submission.done, Err(error.clone()));
        }
        for control in controls {
            control.refuse(error.clone());
        }
    }
}

impl Queue {
    /// Why something is not accepted. `spared`: it is, even while the store is being mended.
    fn refusal(&self, spared: bool) -> Option<SubmitError> {
        match (&self.state, &self.mending) {
            (State::Stopping | State::Stopped, _) => Some(SubmitError::Stopped),
            (State::Running, Some(why)) if !spared => Some(SubmitError::Failed(why.clone())),
            (State::Running, _) => None,
        }
    }

    fn lane(&mut self, lane: Lane) -> &mut Waiting {
        let [revocations, grants, mirror] = &mut self.lanes;
        match lane {
            Lane::Revocation => revocations,
            Lane::Grant => grants,
            Lane::Mirror => mirror,
        }
    }

    /// Accepts a submission, or gives it back with why not.
    fn accept(&mut self, lane: Lane, submission: Submission) -> Option<(Submission, SubmitError)> {
        // What changes nothing only waits for its turn: the fence is such.
        let spared = lane == Lane::Revocation || submission.changes.is_empty();
        if let Some(error) = self.refusal(spared) {
            return Some((submission, error));
        }
        let waiting = self.lane(lane);
        let weight = waiting.weight.saturating_add(submission.weight);
        if weight > LANE_WEIGHT && !waiting.submissions.is_empty() {
            return Some((submission, SubmitError::Busy));
        }
        waiting.weight = weight;
        waiting.submissions.push_back(submission);
        None
    }

    /// The next group: revocations, then grants, then of the mirror what does not keep those waiting.
    fn group(&mut self) -> Vec<Submission> {
        let [revocations, grants, mirror] = &mut self.lanes;
        let mut group = Vec::new();
        revocations.take(&mut group, GROUP_WEIGHT);
        grants.take(&mut group, GROUP_WEIGHT);
        let room = if group.is_empty() {
            GROUP_WEIGHT
        } else {
            SHARED_WEIGHT
        };
        mirror.take(&mut group, room);
        group
    }
}

impl Waiting {
    /// Takes out everything that is to be stored.
    fn take_what_changes(&mut self) -> VecDeque<Submission> {
        let all = std::mem::take(&mut self.submissions);
        let (taken, rest) = all.into_iter().partition(|one| !one.changes.is_empty());
        self.submissions = rest;
        self.weight = 0;
        taken
    }

    /// Moves submissions into `group` up to its length, and of this lane up to `room` bytes, but at least one where
    /// the group is empty.
    fn take(&mut self, group: &mut Vec<Submission>, mut room: usize) {
        while group.len() < MAX_GROUP
            && let Some(next) = self.submissions.front()
            && (next.weight <= room || group.is_empty())
        {
            room = room.saturating_sub(next.weight);
            self.weight = self.weight.saturating_sub(next.weight);
            group.extend(self.submissions.pop_front());
        }
    }
}

impl Control {
    fn is_read(&self) -> bool {
        matches!(self, Self::ReadLedger { .. })
    }

    pub(super) fn refuse(self, error: SubmitError) {
        match self {
            Self::ClearRollback(done) | Self::LedgerDelivered { done, .. } => {
                answer(done, Err(error));
            }
            Self::ReadLedger { done, .. } => done(Err(error)),
        }
    }
}

/// Gives a receipt its answer. One that panics harms nobody else: what it speaks of is durable and published, or
/// nothing of it was done.
pub(super) fn answer(done: Done, result: Result<(), SubmitError>) {
    if panic::catch_unwind(AssertUnwindSafe(|| done(result))).is_err() {
        tracing::error!("a receipt panicked");
    }
}

fn weight(change: &Change) -> usize {
    let body = match change {
        Change::Record(_, Some(body)) | Change::Lease(_, Some(body)) => body.expose().len(),
        Change::Policies(set) => set.policies.values().map(|policy| policy.text.len()).sum(),
        Change::Coverage(hour) => hour.rows.len().saturating_mul(COVERAGE_WEIGHT),
        Change::Key(key) => key.metadata.len(),
        _ => 0,
    };
    body.saturating_add(CHANGE_WEIGHT)
}
