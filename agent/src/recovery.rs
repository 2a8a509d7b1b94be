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
pub mod mend;
pub mod primary;
pub mod revocations;
pub mod settler;
mod tokens;

use std::{sync::Arc, time::Duration};

use replica::sequencer::{Lane, SubmitError};
use shared::{
    change::{Change, Expects},
    failover::{Outage, Phase, Recovery},
};
use tokio::{sync::oneshot, time::timeout};

use self::primary::{Contact, Primary, ProveError};
use crate::{
    link::Unavailable, local::Local, mirror::PassError, offboarding, upstream::UpstreamError,
};

/// Between two looks whether what was left behind the fence is worth waiting for still.
const LOOK: Duration = Duration::from_millis(500);

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

/// Settles `outage`, in `within` at most. Ends with issuance paused where it succeeded: the driver lifts that with the new
/// epoch.
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
    let (serves, mut seen) = oneshot::channel();
    // On their own, because one that was cut off in the middle of a request would not know what came of it.
    let steps = tokio::spawn(contact_and_steps(
        local.clone(),
        Arc::clone(primary),
        serves,
    ));
    let ended = timeout(within, steps).await;
    let is_seen = seen.try_recv().is_ok();
    match ended {
        Ok(Ok(ended)) => ended?,
        // Whatever else is left, a primary takes over only if it was seen to serve.
        _ if !is_seen => return Err(ProveError::Unproven.into()),
        Ok(Err(error)) => tracing::error!(%error, "a step of settling ended without a result"),
        Err(_) => tracing::info!("the rest is settled while following"),
    }
    // The fence. From here on no grant appears that the new epoch does not know of; the driver stores that epoch.
    Ok(local.pause_issuing().await?)
}

/// The steps, once the primary was seen to serve. Without a token of Holdover's own none of them can be asked for: they wait
/// for one, behind the fence if need be. Ends without them if nobody waits for `serves` any more by then.
async fn contact_and_steps<P: Primary>(
    local: Local,
    primary: Arc<P>,
    mut serves: oneshot::Sender<()>,
) -> Result<(), SettleError> {
    let contact = tokio::select! {
        contact = primary.prove() => contact?,
        () = serves.closed() => return Err(ProveError::Unproven.into()),
    };
    if serves.send(()).is_err() {
        return Err(ProveError::Unproven.into());
    }
    if contact == Contact::Tokenless {
        tracing::warn!(
            "the primary serves and takes no token of Holdover's own: the rest is settled when there is another"
        );
        tokio::select! {
            () = primary.until_token() => {}
            () = until_of_no_use(&local) => return Ok(()),
        }
    }
    steps(&local, primary.as_ref()).await
}

/// Waits until what was left of an outage's settling is of no use: the primary is gone again, or took all rights away.
async fn until_of_no_use(local: &Local) {
    let is_of_use = || {
        let authority = local.view.authority();
        let stays_out = matches!(authority.phase, Phase::Holdover(_) | Phase::Exhausted(_));
        !stays_out && authority.offboarded.is_none()
    };
    while is_of_use() {
        tokio::time::sleep(LOOK).await;
    }
}

/// What is worth an outage's while, the most urgent first.
async fn steps<P: Primary>(local: &Local, primary: &P) -> Result<(), SettleError> {
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
