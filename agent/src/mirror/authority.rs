//! The authority of workloads: their roles, the policies, the identities, and standing tokens that prove what the
//! primary makes of all of it.
//!
//! Verified as a whole, a few requests for each workload, before anything else is mirrored. A workload of which any
//! part could not be verified keeps its old authority with its old age; one whose role is gone loses it at once.

pub(super) mod approle;
pub(super) mod at_use;
mod cluster;
mod identity;
mod keeper;
mod policies;
mod role;
mod standing;

use std::collections::{BTreeMap, BTreeSet};

use serde::de::DeserializeOwned;
use shared::{
    change::{Change, CredentialName, Unchanged},
    name::{EntityId, PolicyName, WorkloadName},
    time::WallTime,
    workload::{Workload, WorkloadAuthority},
};

use self::standing::{Minting, StandingToken};
pub(super) use self::{
    keeper::AuthorityKeeper,
    policies::{MOST_POLICY_BYTES, policy_bytes},
    standing::until_standing_due,
};
use super::{PassError, context::MirrorContext, read::is_cut_off, status::UnreadPaths};
use crate::upstream::{Reply, Request, Said, ShownReply, UpstreamError, pace::Urgency};

/// What became of every workload.
#[derive(Clone, Debug, Default)]
pub struct AuthorityReport {
    /// By workload.
    pub workloads: BTreeMap<WorkloadName, AuthorityVerdict>,
    /// As of when all is verified that anybody's rights hang on: mounts, policies and identities; none if not all of it was.
    pub rights_as_of: Option<WallTime>,
}

/// What one verification found of a workload.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum AuthorityVerdict {
    /// The primary said that its role is gone, or is not one that tokens may be issued from.
    Gone(Vec<String>),
    /// All of it was verified.
    Proven,
    /// Not all of it could be verified; what was known before stands with its age.
    Unknown(Vec<String>),
}

impl AuthorityVerdict {
    fn reasons(&self) -> Vec<String> {
        match self {
            Self::Proven => Vec::new(),
            Self::Gone(reasons) | Self::Unknown(reasons) => reasons.clone(),
        }
    }
}

/// One verification.
pub(super) struct AuthorityPass<'a> {
    context: &'a MirrorContext,
    urgency: Urgency,
    /// When it began: what all of it is verified as of.
    at: WallTime,
}

impl<'a> AuthorityPass<'a> {
    pub(super) fn new(context: &'a MirrorContext, urgency: Urgency) -> Self {
        Self {
            context,
            urgency,
            at: context.now().steady,
        }
    }

    async fn ask(&self, request: &Request) -> Result<Reply, UpstreamError> {
        self.context.upstream.ask(request, self.urgency).await
    }

    /// What `request` finds; none if nothing is there.
    async fn find(&self, request: &Request) -> Result<Option<ShownReply>, UpstreamError> {
        match self.ask(request).await?.said()? {
            Said::Missing(_) => Ok(None),
            Said::Shown(shown) => Ok(Some(shown)),
            other => Err(other.unfit()),
        }
    }

    async fn read(&self, path: impl Into<String>) -> Result<Option<ShownReply>, UpstreamError> {
        self.find(&Request::read(path)).await
    }

    /// The `data` of a read, in which `fields` must be; none if nothing is there.
    async fn get<T: DeserializeOwned>(
        &self,
        path: impl Into<String>,
        fields: &[&str],
    ) -> Result<Option<T>, UpstreamError> {
        let shown = self.read(path).await?;
        shown.map(|shown| shown.data_with(fields)).transpose()
    }

    /// What all workloads stand on: the cluster with its mounts, and the policies. What can be read of it is kept.
    ///
    /// # Errors
    /// If not both could be.
    async fn common(&self) -> Result<(), PassError> {
        let mut read = vec![self.cluster().await];
        let refused = |error: &UpstreamError| {
            let decision = error.decision();
            decision.is_some_and(|decision| !decision.is_of_token())
        };
        if read
            .iter()
            .all(|one| one.as_ref().err().is_none_or(refused))
        {
            // Who may not see the mounts may see the policies all the same.
            read.push(self.policies().await);
        }
        let (mut changes, mut errors) = (Vec::new(), Vec::new());
        for one in read {
            match one {
                Ok(change) => changes.push(change),
                Err(error) => errors.push(error),
            }
        }
        self.note_common(&errors);
        self.context.commit(changes).await?;
        let failed = errors.into_iter().next();
        failed.map_or(Ok(()), |error| Err(error.into()))
    }

    /// Whether all of it was verified by one that began later.
    fn is_common_verified(&self) -> bool {
        let authority = self.context.local.view.authority();
        let cluster = authority.cluster.as_ref();
        let mounts = cluster.is_some_and(|known| known.verified_at > self.at);
        let policies = authority.policies.as_ref();
        mounts && policies.is_some_and(|known| known.set.verified_at > self.at)
    }

    /// Whether a workload was verified by one that began later.
    fn is_verified(&self, workload: &Workload) -> bool {
        let authority = self.context.local.view.authority();
        let known = authority.workloads.get(&workload.name);
        let known = known.filter(|known| known.role_name == workload.role);
        known.is_some_and(|known| known.verified_at > self.at)
    }

    /// Leaves for the status what could not be read of it.
    fn note_common(&self, errors: &[UpstreamError]) {
        let mut unread = UnreadPaths::default();
        for error in errors.iter().filter(|error| !is_cut_off(error)) {
            unread.add("", error);
        }
        self.context.note("mounts and policies", unread);
    }

    /// Policies that could not be read with the others.
    fn unread_policies(&self) -> BTreeSet<PolicyName> {
        let authority = self.context.local.view.authority();
        let policies = authority.policies.iter();
        let unread = policies.flat_map(|policies| policies.set.unread.keys());
        unread.cloned().collect()
    }

