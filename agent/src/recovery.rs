//! Recovery: the primary and the replica are brought together after an outage, step by step. Each step is safe to run
//! again, and durable before the next.
//!
//! The outage lasts as long as this does, so it asks for little, and for nothing that grows with what was issued: a grant
//! is judged when it is used ([`settler`]), and what is used often a little ahead of that ([`ahead`]). Only a primary that
//! cannot serve keeps the outage alive. What it refuses is told where everything is that Holdover may not do, and is tried
//! again while following.

pub mod ahead;
mod flights;
mod inquiry;
pub mod primary;
pub mod revocations;
pub mod settler;
mod tokens;

use std::{sync::Arc, time::Duration};

use replica::sequencer::{Lane, SubmitError};
use shared::{
    change::{Change, Expects},
    failover::{Outage, Recovery},
};
use tokio::time::timeout;

use self::primary::{Primary, ProveError};
use crate::{
    link::Unavailable, local::Local, mirror::PassError, offboarding, upstream::UpstreamError,
};

/// Why settling could not be finished.
#[derive(Debug, thiserror::Error)]
enum SettleError {
    #[error(transparent)]
    Prove(#[from] ProveError),
    #[error(transparent)]
    Store(#[from] SubmitError),
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

/// Settles `outage`, in `within` at most from the proof that the primary serves. Ends with issuance paused where it
/// succeeded: the driver lifts that with the new epoch.
pub async fn settle<P: Primary + 'static>(
    local: &Local,
    primary: &Arc<P>,
    outage: &Outage,
    within: Duration,
) -> Recovery {
    tracing::info!(outage = %outage.id, "settling with the primary");
    match run_steps(local, primary, within).await {
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

async fn run_steps<P: Primary + 'static>(
    local: &Local,
    primary: &Arc<P>,
    within: Duration,
) -> Result<(), SettleError> {
    primary.prove().await?;
    // On their own, because one that was cut off in the middle of a request would not know what came of it.
    let steps = tokio::spawn(steps(local.clone(), Arc::clone(primary)));
    match timeout(within, steps).await {
        Ok(Ok(ended)) => ended?,
        Ok(Err(error)) => tracing::error!(%error, "a step of settling ended without a result"),
        Err(_) => tracing::info!("the rest is settled while following"),
    }
    // The fence. From here on no grant appears that the new epoch does not know of; the driver stores that epoch.
    Ok(local.pause_issuing().await?)
}

/// What is worth an outage's while, the most urgent first.
async fn steps<P: Primary>(local: Local, primary: Arc<P>) -> Result<(), SettleError> {
    let (local, primary) = (&local, primary.as_ref());
    let since = local.clock.now().steady;
    let (own, of_others) = revocations::queued(local);
    // Because what an operator or a holder gave up must not be renewed or exchanged, this comes before all else.
    revocations::report_all(local, primary, own).await?;
    for workload in workloads(local) {
        told(primary.verify_workload(&workload).await, workload.as_str())?;
    }
    primary.renew_due().await?;
    // Because what a token revoked besides itself needs policy that allows it now, this waits for fresh authority.
    revocations::report_all(local, primary, of_others).await?;
    tokens::prove(local, primary, since).await;
    // Last, because each login costs a few requests: an outage that comes at once goes by what it says of them.
    if let Err(error) = primary.verify_logins().await {
        tracing::warn!(%error, "logins are verified while following");
    }
    Ok(())
}

fn workloads(local: &Local) -> Vec<shared::name::WorkloadName> {
    let authority = local.view.authority();
    let workloads = authority.settings.workloads.iter();
    workloads.map(|workload| workload.name.clone()).collect()
}

/// A step that was refused, which keeps no outage alive.
///
/// # Errors
/// If the primary is gone again.
fn told(ended: Result<(), PassError>, about: &str) -> Result<(), SettleError> {
    match ended {
        Err(PassError::Upstream(UpstreamError::Unavailable(why) | UpstreamError::Unknown(why))) => {
            Err(why.into())
        }
        Err(error) => {
            tracing::warn!(%error, about, "authority is verified while following");
            Ok(())
        }
        Ok(()) => Ok(()),
    }
}

async fn commit(local: &Local, changes: Vec<Change>) -> Result<(), SettleError> {
    let committed = local.commit(Lane::Grant, changes, Expects::default());
    Ok(committed.await?)
}

#[cfg(test)]
mod tests;
