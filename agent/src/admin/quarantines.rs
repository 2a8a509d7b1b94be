//! What is left to the primary, as people are told it.

use shared::quarantine::{Quarantine, Quarantined};

use crate::{admin::Deps, status::QuarantineStatus};

/// What is in quarantine, as it is listed.
pub(super) fn listed(deps: &Deps) -> Vec<QuarantineStatus> {
    let authority = deps.local.view.authority();
    let all = authority.quarantines.values();
    all.map(|one| one_of(one)).collect()
}

/// One of it.
pub(super) fn one_of(one: &Quarantine) -> QuarantineStatus {
    QuarantineStatus {
        policy: one.what.policy().map(ToString::to_string),
        workload: one.what.workload().map(ToString::to_string),
        since: one.since.to_string(),
        operation: one.operation.clone(),
        path: one.path.clone(),
        primary: one.primary,
        replica: one.replica,
        fields: one.fields.clone(),
    }
}

/// As `ready` tells of it.
pub(super) fn shown(one: &Quarantine) -> String {
    let (held, remedy) = match &one.what {
        Quarantined::Policy(name) => ("requests that it has a part in deciding", format!("{name}")),
        Quarantined::Issuing(name) => ("logins and new tokens", format!("--workload {name}")),
    };
    if !one.is_explained() {
        return format!(
            "{}: {held} get 503 in an outage, because what was in quarantine was lost with a damaged replica, and it may have been; \
             if it was not, holdover parity lift {remedy} (or --all)",
            one.what
        );
    }
    format!(
        "{} since {}: {held} get 503 in an outage, because the replica would have granted more for {} {} \
         ({}) than the primary did ({}), by {}; once that is understood, holdover parity lift {remedy}",
        one.what,
        one.since,
        one.operation,
        one.path,
        one.replica,
        one.primary,
        one.fields.join(", "),
    )
}
