//! What the ledger says of a decision.

use shared::{
    change::{Change, QueuedRevocation, RevocationTarget},
    ledger::{Entry, EntryKind},
    time::WallTime,
    workload::PeerId,
};

use super::{
    caller::Bearer,
    case::Case,
    refusal::{Answered, Why},
};
use crate::{entropy::unique_u64, view::fill::MOST_WAITING};

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

/// As many revocations of one peer's may wait for the primary, all that are no workload's counting as one.
pub(crate) const MOST_OF_ONE: usize = 4_096;

/// What is to be revoked at the primary, and what is known of its end.
pub(crate) struct Ending {
    pub(crate) target: RevocationTarget,
    pub(crate) ends: WallTime,
    pub(crate) renewable: bool,
}

/// That the primary is to be told of a revocation which `bearer` asked for. `on_behalf`: its policy must still allow it then.
///
/// None is acknowledged that could not be kept until the primary has done it.
pub(crate) fn queued(
    case: &Case<'_>,
    bearer: &Bearer,
    of: Ending,
    on_behalf: bool,
) -> Answered<Change> {
    let peer = peer(case, bearer);
    let waiting = case.view.waiting_revocations(peer.as_ref());
    if waiting.all >= MOST_WAITING || waiting.of_one >= MOST_OF_ONE {
        return Err(Why::TooManyRevocations.into());
    }
    let queued = QueuedRevocation {
        requested_by: bearer.digest().filter(|_| on_behalf),
        peer,
        ..QueuedRevocation::own(unique_u64(case.entropy)?, of.target, case.now().steady)
    };
    let queued = queued.ending(of.ends, of.renewable);
    Ok(Change::Queue(Box::new(queued)))
}
