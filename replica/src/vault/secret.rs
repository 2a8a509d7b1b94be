//! Reads and lists of what is mirrored: which rule of which mirror a path falls under, and KV v2 values by version.
//!
//! Bodies are the primary's bytes, never re-encoded: it passes numbers through floats, and a second reading would
//! change them again.

use std::{collections::BTreeMap, time::Duration};

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use shared::{
    acl::Operation,
    change::Mount,
    kv::{KvKey, KvVersion, MirrorState, Place, VersionState},
    name::RequestPath,
    settings::{Mirror, MirrorPath},
    time::WallTime,
};

use super::{
    caller::Caller,
    case::Case,
    envelope::{Contents, Granted},
    lease, listing, parameter,
    refusal::{Refusal, Why},
};
use crate::{ledger::Note, view::HeldRecord, view::Secrets};

/// What a request below a mount is about.
enum Target<'a> {
    /// A folder of KV v2 keys, by the path of their data.
    Folder(Site<'a>),
    /// A secret with a lease.
    Leased,
    /// A KV v2 key's metadata.
    Metadata(Site<'a>),
    /// The primary has no such operation here.
    Nothing,
    /// A KV v2 value.
    Value(Site<'a>),
}

/// A place that a mirror covers.
pub(crate) struct Site<'a> {
    /// Where the data lives.
    pub(crate) place: Place,
    /// The mirror.
    pub(crate) mirror: &'a Mirror,
    /// How far it has come, with this mount.
    pub(crate) state: Option<&'a MirrorState>,
}

/// Answers a request that is none of the fixed endpoints'.
pub(crate) fn answer(case: &Case<'_>, caller: &Caller) -> Result<Granted, Refusal> {
    let target = target(case, caller)?;
    let data = case.parameters()?;
    let allowed = caller.permit(case, &data)?;
    let granted = match target {
        Target::Folder(site) => listing::answer(case, caller, &site, &data, &allowed),
        Target::Leased => lease::read(case, caller),
        Target::Metadata(site) => {
            // Read or list, the primary's endpoint takes the same fields.
            parameter::after(&data)?;
            parameter::limit(&data)?;
            metadata(case, &site)
        }
        Target::Nothing => Err(Refusal::Operation),
        Target::Value(site) => value(case, &site, parameter::version(&data)?),
    }?;
    Ok(granted.noted(Note::Read {
        accessor: Some(caller.bearer.accessor().clone()),
        workload: caller.bearer.workload(case),
        path: case.query.call.path.as_str().to_owned(),
        outage: case.outage().map(|outage| outage.id.clone()),
    }))
}

/// Whether the request is a read or list of something mirrored: all that a draining token is good for.
pub(crate) fn is_mirrored(case: &Case<'_>, caller: &Caller) -> bool {
    matches!(target(case, caller), Ok(target) if !matches!(target, Target::Nothing))
}

fn target<'a>(case: &Case<'a>, caller: &Caller) -> Result<Target<'a>, Refusal> {
    let call = case.query.call;
    match call.operation {
        Operation::Read | Operation::List => {}
        Operation::Scan | Operation::Header => return Err(Why::NotServed.into()),
        _ => return Err(Why::Write.into()),
    }
    if parameter::asks_for_help(call) {
        return Err(Why::NotServed.into());
    }
    let path = call.path.as_str();
    let (at, mount) = case.cluster()?.mount_of(path).ok_or(Why::PathNotMirrored)?;
    if mount.is_kv2() {
        return kv2(case, at, mount);
    }
    if call.operation == Operation::Read && lease::may_hold(case, caller, mount) {
        return Ok(Target::Leased);
    }
    Err(Why::PathNotMirrored.into())
}

fn kv2<'a>(case: &Case<'a>, at: &str, mount: &Mount) -> Result<Target<'a>, Refusal> {
    let call = case.query.call;
    let (path, lists) = (call.path.as_str(), call.operation == Operation::List);
    let rest = path.get(at.len()..).unwrap_or_default();
    if rest.starts_with("data/") {
        let site = site(case, mount, path, lists)?;
        return Ok(if lists {
            Target::Nothing
        } else {
            Target::Value(site)
        });
    }
    let Some(key) = rest.strip_prefix("metadata/") else {
        return Err(Why::PathNotMirrored.into());
    };
    let key = match lists {
        true => key,
        // The primary reads the metadata of a key whose name has a slash behind it.
        false => key.strip_suffix('/').unwrap_or(key),
    };
    let site = site(case, mount, &format!("{at}data/{key}"), lists)?;
    Ok(if lists {
        Target::Folder(site)
    } else {
        Target::Metadata(site)
    })
}

/// The mirror of a value, or one that a folder lies in as a whole.
fn site<'a>(case: &Case<'a>, mount: &Mount, path: &str, folder: bool) -> Result<Site<'a>, Refusal> {
    let settings = case.settings();
    let mirror = match folder {
        true => settings.mirrors.iter().find(
            |mirror| matches!(&mirror.path, MirrorPath::Prefix(prefix) if path.starts_with(prefix)),
        ),
        false => settings.mirror(path),
    };
    let mirror = mirror.ok_or(Why::PathNotMirrored)?;
    let state = case.authority.mirrors.get(&mirror.path.configured());
    Ok(Site {
        place: Place {
            namespace: settings.namespace.clone(),
            mount: mount.accessor.clone(),
            path: RequestPath::parse(path).map_err(|_| Why::PathNotMirrored)?,
        },
        mirror,
        state: state
            .map(AsRef::as_ref)
            .filter(|state| state.mount == mount.accessor),
    })
}

