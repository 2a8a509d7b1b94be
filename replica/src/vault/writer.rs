//! Whether a caller can have the right to write, by what is mirrored: not for deciding a write, which only the primary does.

use shared::doubt::Writer;

use super::{
    Presented, Query,
    caller::Caller,
    case::Case,
    refusal::{Answered, Why},
    secret,
};
use crate::{entropy::Entropy, view::View};

/// Capabilities by which something may change.
const WRITES: [&str; 6] = ["create", "delete", "patch", "root", "sudo", "update"];

/// Whether who asks may write at the path that `query` names, in whatever way and with whatever body. Headers that ask for what
/// is not modelled are not looked at: none of them gives anybody a right but inline logins, which are for the caller to tell.
pub fn writer(view: &View, query: &Query<'_>, entropy: &dyn Entropy) -> Writer {
    let authority = view.authority();
    let case = Case {
        view,
        authority: &authority,
        query,
        entropy,
    };
    judged(&case).unwrap_or(Writer::Unknown)
}

fn judged(case: &Case<'_>) -> Answered<Writer> {
    case.in_namespace()?;
    if secret::is_open(case) {
        return Ok(Writer::Unknown);
    }
    if let Presented::Nothing | Presented::Token("") = case.query.presented {
        return Ok(Writer::MayNot);
    }
    let caller = Caller::of(case)?;
    // One of which there is no text here decides nothing in an outage, and may decide everything at the primary.
    let known = &case.policies()?.set.policies;
    let policies = caller.rights.all_policies(caller.bearer.facts());
    if !policies.iter().all(|name| known.contains_key(name)) {
        return Ok(Writer::Unknown);
    }
    let path = case.query.call.path.as_str();
    let names = caller.rights.acl()?.capabilities(path);
    let names = names.map_err(Why::Policy)?;
    Ok(match names.iter().any(|name| WRITES.contains(name)) {
        true => Writer::May,
        false => Writer::MayNot,
    })
}
