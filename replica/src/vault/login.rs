//! `auth/holdover/login` in an outage: a token for an attested workload, from what the primary last proved of it.

use std::time::Duration;

use shared::{
    acl::Operation,
    name::WorkloadName,
    token::{
        TokenFacts,
        create::renewal_limits,
        policies::still_allowed,
        role::TokenRole,
        ttl::{TtlWanted, ttl},
    },
    workload::{Peer, Workload, WorkloadAuthority},
};

use super::{
    case::Case,
    create,
    issue::{self, Issue},
    parameter,
    refusal::{Answered, Forbidden, Issuing, Refusal},
};

/// Answers a login. A token that came with it does not matter.
pub(crate) fn answer(case: &Case<'_>) -> Answered {
    if case.query.call.operation != Operation::Update {
        return Err(Refusal::Operation);
    }
    case.modelled()?;
    let peer = issue::attested(case)?;
    let entry = wanted(case, peer)?;
    let outage = issue::enabled(case, entry)?;
    let authority = issue::proven(case, entry, outage)?;
    // What the primary would give to a token of the role.
    let limits = renewal_limits(Some(&authority.role), Duration::ZERO, create::limits(case));
    let now = case.now().steady;
    let given = ttl(TtlWanted::default(), limits, now, now).map_err(|_| Issuing::PastMaxTtl)?;
    let issue = Issue {
        entry,
        outage,
        proven_at: authority.verified_at,
        wanted: given.ttl,
        limit: limits.longest(),
        peer: peer.identity(&entry.name),
        parent: None,
        warnings: Vec::new(),
        approle: None,
    };
    let facts = facts(case, &issue, authority)?;
    issue.grant(case, facts)
}

/// The workload entry that the peer asks for, or the only one that it matches.
fn wanted<'a>(case: &Case<'a>, peer: &Peer) -> Answered<&'a Workload> {
    let data = case.parameters()?;
    let unknown = || Refusal::Invalid("unknown role".into());
    let name = match parameter::text(&data, "role")? {
        Some(role) => WorkloadName::parse(role).map_err(|_| unknown())?,
        None => peer.only_workload().cloned().ok_or_else(|| {
            Refusal::Invalid("several workloads match the calling process: name one as role".into())
        })?,
    };
    let entry = case.settings().workload(&name).ok_or_else(unknown)?;
    match peer.workloads.contains(&name) {
        true => Ok(entry),
        false => Err(Forbidden::NotThisPeer.into()),
    }
}

/// What the primary would show of a token of this role, minted now.
fn facts(
    case: &Case<'_>,
    issue: &Issue<'_>,
    authority: &WorkloadAuthority,
) -> Answered<TokenFacts> {
    let (role, standing) = (&authority.role, &authority.standing);
    if !is_modelled(role) {
        return Err(Issuing::Role.into());
    }
    let policies = still_allowed(role, authority.policies());
    if policies.is_empty() {
        return Err(Issuing::NoPolicies.into());
    }
    let mut path = format!("auth/token/create/{}", authority.role_name);
    if !role.path_suffix.is_empty() {
        path.push('/');
        path.push_str(&role.path_suffix);
    }
    Ok(TokenFacts {
        identity_policies: standing.identity_policies.clone(),
        entity_id: authority.entity().cloned(),
        display_name: "token".into(),
        meta: standing.meta.clone(),
        path,
        orphan: role.orphan,
        renewable: role.renewable,
        role: Some(authority.role_name.as_str().to_owned()),
        ..issue.minted(case, policies)
    })
}

/// Whether the role makes tokens that a grant can be like.
fn is_modelled(role: &TokenRole) -> bool {
    let service = matches!(role.token_type.as_str(), "service" | "default-service" | "");
    service
        && role.token_period == 0
        && role.token_num_uses == 0
        && role.token_bound_cidrs.is_empty()
}
