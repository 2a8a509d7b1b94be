//! Token roles, and what is wrong with one that workloads are to get tokens from.

use serde::Deserialize;
use shared::{
    name::{PolicyName, RoleName},
    token::TokenRole,
};

use super::Cycle;
use crate::upstream::{Request, UpstreamError};

/// `data` of a role, in which lists may be null.
#[derive(Deserialize)]
struct Shown {
    #[serde(default)]
    allowed_policies: Option<Vec<PolicyName>>,
    #[serde(default)]
    allowed_policies_glob: Option<Vec<String>>,
    #[serde(default)]
    disallowed_policies: Option<Vec<PolicyName>>,
    #[serde(default)]
    disallowed_policies_glob: Option<Vec<String>>,
    #[serde(default)]
    orphan: bool,
    #[serde(default)]
    path_suffix: String,
    #[serde(default)]
    renewable: bool,
    #[serde(default)]
    token_type: String,
    #[serde(default)]
    token_period: u64,
    #[serde(default)]
    period: u64,
    #[serde(default)]
    token_explicit_max_ttl: u64,
    #[serde(default)]
    explicit_max_ttl: u64,
    #[serde(default)]
    token_no_default_policy: bool,
    #[serde(default)]
    token_num_uses: u64,
    #[serde(default)]
    token_bound_cidrs: Option<Vec<String>>,
    #[serde(default)]
    bound_cidrs: Option<Vec<String>>,
    #[serde(default)]
    allowed_entity_aliases: Option<Vec<String>>,
}

impl Cycle<'_> {
    /// The role, if there is one.
    pub(super) async fn role(&self, name: &RoleName) -> Result<Option<TokenRole>, UpstreamError> {
        let request = Request::read(format!("auth/token/roles/{name}"));
        let reply = self.mirrors.0.upstream.ask(&request, self.urgency).await?;
        if reply.status() == 404 {
            return Ok(None);
        }
        Ok(Some(role(reply.success()?.data()?)))
    }
}

/// What keeps workloads from getting tokens of this role; each names the field. Empty if nothing does.
pub(super) fn problems(name: &RoleName, role: &TokenRole) -> Vec<String> {
    let service = matches!(role.token_type.as_str(), "service" | "default-service");
    let wrong = [
        (
            !role.orphan,
            "orphan must be true: its tokens would die with Holdover's own",
        ),
        (!service, "token_type must be service or default-service"),
        (
            role.token_period != 0,
            "token_period must be 0: its tokens would have no end",
        ),
        (
            role.allowed_policies.is_empty(),
            "allowed_policies must be set: what its tokens may do would hang on who asks",
        ),
        (
            role.token_num_uses != 0,
            "token_num_uses must be 0: uses cannot be counted in an outage",
        ),
        (
            !role.token_bound_cidrs.is_empty(),
            "token_bound_cidrs must be empty: a Unix socket's peer has no address",
        ),
    ];
    let found = wrong.into_iter().filter(|(wrong, _)| *wrong);
    found
        .map(|(_, what)| format!("token role {name}: {what}"))
        .collect()
}

fn role(shown: Shown) -> TokenRole {
    let cidrs = shown.token_bound_cidrs.or(shown.bound_cidrs);
    TokenRole {
        allowed_policies: shown.allowed_policies.unwrap_or_default(),
        allowed_policies_glob: shown.allowed_policies_glob.unwrap_or_default(),
        disallowed_policies: shown.disallowed_policies.unwrap_or_default(),
        disallowed_policies_glob: shown.disallowed_policies_glob.unwrap_or_default(),
        orphan: shown.orphan,
        path_suffix: shown.path_suffix,
        renewable: shown.renewable,
        token_type: shown.token_type,
        token_period: shown.token_period.max(shown.period),
        token_explicit_max_ttl: match (shown.token_explicit_max_ttl, shown.explicit_max_ttl) {
            (0, legacy) => legacy,
            (set, _) => set,
        },
        token_no_default_policy: shown.token_no_default_policy,
        token_num_uses: shown.token_num_uses,
        token_bound_cidrs: cidrs.unwrap_or_default(),
        allowed_entity_aliases: shown.allowed_entity_aliases.unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> TokenRole {
        role(serde_json::from_str(text).unwrap())
    }

    const GOOD: &str = r#"{"allowed_policies":["orders"],"orphan":true,"token_type":"default-service",
        "allowed_entity_aliases":null,"token_period":0}"#;

    #[test]
    fn a_role_as_the_manual_asks_for_has_no_problems() {
        let name = RoleName::parse("orders").unwrap();
        assert!(problems(&name, &shown(GOOD)).is_empty());
    }

    #[test]
    fn each_problem_names_its_field() {
        let name = RoleName::parse("orders").unwrap();
        for (from, to, field) in [
            ("\"orphan\":true", "\"orphan\":false", "orphan"),
            ("default-service", "default-batch", "token_type"),
            ("\"token_period\":0", "\"token_period\":60", "token_period"),
            ("\"token_period\":0", "\"period\":60", "token_period"),
            ("[\"orders\"]", "[]", "allowed_policies"),
            (
                "\"token_period\":0",
                "\"token_num_uses\":3",
                "token_num_uses",
            ),
            (
                "\"token_period\":0",
                "\"bound_cidrs\":[\"10.0.0.0/8\"]",
                "token_bound_cidrs",
            ),
        ] {
            let found = problems(&name, &shown(&GOOD.replace(from, to)));
            assert_eq!(found.len(), 1, "{field}: {found:?}");
            assert!(
                found[0].starts_with(&format!("token role orders: {field} ")),
                "{found:?}"
            );
        }
    }
}
