//! How it stands with Holdover's own token, for `status`, `ready` and the probes.

use parking_lot::Mutex;
use shared::time::WallTime;

use super::life::Life;

/// Shared between the keeper, the probes and `status`.
#[derive(Default)]
pub struct OwnStatus(Mutex<OwnState>);

#[derive(Default)]
struct OwnState {
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
        self.0.lock().snapshot.clone()
    }

    /// Whether the primary refused it and has accepted none since.
    pub fn is_refused(&self) -> bool {
        self.0.lock().snapshot.refused
    }

    pub(super) fn accepted(&self) {
        self.0.lock().snapshot.refused = false;
    }

    pub(super) fn file(&self, error: Option<String>) {
        self.0.lock().snapshot.file_error = error;
    }

    pub(super) fn succeeded(&self, life: Option<&Life>) {
        let snapshot = &mut self.0.lock().snapshot;
        snapshot.errors = 0;
        snapshot.last_error = None;
        snapshot.ends = life.map(Life::ends);
        snapshot.ending = life.is_some_and(Life::is_worn);
    }

    pub(super) fn failed(&self, error: String, refused: bool) {
        let snapshot = &mut self.0.lock().snapshot;
        snapshot.errors = snapshot.errors.saturating_add(1);
        snapshot.last_error = Some(error);
        snapshot.refused |= refused;
    }

    /// What a probe saw; whether the keeper should look at once. It is woken by changes only, never by every probe.
    pub(in crate::upstream) fn note_probe(&self, good: bool, refused: bool) -> bool {
        let state = &mut *self.0.lock();
        let was_good = std::mem::replace(&mut state.good, good);
        let was_refused = state.snapshot.refused;
        state.snapshot.refused |= refused;
        (good && !was_good) || (refused && !was_refused)
    }

    /// The primary refused it; whether that is new.
    pub(in crate::upstream) fn note_refused(&self) -> bool {
        !std::mem::replace(&mut self.0.lock().snapshot.refused, true)
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
