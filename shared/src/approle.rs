//! AppRole logins in an outage: what the primary showed of a role, what it proved of a secret id, and the rule that
//! says whether a login may be granted from the two.
//!
//! Neither `role_id` nor `secret_id` is here: keyed digests stand for them. The rules are OpenBao's
//! (`builtin/credential/approle/path_login.go`), where it can be followed without counting uses or knowing addresses.

mod gone;
mod lockout;

use alloc::{collections::BTreeMap, string::String, vec::Vec};
use core::time::Duration;

use serde::{Deserialize, Deserializer, Serialize};

use crate::{
    name::{Accessor, EntityId, MountAccessor, PolicyName, RoleName},
    settings::Bounds,
    time::{Now, WallTime},
    token::ttl::{PastMaxTtl, Ttl, TtlLimits, TtlWanted, ttl},
};

pub use gone::RolesGone;
pub use lockout::{
    Attempt, Claimant, Guesses, LOCKED_FOR, Outcome, THRESHOLD, Tries, are_guesses_held,
};

/// Secret ids that are kept, over all roles: those that logged in last. Each costs a look-up a cycle.
pub const MOST_SECRET_IDS: usize = 128;

/// Secret ids that are kept of one role, so that one which gets a new secret id each time leaves room for the others.
pub const MOST_OF_ONE_ROLE: usize = 16;

/// Claimants that are kept of one secret id: those that it was accepted from last.
pub const MOST_CLAIMANTS: usize = 16;

/// A role, wherever it is mounted.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct RoleKey {
    /// Its mount's name for good.
    pub mount: MountAccessor,
    /// Its name: in lower case, as the primary keeps it.
    pub name: RoleName,
}

/// A keyed digest (HMAC-SHA-256 under a key of the replica) over a mount and a `role_id`, or over a mount, a `role_id`
/// and a `secret_id`: what is kept instead of them.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ProofDigest(pub [u8; 32]);

/// A role as the primary last showed it, verified as a whole.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct AppRole {
    /// Its mount and name.
    pub key: RoleKey,
    /// What stands for its `role_id`, which an operator can change.
    pub role_id: ProofDigest,
    /// `auth/<mount>/role/<name>`.
    pub facts: RoleFacts,
    /// `sys/mounts/auth/<mount>/tune`.
    pub mount: MountFacts,
    /// Whether a second factor is asked of who logs in there.
    pub mfa: bool,
    /// When all of it was last read.
    pub verified_at: WallTime,
}

/// The fields of a role. Times are in seconds; 0 is none.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct RoleFacts {
    /// Whether a login needs a secret id.
    pub bind_secret_id: bool,
    /// Whether its secret ids are kept by one cluster alone.
    #[serde(default)]
    pub local_secret_ids: bool,
    /// Addresses that logins may come from.
    #[serde(default, deserialize_with = "or_null")]
    pub secret_id_bound_cidrs: Vec<String>,
    /// Uses of a new secret id; 0 is unlimited.
    #[serde(default)]
    pub secret_id_num_uses: u64,
    /// Life of a new secret id.
    #[serde(default)]
    pub secret_id_ttl: u64,
    /// Addresses that its tokens may come from.
    #[serde(default, deserialize_with = "or_null")]
    pub token_bound_cidrs: Vec<String>,
    /// The longest life of a token, whatever is changed later.
    #[serde(default)]
    pub token_explicit_max_ttl: u64,
    /// The longest life of a token.
    #[serde(default)]
    pub token_max_ttl: u64,
    /// Whether `default` is left out.
    #[serde(default)]
    pub token_no_default_policy: bool,
    /// Uses of a token; 0 is unlimited.
    #[serde(default)]
    pub token_num_uses: u64,
    /// Period of a token.
    #[serde(default)]
    pub token_period: u64,
    /// The policies of its tokens.
    #[serde(default, deserialize_with = "or_null")]
    pub token_policies: Vec<PolicyName>,
    /// Whether a token is bound to the address that logged in.
    #[serde(default)]
    pub token_strictly_bind_ip: bool,
    /// Life of a token until its first renewal.
    #[serde(default)]
    pub token_ttl: u64,
    /// `default`, `service`, `batch`, `default-service` or `default-batch`.
    #[serde(default)]
    pub token_type: String,
}

