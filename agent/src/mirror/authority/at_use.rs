//! What a grant that an outage left stands on, verified when it is used: that alone, and not what others stand on.

use std::time::Duration;

use shared::{
    approle::{Basis, SecretId},
    name::{PolicyName, TokenDigest, WorkloadName},
    time::WallTime,
};

use super::AuthorityPass;
use crate::{
    mirror::{PassError, context::MirrorContext},
    upstream::pace::Urgency,
};

/// What all workloads stand on is verified once for those that are settled at the same time.
const MOMENTS: Duration = Duration::from_secs(2);

impl AuthorityPass<'_> {
    /// Whether all of it was verified moments ago, for another workload.
    pub(super) fn is_common_recent(&self) -> bool {
        let authority = self.context.local.view.authority();
        let cluster = authority.cluster.as_ref().map(|known| known.verified_at);
        let policies = authority.policies.as_ref();
        let policies = policies.map(|known| known.set.verified_at);
        let verified = cluster.zip(policies);
        verified.is_some_and(|(mounts, policies)| {
            let oldest = mounts.min(policies);
            is_recent(self.context, oldest, self.at)
        })
    }
}

/// Whether the authority of a workload was verified in or after the recovery that ended the last outage. In one it was not:
/// what a recovery verified that failed does not count.
pub(super) fn is_verified_since(context: &MirrorContext, name: &WorkloadName) -> bool {
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

/// Whether something was done at `at`, moments ago and since the last outage.
pub(super) fn is_recent(context: &MirrorContext, at: WallTime, now: WallTime) -> bool {
    !is_of_before(context, at) && now.since(at) <= MOMENTS
}

/// Whether what is mounted where was read since the last outage.
pub(super) fn are_mounts_read_since(context: &MirrorContext) -> bool {
    let cluster = context.cluster();
    cluster.is_some_and(|known| !is_of_before(context, known.verified_at))
}

/// Reads all policies, unless this one was read since the last outage. Where they were read moments ago but for it, it is asked
/// for alone: for the reason.
pub(super) async fn verify_policy(
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
    if !read(name).is_some_and(|(all, _)| is_recent(context, all, pass.at)) {
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
