//! Lists and scans of keys, from the order that the keys already have: no list looks at more of a folder than it
//! returns.

use std::{collections::BTreeMap, iter, ops::Bound};

use serde::Serialize;
use serde_json::value::RawValue;
use shared::{
    acl::{Allowed, ListFilter, Operation},
    kv::Place,
    listing,
    name::RequestPath,
};

use super::{site::Site, target::Shows};
use crate::{
    vault::{
        caller::{self, Caller},
        case::Case,
        envelope::Contents,
        fields,
        parameter::{self, Params},
        refusal::{Answered, Refusal, Why},
    },
    view::Secrets,
};

/// Answers a list or scan of the folder at `site`.
pub(super) fn answer(
    site: &Site<'_>,
    caller: &Caller,
    data: &Params,
    allowed: &Allowed,
    shows: Shows,
) -> Answered {
    let case = &site.case;
    let (after, limit) = page(data, allowed, shows)?;
    let warnings = match shows {
        Shows::Metadata => fields::DETAILED,
        Shows::Names => fields::METADATA,
        Shows::Unversioned => fields::KV1,
    }
    .warnings(data, allowed)?;
    let age = site.seen_whole()?;
    let secrets = case.view.secrets();
    site.listable(&secrets, shows == Shows::Metadata)?;
    let scans = case.query.call.operation == Operation::Scan;
    let found: Vec<&str> = match scans {
        true => listing::scan_order(&names_below(&secrets, &site.place)),
        false => children(&secrets, &site.place, after).take(limit).collect(),
    };
    let nothing = found.is_empty();
    let keys = match allowed.filter() {
        Some(filter) => shown(case, caller, filter, data, &found)?,
        None => found,
    };
    // The primary calls an empty list absent, unless nothing was there and it has something else to say; and an empty
    // scan empty.
    if keys.is_empty() && !scans && (!nothing || warnings.is_empty()) {
        return Err(Refusal::Absent);
    }
    let key_info = match shows {
        Shows::Metadata if !nothing => Some(metadata_of(&secrets, &site.place, &keys)?),
        _ => None,
    };
    let keys = (!nothing).then_some(keys);
    Contents::data(ShownFolder { key_info, keys }, age).granted_with(case, warnings)
}

/// Which part of a list is asked for: after which name, and how many at most. Scans have no parts.
fn page<'a>(data: &'a Params, allowed: &Allowed, shows: Shows) -> Answered<(&'a str, usize)> {
    if shows == Shows::Unversioned {
        return Ok(("", usize::MAX));
    }
    let after = parameter::after(data)?;
    let limit = match allowed.limit() {
        Some(0) => None,
        Some(limit) => Some(limit),
        None => parameter::limit(data)?,
    };
    let limit = limit.and_then(|limit| usize::try_from(limit).ok());
    Ok((after, limit.unwrap_or(usize::MAX)))
}

#[derive(Serialize)]
struct ShownFolder<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    key_info: Option<BTreeMap<&'a str, &'a RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    keys: Option<Vec<&'a str>>,
}

/// The metadata of each name. A folder has none, or that of a key of the same name.
fn metadata_of<'a>(
    secrets: &'a Secrets,
    folder: &Place,
    names: &[&'a str],
) -> Answered<BTreeMap<&'a str, &'a RawValue>> {
    let metadata = |name: &str| {
        let place = below(folder, name.strip_suffix('/').unwrap_or(name))?;
        secrets.keys.get(&place)
    };
    let pairs = names.iter().map(|name| {
        let text = metadata(name).map_or("{}", |key| &key.metadata);
        Ok((*name, serde_json::from_str(text)?))
    });
    pairs.collect()
}

/// The names of all keys below a folder, in the order of their bytes.
fn names_below<'a>(secrets: &'a Secrets, folder: &Place) -> Vec<&'a str> {
    let range = (Bound::Included(folder.clone()), Bound::Unbounded);
    secrets
        .keys
        .range(range)
        .map_while(|(place, _)| rest_of(place, folder))
        .collect()
}

/// What the path of `place` has beyond that of the folder, if it lies in it.
fn rest_of<'a>(place: &'a Place, folder: &Place) -> Option<&'a str> {
    let same = (&place.namespace, &place.mount) == (&folder.namespace, &folder.mount);
    let rest = place.path.as_str().strip_prefix(folder.path.as_str())?;
    same.then_some(rest)
}

/// What of a page the caller may see.
fn shown<'k>(
    case: &Case<'_>,
    caller: &Caller,
    filter: &ListFilter,
    data: &Params,
    keys: &[&'k str],
) -> Answered<Vec<&'k str>> {
    let acl = caller.rights.acl()?;
    let request = caller::request(case, data);
    let mut shown = Vec::with_capacity(keys.len());
    for key in keys {
        if acl.shows(filter, &request, key).map_err(Why::Policy)? {
            shown.push(*key);
        }
    }
    Ok(shown)
}

/// The names in a folder, in order; a folder in it is one name, ends in `/`, and is stepped over as a whole.
fn children<'a>(
    secrets: &'a Secrets,
    folder: &'a Place,
    mut after: &'a str,
) -> impl Iterator<Item = &'a str> {
    // What cannot be a path cannot be sought: then everything before it is stepped over.
    let first = below(folder, after).unwrap_or_else(|| folder.clone());
    let mut from = Bound::Included(first);
    iter::from_fn(move || {
        loop {
            let range = (from.clone(), Bound::Unbounded);
            let (place, _) = secrets.keys.range(range).next()?;
            let child = listing::shown_as(rest_of(place, folder)?);
            let next = child.strip_suffix('/').and_then(|name| {
                // What follows `a/` and all that is below it comes at or after `a0`.
                below(folder, &format!("{name}0"))
            });
            from = next.map_or_else(|| Bound::Excluded(place.clone()), Bound::Included);
            if child > after {
                after = child;
                return Some(child);
            }
        }
    })
}

fn below(folder: &Place, name: &str) -> Option<Place> {
    let path = RequestPath::parse(&format!("{}{name}", folder.path)).ok()?;
    Some(Place {
        path,
        ..folder.clone()
    })
}
