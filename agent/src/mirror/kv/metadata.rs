//! What there is in KV v2: every key of a mirror with its metadata, in as few requests as the primary allows.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};
use shared::{
    hex::Hex,
    kv::{KvKey, KvVersion},
    name::RequestPath,
    strict::{Unique, present},
};

use super::{
    KvPass,
    read::{is_moment, is_moment_or_none},
};
use crate::{
    mirror::{
        PassError,
        names::{Listing, is_empty_scan, is_name, is_without_scan},
        target::Keys,
    },
    status::MirrorSource,
    upstream::{Request, Said, ShownReply, UpstreamError},
};

/// What a mirror's keys are now.
pub(super) type KeyListing = Listing<ListedKeys>;

/// Keys by their data paths.
#[derive(Default)]
pub(super) struct ListedKeys {
    pub(super) keys: BTreeMap<RequestPath, KvKey>,
    /// Keys that are there, and whose metadata is none: why, in words.
    pub(super) misshapen: BTreeMap<RequestPath, String>,
}

/// `data` of detailed metadata.
#[derive(Deserialize)]
struct KeyDetails<'a> {
    keys: BTreeSet<String>,
    #[serde(borrow)]
    key_info: Unique<String, &'a RawValue>,
}

/// Metadata, with all that it always has.
#[derive(Deserialize)]
struct KeyMetadata {
    #[serde(rename = "cas_required")]
    _cas_required: bool,
    created_time: String,
    current_version: u64,
    #[serde(rename = "custom_metadata", deserialize_with = "present")]
    _custom_metadata: Option<BTreeMap<String, String>>,
    #[serde(rename = "delete_version_after")]
    _delete_version_after: String,
    #[serde(rename = "max_versions")]
    _max_versions: u64,
    #[serde(rename = "oldest_version")]
    _oldest_version: u64,
    updated_time: String,
    versions: Unique<u64, VersionShown>,
}

#[derive(Deserialize)]
struct VersionShown {
    created_time: String,
    deletion_time: String,
    destroyed: bool,
}

