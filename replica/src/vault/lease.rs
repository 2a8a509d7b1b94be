//! Leases: reads of leased secrets, and `sys/leases`. Nothing here lengthens one.

use std::{sync::Arc, time::Duration};

use serde::Serialize;
use serde_json::value::RawValue;
use shared::{
    acl::Operation,
    api::Kind,
    change::{Change, Expects, Mount, Pooled, RevocationTarget},
    kv::Place,
    lease::{Assignee, Lease, LeaseHolder},
    ledger::EntryKind,
    name::LeaseId,
    settings::Mirror,
    token::TokenKind,
};

use super::{
    Answer,
    caller::{Bearer, Caller},
    case::Case,
    entry,
    envelope::Contents,
    issue,
    parameter::{self, Params},
    refusal::{Answered, Damaged, Refusal, Why},
};
use crate::view::HeldLease;

/// Whether a read of the path may be answered with a lease: its path is mirrored, or this token read it before.
pub(crate) fn may_hold(case: &Case<'_>, caller: &Caller, mount: &Mount) -> bool {
    let path = case.query.call.path.as_str();
    let read_before = || {
        let secrets = case.view.secrets();
        own(caller, secrets.leases_of(&place(case, mount))).is_some()
    };
    case.settings().mirror(path).is_some() || read_before()
}

/// Reads a leased secret: the one that this token read before, else the one that this caller has out of the path's
/// pool or takes out of it now, else the one that is shared.
pub(crate) fn read(case: &Case<'_>, caller: &Caller) -> Answered {
    if !case.query.call.query.is_empty() {
        return Err(Why::NotServed.into());
    }
    let secrets = case.view.secrets();
    let path = case.query.call.path.as_str();
    let (_, mount) = case.mount()?;
    let place = place(case, mount);
    let lives = |held: &&HeldLease| !held.lease.deadline.passed(case.now());
    if let Some(held) = own(caller, secrets.leases_of(&place)).filter(lives) {
        return show(case, caller, held);
    }
    let mirror = case.settings().mirror(path).ok_or(Why::LeaseNotHeld)?;
    let who = assignee(case, caller)?;
    let out = |held: &&HeldLease| held.lease.is_assigned_to(&who);
    if let Some(held) = latest(secrets.leases_of(&place).filter(out)).filter(lives) {
        return show(case, caller, held);
    }
    // One that is lost may be the one that this caller has, or gave up.
    case.intact(|| Damaged::Lease)?;
    if mirror.pool > 0 {
        let ready = secrets.leases_of(&place).filter(lives);
        return take(case, caller, mirror, ready, who);
    }
    let shared = |held: &&HeldLease| held.lease.holder == LeaseHolder::Shared;
    let held = latest(secrets.leases_of(&place).filter(shared)).ok_or(Why::LeaseNotHeld)?;
    if held.lease.detached.contains(&who) {
        return Err(Why::LeaseGivenUp.into());
    }
    show(case, caller, held)
}

/// Takes out of the pool what lives longest: durably, before the answer, and only while nobody else did.
fn take<'s>(
    case: &Case<'_>,
    caller: &Caller,
    mirror: &Mirror,
    leases: impl Iterator<Item = &'s HeldLease>,
    who: Assignee,
) -> Answered {
    let ready = leases.filter(|held| held.lease.holder == LeaseHolder::Pooled);
    let held = ready.max_by_key(|held| (held.lease.deadline.wall, &held.lease.id));
    let held = held.ok_or_else(|| Why::PoolEmpty {
        path: mirror.path.configured(),
        size: mirror.pool,
    })?;
    // An older copy of the replica would give the same lease to somebody else. But what a primary that is only late
    // would have read needs no outage.
    match case.outage() {
        Some(_) => issue::issuing(case).map(drop),
        None => issue::unblocked(case),
    }?;
    let granted = show(case, caller, held)?;
    let lease = &held.lease;
    let mut entry = entry::of(case, EntryKind::Lease, &caller.bearer);
    entry.path = Some(lease.id.as_str().to_owned());
    entry.ttl_seconds = Some(lease.deadline.remaining(case.now()).as_secs());
    entry.deadline = Some(lease.deadline.wall);
    entry.replica_age_seconds = Some(case.age(lease.verified_at).as_secs());
    let expects = Expects {
        epoch: Some(case.authority.epoch),
        live: caller.bearer.digest().into_iter().collect(),
        // While the fence is down the primary is about to answer.
        issues: case.outage().is_some(),
        settings: Some(case.authority.settings_version),
        pooled: Some(Pooled {
            lease: lease.id.clone(),
            to: Some(who.clone()),
        }),
        ..Expects::default()
    };
    let changes = vec![
        Change::LeaseTaken(lease.id.clone(), who),
        Change::Ledger(Box::new(entry)),
    ];
    Ok(granted.with(changes, expects))
}

