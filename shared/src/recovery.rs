//! Settling: what becomes of each replica grant once the primary answers again.
//!
//! Pure: the grant, and what is known of who it was given to, go in; a [`Verdict`] comes out. A grant is judged when it is
//! used, so that an outage's end does not wait for what nobody uses. Judging again is harmless.

use alloc::{boxed::Box, format, string::String, vec::Vec};
use core::{cmp::Reverse, time::Duration};

use crate::{
    approle::{self, AppRole, Basis, ProofDigest, RoleKey, SecretId},
    change::{QueuedRevocation, RevocationTarget},
    grant::{Grant, ReplicaGrant, RevokeCause, Settled},
    identity::Identity,
    name::{EntityId, Namespace, PolicyName, TokenDigest, WorkloadName},
    settings::Settings,
    time::{Now, WallTime},
    workload::{OnRecovery, Workload, WorkloadAuthority},
};

/// What a replica grant comes to, by authority that was verified since its outage.
#[derive(Clone, PartialEq, Debug)]
pub enum Verdict {
    /// This becomes of it.
    Fate(Fate),
    /// It lives on with this. Whether a token can be minted for it cannot be said before the primary was asked about that.
    Lives(Left, Need),
    /// It cannot be said before the primary was asked about this.
    Needs(Need),
}

/// What a grant hangs on, and the primary was not asked about since the outage.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Need {
    /// The AppRole login that it was given to: role, secret id and entity.
    Login(Box<Basis>),
    /// What a policy says: a token without the grant's entity may do the same only where that is nothing of the entity.
    Policy(PolicyName),
    /// A token of the primary's that it hangs on.
    Token(TokenDigest),
    /// The authority of its workload.
    Workload(WorkloadName),
}

/// What becomes of a replica grant.
#[derive(Clone, PartialEq, Debug)]
pub enum Fate {
    /// It stays good for mirrored reads until its deadline.
    Drain(Left),
    /// A primary token is minted for it.
    Exchange(Left, Wanted),
    /// Refused at once.
    Revoke(RevokeCause),
}

/// What fresh authority leaves to a grant.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Left {
    /// Of the policies that it was given.
    pub policies: Vec<PolicyName>,
    /// What its identity adds today.
    pub identity_policies: Vec<PolicyName>,
}

/// The token that is minted for a grant.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Wanted {
    /// Exactly these.
    pub policies: Vec<PolicyName>,
    /// Its explicit max TTL: what is left of the grant's life.
    pub remaining: Duration,
    /// Whom the primary is to take it for.
    pub stands_for: StandsFor,
}

/// Whom a minted token stands for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum StandsFor {
    /// Nobody. What the grant's entity adds is among the token's own policies; see [`has_outlived_its_entity`].
    Nobody,
    /// Whomever the workload's role and alias make it stand for: this entity, or none.
    Workload(Option<EntityId>),
}

/// A grant with less left than this is not worth a token of the primary's: it drains.
pub const WORTH_EXCHANGING: Duration = Duration::from_secs(5);

/// What the primary last said of whom grants are given to, as it is kept here: nobody is asked for it.
pub trait Proofs {
    /// What the primary last proved of a workload; none if it said that nothing may be issued for it.
    fn workload(&self, name: &WorkloadName) -> Option<&WorkloadAuthority>;
    /// A role; none if it is gone.
    fn approle(&self, key: &RoleKey) -> Option<&AppRole>;
    /// A secret id; none if it is gone.
    fn secret_id(&self, digest: &ProofDigest) -> Option<&SecretId>;
    /// An entity with its groups, and when it was last read.
    fn identity(&self, entity: &EntityId) -> Option<(&Identity, WallTime)>;
    /// When a policy was last read, or last seen not to exist; none if policies never were.
    fn policy_read(&self, name: &PolicyName) -> Option<WallTime>;
    /// Whether a token with these policies may do something else without its entity, as
    /// [`Policy::are_templated`](crate::acl::Policy::are_templated) has it, by what was last read of them. One that does not
    /// exist says nothing; one that is not understood, or never was read though it exists, may say anything. None if policies
    /// never were read.
    fn are_templated(&self, policies: &[PolicyName]) -> Option<bool>;
}

