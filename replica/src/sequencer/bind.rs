//! What holds in memory from the moment on that it is known, whether or not it can be stored.

use shared::change::Change;

use crate::view::View;

/// Whether [`bind`] makes it hold before it is stored.
pub(super) fn binds(change: &Change) -> bool {
    matches!(
        change,
        Change::Block(_)
            | Change::Doubted(_)
            | Change::Offboarded(Some(_))
            | Change::Phase(_)
            | Change::Revoked(_)
            | Change::TokenDoubted(..)
    )
}

/// Makes revocations, states and doubts bind in memory.
pub(super) fn bind(view: &View, changes: &[Change]) {
    for change in changes {
        match change {
            Change::Revoked(revocation) => view.strike(revocation),
            Change::Phase(record) => view.set_phase(record),
            Change::Offboarded(Some(since)) => view.set_offboarded(Some(*since)),
            Change::Block(block) => view.block_issuing(*block),
            Change::Doubted(doubt) => view.change_doubts(|doubts| doubts.add(doubt)),
            Change::TokenDoubted(digest, at) => view.doubt_token(digest, *at),
            _ => {}
        }
    }
}
