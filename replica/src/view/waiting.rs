//! Revocations that the primary has yet to be told of.

use std::sync::Arc;

use shared::{
    change::{QueuedRevocation, RevocationTarget},
    name::LeaseId,
    workload::PeerId,
};

use super::View;

/// How many revocations wait for the primary.
pub struct RevocationsWaiting {
    /// Of everybody.
    pub all: usize,
    /// Of those that one asked for.
    pub of_one: usize,
}

impl View {
    /// Whether a lease was revoked here, and the primary does not know of it yet.
    pub fn is_lease_revoked_here(&self, lease: &LeaseId) -> bool {
        let queue = self.queue.pin();
        queue.values().any(|queued| match &queued.target {
            RevocationTarget::Lease(target) => target == lease,
            RevocationTarget::Token(_) => false,
        })
    }

    /// How many revocations wait for the primary: of everybody, and of those that `peer` asked for.
    pub(crate) fn waiting_revocations(&self, peer: Option<&PeerId>) -> RevocationsWaiting {
        let queue = self.queue.pin();
        let of_one = |queued: &&Arc<QueuedRevocation>| {
            queued.requested_by.is_some() && queued.peer.as_ref() == peer
        };
        RevocationsWaiting {
            all: queue.len(),
            of_one: queue.values().filter(of_one).count(),
        }
    }

    /// How many revocations of what nobody got wait for the primary: of everything, and of what this user asked for.
    pub fn unclaimed(&self, uid: u32) -> RevocationsWaiting {
        let queue = self.queue.pin();
        let of = |wanted: fn(u32, u32) -> bool| {
            let askers = queue.values().filter_map(|queued| queued.unclaimed_by);
            askers.filter(|by| wanted(*by, uid)).count()
        };
        RevocationsWaiting {
            all: of(|_, _| true),
            of_one: of(|by, uid| by == uid),
        }
    }

    /// The revocations that the primary has yet to be told of, oldest id first.
    pub fn queue(&self) -> Vec<Arc<QueuedRevocation>> {
        let mut queue: Vec<_> = self.queue.pin().values().cloned().collect();
        queue.sort_by_key(|queued| queued.id);
        queue
    }

    /// Publishes a queued revocation, or that it is done. The writer's alone.
    pub(crate) fn set_queued(&self, id: u64, queued: Option<Arc<QueuedRevocation>>) {
        let queue = self.queue.pin();
        match queued {
            Some(queued) => queue.insert(id, queued),
            None => queue.remove(&id),
        };
    }
}
