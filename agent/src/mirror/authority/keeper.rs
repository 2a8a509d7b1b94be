//! Who verifies authority, and what is remembered from pass to pass.
//!
//! A pass over all of it may take long, and what is used meanwhile must not wait for the end of it. So what all workloads stand
//! on, and each workload, is read and stored by one at a time and given up in between: nobody waits for more than what he asks
//! about, and nothing older is stored over what was read later.

use std::{collections::BTreeMap, time::Duration};

use shared::{
    name::{EntityId, PolicyName, WorkloadName},
    settings::Settings,
    time::WallTime,
    workload::Workload,
};
use tokio::sync::{Mutex, MutexGuard};

use super::{
    AuthorityPass, AuthorityReport, AuthorityVerdict, approle, at_use,
    standing::{self, Minting},
};
use crate::{
    mirror::{
        PassError, context::MirrorContext, index::Quiet, read::is_cut_off, status::UnreadPaths,
    },
    upstream::{UpstreamError, pace::Urgency},
};

/// Entities that are asked about in one pass, where that is enough for all of them in time; the others wait for the next.
const IDENTITIES: usize = 50;

/// Verifies authority, for all who ask for it.
pub(in crate::mirror) struct AuthorityKeeper {
    /// Of passes over all of it, of which there is one at a time.
    memory: Mutex<AuthorityMemory>,
    /// Held by who reads what all workloads stand on. Whoever waits for it may hold a workload, and not the other way round.
    common: Mutex<CommonMemory>,
    workloads: Vec<KeptWorkload>,
}

/// What is remembered of what all workloads stand on.
#[derive(Default)]
struct CommonMemory {
    /// When it was last tried to read the mounts for a login that was to be settled.
    mounts_tried: Option<WallTime>,
}

/// A workload of the configuration. Held by who reads its authority, with what is remembered of its standing token.
struct KeptWorkload {
    workload: Workload,
    minting: Mutex<Minting>,
}

/// What passes over all of it remember.
#[derive(Default)]
struct AuthorityMemory {
    quiet: Quiet,
    /// When each entity was last asked about.
    identities: BTreeMap<EntityId, WallTime>,
}

impl AuthorityKeeper {
    /// One for the workloads of `settings`, of which nothing is remembered.
    pub(in crate::mirror) fn new(settings: &Settings) -> Self {
        let kept = |workload: &Workload| KeptWorkload {
            workload: workload.clone(),
            minting: Mutex::default(),
        };
        Self {
            memory: Mutex::default(),
            common: Mutex::default(),
            workloads: settings.workloads.iter().map(kept).collect(),
        }
    }

    /// Verifies everything, or finds by the index that nothing was written since it last did.
    pub(in crate::mirror) async fn verify(
        &self,
        context: &MirrorContext,
        urgency: Urgency,
        may_skip: bool,
    ) -> Result<AuthorityReport, PassError> {
        let mut memory = self.memory.lock().await;
        let pass = AuthorityPass::new(context, urgency);
        memory.verify(&pass, self, may_skip).await
    }

    /// One workload, with what all of them stand on, unless it was verified since the last outage.
    pub(in crate::mirror) async fn verify_workload(
        &self,
        context: &MirrorContext,
        name: &WorkloadName,
    ) -> Result<(), PassError> {
        let mut workloads = self.workloads.iter();
        let Some(kept) = workloads.find(|kept| kept.workload.name == *name) else {
            return Ok(());
        };
        if at_use::is_verified_since(context, name) {
            return Ok(()); // Without waiting for who reads it anew.
        }
        let mut minting = kept.minting.lock().await;
        if at_use::is_verified_since(context, name) {
            return Ok(());
        }
        let pass = AuthorityPass::new(context, Urgency::Recovery);
        self.common_at_use(&pass).await?;
        match kept.asked(&pass, &mut minting).await? {
            AuthorityVerdict::Proven | AuthorityVerdict::Gone(_) => Ok(()),
            AuthorityVerdict::Unknown(reasons) => Err(PassError::Partial(reasons.join("; "))),
        }
    }

