//! What an answer says of a mirrored key, held against what is kept of it.
//!
//! Answers may cross each other and come from nodes that are behind, so that they are other than what is kept says
//! nothing by itself. A higher version, a later write and a deletion that is not known are newer by what they are.

use alloc::{borrow::Cow, collections::BTreeMap, string::String, vec::Vec};
use core::cmp::Ordering;

use serde::{Deserialize, de::IgnoredAny};
use serde_json::value::RawValue;

use crate::{
    kv::{Form, KvKey, VersionState},
    provenance::StateTold,
    time::WallTime,
};

/// What an answer says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Told {
    /// Another state than what is kept, and nothing in it tells which of the two came first.
    Different,
    /// A state that what is kept cannot have come after.
    Newer {
        /// Whether the key is not there in it at all, or is there and was not known to be: lists are in doubt too.
        vanished: bool,
    },
    /// A state from before what is kept.
    Older,
    /// What is kept.
    Same,
    /// Nothing of the key: a refusal, or no answer of this path's form.
    Nothing,
}

impl Told {
    const NEWER: Self = Self::Newer { vanished: false };
    const VANISHED: Self = Self::Newer { vanished: true };
}

/// What `data/` or `subkeys/` of KV v2 answered. `wanted` is the version that was asked for; none, or 0, is the current.
pub fn value(told: StateTold<'_>, wanted: Option<u64>, held: Option<&KvKey>) -> Told {
    let wanted = wanted.filter(|version| *version > 0);
    let shown: ValueShown<'_> = match Said::read(told) {
        None => return Told::Nothing,
        Some(Said::Absent) => return absent(wanted, held),
        Some(Said::Data(data)) => match serde_json::from_str(data) {
            Ok(shown) => shown,
            Err(_) => return Told::Nothing,
        },
    };
    held.map_or(Told::NEWER, |held| shown.metadata.against(wanted, held))
}

/// What `metadata/` of KV v2 answered.
pub fn metadata(told: StateTold<'_>, held: Option<&KvKey>) -> Told {
    let data = match (Said::read(told), held) {
        (None, _) => return Told::Nothing,
        (Some(Said::Absent), None) => return Told::Same,
        (Some(Said::Absent), Some(_)) => return Told::VANISHED,
        (Some(Said::Data(data)), _) => data,
    };
    let Ok(shown) = serde_json::from_str::<KeyShown<'_>>(data) else {
        return Told::Nothing;
    };
    match held {
        None => Told::NEWER,
        Some(held) if held.metadata == data => Told::Same,
        Some(held) => serde_json::from_str::<KeyShown<'_>>(&held.metadata)
            .map_or(Told::Different, |known| shown.against(&known)),
    }
}

/// What a path without versions answered: KV v1, or anything that is kept as it is. `held` is how, and the bytes.
pub fn kept(told: StateTold<'_>, held: Option<(VersionState, &Form, &[u8])>) -> Told {
    let said = Said::read(told);
    let Some((state, form, bytes)) = held else {
        return match said {
            Some(Said::Data(_)) if told.is_there => Told::NEWER,
            Some(Said::Absent) => Told::Same,
            _ => Told::Nothing,
        };
    };
    let is_live = state == VersionState::Live;
    let shown = match (&said, form) {
        (Some(Said::Absent), _) if is_live => return Told::VANISHED,
        (Some(Said::Data(data)), Form::Envelope { .. }) => data.as_bytes(),
        (_, Form::Bare(_)) => told.body,
        _ => return Told::Nothing,
    };
    match shown == bytes && is_live == told.is_there {
        true => Told::Same,
        false => Told::Different,
    }
}

/// The names that a list or scan shows.
pub fn names(told: StateTold<'_>) -> Vec<String> {
    #[derive(Deserialize)]
    struct Names {
        #[serde(default)]
        keys: Vec<String>,
    }
    let Some(Said::Data(data)) = Said::read(told) else {
        return Vec::new();
    };
    serde_json::from_str::<Names>(data).map_or_else(|_| Vec::new(), |names| names.keys)
}

/// The primary's shape of an answer, as far as it is about what is there.
enum Said<'a> {
    /// Nothing is there.
    Absent,
    /// The bytes of `data`.
    Data(&'a str),
}

impl<'a> Said<'a> {
    /// None for an answer that says nothing of what is there. What comes with a lease, a token or wrapped is its
    /// caller's own.
    fn read(told: StateTold<'a>) -> Option<Self> {
        #[derive(Deserialize)]
        struct SaidBody<'a> {
            #[serde(default)]
            lease_id: Cow<'a, str>,
            #[serde(borrow, default)]
            data: Option<&'a RawValue>,
            #[serde(default)]
            wrap_info: Option<IgnoredAny>,
            #[serde(default)]
            auth: Option<IgnoredAny>,
            #[serde(default)]
            errors: Option<Vec<IgnoredAny>>,
        }
        let body: SaidBody<'a> = serde_json::from_slice(told.body).ok()?;
        let own = !body.lease_id.is_empty() || body.wrap_info.is_some() || body.auth.is_some();
        match (body.data, body.errors) {
            _ if own => None,
            (Some(data), None) if data.get() != "null" => Some(Self::Data(data.get())),
            (None, Some(errors)) if !told.is_there && errors.is_empty() => Some(Self::Absent),
            _ => None,
        }
    }
}