/// What the mount adds: its effective TTLs in seconds, and which tokens it makes where a role leaves that to it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct MountFacts {
    /// Its own, else the system's.
    pub default_lease_ttl: u64,
    /// Its own, else the system's.
    pub max_lease_ttl: u64,
    /// As `token_type` of a role.
    #[serde(default)]
    pub token_type: String,
}

/// A secret id of unlimited uses that the primary proved: by a login that it accepted, and by showing it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct SecretId {
    /// What stands for mount, `role_id` and `secret_id` together.
    pub digest: ProofDigest,
    /// The role that it logs in to.
    pub role: RoleKey,
    /// What stands for the `role_id` that it was proven with.
    pub role_id: ProofDigest,
    /// The primary is asked by it whether the secret id stands.
    pub accessor: Accessor,
    /// Its metadata, which its tokens carry.
    pub metadata: BTreeMap<String, String>,
    /// Addresses that logins with it may come from.
    pub cidrs: Vec<String>,
    /// Addresses that tokens got with it may come from.
    pub token_cidrs: Vec<String>,
    /// When it ends; none is never.
    pub expires: Option<WallTime>,
    /// The entity of the last login with it.
    pub entity: Option<EntityId>,
    /// What that entity and its groups added then.
    pub identity_policies: Vec<PolicyName>,
    /// When the primary last accepted a login with it.
    pub login_at: WallTime,
    /// When it was last verified that its accessor stands.
    pub verified_at: WallTime,
    /// Since when the primary is known to refuse it.
    pub dead: Option<WallTime>,
    /// Who it was accepted from, at the primary or here, the last one last; at most [`MOST_CLAIMANTS`]. For them it is no guess.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub accepted_from: Vec<Claimant>,
    /// When the primary last refused it to a client, which is a reason to look.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub doubted_at: Option<WallTime>,
}

/// What stands behind a grant that an AppRole login was given.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct Basis {
    /// The one that was logged in to.
    pub role: RoleKey,
    /// The one that was presented.
    pub secret_id: ProofDigest,
}

/// What a login may be given.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Permitted {
    /// The token's own policies, sorted.
    pub policies: Vec<PolicyName>,
    /// The token's metadata: the secret id's and the role's name.
    pub metadata: BTreeMap<String, String>,
    /// How long the primary would let it live until its first renewal, and what it would warn of.
    pub wanted: Ttl,
    /// How long it would let renewals stretch that, from issue.
    pub limit: Duration,
    /// As a look-up shows it, in seconds; 0 is none.
    pub explicit_max_ttl: u64,
    /// The oldest of what this stands on.
    pub proven_at: WallTime,
}

/// Why a login is not granted.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Denial {
    /// Role or secret id are bound to addresses, and a Unix socket has none.
    #[error("is bound to addresses")]
    Addresses,
    /// The primary would refuse it too.
    #[error("is dead")]
    Dead,
    /// The primary refused it since it was last seen to stand.
    #[error("was refused since it was last verified")]
    Doubted,
    /// The role asks for a second factor.
    #[error("asks for a second factor")]
    Mfa,
    /// The primary last accepted it too long before the outage.
    #[error("was verified too long ago")]
    Old,
    /// The role makes tokens that a grant cannot be like, or none.
    #[error("makes tokens that are not modelled")]
    Role,
    /// Role or accessor were not seen to stand recently enough before the outage.
    #[error("was not seen to stand recently enough")]
    Unseen,
}

