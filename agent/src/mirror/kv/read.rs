//! Reads of single versions: the bytes of `data`, kept as the primary wrote them.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use shared::{
    change::Change,
    kv::{Form, Record, VersionState},
    name::RequestPath,
    secret::SecretBytes,
    time::WallTime,
};

use super::compare::{Changed, ListedKey};
use crate::upstream::{Reply, Request, Upstream, UpstreamError, pace::Urgency};

/// Reads values with Holdover's own token.
pub(in crate::mirror) struct Reader {
    pub(in crate::mirror) upstream: Upstream,
    pub(in crate::mirror) urgency: Urgency,
    /// Whether this pass has proven that Holdover's token is good.
    pub(in crate::mirror) proven: Arc<AtomicBool>,
}

/// What became of a changed key.
pub(super) enum ReadKey {
    /// Every wanted version was read, or is known to be gone.
    All(ListedKey, Vec<Change>),
    /// Its value may not be read, though Holdover's token is good: what was held of it goes.
    Denied(ListedKey, Vec<Change>),
    /// Not all of it could be.
    Failed(ListedKey),
}

/// What one version is.
enum Version {
    /// 200, or a deleted or destroyed version's 404, with the bytes of `data`.
    Known(VersionState, SecretBytes),
    /// It may not be read, although Holdover's token is good.
    Denied,
    /// There is no such version.
    None,
}

/// Reads every wanted version of a key. Their changes go together, so that key and values agree.
///
/// # Errors
/// If the primary went away.
pub(super) async fn read_key(
    reader: &Reader,
    changed: Arc<Changed>,
) -> Result<ReadKey, UpstreamError> {
    let listed = &changed.listed;
    let mut changes = vec![Change::Key(Box::new(listed.key()))];
    let mut denied = false;
    for version in &changed.wanted {
        match reader.version(&listed.place.path, *version).await {
            Ok((Version::Known(state, body), at)) => {
                let record = Record {
                    place: listed.place.clone(),
                    version: Some(*version),
                    state,
                    verified_at: at,
                    covered: true,
                    form: Form::default(),
                };
                changes.push(Change::Record(Box::new(record), Some(body)));
            }
            Ok((gone, _)) => {
                denied |= matches!(gone, Version::Denied);
                changes.push(Change::RecordGone(listed.place.clone(), Some(*version)));
            }
            Err(error) if is_cut_off(&error) => return Err(error),
            Err(error) => {
                tracing::warn!(%error, path = %listed.place.path, version, "a changed value could not be read");
                return Ok(ReadKey::Failed(listed.clone()));
            }
        }
    }
    let dropped = changed.dropped.iter();
    changes.extend(dropped.map(|version| Change::RecordGone(listed.place.clone(), *version)));
    let listed = listed.clone();
    Ok(match denied {
        true => ReadKey::Denied(listed, changes),
        false => ReadKey::All(listed, changes),
    })
}

impl Reader {
    /// Whether a key that is not listed any more is gone: its read says 404, or 403 while Holdover's token is good.
    ///
    /// # Errors
    /// If the primary did not say.
    pub(in crate::mirror) async fn is_gone(
        &self,
        path: &RequestPath,
    ) -> Result<bool, UpstreamError> {
        let reply = self
            .upstream
            .ask(&Request::read(path.as_str()), self.urgency)
            .await?;
        match reply.status() {
            200 => Ok(false),
            404 => Ok(tombstone(&reply)?.is_none()),
            403 => self.own_token_is_good().await,
            _ => Err(reply.success().err().unwrap_or(UpstreamError::NoCredential)),
        }
    }

    async fn version(
        &self,
        path: &RequestPath,
        version: u64,
    ) -> Result<(Version, WallTime), UpstreamError> {
        let at = self.upstream.local().clock.now().steady;
        let request = Request::read(path.as_str()).version(version);
        let reply = self.upstream.ask(&request, self.urgency).await?;
        let found = match reply.status() {
            404 => match tombstone(&reply)? {
                Some(body) => Version::Known(VersionState::Gone, body),
                None => Version::None,
            },
            403 if self.own_token_is_good().await? => Version::Denied,
            _ => Version::Known(VersionState::Live, live(&reply.success()?)?),
        };
        Ok((found, at))
    }

    /// Whether a 403 is about the path rather than about Holdover's token. Asked once in a pass.
    pub(in crate::mirror) async fn own_token_is_good(&self) -> Result<bool, UpstreamError> {
        if self.proven.load(Ordering::Acquire) {
            return Ok(true);
        }
        let Some(token) = self.upstream.own_token() else {
            return Ok(false);
        };
        self.upstream.lookup_self(&token).await?;
        self.proven.store(true, Ordering::Release);
        Ok(true)
    }
}

/// Errors after which nothing else of a pass is worth asking.
pub(in crate::mirror) fn is_cut_off(error: &UpstreamError) -> bool {
    !matches!(
        error,
        UpstreamError::Decision { .. }
            | UpstreamError::Undecided { .. }
            | UpstreamError::Malformed { .. }
    )
}

fn live(reply: &Reply) -> Result<SecretBytes, UpstreamError> {
    let envelope = reply.envelope()?;
    if envelope.wrap_info.is_some() {
        return Err(reply.unexpected("it waits for approval by a control group"));
    }
    let data = envelope.data.filter(|data| data.get() != "null");
    let data = data.ok_or_else(|| reply.unexpected("no data in it"))?;
    Ok(bytes(data.get()))
}

/// The `data` of a deleted or destroyed version's 404; none where there is nothing at all.
fn tombstone(reply: &Reply) -> Result<Option<SecretBytes>, UpstreamError> {
    let envelope = reply.envelope()?;
    let data = envelope.data.filter(|data| data.get() != "null");
    Ok(data.map(|data| bytes(data.get())))
}

/// Takes a copy of secret text that is wiped.
pub(in crate::mirror) fn bytes(text: &str) -> SecretBytes {
    SecretBytes::filled(|bytes| bytes.extend_from_slice(text.as_bytes()))
}
