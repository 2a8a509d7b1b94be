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
    grant::{Origin, Revocation, RevokeCause},
    name::{Namespace, TokenDigest},
    time::Now,
    wire::{Errors, Incoming},
    workload::PeerId,
};

use crate::view::View;

mod lease;
mod token;

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
        403 => refused(view, exchange).into_iter().collect(),
        _ => Vec::new(),
    }
}

/// That the primary accepted a token for what `call` is: its proof, unless there is a young one. For answers that
/// stream through and are not looked into.
pub fn proven(view: &View, token: &TokenDigest, call: &Call, now: Now) -> Option<Change> {
    if !asks_for_a_token(call) {
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

/// Whether the primary looks at the token at all.
fn asks_for_a_token(call: &Call) -> bool {
    !matches!(
        call.kind,
        Kind::AttestedLogin
            | Kind::Health
            | Kind::Init
            | Kind::Leader
            | Kind::Login
            | Kind::SealStatus
            | Kind::Wrapping
    )
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
        changes.extend(
            incoming
                .auth
                .as_ref()
                .and_then(|auth| token::carried(view, exchange, auth)),
        );
        changes.extend(lease::carried(view, exchange, &incoming));
    }
    if let Some(token) = exchange.token
        && !changes.iter().any(|change| is_of(change, token))
    {
        changes.extend(proven(view, token, exchange.call, exchange.now));
    }
    changes
}

fn is_of(change: &Change, token: &TokenDigest) -> bool {
    matches!(change, Change::Grant(grant) if grant.digest == *token)
}

/// A 403 to a question that every living token may ask: the token is dead. The access control's own refusal has
/// another form, and says nothing of the token.
fn refused(view: &View, exchange: &Exchange<'_>) -> Option<Change> {
    let about_itself = matches!(
        exchange.call.kind,
        Kind::TokenLookupSelf | Kind::TokenRenewSelf
    );
    let errors: Errors = serde_json::from_slice(exchange.body).ok()?;
    if !about_itself || errors.errors != ["permission denied"] {
        return None;
    }
    ended(view, exchange.token?, RevokeCause::Primary, exchange.now)
}

/// The end of a token that is known here.
fn ended(view: &View, token: &TokenDigest, cause: RevokeCause, now: Now) -> Option<Change> {
    let live = view.grant(token)?;
    if live.revoked.get().is_some() {
        return None;
    }
    Some(Change::Revoked(Revocation {
        digest: *token,
        accessor: live.grant.accessor.clone(),
        cause,
        at: now.steady,
    }))
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
