//! Who is locked out: failed logins by what stands for the `role_id`, and guesses by who makes them, in memory alone.

use std::collections::HashMap;

use parking_lot::Mutex;
use shared::{
    approle::{Attempt, Claimant, Guesses, LOCKED_FOR, ProofDigest, Tries, are_guesses_held},
    time::{BootTime, Now},
};

use super::{Authority, View};

/// Claimants that are remembered, over all roles.
pub(super) const MOST_CLAIMANTS: usize = 4096;

#[derive(Default)]
pub(super) struct Lockouts(Mutex<Attempts>);

#[derive(Default)]
struct Attempts {
    /// Failures of each `role_id` that the replica knows.
    tries: HashMap<ProofDigest, Tries>,
    /// Guesses at each of them, by who makes them.
    guesses: HashMap<(ProofDigest, Claimant), Guesses>,
    /// When the process started, where guesses may have been made before.
    started: Option<BootTime>,
}

impl Lockouts {
    /// Role ids that logins failed with.
    pub(super) fn tried(&self) -> usize {
        self.0.lock().tries.len()
    }

    /// Claimants that are remembered.
    pub(super) fn guessers(&self) -> usize {
        self.0.lock().guesses.len()
    }
}

impl View {
    /// The process started `now`: whatever was guessed in an outage that goes on, or has ended lately, is not known any more.
    pub fn start_guessing(&self, now: Now) {
        let authority = self.authority();
        let ended = authority.proven_from;
        let lately = ended.is_some_and(|ended| now.steady.since(ended) < LOCKED_FOR);
        if authority.phase.is_outage() || lately {
            self.lockouts.0.lock().started = Some(now.boot);
        }
    }

    /// Notes what came of a login. As at the primary, only a `role_id` that exists can be locked, or guessed at: so no client
    /// can make them more, and those of a `role_id` that an operator replaced go with their last failure.
    pub fn note_login(&self, attempt: &Attempt, now: BootTime) {
        let authority = self.authority();
        let mut roles = authority.approles.values();
        if !roles.any(|role| role.role_id == attempt.role_id) {
            return;
        }
        let attempts = &mut *self.lockouts.0.lock();
        if !is_no_guess(&authority, &attempt.pair, &attempt.by) {
            attempts.guesses_of(attempt).note(attempt, now);
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

    /// Whether `claimant` may have this pair judged: whether it is no guess, or another one may be made. Of a pair that was never
    /// accepted from it the answer is the same, right or wrong.
    pub fn may_try(
        &self,
        role_id: ProofDigest,
        pair: &ProofDigest,
        claimant: Claimant,
        now: BootTime,
    ) -> bool {
        if is_no_guess(&self.authority(), pair, &claimant) {
            return true;
        }
        let attempts = self.lockouts.0.lock();
        if are_guesses_held(attempts.started, now) {
            return false;
        }
        let guesses = attempts.guesses.get(&(role_id, claimant));
        guesses.is_none_or(|guesses| guesses.may_guess(now))
    }
}

fn is_no_guess(authority: &Authority, pair: &ProofDigest, claimant: &Claimant) -> bool {
    let known = authority.secret_ids.get(pair);
    known.is_some_and(|known| known.is_known_to(claimant))
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
