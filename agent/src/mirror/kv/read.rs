//! Reads of the versions of one key of KV v2: the bytes of `data`, kept as the primary wrote them.

use std::{collections::BTreeMap, sync::Arc};

use serde::Deserialize;
use serde_json::value::RawValue;
use shared::{
    change::Change,
    kv::{Form, Place, Record, VersionState},
    secret::SecretBytes,
    strict::present,
    time::WallTime,
};

use super::compare::ChangedKey;
use crate::{
    mirror::read::{Reader, bytes, is_cut_off},
    upstream::{Request, Said, UpstreamError},
};

/// What became of a changed key.
pub(super) enum ReadKey {
    /// Every wanted version was read, or is known to be gone.
    All(Vec<Change>),
    /// Its value may not be read, though Holdover's token is good: what was held of it goes.
    Denied(Vec<Change>),
    /// Not all of it could be: why, in words.
    Failed(String),
}

/// What one version is.
enum ReadVersion {
    /// 200, or a deleted or destroyed version's 404, with the bytes of `data`.
    Known(VersionState, SecretBytes),
    /// It may not be read, although Holdover's token is good.
    Denied,
    /// There is no such version.
    None,
}

/// Reads every wanted version of a key. Their changes go together, because key and values must agree.
///
/// # Errors
/// If the primary went away.
pub(super) async fn read_key(
    reader: Reader,
    changed: Arc<ChangedKey>,
) -> Result<(Arc<ChangedKey>, ReadKey), UpstreamError> {
    let place = &changed.listed.place;
    let mut changes = vec![Change::Key(Box::new(changed.listed.clone()))];
    let mut denied = false;
    for &version in &changed.wanted {
        let verified_at = reader.context.now().steady;
        match read_version(&reader, place, version).await {
            Ok(ReadVersion::Known(state, body)) => {
                let record = Record {
                    place: place.clone(),
                    version: Some(version),
                    state,
                    verified_at,
                    covered: true,
                    form: Form::default(),
                };
                changes.push(Change::Record(Box::new(record), Some(body)));
            }
            Ok(gone) => {
                denied |= matches!(gone, ReadVersion::Denied);
                changes.push(Change::RecordGone(place.clone(), Some(version)));
            }
            Err(error) if is_cut_off(&error) => return Err(error),
            Err(error) => {
                tracing::warn!(%error, path = %place.path, version, "a changed value could not be read");
                return Ok((changed, ReadKey::Failed(error.to_string())));
            }
        }
    }
    let dropped = changed.dropped.iter();
    changes.extend(dropped.map(|version| Change::RecordGone(place.clone(), *version)));
    let read = match denied {
        true => ReadKey::Denied(changes),
        false => ReadKey::All(changes),
    };
    Ok((changed, read))
}

async fn read_version(
    reader: &Reader,
    place: &Place,
    version: u64,
) -> Result<ReadVersion, UpstreamError> {
    let request = Request::read(place.path.as_str()).version(version);
    Ok(match reader.ask(&request).await?.said()? {
        Said::Missing(_) => ReadVersion::None,
        Said::No(no) if no.is_denial() && reader.prove_own_token().await? => ReadVersion::Denied,
        said => {
            let (state, body) = shown_version(&said, Some(version))?;
            ReadVersion::Known(state, body)
        }
    })
}

/// `data` of a read.
#[derive(Deserialize)]
struct ValueShown<'a> {
    #[serde(borrow, deserialize_with = "present")]
    data: Option<&'a RawValue>,
    metadata: ValueMetadata,
}

/// What is told of a version beside its value.
#[derive(Deserialize)]
struct ValueMetadata {
    created_time: String,
    #[serde(rename = "custom_metadata", deserialize_with = "present")]
    _custom_metadata: Option<BTreeMap<String, String>>,
    deletion_time: String,
    destroyed: bool,
    version: u64,
}

/// A version that is there, or is told of though it is deleted or destroyed; `wanted` is which, if one was asked for.
///
/// # Errors
/// If that is not what a version is shown as.
pub(super) fn shown_version(
    said: &Said,
    wanted: Option<u64>,
) -> Result<(VersionState, SecretBytes), UpstreamError> {
    let (shown, state) = match said {
        Said::Emptied(shown) => (shown, VersionState::Gone),
        Said::Shown(shown) => (shown, VersionState::Live),
        other => return Err(other.unfit()),
    };
    let object = shown.object()?;
    let ValueShown { data, metadata } = shown.part(object)?;
    let deleted = metadata.destroyed || !metadata.deletion_time.is_empty();
    let fits = match (state, data) {
        (VersionState::Gone, None) => deleted,
        (VersionState::Gone, Some(_)) => false,
        // A value may be null: so it was written.
        (VersionState::Live, None) => !metadata.destroyed,
        (VersionState::Live, Some(data)) => !metadata.destroyed && data.get().starts_with('{'),
    };
    if !fits {
        return Err(shown.unexpected("a value that does not fit its metadata"));
    }
    if wanted.is_some_and(|wanted| wanted != metadata.version) {
        return Err(shown.unexpected("another version than was asked for"));
    }
    match is_moment(&metadata.created_time) && is_moment_or_none(&metadata.deletion_time) {
        true => Ok((state, bytes(object.get()))),
        false => Err(shown.unexpected("a time that is none")),
    }
}

pub(super) fn is_moment(text: &str) -> bool {
    WallTime::parse_rfc3339(text).is_some()
}

pub(super) fn is_moment_or_none(text: &str) -> bool {
    text.is_empty() || is_moment(text)
}
