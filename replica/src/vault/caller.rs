//! Who asks: which token it is, whether it is good now and here, and what its policies allow.

use std::{sync::Arc, time::Duration};

use shared::{
    acl::{Acl, AclRequest, Allowed, CompileError, Decision},
    api::Kind,
    failover::Outage,
    grant::{Grant, ReplicaGrant, Settled},
    name::{Accessor, EntityId, PolicyName, TokenDigest, WorkloadName},
    settings::Footing,
    time::{Deadline, WallTime},
    token::TokenFacts,
    workload::{OnFailover, Peer, PeerId, WorkloadAuthority},
};

use super::{
    Presented,
    case::Case,
    parameter::Params,
    refusal::{Answered, Damaged, Forbidden, Refusal, Why},
};
use crate::view::{CompiledAcl, LiveGrant, acl};

pub(crate) use named::Absence;

mod named;

/// A token that the replica knows.
pub(crate) enum Bearer {
    /// One that a client brought, or that was issued to it.
    Grant(Arc<LiveGrant>),
    /// The standing one of a workload: its string is nobody's to see.
    Standing(Arc<WorkloadAuthority>),
}

/// What a token's policies and identity come to.
pub(crate) struct Rights {
    /// Policies that its entity and groups add, as the primary would show them.
    pub(crate) identity_policies: Vec<PolicyName>,
    acl: Arc<CompiledAcl>,
}

/// Who asks, and what they may do.
pub(crate) struct Caller {
    /// The token.
    pub(crate) bearer: Bearer,
    /// Its rights.
    pub(crate) rights: Rights,
}

impl Caller {
    /// The caller of a request, if its token is good now and from where it comes.
    pub(crate) fn of(case: &Case<'_>) -> Answered<Self> {
        let bearer = match case.query.presented {
            Presented::Nothing | Presented::Token("") => return Err(Refusal::Unauthenticated),
            Presented::Standing(workload) => standing(case, workload)?,
            Presented::Token(token) => {
                let named = Bearer::named(case, token);
                Bearer::Grant(named.map_err(|absence| absence.or(Refusal::Unauthenticated))?)
            }
        };
        bearer.belongs(case)?;
        if !bearer.facts().bound_cidrs.is_empty() {
            return Err(Why::BoundAddresses.into());
        }
        bearer.resumes(case)?;
        let rights = Rights::of(case, bearer.facts())?;
        Ok(Self { bearer, rights })
    }

    /// Permission for the request itself.
    pub(crate) fn permit(&self, case: &Case<'_>, data: &Params) -> Answered<Allowed> {
        match self.rights.acl()?.decide(&request(case, data)) {
            Decision::Allow(allowed) => Ok(allowed),
            Decision::Deny => Err(Refusal::Denied),
            Decision::Undecidable(why) => Err(Why::Policy(why).into()),
        }
    }

    /// Whether it has sudo on the very path that it asks: what some operations ask for besides the right to them.
    pub(crate) fn has_sudo(&self, case: &Case<'_>) -> Answered<bool> {
        let path = case.query.call.path.as_str();
        let capabilities = self.rights.acl()?.capabilities(path).map_err(Why::Policy)?;
        Ok(capabilities
            .iter()
            .any(|name| matches!(*name, "sudo" | "root")))
    }

    /// How old what decided is: the oldest of its policies, its identity and the token's last verification.
    pub(crate) fn age(&self, case: &Case<'_>) -> Duration {
        let entity = self.bearer.facts().entity_id.as_ref();
        let identity = entity.and_then(|entity| case.authority.identities.get(entity));
        let others = [
            self.policies_verified_at(case),
            identity.map(|known| known.verified_at),
        ];
        let token = self.bearer.verified_at();
        case.age(others.into_iter().flatten().fold(token, WallTime::min))
    }

    /// When the least recently read of its policies was read.
    pub(crate) fn policies_verified_at(&self, case: &Case<'_>) -> Option<WallTime> {
        let set = &case.authority.policies.as_deref()?.set;
        let own = self.bearer.facts().policies.iter();
        let names = own.chain(&self.rights.identity_policies);
        names
            .map(|name| set.verified(name))
            .chain([set.verified_at])
            .min()
    }
}

