//! Tokens in answers: minted, renewed, looked up, revoked.
//!
//! What makes or renews a service token is a write, which none but the active node carries out: what came of it was so when
//! the request was sent, whichever node passed it on. A batch token any node makes by itself.

use std::time::Duration;

use shared::{
    api::Kind,
    change::Change,
    grant::{Grant, Origin, RevokeCause},
    name::{Accessor, EntityId, Namespace, TokenDigest},
    time::{Deadline, Now},
    token::{TokenFacts, TokenKind, create, look_up::ShownToken, may_be_of},
    wire::{AuthBlock, Incoming},
};

use super::{Exchange, end, requested, wants_more};
use crate::view::{Owner, View, fill::FACTS};

/// Ends of a token that are this close are one: TTLs are whole seconds.
const SAME_END: Duration = Duration::from_secs(2);

/// The token that an answer carries: minted, or renewed if it is known.
pub(super) fn carried(view: &View, exchange: &Exchange<'_>, auth: &AuthBlock) -> Option<Change> {
    if auth.client_token.is_empty() || wants_more(auth) || auth.lease_duration == 0 {
        return None;
    }
    let is_current = exchange.evidence.shows().is_some();
    if auth.token_type == TokenKind::Batch && !is_current {
        return None;
    }
    let digest = match exchange.token {
        // The primary names the token that stands behind an exchanged one: the client's own is meant.
        Some(token) if exchange.evidence.asked.call.kind == Kind::TokenRenewSelf => *token,
        _ => view.keys().token_digest(&auth.client_token),
    };
    let namespace = &view.authority().settings.namespace;
    match view.grant(&digest) {
        Some(live) if live.revoked.get().is_some() || live.grant.is_replica() => None,
        Some(live) => Some(renewed(&live.grant, auth, exchange.now)),
        None if may_be_of(&auth.client_token, namespace) && shows_where(exchange, namespace) => {
            minted(view, digest, namespace, exchange, auth)
        }
        None => None,
    }
}

/// Whether the answer says which namespace its token is of. A new one is of the namespace that was asked; but a renewal follows
/// its token into whichever that is of, and only what the token ends with tells the root's apart.
fn shows_where(exchange: &Exchange<'_>, namespace: &Namespace) -> bool {
    let kind = &exchange.evidence.asked.call.kind;
    namespace.is_root() || !matches!(kind, Kind::TokenRenew | Kind::TokenRenewSelf)
}

fn renewed(grant: &Grant, auth: &AuthBlock, now: Now) -> Change {
    let facts = TokenFacts {
        policies: auth.token_policies.clone(),
        identity_policies: auth.identity_policies.clone(),
        last_renewal: Some(now.steady.to_string()),
        last_renewal_time: Some(now.steady.as_secs()),
        expire_time: None,
        renewable: auth.renewable,
        ..grant.facts.clone()
    };
    Change::Grant(Box::new(Grant {
        facts,
        // What a look-up would show of its times is outstanding again.
        origin: match grant.origin {
            Origin::Primary => Origin::Learned,
            ref other => other.clone(),
        },
        deadline: Deadline::after(Duration::from_secs(auth.lease_duration), now),
        verified_at: now.steady,
        ..grant.clone()
    }))
}

/// A new token, known from the answer that carried it until a look-up shows the rest.
fn minted(
    view: &View,
    digest: TokenDigest,
    namespace: &Namespace,
    exchange: &Exchange<'_>,
    auth: &AuthBlock,
) -> Option<Change> {
    let now = exchange.now;
    let facts = TokenFacts {
        identity_policies: auth.identity_policies.clone(),
        entity_id: EntityId::parse(&auth.entity_id).ok(),
        display_name: display_name(exchange),
        meta: auth.metadata.clone(),
        path: exchange.evidence.asked.call.path.as_str().to_owned(),
        orphan: auth.orphan,
        renewable: auth.renewable,
        role: role(exchange),
        ..TokenFacts::minted(
            auth.token_type,
            auth.token_policies.clone(),
            auth.lease_duration,
            now.steady,
        )
    };
    let grant = Grant {
        digest,
        accessor: accessor(&auth.accessor, &digest)?,
        namespace: namespace.clone(),
        facts,
        parent: exchange.token.copied(),
        origin: Origin::Learned,
        peer: exchange.peer.cloned(),
        deadline: Deadline::after(Duration::from_secs(auth.lease_duration), now),
        verified_at: now.steady,
        doubted_at: None,
    };
    let grant = learned(grant, auth.num_uses)?;
    // An attested login is not given out unless its token is known.
    let taken = exchange.peer.is_some() || view.takes_token_of(Some(exchange.asker.uid));
    taken.then(|| Change::Grant(Box::new(grant)))
}

/// Logins name it after their mount, creations after what was asked for.
fn display_name(exchange: &Exchange<'_>) -> String {
    let path = exchange.evidence.asked.call.path.as_str();
    match exchange.evidence.asked.call.kind {
        Kind::Login => {
            let mount = path.strip_prefix("auth/").unwrap_or(path);
            let mount = mount.split_once("/login").map_or(mount, |(mount, _)| mount);
            mount.replace('/', "-")
        }
        _ => create::display_name(&requested(exchange, "display_name").unwrap_or_default()),
    }
}

fn role(exchange: &Exchange<'_>) -> Option<String> {
    let path = exchange.evidence.asked.call.path.as_str();
    let role = path.strip_prefix("auth/token/create/")?;
    Some(role.to_owned())
}

