//! Adding what is mirrored to a stage: keys, values, leases, and the mirrors that brought them.

use std::sync::Arc;

use imbl::OrdMap;
use shared::{
    kv::{KvKey, MirrorState, Place, Record},
    lease::{Assignee, Lease, LeaseHolder},
    name::LeaseId,
    secret::SecretBytes,
    settings::MirrorPath,
};

use super::add::{Added, Adder};
use crate::{table::At, view::Known};

impl Adder<'_, '_> {
    pub(super) fn key(&mut self, key: KvKey) -> Added {
        let known = self.stage.secrets().keys.get(&key.place);
        if known.is_some_and(|known| **known == key) {
            return Ok(());
        }
        self.put(At::key(self.keys, &key.place), &key)?;
        self.stage.secrets().put_key(key);
        Ok(())
    }

    pub(super) fn key_gone(&mut self, place: &Place) {
        self.delete(At::key(self.keys, place));
        let secrets = self.stage.secrets();
        secrets.keys.remove(place);
        let range = (place.clone(), None)..=(place.clone(), Some(u64::MAX));
        let kept = secrets.records.range(range);
        let versions: Vec<_> = kept.map(|((_, version), _)| *version).collect();
        for version in versions {
            self.record_gone(place, version);
        }
    }

    pub(super) fn record(&mut self, record: Record, body: Option<SecretBytes>) -> Added {
        let at = At::record(self.keys, &record.place, record.version);
        let body = match body {
            Some(body) => Arc::new(self.put_body(at, body.expose())?),
            None => {
                let of = (record.place.clone(), record.version);
                match self.stage.secrets().records.get(&of) {
                    Some(held) => Arc::clone(&held.body),
                    // It went meanwhile: there is nothing that this could be about.
                    None => return Ok(()),
                }
            }
        };
        self.put_with_body(at, &record, &body)?;
        self.stage.secrets().put_record(record, body);
        Ok(())
    }

    pub(super) fn record_gone(&mut self, place: &Place, version: Option<u64>) {
        self.delete_with_body(At::record(self.keys, place, version));
        let of = (place.clone(), version);
        self.stage.secrets().records.remove(&of);
    }

    pub(super) fn lease(&mut self, lease: Lease, body: Option<SecretBytes>) -> Added {
        let Some(body) = body else {
            return self.change_lease(&lease.id.clone(), |known| {
                // Whoever renewed it asked before it was taken, or given up.
                *known = Lease {
                    holder: known.holder.clone(),
                    detached: std::mem::take(&mut known.detached),
                    ..lease
                }
            });
        };
        let at = At::lease(self.keys, &lease.id);
        let body = self.put_body(at, body.expose())?;
        self.put_with_body(at, &lease, &body)?;
        self.stage.secrets().put_lease(lease, Arc::new(body));
        Ok(())
    }

    pub(super) fn lease_taken(&mut self, id: &LeaseId, to: Assignee) -> Added {
        self.change_lease(id, |lease| lease.holder = LeaseHolder::Assigned(to))
    }

    pub(super) fn lease_detached(&mut self, id: &LeaseId, who: Assignee) -> Added {
        self.change_lease(id, |lease| {
            if !lease.detached.contains(&who) {
                lease.detached.push(who);
            }
        })
    }

    fn change_lease(&mut self, id: &LeaseId, change: impl FnOnce(&mut Lease)) -> Added {
        let Some(held) = self.stage.secrets().leases.get(id).cloned() else {
            return Ok(());
        };
        let mut lease = held.lease.clone();
        change(&mut lease);
        self.put_with_body(At::lease(self.keys, id), &lease, &held.body)?;
        let body = Arc::clone(&held.body);
        self.stage.secrets().put_lease(lease, body);
        Ok(())
    }

    pub(super) fn lease_gone(&mut self, id: &LeaseId) {
        self.delete_with_body(At::lease(self.keys, id));
        self.stage.secrets().leases.remove(id);
    }

    /// The mirror went through a complete pass: what was doubted before it, and could be read in it, is so no longer.
    pub(super) fn mirror(&mut self, state: MirrorState) -> Added {
        self.pass_ended(&state);
        self.know(self.within().mirror(&state.path), state, Known::put_mirror)
    }

    /// Its values go with it, but for what another configured mirror of the same mount still covers.
    pub(super) fn mirror_gone(&mut self, path: &str) {
        self.delete(self.within().mirror(path));
        let state = self.stage.known().mirrors.remove(path);
        let settings = Arc::clone(&self.stage.view.authority().settings);
        let covered = MirrorPath::parse(path);
        let goes = |place: &Place| {
            let others = &settings.mirrors;
            covered.covers(place.path.as_str())
                && state.as_ref().is_none_or(|gone| gone.mount == place.mount)
                && !others
                    .iter()
                    .any(|other| other.path != covered && other.path.covers(place.path.as_str()))
        };
        self.doubts_gone(path, goes);
        let secrets = self.stage.secrets();
        let keys = select(&secrets.keys, goes);
        let records = select(&secrets.records, |(place, _)| goes(place));
        for place in &keys {
            self.key_gone(place);
        }
        for (place, version) in &records {
            self.record_gone(place, *version);
        }
    }
}

fn select<K: Ord + Clone, V: Clone>(map: &OrdMap<K, V>, wanted: impl Fn(&K) -> bool) -> Vec<K> {
    map.keys().filter(|key| wanted(key)).cloned().collect()
}
