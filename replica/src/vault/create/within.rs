//! What a token that is created in an outage may have at most: what the primary last proved for its workload, whoever asks.
//!
//! A creator with sudo could give any policy at the primary. In an outage that would be authority which the primary proved
//! for nobody on this host.

use shared::{
    acl::Policy, name::PolicyName, recovery::Proven, token::TokenFacts, workload::WorkloadAuthority,
};

use super::super::{
    caller::Rights,
    case::Case,
    issue::Issue,
    refusal::{Answered, Credential, Why},
};

/// Refuses a token with these facts if one of its policies, or what that means for its identity, is more than was proven.
pub(super) fn check(
    case: &Case<'_>,
    issue: &Issue<'_>,
    authority: &WorkloadAuthority,
    facts: &TokenFacts,
) -> Answered<()> {
    let proven = proven(case, issue, authority)?;
    let beyond = match facts.entity_id == proven.entity {
        // What its identity adds is what the primary last showed of that very identity.
        true => proven.lacks(&facts.policies).cloned(),
        false => beyond_by_another_identity(case, &proven, facts)?,
    };
    match beyond {
        None => Ok(()),
        Some(policy) => Err(Why::Beyond {
            policy,
            workload: issue.entry.name.clone(),
        }
        .into()),
    }
}

/// What the primary last proved: of the login that the line of tokens began with, else of the workload.
fn proven(case: &Case<'_>, issue: &Issue<'_>, authority: &WorkloadAuthority) -> Answered<Proven> {
    let Some(basis) = &issue.approle else {
        return Ok(authority.into());
    };
    let role = case.authority.approles.get(&basis.role);
    let proof = case.authority.secret_ids.get(&basis.secret_id);
    let (role, proof) = role.zip(proof).ok_or(Credential::Unseen)?;
    Ok(Proven {
        policies: role.policies(),
        identity_policies: proof.identity_policies.clone(),
        entity: proof.entity.clone(),
    })
}

/// Of a token with another identity than what was proven had, or with none: a policy that was not proven, or that grants by
/// identity, which was proven for the one and no other.
fn beyond_by_another_identity(
    case: &Case<'_>,
    proven: &Proven,
    facts: &TokenFacts,
) -> Answered<Option<PolicyName>> {
    let policies = Rights::of(case, facts)?.all_policies(facts);
    let parsed = &case.policies()?.parsed;
    let names_identity = |name: &&PolicyName| {
        let policy = parsed.get(*name).and_then(Option::as_ref);
        facts.entity_id.is_some() && policy.is_some_and(Policy::names_identity)
    };
    let beyond = proven.lacks(&policies);
    Ok(beyond
        .or_else(|| policies.iter().find(names_identity))
        .cloned())
}
