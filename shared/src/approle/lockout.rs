//! The bound on guessing: the primary locks a `role_id` after five failures, and so does the replica.
//!
//! The primary (`internal/vault/request_handling.go:isUserLocked`) refuses every login of a `role_id` for 15 minutes
//! once five have failed within 15 minutes; a login that succeeds in between forgives them. Here only different
//! secret ids count: one that is tried again tells who tries nothing new.
//!
//! What only the primary could judge is no failure, and locks nobody out. Yet whoever tries one secret id after the
//! other in an outage guesses: [`Guesses`] bounds that for all processes of the same user in the same unit, and for no others.
//! A secret id that was accepted from the same claimant is no guess, and never refused for others that were: what is kept of it
//! says so, over restarts. What was guessed is kept in memory alone, so a start gives no fresh budget: after one in an outage, or
//! soon after one, nobody guesses for as long as guesses would have counted ([`are_guesses_held`]). One that was accepted from others alone is: to tell it apart would tell a guesser what is right.

use alloc::{string::String, vec::Vec};
use core::time::Duration;

use serde::{Deserialize, Serialize};

use super::ProofDigest;
use crate::{time::BootTime, workload::Peer};

/// Different secret ids that may fail for one `role_id`, or be guessed by one claimant, within [`LOCKED_FOR`].
pub const THRESHOLD: usize = 5;

/// How long failures count, and how long a `role_id` is locked.
pub const LOCKED_FOR: Duration = Duration::from_secs(15 * 60);

/// Who tries to log in: a process of this user in this unit. Entries do not matter, because such a login names none.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct Claimant {
    /// The user id.
    pub uid: u32,
    /// The systemd unit; none outside of one.
    pub unit: Option<String>,
}

impl Claimant {
    /// This peer, as one who tries to log in.
    pub fn of(peer: &Peer) -> Self {
        Self {
            uid: peer.uid,
            unit: peer.unit.clone(),
        }
    }
}

/// Whether nobody may guess because the process started at `started`, when guesses may have been made before. Nobody waits longer
/// than who has spent all guesses, and who starts the process again and again never gets any.
pub fn are_guesses_held(started: Option<BootTime>, now: BootTime) -> bool {
    started.is_some_and(|started| now.since(started) < LOCKED_FOR)
}

/// What came of trying to log in.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Attempt {
    /// Who tried.
    pub by: Claimant,
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
    /// The secret id is wrong.
    Failed,
    /// The primary said that the `role_id` is locked.
    Locked,
    /// Only the primary could tell whether it is right.
    Unproven,
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
            Outcome::Unproven => {}
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

/// What one claimant tried for one `role_id`. Kept in memory alone, as [`Tries`] are.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Guesses {
    /// Secret ids that were neither accepted nor refused; fewer than [`THRESHOLD`].
    unproven: Vec<(ProofDigest, BootTime)>,
    spent_at: Option<BootTime>,
}

impl Guesses {
    /// Notes an attempt with a secret id that was not accepted from it before.
    pub fn note(&mut self, attempt: &Attempt, now: BootTime) {
        self.unproven.retain(|(_, at)| now.since(*at) < LOCKED_FOR);
        match attempt.outcome {
            Outcome::Accepted => self.unproven.retain(|(known, _)| *known != attempt.pair),
            Outcome::Unproven => self.guess(attempt.pair, now),
            Outcome::Failed | Outcome::Locked => {}
        }
    }

    /// Whether another guess may be made.
    pub fn may_guess(&self, now: BootTime) -> bool {
        !self.is_spent(now)
    }

    /// When it last guessed; the start of time if it never did.
    pub fn last_guess(&self) -> BootTime {
        let last = self.unproven.iter().map(|(_, at)| *at).max();
        last.max(self.spent_at).unwrap_or(BootTime::from_millis(0))
    }

    fn is_spent(&self, now: BootTime) -> bool {
        self.spent_at.is_some_and(|at| now.since(at) < LOCKED_FOR)
    }

    fn guess(&mut self, pair: ProofDigest, now: BootTime) {
        if self.is_spent(now) {
            return;
        }
        match self.unproven.iter_mut().find(|(known, _)| *known == pair) {
            Some((_, at)) => *at = now,
            None => self.unproven.push((pair, now)),
        }
        if self.unproven.len() >= THRESHOLD {
            self.unproven.clear();
            self.spent_at = Some(now);
        }
    }
}
