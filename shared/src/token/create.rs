//! Creating a token: what the primary would make of a request, or why it would refuse.
//!
//! The rules and their order are OpenBao's (`internal/vault/token_store.go:handleCreateCommon`). What is not modelled is
//! said only where the primary would not have refused.

use alloc::{
    borrow::ToOwned,
    collections::BTreeMap,
    format,
    string::{String, ToString},
    vec::Vec,
};
use core::time::Duration;

use super::{
    policies::{self, PoliciesWanted, PolicyChoiceError},
    role::TokenRole,
    ttl::{TtlLimits, TtlWanted, ttl},
};
use crate::{
    name::{PolicyName, RoleName},
    span::go::{self, SpanError},
    time::WallTime,
};

/// The fields of a request that creates a token, by their names on the wire. Absent ones have the primary's defaults.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct TokenRequest {
    /// `policies`.
    pub policies: Vec<String>,
    /// `no_default_policy`.
    pub no_default_policy: bool,
    /// `no_parent`.
    pub no_parent: bool,
    /// `renewable`, which is true unless it is said.
    pub not_renewable: bool,
    /// `ttl`, as sent.
    pub ttl: String,
    /// `lease`, the old name of `ttl`.
    pub lease: String,
    /// `explicit_max_ttl`, as sent.
    pub explicit_max_ttl: String,
    /// `period`, as sent.
    pub period: String,
    /// `num_uses`.
    pub num_uses: i64,
    /// `type`.
    pub kind: String,
    /// `display_name`.
    pub display_name: String,
    /// `meta`; `null` and empty differ on the wire.
    pub meta: Option<BTreeMap<String, String>>,
    /// `entity_alias`.
    pub entity_alias: String,
    /// `id`.
    pub id: String,
}

/// How a token is created.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Through<'a> {
    /// `auth/token/create`.
    Create,
    /// `auth/token/create-orphan`.
    Orphan,
    /// `auth/token/create/:role`.
    Role(&'a RoleName, &'a TokenRole),
}

/// The token that creates another: a service token with unlimited uses.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Creator<'a> {
    /// Its own policies, without those of its identity.
    pub policies: &'a [PolicyName],
    /// Whether it has sudo on the very path.
    pub sudo: bool,
}

/// A token as the primary would make it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Made {
    /// Sorted, each once.
    pub policies: Vec<String>,
    /// Whether it has no parent, and with it none of the parent's identity.
    pub orphan: bool,
    /// Whether it may be renewed.
    pub renewable: bool,
    /// As a look-up shows it.
    pub display_name: String,
    /// As a look-up shows it.
    pub path: String,
    /// As a look-up shows it: what the request said, whatever the role says.
    pub explicit_max_ttl: Duration,
    /// How long it lives until its first renewal.
    pub ttl: Duration,
    /// How long renewals may make it live, from issue.
    pub longest: Duration,
    /// What the primary warns of, in its words and order.
    pub warnings: Vec<String>,
}

/// Why no token is made.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum CreateError {
    /// The primary refuses, in these words.
    #[error("{0}")]
    Refused(String),
    /// The primary makes a token that is not modelled here.
    #[error(transparent)]
    Unmodelled(#[from] Unmodelled),
}

/// Tokens that are not modelled.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Unmodelled {
    /// Sealed by a key that only the primary has.
    #[error("batch tokens are made by the primary alone")]
    Batch,
    /// A Unix socket's peer has no address.
    #[error("tokens bound to addresses are not issued in an outage")]
    BoundAddresses,
    /// The entity may have to be made.
    #[error("entity_alias is resolved by the primary alone")]
    EntityAlias,
    /// Its string would not be a replica token's.
    #[error("the id of a token cannot be chosen in an outage")]
    Id,
    /// Uses can be counted in one place only.
    #[error("tokens with a limited number of uses are not issued in an outage")]
    LimitedUses,
    /// It would have no end.
    #[error("periodic tokens are not issued in an outage")]
    Period,
}

impl From<PolicyChoiceError> for CreateError {
    fn from(error: PolicyChoiceError) -> Self {
        Self::Refused(error.to_string())
    }
}

impl From<SpanError> for CreateError {
    fn from(error: SpanError) -> Self {
        Self::Refused(error.to_string())
    }
}