/// Judges a replica grant by what was verified at or after `since`. What it hangs on is judged by the caller before.
///
/// A grant that an AppRole login was given goes by that login alone.
pub fn judge(
    grant: &Grant,
    replica: &ReplicaGrant,
    settings: &Settings,
    proofs: &impl Proofs,
    since: WallTime,
    now: Now,
) -> Verdict {
    let gone = Verdict::Fate(Fate::Revoke(RevokeCause::Recovery));
    // Where nothing is kept, nobody need be asked.
    let keeps = |entry: &&Workload| entry.failover.on_recovery != OnRecovery::Revoke;
    let Some(workload) = holder(grant, settings).filter(keeps) else {
        return gone;
    };
    let proven = match &replica.approle {
        Some(basis) => by_login(basis, proofs, since, now),
        None => by_authority(workload, proofs, since),
    };
    match proven {
        Ok(Some(proven)) => {
            let by_policies = ByPolicies { proofs, since };
            fate(grant, replica, workload, proven, &by_policies, now)
        }
        Ok(None) => gone,
        Err(need) => Verdict::Needs(need),
    }
}

/// Whether the token behind an exchanged grant stands for less than the grant did: it was minted for nobody, with what the
/// grant's entity added then, and that entity was disabled, went, or adds something else by now.
pub fn has_outlived_its_entity(grant: &Grant, proofs: &impl Proofs) -> bool {
    let known = entity_left_out(grant).and_then(|entity| proofs.identity(entity));
    let Some((identity, _)) = known else {
        return false;
    };
    !identity.stands() || parsed(identity) != merged(&grant.facts.identity_policies, &[])
}

/// Whether a policy of an exchanged grant came to depend on its entity, which the token behind it does not stand for: with a
/// rule that names the entity it might do more than the grant. Compares rules with each other: not for every request.
pub fn has_come_to_need_its_entity(grant: &Grant, proofs: &impl Proofs) -> bool {
    let all = merged(&grant.facts.policies, &grant.facts.identity_policies);
    entity_left_out(grant).is_some() && proofs.are_templated(&all) == Some(true)
}

/// The entity of an exchanged grant whose token was minted for nobody.
fn entity_left_out(grant: &Grant) -> Option<&EntityId> {
    let replica = grant.replica()?;
    let exchanged = matches!(replica.settled, Settled::Exchanged(_));
    let minted_for_nobody = exchanged && replica.approle.is_some();
    grant.facts.entity_id.as_ref().filter(|_| minted_for_nobody)
}

/// A token of the primary's that was not proven since recovery began, and could be asked about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Unasked {
    /// What stands for it.
    pub digest: TokenDigest,
    /// When it was last used, as far as that is proofs.
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
    /// What of it is a token's that stands for nobody.
    fn without_entity(self) -> Self {
        Self {
            policies: self.policies,
            identity_policies: Vec::new(),
            entity: None,
        }
    }

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

impl Grant {
    /// This with what authority leaves to it.
    #[must_use]
    pub fn left_with(&self, left: Left) -> Self {
        let mut grant = self.clone();
        grant.facts.policies = left.policies;
        grant.facts.identity_policies = left.identity_policies;
        grant
    }
}

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

/// The entry that a grant falls under, if it is still configured.
fn holder<'s>(grant: &Grant, settings: &'s Settings) -> Option<&'s Workload> {
    let peer = grant.peer.as_ref()?;
    settings.workload(&peer.workload)
}

/// What an attested login would get; none where the primary said that it gets nothing.
fn by_authority(
    workload: &Workload,
    proofs: &impl Proofs,
    since: WallTime,
) -> Result<Option<Proven>, Need> {
    let Some(fresh) = proofs.workload(&workload.name) else {
        return Ok(None);
    };
    // What was verified of the role that was configured before says nothing of this one.
    match fresh.verified_at >= since && fresh.role_name == workload.role {
        true => Ok(Some(fresh.into())),
        false => Err(Need::Workload(workload.name.clone())),
    }
}

/// What the AppRole login would get; none if nothing.
fn by_login(
    basis: &Basis,
    proofs: &impl Proofs,
    since: WallTime,
    now: Now,
) -> Result<Option<Proven>, Need> {
    let found = (
        proofs.approle(&basis.role),
        proofs.secret_id(&basis.secret_id),
    );
    let (Some(role), Some(proof)) = found else {
        return Ok(None);
    };
    if proof.is_dead(now) {
        return Ok(None);
    }
    let needed = || Need::Login(Box::new(basis.clone()));
    let seen = role.verified_at.min(proof.verified_at);
    if seen < since || proof.is_doubted() {
        return Err(needed());
    }
    if !approle::stands(role, proof, since, now) {
        return Ok(None);
    }
    let identity_policies = match &proof.entity {
        None => Vec::new(),
        Some(entity) => match proofs.identity(entity) {
            Some((_, at)) if at < since => return Err(needed()),
            None => return Err(needed()),
            Some((identity, _)) if !identity.stands() => return Ok(None),
            Some((identity, _)) => parsed(identity),
        },
    };
    Ok(Some(Proven {
        policies: role.policies(),
        identity_policies,
        entity: proof.entity.clone(),
    }))
}