impl KvPass<'_> {
    /// The keys of the mirror. `refused` counts the passes until SCAN is tried again.
    pub(super) async fn key_listing(&self, refused: &mut u32) -> Result<KeyListing, PassError> {
        let target = &self.target;
        match &target.keys {
            Keys::One(key) => {
                let mut listing = KeyListing::new(MirrorSource::Metadata, true);
                self.add_metadata(key, &mut listing).await?;
                Ok(listing)
            }
            Keys::Below { folder, prefix } => {
                let scan = self.scan_metadata(folder);
                let walk = self.walk_metadata(folder, prefix);
                self.ground.scan_or_walk(refused, scan, walk).await
            }
        }
    }

    /// One SCAN of detailed metadata.
    async fn scan_metadata(&self, folder: &str) -> Result<Option<KeyListing>, PassError> {
        let request = Request::scan(self.target.detailed(folder));
        let shown = match self.ground.reader().ask(&request).await?.shown() {
            Err(error) if is_without_scan(&error) => return Ok(None),
            shown => shown?,
        };
        let mut listing = KeyListing::new(MirrorSource::Scan, true);
        if is_empty_scan(&shown)? {
            return Ok(Some(listing));
        }
        let KeyDetails { keys, key_info } = shown.data()?;
        let (mut named, info) = (keys.iter(), &key_info.0);
        if !named.all(|name| is_name(name)) || !info.keys().all(|name| keys.contains(name)) {
            return Err(shown
                .unexpected("its keys do not fit their metadata")
                .into());
        }
        for name in keys {
            let key = format!("{folder}{name}");
            match info.get(&name) {
                Some(metadata) => self.add(&shown, &key, metadata, &mut listing),
                // It may have gone while the list was made; else the next pass finds its metadata.
                None => self.add_misshapen(&key, "it is listed without metadata", &mut listing),
            }
        }
        Ok(Some(listing))
    }

    /// LIST, folder by folder, and a read of metadata for each key.
    async fn walk_metadata(&self, folder: &str, prefix: &str) -> Result<KeyListing, PassError> {
        let target = &self.target;
        let scanned = |folder: &str| target.detailed(folder);
        let listed = |folder: &str| target.metadata(folder);
        let walked = self.ground.walk(folder, prefix, scanned, listed).await?;
        let mut listing = KeyListing::new(MirrorSource::List, !walked.partial);
        listing.unread = walked.unread;
        for name in walked.names {
            self.ground.go_on()?;
            self.add_metadata(&name, &mut listing).await?;
        }
        Ok(listing)
    }

    /// Reads the metadata of `key` and adds it, if there is such a key.
    pub(super) async fn add_metadata(
        &self,
        key: &str,
        listing: &mut KeyListing,
    ) -> Result<(), PassError> {
        let Ok(path) = RequestPath::parse(&self.target.metadata(key)) else {
            listing.unreadable += 1;
            return Ok(());
        };
        let reader = self.ground.reader();
        let read = async {
            match reader.ask(&Request::read(path.as_str())).await?.said()? {
                Said::Missing(_) => Ok(None),
                Said::Shown(shown) => Ok(Some(shown)),
                other => Err(other.unfit()),
            }
        };
        match read.await {
            Ok(None) => {}
            Ok(Some(shown)) => match shown.object() {
                Ok(metadata) => self.add(&shown, key, metadata, listing),
                Err(error) => self.add_misshapen(key, &error.to_string(), listing),
            },
            Err(error @ UpstreamError::Malformed { .. }) => {
                self.add_misshapen(key, &error.to_string(), listing);
            }
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    fn add(&self, shown: &ShownReply, key: &str, text: &RawValue, listing: &mut KeyListing) {
        let Some(path) = self.wanted(key, listing) else {
            return;
        };
        match self.listed(shown, &path, text) {
            Ok(listed) => drop(listing.found.keys.insert(path, listed)),
            Err(error) => self.add_misshapen(key, &error.to_string(), listing),
        }
    }

    fn add_misshapen(&self, key: &str, why: &str, listing: &mut KeyListing) {
        if let Some(path) = self.wanted(key, listing) {
            tracing::warn!(why, %path, "a key's metadata could not be read");
            listing.found.misshapen.insert(path, why.to_owned());
        }
    }

    /// The data path of a key that is to be mirrored.
    fn wanted(&self, key: &str, listing: &mut KeyListing) -> Option<RequestPath> {
        let data = self.target.data(key);
        if !self.ground.is_wanted(&data) {
            return None;
        }
        let path = RequestPath::parse(&data);
        listing.unreadable += usize::from(path.is_err());
        path.ok()
    }

    /// A key, as its metadata shows it.
    fn listed(
        &self,
        shown: &ShownReply,
        path: &RequestPath,
        text: &RawValue,
    ) -> Result<KvKey, UpstreamError> {
        let metadata: KeyMetadata = shown.part(text)?;
        let versions = metadata.versions.0;
        let newest = versions.keys().next_back().copied().unwrap_or(0);
        if newest != metadata.current_version {
            return Err(shown.unexpected("a current version that is not there"));
        }
        let times = versions.values().all(|version| {
            is_moment(&version.created_time) && is_moment_or_none(&version.deletion_time)
        });
        if !times || !is_moment(&metadata.created_time) || !is_moment(&metadata.updated_time) {
            return Err(shown.unexpected("a time that is none"));
        }
        let versions = versions.into_iter().map(|(version, shown)| {
            let of_version = KvVersion {
                deletion_time: shown.deletion_time,
                destroyed: shown.destroyed,
            };
            (version, of_version)
        });
        Ok(KvKey {
            place: self.ground.place(path.clone()),
            current: metadata.current_version,
            versions: versions.collect(),
            metadata: text.get().to_owned(),
        })
    }
}

impl KeyListing {
    /// A digest of all of it.
    pub(super) fn fingerprint(&self) -> String {
        let mut digest = Sha256::new();
        for (path, key) in &self.found.keys {
            digest.update(path.as_str());
            digest.update([0]);
            digest.update(&key.metadata);
            digest.update([0]);
        }
        Hex(&digest.finalize()).to_string()
    }
}