    async fn workload(
        &self,
        workload: &Workload,
        minting: &mut Minting,
    ) -> Result<AuthorityVerdict, PassError> {
        let name = &workload.name;
        let Some(role) = self.role(&workload.role).await? else {
            let why = format!("there is no token role {}", workload.role);
            return self.gone(name, vec![why]).await;
        };
        let problems = role::problems(&workload.role, &role);
        if !problems.is_empty() {
            return self.gone(name, problems).await;
        }
        let standing = StandingToken {
            pass: self,
            workload,
            role: &role,
            minting,
        };
        let standing = standing.live().await?;
        if let Some(entity) = &standing.facts.entity_id {
            self.verify_identity(entity).await?;
        }
        let unread = self.unread_policies();
        let mut problems = standing::problems(&standing);
        let facts = &standing.facts;
        let policies = facts.policies.iter().chain(&facts.identity_policies);
        let unread = policies.filter(|name| unread.contains(*name));
        problems.extend(unread.map(|name| format!("policy {name} could not be read")));
        if !problems.is_empty() {
            return Ok(AuthorityVerdict::Unknown(problems));
        }
        let Some(accessor) = standing.accessor.clone() else {
            let why = "its standing token has no accessor".to_owned();
            return Ok(AuthorityVerdict::Unknown(vec![why]));
        };
        let authority = Change::Authority(Box::new(WorkloadAuthority {
            workload: name.clone(),
            role_name: workload.role.clone(),
            role,
            standing_expires: standing::end(&standing),
            standing: standing.facts,
            standing_accessor: accessor,
            verified_at: self.at,
        }));
        self.context.commit(vec![authority]).await?;
        Ok(AuthorityVerdict::Proven)
    }

    /// Nothing may be issued for the workload any longer.
    async fn gone(
        &self,
        name: &WorkloadName,
        why: Vec<String>,
    ) -> Result<AuthorityVerdict, PassError> {
        let known = {
            let view = &self.context.local.view;
            let authority = view.authority();
            authority.workloads.contains_key(name) || view.is_authority_lost(name)
        };
        if known {
            tracing::warn!(workload = %name, ?why, "nothing can be issued for this workload any more");
            let gone = Change::AuthorityGone(name.clone());
            self.context.commit(vec![gone]).await?;
        }
        Ok(AuthorityVerdict::Gone(why))
    }

    /// Asks for one entity and its groups.
    pub(super) async fn verify_identity(&self, entity: &EntityId) -> Result<(), PassError> {
        let identity = self.identity(entity).await?;
        self.context.commit(vec![identity]).await
    }

    /// Nothing was written anywhere since everything was verified, by a pass that began at `since`: it is verified as of
    /// this one.
    async fn reaffirm(&self, since: WallTime) -> Result<AuthorityReport, PassError> {
        let unchanged = Unchanged {
            since,
            until: self.at,
        };
        self.context
            .commit(vec![Change::Unchanged(unchanged)])
            .await?;
        let mut report = AuthorityReport {
            rights_as_of: Some(self.at),
            ..AuthorityReport::default()
        };
        {
            let authority = self.context.local.view.authority();
            let known = self.context.settings.workloads.iter();
            let known = known.filter(|one| authority.workloads.contains_key(&one.name));
            let proven = known.map(|one| (one.name.clone(), AuthorityVerdict::Proven));
            report.workloads.extend(proven);
        }
        self.note(&report);
        Ok(report)
    }

    /// Leaves what was found for the status.
    fn note(&self, report: &AuthorityReport) {
        let reasons = report.workloads.iter();
        let reasons = reasons.map(|(name, verdict)| (name.clone(), verdict.reasons()));
        self.context.failures.lock().extend(reasons);
    }

    /// Entities that decisions go by and that were last verified before `since`, or never.
    fn unverified(&self, since: WallTime) -> Vec<EntityId> {
        let view = &self.context.local.view;
        let authority = view.authority();
        let is_seen = |entity: &EntityId| {
            let known = authority.identities.get(entity);
            known.is_some_and(|known| known.verified_at >= since)
        };
        let mut entities = view.entities_in_use(self.context.now());
        entities.retain(|entity| !is_seen(entity));
        entities.into_iter().collect()
    }

    /// Identities that nothing hangs on any more are not kept.
    async fn forget_identities(&self) -> Result<(), PassError> {
        let gone = {
            let view = &self.context.local.view;
            let (authority, used) = (view.authority(), view.entities_in_use(self.context.now()));
            let unused = authority.identities.keys();
            let unused = unused.filter(|entity| !used.contains(*entity)).cloned();
            unused.map(Change::IdentityGone).collect()
        };
        self.context.commit(gone).await
    }

    /// Workloads that left the configuration: their standing tokens are revoked and forgotten.
    async fn forget_workloads(&self) -> Result<(), PassError> {
        let gone: Vec<_> = {
            let authority = self.context.local.view.authority();
            let known = authority.workloads.values();
            known
                .filter(|known| self.context.settings.workload(&known.workload).is_none())
                .map(|known| (known.workload.clone(), known.standing_accessor.clone()))
                .collect()
        };
        for (name, accessor) in gone {
            // Revoked before it is forgotten, because nothing else remembers the accessor.
            let revoked = self
                .context
                .upstream
                .revoke_accessor(&accessor, self.urgency);
            revoked.await?;
            let changes = vec![
                Change::AuthorityGone(name.clone()),
                Change::CredentialGone(CredentialName::Standing(name)),
            ];
            self.context.commit(changes).await?;
        }
        Ok(())
    }
}
