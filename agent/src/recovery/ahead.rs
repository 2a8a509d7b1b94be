//! What an outage left, settled ahead of its next use while the primary is in charge, so that first uses are fast.
//!
//! Newest use first, and slowly: what is never used again costs the primary nothing and ends at its deadline.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use replica::view::{LiveGrant, Policies};
use shared::{
    failover::Phase,
    grant::RevokeCause,
    name::TokenDigest,
    recovery::{has_come_to_need_its_entity, has_outlived_its_entity},
    time::{BootTime, Now, WallTime},
};
use tokio::time::timeout;

use super::{
    primary::Primary,
    settler::{AtUse, Settlement, Settler},
};
use crate::{local::Local, reaper};

/// How often it is looked for what is left.
const LOOK: Duration = Duration::from_millis(500);

/// As many at one look.
const AT_A_LOOK: usize = 32;

/// One that takes longer is not waited for.
const WITHIN: Duration = Duration::from_secs(2);

/// After one could not be settled.
const AGAIN: Duration = Duration::from_secs(10);

/// What was used within this is settled ahead: a client that asks more rarely can wait for its mint.
const LATELY: Duration = Duration::from_secs(3600);

/// Of the budget of Holdover's own requests, one part of so many.
const SHARE: u32 = 4;

/// Settles what outages leave until the daemon stops. `per_second` is the budget of Holdover's own requests.
pub async fn run<P: Primary + 'static>(
    local: Local,
    primary: Arc<P>,
    settler: Settler<P>,
    per_second: impl Fn() -> u32,
) {
    let (mut tried, mut policies, mut refreshed) =
        (Retries::default(), HeldAgainst::default(), None);
    loop {
        tokio::time::sleep(LOOK).await;
        let (phase, from) = {
            let authority = local.view.authority();
            (authority.phase.clone(), authority.proven_from)
        };
        if phase != Phase::Following || from.is_none() {
            refreshed = refreshed.filter(|_| phase == Phase::Following);
            continue;
        }
        if refreshed != from {
            refreshed = from;
            let primary = Arc::clone(&primary);
            tokio::spawn(async move { primary.refresh_values().await });
        }
        end_outlived(&local, policies.were_read_anew(&local)).await;
        settle_some(&local, primary.as_ref(), &settler, &mut tried, &per_second).await;
    }
}

/// Settles those that were used last: a few, because others may have been used by then.
async fn settle_some<P: Primary + 'static>(
    local: &Local,
    primary: &P,
    settler: &Settler<P>,
    tried: &mut Retries,
    per_second: &impl Fn() -> u32,
) {
    let mut grants = local.view.grants();
    let namespace = local.view.authority().settings.namespace.clone();
    grants.retain(|live| live.grant.namespace == namespace);
    for digest in tried.due(&grants, local.clock.now()) {
        // Before it is begun, because a request that comes meanwhile joins it and must not wait for turns.
        primary.turn().await;
        if local.view.authority().phase != Phase::Following {
            return;
        }
        // One that takes longer goes on by itself, and keeps no other one waiting.
        let settling = settler.settle(digest);
        if timeout(WITHIN, settling).await != Ok(Settlement::Settled) {
            tried.failed(digest, local.clock.now().boot);
        }
        // Each is about one request.
        let pace = Duration::from_secs(u64::from(SHARE)) / per_second().max(1);
        tokio::time::sleep(pace).await;
    }
}

/// The policies that grants were last held against. Which of them depend on an entity costs too much to be looked at each
/// time.
#[derive(Default)]
struct HeldAgainst(Option<Arc<Policies>>);

impl HeldAgainst {
    /// Whether they were read anew since.
    fn were_read_anew(&mut self, local: &Local) -> bool {
        let now = local.view.authority().policies.clone();
        let address = |policies: &Option<Arc<Policies>>| policies.as_ref().map(Arc::as_ptr);
        let anew = address(&now) != address(&self.0);
        self.0 = now;
        anew
    }
}

/// Revokes what goes by an entity that is not what it was: the token behind it does not know of that entity.
async fn end_outlived(local: &Local, policies_too: bool) {
    let outlived: Vec<_> = {
        let authority = local.view.authority();
        let grants = local.view.grants();
        let living = grants.iter().filter(|live| live.revoked.get().is_none());
        // What another namespace's policies and entities say is nothing about these.
        let namespace = &authority.settings.namespace;
        let living = living.map(|live| &live.grant);
        let living = living.filter(|grant| grant.namespace == *namespace);
        let outlived = living.filter(|grant| {
            has_outlived_its_entity(grant, &**authority)
                || policies_too && has_come_to_need_its_entity(grant, &**authority)
        });
        outlived
            .map(|grant| (grant.clone(), RevokeCause::Recovery))
            .collect()
    };
    reaper::revoke(local, outlived).await;
}

/// When what could not be settled is tried again. Bounded by what is unsettled.
#[derive(Default)]
struct Retries(BTreeMap<TokenDigest, BootTime>);

impl Retries {
    /// What is unsettled, was used lately and is due, the last used first.
    fn due(&mut self, grants: &[Arc<LiveGrant>], now: Now) -> Vec<TokenDigest> {
        let unsettled = |live: &&Arc<LiveGrant>| {
            let lives = live.revoked.get().is_none() && !live.grant.deadline.passed(now);
            lives && live.grant.is_left_over(None)
        };
        let unsettled = grants.iter().filter(unsettled);
        let used: BTreeMap<TokenDigest, WallTime> = unsettled
            .filter(|live| now.steady.since(live.last_used()) <= LATELY)
            .map(|live| (live.grant.digest, live.last_used()))
            .collect();
        self.0.retain(|digest, _| used.contains_key(digest));
        let is_due = |digest: &TokenDigest| self.0.get(digest).is_none_or(|at| *at <= now.boot);
        let mut due: Vec<(WallTime, TokenDigest)> = used
            .into_iter()
            .filter(|(digest, _)| is_due(digest))
            .map(|(digest, used)| (used, digest))
            .collect();
        due.sort_unstable_by(|one, other| other.cmp(one));
        due.truncate(AT_A_LOOK);
        due.into_iter().map(|(_, digest)| digest).collect()
    }

    fn failed(&mut self, digest: TokenDigest, now: BootTime) {
        self.0.insert(digest, now.plus(AGAIN));
    }
}

#[cfg(test)]
mod tests;
