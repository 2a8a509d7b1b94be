//! Reads, lists and scans of what is mirrored: what a path is about by its mount, and which mirror covers it.
//!
//! Bodies are the primary's bytes, never re-encoded: it passes numbers through floats, and a second reading would
//! change them again.

use std::time::Duration;

use shared::{
    acl::Operation,
    change::Mount,
    kv::{MirrorState, Place},
    name::{Accessor, RequestPath, WorkloadName},
    open,
    settings::{Mirror, MirrorPath},
    time::WallTime,
};

use super::{
    caller::Caller,
    case::Case,
    envelope::Granted,
    lease,
    listing::{self, Shows},
    parameter,
    refusal::{Refusal, Why},
};
use crate::{ledger::Note, view::HeldRecord, view::Secrets};

mod kv2;
mod plain;
mod subkeys;

/// What a request below a mount is about.
enum Target<'a> {
    /// A folder of keys, by the path of their data.
    Folder(Site<'a>, Shows),
    /// A secret with a lease.
    Leased,
    /// A KV v2 key's metadata.
    Metadata(Site<'a>),
    /// The primary has no such operation here.
    Nothing,
    /// A value without versions: KV v1, or an answer kept as it is.
    Plain(Site<'a>),
    /// The names of a KV v2 value's fields.
    Subkeys(Site<'a>),
    /// A KV v2 value.
    Value(Site<'a>),
    /// A path that a KV v2 mount has no use for: it answers with a hint.
    Versioned(&'static str),
}

/// A place that a mirror covers.
pub(crate) struct Site<'a> {
    /// Where the data lives.
    pub(crate) place: Place,
    /// The mirror.
    pub(crate) mirror: &'a Mirror,
    /// How far it has come, with this mount.
    pub(crate) state: Option<&'a MirrorState>,
}

/// Answers a request that is none of the fixed endpoints'.
pub(crate) fn answer(case: &Case<'_>, caller: &Caller) -> Result<Granted, Refusal> {
    let target = target(case, caller)?;
    let data = case.parameters()?;
    let allowed = caller.permit(case, &data)?;
    let granted = match target {
        Target::Folder(site, shows) => listing::answer(case, caller, &site, &data, &allowed, shows),
        Target::Leased => lease::read(case, caller),
        Target::Metadata(site) => kv2::metadata(case, &site, &data, &allowed),
        Target::Nothing => Err(Refusal::Operation),
        Target::Plain(site) => plain::answer(case, &site, &data, &allowed),
        Target::Subkeys(site) => kv2::subkeys(case, &site, &data, &allowed),
        Target::Value(site) => kv2::value(case, &site, &data, &allowed),
        Target::Versioned(hint) => kv2::hint(case, hint),
    }?;
    let accessor = caller.bearer.accessor().clone();
    Ok(granted.noted(read(case, Some(accessor), caller.bearer.workload(case))))
}

/// Whether the primary answers the path without a token, so that none that came along is looked at.
pub(crate) fn is_open(case: &Case<'_>) -> bool {
    let path = case.query.call.path.as_str();
    let mount = case
        .cluster()
        .ok()
        .and_then(|cluster| cluster.mount_of(path));
    mount.is_some_and(|(at, mount)| {
        open::is_open(&mount.kind, path.get(at.len()..).unwrap_or_default())
    })
}

/// Answers a path that needs no token.
pub(crate) fn answer_open(case: &Case<'_>) -> Result<Granted, Refusal> {
    let call = case.query.call;
    match call.operation {
        Operation::Read | Operation::Header => {}
        Operation::List | Operation::Scan => return Err(Why::PathNotMirrored.into()),
        _ => return Err(Why::Write.into()),
    }
    if parameter::asks_for_help(call) {
        return Err(Why::NotServed.into());
    }
    let path = call.path.as_str();
    let (_, mount) = case.cluster()?.mount_of(path).ok_or(Why::PathNotMirrored)?;
    let site = site(case, mount, path, false)?;
    let kept = plain::kept(case, &site)?;
    match (call.operation, kept.status) {
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
        path: case.query.call.path.as_str().to_owned(),
        outage: case.outage().map(|outage| outage.id.clone()),
    }
}

fn target<'a>(case: &Case<'a>, caller: &Caller) -> Result<Target<'a>, Refusal> {
    let call = case.query.call;
    match call.operation {
        Operation::Read | Operation::List | Operation::Scan => {}
        Operation::Header => return Err(Why::NotServed.into()),
        _ => return Err(Why::Write.into()),
    }
    if parameter::asks_for_help(call) {
        return Err(Why::NotServed.into());
    }
    let path = call.path.as_str();
    let (at, mount) = case.cluster()?.mount_of(path).ok_or(Why::PathNotMirrored)?;
    if mount.is_kv2() {
        return kv2::target(case, at, mount);
    }
    let reads = call.operation == Operation::Read;
    if mount.is_kv1() {
        let site = site(case, mount, path, !reads)?;
        return Ok(match reads {
            true => Target::Plain(site),
            false => Target::Folder(site, Shows::Unversioned),
        });
    }
    if !reads {
        return Err(Why::PathNotMirrored.into());
    }
    match site(case, mount, path, false) {
        Ok(site) if site.is_kept(&case.view.secrets()) => Ok(Target::Plain(site)),
        _ if lease::may_hold(case, caller, mount) => Ok(Target::Leased),
        _ => Err(Why::PathNotMirrored.into()),
    }
}

/// The mirror of a value, or one that a folder lies in as a whole.
fn site<'a>(case: &Case<'a>, mount: &Mount, path: &str, folder: bool) -> Result<Site<'a>, Refusal> {
    let settings = case.settings();
    let mirror = match folder {
        true => settings.mirrors.iter().find(
            |mirror| matches!(&mirror.path, MirrorPath::Prefix(prefix) if path.starts_with(prefix)),
        ),
        false => settings.mirror(path),
    };
    let mirror = mirror.ok_or(Why::PathNotMirrored)?;
    let state = case.authority.mirrors.get(&mirror.path.configured());
    Ok(Site {
        place: Place {
            namespace: settings.namespace.clone(),
            mount: mount.accessor.clone(),
            path: RequestPath::parse(path).map_err(|_| Why::PathNotMirrored)?,
        },
        mirror,
        state: state
            .map(AsRef::as_ref)
            .filter(|state| state.mount == mount.accessor),
    })
}

