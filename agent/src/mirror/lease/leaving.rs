//! Leases whose path left the configuration.

use shared::{
    change::Change,
    lease::{Lease, LeaseHolder},
};

use crate::{mirror::context::MirrorContext, upstream::pace::Urgency};

/// Leases of Holdover's own whose path left the configuration: revoked and forgotten.
pub(in crate::mirror) async fn forget_leases(context: &MirrorContext) {
    let secrets = context.local.view.secrets();
    let configured = |lease: &Lease| {
        let path = lease.place.path.as_str();
        let mut mirrors = context.settings.mirrors.iter();
        mirrors.any(|mirror| mirror.path.covers(path))
    };
    let held = secrets.leases.values().map(|held| &held.lease);
    // What a workload took out of a pool is that workload's until it ends.
    let gone = held.filter(|lease| {
        matches!(lease.holder, LeaseHolder::Pooled | LeaseHolder::Shared)
            && lease.place.namespace == context.settings.namespace
            && !configured(lease)
    });
    for id in gone.map(|lease| &lease.id) {
        // Where the primary cannot be asked its own deadline ends it.
        let revoked = context.upstream.revoke_lease(id, Urgency::Mirror);
        if let Err(error) = revoked.await {
            tracing::warn!(%error, "a lease that left the configuration could not be revoked");
        }
        let gone = vec![Change::LeaseGone(id.clone())];
        if let Err(error) = context.commit(gone).await {
            tracing::warn!(%error, "a lease that left the configuration is still in the replica");
        }
    }
}
