//! Leases: reads of leased secrets, and `sys/leases`. Nothing here lengthens one.

use std::{ops::Bound, sync::Arc, time::Duration};

use serde::Serialize;
use serde_json::{Map, Value, value::RawValue};
use shared::{
    acl::Operation,
    change::{Change, Expects, Mount, QueuedRevocation, RevocationTarget},
    lease::{Lease, LeaseHolder},
    ledger::EntryKind,
    name::LeaseId,
    time::WallTime,
    token::TokenKind,
};

use super::{
    caller::Caller,
    case::Case,
    entry,
    envelope::{Contents, Granted},
    parameter,
    refusal::{Refusal, Why},
};
use crate::view::{HeldLease, Secrets};

/// Whether a read of the path may be answered with a lease: its path is mirrored, or this token read it before.
pub(crate) fn may_hold(case: &Case<'_>, caller: &Caller, mount: &Mount) -> bool {
    let path = case.query.call.path.as_str();
    case.settings().mirror(path).is_some()
        || own(case, caller, &case.view.secrets(), mount).is_some()
}

/// Reads a leased secret: the one that this token read before, else the one that is shared.
pub(crate) fn read(case: &Case<'_>, caller: &Caller) -> Result<Granted, Refusal> {
    if !case.query.call.query.is_empty() {
        return Err(Why::NotServed.into());
    }
    let secrets = case.view.secrets();
    let path = case.query.call.path.as_str();
    let (_, mount) = case.cluster()?.mount_of(path).ok_or(Why::PathNotMirrored)?;
    let mirror = case.settings().mirror(path);
    let shared = mirror.and_then(|_| youngest(case, &secrets, mount, LeaseHolder::Shared));
    let own =
        own(case, caller, &secrets, mount).filter(|held| !held.lease.deadline.passed(case.now()));
    let held = own.or(shared).ok_or(Why::LeaseNotHeld)?;
    let lease = &held.lease;
    if lease.deadline.passed(case.now()) {
        return Err(Why::LeaseEnded.into());
    }
    let bound = mirror.map_or(case.settings().bounds.max_staleness, |mirror| {
        mirror.max_staleness
    });
    let age = case.fresh(lease.verified_at, bound)?;
    let body = held.open(case.view.keys())?;
    let data: &RawValue = serde_json::from_slice(body.expose())?;
    let contents = Contents {
        lease: Some((
            lease.id.as_str(),
            lease.renewable,
            left(case, caller, lease).as_secs(),
        )),
        ..Contents::data(data, age)
    };
    contents.granted(case)
}

/// What a client is told that is left of a lease. The primary cuts it to the life of a batch token.
fn left(case: &Case<'_>, caller: &Caller, lease: &Lease) -> Duration {
    let left = lease.deadline.remaining(case.now());
    match caller.bearer.facts().kind {
        TokenKind::Batch => left.min(caller.bearer.deadline(case).remaining(case.now())),
        TokenKind::Service => left,
    }
}

/// `sys/leases/lookup`.
pub(crate) fn lookup(case: &Case<'_>, caller: &Caller) -> Result<Granted, Refusal> {
    let (_, held) = named(case, caller, "")?;
    let lease = &held.lease;
    if lease.deadline.passed(case.now()) {
        return Err(Refusal::Invalid("invalid lease".into()));
    }
    let renewed = lease.renewed_at > lease.issued_at;
    let shown = Shown {
        expire_time: lease.deadline.wall.to_string(),
        id: lease.id.as_str(),
        issue_time: lease.issued_at.to_string(),
        last_renewal: renewed.then(|| lease.renewed_at.to_string()),
        path: lease.place.path.as_str(),
        renewable: lease.renewable,
        ttl: lease.deadline.remaining(case.now()).as_secs(),
    };
    Contents::data(shown, case.age(lease.verified_at)).granted(case)
}

#[derive(Serialize)]
struct Shown<'a> {
    expire_time: String,
    id: &'a str,
    issue_time: String,
    last_renewal: Option<String>,
    path: &'a str,
    renewable: bool,
    ttl: u64,
}

