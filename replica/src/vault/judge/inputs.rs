//! What a judgement was decided from, so that a later one can tell whether that is still the same, and verified since.

use std::{collections::BTreeSet, sync::Arc};

use shared::{
    api::Kind,
    approle::{AppRole, MountFacts, ProofDigest, RoleFacts, RoleKey, SecretId},
    change::{Cluster, Mount},
    grant::Grant,
    identity::Identity,
    name::{Accessor, EntityId, PolicyName, RoleName, TokenDigest},
    settings::Mirror,
    time::WallTime,
    token::{TokenFacts, TokenKind, role::TokenRole},
    workload::WorkloadAuthority,
};

use super::digest;
use crate::{
    vault::{Presented, caller::Caller, case::Case, parameter},
    view::{LiveGrant, View},
};

/// What a judgement went by, as far as the primary may change it.
#[derive(Clone)]
pub struct Inputs {
    /// Every token that it was about: the caller's, and one that it named.
    pub tokens: Vec<TokenDigest>,
    /// The entities that these, and a token that would have been issued, stand for.
    pub entities: Vec<EntityId>,
    /// When the least recently verified of policies, tokens, identities, roles and workloads was verified; none where one never was.
    pub authority_at: Option<WallTime>,
    /// When the mirrored value, or that there is none, was; none where it never was. Where no value decided, as
    /// `authority_at`.
    pub value_at: Option<WallTime>,
    /// The moment after which a rule of the caller's is another by time alone.
    pub holds_until: Option<WallTime>,
    /// A keyed digest of every policy that has a part in it, if any has.
    texts: Option<[u8; 32]>,
    /// The tokens themselves: one that was made anew with the same string is another.
    subjects: Vec<TokenInput>,
    /// Those of the entities that are known.
    identities: Vec<Arc<Identity>>,
    workloads: Vec<Arc<WorkloadAuthority>>,
    approle: Option<Arc<AppRole>>,
    secret_id: Option<Arc<SecretId>>,
    /// A keyed digest of what is shown of mounts, if that was asked for.
    mounts: Option<[u8; 32]>,
}

/// What of a token decides.
#[derive(Clone, PartialEq, Debug)]
struct TokenInput {
    accessor: Accessor,
    policies: Vec<PolicyName>,
    identity_policies: Vec<PolicyName>,
    entity: Option<EntityId>,
}

impl Inputs {
    pub(super) fn of(case: &Case<'_>, caller: Option<&Caller>, issued: Option<&Grant>) -> Self {
        let authority = case.authority;
        let policies = authority.policies.as_deref();
        let all = policies.map(|policies| policies.set.verified_at);
        let of_caller = caller.and_then(|caller| caller.policies_verified_at(case));
        let mut verified = vec![of_caller.or(all)];
        let presented = match case.query.presented {
            Presented::Token(token) => Some(case.view.keys().token_digest(token)),
            Presented::Nothing | Presented::Standing(_) => None,
        };
        let tokens: Vec<_> = presented.into_iter().chain(named(case)).collect();
        let known = tokens.iter().filter_map(|token| case.view.grant(token));
        let known: Vec<Arc<LiveGrant>> = known.collect();
        verified.extend(looked_up(&known));
        let workloads = workloads(case, issued);
        let basis = issued.and_then(|grant| grant.replica()?.approle.as_ref());
        let approle = basis.and_then(|basis| authority.approles.get(&basis.role).cloned());
        let secret_id = basis.and_then(|basis| authority.secret_ids.get(&basis.secret_id).cloned());
        verified.extend(workloads.iter().map(|known| Some(known.verified_at)));
        verified.extend(approle.as_ref().map(|known| Some(known.verified_at)));
        verified.extend(secret_id.as_ref().map(|known| Some(known.verified_at)));
        let mounts = asked_mounts(case);
        verified.extend(mounts.map(|known| Some(known.verified_at)));
        let own = caller.map(|caller| input(caller.bearer.accessor(), caller.bearer.facts()));
        let named = known
            .iter()
            .map(|live| input(&live.grant.accessor, &live.grant.facts));
        let subjects: Vec<TokenInput> = named.chain(own).collect();
        let issued = issued.map(|grant| input(&grant.accessor, &grant.facts));
        let all = || subjects.iter().chain(&issued);
        let entities: BTreeSet<_> = all().filter_map(|one| one.entity.as_ref()).collect();
        let identities = entities
            .iter()
            .filter_map(|entity| authority.identities.get(*entity));
        verified.extend(identities.clone().map(|known| Some(known.verified_at)));
        let authority_at = oldest(verified);
        let policies = all().flat_map(|one| one.policies.iter().chain(&one.identity_policies));
        let of_identities = identities
            .clone()
            .flat_map(|known| parsed(&known.identity.policies()));
        let names: BTreeSet<PolicyName> = policies.cloned().chain(of_identities).collect();
        Self {
            texts: (!names.is_empty()).then(|| digest(case.view, authority, &names)),
            authority_at,
            value_at: value_at(case, authority_at),
            holds_until: caller.and_then(|caller| caller.rights.holds_until()),
            identities: identities
                .map(|known| Arc::clone(&known.identity))
                .collect(),
            entities: entities.into_iter().cloned().collect(),
            tokens,
            workloads,
            approle,
            secret_id,
            mounts: mounts.map(|known| shown(case.view, known)),
            subjects,
        }
    }

