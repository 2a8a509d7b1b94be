//! `sys/capabilities-self`, `sys/capabilities` and `sys/capabilities-accessor`.

use std::sync::Arc;

use serde_json::Value;
use shared::{acl::Operation, api::Kind};

use super::{
    Answer,
    caller::{Absence, Bearer, Caller, Rights},
    case::Case,
    parameter::{self, Params},
    refusal::{Answered, Refusal, Why},
};
use crate::view::LiveGrant;

/// Answers one of the three.
pub(crate) fn answer(case: &Case<'_>, caller: &Caller) -> Answered {
    let data = case.parameters()?;
    let _ = caller.permit(case, &data)?;
    if case.query.call.operation != Operation::Update {
        return Err(Refusal::Operation);
    }
    match case.query.call.kind {
        Kind::Capabilities => {
            let token = parameter::text(&data, "token")?.ok_or(Why::NotServed)?;
            let other = Bearer::named(case, token);
            of_other(case, caller, other, "invalid token", &data)
        }
        Kind::CapabilitiesAccessor => {
            let accessor = parameter::text(&data, "accessor")?;
            let accessor = accessor.ok_or_else(|| Refusal::Invalid("missing accessor".into()))?;
            let other = Bearer::of_accessor(case, accessor);
            of_other(case, caller, other, "invalid accessor", &data)
        }
        _ => of_rights(case, caller, &caller.rights, &data),
    }
}

fn of_other(
    case: &Case<'_>,
    caller: &Caller,
    other: Result<Arc<LiveGrant>, Absence>,
    dead: &'static str,
    data: &Params,
) -> Answered {
    let other = other.map_err(|absence| absence.or(Refusal::InvalidInCore(dead)))?;
    let rights = Rights::of(case, &other.grant.facts).map_err(|refusal| match refusal {
        // Of another token's policies the primary tells the mistake, in words that are not modelled.
        Refusal::Invalid(_) => Why::Contradiction.into(),
        // Its entity is disabled, or gone.
        Refusal::Unauthenticated => Refusal::InvalidInCore("invalid token"),
        refusal => refusal,
    })?;
    of_rights(case, caller, &rights, data)
}

fn of_rights(case: &Case<'_>, caller: &Caller, rights: &Rights, data: &Params) -> Answered {
    let mut paths = parameter::texts(data, "paths")?;
    if paths.is_empty() {
        paths = parameter::texts(data, "path")?;
    }
    if paths.is_empty() {
        return Err(Refusal::Invalid("paths must be supplied".into()));
    }
    let mut shown = Params::new();
    for path in &paths {
        if path.is_empty() {
            return Err(Refusal::InvalidInCore("missing path"));
        }
        let names = rights.acl()?.capabilities(path).map_err(Why::Policy)?;
        shown.insert(path.clone(), Value::from(names));
    }
    if let [path] = paths.as_slice() {
        let names = shown.get(path).cloned().unwrap_or_default();
        shown.insert("capabilities".into(), names);
    }
    Answer::injected(case, &shown, caller.age(case))
}
