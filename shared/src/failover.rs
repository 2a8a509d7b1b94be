//! The failover machine: which side is authoritative, and when that changes.
//!
//! Pure: [`Machine::handle`] takes an [`Event`] and a [`Context`], and returns [`Action`]s; [`Machine::deadline`] is the
//! one moment at which it wants to be woken. Waking it early is harmless, and so is an action's end that comes
//! late: actions carry ids, and only the one that is awaited counts.

pub mod state;

use alloc::{string::String, vec::Vec};
use core::time::Duration;

pub use state::{Cause, Outage, Phase};

use crate::{
    backoff::Backoff,
    name::OutageId,
    time::{BootTime, Deadline, Now, WallTime},
};

/// What the machine goes by, from the configuration.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Knobs {
    /// Failed probes in a row that make an outage; at least 1.
    pub failures: u32,
    /// Good probes in a row that begin the recovery; at least 1.
    pub successes: u32,
    /// Between probes while following.
    pub probe_interval: Duration,
    /// For one probe; one that has not ended by then has failed.
    pub probe_timeout: Duration,
    /// How long an outage may last, from the last complete verification of authority.
    pub max_outage: Duration,
}

impl Knobs {
    /// Between probes in Suspect.
    pub const SUSPECT_INTERVAL: Duration = Duration::from_millis(200);
    /// Between probes after a good one in an outage, and while recovering.
    pub const GOOD_INTERVAL: Duration = Duration::from_secs(1);
    /// An audited success this old no longer stands for the authenticated half of a probe.
    pub const AUDITED_FOR: Duration = Duration::from_secs(30);
    /// While following, the authenticated half is sent at most this often.
    pub const AUDITED_INTERVAL: Duration = Duration::from_secs(60);
    /// A recovery that takes longer has failed.
    pub const RECOVERY_TIMEOUT: Duration = Duration::from_secs(120);
    /// What a probe's task gets beyond [`Knobs::probe_timeout`] to say how it ended.
    pub const GRACE: Duration = Duration::from_millis(250);

    /// The longest that an outage can go unnoticed by a caller that waits, from its request on.
    pub fn worst_detection(&self, read_deadline: Duration) -> Duration {
        let round = self.probe_timeout.max(Self::SUSPECT_INTERVAL);
        read_deadline + round * (self.failures + 1)
    }
}

/// Names one action, so that its end can be told from another's.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ActionId(u64);

/// What the edges tell the machine.
#[derive(Clone, PartialEq, Debug)]
pub enum Event {
    /// A forward failed as outages fail: reason to probe at once, no more.
    ForwardFailed,
    /// A forward was answered. Postpones the next probe while following; counts for nothing else.
    ForwardSucceeded {
        /// Whether it was authenticated and succeeded, so that audited requests are known to work.
        audited: bool,
    },
    /// An operator ordered the cutover.
    OperatorStart(String),
    /// An operator lifted it.
    OperatorStop,
    /// A probe ended.
    Probed(ActionId, Probe),
    /// A recovery ended.
    Recovered(ActionId, Recovery),
    /// Time has passed.
    Wake,
}

/// How a probe ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Probe {
    /// Failed as outages fail.
    Failed(Cause),
    /// Answered; `audited` if the authenticated half was asked for and went through, or was refused as a
    /// decision: both prove that the primary serves.
    Good {
        /// Whether the authenticated half was part of it.
        audited: bool,
    },
}

/// How a recovery ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Recovery {
    /// Settled: the primary takes over.
    Done,
    /// It could not be finished; the outage goes on.
    Failed(String),
}

