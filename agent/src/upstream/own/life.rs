//! The life of a token that is renewed, and what to do with it when. Pure.
//!
//! Shared by Holdover's own token and the standing tokens of workloads: renewed at two thirds of what was last granted,
//! replaced as soon as renewing no longer gives what it once gave, because then its max TTL is near.

use std::time::Duration;

use shared::time::WallTime;

use crate::upstream::lookup::LookedUp;

/// A renewal is due when this share of what was granted has passed, in percent.
const RENEW_AT_PERCENT: u32 = 66;

/// What a token without an end is taken to live; it is asked about again long before.
pub(crate) const ENDLESS: Duration = Duration::from_secs(3650 * 86_400);

/// What is known of a token's life.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct Life {
    ends: WallTime,
    /// What the last renewal, or the issue, gave.
    granted: Duration,
    /// The most that any gave.
    full: Duration,
    renewable: bool,
    /// In 0..1: spreads hosts over a tenth of what was granted.
    jitter: f64,
}

/// What to do with a token.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Step {
    /// Ask the primary about it: by our clock it has ended.
    Ask,
    /// Get another, while this one is still good.
    LogIn,
    /// Renew it.
    Renew,
    /// Nothing before this much has passed.
    Wait(Duration),
}

impl Life {
    /// Of a token issued at `at` for `ttl`; zero means that it does not end.
    pub(crate) fn new(at: WallTime, ttl: Duration, renewable: bool, jitter: f64) -> Self {
        let granted = if ttl.is_zero() { ENDLESS } else { ttl };
        Self {
            ends: at.plus(granted),
            granted,
            full: granted,
            renewable,
            jitter,
        }
    }

    /// As a look-up shows it.
    pub(crate) fn looked_up(token: &LookedUp, jitter: f64) -> Self {
        let facts = &token.facts;
        let Some(ends) = token.expires else {
            return Self::new(token.asked_at, Duration::ZERO, false, jitter);
        };
        let last = facts.last_renewal_time.unwrap_or(facts.creation_time);
        let granted = ends.since(WallTime::from_secs(last)).max(token.ttl);
        let created = Duration::from_secs(facts.creation_ttl.max(facts.period));
        Self {
            // By the primary's clock less is left than by the time of its end on ours: the shorter counts.
            ends: ends.min(token.asked_at.plus(token.ttl + Duration::from_secs(1))),
            granted,
            full: granted.max(created),
            renewable: facts.renewable,
            jitter,
        }
    }

    /// After a renewal at `at` that gave `ttl`.
    pub(crate) fn renewed(self, at: WallTime, ttl: Duration, jitter: f64) -> Self {
        Self {
            full: self.full.max(ttl),
            ..Self::new(at, ttl, self.renewable, jitter)
        }
    }

    /// The same, known not to be renewable.
    pub(crate) fn not_renewable(self) -> Self {
        Self {
            renewable: false,
            ..self
        }
    }

    /// When it ends unless renewed.
    pub(crate) fn ends(&self) -> WallTime {
        self.ends
    }

    /// Whether it may be renewed.
    pub(crate) fn is_renewable(&self) -> bool {
        self.renewable
    }

    /// Whether renewing it gives less than half of what it once gave: its max TTL is near.
    pub(crate) fn is_worn(&self) -> bool {
        self.granted < self.full / 2
    }

    /// What to do at `now`; `replaceable` if another can be had.
    pub(crate) fn step(&self, replaceable: bool, now: WallTime) -> Step {
        let left = self.ends.since(now);
        if left.is_zero() {
            return Step::Ask;
        }
        if self.is_worn() && replaceable {
            return Step::LogIn;
        }
        let due = self.granted * RENEW_AT_PERCENT / 100;
        let due = due.saturating_sub((self.granted / 10).mul_f64(self.jitter.clamp(0.0, 1.0)));
        let age = self.granted.saturating_sub(left);
        if age < due {
            Step::Wait(due.saturating_sub(age))
        } else if self.renewable && !self.is_worn() {
            Step::Renew
        } else if replaceable {
            Step::LogIn
        } else {
            Step::Wait(left)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: WallTime = WallTime::from_secs(1_000_000);

    fn secs(secs: u64) -> Duration {
        Duration::from_secs(secs)
    }

    fn life(ttl: u64) -> Life {
        Life::new(START, secs(ttl), true, 0.0)
    }

    #[test]
    fn a_token_is_renewed_at_two_thirds_and_up_to_a_tenth_earlier() {
        assert_eq!(life(900).step(true, START), Step::Wait(secs(594)));
        assert_eq!(life(900).step(true, START.plus(secs(594))), Step::Renew);
        let early = Life::new(START, secs(900), true, 1.0);
        assert_eq!(early.step(true, START), Step::Wait(secs(504)));
    }

    #[test]
    fn renewals_that_give_little_call_for_another_token_at_once() {
        let full = life(900).renewed(START.plus(secs(594)), secs(900), 0.0);
        assert!(matches!(
            full.step(true, START.plus(secs(594))),
            Step::Wait(_)
        ));
        let worn = full.renewed(START.plus(secs(1188)), secs(300), 0.0);
        assert_eq!(worn.step(true, START.plus(secs(1188))), Step::LogIn);
        // Where no other can be had, what is left is used up without a storm of renewals.
        assert_eq!(
            worn.step(false, START.plus(secs(1400))),
            Step::Wait(secs(88))
        );
    }

    #[test]
    fn a_token_that_cannot_be_renewed_is_replaced_in_time() {
        let fixed = life(900).not_renewable();
        assert_eq!(fixed.step(true, START.plus(secs(600))), Step::LogIn);
        assert_eq!(
            fixed.step(false, START.plus(secs(600))),
            Step::Wait(secs(300))
        );
    }

    #[test]
    fn past_its_end_the_primary_is_asked_rather_than_our_clock() {
        assert_eq!(life(900).step(true, START.plus(secs(900))), Step::Ask);
    }

    #[test]
    fn a_token_without_an_end_is_left_alone() {
        assert!(matches!(life(0).step(true, START), Step::Wait(_)));
    }
}
