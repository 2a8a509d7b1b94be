//! The end of the token before the one in use: after everything that hung on it has moved, and what clients were told
//! of that has passed.

use std::time::Duration;

use replica::sequencer::Lane;
use shared::{
    change::{Change, CredentialName},
    lease::{Lease, LeaseHolder},
    time::WallTime,
};

use super::Keeper;

/// How long the previous token outlives what clients were told of leases held under it.
const GRACE: Duration = Duration::from_secs(60);

impl Keeper {
    /// Revokes the previous token once nothing that clients were told of hangs on it any more.
    pub(super) async fn drop_previous(&self) {
        let Some(previous) = self.held(CredentialName::OwnPrevious) else {
            return;
        };
        let (now, memory) = (self.now(), self.upstream.unstored());
        if now < previous.expires && !memory.has_ended(&previous.accessor) {
            if !self.leases_moved(now) {
                return;
            }
            match self.revoke_self(&previous.token).await {
                Ok(()) => {}
                Err(error) if error.is_denial() => {}
                Err(error) => {
                    tracing::warn!(%error, "the previous token of Holdover's own is not revoked yet");
                    return;
                }
            }
        }
        // Before it is stored, because nobody is asked to revoke it again while the disk is full.
        memory.end_previous(previous.accessor);
        let gone = Change::CredentialGone(CredentialName::OwnPrevious);
        self.upstream.local().commit_later(Lane::Mirror, vec![gone]);
    }

    fn leases_moved(&self, now: WallTime) -> bool {
        let view = &self.upstream.local().view;
        let Some((issued_at, _)) = self.upstream.own_times() else {
            return false;
        };
        let secrets = view.secrets();
        let leases = secrets.leases.values().map(|held| &held.lease);
        have_moved(leases, issued_at, now)
    }
}

/// Whether every lease of Holdover's own is held under the token in use since `since`, and those before are past what
/// clients may have been told of them: no more than the ones in their place were granted.
fn have_moved<'a>(
    leases: impl IntoIterator<Item = &'a Lease>,
    since: WallTime,
    now: WallTime,
) -> bool {
    let own = leases.into_iter().filter(|lease| lease.holder.is_own());
    let told = own.map(|lease| match (&lease.holder, lease.issued_at >= since) {
        (LeaseHolder::Shared, true) => Some(Duration::from_secs(lease.granted)),
        (LeaseHolder::Assigned(_) | LeaseHolder::Pooled, true) => Some(Duration::ZERO),
        // Nothing takes the place of what a workload took out of its pool: it ends.
        (LeaseHolder::Assigned(_), false) => (lease.deadline.wall <= now).then_some(Duration::ZERO),
        _ => None,
    });
    let longest = told.collect::<Option<Vec<_>>>();
    longest.is_some_and(|told| {
        let longest = told.into_iter().max().unwrap_or_default();
        now.since(since) >= longest + GRACE
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use shared::{lease::Assignee, name::TokenDigest, time::Now};

    use crate::samples;

    fn at(secs: i64) -> WallTime {
        WallTime::from_secs(1_000_000 + secs)
    }

    fn lease(holder: LeaseHolder, issued: i64, granted: u64) -> Lease {
        let now = Now {
            wall: at(issued),
            steady: at(issued),
            ..samples::at(0)
        };
        samples::lease(1, holder, Duration::from_secs(granted), now)
    }

    #[test]
    fn a_lease_under_the_previous_token_keeps_it() {
        let old = lease(LeaseHolder::Shared, -5, 10);
        assert!(!have_moved([&old], at(0), at(100_000)));
        let a_client_s = lease(LeaseHolder::Token(TokenDigest([1; 32])), -5, 10);
        assert!(have_moved([&a_client_s], at(0), at(60)));
    }

    #[test]
    fn a_lease_that_a_workload_took_keeps_it_until_the_end_of_that_lease() {
        let taken = LeaseHolder::Assigned(Assignee::Token(TokenDigest([1; 32])));
        let taken = lease(taken, -5, 600);
        assert!(!have_moved([&taken], at(0), at(594)));
        assert!(have_moved([&taken], at(0), at(595)));
        assert!(!have_moved(
            [&lease(LeaseHolder::Pooled, -5, 10)],
            at(0),
            at(100_000)
        ));
        assert!(have_moved(
            [&lease(LeaseHolder::Pooled, 1, 6000)],
            at(0),
            at(60)
        ));
    }

    #[test]
    fn it_outlives_what_clients_were_told_by_a_grace() {
        let moved = [
            lease(LeaseHolder::Shared, 1, 600),
            lease(LeaseHolder::Shared, 2, 30),
        ];
        assert!(!have_moved(&moved, at(0), at(659)));
        assert!(have_moved(&moved, at(0), at(660)));
        assert!(!have_moved([], at(0), at(59)) && have_moved([], at(0), at(60)));
    }
}