impl Site<'_> {
    /// How old the knowledge of what is *not* there is: that of the last complete pass.
    pub(crate) fn seen_whole(&self, case: &Case<'_>) -> Result<Duration, Refusal> {
        let Some(state) = self.state else {
            return Err(Refusal::incomplete(self.mirror));
        };
        case.fresh(state.verified_at, self.mirror.max_staleness)
    }

    /// Nothing is there, as far as a complete pass showed.
    fn absent(&self, case: &Case<'_>) -> Refusal {
        self.seen_whole(case).err().unwrap_or(Refusal::Absent)
    }

    /// Whether an answer without versions is kept.
    fn is_kept(&self, secrets: &Secrets) -> bool {
        secrets.records.contains_key(&(self.place.clone(), None))
    }

    /// How old a record is, if it may still be shown.
    fn age(&self, case: &Case<'_>, held: &HeldRecord) -> Result<Duration, Refusal> {
        case.fresh(held.record.verified(self.state), self.mirror.max_staleness)
    }

    /// The record of a version, or the latest that is kept.
    fn record<'s>(&self, secrets: &'s Secrets, version: Option<u64>) -> Option<&'s HeldRecord> {
        let first = (self.place.clone(), Some(version.unwrap_or(0)));
        let last = (self.place.clone(), Some(version.unwrap_or(u64::MAX)));
        let (_, held) = secrets.records.range(first..=last).next_back()?;
        Some(held)
    }

    /// When what is known of a key was last verified, from its record where there is one.
    fn verified(&self, held: Option<&HeldRecord>) -> Result<WallTime, Refusal> {
        match (held, self.state) {
            (Some(held), state) => Ok(held.record.verified(state)),
            (None, Some(state)) => Ok(state.verified_at),
            (None, None) => Err(Refusal::incomplete(self.mirror)),
        }
    }
}
