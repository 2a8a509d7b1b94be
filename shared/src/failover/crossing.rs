//! How the machine crosses into an outage, through recovery, and back.

use alloc::{string::String, vec::Vec};

use super::{
    Bound, Machine, State,
    event::{Action, ActionId, Context, Knobs, Recovery},
    state::{Cause, Outage},
};
use crate::{
    backoff::Backoff,
    time::{BootTime, Deadline, Now},
};

impl Machine {
    /// Ends every grant of an outage past its bound. Not by a wall clock that is ahead and unconfirmed: while that says so,
    /// [`Phase::issues`] refuses, and once it is put back the outage goes on.
    ///
    /// [`Phase::issues`]: super::Phase::issues
    pub(super) fn exhaust_if_due(&mut self, now: Now, actions: &mut Vec<Action>) {
        let past = |outage: &&Outage| outage.bound.passed_for_good(now);
        let Some(outage) = self.bounded().filter(past) else {
            return;
        };
        let outage = Outage {
            latched: false,
            ..outage.clone()
        };
        let recovering = matches!(self.state, State::Recovering { .. });
        self.stay_out(Bound::Exhausted, outage, now, actions);
        // Behind the state, because a grant that was still issued after it would stay.
        actions.push(Action::Exhaust);
        if recovering {
            actions.push(Action::StopRecovery);
        }
    }

    /// The outage whose bound has not been acted on.
    pub(super) fn bounded(&self) -> Option<&Outage> {
        match &self.state {
            State::Outage {
                side: Bound::Within,
                outage,
                ..
            }
            | State::Recovering {
                from: Bound::Within,
                outage,
                ..
            } => Some(outage),
            _ => None,
        }
    }

    pub(super) fn cut_over_if_due(
        &mut self,
        cause: Cause,
        context: &Context<'_>,
        actions: &mut Vec<Action>,
    ) {
        if let State::Suspect { failed } = &self.state
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
        self.stay_out(Bound::Within, outage, now, actions);
    }

    /// Into an outage that begins, goes on or is exhausted.
    fn stay_out(&mut self, side: Bound, outage: Outage, now: Now, actions: &mut Vec<Action>) {
        let mut backoff = Backoff::PROBES;
        let pause = match side {
            Bound::Within => backoff.next(Backoff::EVEN),
            Bound::Exhausted => Knobs::GOOD_INTERVAL,
        };
        let state = State::Outage {
            side,
            outage,
            good: 0,
            backoff,
        };
        self.failed_at = now.boot;
        self.enter(state, now.boot.plus(pause), actions);
    }

    pub(super) fn follow(&mut self, now: Now, actions: &mut Vec<Action>) {
        let next = now.boot.plus(self.knobs.probe_interval);
        self.enter(State::Following, next, actions);
    }

    pub(super) fn recover(
        &mut self,
        from: Bound,
        outage: Outage,
        now: Now,
        actions: &mut Vec<Action>,
    ) {
        let id = self.fresh_action();
        let state = State::Recovering {
            from,
            outage: outage.clone(),
            id,
            until: now.boot.plus(Knobs::RECOVERY_TIMEOUT),
            failed: 0,
        };
        self.enter(state, now.boot.plus(Knobs::GOOD_INTERVAL), actions);
        actions.push(Action::Recover { id, outage });
    }

    fn enter(&mut self, state: State, next: BootTime, actions: &mut Vec<Action>) {
        (self.state, self.next) = (state, next);
        actions.push(Action::Enter(self.phase()));
    }

    pub(super) fn recovered(
        &mut self,
        id: ActionId,
        end: Recovery,
        now: Now,
        actions: &mut Vec<Action>,
    ) {
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
    pub(super) fn fall_back(&mut self, now: Now, actions: &mut Vec<Action>) {
        let State::Recovering { from, outage, .. } = &self.state else {
            return;
        };
        let (from, outage) = (*from, outage.clone());
        self.stay_out(from, outage, now, actions);
        actions.push(Action::StopRecovery);
    }

    pub(super) fn operator_start(
        &mut self,
        reason: String,
        context: &Context<'_>,
        actions: &mut Vec<Action>,
    ) {
        match &mut self.state {
            State::Following | State::Suspect { .. } => {
                self.cut_over(Cause::Operator(reason), true, context, actions);
            }
            State::Outage {
                side: Bound::Within,
                outage,
                ..
            } => {
                outage.latched = true;
                actions.push(Action::Enter(self.phase()));
            }
            State::Recovering { outage, .. } => {
                let outage = Outage {
                    latched: true,
                    ..outage.clone()
                };
                actions.push(Action::StopRecovery);
                self.stay_out(Bound::Within, outage, context.now, actions);
            }
            State::Outage {
                side: Bound::Exhausted,
                ..
            } => {}
        }
    }

    pub(super) fn operator_stop(&mut self, now: Now, actions: &mut Vec<Action>) {
        if let State::Outage {
            side: Bound::Within,
            outage,
            ..
        } = &mut self.state
            && outage.latched
        {
            outage.latched = false;
            self.next = now.boot;
            actions.push(Action::Enter(self.phase()));
        }
    }
}
