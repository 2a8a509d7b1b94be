//! Every ACL policy of the namespace: one list with details, or a list and a read of each.
//!
//! One that cannot be read keeps what is known of it, and its age; the others do not wait for it.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Value, value::RawValue};
use shared::{
    change::{Change, PolicySet, PolicyText},
    name::PolicyName,
    strict::Unique,
    time::WallTime,
};

use super::AuthorityPass;
use crate::{
    mirror::{names::names, read::is_cut_off, status::UnreadPaths},
    upstream::{Request, Said, ShownReply, UpstreamError},
};

/// What policies read one by one may take in all: as much as a list of them with details. What is beyond is undecidable.
pub(in crate::mirror) const MOST_POLICY_BYTES: u64 = 64 << 20;

/// Each entry is read by itself: what is wrong with one is no fault of the others.
#[derive(Deserialize)]
struct PolicyDetails<'a> {
    #[serde(borrow)]
    key_info: Unique<PolicyName, &'a RawValue>,
}

/// What could be read, and what could not.
#[derive(Default)]
struct PoliciesRead {
    policies: BTreeMap<PolicyName, PolicyText>,
    /// What their names and texts take.
    bytes: u64,
    unread: Vec<(PolicyName, UpstreamError)>,
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
    ///
    /// # Errors
    /// If none of them could be read.
    pub(super) async fn policies(&self) -> Result<Change, UpstreamError> {
        let request = Request::list("sys/policies/detailed/acl");
        let read = match self.ask(&request).await?.said()? {
            Said::Missing(_) => self.policies_one_by_one().await?,
            Said::No(no) if no.is_denial() && !no.is_of_token() || no.is_unsupported() => {
                self.policies_one_by_one().await?
            }
            Said::Shown(shown) => detailed(&shown)?,
            other => return Err(other.unfit()),
        };
        self.note_unread(&read.unread);
        let (policies, unread) = read.or_failed()?;
        let set = PolicySet {
            policies,
            unread: BTreeMap::new(),
            verified_at: self.at,
        };
        let authority = self.context.local.view.authority();
        let known = authority.policies.as_ref().map(|known| &known.set);
        Ok(Change::Policies(Box::new(set.without(unread, known))))
    }

    fn note_unread(&self, all: &[(PolicyName, UpstreamError)]) {
        let mut unread = UnreadPaths::default();
        for (name, error) in all {
            tracing::warn!(%error, policy = %name, "a policy could not be read");
            unread.add(format!("sys/policies/acl/{name}"), error);
        }
        self.context.note("policies", unread);
    }

    async fn policies_one_by_one(&self) -> Result<PoliciesRead, UpstreamError> {
        let mut read = PoliciesRead::default();
        let list = Request::list("sys/policies/acl");
        let listing = self.ask(&list).await?.shown()?;
        for name in names(&listing)? {
            let name = PolicyName::parse(&name)
                .map_err(|_| listing.unexpected("a name in it that is none"))?;
            if name.is_root() {
                continue;
            }
            let policy = match read.bytes < MOST_POLICY_BYTES {
                true => self.policy(&name).await,
                false => Err(listing.unexpected("more policies than there is room for")),
            };
            read.add(name, policy)?;
        }
        match read.is_empty() {
            true => Err(listing.unexpected("no policy in it")),
            false => Ok(read),
        }
    }

    /// One policy; none if it was deleted, or expired, since it was listed: it contributes nothing.
    pub(super) async fn policy(
        &self,
        name: &PolicyName,
    ) -> Result<Option<PolicyText>, UpstreamError> {
        let shown = self.read(format!("sys/policies/acl/{name}")).await?;
        let text = |shown: ShownReply| text(&shown, name, shown.data()?);
        shown.map(text).transpose()
    }
}

impl PoliciesRead {
    /// # Errors
    /// If what went wrong is not about this one alone.
    fn add(
        &mut self,
        name: PolicyName,
        read: Result<Option<PolicyText>, UpstreamError>,
    ) -> Result<(), UpstreamError> {
        match read {
            Ok(Some(policy)) => {
                self.bytes += size(&name, &policy);
                self.policies.insert(name, policy);
            }
            Ok(None) => {}
            Err(error) if is_cut_off(&error) => return Err(error),
            Err(error) => self.unread.push((name, error)),
        }
        Ok(())
    }

    fn is_empty(&self) -> bool {
        self.policies.is_empty() && self.unread.is_empty()
    }

    /// What was read, and the names of what was not.
    ///
    /// # Errors
    /// If that is all: the first error.
    fn or_failed(
        self,
    ) -> Result<(BTreeMap<PolicyName, PolicyText>, Vec<PolicyName>), UpstreamError> {
        let (names, errors): (Vec<_>, Vec<_>) = self.unread.into_iter().unzip();
        match errors.into_iter().next() {
            Some(error) if self.policies.is_empty() => Err(error),
            _ => Ok((self.policies, names)),
        }
    }
}

/// What policies take.
pub(in crate::mirror) fn policy_bytes(policies: &BTreeMap<PolicyName, PolicyText>) -> u64 {
    policies
        .iter()
        .map(|(name, policy)| size(name, policy))
        .sum()
}

fn size(name: &PolicyName, policy: &PolicyText) -> u64 {
    (name.as_str().len() + policy.text.len()) as u64
}

/// The policies of a list with details, of which there is always one: `default` cannot be deleted.
fn detailed(shown: &ShownReply) -> Result<PoliciesRead, UpstreamError> {
    let details: PolicyDetails<'_> = shown.data()?;
    let mut read = PoliciesRead::default();
    for (name, entry) in details.key_info.0 {
        let policy = serde_json::from_str(entry.get());
        let policy = policy.map_err(|_| shown.unexpected(format!("{name} in it is no policy")));
        let policy = policy.and_then(|policy| text(shown, &name, policy));
        read.add(name, policy.map(Some))?;
    }
    match read.is_empty() {
        true => Err(shown.unexpected("no policy in it")),
        false => Ok(read),
    }
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
