//! Every ACL policy of the namespace: one list with details, or a list and a read of each.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;
use shared::{
    change::{Change, PolicySet, PolicyText},
    name::PolicyName,
    time::WallTime,
};

use super::AuthorityPass;
use crate::{
    mirror::names::NameList,
    upstream::{Reply, Request, UpstreamError},
};

#[derive(Deserialize)]
struct PolicyDetails {
    #[serde(default)]
    key_info: BTreeMap<PolicyName, PolicyShown>,
}

#[derive(Deserialize)]
struct PolicyShown {
    #[serde(default)]
    policy: String,
    #[serde(default)]
    version: u64,
    #[serde(default)]
    allow_slashes_in_identity_templates: bool,
    #[serde(default)]
    allow_wildcards_in_identity_templates: bool,
    #[serde(default)]
    expiration: Option<Value>,
}

impl AuthorityPass<'_> {
    /// The policies that exist, as of now.
    pub(super) async fn policies(&self) -> Result<Change, UpstreamError> {
        let request = Request::list("sys/policies/detailed/acl");
        let reply = self.ask(&request).await?;
        let policies = match reply.status() {
            403..=405 => self.policies_one_by_one().await?,
            _ => {
                let reply = reply.success()?;
                let detailed: PolicyDetails = reply.data()?;
                let read = detailed.key_info.into_iter();
                read.map(|(name, shown)| Ok((name, text(&reply, shown)?)))
                    .collect::<Result<_, UpstreamError>>()?
            }
        };
        Ok(Change::Policies(Box::new(PolicySet {
            policies,
            verified_at: self.at,
        })))
    }

    async fn policies_one_by_one(&self) -> Result<BTreeMap<PolicyName, PolicyText>, UpstreamError> {
        let mut policies = BTreeMap::new();
        let list = Request::list("sys/policies/acl");
        let names: NameList<PolicyName> = self.ask(&list).await?.success()?.data()?;
        for name in names.keys.into_iter().filter(|name| !name.is_root()) {
            // Deleted, or expired, since it was listed: it contributes nothing.
            let Some(reply) = self.read(format!("sys/policies/acl/{name}")).await? else {
                continue;
            };
            policies.insert(name, text(&reply, reply.data()?)?);
        }
        Ok(policies)
    }
}

fn text(reply: &Reply, shown: PolicyShown) -> Result<PolicyText, UpstreamError> {
    Ok(PolicyText {
        text: shown.policy,
        version: shown.version,
        allow_slashes: shown.allow_slashes_in_identity_templates,
        allow_wildcards: shown.allow_wildcards_in_identity_templates,
        expiration: expiration(shown.expiration.as_ref())
            .map_err(|()| reply.unexpected("a policy's expiration is not a time"))?,
    })
}

/// RFC 3339 or Unix seconds; an expiration that cannot be read is not taken for none.
fn expiration(value: Option<&Value>) -> Result<Option<WallTime>, ()> {
    match value {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) if text.is_empty() => Ok(None),
        Some(Value::String(text)) => WallTime::parse_rfc3339(text).map(Some).ok_or(()),
        Some(value) => value.as_i64().map(WallTime::from_secs).map(Some).ok_or(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_expiration_is_read_in_both_forms_or_refused() {
        let at = Some(WallTime::from_secs(1_800_000_000));
        assert_eq!(expiration(Some(&json!("2027-01-15T08:00:00Z"))), Ok(at));
        assert_eq!(expiration(Some(&json!(1_800_000_000))), Ok(at));
        assert_eq!(expiration(None), Ok(None));
        assert_eq!(expiration(Some(&json!("soon"))), Err(()));
        assert_eq!(expiration(Some(&json!([]))), Err(()));
    }
}