fn refused<T>(text: &str) -> Result<T, CreateError> {
    Err(CreateError::Refused(text.to_owned()))
}

/// What the primary would make of `asked` at `now`, on a mount with these `limits`.
///
/// # Errors
/// [`CreateError`].
pub fn create(
    asked: &TokenRequest,
    creator: Creator<'_>,
    through: Through<'_>,
    mount: TtlLimits,
    now: WallTime,
) -> Result<Made, CreateError> {
    let role = through.role();
    let mut unmodelled = kind(asked, role)?;
    if asked.num_uses < 0 {
        return refused("number of uses cannot be negative");
    }
    let limited = asked.num_uses > 0 || role.is_some_and(|role| role.token_num_uses > 0);
    unmodelled = unmodelled.or(limited.then_some(Unmodelled::LimitedUses));
    unmodelled = unmodelled.or(alias(asked, role)?);
    if !asked.id.is_empty() {
        if !creator.sudo {
            return refused("root or sudo privileges required to specify token id");
        }
        unmodelled = unmodelled.or(Some(Unmodelled::Id));
    }
    let wanted = PoliciesWanted {
        policies: &asked.policies,
        no_default: asked.no_default_policy,
    };
    let policies = policies::resolve(role, wanted, creator.policies, creator.sudo)?;
    if role.is_none() && asked.no_parent && !creator.sudo {
        return refused("root or sudo privileges required to create orphan token");
    }
    let bound = role.is_some_and(|role| !role.token_bound_cidrs.is_empty());
    unmodelled = unmodelled.or(bound.then_some(Unmodelled::BoundAddresses));
    let spans = Spans::read(asked, creator.sudo)?;
    let periodic = !spans.period.is_zero() || role.is_some_and(|role| role.token_period > 0);
    unmodelled = unmodelled.or(periodic.then_some(Unmodelled::Period));
    if let Some(unmodelled) = unmodelled {
        return Err(unmodelled.into());
    }
    spans.made(asked, through, policies, mount, now)
}

/// As a look-up shows a `display_name` that was asked for.
pub fn display_name(asked: &str) -> String {
    if asked.is_empty() {
        return "token".to_owned();
    }
    let plain = |c: char| if c.is_ascii_alphanumeric() { c } else { '-' };
    let full: String = format!("token-{asked}").chars().map(plain).collect();
    full.strip_suffix('-').unwrap_or(&full).to_owned()
}

impl<'a> Through<'a> {
    fn role(self) -> Option<&'a TokenRole> {
        match self {
            Self::Create | Self::Orphan => None,
            Self::Role(_, role) => Some(role),
        }
    }

    /// As a look-up shows it.
    fn path(self) -> String {
        match self {
            Self::Create => "auth/token/create".to_owned(),
            Self::Orphan => "auth/token/create-orphan".to_owned(),
            Self::Role(name, role) if role.path_suffix.is_empty() => {
                format!("auth/token/create/{name}")
            }
            Self::Role(name, role) => format!("auth/token/create/{name}/{}", role.path_suffix),
        }
    }

    fn is_orphan(self, asked: &TokenRequest) -> bool {
        match self {
            Self::Create => asked.no_parent,
            Self::Orphan => true,
            Self::Role(_, role) => role.orphan,
        }
    }
}

/// A role's type goes before the request's, unless it is a default.
fn kind(asked: &TokenRequest, role: Option<&TokenRole>) -> Result<Option<Unmodelled>, CreateError> {
    let of_role = role.map_or("", |role| role.token_type.as_str());
    let kind = match (of_role, asked.kind.as_str()) {
        ("service" | "batch", _) => of_role,
        ("default-batch", "") => "batch",
        (_, asked) => asked,
    };
    match kind {
        "" | "service" => Ok(None),
        "batch" => {
            let not_zero = |name: &str, text: &str| match go::parse(text) {
                Ok(given) => Ok(!given.span.is_zero()),
                Err(_) => refused(&format!("'{name}' value could not be parsed")),
            };
            // The first that is there is the only one that is looked at.
            let bad = if !asked.explicit_max_ttl.is_empty() {
                not_zero("explicit_max_ttl", &asked.explicit_max_ttl)?.then_some("explicit_max_ttl")
            } else if asked.num_uses != 0 {
                Some("num_uses")
            } else if !asked.period.is_empty() {
                not_zero("period", &asked.period)?.then_some("period")
            } else {
                None
            };
            match bad {
                Some(bad) => refused(&format!("batch tokens cannot have {bad:?} set")),
                None => Ok(Some(Unmodelled::Batch)),
            }
        }
        _ => refused("invalid 'token_type' value"),
    }
}

