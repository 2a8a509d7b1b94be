//! Settling with the primary after an outage, step by step: each idempotent, each durable before the next.
//!
//! What becomes of each grant is decided purely in [`shared::recovery`]; this runs the plan. The replica stays
//! authoritative throughout, and issues until the fence.

use std::{future::Future, time::Duration};

use replica::{
    sequencer::Lane,
    sequencer::SubmitError,
    view::{Authority, View},
};
use shared::{
    acl::{AclRequest, Decision as AclDecision, Operation},
    approle::{self, Basis},
    change::{Change, Credential, CredentialName, Expects, QueuedRevocation, RevocationTarget},
    failover::{Outage, Recovery},
    grant::{Grant, Origin, ReplicaGrant, Settled},
    ledger::{Entry, EntryKind},
    name::{EntityId, PolicyName, RoleName, WorkloadName},
    recovery::{Fresh, Judgement, Proven, Unverified, Verdict, judge},
    time::{Now, WallTime},
    workload::PeerId,
};

use crate::{
    local::Local,
    mirror::PassError,
    offboarding, reaper,
    upstream::{Decision, ForeignCluster, Unavailable, UpstreamError, workload::MintError},
};

/// Why the primary cannot be settled with yet.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ProveError {
    /// Another cluster answers than the one that the replica trusts.
    #[error(transparent)]
    Foreign(#[from] ForeignCluster),
    /// The trusted cluster took the credential away.
    #[error("the primary refuses Holdover's own credential")]
    OwnCredentialRefused,
    /// It cannot serve.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
    /// It is up, and nothing showed that it takes the credential.
    #[error("the primary answers, but no authenticated request succeeds")]
    Unproven,
}

/// What settling asks of the primary.
pub trait Primary: Send + Sync {
    /// The same cluster answers, unsealed, active, and takes our credential.
    fn prove(&self) -> impl Future<Output = Result<(), ProveError>> + Send;
    /// Carries out one revocation; what is gone already counts as done.
    fn revoke(
        &self,
        queued: &QueuedRevocation,
    ) -> impl Future<Output = Result<(), UpstreamError>> + Send;
    /// Renews what is about to expire: our credential, standing tokens, leases.
    fn renew_due(&self) -> impl Future<Output = Result<(), Unavailable>> + Send;
    /// Verifies policies, roles and identities and stores them. Returns the workloads that the primary says
    /// have no role any more.
    fn verify_authority(&self)
    -> impl Future<Output = Result<Vec<WorkloadName>, PassError>> + Send;
    /// Mints a token with exactly these policies, not renewable, that ends after `remaining` at the latest.
    fn mint_exact(
        &self,
        exchange: &Exchange,
    ) -> impl Future<Output = Result<Credential, MintError>> + Send;
    /// Brings the mirrored values up to date, for at most `within`.
    fn refresh_values(
        &self,
        within: Duration,
    ) -> impl Future<Output = Result<(), Unavailable>> + Send;
}

/// What an exchanged token is minted with.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Exchange {
    /// Through this role.
    pub role: RoleName,
    /// For this peer.
    pub peer: PeerId,
    /// Of this entity, as its authority has it.
    pub entity: Option<EntityId>,
    /// With exactly these.
    pub policies: Vec<PolicyName>,
    /// For this long at most.
    pub remaining: Duration,
}

/// Values are brought up to date for this long before failing back; the mirror does the rest while following.
const VALUES_WITHIN: Duration = Duration::from_secs(10);

