//! Settling: what becomes of each replica grant once the primary answers again.
//!
//! Pure: the replica's facts and freshly verified authority go in, a [`Judgement`] each comes out. Judging
//! again is harmless: what is settled stays so.

use alloc::{format, string::String, vec::Vec};
use core::{cmp::Reverse, time::Duration};

use crate::{
    approle::Basis,
    change::{QueuedRevocation, RevocationTarget},
    grant::{Grant, ReplicaGrant, RevokeCause, Settled},
    name::{Accessor, EntityId, Namespace, PolicyName, TokenDigest, WorkloadName},
    settings::Settings,
    time::{Now, WallTime},
    workload::{OnRecovery, Workload, WorkloadAuthority},
};

/// What becomes of one replica grant.
#[derive(Clone, PartialEq, Debug)]
pub struct Judgement {
    /// Of the grant's token.
    pub digest: TokenDigest,
    /// Of the grant's token.
    pub accessor: Accessor,
    /// By today's authority.
    pub fate: Fate,
}

/// What becomes of a replica grant.
#[derive(Clone, PartialEq, Debug)]
pub enum Fate {
    /// It stays good for mirrored reads until its deadline, with these policies.
    Drain {
        /// What fresh authority leaves it.
        policies: Vec<PolicyName>,
        /// What fresh authority gives its identity.
        identity_policies: Vec<PolicyName>,
    },
    /// A primary token is minted for it.
    Exchange {
        /// Exactly these.
        policies: Vec<PolicyName>,
        /// Its remaining life: the new token's explicit max TTL.
        remaining: Duration,
    },
    /// Refused at once.
    Revoke(RevokeCause),
}

/// A grant with less left than this is not worth a token of the primary's: it drains.
pub const WORTH_EXCHANGING: Duration = Duration::from_secs(5);

/// Judges every replica grant that lives, against authority verified at or after `since`.
///
/// One of another namespace than the configured one is not judged: it decides nothing meanwhile, and counts again if that is
/// configured again before its end. A grant whose workload was not verified since is not judged at all: the plan is not complete, and `Err` names
/// the first such grant. One that an AppRole login was given goes by what `login` says of that login: none if it was
/// not seen to stand since, and then the grant goes, for its holder can log in at the primary again.
///
/// # Errors
/// If authority that a grant hangs on was not verified since.
pub fn judge<'a>(
    grants: impl IntoIterator<Item = &'a Grant>,
    settings: &Settings,
    authority: impl Fn(&WorkloadName) -> Fresh<'a>,
    login: impl Fn(&Basis) -> Option<Proven>,
    since: WallTime,
    now: Now,
) -> Result<Vec<Judgement>, Unverified> {
    grants
        .into_iter()
        .filter(|grant| grant.namespace == settings.namespace)
        .filter_map(|grant| Some((grant, unsettled(grant, now)?)))
        .map(|(grant, replica)| {
            let workload = holder(grant, settings);
            let proven = match (workload, &replica.approle) {
                (None, _) => None,
                (Some(_), Some(basis)) => login(basis),
                (Some(workload), None) => by_authority(grant, workload, &authority, since)?,
            };
            let fate = match (workload, proven) {
                (Some(workload), Some(proven)) => fate(grant, replica, workload, proven, now),
                _ => Fate::Revoke(RevokeCause::Recovery),
            };
            Ok(Judgement {
                digest: grant.digest,
                accessor: grant.accessor.clone(),
                fate,
            })
        })
        .collect()
}

/// A token of the primary's that was not proven since recovery began, and could be asked about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Unasked {
    /// What stands for it.
    pub digest: TokenDigest,
    /// When it was last used, as far as that is known.
    pub used: WallTime,
    /// Whether a grant that is yet to be settled hangs on it.
    pub carries: bool,
}

/// Which tokens to ask about before failing back, at most `most`: first those that grants hang on, because what hangs on a
/// token that was not proven is not settled; then what was used last.
pub fn worth_asking(mut tokens: Vec<Unasked>, most: usize) -> Vec<TokenDigest> {
    tokens.sort_unstable_by_key(|token| {
        let Unasked {
            digest,
            used,
            carries,
        } = *token;
        (Reverse(carries), Reverse(used), digest)
    });
    tokens.truncate(most);
    tokens.iter().map(|token| token.digest).collect()
}

/// What the primary last proved of a workload.
#[derive(Clone, Copy, Debug)]
pub enum Fresh<'a> {
    /// The role or what it grants is gone, and the primary said so.
    Gone,
    /// This.
    Proven(&'a WorkloadAuthority),
    /// Nothing since the outage.
    Unknown,
}

/// What the primary would give today to whoever a grant was given to.
#[derive(Clone, PartialEq, Debug)]
pub struct Proven {
    /// The policies of a token.
    pub policies: Vec<PolicyName>,
    /// What its identity adds.
    pub identity_policies: Vec<PolicyName>,
    /// Its entity.
    pub entity: Option<EntityId>,
}

