//! Token roles, and what is wrong with one that workloads are to get tokens from.

use shared::{
    name::RoleName,
    token::role::{ShownRole, TokenRole},
};

use super::AuthorityPass;
use crate::upstream::UpstreamError;

impl AuthorityPass<'_> {
    /// The role, if there is one.
    pub(super) async fn role(&self, name: &RoleName) -> Result<Option<TokenRole>, UpstreamError> {
        let Some(shown) = self.read(format!("auth/token/roles/{name}")).await? else {
            return Ok(None);
        };
        let role: ShownRole = shown.data()?;
        match role.name.eq_ignore_ascii_case(name.as_str()) {
            true => Ok(Some(role.into())),
            false => Err(shown.unexpected("it is of another role")),
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> TokenRole {
        serde_json::from_str::<ShownRole>(text).unwrap().into()
    }

    const GOOD: &str = r#"{"allowed_policies":["orders"],"orphan":true,"token_type":"default-service","token_period":0,
        "allowed_entity_aliases":null,"allowed_policies_glob":[],"disallowed_policies":[],"disallowed_policies_glob":[],
        "name":"orders","path_suffix":"","renewable":true,"token_explicit_max_ttl":0,"token_no_default_policy":false}"#;

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
            (
                "\"token_period\":0",
                "\"token_period\":0,\"period\":60",
                "token_period",
            ),
            ("[\"orders\"]", "[]", "allowed_policies"),
            (
                "\"orphan\"",
                "\"token_num_uses\":3,\"orphan\"",
                "token_num_uses",
            ),
            (
                "\"orphan\"",
                "\"bound_cidrs\":[\"10.0.0.0/8\"],\"orphan\"",
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
