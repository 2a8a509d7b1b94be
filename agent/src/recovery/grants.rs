//! What becomes of each replica grant: judged purely in [`shared::recovery`], carried out here.

use std::{sync::Arc, time::Duration};

use replica::{
    sequencer::{Lane, SubmitError},
    view::{Authority, LiveGrant},
};
use shared::{
    approle::{self, Basis},
    change::{Change, Credential, CredentialName, Expects},
    failover::Phase,
    grant::{Grant, Origin, ReplicaGrant, Settled},
    ledger::{Entry, EntryKind},
    name::{PolicyName, WorkloadName},
    recovery::{Fate, Fresh, Judgement, Proven, Unverified, judge},
    time::{Deadline, Now, WallTime},
};

use super::{SettleError, primary::Primary};
use crate::{
    local::Local,
    reaper,
    upstream::workload::{Exact, MintError},
};

/// How often it is looked for what recovery left.
const LOOK: Duration = Duration::from_millis(500);

/// After one could not be settled.
const AGAIN: Duration = Duration::from_secs(10);

/// Settles every grant that lives and rests on nothing unproven, as often as it is asked to: what is settled already stays
/// as it is.
pub(super) struct GrantSettling<'a, P> {
    pub(super) local: &'a Local,
    pub(super) primary: &'a P,
    /// Workloads that the primary says have no role any more.
    pub(super) gone: &'a [WorkloadName],
    /// When recovery began: authority must have been verified after it, and tokens that grants hang on.
    pub(super) since: WallTime,
}

/// Settles what recovery left, because a token that it hangs on was not proven by then, until the daemon stops.
pub async fn settle_left_over(local: Local, primary: Arc<impl Primary>) {
    loop {
        tokio::time::sleep(LOOK).await;
        let (since, following) = {
            let authority = local.view.authority();
            (authority.proven_from, authority.phase == Phase::Following)
        };
        let Some(since) = since.filter(|_| following) else {
            continue; // Recovery settles.
        };
        let settling = GrantSettling {
            local: &local,
            primary: primary.as_ref(),
            gone: &[],
            since,
        };
        if let Err(error) = settling.settle_each().await {
            tracing::warn!(%error, "a grant that an outage left is settled later");
            tokio::time::sleep(AGAIN).await;
        }
    }
}

