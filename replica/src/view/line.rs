//! The line of tokens that one hangs on: what of it is dead, in doubt, or not proven makes the one at its end so.

use std::sync::Arc;

use shared::{
    grant::{self, Grant, RevokeCause},
    name::TokenDigest,
    time::{Deadline, WallTime},
};

use super::{LiveGrant, View};

/// How a token above another died.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DeadAncestor {
    /// Its deadline passed; for a token of the primary, by what is known of it here.
    Ended(Deadline),
    /// It was revoked.
    Revoked,
}

/// The longest chain of parents that is followed.
const DEPTH: usize = 10_000;

impl View {
    /// The nearest token above `grant` that is dead, if there is one: `grant` is dead with it. `ended` says whether a
    /// deadline counts as past.
    ///
    /// An ancestor that is not known here says nothing: what is forgotten was revoked with its children before.
    pub fn dead_ancestor(
        &self,
        grant: &Grant,
        ended: impl Fn(Deadline) -> bool,
    ) -> Option<DeadAncestor> {
        let mut above = grant.parent;
        for _ in 0..DEPTH {
            let digest = above?;
            if let Some(revocation) = self.revocation(&digest) {
                let spared = revocation.cause == RevokeCause::Orphaning;
                return (!spared).then_some(DeadAncestor::Revoked);
            }
            let live = self.grant(&digest)?;
            if ended(live.grant.deadline) {
                return Some(DeadAncestor::Ended(live.grant.deadline));
            }
            above = live.grant.parent;
        }
        // Nobody makes a chain this long: it is not trusted.
        Some(DeadAncestor::Revoked)
    }

    /// Whether the token, or one that it hangs on, was ended by an act here rather than by what the primary said. The primary may
    /// not know of it yet.
    pub fn was_ended_here(&self, digest: &TokenDigest) -> bool {
        let mut at = *digest;
        for _ in 0..DEPTH {
            match self.revocation(&at).map(|revocation| revocation.cause) {
                // Its children were spared.
                Some(RevokeCause::Orphaning) => return at == *digest,
                Some(RevokeCause::Primary) => return false,
                // Above it is what was done.
                Some(RevokeCause::Parent) | None => {}
                Some(_) => return true,
            }
            match self.grant(&at).and_then(|live| live.grant.parent) {
                Some(above) => at = above,
                None => return false,
            }
        }
        true
    }

    /// Whether the primary refused a token above `grant` since it last proved it: then `grant` may be dead with it.
    pub(crate) fn hangs_on_doubted(&self, grant: &Grant) -> bool {
        self.ancestors(grant).any(|live| live.is_doubted())
    }

    /// Those of `grant` and the tokens above it that the primary has not proved since `from` though `grant` rests on them:
    /// with any one of them it may be dead.
    pub fn unproven(&self, grant: &Grant, from: WallTime) -> impl Iterator<Item = TokenDigest> {
        let own = (grant.digest, grant.backing());
        let above = self.ancestors(grant);
        let above = above.map(|live| (live.grant.digest, live.grant.backing()));
        grant::unproven(std::iter::once(own).chain(above), from)
    }

    /// The tokens that `grant` hangs on, the nearest first, as far as they are known. One that was revoked ends the line: what
    /// is left below it was spared, or is dead.
    pub(super) fn ancestors(&self, grant: &Grant) -> impl Iterator<Item = Arc<LiveGrant>> {
        let above = |grant: &Grant| {
            let digest = grant
                .parent
                .filter(|above| self.revocation(above).is_none())?;
            self.grant(&digest)
        };
        std::iter::successors(above(grant), move |live| above(&live.grant)).take(DEPTH)
    }
}
