//! Judging without effect: what the replica would answer to a request if the outage began now.
//!
//! The same code as [`answer`](super::answer), over an authority whose state is supposed. What it would remember is
//! thrown away, and nothing of it is published. Quarantine is left out of it: whether that may be lifted shows only
//! from what would be answered without. So are doubts about secret ids: the primary's refusal of a login begins one, and
//! would hide from the comparison what the replica would have granted before it.

mod inputs;

use std::{collections::BTreeMap, sync::Arc};

use shared::{
    api::Kind,
    approle::SecretId,
    change::Change,
    failover::{Cause, Outage, Phase},
    grant::Grant,
    name::{OutageId, PolicyName, WorkloadName},
    quarantine::Quarantined,
    time::{Deadline, Now},
    wire::Response,
};

pub use inputs::Inputs;

use super::{
    Answer, Presented, Query,
    caller::{Bearer, Caller},
    capabilities,
    case::Case,
    decide, mounts,
    refusal::{Class, Forbidden, Refusal},
};
use crate::{
    entropy::Entropy,
    view::{Authority, Known, View},
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
    /// Of mounts that are asked for, the same for each.
    pub mounts: BTreeMap<String, Vec<PolicyName>>,
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

/// Judges `query`.
pub fn judge(view: &View, query: &Query<'_>, entropy: &dyn Entropy) -> Judgement {
    let mut authority = view.authority().without_quarantines();
    undoubted(Arc::make_mut(&mut authority.known));
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

/// Every secret id as it was before a client's login with it was refused.
fn undoubted(known: &mut Known) {
    let doubted = known.secret_ids.values().filter(|proof| proof.is_doubted());
    let doubted: Vec<_> = doubted.cloned().collect();
    for proof in doubted {
        let undoubted = SecretId {
            doubted_at: None,
            ..SecretId::clone(&proof)
        };
        known.secret_ids.insert(proof.digest, Arc::new(undoubted));
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
        Refusal::TooManyGrants(_) => Standing::Uncovered("limit"),
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
        let mounts = match &call.kind {
            Kind::Mounts(asked) => mounts::contributors(case, caller, asked.as_deref()).ok(),
            _ => None,
        };
        Self {
            rule: caller.rights.contributors(path, lists).unwrap_or_default(),
            asked: asked.flatten().unwrap_or_default(),
            issuing,
            mounts: mounts.unwrap_or_default(),
            policies: caller.rights.all_policies(caller.bearer.facts()),
        }
    }
}
