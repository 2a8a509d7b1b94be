//! Leases in answers: read, renewed, revoked.

use std::time::Duration;

use shared::{
    acl::Operation,
    api::Kind,
    change::Change,
    kv::Place,
    lease::{Lease, LeaseHolder},
    name::LeaseId,
    secret::SecretBytes,
    time::Deadline,
    wire::Incoming,
};

use super::{Exchange, requested};
use crate::view::{View, fill::LEASE_BODY};

/// The lease that an answer carries: read by its token, or renewed if it is known.
pub(super) fn carried(
    view: &View,
    exchange: &Exchange<'_>,
    incoming: &Incoming<'_>,
) -> Option<Change> {
    let id = LeaseId::parse(&incoming.lease_id).ok()?;
    if incoming.lease_duration == 0 || view.is_lease_revoked_here(&id) {
        return None;
    }
    if exchange.evidence.asked.call.kind == Kind::LeaseRenew {
        return renewed(view, exchange, incoming, &id);
    }
    let Kind::Data = &exchange.evidence.asked.call.kind else {
        return None;
    };
    // What a write brought, or a read with parameters, is no answer to a plain read of the path: its secret is nobody's
    // to read again, but its holder may ask about it and give it up.
    let plain = exchange.evidence.asked.call.operation == Operation::Read
        && exchange.evidence.asked.call.query.is_empty();
    let data = match plain {
        true => incoming.data?.get(),
        false => "null",
    };
    if data.len() > LEASE_BODY || !view.takes_lease_of(Some(exchange.asker.uid)) {
        return None;
    }
    let now = exchange.now;
    let lease = Lease {
        id,
        place: place(view, exchange)?,
        holder: LeaseHolder::Token(*exchange.token?),
        detached: Vec::new(),
        answers_reads: plain,
        renewable: incoming.renewable,
        granted: incoming.lease_duration,
        issued_at: now.steady,
        renewed_at: now.steady,
        deadline: Deadline::after(Duration::from_secs(incoming.lease_duration), now),
        verified_at: now.steady,
    };
    let body = SecretBytes::filled(|body| {
        body.reserve_exact(data.len());
        body.extend_from_slice(data.as_bytes());
    });
    Some(Change::Lease(Box::new(lease), Some(body)))
}

fn place(view: &View, exchange: &Exchange<'_>) -> Option<Place> {
    let authority = view.authority();
    let path = &exchange.evidence.asked.call.path;
    let mount = authority.cluster.as_deref()?.mounted(path.as_str())?;
    Some(Place {
        namespace: authority.settings.namespace.clone(),
        mount: mount.accessor.clone(),
        path: path.clone(),
    })
}

fn renewed(
    view: &View,
    exchange: &Exchange<'_>,
    incoming: &Incoming<'_>,
    id: &LeaseId,
) -> Option<Change> {
    let secrets = view.secrets();
    let known = &secrets.leases.get(id)?.lease;
    let now = exchange.now;
    let lease = Lease {
        renewable: incoming.renewable,
        granted: incoming.lease_duration,
        renewed_at: now.steady,
        deadline: Deadline::after(Duration::from_secs(incoming.lease_duration), now),
        verified_at: now.steady,
        ..known.clone()
    };
    Some(Change::Lease(Box::new(lease), None))
}

/// The lease that a revocation named. A shared one that the primary revoked is gone for all.
pub(super) fn revoked(view: &View, exchange: &Exchange<'_>) -> Option<Change> {
    let path = exchange.evidence.asked.call.path.as_str();
    let id = match path.strip_prefix("sys/leases/revoke/") {
        Some(id) => id.to_owned(),
        None => requested(exchange, "lease_id")?,
    };
    let id = LeaseId::parse(&id).ok()?;
    view.secrets()
        .leases
        .contains_key(&id)
        .then_some(Change::LeaseGone(id))
}