/// What the machine wants done.
#[derive(Clone, PartialEq, Debug)]
pub enum Action {
    /// The state changed: publish it, then store it. The first action of its batch where there is one.
    Enter(Phase),
    /// Refuse and revoke every replica grant: the outage outlived its bound.
    Exhaust,
    /// Probe the primary, and tell the end before `deadline`.
    Probe {
        /// Names the end.
        id: ActionId,
        /// Whether the authenticated half is needed.
        audited: bool,
        /// After this its end is ignored.
        deadline: BootTime,
    },
    /// Settle with the primary.
    Recover {
        /// Names the end.
        id: ActionId,
        /// What is settled.
        outage: Outage,
    },
    /// A recovery under way is of no use any more: stop it.
    StopRecovery,
}

/// What a transition needs besides the event.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    /// The present.
    pub now: Now,
    /// When every workload's authority was last verified completely; none if never.
    pub authority: Option<WallTime>,
    /// A fresh id, used if an outage begins.
    pub fresh_id: &'a OutageId,
    /// In 0..1: spreads probes of many hosts.
    pub jitter: f64,
}

/// The machine.
#[derive(Clone, Debug)]
pub struct Machine {
    knobs: Knobs,
    state: State,
    pending: Option<Pending>,
    last_audited: Option<BootTime>,
    last_asked: Option<BootTime>,
    next_id: u64,
}

/// Timers and counts of each state; what others see of it is its [`Phase`].
#[derive(Clone, Debug)]
enum State {
    Following {
        next: BootTime,
    },
    Suspect {
        failed: u32,
        next: BootTime,
    },
    Holdover {
        outage: Outage,
        good: u32,
        next: BootTime,
        backoff: Backoff,
    },
    Recovering {
        from: Bound,
        outage: Outage,
        id: ActionId,
        until: BootTime,
        failed: u32,
        next: BootTime,
    },
    Exhausted {
        outage: Outage,
        good: u32,
        next: BootTime,
        backoff: Backoff,
    },
}

/// Which state a recovery falls back to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Bound {
    Within,
    Exhausted,
}

#[derive(Clone, Copy, Debug)]
struct Pending {
    id: ActionId,
    deadline: BootTime,
}

impl Machine {
    /// Starts, at `now`: in the outage that was stored, with its original bounds, else in Suspect.
    pub fn start(knobs: Knobs, stored: Option<Phase>, now: Now) -> Self {
        let next = now.boot;
        let state = match stored {
            None | Some(Phase::Following | Phase::Suspect) => State::Suspect { failed: 0, next },
            Some(Phase::Holdover(outage) | Phase::Recovering(outage)) => State::Holdover {
                outage,
                good: 0,
                next,
                backoff: Backoff::PROBES,
            },
            Some(Phase::Exhausted(outage)) => State::Exhausted {
                outage,
                good: 0,
                next,
                backoff: Backoff::PROBES,
            },
        };
        Self {
            knobs,
            state,
            pending: None,
            last_audited: None,
            last_asked: None,
            next_id: 1,
        }
    }

    /// The state as others see it.
    pub fn phase(&self) -> Phase {
        match &self.state {
            State::Following { .. } => Phase::Following,
            State::Suspect { .. } => Phase::Suspect,
            State::Holdover { outage, .. } => Phase::Holdover(outage.clone()),
            State::Recovering { outage, .. } => Phase::Recovering(outage.clone()),
            State::Exhausted { outage, .. } => Phase::Exhausted(outage.clone()),
        }
    }

    /// When the machine wants to be woken, on the boot clock. The outage bound may lie on the wall clock:
    /// [`Event::Wake`] after a clock step finds it.
    pub fn deadline(&self, now: Now) -> BootTime {
        let own = match &self.state {
            State::Following { next }
            | State::Suspect { next, .. }
            | State::Holdover { next, .. }
            | State::Exhausted { next, .. } => *next,
            State::Recovering { next, until, .. } => (*next).min(*until),
        };
        // With a probe under way the next one waits for its end.
        let own = match (&self.pending, &self.state) {
            (None, _) => own,
            (Some(pending), State::Recovering { until, .. }) => pending.deadline.min(*until),
            (Some(pending), _) => pending.deadline,
        };
        match self.bounded() {
            Some(outage) => own.min(now.boot.plus(outage.bound.remaining(now))),
            None => own,
        }
    }

