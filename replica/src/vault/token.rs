//! Tokens about themselves and about each other: look-up, renewal, revocation.
//!
//! Only replica grants are renewed, within their bounds. Of a token of the primary a renewal tells what remains.

use std::{borrow::Cow, collections::BTreeMap, time::Duration};

use serde::Serialize;
use serde_json::{Map, Value};
use shared::{
    acl::Operation,
    change::{Change, Expects, QueuedRevocation, RevocationTarget},
    grant::{Grant, GrantBounds, Origin, ReplicaGrant, Revocation, RevokeCause, Settled},
    ledger::EntryKind,
    name::PolicyName,
    time::{Deadline, WallTime},
    token::{TokenFacts, TokenKind, is_replica_token},
    wire::AuthBlock,
};
use zeroize::Zeroizing;

use super::{
    Presented,
    caller::{Absence, Bearer, Caller, Rights},
    case::Case,
    entry,
    envelope::{Contents, Granted},
    issue, lease, parameter,
    refusal::{Issuing, Refusal, Why},
};
use crate::view::LiveGrant;

/// `auth/token/lookup-self`.
pub(crate) fn lookup_self(case: &Case<'_>, caller: &Caller) -> Result<Granted, Refusal> {
    permitted(case, caller, &[Operation::Read, Operation::Update])?;
    let shown = Shown::of(case, &caller.bearer, &caller.rights, presented(case));
    Contents::data(shown, caller.age(case)).granted(case)
}

/// `auth/token/lookup`: of the token that the request names, else of the caller's own.
pub(crate) fn lookup(case: &Case<'_>, caller: &Caller) -> Result<Granted, Refusal> {
    let data = permitted(case, caller, &[Operation::Read, Operation::Update])?;
    let Some(token) = parameter::text(&data, "token")? else {
        let shown = Shown::of(case, &caller.bearer, &caller.rights, presented(case));
        return Contents::data(shown, caller.age(case)).granted(case);
    };
    let live = Bearer::named(case, token).map_err(|absence| match absence {
        Absence::Dead => Refusal::BadToken,
        Absence::Unknown(why) => why.into(),
    })?;
    show_other(case, caller, Bearer::Grant(live), token)
}

/// `auth/token/lookup-accessor`.
pub(crate) fn lookup_accessor(case: &Case<'_>, caller: &Caller) -> Result<Granted, Refusal> {
    let data = permitted(case, caller, &[Operation::Update])?;
    let accessor = parameter::text(&data, "accessor")?;
    let accessor = accessor.ok_or(Refusal::InvalidInCore("missing accessor"))?;
    let live = Bearer::of_accessor(case, accessor).map_err(|absence| match absence {
        Absence::Dead => Refusal::InvalidInCore("invalid accessor"),
        Absence::Unknown(why) => why.into(),
    })?;
    show_other(case, caller, Bearer::Grant(live), "")
}

fn show_other(
    case: &Case<'_>,
    caller: &Caller,
    other: Bearer,
    id: &str,
) -> Result<Granted, Refusal> {
    let rights = Rights::of(case, other.facts())?;
    let shown = Shown::of(case, &other, &rights, id);
    let age = caller.age(case).max(case.age(other.verified_at()));
    Contents::data(shown, age).granted(case)
}

/// What a look-up shows, in the primary's order.
#[derive(Serialize)]
struct Shown<'a> {
    accessor: &'a str,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    bound_cidrs: &'a [String],
    creation_time: i64,
    creation_ttl: u64,
    display_name: &'a str,
    entity_id: &'a str,
    expire_time: Cow<'a, str>,
    explicit_max_ttl: u64,
    id: &'a str,
    #[serde(skip_serializing_if = "<[PolicyName]>::is_empty")]
    identity_policies: &'a [PolicyName],
    #[serde(skip_serializing_if = "Option::is_none")]
    issue_time: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_renewal: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_renewal_time: Option<i64>,
    meta: Option<&'a BTreeMap<String, String>>,
    num_uses: u64,
    orphan: bool,
    path: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    period: Option<u64>,
    policies: &'a [PolicyName],
    renewable: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    role: Option<&'a str>,
    ttl: u64,
    #[serde(rename = "type")]
    kind: TokenKind,
}

