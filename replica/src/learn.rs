//! What the primary's answers to clients teach: new tokens and leases, proofs, doubts, and what a revocation ended.
//!
//! Pure: an answer that passes through becomes changes, each by its own predicate of [`Evidence`]. Root, wrapping and
//! foreign-namespace tokens are never learned; of a token with limited uses only digest and kind are kept, so that a
//! refusal can name the reason.

use std::time::Duration;

use serde_json::{Map, Value};
use shared::{
    acl::Operation,
    api::Kind,
    change::Change,
    grant::{Grant, Origin, Revocation, RevokeCause},
    name::TokenDigest,
    provenance::Evidence,
    time::{Now, WallTime},
    wire::{AuthBlock, Incoming},
    workload::{Peer, PeerId},
};

use crate::view::{LiveGrant, View};

mod approle;
mod issued;
pub mod key;
mod lease;
mod token;

pub use approle::{Candidate, attempt, candidate};
pub use issued::{IssuedThere, issued};
pub use token::grant_from_lookup;

/// A proof of a token that is younger than this is not written down again.
pub const PROOF_INTERVAL: Duration = Duration::from_secs(60);

/// A request that the primary answered, and its answer.
pub struct Exchange<'a> {
    /// What was asked and answered, and where the answer comes from.
    pub evidence: Evidence<'a>,
    /// The token that the client sent, in the form in which the replica knows it: for an exchanged token that of
    /// the client's own string. None for the standing token.
    pub token: Option<&'a TokenDigest>,
    /// The process that asked.
    pub asker: &'a Peer,
    /// The attested peer that a new token is given to; none where the client brought its own proof.
    pub peer: Option<&'a PeerId>,
    /// When the request was sent: what its answer grants counts from there at the latest.
    pub now: Now,
    /// When the answer was there, on the steady wall clock: what it doubts is in doubt until something later.
    pub answered_at: WallTime,
}

/// What an answer of the primary changes here.
pub fn learn(view: &View, exchange: &Exchange<'_>) -> Vec<Change> {
    let mut changes = brought(view, exchange);
    changes.extend(ended(view, exchange));
    changes.extend(approle::doubted(view, exchange));
    changes.extend(doubted(view, exchange));
    let told = |token| changes.iter().any(|change| is_of(change, token));
    let untold = exchange.token.is_some_and(|token| !told(token));
    changes.extend(untold.then(|| proven(view, exchange)).flatten());
    changes
}

/// What a success brought into being, renewed or showed.
fn brought(view: &View, exchange: &Exchange<'_>) -> Vec<Change> {
    let body = exchange.evidence.brought();
    let incoming = body.and_then(|body| serde_json::from_slice::<Incoming<'_>>(body).ok());
    let Some(incoming) = incoming.filter(|incoming| !incoming.is_wrapped()) else {
        return Vec::new();
    };
    let auth = incoming.auth.as_ref();
    let mut changes = Vec::new();
    changes.extend(auth.and_then(|auth| token::carried(view, exchange, auth)));
    changes.extend(lease::carried(view, exchange, &incoming));
    changes.extend(auth.and_then(|auth| approle::proven(view, exchange, auth)));
    changes.extend(token::shown(view, exchange, &incoming));
    changes
}

/// What a revocation that was carried out ended.
fn ended(view: &View, exchange: &Exchange<'_>) -> Option<Change> {
    if !exchange.evidence.carried_out() {
        return None;
    }
    match exchange.evidence.asked.call.kind {
        Kind::TokenRevokeSelf => token::revoked_itself(view, exchange),
        Kind::TokenRevoke => token::revoked(view, exchange),
        Kind::LeaseRevoke => lease::revoked(view, exchange),
        _ => None,
    }
}

/// That the primary accepted the caller's token, unless there is a young proof.
fn proven(view: &View, exchange: &Exchange<'_>) -> Option<Change> {
    let as_of = exchange.evidence.proves_token()?;
    let token = exchange.token?;
    let live = view.grant(token)?;
    let counts = is_at_primary(&live.grant) && live.revoked.get().is_none();
    (counts && is_worth_proving(view, &live, as_of)).then_some(Change::Proven(*token, as_of))
}

/// Whether a proof as of `as_of` changes what would be decided by the token.
fn is_worth_proving(view: &View, live: &LiveGrant, as_of: WallTime) -> bool {
    let known = live.grant.verified_at;
    let since_outage = view
        .authority()
        .proven_from
        .is_none_or(|from| known >= from);
    live.is_doubted() || !since_outage || as_of.since(known) >= PROOF_INTERVAL
}

/// Whether a token of the primary's is decided by, or stands behind it.
fn is_at_primary(grant: &Grant) -> bool {
    grant.origin != Origin::LimitedUse && grant.at_primary().is_some()
}

/// That the primary refused the caller's token as such: dead, or refused for a while, because its entity is disabled or
/// because it comes from elsewhere than it is bound to. Only Holdover's own look-up tells which.
fn doubted(view: &View, exchange: &Exchange<'_>) -> Option<Change> {
    if !exchange.evidence.doubts_token() {
        return None;
    }
    let token = exchange.token?;
    let live = view.grant(token)?;
    let news = is_at_primary(&live.grant) && !live.is_doubted() && live.revoked.get().is_none();
    news.then_some(Change::TokenDoubted(*token, exchange.answered_at))
}

/// Whether something more is asked for than was proven: a second factor.
fn wants_more(auth: &AuthBlock) -> bool {
    let more = auth.mfa_requirement.as_ref();
    more.is_some_and(|more| !more.is_null())
}

/// Whether a change says already what became of this token.
fn is_of(change: &Change, token: &TokenDigest) -> bool {
    match change {
        Change::Grant(grant) => grant.digest == *token,
        Change::Revoked(revocation) => revocation.digest == *token,
        _ => false,
    }
}

/// The end of a token that is known here.
fn end(view: &View, token: &TokenDigest, cause: RevokeCause, now: Now) -> Option<Change> {
    let live = view.grant(token)?;
    if live.revoked.get().is_some() {
        return None;
    }
    Some(Change::Revoked(Revocation::of(
        &live.grant,
        cause,
        now.steady,
    )))
}

/// A string of the request's body, where that is a JSON object.
fn requested(exchange: &Exchange<'_>, name: &str) -> Option<String> {
    let evidence = &exchange.evidence;
    if evidence.asked.call.operation != Operation::Update {
        return None;
    }
    let body: Map<String, Value> = serde_json::from_slice(evidence.asked.body?).ok()?;
    let text = body.get(name)?.as_str()?;
    (!text.is_empty()).then(|| text.to_owned())
}

#[cfg(test)]
mod tests;
