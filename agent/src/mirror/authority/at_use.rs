//! What a grant that an outage left stands on, verified when it is used: that alone, and not what others stand on.

use std::time::Duration;

use shared::{
    approle::{Basis, SecretId},
    name::{PolicyName, TokenDigest, WorkloadName},
    time::WallTime,
};

use super::{AuthorityMemory, AuthorityPass, AuthorityVerdict};
use crate::{
    mirror::{PassError, context::MirrorContext, read::is_cut_off},
    upstream::pace::Urgency,
};

/// What all workloads stand on is verified once for those that are settled at the same time.
const MOMENTS: Duration = Duration::from_secs(2);

impl AuthorityMemory {
    /// One workload, with what all of them stand on, unless it was verified since the last outage.
    pub(in crate::mirror) async fn verify_workload(
        &mut self,
        context: &MirrorContext,
        name: &WorkloadName,
    ) -> Result<(), PassError> {
        let Some(workload) = context.settings.workload(name) else {
            return Ok(());
        };
        if is_verified_since(context, name) {
            return Ok(());
        }
        let pass = AuthorityPass::new(context, Urgency::Recovery);
        if !pass.is_common_recent() {
            match pass.common().await {
                Err(error) if error.ends_pass() => return Err(error),
                // What of it could be read was, and what could not is told.
                _ => {}
            }
        }
        match pass.workload(workload, &mut self.minted).await? {
            AuthorityVerdict::Proven | AuthorityVerdict::Gone(_) => Ok(()),
            AuthorityVerdict::Unknown(reasons) => Err(PassError::Partial(reasons.join("; "))),
        }
    }

    /// What is mounted where, unless that was read since the last outage, or was tried to be moments ago: a path that leads
    /// nowhere says nothing of a role whose mount moved. What is refused of it is told, and keeps nobody from asking by what
    /// was read before.
    pub(in crate::mirror) async fn verify_mounts(
        &mut self,
        context: &MirrorContext,
    ) -> Result<(), PassError> {
        let now = context.now().steady;
        let is_recent = |at| !is_of_before(context, at) && now.since(at) <= MOMENTS;
        if are_mounts_read_since(context) || self.mounts_tried.is_some_and(is_recent) {
            return Ok(());
        }
        self.mounts_tried = Some(now);
        match AuthorityPass::new(context, Urgency::Recovery)
            .cluster()
            .await
        {
            Ok(cluster) => context.commit(vec![cluster]).await,
            Err(error) if is_cut_off(&error) => Err(error.into()),
            Err(_) => Ok(()),
        }
    }

    /// Every login that is known, and as many entities that decisions go by as one pass asks about.
    pub(in crate::mirror) async fn verify_logins(
        &mut self,
        context: &MirrorContext,
    ) -> Result<(), PassError> {
        let pass = AuthorityPass::new(context, Urgency::Recovery);
        pass.approles().await?;
        self.identities(&pass).await;
        Ok(())
    }
}

impl AuthorityPass<'_> {
    /// Whether all of it was verified moments ago, for another workload.
    fn is_common_recent(&self) -> bool {
        let authority = self.context.local.view.authority();
        let cluster = authority.cluster.as_ref().map(|known| known.verified_at);
        let policies = authority.policies.as_ref();
        let policies = policies.map(|known| known.set.verified_at);
        let verified = cluster.zip(policies);
        verified.is_some_and(|(mounts, policies)| {
            let oldest = mounts.min(policies);
            !is_of_before(self.context, oldest) && self.at.since(oldest) <= MOMENTS
        })
    }
}

/// Whether the authority of a workload was verified in or after the recovery that ended the last outage. In one it was not:
/// what a recovery verified that failed does not count.
pub(in crate::mirror) fn is_verified_since(context: &MirrorContext, name: &WorkloadName) -> bool {
    let authority = context.local.view.authority();
    let known = authority.workloads.get(name);
    let settled = !authority.phase.is_outage();
    settled && known.is_some_and(|known| !is_of_before(context, known.verified_at))
}

/// Whether something that was verified at `at` may have changed in an outage since.
fn is_of_before(context: &MirrorContext, at: WallTime) -> bool {
    let authority = context.local.view.authority();
    let outage = authority.phase.outage().map(|outage| outage.started_at);
    outage.is_some_and(|began| at < began) || authority.proven_from.is_some_and(|from| at < from)
}

/// Whether what is mounted where was read since the last outage.
pub(in crate::mirror) fn are_mounts_read_since(context: &MirrorContext) -> bool {
    let cluster = context.cluster();
    cluster.is_some_and(|known| !is_of_before(context, known.verified_at))
}

/// Reads all policies, unless this one was read since the last outage. Where they were read moments ago but for it, it is asked
/// for alone: for the reason.
pub(in crate::mirror) async fn verify_policy(
    context: &MirrorContext,
    name: &PolicyName,
) -> Result<(), PassError> {
    let read = |name: &PolicyName| {
        let authority = context.local.view.authority();
        let known = authority.policies.as_ref();
        known.map(|known| (known.set.verified_at, known.set.verified(name)))
    };
    let is_read = || read(name).is_some_and(|(_, at)| !is_of_before(context, at));
    if is_read() {
        return Ok(());
    }
    let pass = AuthorityPass::new(context, Urgency::Recovery);
    let recent = |at: WallTime| !is_of_before(context, at) && pass.at.since(at) <= MOMENTS;
    if !read(name).is_some_and(|(all, _)| recent(all)) {
        let policies = pass.policies().await?;
        context.commit(vec![policies]).await?;
    }
    match is_read() {
        true => Ok(()),
        false => match pass.policy(name).await {
            Err(error) => Err(error.into()),
            Ok(_) => Err(PassError::Partial(format!("sys/policies/acl/{name}"))),
        },
    }
}

/// Verifies what an AppRole login stands on, and nothing of the other logins to its role: there may be a thousand of them.
pub(in crate::mirror) async fn verify_login(
    context: &MirrorContext,
    basis: &Basis,
) -> Result<(), PassError> {
    let pass = AuthorityPass::new(context, Urgency::Recovery);
    let only = |proof: &SecretId| proof.digest == basis.secret_id;
    pass.approle(&basis.role, only).await?;
    let entity = {
        let authority = context.local.view.authority();
        let proof = authority.secret_ids.get(&basis.secret_id);
        proof.and_then(|proof| proof.entity.clone())
    };
    match entity {
        Some(entity) => pass.verify_identity(&entity).await,
        None => Ok(()),
    }
}

/// Verifies the entity of a token that lives, unless that was done since the last outage.
pub(in crate::mirror) async fn verify_holder(
    context: &MirrorContext,
    token: &TokenDigest,
) -> Result<(), PassError> {
    let live = context.local.view.grant(token);
    let live = live.filter(|live| live.revoked.get().is_none());
    let Some(entity) = live.and_then(|live| live.grant.facts.entity_id.clone()) else {
        return Ok(());
    };
    let read = {
        let authority = context.local.view.authority();
        let known = authority.identities.get(&entity);
        known.map(|known| known.verified_at)
    };
    match read {
        Some(at) if !is_of_before(context, at) => Ok(()),
        _ => {
            let pass = AuthorityPass::new(context, Urgency::Recovery);
            pass.verify_identity(&entity).await
        }
    }
}
