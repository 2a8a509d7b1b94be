//! Revocations that the primary has yet to hear of: reported at once while it is in charge, and by recovery after an
//! outage.

use std::{sync::Arc, time::Duration};

use replica::view::View;
use shared::{
    acl::{AclRequest, Decision as AclDecision, Operation},
    change::{Change, QueuedRevocation, RevocationTarget},
    failover::{Outage, Phase},
    ledger::{Entry, EntryKind},
};

use super::{SettleError, commit, primary::Primary};
use crate::{
    local::Local,
    upstream::{Decision, UpstreamError},
};

/// How often the queue is looked at while following.
const LOOK: Duration = Duration::from_millis(250);

/// After the primary did not take one.
const AGAIN: Duration = Duration::from_secs(10);

/// Reports what is queued while the primary is in charge, until the daemon stops.
pub async fn report_while_following(local: Local, primary: Arc<impl Primary>) {
    loop {
        tokio::time::sleep(LOOK).await;
        if local.view.authority().phase != Phase::Following {
            continue; // Recovery reports it.
        }
        for queued in local.view.queue() {
            if !is_own(&local.view, &queued) && !is_allowed(&local, &queued) {
                continue; // The next recovery withholds it.
            }
            let reported = report(&local, primary.as_ref(), &queued).await;
            if let Err(error) = &reported {
                tracing::warn!(%error, id = queued.id, "a revocation is reported to the primary later");
            }
            if !matches!(reported, Ok(true)) {
                tokio::time::sleep(AGAIN).await;
                break;
            }
        }
    }
}

/// What is queued: revocations that a token asked for about itself or that nobody's policy stands behind, and the
/// others.
pub(super) fn queued(local: &Local) -> (Vec<QueuedRevocation>, Vec<QueuedRevocation>) {
    let queue = local.view.queue();
    let queue = queue.iter().map(|queued| (**queued).clone());
    queue.partition(|queued| is_own(&local.view, queued))
}

/// Reports all of them, but for those that Holdover lacks the right to.
pub(super) async fn report_all<P: Primary>(
    local: &Local,
    primary: &P,
    queue: Vec<QueuedRevocation>,
) -> Result<(), SettleError> {
    for queued in queue {
        report(local, primary, &queued).await?;
    }
    Ok(())
}

/// Reports those that policy still allows, and withholds the others for good.
pub(super) async fn report_allowed<P: Primary>(
    local: &Local,
    primary: &P,
    outage: &Outage,
    queue: Vec<QueuedRevocation>,
) -> Result<(), SettleError> {
    let (allowed, withheld): (Vec<_>, Vec<_>) = queue
        .into_iter()
        .partition(|queued| is_allowed(local, queued));
    report_all(local, primary, allowed).await?;
    for queued in withheld {
        let now = local.clock.now().steady;
        let mut entry =
            Entry::new(EntryKind::Revocation, "withheld", now).of_peer(queued.peer.as_ref());
        entry.outage = Some(outage.id.clone());
        entry.token = queued.requested_by;
        let ledger = Change::Ledger(Box::new(entry));
        commit(local, vec![Change::QueueDone(queued.id), ledger]).await?;
    }
    Ok(())
}

/// Whether it was taken off the queue: what Holdover lacks the right to stays, for it may be granted.
async fn report<P: Primary>(
    local: &Local,
    primary: &P,
    queued: &QueuedRevocation,
) -> Result<bool, SettleError> {
    match primary.revoke(queued).await {
        Ok(()) => {}
        Err(UpstreamError::Decision(decision)) if is_final(&decision) => {
            tracing::warn!(%decision, id = queued.id, "the primary refused a queued revocation");
        }
        Err(UpstreamError::Decision(decision)) => {
            tracing::error!(%decision, id = queued.id, "Holdover has no right to a queued revocation");
            return Ok(false);
        }
        Err(error) => return Err(error.into()),
    }
    commit(local, vec![Change::QueueDone(queued.id)]).await?;
    Ok(true)
}

/// Whether the primary's refusal is its last word: what is refused for want of rights may be carried out once they are
/// granted.
fn is_final(decision: &Decision) -> bool {
    !decision.is_denial()
}

fn is_own(view: &View, queued: &QueuedRevocation) -> bool {
    let Some(requester) = queued.requested_by else {
        return true;
    };
    match &queued.target {
        RevocationTarget::Lease(_) => false,
        RevocationTarget::Token(accessor) => view
            .grant(&requester)
            .is_some_and(|live| live.grant.accessor == *accessor),
    }
}

/// Whether the policies of who asked for it allow it now.
fn is_allowed(local: &Local, queued: &QueuedRevocation) -> bool {
    let requester = queued
        .requested_by
        .and_then(|token| local.view.grant(&token));
    let Some(live) = requester else {
        return false;
    };
    let facts = &live.grant.facts;
    let now = local.clock.now().wall;
    let authority = local.view.authority();
    let (own, identity) = (&facts.policies, &facts.identity_policies);
    let compiled = local
        .view
        .acl_for(&authority, own, identity, facts.entity_id.as_ref(), now);
    let Ok(acl) = &compiled.acl else {
        return false;
    };
    // A token may have been named by its string, whatever it is named by when it is reported.
    let by_string = match queued.target {
        RevocationTarget::Lease(_) => None,
        RevocationTarget::Token(_) => Some("auth/token/revoke"),
    };
    let mut paths = [Some(queued.path()), by_string].into_iter().flatten();
    paths.any(|path| {
        let request = AclRequest {
            namespace: "",
            path,
            operation: Operation::Update,
            data: &serde_json::Map::new(),
            wrap_ttl: None,
            help: false,
        };
        matches!(acl.decide(&request), AclDecision::Allow(_))
    })
}