impl<P: Primary> GrantSettling<'_, P> {
    pub(super) async fn settle(&self) -> Result<(), SettleError> {
        let judged = self.judgements(&self.local.view.grants())?;
        self.carry_out_all(judged).await
    }

    /// The same for those that an outage left, each by itself: one whose workload was not verified since keeps no other from
    /// it. What is settled is passed over before it is judged, because this looks often.
    pub(super) async fn settle_each(&self) -> Result<(), SettleError> {
        let mut left = self.local.view.grants();
        left.retain(|live| live.grant.is_left_over(None));
        for live in left {
            // One whose workload was not verified since waits for that.
            if let Ok(judged) = self.judgements(&[live]) {
                self.carry_out_all(judged).await?;
            }
        }
        Ok(())
    }

    async fn carry_out_all(
        &self,
        (judged_by, judgements): (u64, Vec<Judgement>),
    ) -> Result<(), SettleError> {
        for judgement in judgements {
            let Some(live) = self.local.view.grant(&judgement.digest) else {
                continue;
            };
            if live.revoked.get().is_none() {
                self.carry_out(&live.grant, judgement.fate, judged_by)
                    .await?;
            }
        }
        Ok(())
    }

    /// The judgements, and the version of the settings that they go by.
    fn judgements(&self, grants: &[Arc<LiveGrant>]) -> Result<(u64, Vec<Judgement>), Unverified> {
        let living = grants.iter().filter(|live| live.revoked.get().is_none());
        let living = living.map(|live| &live.grant);
        let living = living.filter(|grant| self.is_backed(grant));
        let authority = self.local.view.authority();
        let fresh = |name: &WorkloadName| match authority.workloads.get(name) {
            _ if self.gone.contains(name) => Fresh::Gone,
            Some(workload) => Fresh::Proven(workload),
            None => Fresh::Unknown,
        };
        let (since, now) = (self.since, self.local.clock.now());
        let login = |basis: &Basis| login(&authority, basis, since, now);
        let judgements = judge(living, &authority.settings, fresh, login, since, now)?;
        Ok((authority.settings_version, judgements))
    }

    /// Whether what it hangs on lives, by what the primary said since recovery began. What hangs on a dead token the reaper ends.
    fn is_backed(&self, grant: &Grant) -> bool {
        let (view, now) = (&self.local.view, self.local.clock.now());
        let dead = view.dead_ancestor(grant, |end| end.passed(now));
        dead.is_none() && view.unproven(grant, self.since).next().is_none()
    }

    async fn carry_out(
        &self,
        grant: &Grant,
        fate: Fate,
        judged_by: u64,
    ) -> Result<(), SettleError> {
        match fate {
            Fate::Revoke(cause) => {
                reaper::revoke(self.local, vec![(grant.clone(), cause)]).await;
                Ok(())
            }
            Fate::Drain {
                policies,
                identity_policies,
            } => {
                let drained = drained(grant, policies, identity_policies);
                self.store(drained, judged_by).await
            }
            Fate::Exchange {
                policies,
                remaining,
            } => self.exchange(grant, policies, remaining, judged_by).await,
        }
    }

    /// Nothing of it where the settings changed since it was judged, or the grant died: what lives is judged once more, and
    /// until then nothing is decided by it.
    async fn store(&self, changes: Vec<Change>, judged_by: u64) -> Result<(), SettleError> {
        let expects = Expects {
            settings: Some(judged_by),
            ..Expects::default()
        };
        match self.local.commit(Lane::Grant, changes, expects).await {
            Err(SubmitError::Conflict) => Ok(()),
            stored => Ok(stored?),
        }
    }

    async fn exchange(
        &self,
        grant: &Grant,
        policies: Vec<PolicyName>,
        remaining: Duration,
        judged_by: u64,
    ) -> Result<(), SettleError> {
        let Some(peer) = &grant.peer else {
            return Ok(());
        };
        let wanted = Exact {
            policies: &policies,
            entity: grant.facts.entity_id.as_ref(),
            life: remaining,
        };
        match self.primary.mint_exact(&peer.workload, wanted).await {
            Ok(token) => {
                let exchanged = self.exchanged(grant, policies, token);
                self.store(exchanged, judged_by).await
            }
            Err(MintError::Upstream(error)) if error.decision().is_none() => {
                Err(MintError::Upstream(error).into())
            }
            Err(error) => {
                tracing::warn!(%error, accessor = %grant.accessor, "no exact token for a replica grant: it drains");
                let identity_policies = grant.facts.identity_policies.clone();
                let drained = drained(grant, policies, identity_policies);
                self.store(drained, judged_by).await
            }
        }
    }

    /// The grant with a primary token behind it: never more than it had, and no longer than that token lives.
    fn exchanged(
        &self,
        grant: &Grant,
        policies: Vec<PolicyName>,
        token: Credential,
    ) -> Vec<Change> {
        let now = self.local.clock.now();
        let mut exchanged = settled(grant, Settled::Exchanged(token.accessor.clone()));
        exchanged.facts.policies = policies;
        exchanged.verified_at = now.steady;
        let until = Deadline::at(token.expires, now);
        exchanged.deadline = exchanged.deadline.earliest(until);
        let mut entry = Entry::new(EntryKind::Exchange, "allowed", now.steady).about(grant);
        entry.outage = grant.replica().map(|replica| replica.outage.clone());
        entry.accessor = Some(token.accessor.clone());
        entry.policies.clone_from(&exchanged.facts.policies);
        entry.deadline = Some(exchanged.deadline.wall);
        vec![
            Change::Credential(CredentialName::Exchanged(grant.digest), token),
            Change::Grant(Box::new(exchanged)),
            Change::Ledger(Box::new(entry)),
        ]
    }
}

/// What an AppRole login that a grant was given to would get today; none if it was not seen to stand since.
fn login(authority: &Authority, basis: &Basis, since: WallTime, now: Now) -> Option<Proven> {
    let role = authority.approles.get(&basis.role)?;
    let proof = authority.secret_ids.get(&basis.secret_id)?;
    if !approle::stands(role, proof, since, now) {
        return None;
    }
    let entity = proof.entity.as_ref();
    let identity_policies = match entity.and_then(|entity| authority.identity(entity)) {
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

fn drained(
    grant: &Grant,
    policies: Vec<PolicyName>,
    identity_policies: Vec<PolicyName>,
) -> Vec<Change> {
    let mut drained = settled(grant, Settled::Draining);
    drained.facts.policies = policies;
    drained.facts.identity_policies = identity_policies;
    vec![Change::Grant(Box::new(drained))]
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
