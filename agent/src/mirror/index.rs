//! Raft's applied index: one unauthenticated request that tells that nothing was written anywhere in the cluster.
//!
//! Only the active node's own index counts: a standby's may lag behind what the others know. What moves without a
//! write (ends of tokens, leases, policies and versions, all known beforehand) is for those to see who rely on it.

use std::time::Duration;

use serde::Deserialize;
use shared::time::WallTime;

use super::{context::MirrorContext, status::UnreadPaths};
use crate::upstream::{Reply, Request, UpstreamError, pace::Urgency};

/// However quiet the cluster is, everything is asked anew after this long.
pub(super) const FULL_EVERY: Duration = Duration::from_secs(600);

/// How many passes go by before a primary without an index is asked for one again.
const SKIPPED: u32 = 100;

/// Where the cluster's state stood.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Index {
    applied: u64,
    leader: String,
    active_since: String,
}

/// What one task knows of the index.
#[derive(Default)]
pub(super) struct Quiet {
    /// Where it stood before the last pass that asked for everything, and when that began.
    full: Option<(Index, WallTime)>,
    skip: u32,
}

/// Since when the cluster has stood still, for proofs that are each of their own time.
#[derive(Default)]
pub(super) struct Still {
    quiet: Quiet,
    seen: Option<(Index, WallTime)>,
}

impl Still {
    /// Asks where the index stands at `at`: proofs from the returned moment on still hold.
    pub(super) async fn observe(
        &mut self,
        context: &MirrorContext,
        urgency: Urgency,
        at: WallTime,
    ) -> Result<Option<WallTime>, UpstreamError> {
        let observed = self.quiet.observe(context, urgency).await?;
        Ok(self.since(observed, at))
    }

    fn since(&mut self, observed: Option<Index>, at: WallTime) -> Option<WallTime> {
        let Some(observed) = observed else {
            self.seen = None;
            return None;
        };
        match &self.seen {
            Some((index, since)) if *index == observed => Some(*since),
            _ => {
                self.seen = Some((observed, at));
                None
            }
        }
    }
}

/// `sys/leader`.
#[derive(Deserialize)]
struct Leader {
    ha_enabled: bool,
    /// There where `ha_enabled`.
    #[serde(flatten)]
    elected: Option<Elected>,
}

/// What there is to tell where nodes elect one.
#[derive(Deserialize)]
struct Elected {
    is_self: bool,
    active_time: String,
    leader_cluster_address: String,
    /// Not there where the storage is not raft.
    #[serde(default)]
    raft_committed_index: u64,
    #[serde(default)]
    raft_applied_index: u64,
}

impl Quiet {
    /// Asks where it stands; `None` where the primary cannot tell, or tells nothing that can be read.
    pub(super) async fn observe(
        &mut self,
        context: &MirrorContext,
        urgency: Urgency,
    ) -> Result<Option<Index>, UpstreamError> {
        if self.skip > 0 {
            self.skip -= 1;
            return Ok(None);
        }
        let upstream = &context.upstream;
        upstream.turn(urgency).await;
        let request = Request::read("sys/leader").of_cluster();
        let observed = upstream.send(&request, None).await.and_then(index);
        let mut unread = UnreadPaths::default();
        let index = match observed {
            Ok(index) => index,
            Err(UpstreamError::Decision(_)) => None,
            Err(error @ UpstreamError::Malformed { .. }) => {
                tracing::warn!(%error, "where the cluster's index stands could not be read: everything is asked for");
                unread.add(request.path(), error);
                context.note("applied index", unread);
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        context.note("applied index", unread);
        if index.is_none() {
            self.skip = SKIPPED;
        }
        Ok(index)
    }

    /// Whether nothing was written since before the last full pass, which is not too long ago at `now`.
    pub(super) fn holds(&self, observed: Option<&Index>, now: WallTime) -> bool {
        let full = self.full.as_ref();
        full.is_some_and(|(index, at)| observed == Some(index) && now.since(*at) < FULL_EVERY)
    }

    /// When the last pass that saw everything began.
    pub(super) fn since(&self) -> Option<WallTime> {
        self.full.as_ref().map(|(_, at)| *at)
    }

    /// A pass that began at `at`, with the index `observed` before it, saw everything.
    pub(super) fn complete(&mut self, observed: Option<Index>, at: WallTime) {
        self.full = observed.map(|index| (index, at));
    }

    /// The last pass did not see everything.
    pub(super) fn forget(&mut self) {
        self.full = None;
    }
}

/// Where it stands, as an answer tells.
fn index(reply: Reply) -> Result<Option<Index>, UpstreamError> {
    let shown = reply.shown()?;
    let leader: Leader = shown.bare()?;
    match (leader.ha_enabled, leader.elected) {
        (false, _) => Ok(None),
        (true, Some(elected)) => Ok(elected.index()),
        (true, None) => Err(shown.unexpected("no leader in it")),
    }
}

impl Elected {
    fn index(self) -> Option<Index> {
        let caught_up =
            self.raft_applied_index > 0 && self.raft_applied_index == self.raft_committed_index;
        (self.is_self && caught_up).then_some(Index {
            applied: self.raft_applied_index,
            leader: self.leader_cluster_address,
            active_since: self.active_time,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leader(applied: u64) -> Elected {
        Elected {
            is_self: true,
            active_time: "t".into(),
            leader_cluster_address: "a".into(),
            raft_committed_index: applied,
            raft_applied_index: applied,
        }
    }

    const START: WallTime = WallTime::from_secs(1000);

    #[test]
    fn only_the_index_of_an_active_node_that_caught_up_counts() {
        assert!(leader(7).index().is_some());
        assert!(leader(0).index().is_none());
        let standby = Elected {
            is_self: false,
            ..leader(7)
        };
        let behind = Elected {
            raft_committed_index: 8,
            ..leader(7)
        };
        assert!(standby.index().is_none() && behind.index().is_none());
    }

    #[test]
    fn only_proofs_from_since_the_index_stands_still_hold() {
        let mut still = Still::default();
        let later = START.plus(Duration::from_secs(5));
        assert_eq!(still.since(leader(7).index(), START), None);
        assert_eq!(still.since(leader(7).index(), later), Some(START));
        assert_eq!(still.since(leader(8).index(), later), None);
        assert_eq!(still.since(leader(8).index(), later), Some(later));
        assert_eq!(still.since(None, later), None);
        assert_eq!(still.since(leader(8).index(), later), None);
    }

    #[test]
    fn quiet_is_the_same_index_under_the_same_leader_and_not_for_ever() {
        let mut quiet = Quiet::default();
        let index = leader(7).index();
        assert!(!quiet.holds(index.as_ref(), START));
        quiet.complete(index.clone(), START);
        assert!(quiet.holds(index.as_ref(), START.plus(Duration::from_secs(1))));
        assert!(!quiet.holds(leader(8).index().as_ref(), START));
        assert!(!quiet.holds(None, START));
        let elected = Elected {
            active_time: "u".into(),
            ..leader(7)
        };
        assert!(!quiet.holds(elected.index().as_ref(), START));
        assert!(!quiet.holds(index.as_ref(), START.plus(FULL_EVERY)));
        quiet.forget();
        assert!(!quiet.holds(index.as_ref(), START));
    }
}