impl Site<'_> {
    /// How old the knowledge of what is *not* there is: that of the last complete pass.
    pub(crate) fn seen_whole(&self, case: &Case<'_>) -> Result<Duration, Refusal> {
        let Some(state) = self.state else {
            return Err(Refusal::incomplete(self.mirror));
        };
        case.fresh(state.verified_at, self.mirror.max_staleness)
    }

    /// Nothing is there, as far as a complete pass showed.
    fn absent(&self, case: &Case<'_>) -> Refusal {
        self.seen_whole(case).err().unwrap_or(Refusal::Absent)
    }

    /// The record of a version, or the latest that is kept.
    fn record<'s>(&self, secrets: &'s Secrets, version: Option<u64>) -> Option<&'s HeldRecord> {
        let first = (self.place.clone(), Some(version.unwrap_or(0)));
        let last = (self.place.clone(), Some(version.unwrap_or(u64::MAX)));
        let (_, held) = secrets.records.range(first..=last).next_back()?;
        Some(held)
    }

    /// When what is known of a key was last verified, from its record where there is one.
    fn verified(&self, held: Option<&HeldRecord>) -> Result<WallTime, Refusal> {
        match (held, self.state) {
            (Some(held), state) => Ok(held.record.verified(state)),
            (None, Some(state)) => Ok(state.verified_at),
            (None, None) => Err(Refusal::incomplete(self.mirror)),
        }
    }
}

fn metadata(case: &Case<'_>, site: &Site<'_>) -> Result<Granted, Refusal> {
    let secrets = case.view.secrets();
    let Some(key) = secrets.keys.get(&site.place) else {
        return Err(site.absent(case));
    };
    let age = site.seen_whole(case)?;
    let shown: &RawValue = serde_json::from_str(&key.metadata)?;
    Contents::data(shown, age).granted(case)
}

fn value(case: &Case<'_>, site: &Site<'_>, wanted: Option<u64>) -> Result<Granted, Refusal> {
    let secrets = case.view.secrets();
    let key = secrets.keys.get(&site.place);
    let Some(key) = key else {
        return match site.record(&secrets, wanted) {
            Some(held) => shown(case, site, held),
            None => Err(site.absent(case)),
        };
    };
    let version = wanted.unwrap_or(key.current);
    let Some(known) = key.versions.get(&version) else {
        return Err(site.absent(case));
    };
    let held = site.record(&secrets, Some(version));
    if is_gone(known, case.now().wall) {
        let age = case.fresh(site.verified(held)?, site.mirror.max_staleness)?;
        return gone(case, key, version, known, age);
    }
    match held {
        Some(held) => shown(case, site, held),
        None => Err(Why::VersionNotMirrored(version).into()),
    }
}

/// A kept version, as it was read.
fn shown(case: &Case<'_>, site: &Site<'_>, held: &HeldRecord) -> Result<Granted, Refusal> {
    let age = case.fresh(held.record.verified(site.state), site.mirror.max_staleness)?;
    let body = held.open(case.view.keys())?;
    let value: Value<'_> = serde_json::from_slice(body.expose())?;
    let raw: &RawValue = serde_json::from_slice(body.expose())?;
    match held.record.state {
        VersionState::Gone => Contents::data(raw, age).gone(case),
        VersionState::Live if passed(value.metadata.deletion_time, case.now().wall) => {
            Err(Why::VersionNotMirrored(value.metadata.version).into())
        }
        VersionState::Live => Contents::data(raw, age).granted(case),
    }
}

/// What of a value's body decides whether it may be shown.
#[derive(Deserialize)]
struct Value<'a> {
    #[serde(borrow)]
    metadata: ValueMetadata<'a>,
}

#[derive(Deserialize)]
struct ValueMetadata<'a> {
    deletion_time: &'a str,
    version: u64,
}

/// A version whose data is gone: 404 with what the primary still says of it, from the key's metadata.
fn gone(
    case: &Case<'_>,
    key: &KvKey,
    version: u64,
    known: &KvVersion,
    age: Duration,
) -> Result<Granted, Refusal> {
    let metadata: Metadata<'_> = serde_json::from_str(&key.metadata)?;
    let number = version.to_string();
    let created = metadata
        .versions
        .get(number.as_str())
        .ok_or(Why::ValueDamaged)?;
    let shown = Gone {
        data: (),
        metadata: GoneMetadata {
            created_time: created.created_time,
            custom_metadata: metadata.custom_metadata,
            deletion_time: &known.deletion_time,
            destroyed: known.destroyed,
            version,
        },
    };
    Contents::data(shown, age).gone(case)
}

/// What `metadata/` answers with, as far as a version that is gone needs it.
#[derive(Deserialize)]
struct Metadata<'a> {
    #[serde(borrow, default)]
    custom_metadata: Option<&'a RawValue>,
    #[serde(borrow)]
    versions: BTreeMap<&'a str, Created<'a>>,
}

#[derive(Deserialize)]
struct Created<'a> {
    created_time: &'a str,
}

#[derive(Serialize)]
struct Gone<'a> {
    data: (),
    metadata: GoneMetadata<'a>,
}

#[derive(Serialize)]
struct GoneMetadata<'a> {
    created_time: &'a str,
    custom_metadata: Option<&'a RawValue>,
    deletion_time: &'a str,
    destroyed: bool,
    version: u64,
}

fn is_gone(version: &KvVersion, now: WallTime) -> bool {
    version.destroyed || passed(&version.deletion_time, now)
}

/// Whether an RFC 3339 moment has come. Empty is never; what cannot be read has.
fn passed(moment: &str, now: WallTime) -> bool {
    !moment.is_empty() && WallTime::parse_rfc3339(moment).is_none_or(|at| at <= now)
}
