//! Renewal: by the primary's arithmetic, within the bounds of the workload and of the outage.
//!
//! Only replica grants are renewed, and only in their own outage. Of everything else a renewal tells what remains.

use std::time::Duration;

use shared::{
    acl::Operation,
    grant::{Grant, GrantBounds, Origin, ReplicaGrant},
    ledger::EntryKind,
    name::RoleName,
    time::Deadline,
    token::{
        TokenFacts, TokenKind,
        create::renewal_limits,
        ttl::{Ttl, TtlWanted, ttl},
    },
};
use zeroize::Zeroizing;

use super::{
    caller::{Bearer, Caller, Rights, is_exchanged},
    case::Case,
    create, entry,
    envelope::Contents,
    issue, lease, parameter,
    refusal::{Answered, Damaged, Issuing, Refusal, Why},
    token,
};

/// `auth/token/renew-self`.
pub(crate) fn own(case: &Case<'_>, caller: &Caller) -> Answered {
    let data = token::permitted(case, caller, &[Operation::Update])?;
    let renewed = Renewed {
        case,
        caller,
        bearer: &caller.bearer,
        rights: &caller.rights,
        token: token::presented(case),
        stuck: not_renewable(),
    };
    renewed.renew(parameter::increment(&data)?)
}

/// `auth/token/renew` and `renew-accessor`: of the token that the request names.
pub(crate) fn other(case: &Case<'_>, caller: &Caller) -> Answered {
    let data = token::permitted(case, caller, &[Operation::Update])?;
    let increment = parameter::increment(&data)?;
    let (live, text, stuck) = if case.query.call.path.as_str() == "auth/token/renew-accessor" {
        let accessor = parameter::text(&data, "accessor")?;
        let accessor = accessor.ok_or(Refusal::InvalidInCore("missing accessor"))?;
        let dead = Refusal::InvalidInCore("invalid accessor");
        let live = Bearer::behind_accessor(case, accessor).map_err(|absence| absence.or(dead))?;
        // The handler behind it loses the text.
        (live, "", Refusal::InvalidInCore("invalid request"))
    } else {
        let text = parameter::text(&data, "token")?;
        let text = text.ok_or_else(|| Refusal::Invalid("missing token ID".into()))?;
        let dead = Refusal::Invalid("token not found".into());
        let live = Bearer::named(case, text).map_err(|absence| absence.or(dead))?;
        (live, text, not_renewable())
    };
    let bearer = Bearer::Grant(live);
    let renewed = Renewed {
        case,
        caller,
        rights: &Rights::of(case, bearer.facts())?,
        bearer: &bearer,
        token: text,
        stuck,
    };
    renewed.renew(increment)
}

fn not_renewable() -> Refusal {
    Refusal::Invalid("lease is not renewable".into())
}

/// The token that is renewed, and its string as far as the client knows it.
struct Renewed<'a> {
    case: &'a Case<'a>,
    caller: &'a Caller,
    bearer: &'a Bearer,
    rights: &'a Rights,
    token: &'a str,
    /// How the primary says that it cannot be renewed.
    stuck: Refusal,
}

