//! Writes about who may do what, until a verification has seen what came of them: until then nobody is known to lack a right.

use parking_lot::Mutex;
use shared::time::WallTime;

use super::Anew;

/// What the mirror of authority may be behind.
#[derive(Default)]
pub(super) struct Changing(Mutex<Changes>);

#[derive(Default)]
struct Changes {
    /// Writes of which nothing was heard yet.
    on_their_way: usize,
    /// When the last one was heard of, or given up, that was carried out or may have been.
    changed: Option<WallTime>,
}

/// One such write that is on its way.
pub(crate) struct AuthorityWrite(Anew);

impl Anew {
    /// Who may do what is about to change, perhaps.
    pub(crate) fn authority_changes(&self) -> AuthorityWrite {
        self.0.changing.0.lock().on_their_way += 1;
        AuthorityWrite(self.clone())
    }

    /// All that rights hang on was verified by a pass that began at `at`.
    pub(crate) fn authority_verified(&self, at: WallTime) {
        let mut changes = self.0.changing.0.lock();
        // Moments are milliseconds: of the same one, the write may be the later.
        changes.changed = changes.changed.filter(|changed| *changed >= at);
    }

    /// Whether somebody may have a right that the mirror does not know of.
    pub(crate) fn is_authority_behind(&self) -> bool {
        let changes = self.0.changing.0.lock();
        changes.on_their_way > 0 || changes.changed.is_some()
    }
}

impl AuthorityWrite {
    /// It was carried out by `now`, or may have been.
    pub(crate) fn may_count(&self, now: WallTime) {
        let mut changes = self.0.0.changing.0.lock();
        changes.changed = changes.changed.max(Some(now));
    }
}

impl Drop for AuthorityWrite {
    fn drop(&mut self) {
        self.0.0.changing.0.lock().on_their_way -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rights_are_known_again_once_a_pass_that_began_later_went_through() {
        let (anew, at) = (Anew::default(), WallTime::from_secs);
        let (one, other) = (anew.authority_changes(), anew.authority_changes());
        assert!(anew.is_authority_behind(), "on its way");
        drop(other);
        one.may_count(at(7));
        anew.authority_verified(at(9));
        assert!(anew.is_authority_behind(), "on its way still");
        one.may_count(at(10));
        drop(one);
        for began in [9, 10] {
            anew.authority_verified(at(began));
            assert!(anew.is_authority_behind(), "began before it");
        }
        anew.authority_verified(at(11));
        assert!(!anew.is_authority_behind());
        drop(anew.authority_changes());
        assert!(!anew.is_authority_behind(), "it was refused");
    }
}
