//! The authority of workloads: their roles, the policies, the identities, and standing tokens that prove what the
//! primary makes of all of it.
//!
//! Verified as a whole, a few requests for each workload, before anything else is mirrored. A workload of which any
//! part could not be verified keeps its old authority with its old age; one whose role is gone loses it at once.

mod approle;
mod cluster;
mod identity;
mod policies;
mod role;
mod standing;

use std::collections::{BTreeMap, BTreeSet};

use shared::{
    change::{Change, CredentialName},
    name::{EntityId, WorkloadName},
    time::WallTime,
    workload::{Workload, WorkloadAuthority},
};

pub(super) use self::standing::Origin;
use super::{Mirrors, PassError, index::Quiet};
use crate::upstream::{UpstreamError, pace::Urgency};

/// Entities of live tokens that are asked about in one cycle; the others wait for the next.
const IDENTITIES: usize = 50;

/// What became of every workload.
#[derive(Clone, Debug, Default)]
pub struct AuthorityReport {
    /// By workload.
    pub workloads: BTreeMap<WorkloadName, AuthorityVerdict>,
}

/// What one verification found of a workload.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum AuthorityVerdict {
    /// The primary said that its role is gone, or is none that tokens may be issued from.
    Gone(Vec<String>),
    /// All of it was verified.
    Proven,
    /// Not all of it could be verified; what was known before stands with its age.
    Unknown(Vec<String>),
}

/// What the task remembers from cycle to cycle.
#[derive(Default)]
pub(super) struct AuthorityMemory {
    quiet: Quiet,
    /// When each entity was last asked about.
    identities: BTreeMap<EntityId, WallTime>,
}

impl AuthorityMemory {
    /// Verifies everything, or finds by the index that nothing was written since it last did.
    pub(super) async fn verify(
        &mut self,
        mirrors: &Mirrors,
        urgency: Urgency,
        may_skip: bool,
    ) -> Result<AuthorityReport, PassError> {
        let at = mirrors.now();
        let upstream = &mirrors.0.upstream;
        if upstream.own_token().is_none() {
            return Err(UpstreamError::NoCredential.into());
        }
        let index = self.quiet.observe(upstream, urgency).await?;
        if may_skip && self.quiet.holds(index.as_ref(), at) && mirrors.standing_rest(at) {
            return mirrors.refresh(at).await;
        }
        self.quiet.forget();
        let cycle = AuthorityPass {
            mirrors,
            urgency,
            at,
        };
        let cluster = cycle.cluster().await?;
        let policies = cycle.policies().await?;
        mirrors.commit(vec![cluster, policies]).await?;
        let report = cycle.workloads().await?;
        let approles = cycle.approles().await?;
        let identified = self.identities_of_tokens(&cycle).await;
        mirrors.note(&report);
        mirrors.forget_workloads().await?;
        if approles
            && identified
            && report
                .workloads
                .values()
                .all(|one| *one == AuthorityVerdict::Proven)
        {
            self.quiet.complete(index, at);
        }
        Ok(report)
    }

    /// Entities behind tokens that clients use, the longest unasked first. Whether all of them were asked about.
    async fn identities_of_tokens(&mut self, cycle: &AuthorityPass<'_>) -> bool {
        let wanted = cycle.mirrors.entities_in_use();
        self.identities.retain(|entity, _| wanted.contains(entity));
        let mut due: Vec<_> = wanted.iter().collect();
        due.sort_by_key(|entity| self.identities.get(*entity).copied());
        let complete = due.len() <= IDENTITIES;
        for entity in due.into_iter().take(IDENTITIES) {
            match cycle.identity(entity).await {
                Ok(change) => {
                    if cycle.mirrors.commit(vec![change]).await.is_err() {
                        return false;
                    }
                    self.identities.insert(entity.clone(), cycle.at);
                }
                Err(error) => {
                    tracing::warn!(%error, %entity, "an identity could not be verified");
                    return false;
                }
            }
        }
        complete
    }
}

/// One verification.
struct AuthorityPass<'a> {
    mirrors: &'a Mirrors,
    urgency: Urgency,
    /// When it began: what all of it is verified as of.
    at: WallTime,
}