/// The request as the access control sees it. Policies and paths are both below the mirrored namespace.
pub(crate) fn request<'a>(case: &Case<'a>, data: &'a Params) -> AclRequest<'a> {
    AclRequest {
        namespace: "",
        path: case.query.call.path.as_str(),
        operation: case.query.call.operation,
        data,
        wrap_ttl: None,
        help: false,
    }
}

impl Bearer {
    /// What a look-up shows.
    pub(crate) fn facts(&self) -> &TokenFacts {
        match self {
            Self::Grant(live) => &live.grant.facts,
            Self::Standing(authority) => &authority.standing,
        }
    }

    /// The grant behind it; none behind the standing one, whose string no client has.
    pub(crate) fn grant(&self) -> Option<&Grant> {
        match self {
            Self::Grant(live) => Some(&live.grant),
            Self::Standing(_) => None,
        }
    }

    /// Whether the replica minted it with a parent that was taken from it since.
    pub(crate) fn is_spared(&self) -> bool {
        let replica = self.grant().and_then(Grant::replica);
        replica.is_some_and(|replica| replica.spared)
    }

    /// The attested peer that it was given to.
    fn owner(&self) -> Option<&PeerId> {
        self.grant()?.peer.as_ref()
    }

    /// Its accessor.
    pub(crate) fn accessor(&self) -> &Accessor {
        match self {
            Self::Grant(live) => &live.grant.accessor,
            Self::Standing(authority) => &authority.standing_accessor,
        }
    }

    /// What stands for its string.
    pub(crate) fn digest(&self) -> Option<TokenDigest> {
        self.grant().map(|grant| grant.digest)
    }

    /// When it ends.
    pub(crate) fn deadline(&self, case: &Case<'_>) -> Deadline {
        match self {
            Self::Grant(live) => live.grant.deadline,
            Self::Standing(authority) => Deadline::at(authority.standing_expires, case.now()),
        }
    }

    /// When the primary last proved it, or the authority that it was issued from.
    pub(crate) fn verified_at(&self) -> WallTime {
        match self {
            Self::Grant(live) => live.grant.verified_at,
            Self::Standing(authority) => authority.verified_at,
        }
    }

    /// The workload behind it, as far as one is known.
    pub(crate) fn workload(&self, case: &Case<'_>) -> Option<WorkloadName> {
        match self {
            Self::Grant(live) => match &live.grant.peer {
                Some(peer) => Some(peer.workload.clone()),
                None => case.query.peer?.only_workload().cloned(),
            },
            Self::Standing(authority) => Some(authority.workload.clone()),
        }
    }

    /// Whether it outlived its outage and is good for mirrored reads only.
    pub(crate) fn drains(&self) -> bool {
        let replica = self.grant().and_then(Grant::replica);
        replica.is_some_and(|replica| replica.settled == Settled::Draining)
    }

    /// The replica grant that it is, if its own outage goes on: only then is it renewed.
    pub(crate) fn of_this_outage(&self, case: &Case<'_>) -> Option<(&Grant, &ReplicaGrant)> {
        let grant = self.grant()?;
        let replica = grant.replica()?;
        let outage = case.outage().map(|outage| &outage.id);
        let goes_on = replica.settled == Settled::Not && !grant.is_left_over(outage);
        goes_on.then_some((grant, replica))
    }

    /// Refuses a token that was obtained by attestation and is presented by another peer.
    pub(crate) fn belongs(&self, case: &Case<'_>) -> Answered<()> {
        let Some(owner) = self.owner() else {
            return Ok(());
        };
        if case.query.peer.is_some_and(|peer| peer.is(owner)) {
            Ok(())
        } else if self.grant().is_some_and(Grant::is_replica) || case.outage().is_some() {
            Err(Refusal::Unauthenticated)
        } else {
            Err(Why::ForeignPeer.into())
        }
    }