    /// When the primary last accepted the secret id that would have been logged in with.
    pub fn logged_in_at(&self) -> Option<WallTime> {
        self.secret_id.as_ref().map(|proof| proof.login_at)
    }

    /// Whether nothing differs of what decides, though it may have been verified again in between.
    pub fn are_as(&self, other: &Self) -> bool {
        self.texts == other.texts
            && self.subjects == other.subjects
            && (&self.entities, &self.identities) == (&other.entities, &other.identities)
            && self
                .workloads
                .iter()
                .map(role)
                .eq(other.workloads.iter().map(role))
            && self.approle.as_ref().map(facts) == other.approle.as_ref().map(facts)
            && self.secret_id.as_ref().map(proof) == other.secret_id.as_ref().map(proof)
            && self.mounts == other.mounts
    }
}

fn input(accessor: &Accessor, facts: &TokenFacts) -> TokenInput {
    TokenInput {
        accessor: accessor.clone(),
        policies: facts.policies.clone(),
        identity_policies: facts.identity_policies.clone(),
        entity: facts.entity_id.clone(),
    }
}

fn parsed(names: &[String]) -> Vec<PolicyName> {
    let parsed = names.iter().map(|name| PolicyName::parse(name));
    parsed.filter_map(Result::ok).collect()
}

/// What of a workload decides what is issued for it.
fn role(
    known: &Arc<WorkloadAuthority>,
) -> (
    &RoleName,
    &TokenRole,
    &[PolicyName],
    &[PolicyName],
    Option<&EntityId>,
) {
    let standing = &known.standing;
    let (policies, entity) = (&standing.policies, standing.entity_id.as_ref());
    let identity = &standing.identity_policies;
    (&known.role_name, &known.role, policies, identity, entity)
}

/// What of an AppRole decides what is issued by it.
fn facts(known: &Arc<AppRole>) -> (&RoleKey, &ProofDigest, &RoleFacts, &MountFacts, bool) {
    (
        &known.key,
        &known.role_id,
        &known.facts,
        &known.mount,
        known.mfa,
    )
}

/// What of a secret id decides what is issued by it. One that was made anew with the same string has another accessor.
fn proof(
    known: &Arc<SecretId>,
) -> (
    &ProofDigest,
    &Accessor,
    Option<WallTime>,
    Option<&EntityId>,
    &[PolicyName],
) {
    let policies = known.identity_policies.as_slice();
    (
        &known.role_id,
        &known.accessor,
        known.expires,
        known.entity.as_ref(),
        policies,
    )
}

/// The mounts, where they are what is asked for.
fn asked_mounts<'a>(case: &Case<'a>) -> Option<&'a Cluster> {
    let cluster = case.authority.cluster.as_deref();
    cluster.filter(|_| matches!(case.query.call.kind, Kind::Mounts(_)))
}

fn shown(view: &View, cluster: &Cluster) -> [u8; 32] {
    let of_mount = |(at, mount): (&String, &Mount)| {
        let accessor = mount.accessor.as_str();
        [at.as_bytes(), accessor.as_bytes()].map(<[u8]>::to_vec)
    };
    let parts: Vec<Vec<u8>> = cluster.mounts.iter().flat_map(of_mount).collect();
    let parts: Vec<&[u8]> = parts.iter().map(Vec::as_slice).collect();
    view.keys().likeness(&parts)
}