fn alias(
    asked: &TokenRequest,
    role: Option<&TokenRole>,
) -> Result<Option<Unmodelled>, CreateError> {
    if asked.entity_alias.is_empty() {
        return Ok(None);
    }
    let Some(role) = role else {
        return refused("'entity_alias' is only allowed in combination with token role");
    };
    let alias = asked.entity_alias.to_lowercase();
    let mut allowed = role.allowed_entity_aliases.iter();
    if allowed.any(|glob| policies::matches(glob, &alias)) {
        Ok(Some(Unmodelled::EntityAlias))
    } else {
        refused("invalid 'entity_alias' value")
    }
}

/// The spans of a request, read in the primary's order.
struct Spans {
    explicit_max: Duration,
    period: Duration,
    ttl: Duration,
}

impl Spans {
    fn read(asked: &TokenRequest, sudo: bool) -> Result<Self, CreateError> {
        let positive = |name: &str, text: &str| {
            let given = go::parse(text)?;
            match given.negative {
                true => refused(&format!("{name} must be positive")),
                false => Ok(given.span),
            }
        };
        let explicit_max = positive("explicit_max_ttl", &asked.explicit_max_ttl)?;
        let period = positive("period", &asked.period)?;
        if !period.is_zero() && !sudo {
            return refused("root or sudo privileges required to create periodic token");
        }
        let ttl = match asked.ttl.as_str() {
            "" => positive("lease", &asked.lease)?,
            text => positive("ttl", text)?,
        };
        Ok(Self {
            explicit_max,
            period,
            ttl,
        })
    }

    fn made(
        &self,
        asked: &TokenRequest,
        through: Through<'_>,
        policies: Vec<String>,
        mount: TtlLimits,
        now: WallTime,
    ) -> Result<Made, CreateError> {
        let mut warnings = Vec::new();
        let role = through.role();
        let role_max = role.map(|role| Duration::from_secs(role.token_explicit_max_ttl));
        let mut explicit_max = self.explicit_max;
        if let Some(role_max) = role_max.filter(|max| !max.is_zero()) {
            if explicit_max.is_zero() {
                explicit_max = role_max;
            } else {
                explicit_max = explicit_max.min(role_max);
                warnings.push(format!(
                    "Explicit max TTL specified both during creation call and in role; using the lesser value of {} \
                     seconds",
                    explicit_max.as_secs()
                ));
            }
        }
        let limits = TtlLimits {
            explicit_max,
            ..mount
        };
        let wanted = TtlWanted {
            increment: Duration::ZERO,
            ttl: self.ttl,
        };
        let given = ttl(wanted, limits, now, now)
            .map_err(|error| CreateError::Refused(error.to_string()))?;
        warnings.extend(given.warning);
        Ok(Made {
            policies,
            orphan: through.is_orphan(asked),
            renewable: !asked.not_renewable && role.is_none_or(|role| role.renewable),
            display_name: display_name(&asked.display_name),
            path: through.path(),
            explicit_max_ttl: self.explicit_max,
            ttl: given.ttl,
            longest: renewal_limits(role, self.explicit_max, mount).longest(),
            warnings,
        })
    }
}

/// The limits of a renewal. A token that was made through a role follows the role as it is then, and what its request
/// said of an explicit maximum no longer counts.
///
/// The rule is OpenBao's (`internal/vault/token_store.go:authRenew`).
pub fn renewal_limits(
    role: Option<&TokenRole>,
    explicit_max: Duration,
    mount: TtlLimits,
) -> TtlLimits {
    match role {
        Some(role) => TtlLimits {
            explicit_max: Duration::from_secs(role.token_explicit_max_ttl),
            period: Duration::from_secs(role.token_period),
            ..mount
        },
        None => TtlLimits {
            explicit_max,
            ..mount
        },
    }
}

#[cfg(test)]
mod tests;
