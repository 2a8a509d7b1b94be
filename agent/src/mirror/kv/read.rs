//! Reads of the versions of one key of KV v2: the bytes of `data`, kept as the primary wrote them.

use std::sync::Arc;

use shared::{
    change::Change,
    kv::{Form, Place, Record, VersionState},
    secret::SecretBytes,
};

use super::compare::ChangedKey;
use crate::{
    mirror::read::{Reader, data_of, is_cut_off},
    upstream::{Reply, Request, UpstreamError},
};

/// What became of a changed key.
pub(super) enum ReadKey {
    /// Every wanted version was read, or is known to be gone.
    All(Vec<Change>),
    /// Its value may not be read, though Holdover's token is good: what was held of it goes.
    Denied(Vec<Change>),
    /// Not all of it could be.
    Failed,
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
                return Ok((changed, ReadKey::Failed));
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
    let reply = reader.ask(&request).await?;
    Ok(match reply.status() {
        404 => match data_of(&reply)? {
            Some(body) => ReadVersion::Known(VersionState::Gone, body),
            None => ReadVersion::None,
        },
        403 if reader.prove_own_token().await? => ReadVersion::Denied,
        _ => ReadVersion::Known(VersionState::Live, live(&reply.success()?)?),
    })
}

fn live(reply: &Reply) -> Result<SecretBytes, UpstreamError> {
    if reply.envelope()?.wrap_info.is_some() {
        return Err(reply.unexpected("it waits for approval by a control group"));
    }
    data_of(reply)?.ok_or_else(|| reply.unexpected("no data in it"))
}
