//! What the primary's answers teach: tokens, leases, and that a token lives or is dead.
//!
//! Pure: an answer that passes through becomes changes. Root, wrapping and foreign-namespace tokens are never
//! learned; of a token with limited uses only digest and kind are kept, so that a refusal can name the reason.

use std::time::Duration;

use serde_json::{Map, Value};
use shared::{
    acl::Operation,
    api::{Call, Kind},
    change::Change,
    grant::{Grant, Origin, Revocation, RevokeCause},
    name::{Namespace, TokenDigest},
    time::{Now, WallTime},
    wire::{AuthBlock, Errors, Incoming},
    workload::PeerId,
};

use crate::view::View;

mod approle;
pub mod key;
mod lease;
mod token;

pub use approle::{Candidate, attempt, candidate};
pub use token::grant_from_lookup;

/// A proof of a token that is younger than this is not written down again.
pub const PROOF_INTERVAL: Duration = Duration::from_secs(60);

/// A request that the primary answered, buffered whole.
pub struct Exchange<'a> {
    /// What was asked.
    pub call: &'a Call,
    /// The namespace that the request named.
    pub namespace: Option<&'a str>,
    /// The token that the client sent, in the form in which the replica knows it: for an exchanged token that of
    /// the client's own string. None for the standing token.
    pub token: Option<&'a TokenDigest>,
    /// The attested peer that a new token is given to; none where the client brought its own proof.
    pub peer: Option<&'a PeerId>,
    /// The body of the request.
    pub request: &'a [u8],
    /// The status of the answer.
    pub status: u16,
    /// The body of the answer.
    pub body: &'a [u8],
    /// When the request was sent: what its answer grants counts from there at the latest.
    pub now: Now,
}

/// What an answer of the primary changes here.
pub fn learn(view: &View, exchange: &Exchange<'_>) -> Vec<Change> {
    let mirrored = view.authority().settings.namespace.clone();
    if Namespace::parse(exchange.namespace.unwrap_or_default()) != mirrored {
        return Vec::new();
    }
    match exchange.status {
        200..=299 => succeeded(view, exchange),
        400 => approle::refused(view, exchange).into_iter().collect(),
        403 => refused(view, exchange).into_iter().collect(),
        _ => Vec::new(),
    }
}

/// That the primary accepted a token for what `call` is: its proof, unless there is a young one. For answers that
/// stream through and are not looked into.
pub fn proven(view: &View, token: &TokenDigest, call: &Call, now: Now) -> Option<Change> {
    if !call.kind.asks_for_a_token() {
        return None;
    }
    let live = view.grant(token)?;
    let grant = &live.grant;
    let young = now.steady.since(grant.verified_at) < PROOF_INTERVAL;
    let of_primary = matches!(grant.origin, Origin::Primary | Origin::Learned);
    if young || !of_primary || live.revoked.get().is_some() {
        return None;
    }
    Some(Change::Proven(*token, now.steady))
}

fn succeeded(view: &View, exchange: &Exchange<'_>) -> Vec<Change> {
    match exchange.call.kind {
        Kind::TokenRevokeSelf => {
            let token = exchange.token.copied();
            return token
                .and_then(|token| ended(view, &token, RevokeCause::Requested, exchange.now))
                .into_iter()
                .collect();
        }
        Kind::TokenRevoke => return token::revoked(view, exchange).into_iter().collect(),
        Kind::LeaseRevoke => return lease::revoked(view, exchange).into_iter().collect(),
        _ => {}
    }
    let mut changes = Vec::new();
    if let Ok(incoming) = serde_json::from_slice::<Incoming<'_>>(exchange.body)
        && incoming.wrap_info.as_ref().is_none_or(Value::is_null)
    {
        let auth = incoming.auth.as_ref();
        changes.extend(auth.and_then(|auth| token::carried(view, exchange, auth)));
        changes.extend(lease::carried(view, exchange, &incoming));
        changes.extend(auth.and_then(|auth| approle::proven(view, exchange, auth)));
        changes.extend(token::shown(view, exchange, &incoming));
    }
    if let Some(token) = exchange.token
        && !changes.iter().any(|change| is_of(change, token))
    {
        changes.extend(proven(view, token, exchange.call, exchange.now));
    }
    changes
}

/// Whether something more is asked for than was proven: a second factor.
fn wants_more(auth: &AuthBlock) -> bool {
    let more = auth.mfa_requirement.as_ref();
    more.is_some_and(|more| !more.is_null())
}

fn is_of(change: &Change, token: &TokenDigest) -> bool {
    matches!(change, Change::Grant(grant) if grant.digest == *token)
}

/// A 403 in the form in which the primary refuses the token itself: it is dead. The access control's own refusal has
/// another form, and says nothing of the token.
///
/// The same form refuses a token whose entity is disabled, or that comes from elsewhere than it is bound to, which may
/// pass. Such a one is not proven any more: undecidable, until a look-up or the primary's next acceptance tells.
fn refused(view: &View, exchange: &Exchange<'_>) -> Option<Change> {
    let errors: Errors = serde_json::from_slice(exchange.body).ok()?;
    if errors.errors != ["permission denied"] || !is_refused_by_form(view, exchange.call) {
        return None;
    }
    let token = exchange.token?;
    let live = view.grant(token)?;
    let grant = &live.grant;
    if grant.is_replica() || (grant.facts.entity_id.is_none() && grant.facts.bound_cidrs.is_empty())
    {
        return ended(view, token, RevokeCause::Primary, exchange.now);
    }
    if live.revoked.get().is_some() || grant.verified_at == WallTime::EPOCH {
        return None;
    }
    Some(Change::Grant(Box::new(Grant {
        verified_at: WallTime::EPOCH,
        ..grant.clone()
    })))
}

/// Whether the primary refuses nothing but a token in the form that it has for this (seen on OpenBao 2.7.2): its own
/// endpoints, and backends that leave refusing to the access control.
fn is_refused_by_form(view: &View, call: &Call) -> bool {
    match call.kind {
        Kind::Data => {
            let authority = view.authority();
            let cluster = authority.cluster.as_deref();
            let mount = cluster.and_then(|cluster| cluster.mounted(call.path.as_str()));
            mount.is_some_and(|mount| mount.kind.asks_for_a_token())
        }
        Kind::CapabilitiesSelf
        | Kind::LeaseLookup
        | Kind::LeaseRenew
        | Kind::LeaseRevoke
        | Kind::TokenCreate
        | Kind::TokenLookupSelf
        | Kind::TokenRenewSelf
        | Kind::TokenRevokeSelf => true,
        _ => false,
    }
}

/// The end of a token that is known here.
fn ended(view: &View, token: &TokenDigest, cause: RevokeCause, now: Now) -> Option<Change> {
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
    if exchange.call.operation != Operation::Update {
        return None;
    }
    let body: Map<String, Value> = serde_json::from_slice(exchange.request).ok()?;
    let text = body.get(name)?.as_str()?;
    (!text.is_empty()).then(|| text.to_owned())
}

#[cfg(test)]
mod tests;
