//! The end of leases: those that their backend has dropped are forgotten, and what a workload took out of a pool goes
//! with its holder, here at once and at the primary as soon as it can be told.

use std::{cell::OnceCell, collections::BTreeSet, time::Duration};

use replica::{
    entropy::{NoEntropy, unique_u64},
    sequencer::Lane,
    view::{Authority, LiveGrant, View},
};
use shared::{
    change::{Change, Expects, QueuedRevocation, RevocationTarget},
    damage::RowKind,
    lease::{Assignee, Lease, LeaseHolder},
    ledger::{Entry, EntryKind},
    name::TokenDigest,
    time::Now,
    workload::PeerId,
};

use crate::local::Local;

/// A lease that a client read is remembered for this long after its end: asked for it, the replica says that it ended.
const REMEMBERED: Duration = Duration::from_secs(3600);

/// Ends the leases that are over and those whose holder is dead, durably.
pub async fn end_due(local: &Local) {
    end(local, |_| false).await;
}

/// The same, and what `meant` holds, whatever of it lives: an operator revoked all that it has.
pub async fn end_of(local: &Local, meant: impl Fn(&Assignee) -> bool) {
    end(local, meant).await;
}

async fn end(local: &Local, forced: impl Fn(&Assignee) -> bool) {
    let changes = match changes(local, forced) {
        Ok(changes) if changes.is_empty() => return,
        Ok(changes) => changes,
        Err(error) => {
            tracing::error!(%error, "leases of dead holders are not revoked yet");
            return;
        }
    };
    let ended = local.commit(Lane::Revocation, changes, Expects::default());
    if let Err(error) = ended.await {
        tracing::error!(%error, "the end of leases could not be stored");
    }
}

fn changes(local: &Local, forced: impl Fn(&Assignee) -> bool) -> Result<Vec<Change>, NoEntropy> {
    let now = local.clock.now();
    let secrets = local.view.secrets();
    let leases = secrets.leases.values().map(|held| &held.lease);
    let candidates: Vec<_> = leases
        .filter(|lease| lease.holder != LeaseHolder::Shared)
        .collect();
    if candidates.is_empty() {
        return Ok(Vec::new());
    }
    let authority = local.view.authority();
    let living = Holders::of(local, &authority, now);
    let mut changes = Vec::new();
    for lease in candidates {
        match &lease.holder {
            LeaseHolder::Token(token) => {
                let remembered = now.steady.since(lease.deadline.wall) <= REMEMBERED;
                let over = lease.deadline.passed_for_good(now) && !remembered;
                if local.view.revocation(token).is_some() {
                    // A primary that is told of the token drops it then.
                    let entry = report_entry(&authority, lease, None, Some(*token), now);
                    changes.push(Change::LeaseGone(lease.id.clone()));
                    changes.push(Change::Ledger(Box::new(entry)));
                } else if over {
                    changes.push(Change::LeaseGone(lease.id.clone()));
                }
            }
            _ if lease.deadline.passed_for_good(now) => {
                changes.push(Change::LeaseGone(lease.id.clone()));
            }
            LeaseHolder::Assigned(who)
                if forced(who) || living.are_known_of(lease) && !living.has(who) =>
            {
                changes.extend(taken_back(local, &authority, lease, who, now)?);
            }
            LeaseHolder::Assigned(_) | LeaseHolder::Pooled | LeaseHolder::Shared => {}
        }
    }
    Ok(changes)
}

/// Refused here from now on, and told to the primary, under whose eyes it is Holdover's own.
fn taken_back(
    local: &Local,
    authority: &Authority,
    lease: &Lease,
    who: &Assignee,
    now: Now,
) -> Result<[Change; 3], NoEntropy> {
    let id = unique_u64(local.entropy.as_ref())?;
    let (peer, token) = match who {
        Assignee::Token(token) => (None, Some(*token)),
        Assignee::Workload(peer) => (Some(peer.clone()), None),
    };
    let entry = report_entry(authority, lease, peer.as_ref(), token, now);
    let target = RevocationTarget::Lease(lease.id.clone());
    Ok([
        Change::LeaseGone(lease.id.clone()),
        Change::Queue(Box::new(QueuedRevocation {
            namespace: Some(lease.place.namespace.clone()),
            peer,
            ..QueuedRevocation::own(id, target, now.steady)
                .ending(lease.deadline.wall, lease.renewable)
        })),
        Change::Ledger(Box::new(entry)),
    ])
}

