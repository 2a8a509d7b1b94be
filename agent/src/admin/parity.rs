//! Quarantines as operators see them, and their end.

use http::StatusCode;
use shared::name::{PolicyName, WorkloadName};

use super::{AdminReply, AdminRequest, Deps, parse, quarantines};
use crate::{
    parity::lift::{LiftChoice, LiftError},
    status::{LiftQuarantines, LiftedQuarantines, QuarantineList},
};

/// What was asked for is not one thing, or is no name.
#[derive(Debug, thiserror::Error)]
#[error("give exactly one of policy, workload and all")]
struct NoLiftChoice;

/// Every quarantine.
pub(super) fn list(deps: &Deps) -> QuarantineList {
    QuarantineList {
        quarantined: quarantines::listed(deps),
    }
}

/// Ends what the request names.
pub(super) async fn lift(deps: &Deps, request: &AdminRequest) -> AdminReply {
    let asked = match parse::<LiftQuarantines>(&request.body) {
        Ok(asked) => asked,
        Err(reply) => return reply,
    };
    let choice = match choice(asked) {
        Ok(choice) => choice,
        Err(error) => return AdminReply::error(StatusCode::BAD_REQUEST, error),
    };
    match deps.parity.lift(&deps.local, &choice, request.uid).await {
        Ok(lifted) => AdminReply::ok(&LiftedQuarantines {
            lifted: lifted.iter().map(|one| quarantines::one_of(one)).collect(),
        }),
        Err(error @ LiftError::NotQuarantined(_)) => {
            AdminReply::error(StatusCode::NOT_FOUND, error)
        }
        Err(error @ LiftError::Store(_)) => {
            AdminReply::error(StatusCode::SERVICE_UNAVAILABLE, error)
        }
    }
}

fn choice(asked: LiftQuarantines) -> Result<LiftChoice, NoLiftChoice> {
    match (asked.policy, asked.workload, asked.all) {
        (Some(policy), None, false) => PolicyName::parse(&policy)
            .map(LiftChoice::policy)
            .map_err(|_| NoLiftChoice),
        (None, Some(workload), false) => WorkloadName::parse(&workload)
            .map(LiftChoice::workload)
            .map_err(|_| NoLiftChoice),
        (None, None, true) => Ok(LiftChoice::All),
        _ => Err(NoLiftChoice),
    }
}
