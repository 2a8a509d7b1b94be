//! What the ledger says of a decision.

use shared::{
    change::{Change, QueuedRevocation, RevocationTarget},
    ledger::{Entry, EntryKind},
    time::WallTime,
    workload::PeerId,
};

use super::{caller::Bearer, case::Case, refusal::Answered};
use crate::entropy::unique_u64;

/// An entry about `bearer` and whoever presents it.
pub(crate) fn of(case: &Case<'_>, kind: EntryKind, bearer: &Bearer) -> Entry {
    let peer = peer(case, bearer);
    let mut entry = Entry::new(kind, "allowed", case.now().steady).of_peer(peer.as_ref());
    entry.uid = entry.uid.or(case.query.peer.map(|peer| peer.uid));
    entry.outage = case.outage().map(|outage| outage.id.clone());
    entry.accessor = Some(bearer.accessor().clone());
    entry.token = bearer.digest();
    entry.path = Some(case.query.call.path.as_str().to_owned());
    entry.replica_age_seconds = Some(case.age(bearer.verified_at()).as_secs());
    entry
}

/// The presenting peer, as far as it is one of a workload's.
fn peer(case: &Case<'_>, bearer: &Bearer) -> Option<PeerId> {
    let workload = bearer.workload(case)?;
    case.query.peer?.identity(&workload)
}

/// That the primary is to be told of a revocation of what `ends` then by itself, which `bearer` asked for. `on_behalf`: its
/// policy must still allow it then.
pub(crate) fn queued(
    case: &Case<'_>,
    bearer: &Bearer,
    (target, ends): (RevocationTarget, WallTime),
    on_behalf: bool,
) -> Answered<Change> {
    Ok(Change::Queue(Box::new(QueuedRevocation {
        requested_by: bearer.digest().filter(|_| on_behalf),
        peer: peer(case, bearer),
        ends: Some(ends),
        ..QueuedRevocation::own(unique_u64(case.entropy)?, target, case.now().steady)
    })))
}
