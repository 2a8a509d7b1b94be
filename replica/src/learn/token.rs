//! Tokens in answers: minted, renewed, looked up, revoked.

use std::{collections::BTreeMap, time::Duration};

use serde::Deserialize;
use serde_json::Value;
use shared::{
    api::Kind,
    change::Change,
    grant::{Grant, Origin, RevokeCause},
    name::{Accessor, EntityId, PolicyName, TokenDigest},
    time::{Deadline, Now},
    token::{TokenFacts, TokenKind},
    wire::AuthBlock,
    workload::PeerId,
};

use super::{Exchange, ended, requested};
use crate::view::View;

/// The token that an answer carries: minted, or renewed if it is known.
pub(super) fn carried(view: &View, exchange: &Exchange<'_>, auth: &AuthBlock) -> Option<Change> {
    let wants_more = auth
        .mfa_requirement
        .as_ref()
        .is_some_and(|more| !more.is_null());
    if auth.client_token.is_empty() || wants_more || auth.lease_duration == 0 {
        return None;
    }
    let digest = match exchange.token {
        // The primary names the token that stands behind an exchanged one: the client's own is meant.
        Some(token) if exchange.call.kind == Kind::TokenRenewSelf => *token,
        _ => view.keys().token_digest(&auth.client_token),
    };
    match view.grant(&digest) {
        Some(live) if live.revoked.get().is_some() || live.grant.is_replica() => None,
        Some(live) => Some(renewed(&live.grant, auth, exchange.now)),
        None => minted(digest, exchange, auth),
    }
}

fn renewed(grant: &Grant, auth: &AuthBlock, now: Now) -> Change {
    let facts = TokenFacts {
        policies: auth.token_policies.clone(),
        identity_policies: auth.identity_policies.clone(),
        expire_time: None,
        last_renewal: Some(now.steady.to_string()),
        last_renewal_time: Some(now.steady.as_secs()),
        renewable: auth.renewable,
        ..grant.facts.clone()
    };
    Change::Grant(Box::new(Grant {
        facts,
        // What the answer does not show, the next look-up does.
        origin: match &grant.origin {
            Origin::Primary => Origin::Learned,
            other => other.clone(),
        },
        deadline: Deadline::after(Duration::from_secs(auth.lease_duration), now),
        verified_at: now.steady,
        ..grant.clone()
    }))
}

/// A new token, known from the answer that carried it until a look-up shows the rest.
fn minted(digest: TokenDigest, exchange: &Exchange<'_>, auth: &AuthBlock) -> Option<Change> {
    let now = exchange.now;
    let facts = TokenFacts {
        policies: auth.token_policies.clone(),
        identity_policies: auth.identity_policies.clone(),
        entity_id: EntityId::parse(&auth.entity_id).ok(),
        display_name: display_name(exchange),
        meta: auth.metadata.clone(),
        path: exchange.call.path.as_str().to_owned(),
        creation_time: now.steady.as_secs(),
        creation_ttl: auth.lease_duration,
        explicit_max_ttl: 0,
        expire_time: None,
        issue_time: Some(now.steady.to_string()),
        last_renewal: None,
        last_renewal_time: None,
        orphan: auth.orphan,
        period: 0,
        renewable: auth.renewable,
        role: role(exchange),
        bound_cidrs: Vec::new(),
        kind: auth.token_type,
    };
    let seen = Seen {
        digest,
        accessor: &auth.accessor,
        facts,
        uses: auth.num_uses,
        origin: Origin::Learned,
    };
    let deadline = Deadline::after(Duration::from_secs(auth.lease_duration), now);
    seen.grant(exchange.peer.cloned(), deadline, now)
}

/// Logins name it after their mount, creations after what was asked for.
fn display_name(exchange: &Exchange<'_>) -> String {
    let path = exchange.call.path.as_str();
    match exchange.call.kind {
        Kind::Login => {
            let mount = path.strip_prefix("auth/").unwrap_or(path);
            let mount = mount.split_once("/login").map_or(mount, |(mount, _)| mount);
            mount.replace('/', "-")
        }
        _ => match requested(exchange, "display_name") {
            Some(name) => format!("token-{name}"),
            None => "token".into(),
        },
    }
}

fn role(exchange: &Exchange<'_>) -> Option<String> {
    let role = exchange
        .call
        .path
        .as_str()
        .strip_prefix("auth/token/create/")?;
    Some(role.to_owned())
}

/// What `auth/token/lookup` shows, as far as it is kept.
#[derive(Deserialize)]
struct Lookup {
    accessor: String,
    creation_time: i64,
    creation_ttl: u64,
    #[serde(default)]
    display_name: String,
    #[serde(default)]
    entity_id: String,
    #[serde(default)]
    explicit_max_ttl: u64,
    #[serde(default)]
    expire_time: Option<String>,
    #[serde(default)]
    identity_policies: Option<Vec<PolicyName>>,
    #[serde(default)]
    issue_time: Option<String>,
    #[serde(default)]
    last_renewal: Option<String>,
    #[serde(default)]
    last_renewal_time: Option<i64>,
    meta: Option<BTreeMap<String, String>>,
    num_uses: i64,
    orphan: bool,
    path: String,
    #[serde(default)]
    period: u64,
    policies: Vec<PolicyName>,
    #[serde(default)]
    renewable: bool,
    #[serde(default)]
    role: Option<String>,
    #[serde(default)]
    bound_cidrs: Option<Vec<String>>,
    ttl: u64,
    #[serde(rename = "type")]
    kind: TokenKind,
    #[serde(default)]
    external_namespace_policies: Option<Value>,
}