    /// What all workloads stand on, for one of them, unless that was verified moments ago for another.
    async fn common_at_use(&self, pass: &AuthorityPass<'_>) -> Result<(), PassError> {
        let _alone = self.common.lock().await;
        if pass.is_common_recent() {
            return Ok(());
        }
        match pass.common().await {
            Err(error) if error.ends_pass() => Err(error),
            // What of it could be read was, and what could not is told.
            _ => Ok(()),
        }
    }

    /// What is mounted where, unless that was read since the last outage, or was tried to be moments ago: a path that leads
    /// nowhere says nothing of a role whose mount moved. What is refused of it is told, and keeps nobody from asking by what
    /// was read before.
    pub(in crate::mirror) async fn verify_mounts(
        &self,
        context: &MirrorContext,
    ) -> Result<(), PassError> {
        if at_use::are_mounts_read_since(context) {
            return Ok(()); // Without waiting for who reads them anew.
        }
        let mut common = self.common.lock().await;
        let now = context.now().steady;
        let tried = common.mounts_tried;
        if at_use::are_mounts_read_since(context)
            || tried.is_some_and(|at| at_use::is_recent(context, at, now))
        {
            return Ok(());
        }
        common.mounts_tried = Some(now);
        let pass = AuthorityPass::new(context, Urgency::Recovery);
        match pass.cluster().await {
            Ok(cluster) => context.commit(vec![cluster]).await,
            Err(error) if is_cut_off(&error) => Err(error.into()),
            Err(_) => Ok(()),
        }
    }

    /// What a policy says, with all others, unless it was read since the last outage.
    pub(in crate::mirror) async fn verify_policy(
        &self,
        context: &MirrorContext,
        name: &PolicyName,
    ) -> Result<(), PassError> {
        let _alone = self.common.lock().await;
        at_use::verify_policy(context, name).await
    }

    /// Every login that is known, and as many entities that decisions go by as one pass asks about.
    pub(in crate::mirror) async fn verify_logins(
        &self,
        context: &MirrorContext,
    ) -> Result<(), PassError> {
        let mut memory = self.memory.lock().await;
        let pass = AuthorityPass::new(context, Urgency::Recovery);
        pass.approles().await?;
        memory.identities(&pass).await;
        Ok(())
    }

    /// Every workload to itself, if none is being verified: what is being read of one began to be read before the moment as of
    /// which it would be reaffirmed, and would not be taken any more.
    fn undisturbed(&self) -> Option<Vec<MutexGuard<'_, Minting>>> {
        let all = self.workloads.iter();
        all.map(|one| one.minting.try_lock().ok()).collect()
    }

    async fn common(&self, pass: &AuthorityPass<'_>) -> Result<(), PassError> {
        let _alone = self.common.lock().await;
        match pass.is_common_verified() {
            true => Ok(()),
            false => pass.common().await,
        }
    }

    async fn workloads(&self, pass: &AuthorityPass<'_>) -> Result<AuthorityReport, PassError> {
        let mut report = AuthorityReport::default();
        for one in &self.workloads {
            let verdict = match one.verify(pass).await {
                Ok(verdict) => verdict,
                Err(error @ PassError::Lost) => AuthorityVerdict::Unknown(vec![error.to_string()]),
                // What was lost is one workload's token, and no reason to leave the others unverified.
                Err(PassError::Upstream(error))
                    if !matches!(error, UpstreamError::Unavailable(_)) =>
                {
                    AuthorityVerdict::Unknown(vec![error.to_string()])
                }
                Err(error) => return Err(error),
            };
            report.workloads.insert(one.workload.name.clone(), verdict);
        }
        Ok(report)
    }
}

impl KeptWorkload {
    async fn verify(&self, pass: &AuthorityPass<'_>) -> Result<AuthorityVerdict, PassError> {
        let mut minting = self.minting.lock().await;
        match pass.is_verified(&self.workload) {
            true => Ok(AuthorityVerdict::Proven),
            false => self.asked(pass, &mut minting).await,
        }
    }

