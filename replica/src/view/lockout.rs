//! Who is locked out: failed logins by what stands for the `role_id`, in memory alone.

use std::collections::HashMap;

use parking_lot::Mutex;
use shared::{
    approle::{Attempt, ProofDigest, Tries},
    time::BootTime,
};

use super::View;

/// Failures of each `role_id` that the replica knows.
#[derive(Default)]
pub(super) struct Lockouts(Mutex<HashMap<ProofDigest, Tries>>);

impl View {
    /// Notes what came of a login. As at the primary, only a `role_id` that exists can be locked: so there are never
    /// more of them than roles.
    pub fn note_login(&self, attempt: &Attempt, now: BootTime) {
        let known = |role_id| {
            let authority = self.authority();
            authority
                .approles
                .values()
                .any(|role| role.role_id == role_id)
        };
        if !known(attempt.role_id) {
            return;
        }
        let mut all = self.lockouts.0.lock();
        all.retain(|_, tries| !tries.is_idle(now));
        all.entry(attempt.role_id).or_default().note(attempt, now);
    }

    /// Whether nobody may log in with this `role_id`.
    pub fn is_locked_out(&self, role_id: &ProofDigest, now: BootTime) -> bool {
        let all = self.lockouts.0.lock();
        all.get(role_id).is_some_and(|tries| tries.is_locked(now))
    }
}
