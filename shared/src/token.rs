//! Tokens as the primary knows them: what a look-up shows, what roles make of them, how they are created, and the
//! arithmetic of TTLs.

use alloc::{
    collections::BTreeMap,
    string::{String, ToString},
    vec::Vec,
};

use serde::{Deserialize, Serialize};

use crate::{
    name::{EntityId, Namespace, PolicyName},
    time::WallTime,
};

pub mod create;
pub mod look_up;
pub mod policies;
pub mod role;
pub mod ttl;

/// The prefix of tokens minted by the replica.
pub const REPLICA_PREFIX: &str = "ho.";

/// Random characters after [`REPLICA_PREFIX`]: 43 of base62 hold 256 bits.
pub const REPLICA_RANDOM: usize = 43;

/// Whether `text` has the form of a replica token: the prefix and exactly [`REPLICA_RANDOM`] base62 characters.
pub fn is_replica_token(text: &str) -> bool {
    text.strip_prefix(REPLICA_PREFIX).is_some_and(|random| {
        random.len() == REPLICA_RANDOM && random.bytes().all(|b| b.is_ascii_alphanumeric())
    })
}

/// Prefixes that say of what kind a token is, the primary's and the replica's.
const PREFIXES: [&str; 7] = ["b.", "ho.", "hvb.", "hvr.", "hvs.", "r.", "s."];

/// Whether `token` can be one of `namespace`: outside of the root a token ends with a dot and its namespace's id, of which
/// only look-ups tell whose it is.
pub fn may_be_of(token: &str, namespace: &Namespace) -> bool {
    let random = PREFIXES
        .iter()
        .find_map(|prefix| token.strip_prefix(prefix));
    let has_id = random.unwrap_or(token).contains('.');
    has_id != namespace.as_str().is_empty() || token.starts_with(REPLICA_PREFIX)
}

/// The two kinds of token that live longer than a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TokenKind {
    /// Self-contained, not renewable, not revocable by itself.
    Batch,
    /// Kept by the primary, renewable, revocable.
    Service,
}

/// What `auth/token/lookup` shows of a token, without the token, its accessor and its remaining TTL.
///
/// Texts of times are kept as the primary wrote them, so that they can be shown as it showed them.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct TokenFacts {
    /// Policies of the token itself.
    pub policies: Vec<PolicyName>,
    /// Policies that its entity and groups add.
    #[serde(default)]
    pub identity_policies: Vec<PolicyName>,
    /// The entity that it belongs to.
    pub entity_id: Option<EntityId>,
    /// As shown.
    pub display_name: String,
    /// As shown; `null` and empty differ on the wire.
    pub meta: Option<BTreeMap<String, String>>,
    /// The path that created it.
    pub path: String,
    /// Unix seconds.
    pub creation_time: i64,
    /// Seconds.
    pub creation_ttl: u64,
    /// Seconds; 0 is none.
    pub explicit_max_ttl: u64,
    /// RFC 3339, as shown; absent from tokens that never had one.
    pub issue_time: Option<String>,
    /// RFC 3339, as shown.
    pub last_renewal: Option<String>,
    /// Unix seconds, as shown.
    pub last_renewal_time: Option<i64>,
    /// RFC 3339, as shown; absent until a look-up showed it, and after a renewal until the next one does.
    pub expire_time: Option<String>,
    /// Whether it has no parent.
    pub orphan: bool,
    /// Seconds; 0 is none.
    #[serde(default)]
    pub period: u64,
    /// Whether it may be renewed.
    pub renewable: bool,
    /// The role that it was created with, where the primary shows one.
    pub role: Option<String>,
    /// Addresses that it may come from, in CIDR notation; empty is any.
    #[serde(default)]
    pub bound_cidrs: Vec<String>,
    /// Service or batch.
    pub kind: TokenKind,
}

impl TokenFacts {
    /// What its texts take, in bytes, about.
    pub fn size(&self) -> usize {
        let policies = self.policies.iter().chain(&self.identity_policies);
        let policies: usize = policies.map(|policy| policy.as_str().len()).sum();
        let meta = self.meta.iter().flatten();
        let meta: usize = meta.map(|(name, text)| name.len() + text.len()).sum();
        let bound: usize = self.bound_cidrs.iter().map(String::len).sum();
        policies + meta + bound + self.display_name.len() + self.path.len()
    }

    /// A token of which nothing but its kind is said: no policy, no time, no right.
    pub fn new(kind: TokenKind) -> Self {
        Self {
            policies: Vec::new(),
            identity_policies: Vec::new(),
            entity_id: None,
            display_name: String::new(),
            meta: None,
            path: String::new(),
            creation_time: 0,
            creation_ttl: 0,
            explicit_max_ttl: 0,
            issue_time: None,
            last_renewal: None,
            last_renewal_time: None,
            expire_time: None,
            orphan: false,
            period: 0,
            renewable: false,
            role: None,
            bound_cidrs: Vec::new(),
            kind,
        }
    }

    /// A token with these policies of its own that was minted `at` for `ttl` seconds.
    pub fn minted(kind: TokenKind, policies: Vec<PolicyName>, ttl: u64, at: WallTime) -> Self {
        Self {
            policies,
            creation_time: at.as_secs(),
            creation_ttl: ttl,
            issue_time: Some(at.to_string()),
            ..Self::new(kind)
        }
    }

    /// Every policy that the token carries, its own and its identity's, sorted, each once.
    pub fn all_policies(&self) -> Vec<&PolicyName> {
        let mut all: Vec<_> = self
            .policies
            .iter()
            .chain(&self.identity_policies)
            .collect();
        all.sort();
        all.dedup();
        all
    }

    /// Whether it is a root token, which is never learned and never issued.
    pub fn is_root(&self) -> bool {
        self.all_policies().iter().any(|policy| policy.is_root())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_exact_form_is_a_replica_token() {
        let token = alloc::format!("ho.{}", "a".repeat(REPLICA_RANDOM));
        assert!(is_replica_token(&token));
        assert!(!is_replica_token(&(token.clone() + "b")));
        assert!(!is_replica_token(&token.replace('a', "-")));
        assert!(!is_replica_token("ho."));
    }

    #[test]
    fn a_token_shows_whether_it_can_be_of_a_namespace() {
        let (root, team) = (Namespace::default(), Namespace::parse("team"));
        for token in [
            "s.8ORoHIjGZBMJl5xvOgar7oXN",
            "hvs.CAESIJ",
            "b.AAAAAQLVRxOj",
            "chosen-by-root",
        ] {
            assert!(may_be_of(token, &root), "{token}");
            assert!(!may_be_of(token, &team), "{token}");
        }
        for token in [
            "s.8ORoHIjGZBMJl5xvOgar7oXN.M9aSHx",
            "b.AAAAAQLVRxOj.M9aSHx",
            "hvs.CAESIJ.M9aSHx",
        ] {
            assert!(!may_be_of(token, &root), "{token}");
            assert!(may_be_of(token, &team), "{token}");
        }
        let replicas = "ho.8ORoHIjGZBMJl5xvOgar7oXN";
        assert!(may_be_of(replicas, &root) && may_be_of(replicas, &team));
    }
}
