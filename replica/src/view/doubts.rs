//! What may be superseded at the primary, in order of place, so that a folder's is one range.
//!
//! Doubts bind at once, by whoever sees their cause, and end with a commit of the writer's: both change the same
//! persistent map, and neither undoes the other, because what ends a doubt names the moment that it was asked at.

use std::ops::Bound;

use imbl::OrdMap;
use shared::{
    kv::{Doubt, Doubted, Place},
    settings::MirrorPath,
    time::WallTime,
};

use super::Authority;

/// Everything that is in doubt.
#[derive(Clone, Default)]
pub struct Doubts {
    keys: OrdMap<Place, KeyDoubt>,
    mirrors: OrdMap<String, WallTime>,
    absences: OrdMap<String, WallTime>,
    /// Keys that were read anew, and when that was asked for, until no pass runs that began before.
    read: OrdMap<Place, WallTime>,
}

/// Doubt of one key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct KeyDoubt {
    /// When it arose.
    pub since: WallTime,
    /// Whether the key may be gone, although one is kept.
    pub vanished: bool,
}

/// What the writer publishes of doubts.
pub(crate) enum DoubtStep {
    /// One arose.
    Add(Doubt),
    /// One is answered by what was asked for from then on.
    Answer(Doubted, WallTime),
    /// A pass over a mirror has ended, and is published.
    PassEnded,
}

impl Doubts {
    /// Whether what is kept at `place` is in doubt.
    pub fn of(&self, place: &Place) -> Option<KeyDoubt> {
        self.keys.get(place).copied()
    }

    /// Whether all of the mirror of this configured path is.
    pub fn is_mirror_doubted(&self, path: &MirrorPath) -> bool {
        !self.mirrors.is_empty() && self.mirrors.contains_key(&path.configured())
    }

    /// Whether anything is, in this mirror, where nothing is kept.
    pub fn is_absence_doubted(&self, path: &MirrorPath) -> bool {
        !self.absences.is_empty() && self.absences.contains_key(&path.configured())
    }

    /// The keys in doubt that lie below a folder.
    pub fn below(&self, folder: &Place) -> impl Iterator<Item = (&Place, KeyDoubt)> {
        let range = (Bound::Included(folder.clone()), Bound::Unbounded);
        let lies = |place: &Place| {
            (&place.namespace, &place.mount) == (&folder.namespace, &folder.mount)
                && place.path.as_str().starts_with(folder.path.as_str())
        };
        self.keys
            .range(range)
            .take_while(move |(place, _)| lies(place))
            .map(|(place, doubt)| (place, *doubt))
    }

    /// Each of them, mirrors first.
    pub fn all(&self) -> impl Iterator<Item = Doubt> {
        let mirrors = self.mirrors.iter();
        let mirrors = mirrors.map(|(path, since)| (Doubted::Mirror(path.clone()), *since, false));
        let absences = self.absences.iter();
        let absences =
            absences.map(|(path, since)| (Doubted::Absence(path.clone()), *since, false));
        let keys = self.keys.iter();
        let keys = keys.map(|(place, doubt)| {
            let of = Doubted::Key(place.clone());
            (of, doubt.since, doubt.vanished)
        });
        mirrors
            .chain(absences)
            .chain(keys)
            .map(|(of, since, vanished)| Doubt {
                of,
                since,
                vanished,
            })
    }

    /// How many keys are.
    pub fn keys(&self) -> usize {
        self.keys.len()
    }

    /// How many keys are remembered: in doubt, or read anew since the last pass.
    pub fn remembered(&self) -> usize {
        self.keys.len() + self.read.len()
    }

    /// When the doubt arose, if there is one.
    pub fn since(&self, of: &Doubted) -> Option<WallTime> {
        match of {
            Doubted::Absence(path) => self.absences.get(path).copied(),
            Doubted::Key(place) => self.keys.get(place).map(|doubt| doubt.since),
            Doubted::Mirror(path) => self.mirrors.get(path).copied(),
        }
    }

    /// Whether the key was read anew by what was asked for after `asked_at`.
    pub(crate) fn was_read_after(&self, place: &Place, asked_at: WallTime) -> bool {
        self.read.get(place).is_some_and(|at| *at > asked_at)
    }

    /// `doubt` and what is doubted of the same already.
    pub(crate) fn merged(&self, doubt: Doubt) -> Doubt {
        let since = self
            .since(&doubt.of)
            .map_or(doubt.since, |s| s.max(doubt.since));
        let vanished = match &doubt.of {
            Doubted::Key(place) => self.keys.get(place).is_some_and(|known| known.vanished),
            Doubted::Absence(_) | Doubted::Mirror(_) => false,
        };
        Doubt {
            since,
            vanished: doubt.vanished || vanished,
            ..doubt
        }
    }

    pub(crate) fn add(&mut self, doubt: &Doubt) {
        let doubt = self.merged(doubt.clone());
        match doubt.of {
            Doubted::Absence(path) => drop(self.absences.insert(path, doubt.since)),
            Doubted::Key(place) => {
                let of_key = KeyDoubt {
                    since: doubt.since,
                    vanished: doubt.vanished,
                };
                self.keys.insert(place, of_key);
            }
            Doubted::Mirror(path) => drop(self.mirrors.insert(path, doubt.since)),
        }
    }

    /// Takes what is published, after the values and mirrors that it is about.
    pub(crate) fn take_step(&mut self, step: &DoubtStep, authority: &Authority) {
        match step {
            DoubtStep::Add(doubt) => self.add(doubt),
            DoubtStep::Answer(of, asked_at) => self.answer(of, *asked_at),
            DoubtStep::PassEnded => self.forget_reads(authority),
        }
    }

    fn answer(&mut self, of: &Doubted, asked_at: WallTime) {
        if let Doubted::Key(place) = of {
            let before = self.read.get(place).copied();
            let read = before.map_or(asked_at, |before| before.max(asked_at));
            self.read.insert(place.clone(), read);
        }
        if self.since(of).is_none_or(|since| since >= asked_at) {
            return;
        }
        match of {
            Doubted::Absence(path) => drop(self.absences.remove(path)),
            Doubted::Key(place) => drop(self.keys.remove(place)),
            Doubted::Mirror(path) => drop(self.mirrors.remove(path)),
        }
    }

    /// Only one pass over a mirror runs at a time, so none that began before the last complete one runs.
    fn forget_reads(&mut self, authority: &Authority) {
        let no_pass_is_older = |place: &Place, read: WallTime| {
            let mirrors = authority.settings.mirrors.iter();
            let mut covering = mirrors.filter(|one| one.path.covers(place.path.as_str()));
            covering.all(|one| {
                let state = authority.mirrors.get(&one.path.configured());
                state.is_some_and(|state| state.verified_at >= read)
            })
        };
        let read = self.read.iter();
        let forgotten = read.filter(|(place, read)| no_pass_is_older(place, **read));
        let forgotten: Vec<Place> = forgotten.map(|(place, _)| place.clone()).collect();
        for place in &forgotten {
            self.read.remove(place);
        }
    }
}

#[cfg(test)]
mod tests;
