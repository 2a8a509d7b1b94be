//! `sys/capabilities-self`, `sys/capabilities` and `sys/capabilities-accessor`.

use std::{collections::BTreeMap, sync::Arc};

use serde_json::Value;
use shared::{
    acl::Operation,
    api::Kind,
    name::{PolicyName, RequestPath},
};

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
    let other = of_other(case, &data)?;
    of_rights(
        case,
        caller,
        other.as_ref().unwrap_or(&caller.rights),
        &data,
    )
}

/// Which policies decide at each path that is asked about, if it is one that a request can have.
pub(crate) fn contributors(
    case: &Case<'_>,
    caller: &Caller,
) -> Answered<BTreeMap<String, Vec<PolicyName>>> {
    let data = case.parameters()?;
    let other = of_other(case, &data)?;
    let rights = other.as_ref().unwrap_or(&caller.rights);
    let paths = paths(&data)?.into_iter();
    let asked = paths.filter(|path| RequestPath::parse(path).is_ok());
    asked
        .map(|path| Ok((path.clone(), rights.contributors(&path, true)?)))
        .collect()
}

/// The rights that are asked about, where they are another token's.
fn of_other(case: &Case<'_>, data: &Params) -> Answered<Option<Rights>> {
    match case.query.call.kind {
        Kind::Capabilities => {
            let token = parameter::text(data, "token")?.ok_or(Why::NotServed)?;
            rights_of(case, Bearer::named(case, token), "invalid token").map(Some)
        }
        Kind::CapabilitiesAccessor => {
            let accessor = parameter::text(data, "accessor")?;
            let accessor = accessor.ok_or_else(|| Refusal::Invalid("missing accessor".into()))?;
            rights_of(
                case,
                Bearer::of_accessor(case, accessor),
                "invalid accessor",
            )
            .map(Some)
        }
        _ => Ok(None),
    }
}

fn rights_of(
    case: &Case<'_>,
    other: Result<Arc<LiveGrant>, Absence>,
    dead: &'static str,
) -> Answered<Rights> {
    let other = other.map_err(|absence| absence.or(Refusal::InvalidInCore(dead)))?;
    Rights::of(case, &other.grant.facts).map_err(|refusal| match refusal {
        // Of another token's policies the primary tells the mistake, in words that are not modelled.
        Refusal::Invalid(_) => Why::Contradiction.into(),
        // Its entity is disabled, or gone.
        Refusal::Unauthenticated => Refusal::InvalidInCore("invalid token"),
        refusal => refusal,
    })
}

fn paths(data: &Params) -> Answered<Vec<String>> {
    let mut paths = parameter::texts(data, "paths")?;
    if paths.is_empty() {
        paths = parameter::texts(data, "path")?;
    }
    match paths.is_empty() {
        true => Err(Refusal::Invalid("paths must be supplied".into())),
        false => Ok(paths),
    }
}

fn of_rights(case: &Case<'_>, caller: &Caller, rights: &Rights, data: &Params) -> Answered {
    let paths = paths(data)?;
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