impl Proven {
    /// The first of `names` that it does not have: as a policy of the token or of its identity.
    pub fn lacks<'n>(
        &self,
        names: impl IntoIterator<Item = &'n PolicyName>,
    ) -> Option<&'n PolicyName> {
        let has = |name: &PolicyName| {
            self.policies.contains(name) || self.identity_policies.contains(name)
        };
        names.into_iter().find(|name| !has(name))
    }
}

impl From<&WorkloadAuthority> for Proven {
    fn from(authority: &WorkloadAuthority) -> Self {
        Self {
            policies: authority.policies().to_vec(),
            identity_policies: authority.standing.identity_policies.clone(),
            entity: authority.entity().cloned(),
        }
    }
}

/// A grant whose workload's authority was not verified since.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("authority behind grant {0} has not been verified yet")]
pub struct Unverified(pub Accessor);

impl QueuedRevocation {
    /// The API path that carries it out.
    pub fn path(&self) -> &'static str {
        match self.target {
            RevocationTarget::Lease(_) => "sys/leases/revoke",
            RevocationTarget::Token(_) => "auth/token/revoke-accessor",
        }
    }

    /// The rule that Holdover's own policy needs for it.
    pub fn rule(&self) -> String {
        format!("path {:?} {{ capabilities = [\"update\"] }}", self.path())
    }

    /// Whether the primary can be told of it where `configured` is the namespace that Holdover asks in: in another one it would
    /// say that there is no such thing.
    pub fn is_of(&self, configured: &Namespace) -> bool {
        self.namespace.as_ref().is_none_or(|own| own == configured)
    }

    /// Whether what it is about has ended by itself, for certain: nobody could have renewed it.
    pub fn is_over(&self, now: Now) -> bool {
        !self.renewable && self.may_be_over(now)
    }

    /// Whether it has ended by itself unless somebody renewed it: only the primary can tell.
    pub fn may_be_over(&self, now: Now) -> bool {
        self.ends.is_some_and(|at| now.steady > at)
    }
}

/// Its replica part, if it lives and nothing was settled yet.
fn unsettled(grant: &Grant, now: Now) -> Option<&ReplicaGrant> {
    let replica = grant.replica()?;
    (replica.settled == Settled::Not && !grant.deadline.passed(now)).then_some(replica)
}

/// The entry that a grant falls under, if it is still configured.
fn holder<'s>(grant: &Grant, settings: &'s Settings) -> Option<&'s Workload> {
    let peer = grant.peer.as_ref()?;
    settings.workload(&peer.workload)
}

/// What an attested login would get; none if nothing.
fn by_authority<'a>(
    grant: &Grant,
    workload: &Workload,
    authority: &impl Fn(&WorkloadName) -> Fresh<'a>,
    since: WallTime,
) -> Result<Option<Proven>, Unverified> {
    let fresh = match authority(&workload.name) {
        Fresh::Gone => return Ok(None),
        Fresh::Proven(fresh) if fresh.verified_at >= since => fresh,
        Fresh::Proven(_) | Fresh::Unknown => return Err(Unverified(grant.accessor.clone())),
    };
    let same = fresh.role_name == workload.role;
    Ok(same.then(|| fresh.into()))
}

fn fate(
    grant: &Grant,
    replica: &ReplicaGrant,
    workload: &Workload,
    proven: Proven,
    now: Now,
) -> Fate {
    let revoke = Fate::Revoke(RevokeCause::Recovery);
    // The entity behind the grant decides what its templates and identity policies mean: another one now
    // means that the grant was for somebody else.
    if proven.entity != grant.facts.entity_id {
        return revoke;
    }
    let policies = still_allowed(&grant.facts.policies, &proven.policies);
    if policies.is_empty() && !grant.facts.policies.is_empty() {
        return revoke;
    }
    let remaining = replica_remaining(grant, replica, now);
    match workload.failover.on_recovery {
        OnRecovery::Revoke => revoke,
        OnRecovery::Exchange if remaining >= WORTH_EXCHANGING => Fate::Exchange {
            policies,
            remaining,
        },
        OnRecovery::Exchange | OnRecovery::Drain => Fate::Drain {
            policies,
            identity_policies: proven.identity_policies,
        },
    }
}

fn still_allowed(granted: &[PolicyName], proven: &[PolicyName]) -> Vec<PolicyName> {
    granted
        .iter()
        .filter(|policy| proven.contains(policy))
        .cloned()
        .collect()
}

fn replica_remaining(grant: &Grant, replica: &ReplicaGrant, now: Now) -> Duration {
    grant.deadline.earliest(replica.max_deadline).remaining(now)
}

#[cfg(test)]
mod tests;
