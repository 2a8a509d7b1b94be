//! A place that a mirror covers, and how old what is known there is.

use std::{sync::Arc, time::Duration};

use shared::{
    change::Mount,
    kv::{KvKey, MirrorState, Place},
    name::RequestPath,
    settings::{Mirror, MirrorPath},
};

use crate::{
    vault::{
        case::Case,
        refusal::{Answered, Refusal, Why},
    },
    view::{Doubts, HeldRecord, Secrets},
};

/// A place that a mirror covers.
pub(super) struct Site<'a> {
    /// What is asked there.
    pub(super) case: Case<'a>,
    /// Where the data lives.
    pub(super) place: Place,
    /// The mirror.
    pub(super) mirror: &'a Mirror,
    /// How far it has come, with this mount.
    pub(super) state: Option<&'a MirrorState>,
    /// What was in doubt before anything that is kept was looked at.
    doubts: Arc<Doubts>,
}

/// The mirror of a value, or one that a folder lies in as a whole.
pub(super) fn site<'a>(
    case: &Case<'a>,
    mount: &Mount,
    path: &str,
    folder: bool,
) -> Answered<Site<'a>> {
    let settings = case.settings();
    let mirror = match folder {
        true => settings.mirrors.iter().find(
            |mirror| matches!(&mirror.path, MirrorPath::Prefix(prefix) if path.starts_with(prefix)),
        ),
        false => settings.mirror(path),
    };
    let mirror = mirror.ok_or(Why::PathNotMirrored)?;
    let state = case.authority.mirrors.get(&mirror.path.configured());
    Ok(Site {
        case: *case,
        place: Place {
            namespace: settings.namespace.clone(),
            mount: mount.accessor.clone(),
            path: RequestPath::parse(path).map_err(|_| Why::PathNotMirrored)?,
        },
        mirror,
        state: state
            .map(AsRef::as_ref)
            .filter(|state| state.mount == mount.accessor),
        doubts: case.view.doubts(),
    })
}

impl<'a> Site<'a> {
    /// That of the key which is named with a slash at its end, if it is.
    pub(super) fn without_slash(&self) -> Option<Self> {
        let path = self.place.path.as_str().strip_suffix('/')?;
        let path = RequestPath::parse(path).ok()?;
        let place = Place {
            path,
            ..self.place.clone()
        };
        Some(Self {
            place,
            doubts: Arc::clone(&self.doubts),
            ..*self
        })
    }

    /// How old the knowledge of what is *not* there is: that of the last complete pass.
    pub(super) fn seen_whole(&self) -> Answered<Duration> {
        self.age(None)
    }

    /// How old what is known of a key beside its values is: where passes do not cover its newest record, that was not
    /// verified with it.
    pub(super) fn key_age(&self, secrets: &Secrets, key: &KvKey) -> Answered<Duration> {
        if key.is_unknown() {
            return Err(Refusal::incomplete(self.mirror));
        }
        let newest = self.record(secrets, None);
        match newest.filter(|held| !held.record.covered) {
            Some(held) => self.age(Some(held)),
            None => self.seen_whole(),
        }
    }

    /// Nothing is there, as far as a complete pass showed.
    pub(super) fn absent(&self) -> Refusal {
        if let Some(why) = self.unsure_of_absence() {
            return why.into();
        }
        self.seen_whole().err().unwrap_or(Refusal::Absent)
    }

    /// Refuses a folder of which not every name is sure; with `metadata`, of which anything that is shown is not.
    pub(super) fn listable(&self, secrets: &Secrets, metadata: bool) -> Answered<()> {
        if let Some(why) = self.unsure_of_absence() {
            return Err(why.into());
        }
        let mut below = self.doubts.below(&self.place);
        let unsure =
            below.any(|(key, doubt)| metadata || doubt.vanished || !secrets.keys.contains_key(key));
        match unsure {
            true => Err(Why::Doubted.into()),
            false => Ok(()),
        }
    }

    /// Why what is not kept may be there all the same, if it may.
    fn unsure_of_absence(&self) -> Option<Why> {
        let is_partial = self.state.is_some_and(|state| state.partial);
        if self.doubts.is_absence_doubted(&self.mirror.path) {
            return Some(Why::Doubted);
        }
        is_partial.then(|| Why::MirrorFull(self.mirror.path.configured()))
    }

    /// The answer without versions that is kept.
    pub(super) fn unversioned<'s>(&self, secrets: &'s Secrets) -> Option<&'s HeldRecord> {
        let held = secrets.records.get(&(self.place.clone(), None))?;
        Some(held)
    }

    /// How old what is known of a key is, if it may still be shown: by its record where there is one.
    pub(super) fn age(&self, held: Option<&HeldRecord>) -> Answered<Duration> {
        let mirror = self.doubts.is_mirror_doubted(&self.mirror.path);
        if mirror || self.doubts.of(&self.place).is_some() {
            return Err(Why::Doubted.into());
        }
        let verified = match (held, self.state) {
            (Some(held), state) => held.record.verified(state),
            (None, Some(state)) => state.verified_at,
            (None, None) => return Err(Refusal::incomplete(self.mirror)),
        };
        self.case.fresh(verified, self.mirror.max_staleness)
    }

    /// The record of a version, or the latest that is kept.
    pub(super) fn record<'s>(
        &self,
        secrets: &'s Secrets,
        version: Option<u64>,
    ) -> Option<&'s HeldRecord> {
        let first = (self.place.clone(), Some(version.unwrap_or(0)));
        let last = (self.place.clone(), Some(version.unwrap_or(u64::MAX)));
        let (_, held) = secrets.records.range(first..=last).next_back()?;
        Some(held)
    }
}
