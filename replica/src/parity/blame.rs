//! What a disagreement is blamed on in which the replica would have granted more: as little as it can be.
//!
//! Where a rule decided, the policies that contributed to it; where a token would have been issued, its workload's issuing.
//! A mount is shown by any rule below it.
//! Where neither did, nothing is: that the primary no longer knows a token is a matter of that token alone.

use std::collections::BTreeSet;

use shared::{
    api::{Call, Kind},
    name::PolicyName,
    provenance::DeniedBy,
    quarantine::Quarantined,
};

use super::{Fact, Facts};
use crate::vault::judge::Behind;

/// What is left to the primary after such a disagreement on `call` stood; none where nobody's rights show in it.
pub fn blamed(
    call: &Call,
    primary: &Facts,
    judged: &Facts,
    behind: &Behind,
) -> BTreeSet<Quarantined> {
    if primary.status != judged.status {
        return match primary.denied_by {
            Some(DeniedBy::AccessControl) if matches!(call.kind, Kind::Mounts(_)) => {
                behind.mounts.values().flat_map(policies).collect()
            }
            Some(DeniedBy::AccessControl) => policies(&behind.rule),
            Some(DeniedBy::Issuing) => issuing(behind),
            Some(DeniedBy::Token) | None => BTreeSet::new(),
        };
    }
    match call.kind {
        Kind::AttestedLogin | Kind::Login | Kind::TokenCreate => issuing(behind),
        Kind::Mounts(_) => {
            let more = more_of("mounts", primary, judged).into_iter();
            let shown = more.filter_map(|mount| behind.mounts.get(mount));
            shown.flat_map(policies).collect()
        }
        Kind::Capabilities | Kind::CapabilitiesAccessor | Kind::CapabilitiesSelf => {
            let more = more_of("capabilities", primary, judged);
            let paths = more.into_iter().filter_map(|one| one.split_once(' '));
            let asked = paths.filter_map(|(_, path)| behind.asked.get(path));
            asked.flat_map(policies).collect()
        }
        Kind::TokenLookup
        | Kind::TokenLookupAccessor
        | Kind::TokenLookupSelf
        | Kind::TokenRenewSelf => {
            let more =
                ["policies", "identity_policies"].map(|field| more_of(field, primary, judged));
            let names = more.into_iter().flatten();
            let names = names.filter_map(|name| PolicyName::parse(name).ok());
            names.map(Quarantined::Policy).collect()
        }
        _ => BTreeSet::new(),
    }
}

fn issuing(behind: &Behind) -> BTreeSet<Quarantined> {
    let issuing = behind.issuing.iter().cloned();
    issuing.map(Quarantined::Issuing).collect()
}

fn policies<'a>(names: impl IntoIterator<Item = &'a PolicyName>) -> BTreeSet<Quarantined> {
    let names = names.into_iter().cloned();
    names.map(Quarantined::Policy).collect()
}

/// Rights that the replica would have shown, and the primary did not.
fn more_of<'f>(field: &str, primary: &Facts, judged: &'f Facts) -> Vec<&'f str> {
    let Some(Fact::Rights(here)) = judged.field(field) else {
        return Vec::new();
    };
    let there = primary.field(field);
    let is_there =
        |right: &str| matches!(there, Some(Fact::Rights(there)) if there.contains(right));
    let here = here.iter().map(String::as_str);
    here.filter(|right| !is_there(right)).collect()
}
