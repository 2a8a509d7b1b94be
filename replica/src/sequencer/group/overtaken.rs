//! What was handed out in a commit while what it was decided by changed is taken back before anybody is told of it.

use std::sync::Arc;

use shared::{
    change::{Change, Expects, HandedOut, QueuedRevocation, RevocationTarget},
    failover::Phase,
    grant::{Grant, Revocation, RevokeCause},
    lease::{Assignee, LeaseHolder},
    ledger::{Entry, EntryKind},
    name::{LeaseId, TokenDigest},
    time::Now,
};

use super::{
    super::{Lane, SubmitError, queue::Submission, recheck::overtaken, stage::Stage},
    Worker,
};
use crate::{
    entropy::unique_u64,
    view::{HeldLease, LiveGrant, Secrets},
};

/// What a submission hands out, and what is needed to take it back.
pub(super) enum Handed {
    /// A lease that leaves its pool.
    Lease(LeaseId),
    /// A grant that is made or replaced, and the one that was there.
    Token {
        grant: Box<Grant>,
        before: Option<Arc<LiveGrant>>,
    },
}

impl Handed {
    /// What `change` hands out over what `stage` holds.
    pub(super) fn by(change: &Change, stage: &Stage<'_>) -> Option<Self> {
        Some(match change.hands_out()? {
            HandedOut::Lease(id) => Self::Lease(id.clone()),
            HandedOut::Token(grant) => Self::Token {
                before: stage.live(&grant.digest),
                grant: Box::new(grant.clone()),
            },
        })
    }
}

impl Worker {
    /// Takes back what was committed while the token that it hangs on was revoked, the fence came down, the settings changed,
    /// or this host's authority ended, before anybody holds it: in memory now, on disk in the next commit.
    pub(super) fn take_back_overtaken(
        &mut self,
        expects: &Expects,
        handed: Vec<Handed>,
        now: Now,
    ) -> Result<(), SubmitError> {
        if handed.is_empty() {
            return Ok(());
        }
        let parent_gone = expects.live.iter().any(|of| self.is_gone(of));
        let cause = match overtaken(&self.shared.view.authority(), expects, now) {
            _ if parent_gone => Some(RevokeCause::Parent),
            cause => cause,
        };
        let Some(cause) = cause else {
            return Ok(());
        };
        let mut changes = Vec::new();
        for one in handed {
            changes.extend(match one {
                Handed::Lease(id) => self.take_lease_back(&id, now),
                Handed::Token {
                    before: Some(before),
                    ..
                } if !parent_gone => self.put_grant_back(&before),
                Handed::Token { grant, .. } => self.revoke(&grant, cause, now),
            });
        }
        self.shared.submit_first(Submission::new(
            Lane::Revocation,
            changes,
            Expects::default(),
            Box::new(|_| {}),
        ));
        Err(SubmitError::Conflict)
    }

    /// Whether a token, or one that it hangs on, was revoked.
    fn is_gone(&self, of: &TokenDigest) -> bool {
        let view = &self.shared.view;
        let above = view.grant(of);
        let above = above.and_then(|live| view.dead_ancestor(&live.grant, |_| false));
        above.is_some() || view.revocation(of).is_some()
    }

    fn put_grant_back(&self, before: &Arc<LiveGrant>) -> Vec<Change> {
        self.shared.view.put_grant(before);
        vec![Change::Grant(Box::new(before.grant.clone()))]
    }

    fn revoke(&self, grant: &Grant, cause: RevokeCause, now: Now) -> Vec<Change> {
        let revocation = Revocation::of(grant, cause, now.steady);
        self.shared.view.strike(&revocation);
        let entry = Entry::new(EntryKind::Revocation, "allowed", now.steady);
        vec![
            Change::Ledger(Box::new(entry.about(grant))),
            Change::Revoked(revocation),
        ]
    }

    /// It never comes back to its pool, because whoever it was taken for may have read it once more meanwhile: it is refused
    /// here from now on, and the primary is told.
    fn take_lease_back(&mut self, id: &LeaseId, now: Now) -> Vec<Change> {
        let view = Arc::clone(&self.shared.view);
        let secrets = view.secrets();
        let Some(held) = secrets.leases.get(id) else {
            return Vec::new();
        };
        let mut without = Secrets::clone(&secrets);
        without.leases.remove(id);
        let mut changes = vec![
            Change::LeaseGone(id.clone()),
            Change::Ledger(Box::new(entry(held, &view.authority().phase, now))),
        ];
        let target = RevocationTarget::Lease(id.clone());
        match unique_u64(self.writer.sealer().entropy) {
            Ok(nr) => {
                let queued = QueuedRevocation::own(nr, target, now.steady)
                    .ending(held.lease.deadline.wall, held.lease.renewable);
                view.set_queued(nr, Some(Arc::new(queued.clone())));
                changes.push(Change::Queue(Box::new(queued)));
            }
            Err(error) => {
                tracing::error!(%error, lease = %id.as_str(), "a lease that nobody was given lives at the primary until its end");
            }
        }
        view.set_secrets(without);
        changes
    }
}

fn entry(held: &HeldLease, phase: &Phase, now: Now) -> Entry {
    let mut entry = Entry::new(EntryKind::Revocation, "allowed", now.steady);
    if let LeaseHolder::Assigned(who) = &held.lease.holder {
        match who {
            Assignee::Token(token) => entry.token = Some(*token),
            Assignee::Workload(peer) => entry = entry.of_peer(Some(peer)),
        }
    }
    entry.outage = phase.outage().map(|outage| outage.id.clone());
    entry.path = Some(held.lease.id.as_str().to_owned());
    entry.deadline = Some(held.lease.deadline.wall);
    entry
}
