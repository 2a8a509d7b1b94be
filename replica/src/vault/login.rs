//! `auth/holdover/login` in an outage: a token for an attested workload, from what the primary last proved of it.

use std::time::Duration;

use shared::{
    acl::Operation,
    failover::Outage,
    name::{PolicyName, WorkloadName},
    token::{TokenFacts, TokenKind, TokenRole},
    workload::{Peer, Workload, WorkloadAuthority},
};

use super::{
    caller::Rights,
    case::Case,
    envelope::Granted,
    issue::{self, Issue},
    parameter,
    refusal::{Forbidden, Issuing, Refusal, Why},
};

/// Answers a login. A token that came with it does not matter.
pub(crate) fn answer(case: &Case<'_>) -> Result<Granted, Refusal> {
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
    let authority = proven(case, entry, outage)?;
    let basis = Basis {
        peer,
        entry,
        outage,
        authority,
    };
    let mut facts = basis.facts(case)?;
    let rights = Rights::of(case, &facts)?;
    facts
        .identity_policies
        .clone_from(&rights.identity_policies);
    basis.issue().grant(case, facts, &rights)
}

/// What a grant stands on.
struct Basis<'a> {
    peer: &'a Peer,
    entry: &'a Workload,
    outage: &'a Outage,
    authority: &'a WorkloadAuthority,
}

/// The workload entry that the peer asks for, or the only one that it matches.
fn wanted<'a>(case: &Case<'a>, peer: &Peer) -> Result<&'a Workload, Refusal> {
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

/// What the primary proved of the workload, if that was for this role and recent enough before the outage.
fn proven<'a>(
    case: &Case<'a>,
    entry: &Workload,
    outage: &Outage,
) -> Result<&'a WorkloadAuthority, Refusal> {
    let authority = case.authority.workloads.get(&entry.name);
    let max = case.settings().bounds.authority_max_age;
    let authority = authority.filter(|authority| {
        authority.role_name == entry.role && outage.started_at.since(authority.verified_at) <= max
    });
    match authority {
        Some(authority) => Ok(authority),
        None => Err(Why::AuthorityTooOld(entry.name.clone()).into()),
    }
}

impl Basis<'_> {
    /// What the primary would show of a token of this role, minted now.
    fn facts(&self, case: &Case<'_>) -> Result<TokenFacts, Refusal> {
        let (role, standing) = (&self.authority.role, &self.authority.standing);
        if !is_modelled(role) {
            return Err(Issuing::Role.into());
        }
        let policies = allowed(role, self.authority.policies());
        if policies.is_empty() {
            return Err(Issuing::NoPolicies.into());
        }
        let mut path = format!("auth/token/create/{}", self.entry.role);
        if !role.path_suffix.is_empty() {
            path.push('/');
            path.push_str(&role.path_suffix);
        }
        let now = case.now().steady;
        Ok(TokenFacts {
            policies,
            identity_policies: standing.identity_policies.clone(),
            entity_id: self.authority.entity().cloned(),
            display_name: "token".into(),
            meta: standing.meta.clone(),
            path,
            creation_time: now.as_secs(),
            creation_ttl: self
                .issue()
                .deadlines(case)
                .0
                .remaining(case.now())
                .as_secs(),
            explicit_max_ttl: 0,
            expire_time: None,
            issue_time: Some(now.to_string()),
            last_renewal: None,
            last_renewal_time: None,
            orphan: role.orphan,
            period: 0,
            renewable: role.renewable,
            role: Some(self.entry.role.as_str().to_owned()),
            bound_cidrs: Vec::new(),
            kind: TokenKind::Service,
        })
    }

    /// What bounds a grant of this login.
    fn issue(&self) -> Issue<'_> {
        let role_max = Some(self.authority.role.token_explicit_max_ttl);
        Issue {
            entry: self.entry,
            outage: self.outage,
            proven_at: self.authority.verified_at,
            wanted: None,
            limit: role_max
                .filter(|seconds| *seconds > 0)
                .map(Duration::from_secs),
            peer: self.peer.identity(&self.entry.name),
            parent: None,
        }
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

/// Of the `proven` policies those that the role lets its tokens have.
fn allowed(role: &TokenRole, proven: &[PolicyName]) -> Vec<PolicyName> {
    let listed = !role.allowed_policies.is_empty() || !role.allowed_policies_glob.is_empty();
    let mut kept: Vec<_> = proven
        .iter()
        .filter(|policy| {
            let default = policy.as_str() == "default";
            let named = role.allowed_policies.contains(policy)
                || globs(&role.allowed_policies_glob, policy)
                || (default && !role.token_no_default_policy);
            let barred = role.disallowed_policies.contains(policy)
                || globs(&role.disallowed_policies_glob, policy)
                || (default && role.token_no_default_policy)
                || policy.is_root();
            (named || !listed) && !barred
        })
        .cloned()
        .collect();
    kept.sort();
    kept.dedup();
    kept
}

fn globs(globs: &[String], policy: &PolicyName) -> bool {
    globs.iter().any(|glob| matches(glob, policy.as_str()))
}

/// Whether `text` is of the form of `glob`, in which `*` stands for anything and nothing else is special.
fn matches(glob: &str, text: &str) -> bool {
    let Some((first, rest)) = glob.split_once('*') else {
        return glob == text;
    };
    let Some(mut left) = text.strip_prefix(first) else {
        return false;
    };
    let (middle, last) = rest.rsplit_once('*').unwrap_or(("", rest));
    for part in middle.split('*').filter(|part| !part.is_empty()) {
        match left.split_once(part) {
            Some((_, after)) => left = after,
            None => return false,
        }
    }
    left.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> Vec<PolicyName> {
        names
            .iter()
            .map(|name| PolicyName::parse(name).unwrap())
            .collect()
    }

    fn role() -> TokenRole {
        serde_json::from_str("{}").unwrap()
    }

    #[test]
    fn a_grant_has_at_most_the_policies_that_role_and_proof_agree_on() {
        let proven = names(&["default", "app", "ci-1", "adm", "root"]);
        let listed = TokenRole {
            allowed_policies: names(&["app", "root", "other"]),
            allowed_policies_glob: vec!["ci-*".into()],
            ..role()
        };
        assert_eq!(
            allowed(&listed, &proven),
            names(&["app", "ci-1", "default"])
        );
        let barred = TokenRole {
            disallowed_policies: names(&["app"]),
            disallowed_policies_glob: vec!["*-1".into()],
            token_no_default_policy: true,
            ..role()
        };
        assert_eq!(allowed(&barred, &proven), names(&["adm"]));
    }

    #[test]
    fn globs_match_anywhere_and_nothing_but_the_star_is_special() {
        for (glob, text, wanted) in [
            ("*", "", true),
            ("a*", "a", true),
            ("a*c", "abc", true),
            ("a*c", "ac", true),
            ("a*c", "abd", false),
            ("*b*", "abc", true),
            ("a*b*c", "axxbyyc", true),
            ("a*b*c", "axxc", false),
            ("ab*b", "ab", false),
            ("a?", "ab", false),
            ("a", "ab", false),
        ] {
            assert_eq!(matches(glob, text), wanted, "{glob} {text}");
        }
    }
}
