//! Mirrored values: where a value lives, what is known of its versions, and the state of each mirror.

use alloc::{collections::BTreeMap, string::String};
use core::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{
    name::{MountAccessor, Namespace, RequestPath},
    time::WallTime,
};

/// Where a value lives. The mount's accessor is part of it: a remounted path is a new place.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct Place {
    /// The namespace.
    pub namespace: Namespace,
    /// The mount.
    pub mount: MountAccessor,
    /// The path of the read, for KV v2 with `data/` in it.
    pub path: RequestPath,
}

/// A mirrored value without the value, which is sealed beside it.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Record {
    /// Where it lives.
    pub place: Place,
    /// Which version this is; `None` for what has no versions.
    pub version: Option<u64>,
    /// What its sealed body is.
    pub state: VersionState,
    /// When the primary last answered for it.
    pub verified_at: WallTime,
    /// Whether a complete pass of its mirror counts as verification of it. False where a change was seen
    /// that could not be fetched: then only `verified_at` counts.
    pub covered: bool,
}

/// What a version is. Each keeps the bytes of `data` that the primary sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum VersionState {
    /// A value: answered with 200.
    Live,
    /// Deleted or destroyed: answered with 404 and the data that the primary sent with it.
    Gone,
}

/// A KV v2 key: what `metadata/` shows of it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct KvKey {
    /// The place of its data.
    pub place: Place,
    /// The current version.
    pub current: u64,
    /// Per version: RFC 3339 time of deletion (empty: none; may lie ahead) and whether it is destroyed.
    pub versions: BTreeMap<u64, KvVersion>,
    /// The JSON object that `metadata/` answers with, as the primary wrote it.
    pub metadata: String,
}

/// What the metadata says of one version.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct KvVersion {
    /// RFC 3339; empty if never. May lie ahead (`delete_version_after`).
    pub deletion_time: String,
    /// Whether its data is gone for good.
    pub destroyed: bool,
}

/// How far a mirror has come.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct MirrorState {
    /// The configured path, which names the mirror.
    pub path: String,
    /// The mount under it, as its last pass found it.
    pub mount: MountAccessor,
    /// The start of the last pass that saw everything: what [`Record::covered`] values count from.
    pub verified_at: WallTime,
    /// A digest of the detailed metadata of that pass: unchanged means that nothing changed.
    pub fingerprint: String,
}

impl Record {
    /// When it was last verified, a complete pass of its mirror included.
    pub fn verified(&self, mirror: Option<&MirrorState>) -> WallTime {
        match mirror {
            Some(mirror) if self.covered && mirror.mount == self.place.mount => {
                self.verified_at.max(mirror.verified_at)
            }
            _ => self.verified_at,
        }
    }

    /// Its age.
    pub fn age(&self, mirror: Option<&MirrorState>, now: WallTime) -> Duration {
        now.since(self.verified(mirror))
    }
}
