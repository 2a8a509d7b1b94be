//! `/v1/policy/missing`: the rules of `config policy` that the primary does not grant to Holdover's own token.

use http::StatusCode;

use super::{AdminReply, OwnControl};
use crate::{
    status::{MissingRules, RuleStatus},
    upstream::{UpstreamError, policy::PolicyRule},
};

/// Answers what is lacking, as the primary says it now.
pub(super) async fn missing(own: &dyn OwnControl) -> AdminReply {
    match own.missing_rules().await {
        Ok(rules) => AdminReply::ok(&MissingRules {
            missing: rules.iter().map(shown).collect(),
        }),
        Err(error) if error.is_denial() => AdminReply::error(
            StatusCode::BAD_GATEWAY,
            format!(
                "{error}: what is lacking cannot be asked; grant Holdover's own token update on sys/capabilities-self"
            ),
        ),
        Err(error @ UpstreamError::Offboarded(_)) => {
            AdminReply::error(StatusCode::BAD_GATEWAY, error)
        }
        Err(error) => AdminReply::error(
            StatusCode::BAD_GATEWAY,
            format!("the primary could not be asked what is lacking: {error}"),
        ),
    }
}

/// A rule as it is shown.
pub fn shown(rule: &PolicyRule) -> RuleStatus {
    RuleStatus {
        path: rule.path.clone(),
        capabilities: rule
            .capabilities
            .iter()
            .map(|name| (*name).to_owned())
            .collect(),
        why: rule.why.to_owned(),
    }
}
