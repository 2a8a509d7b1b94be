//! Judging without effect: what the replica would answer to a request if the outage began now.
//!
//! The same code as [`answer`](super::answer), over an authority whose state is supposed. What it would remember is
//! thrown away, and nothing of it is published. Quarantine is left out of it: whether that may be lifted shows only
//! from what would be answered without.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use shared::{
    api::Kind,
    approle::{AppRole, MountFacts, ProofDigest, RoleFacts, RoleKey},
    change::Change,
    failover::{Cause, Outage, Phase},
    grant::Grant,
    identity::Identity,
    name::{Accessor, EntityId, OutageId, PolicyName, RoleName, TokenDigest, WorkloadName},
    quarantine::Quarantined,
    settings::Mirror,
    time::{Deadline, Now, WallTime},
    token::{TokenFacts, TokenKind, role::TokenRole},
    wire::Response,
    workload::WorkloadAuthority,
};

use super::{
    Answer, Presented, Query,
    caller::{Bearer, Caller},
    capabilities,
    case::Case,
    decide, parameter,
    refusal::{Class, Forbidden, Refusal},
};
use crate::{
    entropy::Entropy,
    view::{Authority, LiveGrant, View},
};

/// What the replica would have said.
pub struct Judgement {
    /// The answer. Its body may hold secrets.
    pub response: Response,
    /// Whether it is a decision at all.
    pub standing: Standing,
    /// What stands behind it.
    pub behind: Behind,
    /// What it was decided from.
    pub inputs: Inputs,
}

/// What stands behind a judgement: if it grants more than the primary did, some of it is to blame.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Behind {
    /// The policies that contributed to the rule which decides the request.
    pub rule: Vec<PolicyName>,
    /// Of capabilities that are asked for, the same for each path.
    pub asked: BTreeMap<String, Vec<PolicyName>>,
    /// The workload that a token would have been issued for.
    pub issuing: Option<WorkloadName>,
    /// Every policy of the caller.
    pub policies: Vec<PolicyName>,
}

/// Whether an answer is a decision that the primary's can be held against. The words are few, for labels.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Standing {
    /// It is.
    Decided,
    /// 503 though it is of a kind that the replica serves: why.
    Undecidable(&'static str),
    /// Nothing that the replica serves, by design or by configuration: why.
    Uncovered(&'static str),
}

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
    workload: Option<Arc<WorkloadAuthority>>,
    approle: Option<Arc<AppRole>>,
}

/// What of a token decides.
#[derive(Clone, PartialEq, Debug)]
struct TokenInput {
    accessor: Accessor,
    policies: Vec<PolicyName>,
    identity_policies: Vec<PolicyName>,
    entity: Option<EntityId>,
}

/// Judges `query`.
pub fn judge(view: &View, query: &Query<'_>, entropy: &dyn Entropy) -> Judgement {
    let mut authority = Authority::clone(&view.authority());
    Arc::make_mut(&mut authority.known).quarantines.clear();
    suppose(&mut authority, query.now);
    let case = Case {
        view,
        authority: &authority,
        query,
        entropy,
    };
    let caller = Caller::of(&case).ok();
    let decided = decide(&case);
    let standing = standing(&case, decided.as_ref().err());
    let issued = decided.as_ref().ok().and_then(issued);
    let inputs = Inputs::of(&case, caller.as_ref(), issued.as_ref());
    Judgement {
        behind: Behind::of(&case, caller.as_ref(), issued.as_ref()),
        response: Answer::of(&case, decided).response,
        standing,
        inputs,
    }
}

/// A keyed digest of the policy as it is mirrored: another one as soon as that is written anew. What is issued by has none, for
/// another login of the same workload may go by another role.
pub fn text(view: &View, what: &Quarantined) -> Option<[u8; 32]> {
    match what {
        Quarantined::Policy(name) => Some(digest(view, &view.authority(), [name])),
        Quarantined::Issuing(_) => None,
    }
}

/// An outage that begins `now`, bounded as the machine would bound it.
pub(super) fn suppose(authority: &mut Authority, now: Now) {
    let proven = authority.workloads.values().map(|known| known.verified_at);
    let from = proven.min().unwrap_or(now.steady).min(now.steady);
    let bound = from.plus(authority.settings.bounds.max_outage);
    // The id is never shown: a name that parses.
    if let (None, Ok(id)) = (authority.phase.outage(), OutageId::parse("supposed")) {
        authority.paused = false;
        authority.phase = Phase::Holdover(Outage {
            id,
            started_at: now.steady,
            cause: Cause::Operator("supposed".into()),
            bound: Deadline::at(bound, now),
            latched: false,
        });
    }
}