/// The grant behind `token`, from the `data` that Holdover's own look-up, sent `now`, showed of it. `None` for what is never
/// learned, for a token already known to be dead, for data that does not read as a look-up's, and where `owner`, whose client
/// brought it, has more than its share already.
///
/// A peer that the token was given to stays its peer.
pub fn grant_from_lookup(
    view: &View,
    token: &TokenDigest,
    data: &[u8],
    owner: Owner,
    now: Now,
) -> Option<Change> {
    let grant = grant_shown(view, token, data, owner, now)?;
    Some(Change::Grant(Box::new(grant)))
}

fn grant_shown(
    view: &View,
    token: &TokenDigest,
    data: &[u8],
    owner: Owner,
    now: Now,
) -> Option<Grant> {
    if view.revocation(token).is_some() {
        return None;
    }
    let known = view.grant(token);
    let known = known.as_deref().map(|live| &live.grant);
    if known.is_some_and(Grant::is_replica) {
        return None;
    }
    let shown: ShownToken = serde_json::from_slice(data).ok()?;
    let (ttl, namespace) = (shown.ttl(), shown.namespace());
    // What was taken for a token of ours is kept as one of another namespace: by that nothing is decided.
    let elsewhere = namespace != view.authority().settings.namespace && known.is_none();
    if ttl.is_zero() || elsewhere || shown.is_over() || shown.reaches_elsewhere() {
        return None;
    }
    if known.is_none() && !view.takes_token_of(owner) {
        return None;
    }
    let uses = u64::from(shown.num_uses != 0);
    let grant = Grant {
        digest: *token,
        accessor: accessor(&shown.accessor, token)?,
        namespace,
        facts: shown.facts(),
        parent: known.and_then(|grant| grant.parent),
        origin: Origin::Primary,
        peer: known.and_then(|grant| grant.peer.clone()),
        deadline: Deadline::after(ttl, now),
        verified_at: now.steady,
        doubted_at: None,
    };
    learned(grant, uses)
}

/// What a token's own look-up shows of it: renewed elsewhere, or seen for the first time. Nothing where that is known, or
/// where something is known that is newer than what this node had seen.
pub(super) fn shown(
    view: &View,
    exchange: &Exchange<'_>,
    incoming: &Incoming<'_>,
) -> Option<Change> {
    let evidence = &exchange.evidence;
    if evidence.asked.call.kind != Kind::TokenLookupSelf {
        return None;
    }
    let (_, as_of) = evidence.shows()?;
    let (token, now) = (exchange.token?, exchange.now);
    let (data, owner) = (incoming.data?.get(), Some(exchange.asker.uid));
    let shown = grant_shown(view, token, data.as_bytes(), owner, now)?;
    let known = view.grant(token).is_some_and(|live| {
        let known = &live.grant;
        let (left, shown_left) = (known.deadline.remaining(now), shown.deadline.remaining(now));
        let same_end = left.abs_diff(shown_left) <= SAME_END;
        let same = (&known.facts, &known.origin, &known.namespace)
            == (&shown.facts, &shown.origin, &shown.namespace)
            && same_end;
        same || as_of < known.verified_at
    });
    (!known).then(|| {
        Change::Grant(Box::new(Grant {
            verified_at: as_of,
            ..shown
        }))
    })
}

/// A token as an answer shows it, unless it is of a kind that is never learned. It hangs on its parent unless it is an
/// orphan; where its uses are limited, nothing but its kind is kept.
fn learned(grant: Grant, uses: u64) -> Option<Grant> {
    let (facts, kind) = (&grant.facts, grant.facts.kind);
    let mut policies = facts.policies.iter();
    let wraps = policies.any(|policy| policy.as_str() == "response-wrapping");
    let tied_batch = kind == TokenKind::Batch && !facts.orphan;
    if facts.is_root() || wraps || tied_batch || facts.size() > FACTS {
        return None;
    }
    let parent = grant.parent.filter(|_| !facts.orphan);
    Some(match uses {
        0 => Grant { parent, ..grant },
        _ => Grant {
            parent,
            facts: TokenFacts::new(kind),
            origin: Origin::LimitedUse,
            ..grant
        },
    })
}

/// A batch token has no accessor: it is kept under one that none of the primary's can be.
fn accessor(text: &str, digest: &TokenDigest) -> Option<Accessor> {
    match text {
        "" => Accessor::parse(&format!("batch-{digest}")).ok(),
        _ => Accessor::parse(text).ok(),
    }
}

/// The caller's own token, which it gave up.
pub(super) fn revoked_itself(view: &View, exchange: &Exchange<'_>) -> Option<Change> {
    let cause = RevokeCause::Requested;
    end(view, exchange.token?, cause, exchange.now)
}

/// The token that a revocation by another named, in its own words or by accessor.
pub(super) fn revoked(view: &View, exchange: &Exchange<'_>) -> Option<Change> {
    let path = exchange.evidence.asked.call.path.as_str();
    let digest = match path {
        "auth/token/revoke-accessor" => {
            let accessor = Accessor::parse(&requested(exchange, "accessor")?).ok()?;
            view.grant_by_accessor(&accessor)?.grant.digest
        }
        _ => view.keys().token_digest(&requested(exchange, "token")?),
    };
    let cause = match path {
        "auth/token/revoke-orphan" => RevokeCause::Orphaning,
        _ => RevokeCause::Primary,
    };
    end(view, &digest, cause, exchange.now)
}
