//! Recovery: the primary and the replica are brought together after an outage, step by step. Each step is safe to run
//! again, and durable before the next.
//!
//! The replica stays authoritative throughout, and issues until the fence.

pub mod grants;
pub mod primary;
pub mod revocations;
mod tokens;

use std::time::Duration;

use replica::sequencer::{Lane, SubmitError};
use shared::{
    change::{Change, Expects},
    failover::{Outage, Recovery},
    recovery::Unverified,
};

use self::{
    grants::GrantSettling,
    primary::{Primary, ProveError},
};
use crate::{
    link::Unavailable, local::Local, mirror::PassError, offboarding, upstream::workload::MintError,
};

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
    Store(#[from] SubmitError),
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
    #[error(transparent)]
    Unverified(#[from] Unverified),
}

/// Settles `outage`. Ends with issuance paused where it succeeded: the driver lifts that with the new epoch.
pub async fn settle<P: Primary>(local: &Local, primary: &P, outage: &Outage) -> Recovery {
    tracing::info!(outage = %outage.id, "settling with the primary");
    match run_steps(local, primary).await {
        Ok(()) => Recovery::Done,
        // Not an outage: the trusted cluster took the credential away. There is nothing to be settled with it.
        Err(SettleError::Prove(ProveError::OwnCredentialRefused)) => {
            // What could not be stored is stored by who watches over it.
            let _ = offboarding::offboard(local).await;
            Recovery::Done
        }
        Err(error) => {
            local.sequencer.pause_issuing(false, |_| {});
            Recovery::Failed(error.to_string())
        }
    }
}

async fn run_steps<P: Primary>(local: &Local, primary: &P) -> Result<(), SettleError> {
    let since = local.clock.now().steady;
    primary.prove().await?;
    let (own, of_others) = revocations::queued(local);
    // Because what an operator or a holder gave up must not be renewed or exchanged, this comes before all else.
    revocations::report_all(local, primary, own).await?;
    primary.renew_due().await?;
    let gone = primary.verify_authority().await?;
    // Because what hangs on a token of the primary's that died meanwhile must not be settled.
    tokens::prove(local, primary, since).await;
    // Because what a token revoked besides itself needs policy that allows it now, this waits for fresh authority.
    revocations::report_all(local, primary, of_others).await?;
    let grants = GrantSettling {
        local,
        primary,
        gone: &gone,
        since,
    };
    grants.settle().await?;
    primary.refresh_values(VALUES_WITHIN).await?;
    // The fence comes last, because logins wait behind it. It comes before the last look at grants, because only a
    // barrier in the writer makes sure that this look sees every grant: those issued since the first one included.
    local.pause_issuing().await?;
    grants.settle().await
}

async fn commit(local: &Local, changes: Vec<Change>) -> Result<(), SettleError> {
    let committed = local.commit(Lane::Grant, changes, Expects::default());
    Ok(committed.await?)
}

#[cfg(test)]
mod tests;