#[derive(Deserialize)]
struct ValueShown<'a> {
    #[serde(borrow)]
    metadata: VersionShown<'a>,
}

#[derive(Deserialize)]
struct VersionShown<'a> {
    version: u64,
    #[serde(borrow)]
    created_time: Cow<'a, str>,
    #[serde(borrow, default)]
    custom_metadata: Option<&'a RawValue>,
    deletion_time: String,
    destroyed: bool,
}

#[derive(Deserialize)]
struct KeyShown<'a> {
    #[serde(borrow, default)]
    created_time: Cow<'a, str>,
    current_version: u64,
    #[serde(borrow, default)]
    custom_metadata: Option<&'a RawValue>,
    #[serde(borrow, default)]
    updated_time: Cow<'a, str>,
    #[serde(borrow, default)]
    versions: BTreeMap<u64, Dates<'a>>,
}

#[derive(Deserialize)]
struct Dates<'a> {
    #[serde(borrow)]
    created_time: Cow<'a, str>,
    #[serde(default)]
    deletion_time: String,
    #[serde(default)]
    destroyed: bool,
}

impl VersionShown<'_> {
    fn against(&self, wanted: Option<u64>, held: &KvKey) -> Told {
        if self.version > held.current {
            return Told::NEWER;
        }
        let Ok(known) = serde_json::from_str::<KeyShown<'_>>(&held.metadata) else {
            return Told::Different;
        };
        let Some(version) = known.versions.get(&self.version) else {
            // Of another life of the key, or of a version that is no longer listed.
            return match order(&self.created_time, &known.updated_time) {
                Some(Ordering::Greater) => Told::NEWER,
                _ => Told::Different,
            };
        };
        match order(&self.created_time, &version.created_time) {
            Some(Ordering::Greater) => return Told::NEWER,
            Some(Ordering::Less) => return Told::Older,
            Some(Ordering::Equal) => {}
            None => return Told::Different,
        }
        if wanted.is_none() && self.version < held.current {
            return Told::Older;
        }
        let custom = |value: Option<&RawValue>| value.map_or(String::from("null"), text_of);
        match gone((&self.deletion_time, self.destroyed), version) {
            Told::Same if custom(self.custom_metadata) != custom(known.custom_metadata) => {
                Told::Different
            }
            told => told,
        }
    }
}

fn text_of(value: &RawValue) -> String {
    value.get().into()
}

impl KeyShown<'_> {
    fn against(&self, known: &Self) -> Told {
        for told in [
            told_by(order(&self.created_time, &known.created_time)),
            told_by(order(&self.updated_time, &known.updated_time)),
            told_by(Some(self.current_version.cmp(&known.current_version))),
        ] {
            if told != Told::Same {
                return told;
            }
        }
        let versions = self.versions.iter().filter_map(|(version, shown)| {
            let known = known.versions.get(version)?;
            Some(gone((&shown.deletion_time, shown.destroyed), known))
        });
        let told: Vec<Told> = versions.collect();
        // Another text, so that it is not the same, whatever this knows of it.
        let any = |wanted| told.contains(&wanted).then_some(wanted);
        any(Told::NEWER)
            .or_else(|| any(Told::Older))
            .unwrap_or(Told::Different)
    }
}

fn told_by(order: Option<Ordering>) -> Told {
    match order {
        Some(Ordering::Equal) => Told::Same,
        Some(Ordering::Greater) => Told::NEWER,
        Some(Ordering::Less) => Told::Older,
        None => Told::Different,
    }
}

/// Nothing is at the path, or no such version.
fn absent(wanted: Option<u64>, held: Option<&KvKey>) -> Told {
    let Some(held) = held else {
        return Told::Same;
    };
    let version = wanted.unwrap_or(held.current);
    match held.versions.contains_key(&version) {
        false => Told::Same,
        true if version == held.current => Told::VANISHED,
        true => Told::Different,
    }
}

/// Deletion and destruction of one version. Destroyed is for good; what was deleted may have been before and is undone,
/// and doubt costs one read, where to go on would give what is deleted.
fn gone((deletion, destroyed): (&str, bool), known: &Dates<'_>) -> Told {
    match (destroyed, known.destroyed) {
        (true, false) => return Told::NEWER,
        (false, true) => return Told::Older,
        _ => {}
    }
    match (deletion.is_empty(), known.deletion_time.is_empty()) {
        (true, true) => Told::Same,
        (false, true) => Told::NEWER,
        (true, false) => Told::Different,
        (false, false) => told_by(order(deletion, &known.deletion_time)),
    }
}

/// Which of two moments comes first; none where that cannot be told.
fn order(one: &str, other: &str) -> Option<Ordering> {
    if one == other {
        return Some(Ordering::Equal);
    }
    let (one, other) = (
        WallTime::parse_rfc3339(one)?,
        WallTime::parse_rfc3339(other)?,
    );
    // What lies within a millisecond is not told apart.
    Some(one.cmp(&other)).filter(|order| order.is_ne())
}
