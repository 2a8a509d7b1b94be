//! Room for mirrored values: so much in all, of which each mirror has a part that no other can take. What does not fit is not
//! mirrored; what is kept already stays kept and current.

use std::collections::BTreeMap;

use parking_lot::Mutex;
use replica::view::Secrets;
use shared::{
    change::Change,
    kv::{KvKey, Place},
    settings::{Mirror, Settings},
    share::commons::{Amount, Commons, Growth},
};

use crate::status::fill::Fill;

/// What all mirrors have in common, and once more in parts of their own. An entry is a key or a version of a value, and takes about
/// 1 KiB beside its bytes; so mirrored values take 1.5 GiB of memory at the most, and as much of the disk. One mirror alone can
/// have 256 thousand keys of 2 KiB each.
pub(super) const COMMON: Amount = Amount {
    entries: 512 * 1024,
    bytes: 512 << 20,
};

/// What sealing adds to a value, in bytes: its nonce and its tag. So what is counted as it comes is what is counted once it is kept.
const SEALING: usize = 28;

/// What of it each mirror takes, by its configured path.
pub(super) struct MirrorRoom(Mutex<Commons>);

impl MirrorRoom {
    /// As much as `common` twice, with what the replica holds of the mirrors in it.
    pub(super) fn with(common: Amount, settings: &Settings, secrets: &Secrets) -> Self {
        let room = Self(Mutex::new(Commons::new(common, settings.mirrors.len())));
        for mirror in &settings.mirrors {
            room.count(mirror, secrets);
        }
        room
    }

    /// Counts what the replica holds of a mirror.
    pub(super) fn count(&self, mirror: &Mirror, secrets: &Secrets) {
        let covers = |place: &Place| mirror.path.covers(place.path.as_str());
        let keys = secrets.keys.iter().filter(|(place, _)| covers(place));
        let keys = keys.map(|(_, key)| of_key(key));
        let records = secrets.records.iter();
        let records = records.filter(|((place, _), _)| covers(place));
        let records = records.map(|((place, _), held)| of_value(place, held.body.size()));
        let used = keys.chain(records).sum();
        self.0.lock().set(&mirror.path.configured(), used);
    }

    /// Whether there is room for `changes` of what is held at `place`; from then on they count.
    pub(super) fn keep(
        &self,
        mirror: &Mirror,
        place: &Place,
        secrets: &Secrets,
        changes: &[Change],
    ) -> bool {
        let mut held = HeldAmounts::at(place, secrets);
        let (from, growth) = (held.sum(), held.growth());
        changes.iter().for_each(|change| held.change(place, change));
        let of = mirror.path.configured();
        self.0.lock().keep(&of, from, held.sum(), growth)
    }

    /// Whether there is any for what the mirror does not hold yet.
    pub(super) fn is_left(&self, mirror: &Mirror) -> bool {
        self.0.lock().has_room(&mirror.path.configured())
    }

    /// What all mirrors take.
    pub(super) fn taken(&self) -> Amount {
        self.0.lock().all()
    }

    /// How full it is.
    pub(super) fn fills(&self) -> [Fill; 2] {
        let room = self.0.lock();
        let (has, most) = (room.all(), room.most());
        [
            Fill::count("values_mirrored", has.entries, most.entries),
            Fill::bytes("values_mirrored", has.bytes, most.bytes),
        ]
    }
}

/// What one place takes: its key, and each version that is kept.
struct HeldAmounts {
    key: Option<Amount>,
    versions: BTreeMap<Option<u64>, Amount>,
}

impl HeldAmounts {
    fn at(place: &Place, secrets: &Secrets) -> Self {
        let range = (place.clone(), None)..=(place.clone(), Some(u64::MAX));
        let versions = secrets.records.range(range);
        let versions =
            versions.map(|((_, version), held)| (*version, of_value(place, held.body.size())));
        Self {
            key: secrets.keys.get(place).map(|key| of_key(key)),
            versions: versions.collect(),
        }
    }

    fn sum(&self) -> Amount {
        self.key
            .into_iter()
            .chain(self.versions.values().copied())
            .sum()
    }

    fn growth(&self) -> Growth {
        match self.key.is_some() || !self.versions.is_empty() {
            true => Growth::Kept,
            false => Growth::New,
        }
    }

    fn change(&mut self, at: &Place, change: &Change) {
        match change {
            Change::Key(key) if key.place == *at => self.key = Some(of_key(key)),
            Change::KeyGone(place) if place == at => {
                self.key = None;
                self.versions.clear();
            }
            Change::Record(record, Some(body)) if record.place == *at => {
                let amount = of_value(at, body.expose().len() + SEALING);
                self.versions.insert(record.version, amount);
            }
            Change::RecordGone(place, version) if place == at => {
                self.versions.remove(version);
            }
            _ => {}
        }
    }
}

fn of_key(key: &KvKey) -> Amount {
    let versions = key.versions.len() * size_of::<(u64, String, bool)>();
    of_value(&key.place, key.metadata.len() + versions)
}

fn of_value(place: &Place, bytes: usize) -> Amount {
    Amount {
        entries: 1,
        bytes: (place.path.as_str().len() + bytes) as u64,
    }
}
