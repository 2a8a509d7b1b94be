//! What there is: every key of a mirror with its metadata, in as few requests as the primary allows.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};
use shared::{
    kv::{KvVersion, Place},
    name::{Namespace, RequestPath},
};

use super::compare::ListedKey;
use crate::{
    mirror::{
        PassError,
        target::{Keys, KvTarget},
    },
    status::MirrorSource,
    upstream::{Reply, Request, Upstream, UpstreamError, pace::Urgency},
};

/// What a mirror's keys are now.
pub(super) struct Listing {
    pub(super) keys: BTreeMap<RequestPath, ListedKey>,
    /// A digest of all of it.
    pub(super) fingerprint: String,
    /// Whether nothing was left out.
    pub(super) complete: bool,
    pub(super) source: MirrorSource,
    /// Names that no request can be made for.
    pub(super) unreadable: usize,
}

/// Lists the keys of one target.
pub(super) struct Lister<'a> {
    pub(super) upstream: &'a Upstream,
    pub(super) namespace: &'a Namespace,
    pub(super) target: &'a KvTarget,
    pub(super) urgency: Urgency,
}

#[derive(Deserialize)]
struct KeyDetails<'a> {
    #[serde(default, borrow)]
    key_info: BTreeMap<String, &'a RawValue>,
}

#[derive(Deserialize)]
struct KeyNames {
    #[serde(default)]
    keys: Vec<String>,
}

#[derive(Deserialize)]
struct Metadata {
    current_version: u64,
    #[serde(default)]
    versions: BTreeMap<u64, VersionShown>,
}

#[derive(Deserialize)]
struct VersionShown {
    #[serde(default)]
    deletion_time: String,
    #[serde(default)]
    destroyed: bool,
}

impl Lister<'_> {
    /// One SCAN of detailed metadata; `None` where the primary has none, or refuses it.
    pub(super) async fn scan(&self) -> Result<Option<Listing>, PassError> {
        let request = Request::scan(self.target.detailed(self.folder()));
        let reply = self.upstream.ask(&request, self.urgency).await?;
        let reply = match reply.success() {
            Err(error) if is_without_scan(&error) => return Ok(None),
            reply => reply?,
        };
        let data: Option<&RawValue> = reply.envelope()?.data;
        let text = data.map_or("{}", RawValue::get);
        let detailed: KeyDetails<'_> = serde_json::from_str(text)
            .map_err(|_| reply.unexpected("key_info is not what it was"))?;
        let mut gathered = GatheredKeys::new(self);
        for (name, metadata) in &detailed.key_info {
            gathered.add(&reply, &format!("{}{name}", self.folder()), metadata.get())?;
        }
        Ok(Some(gathered.listing(
            MirrorSource::Scan,
            fingerprint(text.as_bytes()),
            true,
        )))
    }

    /// The metadata of the one key of a mirror without a prefix.
    pub(super) async fn metadata_of(&self, key: &str) -> Result<Listing, PassError> {
        let mut gathered = GatheredKeys::new(self);
        let text = self.add_metadata(key, &mut gathered).await?;
        let fingerprint = fingerprint(text.unwrap_or_default().as_bytes());
        Ok(gathered.listing(MirrorSource::Metadata, fingerprint, true))
    }

    /// LIST, folder by folder, and a read of metadata for each key: where there is no SCAN.
    pub(super) async fn walk(
        &self,
        go_on: impl Fn() -> Result<(), PassError>,
    ) -> Result<Listing, PassError> {
        let mut gathered = GatheredKeys::new(self);
        let mut digest = Sha256::new();
        let mut complete = true;
        let mut folders = vec![self.folder().to_owned()];
        while let Some(folder) = folders.pop() {
            go_on()?;
            let Some(names) = self.names(&folder).await? else {
                // The first refusal says that nothing can be listed at all.
                if folder == self.folder() {
                    return Err(self.refused(&folder));
                }
                complete = false;
                continue;
            };
            for name in names {
                let key = format!("{folder}{name}");
                if name.ends_with('/') {
                    folders.push(key);
                } else if key.starts_with(self.prefix()) {
                    go_on()?;
                    let text = self.add_metadata(&key, &mut gathered).await?;
                    digest.update(key.as_bytes());
                    digest.update(text.unwrap_or_default().as_bytes());
                }
            }
        }
        let fingerprint = hex(&digest.finalize());
        Ok(gathered.listing(MirrorSource::List, fingerprint, complete))
    }

    /// The names in a folder; none where that may not be listed.
    async fn names(&self, folder: &str) -> Result<Option<Vec<String>>, PassError> {
        let request = Request::list(self.target.metadata(folder));
        let reply = self.upstream.ask(&request, self.urgency).await?;
        match reply.status() {
            403 => Ok(None),
            404 => Ok(Some(Vec::new())),
            _ => Ok(Some(reply.success()?.data::<KeyNames>()?.keys)),
        }
    }

    /// Reads the metadata of `key` and adds it, if there is such a key.
    async fn add_metadata(
        &self,
        key: &str,
        gathered: &mut GatheredKeys<'_>,
    ) -> Result<Option<String>, PassError> {
        let Ok(path) = RequestPath::parse(&self.target.metadata(key)) else {
            gathered.unreadable += 1;
            return Ok(None);
        };
        let reply = self
            .upstream
            .ask(&Request::read(path.as_str()), self.urgency)
            .await?;
        if reply.status() == 404 {
            return Ok(None);
        }
        let reply = reply.success()?;
        let text = reply.data::<&RawValue>()?.get();
        gathered.add(&reply, key, text)?;
        Ok(Some(text.to_owned()))
    }

    fn place(&self, path: RequestPath) -> Place {
        Place {
            namespace: self.namespace.clone(),
            mount: self.target.accessor.clone(),
            path,
        }
    }

    fn refused(&self, folder: &str) -> PassError {
        PassError::NotListable {
            scan: self.target.detailed(folder),
            list: self.target.metadata(folder),
        }
    }

    fn folder(&self) -> &str {
        match &self.target.keys {
            Keys::One(_) => "",
            Keys::Below { folder, .. } => folder,
        }
    }

    fn prefix(&self) -> &str {
        match &self.target.keys {
            Keys::One(key) => key,
            Keys::Below { prefix, .. } => prefix,
        }
    }
}

