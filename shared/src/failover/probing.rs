//! When the machine probes, and what the end of a probe changes.

use alloc::{string::String, vec::Vec};

use super::{
    Machine, Pending, State,
    event::{Action, Context, Knobs, Probe},
    state::{Cause, Phase},
};
use crate::{
    backoff::{Backoff, spread},
    time::{BootTime, Now},
};

impl Machine {
    pub(super) fn probe_if_due(&mut self, now: Now, actions: &mut Vec<Action>) {
        if self.pending.is_some() || now.boot < self.next {
            return;
        }
        let audited = self.needs_audit(now);
        if audited {
            self.last_asked = Some(now.boot);
        }
        let id = self.fresh_action();
        let deadline = now.boot.plus(self.knobs.probe_deadline());
        self.pending = Some(Pending {
            id,
            deadline,
            audited,
        });
        actions.push(Action::Probe {
            id,
            audited,
            deadline,
        });
    }

    /// In doubt at most once a second; else only where no audited success stands for it, and once a minute.
    fn needs_audit(&self, now: Now) -> bool {
        let older = |at: Option<BootTime>, than| at.is_none_or(|at| now.boot.since(at) >= than);
        if self.is_in_doubt() {
            return older(self.last_asked, Knobs::DOUBT_INTERVAL);
        }
        older(self.last_audited, Knobs::AUDITED_FOR)
            && older(self.last_asked, Knobs::AUDITED_INTERVAL)
    }

    /// Whether a server that says that it is well has to show it: one without a leader says so too.
    fn is_in_doubt(&self) -> bool {
        self.doubted || !matches!(self.state, State::Following)
    }

    pub(super) fn forward_failed(&mut self, now: Now) {
        if matches!(self.state, State::Following) {
            self.doubted = true;
            self.next = self.next.min(now.boot);
        }
    }

    pub(super) fn forward_succeeded(&mut self, audited: bool, now: Now) {
        if audited {
            self.last_audited = Some(now.boot);
        }
        // A probe that is due goes out all the same, because a forward that failed may have asked for it.
        if matches!(self.state, State::Following) && self.next > now.boot {
            self.next = now.boot.plus(self.knobs.probe_interval);
        }
    }

    pub(super) fn probed(
        &mut self,
        probe: Probe,
        whole: bool,
        context: &Context<'_>,
        actions: &mut Vec<Action>,
    ) {
        match probe {
            Probe::Good { .. } if !whole && self.is_in_doubt() => {
                // Half of it counts for nothing.
                self.next = context.now.boot.plus(Knobs::SUSPECT_INTERVAL);
            }
            Probe::Good { audited } => self.probe_good(audited, context.now, actions),
            Probe::Failed { cause, accepted } => {
                self.probe_failed(cause, accepted, context, actions);
            }
        }
    }

    fn probe_good(&mut self, audited: bool, now: Now, actions: &mut Vec<Action>) {
        if audited {
            self.last_audited = Some(now.boot);
        }
        self.doubted = false;
        self.next = now.boot.plus(Knobs::GOOD_INTERVAL);
        match &mut self.state {
            State::Following => self.next = now.boot.plus(self.knobs.probe_interval),
            State::Suspect { .. } => self.follow(now, actions),
            State::Outage {
                side,
                outage,
                good,
                backoff,
            } => {
                *good += u32::from(audited);
                *backoff = Backoff::PROBES;
                if *good >= self.knobs.successes && !outage.latched {
                    let (from, outage) = (*side, outage.clone());
                    self.recover(from, outage, now, actions);
                }
            }
            State::Recovering { failed, .. } => *failed = 0,
        }
    }

    /// An address accepts connections: the pause that runs is cut to what it would be, had that been seen when it began.
    pub(super) fn accepted(&mut self, jitter: f64) {
        if matches!(self.state, State::Outage { .. }) {
            let pause = spread(Knobs::ACCEPTED_INTERVAL, jitter);
            self.next = self.next.min(self.failed_at.plus(pause));
        }
    }

    fn probe_failed(
        &mut self,
        cause: Cause,
        accepted: bool,
        context: &Context<'_>,
        actions: &mut Vec<Action>,
    ) {
        let now = context.now;
        self.failed_at = now.boot;
        self.next = now.boot.plus(Knobs::SUSPECT_INTERVAL);
        match &mut self.state {
            State::Following => {
                self.state = State::Suspect { failed: 1 };
                actions.push(Action::Enter(Phase::Suspect));
                self.cut_over_if_due(cause, context, actions);
            }
            State::Suspect { failed } => {
                *failed += 1;
                self.cut_over_if_due(cause, context, actions);
            }
            State::Outage { good, backoff, .. } => {
                *good = 0;
                let pause = match accepted {
                    true => backoff.next_within(Knobs::ACCEPTED_INTERVAL, context.jitter),
                    false => backoff.next(context.jitter),
                };
                self.next = now.boot.plus(pause);
            }
            State::Recovering { failed, .. } => {
                *failed += 1;
                if *failed >= self.knobs.failures {
                    self.fall_back(now, actions);
                }
            }
        }
    }
}

/// What a probe whose end was lost counts as.
pub(super) fn lost_probe() -> Probe {
    Probe::Failed {
        cause: Cause::Unreachable(String::from("no answer in time")),
        accepted: false,
    }
}
