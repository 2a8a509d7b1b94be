//! What there is in KV v2: every key of a mirror with its metadata, in as few requests as the primary allows.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};
use shared::{
    hex::Hex,
    kv::{KvKey, KvVersion},
    name::RequestPath,
};

use super::KvPass;
use crate::{
    mirror::{
        PassError,
        names::{Listing, is_without_scan},
        target::Keys,
    },
    status::MirrorSource,
    upstream::{Reply, Request, UpstreamError},
};

/// What a mirror's keys are now.
pub(super) type KeyListing = Listing<BTreeMap<RequestPath, KvKey>>;

#[derive(Deserialize)]
struct KeyDetails<'a> {
    #[serde(default, borrow)]
    key_info: BTreeMap<String, &'a RawValue>,
}

#[derive(Deserialize)]
struct KeyMetadata {
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
        let reply = match self.ground.reader().ask(&request).await?.success() {
            Err(error) if is_without_scan(&error) => return Ok(None),
            reply => reply?,
        };
        let data: Option<&RawValue> = reply.envelope()?.data;
        let details: KeyDetails<'_> = serde_json::from_str(data.map_or("{}", RawValue::get))
            .map_err(|_| reply.unexpected("key_info is not what it was"))?;
        let mut listing = KeyListing::new(MirrorSource::Scan, true);
        for (name, metadata) in &details.key_info {
            self.add(&reply, &format!("{folder}{name}"), metadata, &mut listing)?;
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
        for name in walked.names {
            self.ground.go_on()?;
            self.add_metadata(&name, &mut listing).await?;
        }
        Ok(listing)
    }

    /// Reads the metadata of `key` and adds it, if there is such a key.
    async fn add_metadata(&self, key: &str, listing: &mut KeyListing) -> Result<(), PassError> {
        let Ok(path) = RequestPath::parse(&self.target.metadata(key)) else {
            listing.unreadable += 1;
            return Ok(());
        };
        let request = Request::read(path.as_str());
        let reply = self.ground.reader().ask(&request).await?;
        if reply.status() == 404 {
            return Ok(());
        }
        let reply = reply.success()?;
        Ok(self.add(&reply, key, reply.data()?, listing)?)
    }

    fn add(
        &self,
        reply: &Reply,
        key: &str,
        text: &RawValue,
        listing: &mut KeyListing,
    ) -> Result<(), UpstreamError> {
        let data = self.target.data(key);
        if !self.ground.is_wanted(&data) {
            return Ok(());
        }
        let metadata: KeyMetadata = serde_json::from_str(text.get())
            .map_err(|_| reply.unexpected("metadata is not what it was"))?;
        let Ok(path) = RequestPath::parse(&data) else {
            listing.unreadable += 1;
            return Ok(());
        };
        let versions = metadata.versions.into_iter().map(|(version, shown)| {
            let of_version = KvVersion {
                deletion_time: shown.deletion_time,
                destroyed: shown.destroyed,
            };
            (version, of_version)
        });
        let key = KvKey {
            place: self.ground.place(path.clone()),
            current: metadata.current_version,
            versions: versions.collect(),
            metadata: text.get().to_owned(),
        };
        listing.found.insert(path, key);
        Ok(())
    }
}

impl KeyListing {
    /// A digest of all of it.
    pub(super) fn fingerprint(&self) -> String {
        let mut digest = Sha256::new();
        for (path, key) in &self.found {
            digest.update(path.as_str());
            digest.update([0]);
            digest.update(&key.metadata);
            digest.update([0]);
        }
        Hex(&digest.finalize()).to_string()
    }
}
