//! `data` of `auth/token/lookup*`, read once for everybody.

use alloc::{collections::BTreeMap, string::String, vec::Vec};
use core::time::Duration;

use serde::Deserialize;

use super::{TokenFacts, TokenKind};
use crate::{
    name::{EntityId, Namespace, PolicyName},
    strict::present,
};

/// What a look-up shows, as it is on the wire. Only what the primary itself leaves out of some look-ups may be missing:
/// what it always shows would be taken for none, and a token for one without an end.
#[derive(Deserialize)]
pub struct ShownToken {
    /// Empty for batch tokens.
    pub accessor: String,
    /// RFC 3339; null for tokens that do not end.
    #[serde(deserialize_with = "present")]
    pub expire_time: Option<String>,
    /// Uses left; 0 is unlimited, and less than nothing is told by [`ShownToken::is_over`].
    pub num_uses: i64,
    ttl: u64,
    external_namespace_policies: Option<BTreeMap<String, serde_json::Value>>,
    bound_cidrs: Option<Vec<String>>,
    creation_time: i64,
    creation_ttl: u64,
    display_name: String,
    entity_id: String,
    explicit_max_ttl: u64,
    identity_policies: Option<Vec<PolicyName>>,
    issue_time: Option<String>,
    last_renewal: Option<String>,
    last_renewal_time: Option<i64>,
    #[serde(deserialize_with = "present")]
    meta: Option<BTreeMap<String, String>>,
    /// Left out where it is the root namespace's.
    namespace_path: Option<String>,
    orphan: bool,
    path: String,
    #[serde(default)]
    period: u64,
    policies: Vec<PolicyName>,
    #[serde(default)]
    renewable: bool,
    role: Option<String>,
    #[serde(rename = "type")]
    kind: TokenKind,
}

impl ShownToken {
    /// What is left of it, in whole seconds; zero for tokens that do not end, too.
    pub fn ttl(&self) -> Duration {
        Duration::from_secs(self.ttl)
    }

    /// The namespace that it is of.
    pub fn namespace(&self) -> Namespace {
        Namespace::parse(self.namespace_path.as_deref().unwrap_or_default())
    }

    /// Whether it is being revoked, or has spent its last use: the primary takes it no more.
    pub fn is_over(&self) -> bool {
        self.num_uses < 0
    }

    /// Whether policies of other namespaces are in its identity, which are not mirrored.
    pub fn reaches_elsewhere(&self) -> bool {
        let elsewhere = self.external_namespace_policies.as_ref();
        elsewhere.is_some_and(|policies| !policies.is_empty())
    }

    /// What is kept of it.
    pub fn facts(self) -> TokenFacts {
        TokenFacts {
            policies: self.policies,
            identity_policies: self.identity_policies.unwrap_or_default(),
            entity_id: EntityId::parse(&self.entity_id).ok(),
            display_name: self.display_name,
            meta: self.meta,
            path: self.path,
            creation_time: self.creation_time,
            creation_ttl: self.creation_ttl,
            explicit_max_ttl: self.explicit_max_ttl,
            issue_time: self.issue_time,
            last_renewal: self.last_renewal,
            last_renewal_time: self.last_renewal_time,
            expire_time: self.expire_time,
            orphan: self.orphan,
            period: self.period,
            renewable: self.renewable,
            role: self.role,
            bound_cidrs: self.bound_cidrs.unwrap_or_default(),
            kind: self.kind,
        }
    }
}
