//! `auth/holdover/login` in an outage: a token for an attested workload, from what the primary last proved of it.

use std::time::Duration;

use shared::{
    acl::Operation,
    failover::Outage,
    name::WorkloadName,
    token::{
        TokenFacts, TokenKind,
        create::renewal_limits,
        policies::still_allowed,
        role::TokenRole,
        ttl::{TtlWanted, ttl},
    },
    workload::{Peer, Workload, WorkloadAuthority},
};

use super::{
    caller::Rights,
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
    let peer = case.query.peer.ok_or(Forbidden::Unattested)?;
    if peer.workloads.is_empty() {
        return Err(Forbidden::Unattested.into());
    }
    let entry = wanted(case, peer)?;
    let outage = issue::issuing(case)?;
    if !entry.failover.issue {
        return Err(Issuing::Disabled.into());
    }
    let authority = issue::proven(case, entry, outage)?;
    let login = AttestedLogin {
        peer,
        entry,
        outage,
        authority,
    };
    let issue = login.issue(case)?;
    let mut facts = login.facts(case, &issue)?;
    let rights = Rights::of(case, &facts)?;
    facts
        .identity_policies
        .clone_from(&rights.identity_policies);
    issue.grant(case, facts, &rights)
}

/// What a grant stands on.
struct AttestedLogin<'a> {
    peer: &'a Peer,
    entry: &'a Workload,
    outage: &'a Outage,
    authority: &'a WorkloadAuthority,
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

impl AttestedLogin<'_> {
    /// What the primary would show of a token of this role, minted now.
    fn facts(&self, case: &Case<'_>, issue: &Issue<'_>) -> Answered<TokenFacts> {
        let (role, standing) = (&self.authority.role, &self.authority.standing);
        if !is_modelled(role) {
            return Err(Issuing::Role.into());
        }
        let policies = still_allowed(role, self.authority.policies());
        if policies.is_empty() {
            return Err(Issuing::NoPolicies.into());
        }
        let mut path = format!("auth/token/create/{}", self.entry.role);
        if !role.path_suffix.is_empty() {
            path.push('/');
            path.push_str(&role.path_suffix);
        }
        let now = case.now();
        let ttl = issue.deadlines(case).first.remaining(now).as_secs();
        Ok(TokenFacts {
            identity_policies: standing.identity_policies.clone(),
            entity_id: self.authority.entity().cloned(),
            display_name: "token".into(),
            meta: standing.meta.clone(),
            path,
            orphan: role.orphan,
            renewable: role.renewable,
            role: Some(self.entry.role.as_str().to_owned()),
            ..TokenFacts::minted(TokenKind::Service, policies, ttl, now.steady)
        })
    }

    /// What bounds a grant of this login: what the primary would give to a token of the role.
    fn issue(&self, case: &Case<'_>) -> Answered<Issue<'_>> {
        let limits = renewal_limits(
            Some(&self.authority.role),
            Duration::ZERO,
            create::limits(case),
        );
        let now = case.now().steady;
        let given = ttl(TtlWanted::default(), limits, now, now);
        Ok(Issue {
            entry: self.entry,
            outage: self.outage,
            proven_at: self.authority.verified_at,
            wanted: Some(given.map_err(|_| Issuing::PastMaxTtl)?.ttl),
            limit: Some(limits.longest()),
            peer: self.peer.identity(&self.entry.name),
            parent: None,
            warnings: Vec::new(),
            approle: None,
        })
    }
}

/// Whether the role makes tokens that a grant can be like.
fn is_modelled(role: &TokenRole) -> bool {
    let service = matches!(role.token_type.as_str(), "service" | "default-service" | "");
    service
        && role.token_period == 0
        && role.token_num_uses == 0
        && role.token_bound_cidrs.is_empty()
}