    /// New knobs from a changed configuration. A shorter `max_outage` binds the running outage too.
    pub fn reconfigure(&mut self, knobs: Knobs, now: Now) {
        let cut = self.knobs.max_outage.saturating_sub(knobs.max_outage);
        self.knobs = knobs;
        if let State::Holdover { outage, .. } | State::Recovering { outage, .. } = &mut self.state {
            outage.bound = outage
                .bound
                .earliest(Deadline::at(outage.bound.wall.minus(cut), now));
        }
    }

    /// Takes one event and says what is to be done.
    pub fn handle(&mut self, event: Event, context: &Context<'_>) -> Vec<Action> {
        let mut actions = Vec::new();
        match event {
            Event::Wake => {}
            Event::ForwardFailed => self.forward_failed(context.now),
            Event::ForwardSucceeded { audited } => self.forward_succeeded(audited, context.now),
            Event::OperatorStart(reason) => self.operator_start(reason, context, &mut actions),
            Event::OperatorStop => self.operator_stop(context.now, &mut actions),
            Event::Probed(id, probe) => {
                if self.pending.is_some_and(|pending| pending.id == id) {
                    self.pending = None;
                    self.probed(probe, context, &mut actions);
                }
            }
            Event::Recovered(id, end) => self.recovered(id, end, context.now, &mut actions),
        }
        self.catch_up(context, &mut actions);
        actions
    }

    /// Whatever time alone brings about.
    fn catch_up(&mut self, context: &Context<'_>, actions: &mut Vec<Action>) {
        let now = context.now;
        if let Some(pending) = self.pending
            && now.boot >= pending.deadline
        {
            self.pending = None;
            self.probed(Probe::Failed(lost_probe()), context, actions);
        }
        if let State::Recovering { id, until, .. } = &self.state
            && now.boot >= *until
        {
            let id = *id;
            self.recovered(
                id,
                Recovery::Failed(String::from("timed out")),
                now,
                actions,
            );
        }
        self.exhaust_if_due(now, actions);
        self.probe_if_due(now, actions);
    }

    fn exhaust_if_due(&mut self, now: Now, actions: &mut Vec<Action>) {
        let Some(outage) = self.bounded().filter(|outage| outage.bound.passed(now)) else {
            return;
        };
        let outage = Outage {
            latched: false,
            ..outage.clone()
        };
        let recovering = matches!(self.state, State::Recovering { .. });
        self.exhausted(outage, now, actions);
        actions.push(Action::Exhaust);
        if recovering {
            actions.push(Action::StopRecovery);
        }
    }

    /// The outage whose bound has not been acted on.
    fn bounded(&self) -> Option<&Outage> {
        match &self.state {
            State::Holdover { outage, .. }
            | State::Recovering {
                from: Bound::Within,
                outage,
                ..
            } => Some(outage),
            _ => None,
        }
    }

    fn exhausted(&mut self, outage: Outage, now: Now, actions: &mut Vec<Action>) {
        let (next, backoff) = (now.boot.plus(Knobs::GOOD_INTERVAL), Backoff::PROBES);
        self.state = State::Exhausted {
            outage,
            good: 0,
            next,
            backoff,
        };
        actions.push(Action::Enter(self.phase()));
    }

    fn probe_if_due(&mut self, now: Now, actions: &mut Vec<Action>) {
        let next = match &self.state {
            State::Following { next }
            | State::Suspect { next, .. }
            | State::Holdover { next, .. }
            | State::Recovering { next, .. }
            | State::Exhausted { next, .. } => *next,
        };
        if self.pending.is_some() || now.boot < next {
            return;
        }
        let audited = self.needs_audit(now);
        if audited {
            self.last_asked = Some(now.boot);
        }
        let id = self.fresh_action();
        let deadline = now.boot.plus(self.knobs.probe_timeout + Knobs::GRACE);
        self.pending = Some(Pending { id, deadline });
        actions.push(Action::Probe {
            id,
            audited,
            deadline,
        });
    }