/// Keys as they come in.
struct GatheredKeys<'a> {
    lister: &'a Lister<'a>,
    keys: BTreeMap<RequestPath, ListedKey>,
    unreadable: usize,
}

impl<'a> GatheredKeys<'a> {
    fn new(lister: &'a Lister<'_>) -> Self {
        Self {
            lister,
            keys: BTreeMap::new(),
            unreadable: 0,
        }
    }

    fn add(&mut self, reply: &Reply, key: &str, text: &str) -> Result<(), UpstreamError> {
        if !key.starts_with(self.lister.prefix()) {
            return Ok(());
        }
        let metadata: Metadata = serde_json::from_str(text)
            .map_err(|_| reply.unexpected("metadata is not what it was"))?;
        let Ok(path) = RequestPath::parse(&self.lister.target.data(key)) else {
            self.unreadable += 1;
            return Ok(());
        };
        let versions = metadata.versions.into_iter().map(|(version, shown)| {
            let version_of = KvVersion {
                deletion_time: shown.deletion_time,
                destroyed: shown.destroyed,
            };
            (version, version_of)
        });
        let listed = ListedKey {
            place: self.lister.place(path.clone()),
            current: metadata.current_version,
            versions: versions.collect(),
            metadata: text.to_owned(),
        };
        self.keys.insert(path, listed);
        Ok(())
    }

    fn listing(self, source: MirrorSource, fingerprint: String, complete: bool) -> Listing {
        Listing {
            keys: self.keys,
            fingerprint,
            complete,
            source,
            unreadable: self.unreadable,
        }
    }
}

/// Whether SCAN or detailed metadata is refused, or not known at all. That nothing is mounted is neither.
fn is_without_scan(error: &UpstreamError) -> bool {
    match error {
        UpstreamError::Decision(decision) if decision.status() == 404 => {
            let mut errors = decision.errors().iter();
            errors.any(|text| text.contains("unsupported path"))
        }
        error => error.is_decision(403) || error.is_decision(405),
    }
}

fn fingerprint(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        use std::fmt::Write;
        // Writing to a String does not fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upstream::Decision;

    #[test]
    fn a_mount_that_is_gone_is_no_refusal_of_scan() {
        let decision = |status, text| UpstreamError::Decision(Decision::said(status, text));
        assert!(is_without_scan(&decision(
            403,
            "1 error occurred:\n\t* permission denied"
        )));
        assert!(is_without_scan(&decision(
            405,
            "1 error occurred:\n\t* unsupported operation"
        )));
        assert!(is_without_scan(&decision(
            404,
            "1 error occurred:\n\t* unsupported path"
        )));
        assert!(!is_without_scan(&decision(
            404,
            "no handler for route \"secret/detailed-metadata/\""
        )));
        assert!(!is_without_scan(&decision(
            400,
            "Upgrading from non-versioned to versioned data"
        )));
    }
}