impl<'a> Shown<'a> {
    fn of(case: &Case<'_>, bearer: &'a Bearer, rights: &'a Rights, id: &'a str) -> Self {
        let facts = bearer.facts();
        let deadline = bearer.deadline(case);
        Self {
            accessor: shown_accessor(bearer),
            bound_cidrs: &facts.bound_cidrs,
            creation_time: facts.creation_time,
            creation_ttl: facts.creation_ttl,
            display_name: &facts.display_name,
            entity_id: entity(facts),
            expire_time: end(facts, &deadline),
            explicit_max_ttl: facts.explicit_max_ttl,
            id,
            identity_policies: &rights.identity_policies,
            issue_time: facts.issue_time.as_deref(),
            last_renewal: facts.last_renewal.as_deref(),
            last_renewal_time: facts.last_renewal_time,
            meta: facts.meta.as_ref(),
            num_uses: 0,
            orphan: facts.orphan,
            path: &facts.path,
            period: Some(facts.period).filter(|period| *period > 0),
            policies: &facts.policies,
            renewable: facts.renewable,
            role: facts.role.as_deref(),
            ttl: deadline.remaining(case.now()).as_secs(),
            kind: facts.kind,
        }
    }
}

/// When a token ends, as the primary showed it, if that is when it ends.
fn end<'a>(facts: &'a TokenFacts, deadline: &Deadline) -> Cow<'a, str> {
    // The primary shows what is left in whole seconds, cut off.
    const SLACK: Duration = Duration::from_secs(2);
    let shown = facts.expire_time.as_deref();
    let shown = shown.and_then(|text| Some((text, WallTime::parse_rfc3339(text)?)));
    match shown {
        Some((text, at)) if at.since(deadline.wall).max(deadline.wall.since(at)) <= SLACK => {
            text.into()
        }
        _ => deadline.wall.to_string().into(),
    }
}

/// A batch token has no accessor at the primary; what it is kept under here is nobody's to see.
fn shown_accessor(bearer: &Bearer) -> &str {
    match bearer.facts().kind {
        TokenKind::Batch => "",
        TokenKind::Service => bearer.accessor().as_str(),
    }
}

fn entity(facts: &TokenFacts) -> &str {
    facts
        .entity_id
        .as_ref()
        .map_or("", |entity| entity.as_str())
}

/// The token as the client knows it: the standing one is known to none.
fn presented<'a>(case: &Case<'a>) -> &'a str {
    match case.query.presented {
        Presented::Token(token) => token,
        Presented::Nothing | Presented::Standing(_) => "",
    }
}

/// `auth/token/renew-self`.
pub(crate) fn renew_self(case: &Case<'_>, caller: &Caller) -> Result<Granted, Refusal> {
    let data = permitted(case, caller, &[Operation::Update])?;
    let increment = parameter::increment(&data)?;
    let bearer = &caller.bearer;
    if bearer.facts().kind == TokenKind::Batch {
        return Err(Refusal::Invalid("batch tokens cannot be renewed".into()));
    }
    let replica = match bearer {
        Bearer::Grant(live) => live.grant.replica().map(|replica| (live, replica)),
        Bearer::Standing(_) => None,
    };
    let exchanged_before =
        case.outage().is_none() && replica.is_some_and(|(_, replica)| is_exchanged(replica));
    if !bearer.facts().renewable || exchanged_before {
        return Err(Refusal::Invalid("lease is not renewable".into()));
    }
    match replica {
        Some((live, replica)) if !is_exchanged(replica) => {
            extend(case, caller, live, replica, increment)
        }
        _ => renewed(
            case,
            caller,
            &bearer.deadline(case),
            Some(lease::NOT_RENEWED),
        ),
    }
}

fn is_exchanged(replica: &ReplicaGrant) -> bool {
    matches!(replica.settled, Settled::Exchanged(_))
}

/// Gives a replica grant its policy TTL again, never past its own longest life or the outage's bound.
fn extend(
    case: &Case<'_>,
    caller: &Caller,
    live: &LiveGrant,
    replica: &ReplicaGrant,
    increment: Option<Duration>,
) -> Result<Granted, Refusal> {
    let outage = issue::issuing(case)?;
    let now = case.now();
    let holder = live.grant.peer.as_ref();
    let entry = holder.and_then(|holder| case.settings().workload(&holder.workload));
    let policy = &entry.ok_or(Issuing::Disabled)?.failover;
    if !policy.issue {
        return Err(Issuing::Disabled.into());
    }
    let bounds = GrantBounds {
        policy,
        role_max: None,
        outage_bound: outage.bound,
    };
    let lowered = replica.issued_at.plus(policy.max_ttl);
    let max_deadline = replica.max_deadline.earliest(Deadline::at(lowered, now));
    let deadline = bounds.deadline(max_deadline, increment, now);
    let grant = Grant {
        origin: Origin::Replica(ReplicaGrant {
            ttl_ms: issue::milliseconds(policy.ttl),
            max_deadline,
            ..replica.clone()
        }),
        deadline,
        facts: TokenFacts {
            expire_time: None,
            last_renewal: Some(now.steady.to_string()),
            last_renewal_time: Some(now.steady.as_secs()),
            ..live.grant.facts.clone()
        },
        ..live.grant.clone()
    };
    let mut entry = entry::of(case, EntryKind::Renewal, &caller.bearer);
    entry.policies.clone_from(&grant.facts.policies);
    entry.ttl_seconds = Some(deadline.remaining(now).as_secs());
    entry.deadline = Some(deadline.wall);
    let expects = Expects {
        epoch: Some(case.authority.epoch),
        live: vec![grant.digest],
        issues: true,
    };
    let changes = vec![
        Change::Grant(Box::new(grant)),
        Change::Ledger(Box::new(entry)),
    ];
    Ok(renewed(case, caller, &deadline, None)?.with(changes, expects))
}