fn fate<P: Proofs>(
    grant: &Grant,
    replica: &ReplicaGrant,
    workload: &Workload,
    proven: Proven,
    by_policies: &ByPolicies<'_, P>,
    now: Now,
) -> Verdict {
    let revoke = Verdict::Fate(Fate::Revoke(RevokeCause::Recovery));
    // The entity behind the grant decides what its templates and identity policies mean: another one now
    // means that the grant was for somebody else. One of nobody never was for any.
    let proven = match replica.of_nobody {
        true => proven.without_entity(),
        false => proven,
    };
    if proven.entity != grant.facts.entity_id {
        return revoke;
    }
    let policies = still_allowed(&grant.facts.policies, &proven.policies);
    if policies.is_empty() && !grant.facts.policies.is_empty() {
        return revoke;
    }
    let left = Left {
        policies,
        identity_policies: proven.identity_policies,
    };
    let remaining = grant.deadline.earliest(replica.max_deadline).remaining(now);
    match workload.failover.on_recovery {
        OnRecovery::Revoke => revoke,
        OnRecovery::Exchange if remaining >= WORTH_EXCHANGING => {
            match minted(&left, replica, proven.entity, by_policies) {
                Ok(Some((policies, stands_for))) => {
                    let wanted = Wanted {
                        policies,
                        remaining,
                        stands_for,
                    };
                    Verdict::Fate(Fate::Exchange(left, wanted))
                }
                Ok(None) => Verdict::Fate(Fate::Drain(left)),
                Err(need) => Verdict::Lives(left, need),
            }
        }
        OnRecovery::Exchange | OnRecovery::Drain => Verdict::Fate(Fate::Drain(left)),
    }
}

/// Policies and entity of a token that may do what the grant may; none where only a token of the grant's own entity may.
///
/// The workload's role knows nothing of the entity of an AppRole login. A token without it may do the same, if no policy
/// means something else to that entity.
///
/// # Errors
/// What has to be read to tell.
fn minted<P: Proofs>(
    left: &Left,
    replica: &ReplicaGrant,
    entity: Option<EntityId>,
    by_policies: &ByPolicies<'_, P>,
) -> Result<Option<(Vec<PolicyName>, StandsFor)>, Need> {
    if replica.approle.is_none() {
        let stands_for = match replica.of_nobody {
            true => StandsFor::Nobody,
            false => StandsFor::Workload(entity),
        };
        return Ok(Some((left.policies.clone(), stands_for)));
    }
    let all = merged(&left.policies, &left.identity_policies);
    // What an identity calls `root` grants nothing, and a token everything.
    if all.iter().any(PolicyName::is_root) {
        return Ok(None);
    }
    let templated = entity.is_some() && by_policies.are_templated(&all)?;
    Ok((!templated).then_some((all, StandsFor::Nobody)))
}

/// Policies as they were read at or after `since`: an older text may have been written anew in the outage.
struct ByPolicies<'p, P> {
    proofs: &'p P,
    since: WallTime,
}

impl<P: Proofs> ByPolicies<'_, P> {
    /// # Errors
    /// The first that has to be read to tell.
    fn are_templated(&self, policies: &[PolicyName]) -> Result<bool, Need> {
        let is_old = |name: &&PolicyName| self.proofs.policy_read(name) < Some(self.since);
        match policies.iter().find(is_old) {
            Some(old) => Err(Need::Policy(old.clone())),
            None => Ok(self.proofs.are_templated(policies).unwrap_or(true)),
        }
    }
}

/// All of both, sorted, each once.
fn merged(some: &[PolicyName], others: &[PolicyName]) -> Vec<PolicyName> {
    let mut all: Vec<PolicyName> = some.iter().chain(others).cloned().collect();
    all.sort();
    all.dedup();
    all
}

fn parsed(identity: &Identity) -> Vec<PolicyName> {
    let names = identity.policies();
    let parsed = names.iter().map(|name| PolicyName::parse(name));
    let parsed: Vec<PolicyName> = parsed.filter_map(Result::ok).collect();
    merged(&parsed, &[])
}

fn still_allowed(granted: &[PolicyName], proven: &[PolicyName]) -> Vec<PolicyName> {
    granted
        .iter()
        .filter(|policy| proven.contains(policy))
        .cloned()
        .collect()
}

#[cfg(test)]
mod tests;