impl AuthorityPass<'_> {
    async fn workloads(&self) -> Result<AuthorityReport, PassError> {
        let mut report = AuthorityReport::default();
        for workload in &self.mirrors.0.settings.workloads {
            let verdict = match self.workload(workload).await {
                Ok(verdict) => verdict,
                Err(PassError::Upstream(error)) if !error.is_unavailable() => {
                    AuthorityVerdict::Unknown(vec![error.to_string()])
                }
                Err(error) => return Err(error),
            };
            report.workloads.insert(workload.name.clone(), verdict);
        }
        Ok(report)
    }

    async fn workload(&self, workload: &Workload) -> Result<AuthorityVerdict, PassError> {
        let name = &workload.name;
        let Some(role) = self.role(&workload.role).await? else {
            let why = format!("there is no token role {}", workload.role);
            return self.gone(name, vec![why]).await;
        };
        let problems = role::problems(&workload.role, &role);
        if !problems.is_empty() {
            return self.gone(name, problems).await;
        }
        let standing = self.standing(workload, &role).await?;
        let mut changes = Vec::new();
        if let Some(entity) = &standing.facts.entity_id {
            changes.push(self.identity(entity).await?);
        }
        let problems = standing::problems(&standing);
        if !problems.is_empty() {
            return Ok(AuthorityVerdict::Unknown(problems));
        }
        let Some(accessor) = standing.accessor.clone() else {
            let why = "its standing token has no accessor".to_owned();
            return Ok(AuthorityVerdict::Unknown(vec![why]));
        };
        changes.push(Change::Authority(Box::new(WorkloadAuthority {
            workload: name.clone(),
            role_name: workload.role.clone(),
            role,
            standing_expires: standing::end(&standing),
            standing: standing.facts,
            standing_accessor: accessor,
            verified_at: self.at,
        })));
        self.mirrors.commit(changes).await?;
        Ok(AuthorityVerdict::Proven)
    }

    /// Nothing may be issued for the workload any longer.
    async fn gone(
        &self,
        name: &WorkloadName,
        why: Vec<String>,
    ) -> Result<AuthorityVerdict, PassError> {
        if self
            .mirrors
            .0
            .local
            .view
            .authority()
            .workloads
            .contains_key(name)
        {
            tracing::warn!(workload = %name, ?why, "nothing can be issued for this workload any more");
            let gone = Change::AuthorityGone(name.clone());
            self.mirrors.commit(vec![gone]).await?;
        }
        Ok(AuthorityVerdict::Gone(why))
    }
}

impl Mirrors {
    /// Asks for one entity and its groups, now.
    pub(super) async fn verify_identity(&self, entity: &EntityId) -> Result<(), PassError> {
        let cycle = AuthorityPass {
            mirrors: self,
            urgency: Urgency::Authority,
            at: self.now(),
        };
        let identity = cycle.identity(entity).await?;
        self.commit(vec![identity]).await
    }

    /// Nothing was written anywhere since everything was verified: it is verified as of now.
    async fn refresh(&self, at: WallTime) -> Result<AuthorityReport, PassError> {
        let (mut report, mut changes) = (AuthorityReport::default(), Vec::new());
        {
            let authority = self.0.local.view.authority();
            if let Some(cluster) = &authority.cluster {
                let mut cluster = (**cluster).clone();
                cluster.verified_at = at;
                changes.push(Change::Cluster(Box::new(cluster)));
            }
            if let Some(policies) = &authority.policies {
                let mut set = policies.set.clone();
                set.verified_at = at;
                changes.push(Change::Policies(Box::new(set)));
            }
            for workload in &self.0.settings.workloads {
                if let Some(known) = authority.workloads.get(&workload.name) {
                    let mut known = (**known).clone();
                    known.verified_at = at;
                    changes.push(Change::Authority(Box::new(known)));
                    report
                        .workloads
                        .insert(workload.name.clone(), AuthorityVerdict::Proven);
                }
            }
            changes.extend(approle::stand(&authority, at, self.0.local.clock.now()));
        }
        self.commit(changes).await?;
        self.note(&report);
        Ok(report)
    }

    fn note(&self, report: &AuthorityReport) {
        let mut failures = self.0.failures.lock();
        for (name, verdict) in &report.workloads {
            let reasons = match verdict {
                AuthorityVerdict::Proven => Vec::new(),
                AuthorityVerdict::Gone(reasons) | AuthorityVerdict::Unknown(reasons) => {
                    reasons.clone()
                }
            };
            failures.insert(name.clone(), reasons);
        }
    }

    /// Entities of live tokens that a workload's standing token does not cover already.
    fn entities_in_use(&self) -> BTreeSet<EntityId> {
        let view = &self.0.local.view;
        let now = self.0.local.clock.now();
        let grants = view.grants();
        let live = grants.iter().filter(|live| {
            !live.grant.is_replica()
                && live.revoked.get().is_none()
                && !live.grant.deadline.passed(now)
        });
        let mut entities: BTreeSet<_> = live
            .filter_map(|live| live.grant.facts.entity_id.clone())
            .collect();
        let authority = view.authority();
        let proofs = authority.secret_ids.values();
        entities.extend(proofs.filter_map(|proof| proof.entity.clone()));
        for authority in authority.workloads.values() {
            if let Some(entity) = authority.entity() {
                entities.remove(entity);
            }
        }
        entities
    }

    /// Workloads that left the configuration: their standing tokens are revoked and forgotten.
    async fn forget_workloads(&self) -> Result<(), PassError> {
        let gone: Vec<_> = {
            let authority = self.0.local.view.authority();
            let known = authority.workloads.values();
            known
                .filter(|known| self.0.settings.workload(&known.workload).is_none())
                .map(|known| (known.workload.clone(), known.standing_accessor.clone()))
                .collect()
        };
        for (name, accessor) in gone {
            let upstream = &self.0.upstream;
            upstream
                .revoke_accessor(&accessor, Urgency::Authority)
                .await?;
            self.commit(vec![
                Change::AuthorityGone(name.clone()),
                Change::CredentialGone(CredentialName::Standing(name)),
            ])
            .await?;
        }
        Ok(())
    }
}
