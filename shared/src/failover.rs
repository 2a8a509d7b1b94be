//! The failover machine: which side is authoritative, and when that changes.
//!
//! Pure: [`Machine::handle`] takes an [`Event`] and a [`Context`], and returns [`Action`]s; [`Machine::deadline`] is the
//! one moment at which it wants to be woken. Waking it early is harmless, and so is an action's end that comes
//! late: actions carry ids, and only the one that is awaited counts.

mod crossing;
mod event;
mod probing;
pub mod state;

use alloc::{string::String, vec::Vec};

pub use event::{Action, ActionId, Context, Event, Knobs, Probe, Recovery};
pub use state::{Cause, Outage, Phase};

use crate::{
    backoff::Backoff,
    time::{BootTime, Deadline, Now},
};

/// The failover machine: one state, at most one probe under way, and the knobs that it goes by.
#[derive(Clone, Debug)]
pub struct Machine {
    knobs: Knobs,
    state: State,
    /// When the next probe is due.
    next: BootTime,
    /// When the last probe failed, or the outage began: the pause before the next one counts from there.
    failed_at: BootTime,
    pending: Option<Pending>,
    last_audited: Option<BootTime>,
    last_asked: Option<BootTime>,
    /// A forward failed since the last whole probe that was good.
    doubted: bool,
    next_id: u64,
}

/// Counts of each state; what others see of it is its [`Phase`].
#[derive(Clone, Debug)]
enum State {
    Following,
    Suspect {
        failed: u32,
    },
    Outage {
        side: Bound,
        outage: Outage,
        good: u32,
        backoff: Backoff,
    },
    Recovering {
        from: Bound,
        outage: Outage,
        id: ActionId,
        until: BootTime,
        failed: u32,
    },
}

/// On which side of its bound an outage is. A recovery that fails goes back to the same.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Bound {
    Within,
    Exhausted,
}

/// The probe under way.
#[derive(Clone, Copy, Debug)]
struct Pending {
    id: ActionId,
    deadline: BootTime,
    /// Whether its authenticated half was asked for.
    audited: bool,
}

impl Machine {
    /// Starts, at `now`: in the outage that was stored, with its original bounds, else in Suspect.
    pub fn start(knobs: Knobs, stored: Option<Phase>, now: Now) -> Self {
        let out = |side, outage| State::Outage {
            side,
            outage,
            good: 0,
            backoff: Backoff::PROBES,
        };
        let state = match stored {
            None | Some(Phase::Following | Phase::Suspect) => State::Suspect { failed: 0 },
            Some(Phase::Holdover(outage) | Phase::Recovering(outage)) => out(Bound::Within, outage),
            Some(Phase::Exhausted(outage)) => out(Bound::Exhausted, outage),
        };
        Self {
            knobs,
            state,
            next: now.boot,
            failed_at: now.boot,
            pending: None,
            last_audited: None,
            last_asked: None,
            doubted: false,
            next_id: 1,
        }
    }

    /// The state as others see it.
    pub fn phase(&self) -> Phase {
        match &self.state {
            State::Following => Phase::Following,
            State::Suspect { .. } => Phase::Suspect,
            State::Outage { side, outage, .. } => match side {
                Bound::Within => Phase::Holdover(outage.clone()),
                Bound::Exhausted => Phase::Exhausted(outage.clone()),
            },
            State::Recovering { outage, .. } => Phase::Recovering(outage.clone()),
        }
    }

    /// When the machine wants to be woken, on the boot clock. A wall clock that is confirmed may pass the outage's bound
    /// before: the next wake finds it, at the latest that of the next probe.
    pub fn deadline(&self, now: Now) -> BootTime {
        // With a probe under way the next one waits for its end.
        let mut own = self.pending.map_or(self.next, |pending| pending.deadline);
        if let State::Recovering { until, .. } = &self.state {
            own = own.min(*until);
        }
        match self.bounded() {
            Some(outage) => own.min(now.boot.plus(outage.bound.remaining_for_good(now))),
            None => own,
        }
    }

    /// New knobs from a changed configuration. A shorter `max_outage` binds the running outage too.
    pub fn reconfigure(&mut self, knobs: Knobs, now: Now) {
        let cut = self.knobs.max_outage.saturating_sub(knobs.max_outage);
        self.knobs = knobs;
        if let State::Outage {
            side: Bound::Within,
            outage,
            ..
        }
        | State::Recovering { outage, .. } = &mut self.state
        {
            outage.bound = outage
                .bound
                .earliest(Deadline::at(outage.bound.wall.minus(cut), now));
        }
    }

    /// What is to be done about one event, and about the time that has passed.
    pub fn handle(&mut self, event: Event, context: &Context<'_>) -> Vec<Action> {
        let mut actions = Vec::new();
        match event {
            Event::Wake => {}
            Event::Accepted => self.accepted(context.jitter),
            Event::ForwardFailed => self.forward_failed(context.now),
            Event::ForwardSucceeded { audited } => self.forward_succeeded(audited, context.now),
            Event::OperatorStart(reason) => self.operator_start(reason, context, &mut actions),
            Event::OperatorStop => self.operator_stop(context.now, &mut actions),
            Event::Probed(id, probe) => {
                if let Some(pending) = self.pending.take_if(|pending| pending.id == id) {
                    self.probed(probe, pending.audited, context, &mut actions);
                }
            }
            Event::Recovered(id, end) => self.recovered(id, end, context.now, &mut actions),
        }
        self.catch_up(context, &mut actions);
        actions
    }

    /// Whatever time alone brings about.
    ///
    /// In this order, because a lost probe may cut over or end a recovery, an outage begun by it may be past its bound
    /// already, and a probe is sent for the state that comes of it all.
    fn catch_up(&mut self, context: &Context<'_>, actions: &mut Vec<Action>) {
        let now = context.now;
        let lost = self.pending.take_if(|pending| now.boot >= pending.deadline);
        if let Some(lost) = lost {
            self.probed(probing::lost_probe(), lost.audited, context, actions);
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

    fn fresh_action(&mut self) -> ActionId {
        let id = ActionId(self.next_id);
        self.next_id += 1;
        id
    }
}

#[cfg(test)]
mod tests;
