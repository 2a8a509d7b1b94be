//! Who is locked out: failed logins by what stands for the `role_id`, and guesses by who makes them, in memory alone.

use std::collections::HashMap;

use parking_lot::Mutex;
use shared::{
    approle::{Attempt, Claimant, Guesses, Outcome, ProofDigest, Tries},
    time::BootTime,
};

use super::View;

/// Claimants that are remembered, over all roles.
const MOST_CLAIMANTS: usize = 4096;

#[derive(Default)]
pub(super) struct Lockouts(Mutex<Attempts>);

#[derive(Default)]
struct Attempts {
    /// Failures of each `role_id` that the replica knows.
    tries: HashMap<ProofDigest, Tries>,
    /// Guesses at each of them, by who makes them.
    guesses: HashMap<(ProofDigest, Claimant), Guesses>,
}

impl View {
    /// Notes what came of a login. As at the primary, only a `role_id` that exists can be locked, or guessed at: so there
    /// are never more of them than roles. A login that is accepted may be the first that is seen of its role.
    pub fn note_login(&self, attempt: &Attempt, now: BootTime) {
        let known = |role_id| {
            let authority = self.authority();
            authority
                .approles
                .values()
                .any(|role| role.role_id == role_id)
        };
        let is_known = known(attempt.role_id);
        let attempts = &mut *self.lockouts.0.lock();
        if is_known || attempt.outcome == Outcome::Accepted {
            attempts.guesses_of(attempt).note(attempt, now);
        }
        if !is_known {
            return;
        }
        attempts.tries.retain(|_, tries| !tries.is_idle(now));
        let tries = attempts.tries.entry(attempt.role_id).or_default();
        tries.note(attempt, now);
    }

    /// Whether nobody may log in with this `role_id`.
    pub fn is_locked_out(&self, role_id: &ProofDigest, now: BootTime) -> bool {
        let attempts = self.lockouts.0.lock();
        let tries = attempts.tries.get(role_id);
        tries.is_some_and(|tries| tries.is_locked(now))
    }

    /// Whether `claimant` may have this pair judged: whether it is no guess, or another one may be made.
    pub fn may_try(
        &self,
        role_id: ProofDigest,
        pair: &ProofDigest,
        claimant: Claimant,
        now: BootTime,
    ) -> bool {
        let attempts = self.lockouts.0.lock();
        let guesses = attempts.guesses.get(&(role_id, claimant));
        guesses.is_none_or(|guesses| guesses.may_try(pair, now))
    }
}

impl Attempts {
    fn guesses_of(&mut self, attempt: &Attempt) -> &mut Guesses {
        let key = (attempt.role_id, attempt.by.clone());
        if self.guesses.len() >= MOST_CLAIMANTS && !self.guesses.contains_key(&key) {
            self.forget_the_quietest();
        }
        self.guesses.entry(key).or_default()
    }

    /// Whoever guessed longest ago, or never.
    fn forget_the_quietest(&mut self) {
        let quietest = self.guesses.iter().min_by_key(|(_, one)| one.last_guess());
        let quietest = quietest.map(|(key, _)| key.clone());
        quietest.and_then(|key| self.guesses.remove(&key));
    }
}