impl SecretId {
    /// Whether the primary is known to refuse it, as of `now`.
    pub fn is_dead(&self, now: Now) -> bool {
        let ended = |end: WallTime| now.wall >= end;
        self.dead.is_some() || self.expires.is_some_and(ended)
    }

    /// Whether the primary refused it to a client since it was last seen to stand.
    pub fn is_doubted(&self) -> bool {
        let stood = self.verified_at.max(self.login_at);
        self.doubted_at.is_some_and(|at| stood < at)
    }

    /// Whether it was accepted from this one.
    pub fn is_known_to(&self, claimant: &Claimant) -> bool {
        self.accepted_from.contains(claimant)
    }

    /// This, accepted from one more.
    #[must_use]
    pub fn accepted_by(mut self, claimant: Claimant) -> Self {
        self.accepted_from.retain(|known| *known != claimant);
        self.accepted_from.push(claimant);
        let beyond = self.accepted_from.len().saturating_sub(MOST_CLAIMANTS);
        self.accepted_from.drain(..beyond);
        self
    }

    fn is_bound(&self) -> bool {
        !self.cidrs.is_empty() || !self.token_cidrs.is_empty()
    }

    /// This, where `known` is what was known before: moments never go back, and one that died stays dead unless the
    /// primary has accepted it since.
    #[must_use]
    pub fn after(self, known: &Self) -> Self {
        if known.accessor != self.accessor {
            return self;
        }
        let login_at = self.login_at.max(known.login_at);
        // Whoever came in between is one of them, whichever of the two was made from which.
        let both = known.clone();
        let both = self
            .accepted_from
            .iter()
            .cloned()
            .fold(both, Self::accepted_by);
        Self {
            login_at,
            accepted_from: both.accepted_from,
            verified_at: self.verified_at.max(known.verified_at),
            dead: known.dead.max(self.dead).filter(|dead| *dead >= login_at),
            doubted_at: self.doubted_at.max(known.doubted_at),
            ..self
        }
    }

    /// Whether nothing can come of keeping it: its last login is longer ago than an outage may look back, or it has
    /// been dead for that long.
    pub fn is_of_no_use(&self, credential_max_age: Duration, now: Now) -> bool {
        let end = self.dead.or(self.expires).unwrap_or(now.steady);
        let last = self.login_at.max(end.min(now.steady));
        let since = if self.is_dead(now) {
            last
        } else {
            self.login_at
        };
        now.steady.since(since) > credential_max_age
    }
}

impl AppRole {
    /// The policies of its tokens: sorted, each once, with `default` unless that is left out.
    pub fn policies(&self) -> Vec<PolicyName> {
        let mut policies = self.facts.token_policies.clone();
        if !self.facts.token_no_default_policy {
            policies.extend(PolicyName::parse("default"));
        }
        policies.sort();
        policies.dedup();
        policies
    }

    /// What keeps every login to it from being granted in an outage.
    pub fn problem(&self) -> Option<Denial> {
        [
            (self.is_bound(), Denial::Addresses),
            (self.mfa, Denial::Mfa),
            (!self.is_modelled(), Denial::Role),
        ]
        .into_iter()
        .find_map(|(wrong, denial)| wrong.then_some(denial))
    }

    /// Whether a grant can be like the tokens that it makes.
    fn is_modelled(&self) -> bool {
        let facts = &self.facts;
        let kind = match facts.token_type.as_str() {
            "" | "default" => &self.mount.token_type,
            own => own,
        };
        let service = matches!(kind, "" | "default-service" | "service");
        // The primary gives no root token by a login either.
        let root = facts.token_policies.iter().any(PolicyName::is_root);
        service
            && facts.bind_secret_id
            && facts.token_period == 0
            && facts.token_num_uses == 0
            && !root
    }

    fn is_bound(&self) -> bool {
        let facts = &self.facts;
        facts.token_strictly_bind_ip
            || !facts.secret_id_bound_cidrs.is_empty()
            || !facts.token_bound_cidrs.is_empty()
    }