/// A lease as a read answers with it.
fn show(case: &Case<'_>, caller: &Caller, held: &HeldLease) -> Answered {
    let lease = &held.lease;
    if lease.deadline.passed(case.now()) {
        return Err(Why::LeaseEnded.into());
    }
    let mirror = case.settings().mirror(lease.place.path.as_str());
    let otherwise = case.settings().bounds.max_staleness;
    let bound = mirror.map_or(otherwise, |mirror| mirror.max_staleness);
    let age = case.fresh(lease.verified_at, bound)?;
    let body = held.body.open(case.view.keys())?;
    let data: &RawValue = serde_json::from_slice(body.expose())?;
    let left = left(case, caller, lease).as_secs();
    let contents = Contents {
        lease: Some((lease.id.as_str(), lease.renewable, left)),
        ..Contents::data(data, age)
    };
    contents.granted(case)
}

/// Who a lease of Holdover's own is for: the attested peer that the token was given to, else the token.
fn assignee(case: &Case<'_>, caller: &Caller) -> Answered<Assignee> {
    match &caller.bearer {
        Bearer::Grant(live) => Ok(match &live.grant.peer {
            Some(peer) => Assignee::Workload(peer.clone()),
            None => Assignee::Token(live.grant.digest),
        }),
        Bearer::Standing(authority) => {
            let peer = case.query.peer;
            let identity = peer.and_then(|peer| peer.identity(&authority.workload));
            identity
                .map(Assignee::Workload)
                .ok_or(Refusal::Unauthenticated)
        }
    }
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
pub(crate) fn lookup(case: &Case<'_>, caller: &Caller) -> Answered {
    let held = Named::of(case, caller, "")?.living(case, caller, "invalid lease")?;
    let lease = &held.lease;
    let renewed = lease.renewed_at > lease.issued_at;
    let shown = ShownLease {
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
struct ShownLease<'a> {
    expire_time: String,
    id: &'a str,
    issue_time: String,
    last_renewal: Option<String>,
    path: &'a str,
    renewable: bool,
    ttl: u64,
}

/// `sys/leases/renew`: what remains, and that it is no more.
pub(crate) fn renew(case: &Case<'_>, caller: &Caller) -> Answered {
    let named = Named::of(case, caller, "sys/leases/renew/")?;
    parameter::increment(&named.data)?;
    let held = named.living(case, caller, "lease not found")?;
    let lease = &held.lease;
    if !lease.renewable {
        return Err(Refusal::Invalid("lease is not renewable".into()));
    }
    let left = lease.deadline.remaining(case.now());
    let contents: Contents<'_> = Contents {
        lease: Some((lease.id.as_str(), lease.renewable, left.as_secs())),
        remark: Some(NOT_RENEWED),
        ..Contents::nothing(case.age(lease.verified_at))
    };
    contents.granted(case)
}

/// Whether the lease that the request names was given to this caller, as far as is known here. What is wrong with the
/// request otherwise is for the answer to say.
pub(crate) fn is_own(case: &Case<'_>, caller: &Caller) -> bool {
    let named = match case.query.call.kind {
        Kind::LeaseRenew => Named::of(case, caller, "sys/leases/renew/"),
        _ => Named::of(case, caller, ""),
    };
    let held = match named {
        Ok(named) => named.held,
        Err(why) => return why != Why::LeaseUnknown.into(),
    };
    held.is_none_or(|held| {
        let who = assignee(case, caller);
        let token = caller.bearer.digest().map(LeaseHolder::Token);
        let shared = held.lease.holder == LeaseHolder::Shared;
        let taken = who.is_ok_and(|who| held.lease.is_assigned_to(&who));
        shared || taken || Some(&held.lease.holder) == token.as_ref()
    })
}

/// What the warning of a renewal says where nothing was renewed.
pub(crate) const NOT_RENEWED: &str =
    "only the primary can renew this: what is shown is what remains";

/// `sys/leases/revoke`. One that is only one's is refused from here on, and the primary is told. A shared one goes on
/// for the others, and is not given to this caller again.
pub(crate) fn revoke(case: &Case<'_>, caller: &Caller) -> Answered {
    let Named { data, held } = Named::of(case, caller, "sys/leases/revoke/")?;
    let status = match parameter::boolean(&data, "sync")? {
        Some(false) => 202,
        _ => 204,
    };
    let who = assignee(case, caller)?;
    // What is gone already is no error at the primary either.
    let held = held.filter(|held| !held.lease.detached.contains(&who));
    let Some(held) = held else {
        return Ok(Answer::empty(status, caller.age(case)));
    };
    let lease = &held.lease;
    let age = case.age(lease.verified_at);
    let mut entry = entry::of(case, EntryKind::Revocation, &caller.bearer);
    entry.path = Some(lease.id.as_str().to_owned());
    entry.deadline = Some(lease.deadline.wall);
    let mut changes = vec![];
    if lease.holder == LeaseHolder::Shared {
        entry.outcome = "detached".into();
        changes.push(Change::LeaseDetached(lease.id.clone(), who));
    } else {
        // Giving up what Holdover took out of its own pool for this very caller needs nobody's policy later on.
        let on_behalf = !lease.is_assigned_to(&who);
        changes.push(Change::LeaseGone(lease.id.clone()));
        changes.push(entry::queued(
            case,
            &caller.bearer,
            entry::Ending {
                target: RevocationTarget::Lease(lease.id.clone()),
                ends: lease.deadline.wall,
                renewable: lease.renewable,
            },
            on_behalf,
        )?);
    }
    changes.push(Change::Ledger(Box::new(entry)));
    Ok(Answer::empty(status, age).with(changes, Expects::default()))
}

/// What a request to `sys/leases` names.
struct Named {
    /// The request's data.
    data: Params,
    /// The lease; none where it was revoked here and the primary has yet to be told.
    held: Option<Arc<HeldLease>>,
}

impl Named {
    /// What it names in its path below `below` or in its body, if it may.
    fn of(case: &Case<'_>, caller: &Caller, below: &str) -> Answered<Self> {
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
        let held = case.view.secrets().leases.get(&id).map(Arc::clone);
        let known = match &held {
            Some(held) => held.lease.place.namespace == case.settings().namespace,
            None => case.view.is_lease_revoked_here(&id),
        };
        match known {
            true => Ok(Self { data, held }),
            false => Err(Why::LeaseUnknown.into()),
        }
    }

    /// The lease, unless it has ended for this caller: for all, or because it gave a shared one up. Else 400 with `dead`.
    fn living(self, case: &Case<'_>, caller: &Caller, dead: &str) -> Answered<Arc<HeldLease>> {
        let who = assignee(case, caller)?;
        let held = self.held.filter(|held| {
            !held.lease.detached.contains(&who) && !held.lease.deadline.passed(case.now())
        });
        held.ok_or_else(|| Refusal::Invalid(dead.into()))
    }
}

/// Where the request's path lives.
fn place(case: &Case<'_>, mount: &Mount) -> Place {
    Place {
        namespace: case.settings().namespace.clone(),
        mount: mount.accessor.clone(),
        path: case.query.call.path.clone(),
    }
}

/// Of a path's leases the one that this token got from the primary.
fn own<'s>(caller: &Caller, leases: impl Iterator<Item = &'s HeldLease>) -> Option<&'s HeldLease> {
    let holder = LeaseHolder::Token(caller.bearer.digest()?);
    let answers = |held: &&HeldLease| held.lease.answers_reads && held.lease.holder == holder;
    latest(leases.filter(answers))
}

/// The one issued last.
fn latest<'s>(leases: impl Iterator<Item = &'s HeldLease>) -> Option<&'s HeldLease> {
    leases.max_by_key(|held| held.lease.issued_at)
}
