//! `auth/approle/login` in an outage: a grant for an attested workload that brings a secret id which the primary proved.
//!
//! Nothing here is weaker than the login at the primary. Attestation and an entry that enables issuing come first, so
//! that nobody else can try secret ids at all. A pair that is known to be dead is refused as there; one that was never
//! proven may be right, and is left to the primary (503). Failures lock the `role_id`; who tries one unproven secret id
//! after the other has no more of them judged, but for those that were accepted from it before. That is so for every process of
//! the same user in the same unit, and for no other.

use shared::{
    approle::{self, Attempt, Basis, Claimant, Denial, Outcome, SecretId},
    change::Change,
    identity::Alias,
    settings::Footing,
    token::TokenFacts,
    workload::{Peer, Workload},
};

use super::{
    case::Case,
    issue::{self, Issue},
    parameter,
    refusal::{Answered, Credential, Damaged, Issuing, Refusal, Why},
};
use crate::approle::{LoginMount, id};

/// Answers a login at a mount of AppRole; any other is not served. A token that came with it does not matter.
pub(crate) fn answer(case: &Case<'_>) -> Answered {
    let target = match target(case) {
        Some(target) => target,
        None => {
            case.intact(|| Damaged::Mounts)?;
            return Err(Why::AuthMethod.into());
        }
    };
    case.modelled()?;
    let peer = issue::attested(case)?;
    let entry = issuing_entry(case, peer)?;
    let outage = issue::issuing(case)?;
    let _ = case.mounts()?;
    let proof = proven(case, target, peer)?;
    let role = case.authority.approles.get(&proof.role).map(AsRef::as_ref);
    if role.is_none() {
        case.intact(|| Damaged::AppRole(proof.role.clone()))?;
    }
    let (bounds, since) = (&case.settings().bounds, outage.started_at);
    let proven_from = case.authority.proven_from;
    let permitted = approle::judge(role, proof, bounds, since, proven_from, case.now())?;
    entity_stands(case, &target, proof)?;
    let issue = Issue {
        entry,
        outage,
        proven_at: permitted.proven_at,
        wanted: permitted.wanted.ttl,
        limit: permitted.limit,
        peer: peer.identity(&entry.name),
        parent: None,
        warnings: permitted.wanted.warning.into_iter().collect(),
        approle: Some(Box::new(Basis {
            role: proof.role.clone(),
            secret_id: proof.digest,
        })),
    };
    let facts = TokenFacts {
        identity_policies: proof.identity_policies.clone(),
        entity_id: proof.entity.clone(),
        display_name: target.path.replace('/', "-"),
        meta: Some(permitted.metadata),
        path: case.query.call.path.as_str().to_owned(),
        explicit_max_ttl: permitted.explicit_max_ttl,
        orphan: true,
        renewable: true,
        ..issue.minted(case, permitted.policies)
    };
    let mut answer = issue.grant(case, facts)?;
    let claimant = Claimant::of(peer);
    if !proof.is_known_to(&claimant) {
        let known = proof.clone().accepted_by(claimant);
        answer.changes.push(Change::SecretId(Box::new(known)));
    }
    Ok(answer)
}

/// What a login told of whoever tries secret ids; none where none was judged.
pub(crate) fn attempt(case: &Case<'_>, answered: &Answered) -> Option<Attempt> {
    let outcome = match answered {
        Ok(_) => Outcome::Accepted,
        Err(Refusal::BadCredential) => Outcome::Failed,
        Err(Refusal::Undecidable(Why::Credential(Credential::Doubted | Credential::Unknown))) => {
            Outcome::Unproven
        }
        Err(_) => return None,
    };
    let target = target(case)?;
    let data = case.parameters().ok()?;
    let (role_id, secret_id) = (id(&data, "role_id")?, id(&data, "secret_id")?);
    let keys = case.view.keys();
    Some(Attempt {
        by: Claimant::of(case.query.peer?),
        role_id: target.role_id(keys, role_id),
        pair: target.pair(keys, role_id, secret_id),
        outcome,
    })
}

