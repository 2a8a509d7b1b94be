//! Mirrored values: where a value lives, what is known of its versions, and the state of each mirror.

use alloc::{collections::BTreeMap, string::String, vec::Vec};
use core::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{
    name::{MountAccessor, Namespace, RequestPath},
    time::WallTime,
};

/// Where a value lives. The mount's accessor is part of it: a remounted path is a new place.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct Place {
    /// The root namespace is empty.
    pub namespace: Namespace,
    /// Of the mount that answers for the path.
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
    /// What the primary put around the bytes that are kept. The usual form is not written down.
    #[serde(default, skip_serializing_if = "Form::is_usual")]
    pub form: Form,
}

/// What the primary put around the bytes that are kept of an answer.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Form {
    /// Nothing: they are the whole body, and these are its headers.
    Bare(Content),
    /// The usual envelope: they are its `data`.
    Envelope {
        /// Its `lease_duration`, in seconds: for KV v1 a hint of when to read again, not the end of anything.
        lease_duration: u64,
        /// Its `warnings`.
        warnings: Vec<String>,
    },
}

impl Form {
    fn is_usual(&self) -> bool {
        *self == Self::default()
    }
}

impl Default for Form {
    /// An envelope with nothing else in it, as KV v2 answers.
    fn default() -> Self {
        Self::Envelope {
            lease_duration: 0,
            warnings: Vec::new(),
        }
    }
}

/// Headers that are not the same for all answers.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Content {
    /// `Content-Type`; without one none is sent.
    pub kind: Option<String>,
    /// `Cache-Control`; without one none is sent.
    pub cache: Option<String>,
}

impl Default for Content {
    /// Those of an envelope.
    fn default() -> Self {
        Self {
            kind: Some("application/json".into()),
            cache: Some("no-store".into()),
        }
    }
}

/// What a version is. Each keeps the bytes that the primary sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum VersionState {
    /// A value: answered with 200.
    Live,
    /// Deleted, destroyed, or not there: answered with 404 and what the primary sent with it.
    Gone,
}

/// A key of a KV mount: what `metadata/` shows of it in version 2, and that it exists in version 1.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct KvKey {
    /// The place of its data.
    pub place: Place,
    /// The current version.
    pub current: u64,
    /// Per version: RFC 3339 time of deletion (empty: none; may lie ahead) and whether it is destroyed.
    pub versions: BTreeMap<u64, KvVersion>,
    /// The JSON object that `metadata/` answers with, as the primary wrote it; empty in KV v1.
    pub metadata: String,
}

impl KvKey {
    /// Whether nothing is known of a key of version 2 but that it is there.
    pub fn is_unknown(&self) -> bool {
        self.metadata.is_empty() && self.versions.is_empty()
    }
}

/// What the metadata says of one version.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct KvVersion {
    /// RFC 3339; empty if never. May lie ahead (`delete_version_after`).
    pub deletion_time: String,
    /// Whether its data is gone for good.
    pub destroyed: bool,
}

impl KvVersion {
    /// Whether its data is not shown at `now`: destroyed, or deleted by then.
    pub fn is_gone(&self, now: WallTime) -> bool {
        self.destroyed || has_come(&self.deletion_time, now)
    }
}

/// Whether an RFC 3339 moment has come at `now`. Empty is never; what cannot be read has: it was meant to end
/// something.
pub fn has_come(moment: &str, now: WallTime) -> bool {
    !moment.is_empty() && WallTime::parse_rfc3339(moment).is_none_or(|at| at <= now)
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
    /// Whether there was no room for all of it: what is not kept may be there all the same.
    #[serde(default, skip_serializing_if = "core::ops::Not::not")]
    pub partial: bool,
}

/// That what is kept may be superseded at the primary, so that only an own read may answer for it again.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Doubt {
    /// Of what.
    pub of: Doubted,
    /// When it arose, on the steady wall clock: what was asked for then or earlier does not end it.
    pub since: WallTime,
    /// Whether a key that is kept may be gone, so that lists are in doubt too.
    pub vanished: bool,
}

/// What is kept of one key, values apart: another as soon as anything of it was read anew.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Kept {
    /// Where its data lives.
    pub place: Place,
    /// The key, if one is kept.
    pub key: Option<KvKey>,
    /// Of each version that is kept: when it was verified, and whether a pass counts for it.
    pub records: Vec<(Option<u64>, WallTime, bool)>,
}

/// What is in doubt.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Doubted {
    /// In the mirror of this configured path, whether anything is at places where nothing is kept.
    Absence(String),
    /// What is at one place.
    Key(Place),
    /// All of the mirror of this configured path.
    Mirror(String),
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

    /// How long ago it was verified, by itself or by a pass of its mirror.
    pub fn age(&self, mirror: Option<&MirrorState>, now: WallTime) -> Duration {
        now.since(self.verified(mirror))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_gone_does_not_come_back_by_waiting(
            at in 0i64..4_000_000_000,
            now in 0i64..4_000_000_000,
            later in 0i64..1_000_000,
            destroyed: bool,
        ) {
            let version = KvVersion {
                deletion_time: WallTime::from_secs(at).to_string(),
                destroyed,
            };
            let gone = version.is_gone(WallTime::from_secs(now));
            prop_assert_eq!(gone, destroyed || at <= now);
            prop_assert!(!gone || version.is_gone(WallTime::from_secs(now + later)));
        }

        #[test]
        fn only_an_empty_moment_never_comes(text in "[0-9TZ:. -]{0,24}", now in 0i64..4_000_000_000) {
            let now = WallTime::from_secs(now);
            let readable = WallTime::parse_rfc3339(&text);
            prop_assert_eq!(has_come(&text, now), match readable {
                Some(at) => at <= now,
                None => !text.is_empty(),
            });
        }
    }
}
