//! The bound on guessing: the primary locks a `role_id` after five failures, and so does the replica.
//!
//! The primary (`internal/vault/request_handling.go:isUserLocked`) refuses every login of a `role_id` for 15 minutes
//! once five have failed within 15 minutes; a login that succeeds in between forgives them. Here only different
//! secret ids count: one that is tried again tells who tries nothing new, and a client that keeps trying a secret id
//! which only the primary knows must not lock out those whose secret id is proven.

use alloc::vec::Vec;
use core::time::Duration;

use super::ProofDigest;
use crate::time::BootTime;

/// Different secret ids that may fail for one `role_id` within [`LOCKED_FOR`].
pub const THRESHOLD: usize = 5;

/// How long failures count, and how long a `role_id` is locked.
pub const LOCKED_FOR: Duration = Duration::from_secs(15 * 60);

/// What came of trying to log in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Attempt {
    /// What stands for the `role_id`.
    pub role_id: ProofDigest,
    /// What stands for `role_id` and `secret_id` together.
    pub pair: ProofDigest,
    /// Whether it counts against the two.
    pub outcome: Outcome,
}

/// What came of trying to log in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// A token was given.
    Accepted,
    /// The secret id is wrong, or not known to be right.
    Failed,
    /// The primary said that the `role_id` is locked.
    Locked,
}

/// The failures of one `role_id`. Kept in memory alone, by boot time, which no clock step moves.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Tries {
    failed: Vec<(ProofDigest, BootTime)>,
    locked_at: Option<BootTime>,
}

impl Tries {
    /// Notes an attempt.
    pub fn note(&mut self, attempt: &Attempt, now: BootTime) {
        self.failed.retain(|(_, at)| now.since(*at) < LOCKED_FOR);
        match attempt.outcome {
            Outcome::Accepted => self.failed.clear(),
            // One that stands is not made longer by asking again.
            Outcome::Locked if self.is_locked(now) => {}
            Outcome::Locked => self.locked_at = Some(now),
            Outcome::Failed => self.fail(attempt.pair, now),
        }
    }

    /// Whether nobody may log in with this `role_id`.
    pub fn is_locked(&self, now: BootTime) -> bool {
        self.locked_at.is_some_and(|at| now.since(at) < LOCKED_FOR)
    }

    /// Whether there is nothing to remember.
    pub fn is_idle(&self, now: BootTime) -> bool {
        !self.is_locked(now)
            && self
                .failed
                .iter()
                .all(|(_, at)| now.since(*at) >= LOCKED_FOR)
    }

    fn fail(&mut self, pair: ProofDigest, now: BootTime) {
        match self.failed.iter_mut().find(|(known, _)| *known == pair) {
            Some((_, at)) => *at = now,
            None => self.failed.push((pair, now)),
        }
        if self.failed.len() >= THRESHOLD {
            self.failed.clear();
            self.locked_at = Some(now);
        }
    }
}