    /// Refuses a primary token of a workload that must log in anew in every outage, until it did.
    fn resumes(&self, case: &Case<'_>) -> Answered<()> {
        let Some(outage) = case.outage() else {
            return Ok(());
        };
        if !self.grant().is_none_or(is_of_primary) {
            return Ok(());
        }
        let refused = self.holders(case).into_iter().any(|holder| {
            let workload = case.settings().workload(&holder.workload);
            let strict = workload
                .is_some_and(|entry| entry.failover.on_failover == OnFailover::Reauthenticate);
            strict && !logged_in(case, &holder, outage)
        });
        match refused {
            true => Err(Forbidden::Reauthenticate.into()),
            false => Ok(()),
        }
    }

    /// Whose it is: the peer that it was given to, else whatever the presenting peer is.
    fn holders(&self, case: &Case<'_>) -> Vec<PeerId> {
        if let Some(owner) = self.owner() {
            return vec![owner.clone()];
        }
        let identities = |peer: &Peer| {
            let names = peer.workloads.iter();
            names.filter_map(|name| peer.identity(name)).collect()
        };
        case.query.peer.map(identities).unwrap_or_default()
    }
}

impl Rights {
    /// The rights of a token, if its identity still stands.
    pub(crate) fn of(case: &Case<'_>, facts: &TokenFacts) -> Answered<Self> {
        let policies = case.policies()?;
        let identity_policies = match &facts.entity_id {
            Some(entity) => identity_policies(case, entity, facts)?,
            None => Vec::new(),
        };
        for name in facts.policies.iter().chain(&identity_policies) {
            case.intact(|| Damaged::Policy(name.clone()))?;
            case.recent(policies.set.verified(name), || {
                Footing::Policy(name.clone())
            })?;
        }
        let acl = case.view.acl_for(
            case.authority,
            &facts.policies,
            &identity_policies,
            facts.entity_id.as_ref(),
            case.now().wall,
        );
        let rights = Self {
            identity_policies,
            acl,
        };
        let forbidden = matches!(rights.acl.acl, Err(CompileError::Forbidden));
        if forbidden && matches!(case.query.call.kind, Kind::Mounts(_)) {
            return Err(Forbidden::Policies.into());
        }
        rights.acl()?;
        // The primary looks only now.
        match is_disabled(case, facts) {
            true => Err(Refusal::Unauthenticated),
            false => Ok(rights),
        }
    }

    /// The access control.
    pub(crate) fn acl(&self) -> Answered<&Acl> {
        self.acl.acl.as_ref().map_err(|error| match error {
            CompileError::Forbidden => Refusal::Invalid("Forbidden".into()),
            CompileError::MixedWildcards | CompileError::RootNotAlone => Why::Contradiction.into(),
        })
    }

    /// The policies that contributed to the rule which decides `path`; `lists` as `Operation::lists` has it.
    pub(crate) fn contributors(&self, path: &str, lists: bool) -> Answered<Vec<PolicyName>> {
        let names = self.acl()?.contributors(path, lists).iter();
        Ok(names
            .filter_map(|name| PolicyName::parse(name).ok())
            .collect())
    }

    /// The policies by which `sys/internal/ui/mounts` shows the mount.
    pub(crate) fn mount_contributors(&self, mount: &str) -> Answered<Vec<PolicyName>> {
        let names = self.acl()?.mount_contributors(mount).into_iter();
        Ok(names
            .filter_map(|name| PolicyName::parse(&name).ok())
            .collect())
    }

    /// Until when the access control is what it is.
    pub(crate) fn holds_until(&self) -> Option<WallTime> {
        self.acl.acl.as_ref().ok().and_then(Acl::valid_until)
    }

    /// Every policy, the token's and its identity's, sorted, each once.
    pub(crate) fn all_policies(&self, facts: &TokenFacts) -> Vec<PolicyName> {
        acl::merged(&facts.policies, &self.identity_policies)
    }
}

fn is_disabled(case: &Case<'_>, facts: &TokenFacts) -> bool {
    let entity = facts.entity_id.as_ref();
    let identity = entity.and_then(|entity| case.authority.identity(entity));
    let entity = identity.and_then(|identity| identity.entity.as_ref());
    entity.is_some_and(|entity| entity.disabled)
}

