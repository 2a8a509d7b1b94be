//! Tokens as the primary knows them: what a look-up shows, token roles, and the arithmetic of TTLs.

use alloc::{collections::BTreeMap, string::String, vec::Vec};
use core::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{
    name::{EntityId, PolicyName},
    time::WallTime,
};

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
    #[serde(default)]
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
    /// RFC 3339, as shown at the last look-up; absent where none was. A grant's deadline decides, never this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expire_time: Option<String>,
    /// RFC 3339, as shown; absent from tokens that never had one.
    #[serde(default)]
    pub issue_time: Option<String>,
    /// RFC 3339, as shown.
    #[serde(default)]
    pub last_renewal: Option<String>,
    /// Unix seconds, as shown.
    #[serde(default)]
    pub last_renewal_time: Option<i64>,
    /// Whether it has no parent.
    pub orphan: bool,
    /// Seconds; 0 is none.
    #[serde(default)]
    pub period: u64,
    /// Whether it may be renewed.
    pub renewable: bool,
    /// The role that it was created with, where the primary shows one.
    #[serde(default)]
    pub role: Option<String>,
    /// Addresses that it may come from, in CIDR notation; empty is any.
    #[serde(default)]
    pub bound_cidrs: Vec<String>,
    /// Service or batch.
    pub kind: TokenKind,
}

impl TokenFacts {
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

/// A token role (`auth/token/roles/:name`) as the primary keeps it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct TokenRole {
    /// Policies that a token of this role may have; empty means that the other lists decide.
    #[serde(default)]
    pub allowed_policies: Vec<PolicyName>,
    /// The same, as globs.
    #[serde(default)]
    pub allowed_policies_glob: Vec<String>,
    /// Policies that it may never have.
    #[serde(default)]
    pub disallowed_policies: Vec<PolicyName>,
    /// The same, as globs.
    #[serde(default)]
    pub disallowed_policies_glob: Vec<String>,
    /// Whether its tokens have no parent.
    #[serde(default)]
    pub orphan: bool,
    /// What stands behind the role in the token's path.
    #[serde(default)]
    pub path_suffix: String,
    /// Whether its tokens may be renewed.
    #[serde(default)]
    pub renewable: bool,
    /// `service`, `batch`, `default-service` or `default-batch`.
    #[serde(default)]
    pub token_type: String,
    /// Seconds; 0 is none.
    #[serde(default)]
    pub token_period: u64,
    /// Seconds; 0 is none.
    #[serde(default)]
    pub token_explicit_max_ttl: u64,
    /// Whether `default` is left out.
    #[serde(default)]
    pub token_no_default_policy: bool,
    /// Uses of its tokens; 0 is unlimited.
    #[serde(default)]
    pub token_num_uses: u64,
    /// Addresses that its tokens may come from.
    #[serde(default)]
    pub token_bound_cidrs: Vec<String>,
    /// Entity aliases that may be asked for.
    #[serde(default)]
    pub allowed_entity_aliases: Vec<String>,
}

/// The limits that the TTL of a token or lease is calculated from. Zero means "not set", as at the primary.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct TtlLimits {
    /// The mount's or system's default.
    pub default: Duration,
    /// The mount's or system's maximum.
    pub max: Duration,
    /// What the backend (role) allows at most.
    pub backend_max: Duration,
    /// What the token may live at most, from issue.
    pub explicit_max: Duration,
    /// The period of a periodic token.
    pub period: Duration,
}

/// What was asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct TtlWanted {
    /// The increment of a renewal.
    pub increment: Duration,
    /// The TTL of the request or role.
    pub ttl: Duration,
}

/// The token has lived as long as it may.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("past the max TTL, cannot renew")]
pub struct PastMaxTtl;

/// The TTL that the primary would give now to what was issued at `issued`.
///
/// The rule is OpenBao's (`sdk/framework/lease.go:CalculateTTL`).
///
/// # Errors
/// If nothing is left of the maximum.
pub fn ttl(
    wanted: TtlWanted,
    limits: TtlLimits,
    issued: WallTime,
    now: WallTime,
) -> Result<Duration, PastMaxTtl> {
    let max = [limits.backend_max, limits.explicit_max]
        .into_iter()
        .filter(|bound| !bound.is_zero())
        .fold(limits.max, Duration::min);
    let (ttl, cap) = if limits.period.is_zero() {
        let asked = [wanted.increment, wanted.ttl]
            .into_iter()
            .find(|span| !span.is_zero());
        (asked.unwrap_or(limits.default), Some(issued.plus(max)))
    } else {
        let cap = (!limits.explicit_max.is_zero()).then(|| issued.plus(limits.explicit_max));
        (limits.period.min(max), cap)
    };
    let Some(cap) = cap else { return Ok(ttl) };
    let left = cap.since(now);
    if left.is_zero() {
        Err(PastMaxTtl)
    } else {
        Ok(ttl.min(left))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn secs(secs: u64) -> Duration {
        Duration::from_secs(secs)
    }

    const SYSTEM: TtlLimits = TtlLimits {
        default: secs(3600),
        max: secs(7200),
        backend_max: Duration::ZERO,
        explicit_max: Duration::ZERO,
        period: Duration::ZERO,
    };

    fn at(wanted: TtlWanted, limits: TtlLimits, age: u64) -> Result<Duration, PastMaxTtl> {
        let issued = WallTime::from_secs(1_000_000);
        ttl(wanted, limits, issued, issued.plus(secs(age)))
    }

    #[test]
    fn default_applies_where_nothing_is_asked() {
        assert_eq!(at(TtlWanted::default(), SYSTEM, 0), Ok(secs(3600)));
    }

    #[test]
    fn the_smallest_maximum_caps_from_issue() {
        let limits = TtlLimits {
            explicit_max: secs(600),
            backend_max: secs(900),
            ..SYSTEM
        };
        let wanted = TtlWanted {
            ttl: secs(5000),
            ..TtlWanted::default()
        };
        assert_eq!(at(wanted, limits, 0), Ok(secs(600)));
        assert_eq!(at(wanted, limits, 590), Ok(secs(10)));
        assert_eq!(at(wanted, limits, 600), Err(PastMaxTtl));
    }

    #[test]
    fn a_period_knows_no_cap_but_the_explicit_one() {
        let periodic = TtlLimits {
            period: secs(60),
            ..SYSTEM
        };
        assert_eq!(at(TtlWanted::default(), periodic, 1_000_000), Ok(secs(60)));
        let capped = TtlLimits {
            explicit_max: secs(100),
            ..periodic
        };
        assert_eq!(at(TtlWanted::default(), capped, 90), Ok(secs(10)));
    }

    #[test]
    fn an_increment_goes_before_the_ttl_and_may_shorten() {
        let wanted = TtlWanted {
            increment: secs(5),
            ttl: secs(500),
        };
        assert_eq!(at(wanted, SYSTEM, 0), Ok(secs(5)));
    }

    #[test]
    fn only_the_exact_form_is_a_replica_token() {
        let token = alloc::format!("ho.{}", "a".repeat(REPLICA_RANDOM));
        assert!(is_replica_token(&token));
        assert!(!is_replica_token(&(token.clone() + "b")));
        assert!(!is_replica_token(&token.replace('a', "-")));
        assert!(!is_replica_token("ho."));
    }
}