/// When the tokens were verified that can be: neither one of the replica's own nor a batch token is looked up again.
fn looked_up(known: &[Arc<LiveGrant>]) -> impl Iterator<Item = Option<WallTime>> {
    let service = |live: &&Arc<LiveGrant>| live.grant.facts.kind == TokenKind::Service;
    let checked = known.iter().filter(service);
    let checked = checked.filter(|live| !live.grant.is_replica());
    checked.map(|live| Some(live.grant.verified_at))
}

/// When the mirrored value that is asked for was verified, if that was before the authority.
fn value_at(case: &Case<'_>, authority_at: Option<WallTime>) -> Option<WallTime> {
    let Some(mirror) = mirror(case) else {
        return authority_at;
    };
    let state = case.authority.mirrors.get(&mirror.path.configured());
    oldest(vec![state.map(|state| state.verified_at), authority_at])
}

/// None if any of them is none.
fn oldest(all: Vec<Option<WallTime>>) -> Option<WallTime> {
    let all: Option<Vec<WallTime>> = all.into_iter().collect();
    all?.into_iter().min()
}

/// Another token that the request is about.
fn named(case: &Case<'_>) -> Option<TokenDigest> {
    let data = case.parameters().ok()?;
    match case.query.call.kind {
        Kind::TokenLookup | Kind::Capabilities => {
            let token = parameter::text(&data, "token").ok()??;
            Some(case.view.keys().token_digest(token))
        }
        Kind::TokenLookupAccessor | Kind::CapabilitiesAccessor => {
            let accessor = parameter::text(&data, "accessor").ok()??;
            let accessor = Accessor::parse(accessor).ok()?;
            Some(case.view.grant_by_accessor(&accessor)?.grant.digest)
        }
        _ => None,
    }
}

/// The workloads whose authority decides, each once: that of the standing token or of a login; of a token that would have
/// been created the one that bounds it, and the one whose role it is created through.
fn workloads(case: &Case<'_>, issued: Option<&Grant>) -> Vec<Arc<WorkloadAuthority>> {
    let workloads = &case.authority.workloads;
    let mut decide: Vec<_> = workload(case).into_iter().collect();
    if case.query.call.kind == Kind::TokenCreate {
        let bounds = issued.and_then(|grant| workloads.get(&grant.peer.as_ref()?.workload));
        let role = issued.and_then(|grant| grant.facts.role.as_ref());
        let of_role = role.and_then(|role| {
            workloads
                .values()
                .find(|one| one.role_name.as_str() == role)
        });
        decide.extend(bounds.into_iter().chain(of_role).cloned());
    }
    decide.sort_by(|one, other| one.workload.cmp(&other.workload));
    decide.dedup_by(|one, other| one.workload == other.workload);
    decide
}

fn workload(case: &Case<'_>) -> Option<Arc<WorkloadAuthority>> {
    let workloads = &case.authority.workloads;
    match (case.query.presented, &case.query.call.kind) {
        (_, Kind::AttestedLogin) => {
            let data = case.parameters().ok()?;
            let role = parameter::text(&data, "role").ok()?;
            let peer = case.query.peer?;
            let name = match role {
                Some(role) => peer.workloads.iter().find(|name| name.as_str() == role)?,
                None => peer.only_workload()?,
            };
            workloads.get(name).cloned()
        }
        (Presented::Standing(name), _) => workloads.get(name).cloned(),
        _ => None,
    }
}

/// The mirror of KV values that the path falls under. Of leases nothing is compared that a pass would change.
fn mirror<'a>(case: &Case<'a>) -> Option<&'a Mirror> {
    let call = case.query.call;
    let path = call.path.as_str();
    if call.kind != Kind::Data {
        return None;
    }
    if !case.authority.cluster.as_ref()?.mounted(path)?.kind.is_kv() {
        return None;
    }
    let of_data = path.replacen("/metadata/", "/data/", 1);
    let settings = case.settings();
    settings.mirror(path).or_else(|| settings.mirror(&of_data))
}
