//! What forwarded calls tell of mirrored keys: that one was written, or that an answer shows more than is kept.

use std::sync::Arc;

use shared::{
    acl::Operation,
    api::{Call, Kind},
    change::Mount,
    doubt::{self, Told, WriteLine},
    kv::{Doubt, Doubted, KvKey, Place},
    name::{Namespace, RequestPath},
    provenance::StateTold,
    settings::{MirrorPath, Settings},
    time::WallTime,
    wire::Incoming,
};

use crate::view::{Authority, Doubts, Secrets, View, fill::MOST_UNKEPT};

/// Names of a list that are looked at: what a longer one shows besides, the next pass sees.
const MOST_NAMES: usize = 1000;

/// A write that was sent on.
pub struct SentWrite<'a> {
    /// Its method and target.
    pub line: &'a WriteLine,
    /// The namespace that its header names; none for what is none, or several.
    pub namespace: Option<&'a Namespace>,
    /// Its body, if all of it is known.
    pub body: Option<&'a [u8]>,
}

/// What a write leaves to be done.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Written {
    /// What is in doubt from the given moment on.
    pub doubts: Vec<Doubt>,
    /// Whether who may do what is to be verified anew.
    pub authority: bool,
}

/// A read that the primary answered.
pub struct AnsweredRead<'a> {
    /// What was asked.
    pub call: &'a Call,
    /// What the answer says.
    pub told: StateTold<'a>,
}

/// What an answer says of one key that is not as it is kept.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Difference {
    /// The key; or what is not kept at all, where more names are shown than may be in doubt.
    pub of: Doubted,
    /// What it says.
    pub told: Told,
    /// A keyed digest of what was said and of what it was held against.
    pub evidence: [u8; 32],
}

/// What may be superseded at `now` by a write that was carried out, or may have been.
pub fn written(view: &View, write: &SentWrite<'_>, now: WallTime) -> Written {
    let known = KeptNow::of(view);
    let (cluster, settings) = (known.authority.cluster.as_deref(), known.settings());
    let touched = doubt::touched(write.line, write.namespace, write.body, cluster, settings);
    let vanished = touched.vanishes;
    let doubted = touched.doubted.into_iter();
    let doubted = doubted.filter_map(|of| known.in_doubt(of));
    Written {
        doubts: doubted
            .map(|of| Doubt {
                of,
                since: now,
                vanished,
            })
            .collect(),
        authority: touched.authority,
    }
}

/// What is kept and what is in doubt, loaded once.
struct KeptNow {
    authority: Arc<Authority>,
    secrets: Arc<Secrets>,
    doubts: Arc<Doubts>,
}

impl KeptNow {
    fn of(view: &View) -> Self {
        Self {
            doubts: view.doubts(),
            authority: Arc::clone(&view.authority()),
            secrets: view.secrets(),
        }
    }

    fn settings(&self) -> &Settings {
        &self.authority.settings
    }

    fn place(&self, mount: &Mount, path: &str) -> Option<Place> {
        Some(Place {
            namespace: self.settings().namespace.clone(),
            mount: mount.accessor.clone(),
            path: RequestPath::parse(path).ok()?,
        })
    }

    fn key(&self, place: &Place) -> Option<&KvKey> {
        self.secrets.keys.get(place).map(AsRef::as_ref)
    }

    fn is_kept(&self, place: &Place) -> bool {
        let unversioned = || self.secrets.records.contains_key(&(place.clone(), None));
        self.secrets.keys.contains_key(place) || unversioned()
    }

    /// Whether a mirror that has seen everything once covers the place, or something is kept there.
    fn is_followed(&self, place: &Place) -> bool {
        let mirror = self.settings().mirror(place.path.as_str());
        mirror.is_some_and(|mirror| {
            let state = self.authority.mirrors.get(&mirror.path.configured());
            state.is_some() || self.is_kept(place)
        })
    }

    /// Whether nothing is kept there because the replica has no room for all of the mirror: then nothing counts as absent there.
    fn is_left_out(&self, place: &Place) -> bool {
        let mirror = self.settings().mirror(place.path.as_str());
        let state = mirror.and_then(|mirror| {
            let known = &self.authority.mirrors;
            known.get(&mirror.path.configured())
        });
        state.is_some_and(|state| state.partial) && !self.is_kept(place)
    }

    /// What is touched, where values are kept of it. A lease is kept in another way, and to ask for it anew would make
    /// another.
    fn in_doubt(&self, of: Doubted) -> Option<Doubted> {
        match of {
            Doubted::Key(place) if self.keeps_values(place.path.as_str()) => self.bounded(place, 0),
            Doubted::Mirror(path) if self.keeps_values(MirrorPath::parse(&path).literal()) => {
                Some(Doubted::Mirror(path))
            }
            _ => None,
        }
    }

    fn keeps_values(&self, path: &str) -> bool {
        let cluster = self.authority.cluster.as_ref();
        let Some(mount) = cluster.and_then(|cluster| cluster.mounted(path)) else {
            return true;
        };
        let kept = || {
            self.place(mount, path)
                .is_some_and(|place| self.is_kept(&place))
        };
        mount.kind.is_kv() || kept()
    }

