//! AppRole logins in answers: a secret id that was proven again, one that is worth verifying, and one that failed.

use shared::{
    approle::{Attempt, Claimant, Outcome, ProofDigest, RoleKey, SecretId},
    change::Change,
    name::{EntityId, PolicyName, RoleName},
    provenance::Refused,
    secret::SecretText,
    time::WallTime,
    token::TokenKind,
    wire::{AuthBlock, Incoming},
};

use super::{Exchange, PROOF_INTERVAL, wants_more};
use crate::{
    approle::{Ids, LoginMount},
    view::{Authority, View},
};

/// A secret id that the primary accepted and the replica has not verified: to be looked up once, and then forgotten.
pub struct Candidate {
    /// The mount without `auth/`: where its role is read.
    pub mount_path: String,
    /// The role that the answer named.
    pub role: RoleKey,
    /// What stands for the role id.
    pub role_id: ProofDigest,
    /// The secret id: for that one request.
    pub secret_id: SecretText,
    /// What stands for both.
    pub pair: ProofDigest,
    /// The entity of the login.
    pub entity: Option<EntityId>,
    /// What that added.
    pub identity_policies: Vec<PolicyName>,
    /// When the login was sent.
    pub login_at: WallTime,
    /// Who it was accepted from.
    pub by: Claimant,
}

/// That a known secret id was accepted again. One that counted as dead is not taken up here: it may be another one of
/// the same text, which [`candidate`] asks about.
pub(super) fn proven(view: &View, exchange: &Exchange<'_>, auth: &AuthBlock) -> Option<Change> {
    let authority = view.authority();
    let known = known(view, &authority, exchange)?;
    let entity = EntityId::parse(&auth.entity_id).ok();
    let young = exchange.now.steady.since(known.login_at) < PROOF_INTERVAL;
    let same = known.entity == entity && known.identity_policies == auth.identity_policies;
    let claimant = Claimant::of(exchange.asker);
    let news = !young || !same || !known.is_known_to(&claimant);
    if known.dead.is_some() || !is_whole(auth) || !news {
        return None;
    }
    let accepted = SecretId {
        entity,
        identity_policies: auth.identity_policies.clone(),
        login_at: exchange.now.steady,
        ..SecretId::clone(known)
    };
    let accepted = accepted.accepted_by(claimant);
    Some(Change::SecretId(Box::new(accepted)))
}

/// That the primary refused a pair which it had accepted before: whether it is dead its accessor and its role tell.
pub(super) fn doubted(view: &View, exchange: &Exchange<'_>) -> Option<Change> {
    let by_its_ids = Refused::Failed { by_its_ids: true };
    if exchange.evidence.refused_login() != Some(by_its_ids) {
        return None;
    }
    let authority = view.authority();
    let known = known(view, &authority, exchange)?;
    let news = known.dead.is_none() && !known.is_doubted();
    news.then(|| {
        Change::SecretId(Box::new(SecretId {
            doubted_at: Some(exchange.answered_at),
            ..SecretId::clone(known)
        }))
    })
}

/// The secret id of a login that the primary accepted, if it is not known yet, or counts as dead.
pub fn candidate(view: &View, exchange: &Exchange<'_>) -> Option<Candidate> {
    let body = exchange.evidence.brought()?;
    let authority = view.authority();
    let (target, ids) = login(&authority, exchange)?;
    let (role_id, pair) = ids.digests(&target, view.keys());
    let known = authority.secret_ids.get(&pair);
    if known.is_some_and(|known| known.dead.is_none()) {
        return None;
    }
    let incoming: Incoming<'_> = serde_json::from_slice(body).ok()?;
    let auth = incoming.auth.filter(is_whole)?;
    let name = auth.metadata.as_ref()?.get("role_name")?;
    Some(Candidate {
        mount_path: target.path.to_owned(),
        role: RoleKey {
            mount: target.mount.clone(),
            name: RoleName::parse(name).ok()?,
        },
        role_id,
        secret_id: ids.secret_id,
        pair,
        entity: EntityId::parse(&auth.entity_id).ok(),
        identity_policies: auth.identity_policies,
        login_at: exchange.now.steady,
        by: Claimant::of(exchange.asker),
    })
}

/// What an answer tells of whoever tries secret ids: so that what failed at the primary counts in an outage too.
pub fn attempt(view: &View, exchange: &Exchange<'_>) -> Option<Attempt> {
    let authority = view.authority();
    let (target, ids) = login(&authority, exchange)?;
    let outcome = match exchange.evidence.refused_login() {
        // What else is refused was never looked at as a secret id: it counts for nobody, at the primary too.
        Some(Refused::Failed { by_its_ids: false }) => return None,
        Some(Refused::Failed { by_its_ids: true }) => Outcome::Failed,
        Some(Refused::Locked) => Outcome::Locked,
        None if exchange.evidence.carried_out() => Outcome::Accepted,
        None => return None,
    };
    let (role_id, pair) = ids.digests(&target, view.keys());
    Some(Attempt {
        by: Claimant::of(exchange.asker),
        role_id,
        pair,
        outcome,
    })
}

/// What is known of the secret id that a login brings.
fn known<'a>(
    view: &View,
    authority: &'a Authority,
    exchange: &Exchange<'_>,
) -> Option<&'a SecretId> {
    let (target, ids) = login(authority, exchange)?;
    let (_, pair) = ids.digests(&target, view.keys());
    Some(authority.secret_ids.get(&pair)?)
}

/// Where a login goes to, and what it brings.
fn login<'a>(authority: &'a Authority, exchange: &Exchange<'_>) -> Option<(LoginMount<'a>, Ids)> {
    let evidence = &exchange.evidence;
    let cluster = authority.cluster.as_deref()?;
    let target = LoginMount::of(cluster, &authority.settings, evidence.asked.call)?;
    Some((target, Ids::read(evidence.asked.body?)?))
}

/// Whether it carries a service token, with nothing left to be proven.
fn is_whole(auth: &AuthBlock) -> bool {
    !auth.client_token.is_empty() && !wants_more(auth) && auth.token_type == TokenKind::Service
}