impl Renewed<'_> {
    fn renew(&self, increment: Option<Duration>) -> Answered {
        let case = self.case;
        let facts = self.bearer.facts();
        if facts.kind == TokenKind::Batch {
            return Err(Refusal::Invalid("batch tokens cannot be renewed".into()));
        }
        let replica = self.bearer.grant().and_then(Grant::replica);
        let exchanged = replica.is_some_and(is_exchanged);
        if !facts.renewable || (case.outage().is_none() && exchanged) {
            return Err(self.stuck.clone());
        }
        match self.bearer.of_this_outage(case) {
            Some((grant, replica)) => self.extend(grant, replica, increment),
            None => {
                let deadline = self.bearer.deadline(case);
                let remark = Some(lease::NOT_RENEWED);
                self.answer(deadline, remark, Vec::new())
            }
        }
    }

    /// Gives a replica grant what the primary would, never past its own longest life or the outage's bound.
    fn extend(
        &self,
        grant: &Grant,
        replica: &ReplicaGrant,
        increment: Option<Duration>,
    ) -> Answered {
        let case = self.case;
        let outage = issue::issuing(case)?;
        // Its limits are of the mount.
        let _ = case.mounts()?;
        let now = case.now();
        let holder = grant.peer.as_ref();
        let entry = holder.and_then(|holder| case.settings().workload(&holder.workload));
        let policy = &entry.ok_or(Issuing::Disabled)?.failover;
        if !policy.issue {
            return Err(Issuing::Disabled.into());
        }
        let given = given(case, grant, replica, increment)?;
        let bounds = GrantBounds {
            policy,
            role_max: None,
            outage_bound: outage.bound,
        };
        let lowered = Deadline::at(replica.issued_at.plus(policy.max_ttl), now);
        let max_deadline = replica.max_deadline.earliest(lowered);
        let deadline = bounds.deadline(max_deadline, Some(given.ttl), now);
        let renewed = Grant {
            origin: Origin::Replica(ReplicaGrant {
                ttl_ms: issue::milliseconds(given.ttl.min(policy.ttl)),
                asked_ms: issue::milliseconds(given.ttl),
                max_deadline,
                workload_end: replica.workload_end.earliest(lowered),
                ..replica.clone()
            }),
            deadline,
            facts: TokenFacts {
                last_renewal: Some(now.steady.to_string()),
                last_renewal_time: Some(now.steady.as_secs()),
                ..grant.facts.clone()
            },
            ..grant.clone()
        };
        let mut entry = entry::of(case, EntryKind::Renewal, self.bearer);
        entry.policies.clone_from(&renewed.facts.policies);
        entry.ttl_seconds = Some(deadline.remaining(now).as_secs());
        entry.deadline = Some(deadline.wall);
        let warnings = given.warning.into_iter().collect();
        let answer = self.answer(deadline, None, warnings)?;
        let itself = vec![renewed.digest];
        Ok(issue::recorded(case, answer, renewed, entry, itself))
    }

    /// The answer to a renewal: the token as it stands, and what it has left.
    fn answer(
        &self,
        deadline: Deadline,
        remark: Option<&'static str>,
        warnings: Vec<String>,
    ) -> Answered {
        let case = self.case;
        let left = deadline.remaining(case.now());
        let token = Zeroizing::new(self.token.to_owned());
        let age = self
            .caller
            .age(case)
            .max(case.age(self.bearer.verified_at()));
        let contents: Contents<'_> = Contents {
            auth: Some(token::auth(self.bearer, self.rights, token, left)),
            remark,
            warnings,
            ..Contents::nothing(age)
        };
        contents.granted(case)
    }
}

/// What the primary would give to a grant that is renewed now: without an increment, what was granted last.
fn given(
    case: &Case<'_>,
    grant: &Grant,
    replica: &ReplicaGrant,
    increment: Option<Duration>,
) -> Answered<Ttl> {
    case.intact(|| Damaged::Mounts)?;
    let facts = &grant.facts;
    let of_login = facts.orphan && !replica.spared;
    let login = replica.approle.as_ref().filter(|_| of_login);
    if let Some(role) = login.and_then(|login| case.authority.approles.get(&login.role)) {
        let given = role.ttl(increment, replica.issued_at, case.now().steady);
        return Ok(given.map_err(|_| Issuing::PastMaxTtl)?);
    }
    if let Some(login) = login {
        case.intact(|| Damaged::AppRole(login.role.clone()))?;
    }
    let role = match &facts.role {
        Some(name) => {
            let name = RoleName::parse(name).map_err(|_| Why::RoleNotMirrored)?;
            Some(&create::mirrored(case, &name)?.role)
        }
        None => None,
    };
    let explicit_max = Duration::from_secs(facts.explicit_max_ttl);
    let limits = renewal_limits(role, explicit_max, create::limits(case));
    let wanted = TtlWanted {
        increment: increment.unwrap_or_default(),
        ttl: Duration::from_millis(replica.asked_ms),
    };
    let given = ttl(wanted, limits, replica.issued_at, case.now().steady);
    Ok(given.map_err(|_| Issuing::PastMaxTtl)?)
}
