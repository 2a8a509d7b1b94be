//! Every ACL policy of the namespace: one list with details, or a list and a read of each.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;
use shared::{
    change::{Change, PolicySet, PolicyText},
    name::PolicyName,
    strict::Unique,
    time::WallTime,
};

use super::AuthorityPass;
use crate::{
    mirror::names::names,
    upstream::{Request, Said, ShownReply, UpstreamError},
};

#[derive(Deserialize)]
struct PolicyDetails {
    key_info: Unique<PolicyName, PolicyShown>,
}

/// What has a default is not shown by every primary that has policies.
#[derive(Deserialize)]
struct PolicyShown {
    name: PolicyName,
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
        let policies = match self.ask(&request).await?.said()? {
            Said::Missing(_) => self.policies_one_by_one().await?,
            Said::No(no) if no.is_denial() || no.is_unsupported() => {
                self.policies_one_by_one().await?
            }
            Said::Shown(shown) => detailed(&shown)?,
            other => return Err(other.unfit()),
        };
        Ok(Change::Policies(Box::new(PolicySet {
            policies,
            verified_at: self.at,
        })))
    }

    async fn policies_one_by_one(&self) -> Result<BTreeMap<PolicyName, PolicyText>, UpstreamError> {
        let mut policies = BTreeMap::new();
        let list = Request::list("sys/policies/acl");
        let listing = self.ask(&list).await?.shown()?;
        for name in names(&listing)? {
            let name = PolicyName::parse(&name)
                .map_err(|_| listing.unexpected("a name in it that is none"))?;
            if name.is_root() {
                continue;
            }
            // Deleted, or expired, since it was listed: it contributes nothing.
            let Some(shown) = self.read(format!("sys/policies/acl/{name}")).await? else {
                continue;
            };
            let policy = text(&shown, &name, shown.data()?)?;
            policies.insert(name, policy);
        }
        match policies.is_empty() {
            true => Err(listing.unexpected("no policy in it")),
            false => Ok(policies),
        }
    }
}

/// The policies of a list with details, of which there is always one: `default` cannot be deleted.
fn detailed(shown: &ShownReply) -> Result<BTreeMap<PolicyName, PolicyText>, UpstreamError> {
    let details: PolicyDetails = shown.data()?;
    if details.key_info.0.is_empty() {
        return Err(shown.unexpected("no policy in it"));
    }
    let read = details.key_info.0.into_iter();
    read.map(|(name, policy)| {
        let policy = text(shown, &name, policy)?;
        Ok((name, policy))
    })
    .collect()
}

fn text(
    shown: &ShownReply,
    name: &PolicyName,
    policy: PolicyShown,
) -> Result<PolicyText, UpstreamError> {
    if policy.name != *name {
        return Err(shown.unexpected("a policy of another name"));
    }
    Ok(PolicyText {
        text: policy.policy,
        version: policy.version,
        allow_slashes: policy.allow_slashes_in_identity_templates,
        allow_wildcards: policy.allow_wildcards_in_identity_templates,
        expiration: expiration(policy.expiration.as_ref())
            .map_err(|()| shown.unexpected("a policy's expiration is not a time"))?,
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
