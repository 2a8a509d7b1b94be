//! Revocation of tokens: dead here at once, and the primary is told of its own.
//!
//! What hangs on a revoked token is dead with it at use; the reaper makes that durable and visible.

use std::sync::Arc;

use shared::{
    acl::Operation,
    change::{Change, Expects, RevocationTarget},
    grant::{Grant, Origin, Revocation, RevokeCause},
    ledger::EntryKind,
    token::TokenKind,
};

use super::{
    Answer,
    caller::{Absence, Bearer, Caller},
    case::Case,
    entry,
    envelope::Contents,
    parameter,
    refusal::{Answered, Refusal, Why},
    token,
};
use crate::view::LiveGrant;

/// `auth/token/revoke-self`.
pub(crate) fn own(case: &Case<'_>, caller: &Caller) -> Answered {
    let Bearer::Grant(live) = &caller.bearer else {
        // The standing token is not the client's to end.
        return Err(Refusal::Unauthenticated);
    };
    token::permitted(case, caller, &[Operation::Update])?;
    let live = Arc::clone(live);
    revoked(case, caller, live, RevokeCause::Requested)
}

/// `auth/token/revoke`, `revoke-accessor` and `revoke-orphan`: of the token that the request names.
pub(crate) fn other(case: &Case<'_>, caller: &Caller) -> Answered {
    let data = token::permitted(case, caller, &[Operation::Update])?;
    let call = case.query.call.path.as_str();
    if call == "auth/token/revoke-accessor" {
        let accessor = parameter::text(&data, "accessor")?;
        let accessor = accessor.ok_or(Refusal::InvalidInCore("missing accessor"))?;
        return match Bearer::behind_accessor(case, accessor) {
            Ok(live) => revoked(case, caller, live, RevokeCause::Requested),
            Err(Absence::Dead) => {
                let nothing: Contents<'_> = Contents::nothing(caller.age(case));
                nothing.granted_with(case, vec!["No token found with this accessor".into()])
            }
            Err(Absence::Unknown(why)) => Err(why.into()),
        };
    }
    let text = parameter::text(&data, "token")?;
    let text = text.ok_or_else(|| Refusal::Invalid("missing token ID".into()))?;
    if call == "auth/token/revoke-orphan" {
        if !caller.has_sudo(case)? {
            let why = "root or sudo privileges required to revoke and orphan";
            return Err(Refusal::Invalid(why.into()));
        }
        let dead = Refusal::Invalid("token to revoke not found".into());
        let live = Bearer::named(case, text).map_err(|absence| absence.or(dead))?;
        return revoked(case, caller, live, RevokeCause::Orphaning);
    }
    match Bearer::named(case, text) {
        Ok(live) => revoked(case, caller, live, RevokeCause::Requested),
        Err(Absence::Dead) => Ok(Answer::empty(204, caller.age(case))),
        Err(Absence::Unknown(why)) => Err(why.into()),
    }
}

fn revoked(case: &Case<'_>, caller: &Caller, live: Arc<LiveGrant>, cause: RevokeCause) -> Answered {
    let grant = &live.grant;
    if grant.facts.kind == TokenKind::Batch {
        return Err(Refusal::Invalid("batch tokens cannot be revoked".into()));
    }
    let known_there = grant.at_primary().cloned();
    if cause == RevokeCause::Orphaning && known_there.is_some() {
        return Err(Why::Orphaning.into());
    }
    let at = case.now().steady;
    let mut changes = vec![Change::Revoked(Revocation::of(grant, cause, at))];
    if cause == RevokeCause::Orphaning {
        changes.extend(orphans(case, grant));
    }
    if let Some(accessor) = known_there {
        let token = entry::Ending {
            target: RevocationTarget::Token(accessor),
            ends: grant.deadline.wall,
            // What stands behind an exchanged one has an end of its own.
            renewable: grant.facts.renewable || grant.is_replica(),
        };
        changes.push(entry::queued(case, &caller.bearer, token, true)?);
    }
    let mut entry = entry::of(
        case,
        EntryKind::Revocation,
        &Bearer::Grant(Arc::clone(&live)),
    );
    entry.policies.clone_from(&grant.facts.policies);
    changes.push(Change::Ledger(Box::new(entry)));
    let granted = Answer::empty(204, caller.age(case));
    Ok(granted.with(changes, Expects::default()))
}

/// The children of a token that they no longer hang on.
fn orphans(case: &Case<'_>, parent: &Grant) -> Vec<Change> {
    let all = case.view.grants();
    let children = all
        .iter()
        .filter(|live| live.grant.parent == Some(parent.digest));
    let orphaned = children
        .filter(|live| live.revoked.get().is_none())
        .map(|live| {
            let mut child = live.grant.clone();
            child.parent = None;
            child.facts.orphan = true;
            if let Origin::Replica(replica) = &mut child.origin {
                replica.spared = true;
            }
            Change::Grant(Box::new(child))
        });
    orphaned.collect()
}