fn standing(case: &Case<'_>, refusal: Option<&Refusal>) -> Standing {
    let Some(refusal) = refusal else {
        return Standing::Decided;
    };
    match refusal {
        Refusal::Undecidable(why) => match why.class() {
            Class {
                by_design: true,
                word,
                ..
            } => Standing::Uncovered(word),
            Class { word, .. } => Standing::Undecidable(word),
        },
        // Configured so, and told to the client.
        Refusal::Forbidden(Forbidden::Reauthenticate | Forbidden::Draining) => {
            Standing::Uncovered("token")
        }
        // In an outage a token obtained by attestation is honoured only from its own peer.
        Refusal::Unauthenticated if is_anothers(case) => Standing::Uncovered("peer"),
        _ => Standing::Decided,
    }
}

fn is_anothers(case: &Case<'_>) -> bool {
    let Presented::Token(token) = case.query.presented else {
        return false;
    };
    Bearer::named(case, token).is_ok_and(|live| Bearer::Grant(live).belongs(case).is_err())
}

/// The grant that would have been issued.
fn issued(granted: &Answer) -> Option<Grant> {
    granted.changes.iter().find_map(|change| match change {
        Change::Grant(grant) => Some(Grant::clone(grant)),
        _ => None,
    })
}

fn digest<'a>(
    view: &View,
    authority: &Authority,
    names: impl IntoIterator<Item = &'a PolicyName>,
) -> [u8; 32] {
    let policies = authority.policies.as_ref().map(|known| &known.set.policies);
    let mut parts: Vec<Vec<u8>> = Vec::new();
    for name in names {
        parts.push(name.as_str().as_bytes().to_vec());
        let Some(policy) = policies.and_then(|policies| policies.get(name)) else {
            continue;
        };
        parts.push(policy.text.as_bytes().to_vec());
        parts.push(policy.version.to_le_bytes().to_vec());
        let flags = [policy.allow_slashes, policy.allow_wildcards].map(u8::from);
        parts.push(flags.to_vec());
        let ends = policy.expiration.map_or(0, |at| at.as_secs());
        parts.push(ends.to_le_bytes().to_vec());
    }
    let parts: Vec<&[u8]> = parts.iter().map(Vec::as_slice).collect();
    view.keys().likeness(&parts)
}

impl Behind {
    fn of(case: &Case<'_>, caller: Option<&Caller>, issued: Option<&Grant>) -> Self {
        let call = case.query.call;
        let issuing = issued.and_then(|grant| Some(grant.peer.as_ref()?.workload.clone()));
        let Some(caller) = caller else {
            return Self {
                issuing,
                ..Self::default()
            };
        };
        let (path, lists) = (call.path.as_str(), call.operation.lists());
        let asks = matches!(
            call.kind,
            Kind::Capabilities | Kind::CapabilitiesAccessor | Kind::CapabilitiesSelf
        );
        let asked = asks.then(|| capabilities::contributors(case, caller).ok());
        Self {
            rule: caller.rights.contributors(path, lists).unwrap_or_default(),
            asked: asked.flatten().unwrap_or_default(),
            issuing,
            policies: caller.rights.all_policies(caller.bearer.facts()),
        }
    }
}

impl Inputs {
    fn of(case: &Case<'_>, caller: Option<&Caller>, issued: Option<&Grant>) -> Self {
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
        let (workload, approle) = (
            workload(case),
            issued.and_then(|grant| approle(case, grant)),
        );
        verified.extend(workload.as_ref().map(|known| Some(known.verified_at)));
        verified.extend(approle.as_ref().map(|known| Some(known.verified_at)));
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
            workload,
            approle,
            subjects,
        }
    }

    /// Whether nothing differs of what decides, though it may have been verified again in between.
    pub fn are_as(&self, other: &Self) -> bool {
        self.texts == other.texts
            && self.subjects == other.subjects
            && (&self.entities, &self.identities) == (&other.entities, &other.identities)
            && self.workload.as_ref().map(role) == other.workload.as_ref().map(role)
            && self.approle.as_ref().map(facts) == other.approle.as_ref().map(facts)
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

/// The AppRole behind a grant.
fn approle(case: &Case<'_>, issued: &Grant) -> Option<Arc<AppRole>> {
    let basis = issued.replica()?.approle.as_ref()?;
    case.authority.approles.get(&basis.role).cloned()
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

/// The workload whose authority decides: that of the standing token, or of a login.
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
