//! Judging without effect: what the replica would answer to a request if the outage began now.
//!
//! The same code as [`answer`](super::answer), over an authority whose state is supposed. What it would remember is
//! thrown away, and nothing of it is published. Quarantine is left out of it: whether that may be lifted shows only
//! from what would be answered without.

use std::sync::Arc;

use shared::{
    api::Kind,
    change::Change,
    failover::{Cause, Outage, Phase},
    identity::Identity,
    name::{Accessor, EntityId, OutageId, PolicyName, TokenDigest},
    quarantine::AclKey,
    settings::Mirror,
    time::{Deadline, Now, WallTime},
    token::{TokenFacts, TokenKind},
    wire::Response,
    workload::WorkloadAuthority,
};

use super::{
    Answer, Presented, Query,
    caller::{Bearer, Caller},
    case::Case,
    decide, parameter,
    refusal::{Class, Forbidden, Refusal},
};
use crate::{
    entropy::Entropy,
    view::{Authority, View, acl},
};

/// What the replica would have said.
pub struct Judgement {
    /// The answer. Its body may hold secrets.
    pub response: Response,
    /// Whether it is a decision at all.
    pub standing: Standing,
    /// Whose rights decided, where a token was good or would have been issued.
    pub set: Option<AclKey>,
    /// What it was decided from.
    pub inputs: Inputs,
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
    /// A keyed digest of the policies of the deciding set.
    pub texts: Option<[u8; 32]>,
    /// Every token that it was about: the caller's, and one that it named.
    pub tokens: Vec<TokenDigest>,
    /// When the least recently verified of policies, tokens, identity and workloads was verified; none where one never was.
    pub authority_at: Option<WallTime>,
    /// When the mirrored value, or that there is none, was; none where it never was. Where no value decided, as
    /// `authority_at`.
    pub value_at: Option<WallTime>,
    facts: Option<TokenFacts>,
    identity: Option<Arc<Identity>>,
    workload: Option<Arc<WorkloadAuthority>>,
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
    let set = issued.as_ref().map(set_of).or_else(|| {
        let caller = caller.as_ref()?;
        Some(caller.rights.set(caller.bearer.facts()))
    });
    let inputs = Inputs::of(&case, caller.as_ref(), set.as_ref());
    Judgement {
        response: Answer::of(&case, decided).response,
        standing,
        set,
        inputs,
    }
}

/// A keyed digest of the policies of `set`, as they are mirrored: another one as soon as one of them is written anew.
pub fn texts(view: &View, set: &AclKey) -> Option<[u8; 32]> {
    digest(view, &view.authority(), set)
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
fn issued(granted: &Answer) -> Option<TokenFacts> {
    granted.changes.iter().find_map(|change| match change {
        Change::Grant(grant) => Some(grant.facts.clone()),
        _ => None,
    })
}

fn set_of(facts: &TokenFacts) -> AclKey {
    let entity = facts.entity_id.as_ref();
    acl::key_of(&facts.policies, &facts.identity_policies, entity)
}

fn digest(view: &View, authority: &Authority, set: &AclKey) -> Option<[u8; 32]> {
    let policies = &authority.policies.as_ref()?.set.policies;
    let mut parts: Vec<Vec<u8>> = Vec::new();
    for name in &set.policies {
        parts.push(name.as_str().as_bytes().to_vec());
        let Some(policy) = policies.get(name) else {
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
    Some(view.keys().likeness(&parts))
}

impl Inputs {
    fn of(case: &Case<'_>, caller: Option<&Caller>, set: Option<&AclKey>) -> Self {
        let authority = case.authority;
        let policies = authority.policies.as_deref();
        let mut verified = vec![policies.map(|policies| policies.set.verified_at)];
        let presented = match case.query.presented {
            Presented::Token(token) => Some(case.view.keys().token_digest(token)),
            Presented::Nothing | Presented::Standing(_) => None,
        };
        let tokens: Vec<_> = presented.into_iter().chain(named(case)).collect();
        let known = tokens.iter().filter_map(|token| case.view.grant(token));
        // Neither a token of the replica's own nor a batch token can be looked up again.
        let checked = known
            .filter(|live| !live.grant.is_replica() && live.grant.facts.kind == TokenKind::Service);
        verified.extend(checked.map(|live| Some(live.grant.verified_at)));
        let workload = workload(case);
        verified.extend(workload.as_ref().map(|known| Some(known.verified_at)));
        let entity = set.and_then(|set| set.entity.as_ref());
        let entity = entity.and_then(|entity| authority.identities.get(entity));
        verified.extend(entity.map(|known| Some(known.verified_at)));
        let authority_at = oldest(verified);
        let mirror = mirror(case).map(|mirror| {
            let state = authority.mirrors.get(&mirror.path.configured());
            state.map(|state| state.verified_at)
        });
        Self {
            texts: set.and_then(|set| digest(case.view, authority, set)),
            tokens,
            authority_at,
            value_at: match mirror {
                Some(value) => oldest(vec![value, authority_at]),
                None => authority_at,
            },
            facts: caller.map(|caller| caller.bearer.facts().clone()),
            identity: set
                .and_then(|set| set.entity.as_ref())
                .and_then(|entity| authority.identity(entity).cloned()),
            workload,
        }
    }

    /// Whether nothing differs of what decides, though it may have been verified again in between.
    pub fn are_as(&self, other: &Self) -> bool {
        self.texts == other.texts
            && self.identity == other.identity
            && self.facts.as_ref().map(rights) == other.facts.as_ref().map(rights)
            && self.workload.as_ref().map(role) == other.workload.as_ref().map(role)
    }
}

fn rights(facts: &TokenFacts) -> (&[PolicyName], &[PolicyName], Option<&EntityId>) {
    let entity = facts.entity_id.as_ref();
    (&facts.policies, &facts.identity_policies, entity)
}

fn role(known: &Arc<WorkloadAuthority>) -> impl PartialEq + '_ {
    let standing = rights(&known.standing);
    (&known.role_name, &known.role, standing)
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