    /// What bounds the TTL of its tokens.
    fn limits(&self) -> TtlLimits {
        let secs = Duration::from_secs;
        TtlLimits {
            default: secs(self.mount.default_lease_ttl),
            max: secs(self.mount.max_lease_ttl),
            backend_max: secs(self.facts.token_max_ttl),
            explicit_max: secs(self.facts.token_explicit_max_ttl),
            period: Duration::ZERO,
        }
    }

    /// The TTL of a token issued at `issued` that is issued or renewed `now`, for `increment` if that is asked for: the
    /// primary goes by the role as it is, not by what was granted last.
    ///
    /// # Errors
    /// If nothing is left of its longest life.
    pub fn ttl(
        &self,
        increment: Option<Duration>,
        issued: WallTime,
        now: WallTime,
    ) -> Result<Ttl, PastMaxTtl> {
        let wanted = TtlWanted {
            increment: increment.unwrap_or_default(),
            ttl: Duration::from_secs(self.facts.token_ttl),
        };
        ttl(wanted, self.limits(), issued, now)
    }
}

/// Whether a login with `proof` to `role` may be granted in an outage that began at `cutover`, and what it gets. What the primary
/// has not shown since `proven_from`, when it came back from the outage before, may have ended in that one.
///
/// # Errors
/// The first reason that stands against it. Only [`Denial::Dead`] is the primary's own answer; the others only the
/// primary can decide.
pub fn judge(
    role: Option<&AppRole>,
    proof: &SecretId,
    bounds: &Bounds,
    cutover: WallTime,
    proven_from: Option<WallTime>,
    now: Now,
) -> Result<Permitted, Denial> {
    if proof.is_dead(now) {
        return Err(Denial::Dead);
    }
    let role = role
        .filter(|role| role.key == proof.role)
        .ok_or(Denial::Unseen)?;
    if role.role_id != proof.role_id {
        return Err(Denial::Dead);
    }
    if proof.is_doubted() {
        return Err(Denial::Doubted);
    }
    if cutover.since(proof.login_at) > bounds.credential_max_age {
        return Err(Denial::Old);
    }
    let proven_at = role.verified_at.min(proof.verified_at);
    if cutover.since(proven_at) > bounds.authority_max_age {
        return Err(Denial::Unseen);
    }
    // An accepted login shows that the secret id stands; of the role it shows nothing that a token could be given by.
    let shown_at = role.verified_at.min(proof.verified_at.max(proof.login_at));
    if proven_from > Some(shown_at) {
        return Err(Denial::Unseen);
    }
    if let Some(problem) = role.problem() {
        return Err(problem);
    }
    if proof.is_bound() {
        return Err(Denial::Addresses);
    }
    let issued = now.steady;
    let wanted = role.ttl(None, issued, issued).map_err(|_| Denial::Role)?;
    let mut metadata = proof.metadata.clone();
    metadata.insert("role_name".into(), role.key.name.as_str().into());
    Ok(Permitted {
        policies: role.policies(),
        metadata,
        wanted,
        limit: role.limits().longest(),
        explicit_max_ttl: role.facts.token_explicit_max_ttl,
        proven_at,
    })
}

/// Whether what a grant was given to still stands once the primary is back: role and accessor were seen at or after
/// `since`, and a login with it would still be one that grants are like.
pub fn stands(role: &AppRole, proof: &SecretId, since: WallTime, now: Now) -> bool {
    let seen = role.verified_at >= since && proof.verified_at >= since && !proof.is_doubted();
    let same = role.key == proof.role && role.role_id == proof.role_id;
    seen && same && !proof.is_dead(now) && !proof.is_bound() && role.problem().is_none()
}

/// A list that the primary may show as `null`.
fn or_null<'de, D: Deserializer<'de>, T: Deserialize<'de>>(from: D) -> Result<Vec<T>, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or_default())
}

#[cfg(test)]
mod tests;
