//! KV v2: values by version, metadata, the names of a value's fields, and hints.

use std::{collections::BTreeMap, time::Duration};

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use shared::{
    acl::Allowed,
    kv::{KvVersion, VersionState, has_come},
    secret::SecretBytes,
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
pub(super) fn value(site: &Site<'_>, data: &Params, allowed: &Allowed) -> Answered {
    let version = parameter::version(data)?;
    let warnings = fields::DATA.warnings(data, allowed)?;
    let (shown, age) = show(site, version)?;
    match shown {
        ShownVersion::Live(body) => {
            Contents::data(raw(&body)?, age).granted_with(&site.case, warnings)
        }
        ShownVersion::Kept(body) => Contents::data(raw(&body)?, age).gone(&site.case),
        ShownVersion::Gone(metadata) => {
            let data = ();
            Contents::data(Gone { data, metadata }, age).gone(&site.case)
        }
    }
}

/// `subkeys/`: what `data/` shows, with nothing left of the values.
pub(super) fn subkeys(site: &Site<'_>, data: &Params, allowed: &Allowed) -> Answered {
    let version = parameter::version(data)?;
    let depth = parameter::depth(data)?;
    let warnings = fields::SUBKEYS.warnings(data, allowed)?;
    let (shown, age) = show(site, version)?;
    let (body, live) = match shown {
        ShownVersion::Live(body) => (body, true),
        ShownVersion::Kept(body) => (body, false),
        ShownVersion::Gone(metadata) => {
            let subkeys = Names::Leaf;
            return Contents::data(Subkeys { metadata, subkeys }, age).gone(&site.case);
        }
    };
    let kept: Kept<'_> = serde_json::from_str(raw(&body)?.get())?;
    let metadata = kept.metadata;
    let subkeys = match live {
        true => kept.data.pruned(depth),
        false => Names::Leaf,
    };
    let contents = Contents::data(Subkeys { metadata, subkeys }, age);
    match live {
        true => contents.granted_with(&site.case, warnings),
        false => contents.gone(&site.case),
    }
}

/// `metadata/`.
pub(super) fn metadata(site: &Site<'_>, data: &Params, allowed: &Allowed) -> Answered {
    parameter::after(data)?;
    parameter::limit(data)?;
    let warnings = fields::METADATA.warnings(data, allowed)?;
    let secrets = site.case.view.secrets();
    // The primary does not mind a slash at the end of a key here.
    let folder = site.without_slash();
    let place = &folder.as_ref().unwrap_or(site).place;
    let key = secrets.keys.get(place).ok_or_else(|| site.absent())?;
    let age = site.key_age(&secrets, key)?;
    let shown: &RawValue = serde_json::from_str(&key.metadata)?;
    Contents::data(shown, age).granted_with(&site.case, warnings)
}

/// A path of no endpoint: 404 with a hint, whatever there is.
pub(super) fn hint(case: &Case<'_>, hint: String) -> Answered {
    let age = case.age(case.cluster()?.verified_at);
    let nothing: Contents<'_> = Contents {
        warnings: vec![hint],
        ..Contents::nothing(age)
    };
    nothing.gone(case)
}

/// What there is to show of a version.
enum ShownVersion {
    /// Its bytes: value and metadata.
    Live(SecretBytes),
    /// The bytes of what was gone when it was read.
    Kept(SecretBytes),
    /// What the key's metadata says of what has gone since.
    Gone(GoneMetadata),
}

fn raw(body: &SecretBytes) -> Answered<&RawValue> {
    Ok(serde_json::from_slice(body.expose())?)
}

/// What there is to show of the version that is wanted, and how old that is.
fn show(site: &Site<'_>, wanted: Option<u64>) -> Answered<(ShownVersion, Duration)> {
    let folder = site.without_slash();
    let site = folder.as_ref().unwrap_or(site);
    let secrets = site.case.view.secrets();
    let Some(key) = secrets.keys.get(&site.place) else {
        let held = site.record(&secrets, wanted).filter(|_| folder.is_none());
        return kept(site, held.ok_or_else(|| site.absent())?);
    };
    let version = wanted.unwrap_or(key.current);
    let Some(known) = key.versions.get(&version) else {
        return Err(site.key_age(&secrets, key).err().unwrap_or(Refusal::Absent));
    };
    let held = site.record(&secrets, Some(version));
    if known.is_gone(site.case.now().wall) {
        let age = site.age(held)?;
        let metadata: Metadata<'_> = serde_json::from_str(&key.metadata)?;
        return Ok((ShownVersion::Gone(metadata.of(version, known)?), age));
    }
    if folder.is_some() {
        // The key is found, with a slash too many, and its version is not.
        site.seen_whole()?;
        return Err(Refusal::Fails("could not find version data"));
    }
    kept(site, held.ok_or(Why::VersionNotMirrored(version))?)
}

/// A kept version, as it was read.
fn kept(site: &Site<'_>, held: &HeldRecord) -> Answered<(ShownVersion, Duration)> {
    let age = site.age(Some(held))?;
    let body = held.body.open(site.case.view.keys())?;
    let value: Dated<'_> = serde_json::from_slice(body.expose())?;
    let (gone, version) = (value.metadata.deletion_time, value.metadata.version);
    let shown = match held.record.state {
        VersionState::Gone => ShownVersion::Kept(body),
        VersionState::Live if has_come(gone, site.case.now().wall) => {
            return Err(Why::VersionNotMirrored(version).into());
        }
        VersionState::Live => ShownVersion::Live(body),
    };
    Ok((shown, age))
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
struct Gone {
    data: (),
    metadata: GoneMetadata,
}

#[derive(Serialize)]
struct GoneMetadata {
    created_time: String,
    custom_metadata: Option<Box<RawValue>>,
    deletion_time: String,
    destroyed: bool,
    version: u64,
}

impl Metadata<'_> {
    /// What the primary still says of a version whose data is gone.
    fn of(self, version: u64, known: &KvVersion) -> Answered<GoneMetadata> {
        let created = self.versions.get(version.to_string().as_str());
        let created = created.ok_or(Why::ValueDamaged)?;
        Ok(GoneMetadata {
            created_time: created.created_time.to_owned(),
            custom_metadata: self.custom_metadata.map(ToOwned::to_owned),
            deletion_time: known.deletion_time.clone(),
            destroyed: known.destroyed,
            version,
        })
    }
}