/// Why settling could not be finished.
#[derive(Debug, thiserror::Error)]
enum SettleError {
    #[error(transparent)]
    Authority(#[from] PassError),
    #[error(transparent)]
    Mint(#[from] MintError),
    #[error(transparent)]
    Prove(#[from] ProveError),
    #[error(transparent)]
    Revoke(#[from] UpstreamError),
    #[error(transparent)]
    Store(#[from] SubmitError),
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
    #[error(transparent)]
    Unverified(#[from] Unverified),
}

/// Settles `outage`. Ends with issuance paused where it succeeded: the driver lifts that with the new epoch.
pub async fn settle<P: Primary>(local: &Local, primary: &P, outage: &Outage) -> Recovery {
    tracing::info!(outage = %outage.id, "settling with the primary");
    match run(local, primary, outage).await {
        Ok(()) => Recovery::Done,
        // Not an outage: the trusted cluster took the credential away. There is nothing to be settled with it.
        Err(SettleError::Prove(ProveError::OwnCredentialRefused)) => {
            offboarding::offboard(local).await;
            Recovery::Done
        }
        Err(error) => {
            local.sequencer.pause_issuing(false, |_| {});
            Recovery::Failed(error.to_string())
        }
    }
}

async fn run<P: Primary>(local: &Local, primary: &P, outage: &Outage) -> Result<(), SettleError> {
    let since = local.clock.now().steady;
    primary.prove().await?;
    let (own, of_others) = queued(local);
    tell_revocations(local, primary, own).await?;
    primary.renew_due().await?;
    let gone = primary.verify_authority().await?;
    // What a token revoked besides itself needs policy that allows it now, not when it asked.
    let (allowed, withheld) = of_others
        .into_iter()
        .partition(|queued| still_allowed(local, queued));
    tell_revocations(local, primary, allowed).await?;
    withhold(local, outage, withheld).await?;
    settle_grants(local, primary, outage, &gone, since).await?;
    primary.refresh_values(VALUES_WITHIN).await?;
    // The fence: nothing is issued from here on, and what was issued since the first judging is judged too.
    local.pause_issuing().await?;
    settle_grants(local, primary, outage, &gone, since).await
}

/// Whether the primary's refusal of a revocation is its last word: what is refused for want of rights may be
/// carried out once they are granted.
pub(crate) fn is_final(decision: &Decision) -> bool {
    !matches!(decision.status(), 401 | 403)
}

/// Whether the primary may be told of it now: what a token revoked besides itself needs policy that still allows it.
pub(crate) fn may_be_told(local: &Local, queued: &QueuedRevocation) -> bool {
    is_own(&local.view, queued) || still_allowed(local, queued)
}

/// Revocations to be told: those that a token asked for about itself or that nobody's policy stands behind, and the others.
fn queued(local: &Local) -> (Vec<QueuedRevocation>, Vec<QueuedRevocation>) {
    let queue = local.view.queue();
    queue
        .iter()
        .map(|queued| (**queued).clone())
        .partition(|queued| is_own(&local.view, queued))
}

fn is_own(view: &View, queued: &QueuedRevocation) -> bool {
    let Some(requester) = queued.requested_by else {
        return true;
    };
    match &queued.target {
        RevocationTarget::Lease(_) => false,
        RevocationTarget::Token(accessor) => view
            .grant(&requester)
            .is_some_and(|live| live.grant.accessor == *accessor),
    }
}

fn still_allowed(local: &Local, queued: &QueuedRevocation) -> bool {
    let Some(live) = queued
        .requested_by
        .and_then(|requester| local.view.grant(&requester))
    else {
        return false;
    };
    let facts = &live.grant.facts;
    let now = local.clock.now().wall;
    let authority = local.view.authority();
    let (own, identity) = (&facts.policies, &facts.identity_policies);
    let compiled = local
        .view
        .acl_for(&authority, own, identity, facts.entity_id.as_ref(), now);
    let Ok(acl) = &compiled.acl else {
        return false;
    };
    // A token may have been named by its string, whatever it is named by when the primary is told.
    let by_string = match queued.target {
        RevocationTarget::Lease(_) => None,
        RevocationTarget::Token(_) => Some("auth/token/revoke"),
    };
    let mut paths = [Some(queued.path()), by_string].into_iter().flatten();
    paths.any(|path| {
        let request = AclRequest {
            namespace: "",
            path,
            operation: Operation::Update,
            data: &serde_json::Map::new(),
            wrap_ttl: None,
            help: false,
        };
        matches!(acl.decide(&request), AclDecision::Allow(_))
    })
}

async fn tell_revocations<P: Primary>(
    local: &Local,
    primary: &P,
    queue: Vec<QueuedRevocation>,
) -> Result<(), SettleError> {
    for queued in queue {
        match primary.revoke(&queued).await {
            Ok(()) => {}
            Err(UpstreamError::Decision(decision)) if is_final(&decision) => {
                tracing::warn!(%decision, id = queued.id, "the primary refused a queued revocation");
            }
            // About our rights, not about what is revoked: it stays queued, and settling goes on.
            Err(UpstreamError::Decision(decision)) => {
                tracing::error!(%decision, id = queued.id, "a queued revocation is not allowed to us");
                continue;
            }
            Err(error) => return Err(error.into()),
        }
        commit(local, vec![Change::QueueDone(queued.id)]).await?;
    }
    Ok(())
}

async fn withhold(
    local: &Local,
    outage: &Outage,
    withheld: Vec<QueuedRevocation>,
) -> Result<(), SettleError> {
    for queued in withheld {
        let now = local.clock.now().steady;
        let mut entry =
            Entry::new(EntryKind::Revocation, "withheld", now).of_peer(queued.peer.as_ref());
        entry.outage = Some(outage.id.clone());
        entry.token = queued.requested_by;
        let changes = vec![
            Change::QueueDone(queued.id),
            Change::Ledger(Box::new(entry)),
        ];
        commit(local, changes).await?;
    }
    Ok(())
}

async fn settle_grants<P: Primary>(
    local: &Local,
    primary: &P,
    outage: &Outage,
    gone: &[WorkloadName],
    since: WallTime,
) -> Result<(), SettleError> {
    for judgement in judgements(local, gone, since)? {
        let Some(live) = local.view.grant(&judgement.digest) else {
            continue;
        };
        if live.revoked.get().is_none() {
            apply(local, primary, outage, &live.grant, judgement).await?;
        }
    }
    Ok(())
}

fn judgements(
    local: &Local,
    gone: &[WorkloadName],
    since: WallTime,
) -> Result<Vec<Judgement>, Unverified> {
    let grants = local.view.grants();
    let living = grants
        .iter()
        .filter(|live| live.revoked.get().is_none())
        .map(|live| &live.grant);
    let authority = local.view.authority();
    let fresh = |name: &WorkloadName| match authority.workloads.get(name) {
        _ if gone.contains(name) => Fresh::Gone,
        Some(workload) => Fresh::Proven(workload),
        None => Fresh::Unknown,
    };
    let now = local.clock.now();
    let login = |basis: &Basis| login(&authority, basis, since, now);
    judge(living, &authority.settings, fresh, login, since, now)
}

/// What an AppRole login that a grant was given to would get today; none if it was not seen to stand since.
fn login(authority: &Authority, basis: &Basis, since: WallTime, now: Now) -> Option<Proven> {
    let role = authority.approles.get(&basis.role)?;
    let proof = authority.secret_ids.get(&basis.secret_id)?;
    if !approle::stands(role, proof, since, now) {
        return None;
    }
    let identity = proof
        .entity
        .as_ref()
        .and_then(|entity| authority.identities.get(entity));
    let identity_policies = match identity {
        Some(identity) => {
            let names = identity.policies();
            let parsed = names.iter().filter_map(|name| PolicyName::parse(name).ok());
            parsed.collect()
        }
        None => proof.identity_policies.clone(),
    };
    Some(Proven {
        policies: role.policies(),
        identity_policies,
        entity: proof.entity.clone(),
    })
}

async fn apply<P: Primary>(
    local: &Local,
    primary: &P,
    outage: &Outage,
    grant: &Grant,
    judgement: Judgement,
) -> Result<(), SettleError> {
    match judgement.verdict {
        Verdict::Revoke(cause) => {
            reaper::revoke(local, vec![(grant.clone(), cause)]).await;
            Ok(())
        }
        Verdict::Drain {
            policies,
            identity_policies,
        } => {
            let mut drained = settled(grant, Settled::Draining);
            drained.facts.policies = policies;
            drained.facts.identity_policies = identity_policies;
            commit(local, vec![Change::Grant(Box::new(drained))]).await
        }
        Verdict::Exchange {
            policies,
            remaining,
        } => {
            let Some(wanted) = exchange(&local.view, grant, policies, remaining) else {
                return Ok(());
            };
            match primary.mint_exact(&wanted).await {
                Ok(token) => {
                    let changes = exchanged(grant, wanted.policies, token, outage, local);
                    commit(local, changes).await
                }
                // What cannot be minted exactly drains.
                Err(error) if !is_undecided(&error) => {
                    tracing::warn!(%error, accessor = %grant.accessor,
                        "no exact token for a replica grant: it drains");
                    let mut drained = settled(grant, Settled::Draining);
                    drained.facts.policies = wanted.policies;
                    commit(local, vec![Change::Grant(Box::new(drained))]).await
                }
                Err(error) => Err(error.into()),
            }
        }
    }
}

/// Whether it was never said that the token cannot be minted.
fn is_undecided(error: &MintError) -> bool {
    matches!(error, MintError::Upstream(error) if error.decision().is_none())
}

fn exchange(
    view: &View,
    grant: &Grant,
    policies: Vec<PolicyName>,
    remaining: Duration,
) -> Option<Exchange> {
    let peer = grant.peer.clone()?;
    let authority = view.authority();
    let workload = authority.settings.workload(&peer.workload)?;
    let (role, entity) = (workload.role.clone(), grant.facts.entity_id.clone());
    Some(Exchange {
        role,
        peer,
        entity,
        policies,
        remaining,
    })
}

/// The grant with a primary token behind it: never more than it had, and no longer than that token lives.
fn exchanged(
    grant: &Grant,
    policies: Vec<PolicyName>,
    token: Credential,
    outage: &Outage,
    local: &Local,
) -> Vec<Change> {
    let now = local.clock.now();
    let mut exchanged = settled(grant, Settled::Exchanged(token.accessor.clone()));
    exchanged.facts.policies = policies;
    exchanged.verified_at = now.steady;
    let until = shared::time::Deadline::at(token.expires, now);
    exchanged.deadline = exchanged.deadline.earliest(until);
    let mut entry = Entry::new(EntryKind::Exchange, "allowed", now.steady).about(grant);
    entry.outage = Some(outage.id.clone());
    entry.accessor = Some(token.accessor.clone());
    entry.policies.clone_from(&exchanged.facts.policies);
    entry.deadline = Some(exchanged.deadline.wall);
    vec![
        Change::Credential(CredentialName::Exchanged(grant.digest), token),
        Change::Grant(Box::new(exchanged)),
        Change::Ledger(Box::new(entry)),
    ]
}

fn settled(grant: &Grant, settled: Settled) -> Grant {
    let mut grant = grant.clone();
    if let Origin::Replica(replica) = &grant.origin {
        grant.origin = Origin::Replica(ReplicaGrant {
            settled,
            ..replica.clone()
        });
    }
    grant
}

async fn commit(local: &Local, changes: Vec<Change>) -> Result<(), SettleError> {
    Ok(local
        .commit(Lane::Grant, changes, Expects::default())
        .await?)
}

#[cfg(test)]
mod tests;