    /// Whoever waits for a first standing token waits no longer once this has come to anything but that nobody answered.
    async fn asked(
        &self,
        pass: &AuthorityPass<'_>,
        minting: &mut Minting,
    ) -> Result<AuthorityVerdict, PassError> {
        let asked = pass.workload(&self.workload, minting).await;
        let is_unanswered = |error: &PassError| matches!(error, PassError::Upstream(error) if error.is_of_the_way() || error.is_of_own_token());
        if !asked.as_ref().is_err_and(is_unanswered) {
            pass.context.upstream.asked_about(&self.workload.name);
        }
        asked
    }
}

impl AuthorityMemory {
    async fn verify(
        &mut self,
        pass: &AuthorityPass<'_>,
        keeper: &AuthorityKeeper,
        may_skip: bool,
    ) -> Result<AuthorityReport, PassError> {
        let (context, at) = (pass.context, pass.at);
        if context.upstream.own_token().is_none() {
            return Err(UpstreamError::NoCredential.into());
        }
        let index = self.quiet.observe(context, pass.urgency).await?;
        let may_skip = may_skip && !approle::are_doubted(&context.local.view.authority());
        let quiet = may_skip && self.quiet.holds(index.as_ref(), at);
        let since = self.quiet.since().filter(|_| quiet);
        let covers = |since: &WallTime| {
            standing::all_rest(context, at) && pass.unverified(*since).is_empty()
        };
        if let Some(since) = since.filter(covers)
            && let Some(_undisturbed) = keeper.undisturbed()
        {
            let _alone = keeper.common.lock().await;
            return pass.reaffirm(since).await;
        }
        // Forgotten before anything is asked, because a pass that is cut off must not leave an index behind that
        // vouches for what it did not see.
        self.quiet.forget();
        keeper.common(pass).await?;
        let mut report = keeper.workloads(pass).await?;
        let approles = pass.approles().await?;
        let identified = self.identities(pass).await;
        pass.note(&report);
        pass.forget_workloads().await?;
        pass.forget_identities().await?;
        let are_rights_seen = identified && pass.unread_policies().is_empty();
        report.rights_as_of = are_rights_seen.then_some(at);
        let mut verdicts = report.workloads.values();
        if approles && are_rights_seen && verdicts.all(|one| *one == AuthorityVerdict::Proven) {
            self.quiet.complete(index, at);
        }
        Ok(report)
    }

    /// Entities that decisions go by and that this pass has not seen yet, the longest unasked first. Whether all of them
    /// were verified.
    async fn identities(&mut self, pass: &AuthorityPass<'_>) -> bool {
        let mut due = pass.unverified(pass.at);
        self.identities.retain(|entity, _| due.contains(entity));
        due.sort_by_key(|entity| self.identities.get(entity).copied());
        let settings = &pass.context.settings;
        let (interval, max_age) = (
            pass.context.authority_interval,
            settings.bounds.policy_max_age,
        );
        let many = at_once(due.len(), interval, max_age);
        let mut complete = due.len() <= many;
        let mut unread = UnreadPaths::default();
        for entity in due.iter().take(many) {
            if let Err(error) = pass.verify_identity(entity).await {
                tracing::warn!(%error, %entity, "an identity could not be verified");
                complete = false;
                if error.ends_pass() {
                    break;
                }
                unread.add(entity, error);
            }
            // One that could not be read waits for its turn like all the others.
            self.identities.insert(entity.clone(), pass.at);
        }
        pass.context.note("identities", unread);
        complete
    }
}

/// How many of so many entities are asked about in one pass: all of them within half of `max_age`, so that none grows too
/// old while it waits for its turn.
fn at_once(entities: usize, interval: Duration, max_age: Duration) -> usize {
    let passes = (max_age / 2).as_millis() / interval.as_millis().max(1);
    let passes = usize::try_from(passes).unwrap_or(usize::MAX).max(1);
    entities.div_ceil(passes).max(IDENTITIES)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_entity_has_its_turn_before_it_is_half_as_old_as_it_may_be() {
        let (minute, hour) = (Duration::from_secs(60), Duration::from_secs(3600));
        assert_eq!(at_once(0, minute, hour), 50);
        assert_eq!(at_once(1_500, minute, hour), 50);
        assert_eq!(at_once(6_000, minute, hour), 200);
        assert_eq!(at_once(6_000, hour, minute), 6_000);
        assert_eq!(at_once(6_000, Duration::ZERO, hour), 50);
    }
}
