//! Lists of KV v2 keys, from the order that the keys already have: no request looks at more of a folder than it
//! returns.

use std::ops::Bound;

use serde::Serialize;
use serde_json::{Map, Value};
use shared::{
    acl::{Allowed, ListFilter},
    kv::Place,
    name::RequestPath,
};

use super::{
    caller::{self, Caller},
    case::Case,
    envelope::{Contents, Granted},
    parameter,
    refusal::{Refusal, Why},
    secret::Site,
};
use crate::view::Secrets;

/// Parameters that the primary's endpoint knows. Of `path` it warns, too: the path itself has it.
const FIELDS: [&str; 8] = [
    "after",
    "cas_required",
    "custom_metadata",
    "delete_version_after",
    "limit",
    "max_versions",
    "metadata_cas",
    "metadata_cas_required",
];

/// Answers a list of the folder at `site`.
pub(crate) fn answer(
    case: &Case<'_>,
    caller: &Caller,
    site: &Site<'_>,
    data: &Map<String, Value>,
    allowed: &Allowed,
) -> Result<Granted, Refusal> {
    let after = parameter::after(data)?;
    let limit = match allowed.limit() {
        Some(0) => None,
        Some(limit) => Some(limit),
        None => parameter::limit(data)?,
    };
    let age = site.seen_whole(case)?;
    let limit = limit.map_or(usize::MAX, |limit| {
        usize::try_from(limit).unwrap_or(usize::MAX)
    });
    let secrets = case.view.secrets();
    let mut keys: Vec<&str> = Children::of(&secrets, &site.place, after)
        .take(limit)
        .collect();
    // The primary warns of parameters that it does not know, and nothing with a warning is never absent.
    if keys.is_empty() && data.keys().any(|name| !FIELDS.contains(&name.as_str())) {
        return Contents::data(Map::new(), age).granted(case);
    }
    if let Some(filter) = allowed.filter() {
        keys = shown(case, caller, filter, data, &keys)?;
    }
    if keys.is_empty() {
        return Err(Refusal::Absent);
    }
    Contents::data(Keys { keys }, age).granted(case)
}

#[derive(Serialize)]
struct Keys<'a> {
    keys: Vec<&'a str>,
}

/// What of a page the caller may see.
fn shown<'k>(
    case: &Case<'_>,
    caller: &Caller,
    filter: &ListFilter,
    data: &Map<String, Value>,
    keys: &[&'k str],
) -> Result<Vec<&'k str>, Refusal> {
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
struct Children<'a> {
    secrets: &'a Secrets,
    folder: &'a Place,
    after: &'a str,
    from: Bound<Place>,
}

impl<'a> Children<'a> {
    fn of(secrets: &'a Secrets, folder: &'a Place, after: &'a str) -> Self {
        // What cannot be a path cannot be sought: then everything before it is stepped over.
        let from = below(folder, after).unwrap_or_else(|| folder.clone());
        Self {
            secrets,
            folder,
            after,
            from: Bound::Included(from),
        }
    }
}

impl<'a> Iterator for Children<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        loop {
            let range = (self.from.clone(), Bound::Unbounded);
            let (place, _) = self.secrets.keys.range(range).next()?;
            if (&place.namespace, &place.mount) != (&self.folder.namespace, &self.folder.mount) {
                return None;
            }
            let rest = place
                .path
                .as_str()
                .strip_prefix(self.folder.path.as_str())?;
            let (child, next) = match rest.split_once('/') {
                // What follows `a/` and all that is below it comes at or after `a0`.
                Some((name, _)) => (
                    rest.get(..=name.len())?,
                    below(self.folder, &format!("{name}0")),
                ),
                None => (rest, None),
            };
            self.from = next.map_or_else(|| Bound::Excluded(place.clone()), Bound::Included);
            if child > self.after {
                self.after = child;
                return Some(child);
            }
        }
    }
}

fn below(folder: &Place, name: &str) -> Option<Place> {
    let path = RequestPath::parse(&format!("{}{name}", folder.path)).ok()?;
    Some(Place {
        path,
        ..folder.clone()
    })
}