    /// Always outside Following; there only where no audited success stands for it, and once a minute.
    fn needs_audit(&self, now: Now) -> bool {
        let older = |at: Option<BootTime>, than| at.is_none_or(|at| now.boot.since(at) >= than);
        !matches!(self.state, State::Following { .. })
            || (older(self.last_audited, Knobs::AUDITED_FOR)
                && older(self.last_asked, Knobs::AUDITED_INTERVAL))
    }

    fn forward_failed(&mut self, now: Now) {
        if let State::Following { next } = &mut self.state {
            *next = (*next).min(now.boot);
        }
    }

    fn forward_succeeded(&mut self, audited: bool, now: Now) {
        if audited {
            self.last_audited = Some(now.boot);
        }
        if let State::Following { next } = &mut self.state
            && *next > now.boot
        {
            *next = now.boot.plus(self.knobs.probe_interval);
        }
    }

    fn probed(&mut self, probe: Probe, context: &Context<'_>, actions: &mut Vec<Action>) {
        match probe {
            Probe::Good { audited } => self.probe_good(audited, context.now, actions),
            Probe::Failed(cause) => self.probe_failed(cause, context, actions),
        }
    }

    fn probe_good(&mut self, audited: bool, now: Now, actions: &mut Vec<Action>) {
        if audited {
            self.last_audited = Some(now.boot);
        }
        let successes = self.knobs.successes;
        let from = match self.state {
            State::Exhausted { .. } => Bound::Exhausted,
            _ => Bound::Within,
        };
        match &mut self.state {
            State::Following { next } => *next = now.boot.plus(self.knobs.probe_interval),
            State::Suspect { .. } => self.follow(now, actions),
            State::Holdover {
                outage,
                good,
                next,
                backoff,
            }
            | State::Exhausted {
                outage,
                good,
                next,
                backoff,
            } => {
                *good += u32::from(audited);
                *next = now.boot.plus(Knobs::GOOD_INTERVAL);
                *backoff = Backoff::PROBES;
                if *good >= successes && !outage.latched {
                    let outage = outage.clone();
                    self.recover(from, outage, now, actions);
                }
            }
            State::Recovering { failed, next, .. } => {
                *failed = 0;
                *next = now.boot.plus(Knobs::GOOD_INTERVAL);
            }
        }
    }

    fn probe_failed(&mut self, cause: Cause, context: &Context<'_>, actions: &mut Vec<Action>) {
        let now = context.now;
        let soon = now.boot.plus(Knobs::SUSPECT_INTERVAL);
        match &mut self.state {
            State::Following { .. } => {
                self.state = State::Suspect {
                    failed: 1,
                    next: soon,
                };
                actions.push(Action::Enter(Phase::Suspect));
                self.cut_over_if_due(cause, context, actions);
            }
            State::Suspect { failed, next } => {
                *failed += 1;
                *next = soon;
                self.cut_over_if_due(cause, context, actions);
            }
            State::Holdover {
                good,
                next,
                backoff,
                ..
            }
            | State::Exhausted {
                good,
                next,
                backoff,
                ..
            } => {
                *good = 0;
                *next = now.boot.plus(backoff.next(context.jitter));
            }
            State::Recovering { failed, next, .. } => {
                *failed += 1;
                *next = soon;
                if *failed >= self.knobs.failures {
                    self.fall_back(now, actions);
                }
            }
        }
    }

    fn cut_over_if_due(&mut self, cause: Cause, context: &Context<'_>, actions: &mut Vec<Action>) {
        if let State::Suspect { failed, .. } = &self.state
            && *failed >= self.knobs.failures
        {
            self.cut_over(cause, false, context, actions);
        }
    }