/// What an entity and its groups add. Where they are not mirrored yet, what the primary showed with the token has to do:
/// it looked at them when it made the token. A vanished entity refuses every token of it.
fn identity_policies(
    case: &Case<'_>,
    entity: &EntityId,
    facts: &TokenFacts,
) -> Answered<Vec<PolicyName>> {
    let what = || Footing::Identity(entity.clone());
    let Some(known) = case.authority.identities.get(entity) else {
        case.intact(|| Damaged::Identity(entity.clone()))?;
        // What is minted in an outage was decided then by what is judged here.
        let made = WallTime::from_secs(facts.creation_time).min(case.cutover());
        case.recent(made, what)?;
        read_since_the_last_outage(case, made)?;
        return Ok(facts.identity_policies.clone());
    };
    case.recent(known.verified_at, what)?;
    read_since_the_last_outage(case, known.verified_at)?;
    let entity = known.identity.entity.as_ref();
    let entity = entity.ok_or(Refusal::Unauthenticated)?;
    let groups = &known.identity.groups;
    let groups = groups.iter().flat_map(|group| &group.policies);
    let names = entity.policies.iter().chain(groups);
    let mut policies: Vec<_> = names
        .filter_map(|name| PolicyName::parse(name).ok())
        .collect();
    policies.sort();
    policies.dedup();
    Ok(policies)
}

/// Refuses what would be decided by an identity that may have changed in the last outage, as a token may have ended in it.
fn read_since_the_last_outage(case: &Case<'_>, verified_at: WallTime) -> Answered<()> {
    match case.authority.proven_from > Some(verified_at) {
        true => Err(Why::TokenUnproven.into()),
        false => Ok(()),
    }
}

/// Whether it is a token of the primary, or stands for one.
fn is_of_primary(grant: &Grant) -> bool {
    grant.replica().is_none_or(is_exchanged)
}

/// Whether a token of the primary stands behind it by now.
pub(crate) fn is_exchanged(replica: &ReplicaGrant) -> bool {
    matches!(replica.settled, Settled::Exchanged(_))
}

/// Whether the peer has logged in since the outage began, with whatever became of that token since.
fn logged_in(case: &Case<'_>, holder: &PeerId, outage: &Outage) -> bool {
    let of_outage = |grant: &Grant| {
        let replica = grant.replica();
        replica.is_some_and(|replica| replica.outage == outage.id)
    };
    case.view
        .any_grant(|grant| grant.peer.as_ref() == Some(holder) && of_outage(grant))
}

/// Whether that is recent enough before the cutover for a token of the primary.
fn proven(case: &Case<'_>, verified_at: WallTime) -> bool {
    case.cutover().since(verified_at) <= case.settings().bounds.token_max_age
}

/// The standing token of `workload`, which `auto_token` presents for this peer.
fn standing(case: &Case<'_>, workload: &WorkloadName) -> Answered<Bearer> {
    let entry = case
        .settings()
        .workload(workload)
        .filter(|entry| entry.auto_token);
    let peer = case.query.peer;
    let attested = peer.and_then(|peer| peer.only_workload()) == Some(workload);
    let (Some(entry), true) = (entry, attested) else {
        return Err(Refusal::Unauthenticated);
    };
    if let Some(since) = case.authority.offboarded {
        return Err(Why::Offboarded(since.at).into());
    }
    let authority = case.authority.workloads.get(workload);
    let authority = authority
        .filter(|authority| authority.role_name == entry.role)
        .ok_or_else(|| {
            let lost = case.intact(|| Damaged::Authority(workload.clone())).err();
            lost.unwrap_or_else(|| Why::NoStandingToken(workload.clone()).into())
        })?;
    if case.now().wall >= authority.standing_expires {
        return Err(Forbidden::StandingEnded.into());
    }
    if case.authority.proven_from > Some(authority.verified_at) {
        return Err(Why::TokenUnproven.into());
    }
    if !proven(case, authority.verified_at) {
        return Err(Why::TokenTooOld.into());
    }
    Ok(Bearer::Standing(Arc::clone(authority)))
}
