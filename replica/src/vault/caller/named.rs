//! Which token a request names, and whether it may be decided by: what is dead, what is not proven since the last outage,
//! and what is left of a grant that an outage left unsettled.

use std::sync::Arc;

use shared::{
    api::Kind,
    grant::{Grant, Origin, Settled},
    name::Accessor,
    recovery::{Fate, Need, Verdict},
    time::Deadline,
    token::REPLICA_PREFIX,
};

use super::{
    super::{
        case::Case,
        refusal::{Damaged, Refusal, Why},
    },
    Bearer, is_of_primary, proven,
};
use crate::view::LiveGrant;

/// Why a token that is named is not to be decided by.
#[derive(Clone, PartialEq, Debug)]
pub(crate) enum Absence {
    /// It is dead, or was never issued here.
    Dead,
    /// Only the primary knows.
    Unknown(Why),
}

impl Absence {
    /// What a request is answered for which a dead one is `dead`.
    pub(crate) fn or(self, dead: Refusal) -> Refusal {
        match self {
            Self::Dead => dead,
            Self::Unknown(why) => why.into(),
        }
    }
}

impl Bearer {
    /// The token that `text` is, if it lives and the replica may decide by it.
    pub(crate) fn named(case: &Case<'_>, text: &str) -> Result<Arc<LiveGrant>, Absence> {
        let digest = case.view.keys().token_digest(text);
        match case.view.grant(&digest) {
            Some(live) => decidable(case, live),
            None if case.view.revocation(&digest).is_some() => Err(Absence::Dead),
            None if case.view.is_lost(&digest) => Err(Absence::Unknown(Damaged::Token.into())),
            None if text.starts_with(REPLICA_PREFIX) => Err(Absence::Dead),
            None => Err(Absence::Unknown(Why::TokenUnknown)),
        }
    }

    /// The token that an accessor names, likewise.
    pub(crate) fn of_accessor(case: &Case<'_>, text: &str) -> Result<Arc<LiveGrant>, Absence> {
        let accessor = Accessor::parse(text).ok();
        match accessor.and_then(|accessor| case.view.grant_by_accessor(&accessor)) {
            Some(live) => decidable(case, live),
            None => Err(Absence::Unknown(Why::TokenUnknown)),
        }
    }

    /// The token that an accessor names, to show it or to end it. A replica grant is told of also where nothing is decided by
    /// it, because no other server knows it: then it is not lengthened either.
    pub(crate) fn behind_accessor(case: &Case<'_>, text: &str) -> Result<Arc<LiveGrant>, Absence> {
        let found = Self::of_accessor(case, text);
        let Err(Absence::Unknown(Why::Unsettled | Why::TokenUnproven | Why::TokenTooOld)) = found
        else {
            return found;
        };
        let accessor = Accessor::parse(text).ok();
        let live = accessor.and_then(|accessor| case.view.grant_by_accessor(&accessor));
        match live.filter(|live| live.grant.is_replica()) {
            Some(live) if live.grant.at_primary().is_some() => Ok(live),
            Some(live) => Ok(draining(&live.grant)),
            None => found,
        }
    }
}

/// This, good for no more than a draining token is.
fn draining(grant: &Grant) -> Arc<LiveGrant> {
    let draining = grant.clone().settled(Settled::Draining);
    Arc::new(LiveGrant::new(draining))
}

/// A known token, if it lives and was proven recently enough before the cutover.
fn decidable(case: &Case<'_>, live: Arc<LiveGrant>) -> Result<Arc<LiveGrant>, Absence> {
    let grant = &live.grant;
    let ended = |deadline: Deadline| deadline.passed(case.now());
    let hangs_on_dead = case.view.dead_ancestor(grant, ended).is_some();
    if live.revoked.get().is_some() || ended(grant.deadline) || hangs_on_dead {
        return Err(Absence::Dead);
    }
    if grant.namespace != case.settings().namespace {
        return Err(Absence::Unknown(Why::Namespace));
    }
    if grant.origin == Origin::LimitedUse {
        return Err(Absence::Unknown(Why::LimitedUse));
    }
    if grant.facts.is_root() {
        return Err(Absence::Unknown(Why::Root));
    }
    if case.view.hangs_on_lost(grant) {
        return Err(Absence::Unknown(Damaged::Token.into()));
    }
    if live.is_doubted() || case.view.hangs_on_doubted(grant) {
        return Err(Absence::Unknown(Why::TokenDoubted));
    }
    if is_unproven(case, grant) {
        return Err(Absence::Unknown(Why::TokenUnproven));
    }
    if is_of_primary(grant) && !proven(case, grant.verified_at) {
        return Err(Absence::Unknown(Why::TokenTooOld));
    }
    judged(case, live)
}

/// A grant that its outage left unsettled, as what was verified since leaves it. Nothing of that is stored: it is settled by
/// who can ask the primary.
fn judged(case: &Case<'_>, live: Arc<LiveGrant>) -> Result<Arc<LiveGrant>, Absence> {
    let grant = &live.grant;
    let left = match case.view.verdict(case.authority, grant, case.now()) {
        None => return Ok(live),
        Some(Verdict::Fate(Fate::Revoke(_))) => return Err(Absence::Dead),
        Some(Verdict::Fate(Fate::Exchange(left, _))) => grant.left_with(left),
        // Of two ways to live on the one that may less, until it is known which it is.
        Some(Verdict::Fate(Fate::Drain(left)) | Verdict::Lives(left, _)) => {
            return Ok(draining(&grant.left_with(left)));
        }
        // Its workload may do less by now, and the primary would not say: what was readable stays so until it does.
        Some(Verdict::Needs(Need::Workload(_))) => return Ok(draining(grant)),
        // To give itself up it needs to be nobody's.
        Some(Verdict::Needs(_)) if case.query.call.kind == Kind::TokenRevokeSelf => {
            return Ok(draining(grant));
        }
        Some(Verdict::Needs(Need::Login(_) | Need::Token(_) | Need::Policy(_))) => {
            return Err(Absence::Unknown(Why::Unsettled));
        }
    };
    Ok(Arc::new(LiveGrant::new(left)))
}

/// Whether a token of the primary's that it rests on was not proved since the last outage, in which it may have ended.
fn is_unproven(case: &Case<'_>, grant: &Grant) -> bool {
    let from = case.authority.proven_from;
    from.is_some_and(|from| case.view.unproven(grant, from).next().is_some())
}