/// `sys/leases/renew`: what remains, and that it is no more.
pub(crate) fn renew(case: &Case<'_>, caller: &Caller) -> Result<Granted, Refusal> {
    let (data, held) = named(case, caller, "sys/leases/renew/")?;
    parameter::increment(&data)?;
    let lease = &held.lease;
    if lease.deadline.passed(case.now()) {
        return Err(Refusal::Invalid("lease not found".into()));
    }
    if !lease.renewable {
        return Err(Refusal::Invalid("lease is not renewable".into()));
    }
    let contents = Contents::<()> {
        lease: Some((
            lease.id.as_str(),
            lease.renewable,
            lease.deadline.remaining(case.now()).as_secs(),
        )),
        data: None,
        auth: None,
        remark: Some(NOT_RENEWED),
        warnings: Vec::new(),
        age: case.age(lease.verified_at),
    };
    contents.granted(case)
}

/// What the warning of a renewal says where nothing was renewed.
pub(crate) const NOT_RENEWED: &str =
    "only the primary can renew this: what is shown is what remains";

/// `sys/leases/revoke`. One that only its reader has is refused from here on, and the primary is told. A shared one
/// goes on for the others.
pub(crate) fn revoke(case: &Case<'_>, caller: &Caller) -> Result<Granted, Refusal> {
    let (data, held) = named(case, caller, "sys/leases/revoke/")?;
    let status = match parameter::boolean(&data, "sync")? {
        Some(false) => 202,
        _ => 204,
    };
    let lease = &held.lease;
    let mut entry = entry::of(case, EntryKind::Revocation, &caller.bearer);
    entry.path = Some(lease.id.as_str().to_owned());
    entry.deadline = Some(lease.deadline.wall);
    let mut changes = vec![];
    if let LeaseHolder::Token(_) = lease.holder {
        changes.push(Change::LeaseGone(lease.id.clone()));
        changes.push(Change::Queue(Box::new(QueuedRevocation {
            id: entry::unique(case)?,
            target: RevocationTarget::Lease(lease.id.clone()),
            requested_by: caller.bearer.digest(),
            peer: entry::peer(case, &caller.bearer),
            at: case.now().steady,
        })));
    } else {
        entry.outcome = "detached".into();
    }
    changes.push(Change::Ledger(Box::new(entry)));
    let age = case.age(lease.verified_at);
    Ok(Granted::empty(status, age).with(changes, Expects::default()))
}

/// The lease that a request to `sys/leases` names, in its path below `below` or in its body, if it may.
fn named(
    case: &Case<'_>,
    caller: &Caller,
    below: &str,
) -> Result<(Map<String, Value>, Arc<HeldLease>), Refusal> {
    let data = case.parameters()?;
    let _ = caller.permit(case, &data)?;
    if case.query.call.operation != Operation::Update {
        return Err(Refusal::Operation);
    }
    let in_path = case.query.call.path.as_str().strip_prefix(below);
    let id = match in_path {
        Some(id) if !below.is_empty() => id,
        _ => parameter::text(&data, "lease_id")?
            .ok_or_else(|| Refusal::Invalid("lease_id must be specified".into()))?,
    };
    let id = LeaseId::parse(id).map_err(|_| Why::LeaseUnknown)?;
    let secrets = case.view.secrets();
    let held = secrets.leases.get(&id).ok_or(Why::LeaseUnknown)?;
    if held.lease.place.namespace != case.settings().namespace {
        return Err(Why::LeaseUnknown.into());
    }
    let held = Arc::clone(held);
    Ok((data, held))
}

/// The lease that this token got from the path.
fn own<'s>(
    case: &Case<'_>,
    caller: &Caller,
    secrets: &'s Secrets,
    mount: &Mount,
) -> Option<&'s HeldLease> {
    let digest = caller.bearer.digest()?;
    youngest(case, secrets, mount, LeaseHolder::Token(digest))
}

/// Of the path's leases that `holder` holds, the one issued last. A lease's id begins with the path of its read.
fn youngest<'s>(
    case: &Case<'_>,
    secrets: &'s Secrets,
    mount: &Mount,
    holder: LeaseHolder,
) -> Option<&'s HeldLease> {
    let path = &case.query.call.path;
    let prefix = format!("{path}/");
    let first = LeaseId::parse(&prefix).ok()?;
    secrets
        .leases
        .range((Bound::Included(first), Bound::Unbounded))
        .take_while(|(id, _)| id.as_str().starts_with(&prefix))
        .map(|(_, held)| held.as_ref())
        .filter(|held| {
            let place = &held.lease.place;
            place.path == *path
                && place.mount == mount.accessor
                && place.namespace == case.settings().namespace
                && held.lease.holder == holder
        })
        .max_by_key(|held| -> WallTime { held.lease.issued_at })
}