/// What the ledger says of a lease that went with its holder, and of when the backend drops it by itself.
fn report_entry(
    authority: &Authority,
    lease: &Lease,
    peer: Option<&PeerId>,
    token: Option<TokenDigest>,
    now: Now,
) -> Entry {
    let mut entry = Entry::new(EntryKind::Revocation, "holder", now.steady).of_peer(peer);
    entry.token = token;
    entry.outage = authority.phase.outage().map(|outage| outage.id.clone());
    entry.path = Some(lease.id.as_str().to_owned());
    entry.deadline = Some(lease.deadline.wall);
    entry
}

/// Who lives, as far as leases hang on it.
struct Holders<'a> {
    view: &'a View,
    authority: &'a Authority,
    /// Peers with a token that lives; none are known until one is asked for.
    peers: OnceCell<BTreeSet<PeerId>>,
    now: Now,
}

impl<'a> Holders<'a> {
    fn of(local: &'a Local, authority: &'a Authority, now: Now) -> Self {
        Self {
            view: &local.view,
            authority,
            peers: OnceCell::new(),
            now,
        }
    }

    /// Whether it can be told who lives that holds it: of another namespace than the configured one nothing is known, and
    /// those of whom the record is damaged may live.
    fn are_known_of(&self, lease: &Lease) -> bool {
        let lost = &self.authority.lost;
        let are_lost = [RowKind::Authority, RowKind::Grant]
            .iter()
            .any(|kind| lost.any_of(*kind));
        lease.place.namespace == self.authority.settings.namespace && !are_lost
    }

    /// A peer lives as long as one of its tokens does, the one that stands for it without a login included.
    fn has(&self, who: &Assignee) -> bool {
        let peer = match who {
            Assignee::Token(token) => {
                let known = self.view.grant(token);
                return known.is_some_and(|live| self.lives(&live));
            }
            Assignee::Workload(peer) => peer,
        };
        let Some(entry) = self.authority.settings.workload(&peer.workload) else {
            return false;
        };
        let proven = self.authority.workloads.get(&peer.workload);
        let stands = proven.is_some_and(|proven| self.now.steady < proven.standing_expires);
        (entry.auto_token && stands) || self.peers().contains(peer)
    }

    fn peers(&self) -> &BTreeSet<PeerId> {
        self.peers.get_or_init(|| {
            let grants = self.view.grants();
            let living = grants.iter().filter(|live| self.lives(live));
            living.filter_map(|live| live.grant.peer.clone()).collect()
        })
    }

    fn lives(&self, live: &LiveGrant) -> bool {
        live.revoked.get().is_none() && !live.grant.deadline.passed_for_good(self.now)
    }
}

#[cfg(test)]
mod tests {
    use shared::{
        grant::{Revocation, RevokeCause},
        name::LeaseId,
        secret::SecretBytes,
        workload::OnRecovery,
    };

    use super::*;
    use crate::samples::{self, bench::Bench};

    const MINUTE: Duration = Duration::from_secs(60);

    fn lease(bench: &Bench, nr: u8, holder: LeaseHolder, life: Duration) -> Change {
        let lease = Lease {
            granted: 60,
            ..samples::lease(nr, holder, life, bench.now())
        };
        Change::Lease(Box::new(lease), Some(SecretBytes::new(b"{}".to_vec())))
    }

    fn to_workload(bench: &Bench) -> LeaseHolder {
        let peer = bench.grant(1, MINUTE).peer.unwrap();
        LeaseHolder::Assigned(Assignee::Workload(peer))
    }

    fn to_token(nr: u8) -> LeaseHolder {
        LeaseHolder::Assigned(Assignee::Token(TokenDigest([nr; 32])))
    }

    fn revoked(bench: &Bench, nr: u8) -> Change {
        let grant = bench.grant(nr, MINUTE);
        let now = bench.local.clock.now().steady;
        Change::Revoked(Revocation::of(&grant, RevokeCause::Requested, now))
    }

