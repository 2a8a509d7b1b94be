//! Token roles (`auth/token/roles/:name`), as they are kept and as the primary shows them.

use alloc::{string::String, vec::Vec};

use serde::{Deserialize, Serialize};

use crate::{name::PolicyName, strict::present};

/// A token role (`auth/token/roles/:name`) as the primary keeps it.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct TokenRole {
    /// Policies that a token of this role may have; empty means that the other lists decide.
    pub allowed_policies: Vec<PolicyName>,
    /// The same, as globs.
    pub allowed_policies_glob: Vec<String>,
    /// Policies that it may never have.
    pub disallowed_policies: Vec<PolicyName>,
    /// The same, as globs.
    pub disallowed_policies_glob: Vec<String>,
    /// Whether its tokens have no parent.
    pub orphan: bool,
    /// What stands behind the role in the token's path.
    pub path_suffix: String,
    /// Whether its tokens may be renewed.
    pub renewable: bool,
    /// `service`, `batch`, `default-service` or `default-batch`.
    pub token_type: String,
    /// Seconds; 0 is none.
    pub token_period: u64,
    /// Seconds; 0 is none.
    pub token_explicit_max_ttl: u64,
    /// Whether `default` is left out.
    pub token_no_default_policy: bool,
    /// Uses of its tokens; 0 is unlimited.
    pub token_num_uses: u64,
    /// Addresses that its tokens may come from.
    pub token_bound_cidrs: Vec<String>,
    /// Entity aliases that may be asked for.
    pub allowed_entity_aliases: Vec<String>,
}

/// `data` of a role as `auth/token/roles/:name` shows it, in which lists may be null and old names stand beside new ones.
/// What the primary always shows must be there: a list that is missing would be taken for one that forbids nothing.
#[derive(Deserialize)]
pub struct ShownRole {
    /// As it was created.
    pub name: String,
    #[serde(deserialize_with = "present")]
    allowed_policies: Option<Vec<PolicyName>>,
    #[serde(deserialize_with = "present")]
    allowed_policies_glob: Option<Vec<String>>,
    #[serde(deserialize_with = "present")]
    disallowed_policies: Option<Vec<PolicyName>>,
    #[serde(deserialize_with = "present")]
    disallowed_policies_glob: Option<Vec<String>>,
    orphan: bool,
    path_suffix: String,
    renewable: bool,
    token_type: String,
    token_period: u64,
    #[serde(default)]
    period: u64,
    token_explicit_max_ttl: u64,
    #[serde(default)]
    explicit_max_ttl: u64,
    token_no_default_policy: bool,
    #[serde(default)]
    token_num_uses: u64,
    token_bound_cidrs: Option<Vec<String>>,
    bound_cidrs: Option<Vec<String>>,
    #[serde(deserialize_with = "present")]
    allowed_entity_aliases: Option<Vec<String>>,
}

impl From<ShownRole> for TokenRole {
    fn from(shown: ShownRole) -> Self {
        let cidrs = shown.token_bound_cidrs.or(shown.bound_cidrs);
        let set = |new, legacy| if new == 0 { legacy } else { new };
        Self {
            allowed_policies: shown.allowed_policies.unwrap_or_default(),
            allowed_policies_glob: shown.allowed_policies_glob.unwrap_or_default(),
            disallowed_policies: shown.disallowed_policies.unwrap_or_default(),
            disallowed_policies_glob: shown.disallowed_policies_glob.unwrap_or_default(),
            orphan: shown.orphan,
            path_suffix: shown.path_suffix,
            renewable: shown.renewable,
            token_type: shown.token_type,
            token_period: set(shown.token_period, shown.period),
            token_explicit_max_ttl: set(shown.token_explicit_max_ttl, shown.explicit_max_ttl),
            token_no_default_policy: shown.token_no_default_policy,
            token_num_uses: shown.token_num_uses,
            token_bound_cidrs: cidrs.unwrap_or_default(),
            allowed_entity_aliases: shown.allowed_entity_aliases.unwrap_or_default(),
        }
    }
}
