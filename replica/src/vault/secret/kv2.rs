//! KV v2: values by version, metadata, the names of a value's fields, and hints.

use std::{collections::BTreeMap, time::Duration};

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use shared::{
    acl::Allowed,
    kv::{KvVersion, VersionState, has_come},
};

use super::{site::Site, subkeys::Names};
use crate::{
    vault::{
        case::Case,
        envelope::Contents,
        fields,
        parameter::{self, Params},
        refusal::{Answered, Refusal, Why},
    },
    view::HeldRecord,
};

/// `data/`.
pub(super) fn value(
    case: &Case<'_>,
    site: &Site<'_>,
    data: &Params,
    allowed: &Allowed,
) -> Answered {
    let version = parameter::version(data)?;
    let warnings = fields::DATA.warnings(data, allowed)?;
    show(case, site, version, |shown| match shown {
        ShownVersion::Live(raw, age) => Contents::data(raw, age).granted_with(case, warnings),
        ShownVersion::Kept(raw, age) => Contents::data(raw, age).gone(case),
        ShownVersion::Gone(metadata, age) => {
            let data = ();
            Contents::data(Gone { data, metadata }, age).gone(case)
        }
    })
}

/// `subkeys/`: what `data/` shows, with nothing left of the values.
pub(super) fn subkeys(
    case: &Case<'_>,
    site: &Site<'_>,
    data: &Params,
    allowed: &Allowed,
) -> Answered {
    let version = parameter::version(data)?;
    let depth = parameter::depth(data)?;
    let warnings = fields::SUBKEYS.warnings(data, allowed)?;
    show(case, site, version, |shown| match shown {
        ShownVersion::Live(raw, age) => {
            let kept: Kept<'_> = serde_json::from_str(raw.get())?;
            let subkeys = kept.data.pruned(depth);
            let metadata = kept.metadata;
            Contents::data(Subkeys { metadata, subkeys }, age).granted_with(case, warnings)
        }
        ShownVersion::Kept(raw, age) => {
            let kept: Kept<'_> = serde_json::from_str(raw.get())?;
            let (metadata, subkeys) = (kept.metadata, Names::Leaf);
            Contents::data(Subkeys { metadata, subkeys }, age).gone(case)
        }
        ShownVersion::Gone(metadata, age) => {
            let subkeys = Names::Leaf;
            Contents::data(Subkeys { metadata, subkeys }, age).gone(case)
        }
    })
}

/// `metadata/`.
pub(super) fn metadata(
    case: &Case<'_>,
    site: &Site<'_>,
    data: &Params,
    allowed: &Allowed,
) -> Answered {
    parameter::after(data)?;
    parameter::limit(data)?;
    let warnings = fields::METADATA.warnings(data, allowed)?;
    let secrets = case.view.secrets();
    // The primary does not mind a slash at the end of a key here.
    let folder = site.without_slash();
    let place = &folder.as_ref().unwrap_or(site).place;
    let Some(key) = secrets.keys.get(place) else {
        return Err(site.absent(case));
    };
    let age = site.seen_whole(case)?;
    let shown: &RawValue = serde_json::from_str(&key.metadata)?;
    Contents::data(shown, age).granted_with(case, warnings)
}

/// A path of no endpoint: 404 with a hint, whatever there is.
pub(super) fn hint(case: &Case<'_>, hint: &str) -> Answered {
    let age = case.age(case.cluster()?.verified_at);
    let nothing: Contents<'_> = Contents {
        warnings: vec![hint.to_owned()],
        ..Contents::nothing(age)
    };
    nothing.gone(case)
}

/// What there is to show of a version, and how old it is.
enum ShownVersion<'a> {
    /// Its bytes: value and metadata.
    Live(&'a RawValue, Duration),
    /// The bytes of what was gone when it was read.
    Kept(&'a RawValue, Duration),
    /// What the key's metadata says of what has gone since.
    Gone(GoneMetadata<'a>, Duration),
}

fn show(
    case: &Case<'_>,
    site: &Site<'_>,
    wanted: Option<u64>,
    show: impl FnOnce(ShownVersion<'_>) -> Answered,
) -> Answered {
    let folder = site.without_slash();
    let site = folder.as_ref().unwrap_or(site);
    let secrets = case.view.secrets();
    let Some(key) = secrets.keys.get(&site.place) else {
        return match site.record(&secrets, wanted).filter(|_| folder.is_none()) {
            Some(held) => shown(case, site, held, show),
            None => Err(site.absent(case)),
        };
    };
    let version = wanted.unwrap_or(key.current);
    let Some(known) = key.versions.get(&version) else {
        return Err(site.absent(case));
    };
    let held = site.record(&secrets, Some(version));
    if known.is_gone(case.now().wall) {
        let age = case.fresh(site.verified(held)?, site.mirror.max_staleness)?;
        let metadata: Metadata<'_> = serde_json::from_str(&key.metadata)?;
        return show(ShownVersion::Gone(metadata.of(version, known)?, age));
    }
    if folder.is_some() {
        // The key is found, with a slash too many, and its version is not.
        site.seen_whole(case)?;
        return Err(Refusal::Fails("could not find version data"));
    }
    match held {
        Some(held) => shown(case, site, held, show),
        None => Err(Why::VersionNotMirrored(version).into()),
    }
}

/// A kept version, as it was read.
fn shown(
    case: &Case<'_>,
    site: &Site<'_>,
    held: &HeldRecord,
    show: impl FnOnce(ShownVersion<'_>) -> Answered,
) -> Answered {
    let age = site.age(case, held)?;
    let body = held.body.open(case.view.keys())?;
    let value: Dated<'_> = serde_json::from_slice(body.expose())?;
    let raw: &RawValue = serde_json::from_slice(body.expose())?;
    match held.record.state {
        VersionState::Gone => show(ShownVersion::Kept(raw, age)),
        VersionState::Live if has_come(value.metadata.deletion_time, case.now().wall) => {
            Err(Why::VersionNotMirrored(value.metadata.version).into())
        }
        VersionState::Live => show(ShownVersion::Live(raw, age)),
    }
}

/// What of a value's body decides whether it may be shown.
#[derive(Deserialize)]
struct Dated<'a> {
    #[serde(borrow)]
    metadata: DatedMetadata<'a>,
}

#[derive(Deserialize)]
struct DatedMetadata<'a> {
    deletion_time: &'a str,
    version: u64,
}

/// A value's body as `subkeys/` looks at it.
#[derive(Deserialize)]
struct Kept<'a> {
    data: Names,
    #[serde(borrow)]
    metadata: &'a RawValue,
}

#[derive(Serialize)]
struct Subkeys<M> {
    metadata: M,
    subkeys: Names,
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

impl<'a> Metadata<'a> {
    /// What the primary still says of a version whose data is gone.
    fn of(self, version: u64, known: &'a KvVersion) -> Answered<GoneMetadata<'a>> {
        let number = version.to_string();
        let created = self
            .versions
            .get(number.as_str())
            .ok_or(Why::ValueDamaged)?;
        Ok(GoneMetadata {
            created_time: created.created_time,
            custom_metadata: self.custom_metadata,
            deletion_time: &known.deletion_time,
            destroyed: known.destroyed,
            version,
        })
    }
}
