//! What is shown of tokens: look-ups, and the `auth` block of answers.

use std::{collections::BTreeMap, time::Duration};

use serde::Serialize;
use shared::{
    acl::Operation,
    name::{EntityId, PolicyName},
    token::{TokenFacts, TokenKind},
    wire::AuthBlock,
};
use zeroize::Zeroizing;

use super::{
    Presented,
    caller::{Bearer, Caller, Rights},
    case::Case,
    envelope::Contents,
    parameter::{self, Params},
    refusal::{Answered, Refusal},
};

/// `auth/token/lookup-self`.
pub(crate) fn lookup_self(case: &Case<'_>, caller: &Caller) -> Answered {
    permitted(case, caller, &[Operation::Read, Operation::Update])?;
    show_own(case, caller)
}

fn show_own(case: &Case<'_>, caller: &Caller) -> Answered {
    let shown = ShownToken::of(case, &caller.bearer, &caller.rights, presented(case));
    Contents::data(shown, caller.age(case)).granted(case)
}

/// `auth/token/lookup`: of the token that the request names, else of the caller's own.
pub(crate) fn lookup(case: &Case<'_>, caller: &Caller) -> Answered {
    let data = permitted(case, caller, &[Operation::Read, Operation::Update])?;
    let Some(token) = parameter::text(&data, "token")? else {
        return show_own(case, caller);
    };
    let named = Bearer::named(case, token);
    let live = named.map_err(|absence| absence.or(Refusal::BadToken))?;
    show_other(case, caller, Bearer::Grant(live), token)
}

/// `auth/token/lookup-accessor`.
pub(crate) fn lookup_accessor(case: &Case<'_>, caller: &Caller) -> Answered {
    let data = permitted(case, caller, &[Operation::Update])?;
    let accessor = parameter::text(&data, "accessor")?;
    let accessor = accessor.ok_or(Refusal::InvalidInCore("missing accessor"))?;
    let dead = Refusal::InvalidInCore("invalid accessor");
    let live = Bearer::behind_accessor(case, accessor).map_err(|absence| absence.or(dead))?;
    show_other(case, caller, Bearer::Grant(live), "")
}

fn show_other(case: &Case<'_>, caller: &Caller, other: Bearer, id: &str) -> Answered {
    let rights = Rights::of(case, other.facts())?;
    let shown = ShownToken::of(case, &other, &rights, id);
    let age = caller.age(case).max(case.age(other.verified_at()));
    Contents::data(shown, age).granted(case)
}

/// What a look-up shows, in the primary's order.
#[derive(Serialize)]
struct ShownToken<'a> {
    accessor: &'a str,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    bound_cidrs: &'a [String],
    creation_time: i64,
    creation_ttl: u64,
    display_name: &'a str,
    entity_id: &'a str,
    expire_time: String,
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

impl<'a> ShownToken<'a> {
    fn of(case: &Case<'_>, bearer: &'a Bearer, rights: &'a Rights, id: &'a str) -> Self {
        let facts = bearer.facts();
        let deadline = bearer.deadline(case);
        let expire_time = facts.expire_time.clone();
        Self {
            accessor: shown_accessor(bearer),
            bound_cidrs: &facts.bound_cidrs,
            creation_time: facts.creation_time,
            creation_ttl: facts.creation_ttl,
            display_name: &facts.display_name,
            entity_id: entity(facts),
            expire_time: expire_time.unwrap_or_else(|| deadline.wall.to_string()),
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

/// A batch token has no accessor at the primary; what it is kept under here is nobody's to see.
fn shown_accessor(bearer: &Bearer) -> &str {
    match bearer.facts().kind {
        TokenKind::Batch => "",
        TokenKind::Service => bearer.accessor().as_str(),
    }
}

fn entity(facts: &TokenFacts) -> &str {
    facts.entity_id.as_ref().map_or("", EntityId::as_str)
}

/// The token as the client knows it: the standing one is known to none.
pub(crate) fn presented<'a>(case: &Case<'a>) -> &'a str {
    match case.query.presented {
        Presented::Token(token) => token,
        Presented::Nothing | Presented::Standing(_) => "",
    }
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
        orphan: facts.orphan && !bearer.is_spared(),
        mfa_requirement: None,
        num_uses: 0,
    }
}

/// The request's data, if its caller may send it and there is such an operation.
pub(crate) fn permitted(
    case: &Case<'_>,
    caller: &Caller,
    operations: &[Operation],
) -> Answered<Params> {
    let data = case.parameters()?;
    let _ = caller.permit(case, &data)?;
    if operations.contains(&case.query.call.operation) {
        Ok(data)
    } else {
        Err(Refusal::Operation)
    }
}
