//! What is shown of the ledger's space, from what the writer and the delivery say now.

use replica::store::RoomFigures;
use shared::ledger::{claim::Owner, share::ShareFigures};

use super::Deps;
use crate::{
    ready::ledger::LedgerFacts,
    status::ledger::{LedgerStatus, ShareStatus},
};

/// Users whose share is shown: those that take most.
const USERS_SHOWN: usize = 20;

pub(super) fn facts(deps: &Deps, room: &RoomFigures) -> LedgerFacts {
    let delivery = deps.delivery.borrow();
    LedgerFacts {
        shares: room.shares.clone(),
        to_journald: delivery.to_journald,
        untaken: delivery.untaken.clone(),
        unstored: delivery.unstored.clone(),
        dropped: room.dropped,
    }
}

pub(super) fn status(deps: &Deps, room: RoomFigures) -> LedgerStatus {
    let stats = deps.local.sequencer.stats();
    let delivery = deps.delivery.borrow();
    LedgerStatus {
        bytes: stats.ledger.bytes,
        max_bytes: stats.ledger_max,
        undelivered_bytes: room.undelivered_bytes,
        promised_bytes: room.promised_bytes,
        first: stats.ledger.first,
        next: stats.ledger.next,
        delivered: room.delivered,
        delivered_to: delivery.to_journald.then(|| "journald".to_owned()),
        problem: delivery.untaken.clone(),
        store_problem: delivery.unstored.clone(),
        dropped: room.dropped,
        shares: shares(room.shares),
    }
}

fn shares(all: Vec<ShareFigures>) -> Vec<ShareStatus> {
    let is_user = |share: &ShareFigures| matches!(share.owner, Owner::Uid(_));
    let (mut users, others): (Vec<_>, Vec<_>) = all.into_iter().partition(is_user);
    users.sort_by_key(|share| std::cmp::Reverse(share.used));
    users.truncate(USERS_SHOWN);
    others.into_iter().chain(users).map(shown).collect()
}

fn shown(share: ShareFigures) -> ShareStatus {
    ShareStatus {
        owner: share.owner.to_string(),
        workload: match &share.owner {
            Owner::Workload(name) => Some(name.to_string()),
            _ => None,
        },
        uid: match share.owner {
            Owner::Uid(uid) => Some(uid),
            _ => None,
        },
        used_bytes: share.used,
        promised_bytes: share.promised,
        reserve_bytes: share.reserve,
        most_bytes: share.most,
        room_bytes: share.most_for_acts,
        taken_bytes: share.taken,
        others_bytes: share.by_others,
        left_bytes: share.left,
    }
}
