//! How it stands with Holdover's own token, for `status`, `ready` and the probes.

use std::sync::{Mutex, PoisonError};

use shared::time::WallTime;

use super::life::Life;

/// Shared between the keeper, the probes and `status`.
#[derive(Default)]
pub struct OwnStatus(Mutex<State>);

#[derive(Default)]
struct State {
    snapshot: OwnSnapshot,
    /// Whether the last probe was good: the first good one after failures wakes the keeper.
    good: bool,
}

/// How it stands, at one moment.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct OwnSnapshot {
    /// The primary refused it, or the login for it, and has accepted none since.
    pub refused: bool,
    /// Attempts that failed in a row.
    pub errors: u32,
    /// The last failure since the last success.
    pub last_error: Option<String>,
    /// What is wrong with the token file, while another token is in use.
    pub file_error: Option<String>,
    /// When it ends unless renewed, as far as it was asked.
    pub ends: Option<WallTime>,
    /// It nears an end that renewing cannot move, and no other can be had by logging in.
    pub ending: bool,
}

impl OwnStatus {
    /// How it stands now.
    pub fn snapshot(&self) -> OwnSnapshot {
        self.with(|state| state.snapshot.clone())
    }

    /// Whether the primary refused it and has accepted none since.
    pub fn is_refused(&self) -> bool {
        self.with(|state| state.snapshot.refused)
    }

    pub(super) fn accepted(&self) {
        self.with(|state| state.snapshot.refused = false);
    }

    pub(super) fn file(&self, error: Option<String>) {
        self.with(|state| state.snapshot.file_error = error);
    }

    pub(super) fn succeeded(&self, life: Option<&Life>) {
        self.with(|state| {
            state.snapshot.errors = 0;
            state.snapshot.last_error = None;
            state.snapshot.ends = life.map(Life::ends);
            state.snapshot.ending = life.is_some_and(Life::is_worn);
        });
    }

    pub(super) fn failed(&self, error: String, refused: bool) {
        self.with(|state| {
            state.snapshot.errors = state.snapshot.errors.saturating_add(1);
            state.snapshot.last_error = Some(error);
            state.snapshot.refused |= refused;
        });
    }

    /// What a probe saw; whether the keeper should look at once. It is woken by changes only, never by every probe.
    pub(in crate::upstream) fn note_probe(&self, good: bool, refused: bool) -> bool {
        self.with(|state| {
            let was_good = std::mem::replace(&mut state.good, good);
            let was_refused = state.snapshot.refused;
            state.snapshot.refused |= refused;
            (good && !was_good) || (refused && !was_refused)
        })
    }

    /// The primary refused it; whether that is new.
    pub(in crate::upstream) fn note_refused(&self) -> bool {
        self.with(|state| !std::mem::replace(&mut state.snapshot.refused, true))
    }

    fn with<T>(&self, act: impl FnOnce(&mut State) -> T) -> T {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probes_wake_the_keeper_when_something_changed_and_not_again() {
        let own = OwnStatus::default();
        assert!(own.note_probe(true, false));
        assert!(!own.note_probe(true, false));
        assert!(!own.note_probe(false, false));
        assert!(own.note_probe(false, true));
        assert!(!own.note_probe(false, true));
        assert!(own.is_refused());
        own.accepted();
        assert!(own.note_probe(false, true));
    }
}
