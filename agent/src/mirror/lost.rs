//! Answers to Holdover's own requests that were lost, where each may have made a token or an account that nobody has.

use replica::sequencer::Lane;
use shared::{
    backoff::LostAnswers,
    change::Change,
    ledger::{Entry, EntryKind},
};

use super::{PassError, context::MirrorContext};
use crate::upstream::UpstreamError;

impl MirrorContext {
    /// Whether such a request may be sent now.
    ///
    /// # Errors
    /// [`PassError::Lost`] for a while after answers to it were lost.
    pub(super) fn may_ask(&self, lost: &LostAnswers) -> Result<(), PassError> {
        let returns = self.upstream.own().returns();
        match lost.wait(returns, self.now().boot) {
            Some(_) => Err(PassError::Lost),
            None => Ok(()),
        }
    }

    /// What came of one to `path`. The ledger has what may be left of it where nobody knows.
    pub(super) fn came_to<T>(
        &self,
        lost: &mut LostAnswers,
        came: &Result<T, PassError>,
        path: &str,
    ) {
        let now = self.now();
        if !matches!(came, Err(PassError::Upstream(UpstreamError::Unknown(_)))) {
            lost.came();
            return;
        }
        lost.lost(
            self.upstream.own().returns(),
            now.boot,
            self.upstream.jitter(),
        );
        let mut entry = Entry::new(EntryKind::Unknown, "unknown", now.steady);
        entry.path = Some(path.to_owned());
        let entry = Change::Ledger(Box::new(entry));
        self.local.commit_later(Lane::Mirror, vec![entry]);
    }
}