/// The grant behind `token`, from the `data` that `auth/token/lookup` showed of it `now`. `None` for what is never
/// learned, for a token already known to be dead, and for data that does not read as a look-up's.
///
/// A peer that the token was given to stays its peer.
pub fn grant_from_lookup(
    view: &View,
    token: &TokenDigest,
    data: &[u8],
    now: Now,
) -> Option<Change> {
    if view.revocation(token).is_some() {
        return None;
    }
    let known = view.grant(token);
    let known = known.as_deref().map(|live| &live.grant);
    if known.is_some_and(Grant::is_replica) {
        return None;
    }
    let lookup: Lookup = serde_json::from_slice(data).ok()?;
    let elsewhere = lookup
        .external_namespace_policies
        .as_ref()
        .and_then(Value::as_object)
        .is_some_and(|policies| !policies.is_empty());
    if lookup.ttl == 0 || elsewhere {
        return None;
    }
    let deadline = Deadline::after(Duration::from_secs(lookup.ttl), now);
    let peer = known.and_then(|grant| grant.peer.clone());
    let uses = u64::from(lookup.num_uses != 0);
    let accessor = lookup.accessor.clone();
    let seen = Seen {
        digest: *token,
        accessor: &accessor,
        facts: lookup.facts(),
        uses,
        origin: Origin::Primary,
    };
    seen.grant(peer, deadline, now)
}

impl Lookup {
    fn facts(self) -> TokenFacts {
        TokenFacts {
            policies: self.policies,
            identity_policies: self.identity_policies.unwrap_or_default(),
            entity_id: EntityId::parse(&self.entity_id).ok(),
            display_name: self.display_name,
            meta: self.meta,
            path: self.path,
            creation_time: self.creation_time,
            creation_ttl: self.creation_ttl,
            explicit_max_ttl: self.explicit_max_ttl,
            expire_time: self.expire_time,
            issue_time: self.issue_time,
            last_renewal: self.last_renewal,
            last_renewal_time: self.last_renewal_time,
            orphan: self.orphan,
            period: self.period,
            renewable: self.renewable,
            role: self.role,
            bound_cidrs: self.bound_cidrs.unwrap_or_default(),
            kind: self.kind,
        }
    }
}

/// A token as an answer shows it.
struct Seen<'a> {
    digest: TokenDigest,
    accessor: &'a str,
    facts: TokenFacts,
    uses: u64,
    origin: Origin,
}

impl Seen<'_> {
    /// Its grant, unless it is of a kind that is never learned.
    fn grant(self, peer: Option<PeerId>, deadline: Deadline, now: Now) -> Option<Change> {
        let wraps = self
            .facts
            .policies
            .iter()
            .any(|policy| policy.as_str() == "response-wrapping");
        let tied_batch = self.facts.kind == TokenKind::Batch && !self.facts.orphan;
        if self.facts.is_root() || wraps || tied_batch {
            return None;
        }
        let limited = self.uses != 0;
        Some(Change::Grant(Box::new(Grant {
            digest: self.digest,
            accessor: accessor(self.accessor, &self.digest)?,
            facts: match limited {
                true => kind_only(self.facts.kind),
                false => self.facts,
            },
            origin: match limited {
                true => Origin::LimitedUse,
                false => self.origin,
            },
            peer,
            deadline,
            verified_at: now.steady,
        })))
    }
}

/// A batch token has no accessor: it is kept under one that none of the primary's can be.
fn accessor(text: &str, digest: &TokenDigest) -> Option<Accessor> {
    match text {
        "" => Accessor::parse(&format!("batch-{digest}")).ok(),
        _ => Accessor::parse(text).ok(),
    }
}

fn kind_only(kind: TokenKind) -> TokenFacts {
    TokenFacts {
        policies: Vec::new(),
        identity_policies: Vec::new(),
        entity_id: None,
        display_name: String::new(),
        meta: None,
        path: String::new(),
        creation_time: 0,
        creation_ttl: 0,
        explicit_max_ttl: 0,
        expire_time: None,
        issue_time: None,
        last_renewal: None,
        last_renewal_time: None,
        orphan: false,
        period: 0,
        renewable: false,
        role: None,
        bound_cidrs: Vec::new(),
        kind,
    }
}

/// The token that a revocation by another named, in its own words or by accessor.
pub(super) fn revoked(view: &View, exchange: &Exchange<'_>) -> Option<Change> {
    let digest = match exchange.call.path.as_str() {
        "auth/token/revoke-accessor" => {
            let accessor = Accessor::parse(&requested(exchange, "accessor")?).ok()?;
            view.grant_by_accessor(&accessor)?.grant.digest
        }
        _ => view.keys().token_digest(&requested(exchange, "token")?),
    };
    ended(view, &digest, RevokeCause::Primary, exchange.now)
}
