//! Tokens of the primary's, proven anew before failing back: those that may have ended in the outage count in the next one
//! only if the primary said since that they live.
//!
//! Nothing that is said of a single token, or is not said in time, keeps an outage alive: what was not proven here is asked
//! about while following, and until then nothing is decided by it.

use std::{collections::BTreeSet, time::Duration};

use shared::{
    name::TokenDigest,
    recovery::{Unasked, worth_asking},
    time::WallTime,
};
use tokio::time::timeout;

use super::primary::Primary;
use crate::local::Local;

/// As many are asked about.
const MOST: usize = 64;

/// All together take no longer, because the outage lasts as long.
const WITHIN: Duration = Duration::from_secs(1);

/// Asks about the tokens that matter most. What they came to is in the replica.
pub(super) async fn prove<P: Primary>(local: &Local, primary: &P, since: WallTime) {
    let asking = async {
        for digest in worth_asking(unasked(local, since), MOST) {
            if let Err(error) = primary.prove_token(&digest).await {
                tracing::warn!(%error, "a token could not be looked up while settling: it is asked about later");
            }
        }
    };
    if timeout(WITHIN, asking).await.is_err() {
        tracing::info!(
            "not every token was looked up while settling: the others are asked about later"
        );
    }
}

fn unasked(local: &Local, since: WallTime) -> Vec<Unasked> {
    let now = local.clock.now();
    let mut grants = local.view.grants();
    grants.retain(|live| live.revoked.get().is_none() && !live.grant.deadline.passed(now));
    let settled = grants.iter().filter(|live| live.grant.is_replica());
    let carrying = settled.flat_map(|live| local.view.unproven(&live.grant, since));
    let carrying: BTreeSet<TokenDigest> = carrying.collect();
    let asked = grants
        .iter()
        .filter(|live| live.grant.at_primary().is_some() && live.grant.verified_at < since);
    let asked = asked.map(|live| Unasked {
        digest: live.grant.digest,
        used: live.last_used().max(live.grant.verified_at),
        carries: carrying.contains(&live.grant.digest),
    });
    asked.collect()
}