fn target<'a>(case: &Case<'a>) -> Option<LoginMount<'a>> {
    let cluster = case.authority.cluster.as_deref()?;
    LoginMount::of(cluster, case.settings(), case.query.call)
}

/// The one entry of the peer that enables issuing: a login by AppRole cannot name one.
fn issuing_entry<'a>(case: &Case<'a>, peer: &Peer) -> Answered<&'a Workload> {
    let settings = case.settings();
    let entries = peer
        .workloads
        .iter()
        .filter_map(|name| settings.workload(name));
    let mut issuing = entries.filter(|entry| entry.failover.issue);
    match (issuing.next(), issuing.next()) {
        (None, _) => Err(Issuing::Disabled.into()),
        (Some(entry), None) => Ok(entry),
        (Some(_), Some(_)) => Err(Issuing::Ambiguous.into()),
    }
}

/// What is known of the pair that the request brings, in the order of the primary's own checks.
fn proven<'a>(case: &Case<'a>, target: LoginMount<'_>, peer: &Peer) -> Answered<&'a SecretId> {
    let data = case.parameters()?;
    for name in ["role_id", "secret_id"] {
        // What is no text the primary converts in its own way.
        parameter::text(&data, name)?;
    }
    let role_id = id(&data, "role_id").ok_or(Refusal::Backend("missing role_id"))?;
    let keys = case.view.keys();
    let stands_for = target.role_id(keys, role_id);
    let now = case.now().boot;
    if case.view.is_locked_out(&stands_for, now) {
        return Err(Refusal::Unauthenticated);
    }
    let mut roles = case.authority.approles.values();
    let is_known = roles.any(|role| role.role_id == stands_for);
    match id(&data, "secret_id") {
        None if is_known => Err(Refusal::Invalid("missing secret_id".into())),
        None => Err(Credential::Unknown.into()),
        Some(secret_id) => {
            // The digest is keyed, so how long looking it up takes tells nothing of the pair.
            let pair = target.pair(keys, role_id, secret_id);
            // Before it is looked up, because how it is answered must not tell whether it is right.
            if !case
                .view
                .may_try(stands_for, &pair, Claimant::of(peer), now)
            {
                return Err(Credential::Guessed.into());
            }
            let proof = case.authority.secret_ids.get(&pair);
            Ok(proof.ok_or(Credential::Unknown)?)
        }
    }
}

/// The primary goes by the alias: where that belongs to another entity by now, or to none, it would give the token
/// another identity than is known here.
fn entity_stands(case: &Case<'_>, target: &LoginMount<'_>, proof: &SecretId) -> Answered<()> {
    let entity = proof.entity.as_ref();
    let Some(entity) = entity else {
        return Ok(());
    };
    let Some(identity) = case.authority.identity(entity) else {
        case.intact(|| Damaged::Identity(entity.clone()))?;
        return case.recent(proof.login_at, || Footing::Identity(entity.clone()));
    };
    let keys = case.view.keys();
    let is_alias = |alias: &Alias| {
        alias.mount_accessor == target.mount.as_str()
            && target.role_id(keys, &alias.name) == proof.role_id
    };
    let entity = identity.entity.as_ref();
    match entity.is_some_and(|entity| entity.aliases.iter().any(is_alias)) {
        true => Ok(()),
        false => Err(Credential::Identity.into()),
    }
}

impl From<Denial> for Refusal {
    fn from(denial: Denial) -> Self {
        match denial {
            Denial::Addresses => Credential::Addresses.into(),
            Denial::Dead => Self::BadCredential,
            Denial::Doubted => Credential::Doubted.into(),
            Denial::Mfa => Credential::SecondFactor.into(),
            Denial::Old => Credential::Old.into(),
            Denial::Role => Issuing::Role.into(),
            Denial::Unseen => Credential::Unseen.into(),
        }
    }
}