/// The answer to a renewal: the token as it stands, and what it has left.
fn renewed(
    case: &Case<'_>,
    caller: &Caller,
    deadline: &Deadline,
    remark: Option<&'static str>,
) -> Result<Granted, Refusal> {
    let left = deadline.remaining(case.now());
    let token = Zeroizing::new(presented(case).to_owned());
    let contents = Contents::<()> {
        lease: None,
        data: None,
        auth: Some(auth(&caller.bearer, &caller.rights, token, left)),
        remark,
        age: caller.age(case),
    };
    contents.granted(case)
}

/// The `auth` block of a token.
pub(crate) fn auth(
    bearer: &Bearer,
    rights: &Rights,
    client_token: Zeroizing<String>,
    left: Duration,
) -> AuthBlock {
    let facts = bearer.facts();
    AuthBlock {
        client_token,
        accessor: shown_accessor(bearer).to_owned(),
        policies: rights.all_policies(facts),
        token_policies: facts.policies.clone(),
        identity_policies: rights.identity_policies.clone(),
        metadata: facts.meta.clone(),
        lease_duration: left.as_secs(),
        renewable: facts.renewable,
        entity_id: entity(facts).to_owned(),
        token_type: facts.kind,
        orphan: facts.orphan,
        mfa_requirement: None,
        num_uses: 0,
    }
}

/// `auth/token/revoke-self`: dead here at once, and the primary is told of its own.
pub(crate) fn revoke_self(case: &Case<'_>, caller: &Caller) -> Result<Granted, Refusal> {
    let Bearer::Grant(live) = &caller.bearer else {
        // The standing token is not the client's to end.
        return Err(Refusal::Unauthenticated);
    };
    permitted(case, caller, &[Operation::Update])?;
    if live.grant.facts.kind == TokenKind::Batch {
        return Err(Refusal::Invalid("batch tokens cannot be revoked".into()));
    }
    let at = case.now().steady;
    let mut changes = vec![Change::Revoked(Revocation {
        digest: live.grant.digest,
        accessor: live.grant.accessor.clone(),
        cause: RevokeCause::Requested,
        at,
    })];
    let known_there = match live.grant.replica().map(|replica| &replica.settled) {
        None => Some(&live.grant.accessor),
        Some(Settled::Exchanged(accessor)) => Some(accessor),
        Some(Settled::Draining | Settled::Not) => None,
    };
    if let Some(accessor) = known_there {
        changes.push(Change::Queue(Box::new(QueuedRevocation {
            id: entry::unique(case)?,
            target: RevocationTarget::Token(accessor.clone()),
            requested_by: Some(live.grant.digest),
            peer: entry::peer(case, &caller.bearer),
            at,
        })));
    }
    let mut entry = entry::of(case, EntryKind::Revocation, &caller.bearer);
    entry.policies.clone_from(&live.grant.facts.policies);
    changes.push(Change::Ledger(Box::new(entry)));
    let granted = Granted::empty(204, caller.age(case));
    Ok(granted.with(changes, Expects::default()))
}

/// Renewing and revoking a token that the request names is not modelled. One of the replica's own nobody else could
/// answer for either, in no state.
pub(crate) fn of_another(case: &Case<'_>) -> Refusal {
    let data = case.parameters().unwrap_or_default();
    match data.get("token").and_then(Value::as_str) {
        Some(token) if is_replica_token(token) => Refusal::Invalid(
            "a token of the replica is renewed and revoked by its holder alone".into(),
        ),
        _ => Why::NotServed.into(),
    }
}

/// The request's data, if its caller may send it and there is such an operation.
fn permitted(
    case: &Case<'_>,
    caller: &Caller,
    operations: &[Operation],
) -> Result<Map<String, Value>, Refusal> {
    let data = case.parameters()?;
    let _ = caller.permit(case, &data)?;
    if operations.contains(&case.query.call.operation) {
        Ok(data)
    } else {
        Err(Refusal::Operation)
    }
}