    fn cut_over(
        &mut self,
        cause: Cause,
        latched: bool,
        context: &Context<'_>,
        actions: &mut Vec<Action>,
    ) {
        let now = context.now;
        // Authority verified by a clock that has since stepped back was not verified in the future.
        let from = context.authority.unwrap_or(now.steady).min(now.steady);
        let bound = Deadline::at(from.plus(self.knobs.max_outage), now);
        let outage = Outage {
            id: context.fresh_id.clone(),
            started_at: now.steady,
            cause,
            bound,
            latched,
        };
        self.resume(outage, now, actions);
    }

    fn resume(&mut self, outage: Outage, now: Now, actions: &mut Vec<Action>) {
        let mut backoff = Backoff::PROBES;
        let next = now.boot.plus(backoff.next(Backoff::EVEN));
        self.state = State::Holdover {
            outage,
            good: 0,
            next,
            backoff,
        };
        actions.push(Action::Enter(self.phase()));
    }

    fn follow(&mut self, now: Now, actions: &mut Vec<Action>) {
        self.state = State::Following {
            next: now.boot.plus(self.knobs.probe_interval),
        };
        actions.push(Action::Enter(Phase::Following));
    }

    fn recover(&mut self, from: Bound, outage: Outage, now: Now, actions: &mut Vec<Action>) {
        let id = self.fresh_action();
        self.state = State::Recovering {
            from,
            outage: outage.clone(),
            id,
            until: now.boot.plus(Knobs::RECOVERY_TIMEOUT),
            failed: 0,
            next: now.boot.plus(Knobs::GOOD_INTERVAL),
        };
        actions.push(Action::Enter(self.phase()));
        actions.push(Action::Recover { id, outage });
    }

    fn recovered(&mut self, id: ActionId, end: Recovery, now: Now, actions: &mut Vec<Action>) {
        let State::Recovering { id: awaited, .. } = &self.state else {
            return;
        };
        if *awaited != id {
            return;
        }
        match end {
            Recovery::Done => self.follow(now, actions),
            Recovery::Failed(_) => self.fall_back(now, actions),
        }
    }

    /// From Recovering to where it came from: the same outage.
    fn fall_back(&mut self, now: Now, actions: &mut Vec<Action>) {
        let State::Recovering { from, outage, .. } = &self.state else {
            return;
        };
        let (from, outage) = (*from, outage.clone());
        match from {
            Bound::Within => self.resume(outage, now, actions),
            Bound::Exhausted => self.exhausted(outage, now, actions),
        }
        actions.push(Action::StopRecovery);
    }

    fn operator_start(&mut self, reason: String, context: &Context<'_>, actions: &mut Vec<Action>) {
        match &mut self.state {
            State::Following { .. } | State::Suspect { .. } => {
                self.cut_over(Cause::Operator(reason), true, context, actions);
            }
            State::Holdover { outage, .. } => {
                outage.latched = true;
                actions.push(Action::Enter(self.phase()));
            }
            State::Recovering { outage, .. } => {
                let outage = Outage {
                    latched: true,
                    ..outage.clone()
                };
                actions.push(Action::StopRecovery);
                self.resume(outage, context.now, actions);
            }
            State::Exhausted { .. } => {}
        }
    }

    fn operator_stop(&mut self, now: Now, actions: &mut Vec<Action>) {
        if let State::Holdover { outage, next, .. } = &mut self.state
            && outage.latched
        {
            outage.latched = false;
            *next = now.boot;
            actions.push(Action::Enter(self.phase()));
        }
    }

    fn fresh_action(&mut self) -> ActionId {
        let id = ActionId(self.next_id);
        self.next_id += 1;
        id
    }
}

fn lost_probe() -> Cause {
    Cause::Unreachable(String::from("no answer in time"))
}

#[cfg(test)]
mod tests;
