//! Reads, lists and scans of what is mirrored: what a path is about by its mount, and which mirror covers it.
//!
//! Bodies are the primary's bytes, never re-encoded: it passes numbers through floats, and a second reading would
//! change them again.

use shared::{
    acl::Operation,
    name::{Accessor, WorkloadName},
};

use super::{
    caller::Caller,
    case::Case,
    lease, parameter,
    refusal::{Answered, Refusal, Why},
};
use crate::ledger::Note;

mod kv2;
mod listing;
mod plain;
mod site;
mod subkeys;
mod target;

use site::site;
use target::{Target, target};

/// Answers a request that is none of the fixed endpoints'.
pub(crate) fn answer(case: &Case<'_>, caller: &Caller) -> Answered {
    case.entitled()?;
    let target = target(case, caller)?;
    let data = case.parameters()?;
    let allowed = caller.permit(case, &data)?;
    let granted = match target {
        Target::Folder(site, shows) => listing::answer(&site, caller, &data, &allowed, shows),
        Target::Leased => lease::read(case, caller),
        Target::Metadata(site) => kv2::metadata(&site, &data, &allowed),
        Target::Nothing => Err(Refusal::Operation),
        Target::Plain(site) => plain::answer(&site, &data, &allowed),
        Target::Subkeys(site) => kv2::subkeys(&site, &data, &allowed),
        Target::Value(site) => kv2::value(&site, &data, &allowed),
        Target::Versioned(hint) => kv2::hint(case, hint),
    }?;
    let accessor = caller.bearer.accessor().clone();
    Ok(granted.noted(read(case, Some(accessor), caller.bearer.workload(case))))
}

/// Whether the primary answers the path without a token, so that none that came along is looked at.
pub(crate) fn is_open(case: &Case<'_>) -> bool {
    let path = case.query.call.path.as_str();
    let cluster = case.authority.cluster.as_deref();
    let mount = cluster.and_then(|cluster| cluster.mount_of(path));
    mount.is_some_and(|(at, mount)| {
        let below = path.get(at.len()..).unwrap_or_default();
        mount.kind.answers_anybody(below)
    })
}

/// Answers a path that needs no token.
pub(crate) fn answer_open(case: &Case<'_>) -> Answered {
    let call = case.query.call;
    match call.operation {
        Operation::Read | Operation::Header => {}
        Operation::List | Operation::Scan => return Err(Why::PathNotMirrored.into()),
        _ => return Err(Why::Write.into()),
    }
    if parameter::asks_for_help(call) {
        return Err(Why::NotServed.into());
    }
    case.entitled()?;
    let (_, mount) = case.mount()?;
    let site = site(case, mount, call.path.as_str(), false)?;
    let kept = plain::kept(&site)?;
    match (call.operation, kept.response.status) {
        (Operation::Read, _) => Ok(kept.noted(read(case, None, None))),
        (_, 200) => Err(Refusal::OpenOperation),
        // Whether there is no such path or nothing at it, only the primary knows.
        _ => Err(Why::NotServed.into()),
    }
}

/// Whether the request is a read or list of something mirrored: all that a draining token is good for.
pub(crate) fn is_mirrored(case: &Case<'_>, caller: &Caller) -> bool {
    matches!(target(case, caller), Ok(target) if !matches!(target, Target::Nothing))
}

fn read(case: &Case<'_>, accessor: Option<Accessor>, workload: Option<WorkloadName>) -> Note {
    Note::Read {
        accessor,
        workload,
        uid: case.query.peer.map(|peer| peer.uid),
        path: case.query.call.path.as_str().to_owned(),
        outage: case.outage().map(|outage| outage.id.clone()),
    }
}