    /// The key itself; all that is not kept in its mirror, where too many keys are in doubt or were so since their mirror's last pass, and `more`.
    fn bounded(&self, place: Place, more: usize) -> Option<Doubted> {
        if self.is_left_out(&place) {
            return None;
        }
        let few = self.doubts.remembered() + more < MOST_UNKEPT;
        if few || self.is_kept(&place) || self.doubts.of(&place).is_some() {
            return Some(Doubted::Key(place));
        }
        let mirror = self.settings().mirror(place.path.as_str())?;
        Some(Doubted::Absence(mirror.path.configured()))
    }
}

/// What an answer of the mirrored namespace shows of mirrored keys that is not as it is kept. Nothing for what is not
/// mirrored, and before the mirror went through its first pass.
pub fn shown(view: &View, read: &AnsweredRead<'_>) -> Vec<Difference> {
    let known = KeptNow::of(view);
    let reading = ReadCompared { view, read, known };
    reading.differences().unwrap_or_default()
}

/// What is kept is compared here, and shown to nobody.
struct ReadCompared<'a> {
    view: &'a View,
    read: &'a AnsweredRead<'a>,
    known: KeptNow,
}

impl ReadCompared<'_> {
    fn differences(&self) -> Option<Vec<Difference>> {
        let (call, known) = (self.read.call, &self.known);
        if call.kind != Kind::Data || !call.operation.reads() {
            return None;
        }
        let path = call.path.as_str();
        let (at, mount) = known.authority.cluster.as_ref()?.mount_of(path)?;
        let below = path.get(at.len()..)?;
        let versioned = below.split_once('/').filter(|_| mount.is_kv2());
        let (endpoint, data) = match versioned {
            Some((endpoint, key)) => (endpoint, format!("{at}data/{key}")),
            None => ("", path.to_owned()),
        };
        if call.operation != Operation::Read {
            return Some(self.listed(mount, &data));
        }
        let place = known.place(mount, data.trim_end_matches('/'))?;
        if !known.is_followed(&place) || known.is_left_out(&place) {
            return None;
        }
        let (told, key) = (self.read.told, known.key(&place));
        let told = match endpoint {
            "data" | "subkeys" => doubt::value(told, self.version(), key),
            "metadata" => doubt::metadata(told, key),
            "" => self.kept(&place, mount.is_kv1()),
            _ => return None,
        };
        let difference = self.difference(Doubted::Key(place), told);
        Some(difference.into_iter().collect())
    }

    fn version(&self) -> Option<u64> {
        self.read.call.parameter("version")?.parse().ok()
    }

    /// Outside of KV only what is kept is held against the answer, because others may come with a lease.
    fn kept(&self, place: &Place, of_kv: bool) -> Told {
        let told = self.read.told;
        if !self.read.call.query.is_empty() {
            return Told::Nothing;
        }
        let Some(held) = self.known.secrets.records.get(&(place.clone(), None)) else {
            return match of_kv && self.known.key(place).is_none() {
                true => doubt::kept(told, None),
                false => Told::Nothing,
            };
        };
        let Ok(bytes) = held.body.open(self.view.keys()) else {
            return Told::Different;
        };
        let record = &held.record;
        doubt::kept(told, Some((record.state, &record.form, bytes.expose())))
    }

    /// Names that are not kept, though their mirror has seen everything once.
    fn listed(&self, mount: &Mount, folder: &str) -> Vec<Difference> {
        let (known, mut found) = (&self.known, Vec::<Difference>::new());
        let names = doubt::names(self.read.told).into_iter();
        let names = names.take(MOST_NAMES).filter(|name| !name.ends_with('/'));
        for place in names.filter_map(|name| known.place(mount, &format!("{folder}{name}"))) {
            if known.is_kept(&place) || !known.is_followed(&place) {
                continue;
            }
            let of = known.bounded(place, found.len());
            let of = of.filter(|of| found.iter().all(|other| other.of != *of));
            found.extend(of.and_then(|of| self.difference(of, Told::Newer { vanished: false })));
        }
        found
    }

    fn difference(&self, of: Doubted, told: Told) -> Option<Difference> {
        if !matches!(told, Told::Different | Told::Newer { .. }) {
            return None;
        }
        let evidence = self.evidence(&of);
        Some(Difference { of, told, evidence })
    }

    /// The same for the same `data`, or whole body without one, over the same state of the key.
    fn evidence(&self, of: &Doubted) -> [u8; 32] {
        let known = match of {
            Doubted::Key(place) => self.known.key(place),
            Doubted::Absence(_) | Doubted::Mirror(_) => None,
        };
        let known = known.map_or("", |key| &key.metadata);
        let said = serde_json::from_slice::<Incoming<'_>>(self.read.told.body).ok();
        let said = said.and_then(|said| said.data);
        let said = said.map_or(self.read.told.body, |data| data.get().as_bytes());
        let path = self.read.call.path.as_str().as_bytes();
        self.view.keys().likeness(&[path, known.as_bytes(), said])
    }
}

#[cfg(test)]
mod tests;
