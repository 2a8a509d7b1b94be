//! What a submission expects, looked at again: before its answer is promised, and once more when it is stored.

use shared::{
    change::Expects,
    grant::{Grant, RevokeCause},
    name::TokenDigest,
    time::{Deadline, Now},
};

use super::SubmitError;
use crate::view::{Authority, View};

/// Whether what a submission expects holds in the view.
pub(super) fn holds(view: &View, expects: &Expects, now: Now) -> Result<(), SubmitError> {
    authority_holds(&view.authority(), expects, now)?;
    if expects.live.iter().all(|digest| lives(view, digest, now)) {
        Ok(())
    } else {
        Err(SubmitError::Conflict)
    }
}

/// The part of it that is about who decides.
pub(super) fn authority_holds(
    authority: &Authority,
    expects: &Expects,
    now: Now,
) -> Result<(), SubmitError> {
    // While the fence is down the state is about to change: whoever waits for it finds out.
    if expects.issues && authority.paused && decided_otherwise(authority, expects).is_none() {
        return Err(SubmitError::Paused);
    }
    let is_blocked = authority.rolled_back || authority.issuing_blocked().is_some();
    if overtaken(authority, expects, now).is_some() || expects.issues && is_blocked {
        return Err(SubmitError::Conflict);
    }
    Ok(())
}

/// Why what was decided under `expects` must not be handed out: somebody else decides by now, or by other settings, or what
/// this host decides by has ended.
pub(super) fn overtaken(authority: &Authority, expects: &Expects, now: Now) -> Option<RevokeCause> {
    if let Some(cause) = decided_otherwise(authority, expects) {
        return Some(cause);
    }
    if expects.gives() && authority.offboarded.is_some() {
        return Some(RevokeCause::Primary);
    }
    let is_past = expects.issues && !authority.phase.issues(now);
    is_past.then_some(RevokeCause::OutageBound)
}

fn decided_otherwise(authority: &Authority, expects: &Expects) -> Option<RevokeCause> {
    let differs = |expected: Option<u64>, now| expected.is_some_and(|expected| expected != now);
    if differs(expects.epoch, authority.epoch) {
        return Some(RevokeCause::Recovery);
    }
    differs(expects.settings, authority.settings_version).then_some(RevokeCause::Configuration)
}

fn lives(view: &View, digest: &TokenDigest, now: Now) -> bool {
    let known = view.grant(digest);
    known.is_some_and(|live| stands(view, &live.grant, now)) && view.revocation(digest).is_none()
}

/// Whether a grant that is not revoked itself has not ended, nor anything that it hangs on.
pub(super) fn stands(view: &View, grant: &Grant, now: Now) -> bool {
    let ended = |deadline: Deadline| deadline.passed(now);
    !ended(grant.deadline) && view.dead_ancestor(grant, ended).is_none()
}