    fn granted(bench: &Bench, nr: u8) -> Change {
        Change::Grant(Box::new(bench.grant(nr, MINUTE)))
    }

    /// The numbers of the leases that are left, and of those that the primary is to be told of.
    fn left(bench: &Bench) -> (Vec<String>, Vec<String>) {
        let number = |id: &LeaseId| id.as_str().rsplit('/').next().unwrap().to_owned();
        let secrets = bench.local.view.secrets();
        let mut told: Vec<_> = bench
            .local
            .view
            .queue()
            .iter()
            .map(|queued| match &queued.target {
                RevocationTarget::Lease(id) => number(id),
                RevocationTarget::Token(accessor) => accessor.to_string(),
            })
            .collect();
        told.sort();
        (secrets.leases.keys().map(number).collect(), told)
    }

    #[tokio::test]
    async fn a_lease_goes_with_the_last_token_of_its_holder_and_the_primary_is_told() {
        let bench = Bench::new(OnRecovery::Exchange);
        let changes = vec![
            granted(&bench, 1),
            granted(&bench, 2),
            granted(&bench, 3),
            lease(&bench, 1, to_workload(&bench), MINUTE),
            lease(&bench, 2, to_token(3), MINUTE),
            lease(&bench, 3, to_token(99), MINUTE),
            lease(&bench, 4, LeaseHolder::Pooled, MINUTE),
            lease(&bench, 5, LeaseHolder::Shared, MINUTE),
        ];
        bench.store(changes).await;
        end_due(&bench.local).await;
        assert_eq!(left(&bench).0, ["1", "2", "4", "5"], "nobody knows 99");
        bench
            .store(vec![revoked(&bench, 1), revoked(&bench, 3)])
            .await;
        end_due(&bench.local).await;
        let of = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        assert_eq!(left(&bench), (of(&["1", "4", "5"]), of(&["2", "3"])));
        // All three are tokens of one peer.
        bench.store(vec![revoked(&bench, 2)]).await;
        end_due(&bench.local).await;
        assert_eq!(left(&bench), (of(&["4", "5"]), of(&["1", "2", "3"])));
    }

    #[tokio::test]
    async fn what_an_operator_means_goes_while_its_tokens_live() {
        let bench = Bench::new(OnRecovery::Exchange);
        let taken = lease(&bench, 1, to_workload(&bench), MINUTE);
        bench.store(vec![granted(&bench, 1), taken]).await;
        end_of(&bench.local, |_| false).await;
        assert_eq!(left(&bench).0, ["1"]);
        end_of(
            &bench.local,
            |who| matches!(who, Assignee::Workload(peer) if peer.uid == 7),
        )
        .await;
        assert_eq!(left(&bench), (vec![], vec!["1".to_owned()]));
    }

    #[tokio::test]
    async fn what_its_backend_dropped_is_forgotten_and_told_to_nobody() {
        let bench = Bench::new(OnRecovery::Exchange);
        let read = |nr| LeaseHolder::Token(TokenDigest([nr; 32]));
        let changes = vec![
            granted(&bench, 1),
            granted(&bench, 2),
            lease(&bench, 1, to_workload(&bench), Duration::ZERO),
            lease(&bench, 2, LeaseHolder::Pooled, Duration::ZERO),
            lease(&bench, 3, LeaseHolder::Shared, Duration::ZERO),
            lease(&bench, 4, read(1), Duration::ZERO),
            lease(&bench, 5, read(2), MINUTE),
            // Its token is looked up a moment later.
            lease(&bench, 6, read(9), MINUTE),
            revoked(&bench, 2),
        ];
        bench.store(changes).await;
        let due = super::changes(&bench.local, |_| false).unwrap();
        let entries = due.iter().filter_map(|change| match change {
            Change::Ledger(entry) => entry.path.as_deref(),
            _ => None,
        });
        assert_eq!(entries.collect::<Vec<_>>(), ["database/creds/x/5"]);
        end_due(&bench.local).await;
        // That a shared one ended, or one that a client read, is still said for a while.
        assert_eq!(
            left(&bench),
            (vec!["3".into(), "4".into(), "6".into()], vec![])
        );
    }
}
