//! The part of a stage that is about what is mirrored: keys, values, leases, and the mirrors that brought them.

use std::sync::Arc;

use imbl::OrdMap;
use shared::{
    change::Pooled,
    kv::{KvKey, MirrorState, Place, Record},
    lease::{Assignee, Lease, LeaseHolder},
    name::LeaseId,
    secret::SecretBytes,
    settings::MirrorPath,
    time::Now,
};

use super::Stage;
use crate::{
    seal::{Sealed, Sealer, SealingError},
    table::At,
    view::{HeldLease, HeldRecord},
};

impl Stage<'_> {
    pub(super) fn mirror(
        &mut self,
        mirror: MirrorState,
        sealer: &mut Sealer<'_>,
    ) -> Result<(), SealingError> {
        let at = At::mirror(&self.view.keys, &mirror.path);
        self.put(at, &mirror, sealer)?;
        let path = mirror.path.clone();
        let mirrors = &mut self.next_authority().mirrors;
        mirrors.insert(path, Arc::new(mirror));
        Ok(())
    }

    pub(super) fn key(&mut self, key: KvKey, sealer: &mut Sealer<'_>) -> Result<(), SealingError> {
        if self.secrets().keys.get(&key.place).map(|known| &**known) == Some(&key) {
            return Ok(());
        }
        self.put(At::key(&self.view.keys, &key.place), &key, sealer)?;
        self.next_secrets()
            .keys
            .insert(key.place.clone(), Arc::new(key));
        Ok(())
    }

    pub(super) fn key_gone(&mut self, place: &Place) {
        self.delete(At::key(&self.view.keys, place));
        self.next_secrets().keys.remove(place);
        let range = (place.clone(), None)..=(place.clone(), Some(u64::MAX));
        let versions: Vec<_> = self
            .secrets()
            .records
            .range(range)
            .map(|((_, version), _)| *version)
            .collect();
        for version in versions {
            self.record_gone(place, version);
        }
    }

    pub(super) fn record(
        &mut self,
        record: Record,
        body: Option<SecretBytes>,
        sealer: &mut Sealer<'_>,
    ) -> Result<(), SealingError> {
        let at = At::record(&self.view.keys, &record.place, record.version);
        let of = (record.place.clone(), record.version);
        let body = match body {
            Some(body) => self.put_body(at, body.expose(), sealer)?,
            None => match self.secrets().records.get(&of) {
                Some(held) => held.body.clone(),
                // It went meanwhile: there is nothing that this could be about.
                None => return Ok(()),
            },
        };
        self.put_with_body(at, &record, &body, sealer)?;
        let row = at.key.to_vec();
        let held = HeldRecord { record, body, row };
        self.next_secrets().records.insert(of, Arc::new(held));
        Ok(())
    }

    pub(super) fn record_gone(&mut self, place: &Place, version: Option<u64>) {
        self.delete_with_body(At::record(&self.view.keys, place, version));
        let of = (place.clone(), version);
        self.next_secrets().records.remove(&of);
    }

    pub(super) fn lease(
        &mut self,
        lease: Lease,
        body: Option<SecretBytes>,
        sealer: &mut Sealer<'_>,
    ) -> Result<(), SealingError> {
        let at = At::lease(&self.view.keys, &lease.id);
        let (lease, body) = match body {
            Some(body) => (lease, self.put_body(at, body.expose(), sealer)?),
            None => match self.secrets().leases.get(&lease.id) {
                Some(held) => {
                    // Whoever renewed it asked before it was taken, or given up.
                    let lease = Lease {
                        holder: held.lease.holder.clone(),
                        detached: held.lease.detached.clone(),
                        ..lease
                    };
                    (lease, held.body.clone())
                }
                None => return Ok(()),
            },
        };
        self.put_lease(at, lease, body, sealer)
    }

    fn put_lease(
        &mut self,
        at: At,
        lease: Lease,
        body: Sealed,
        sealer: &mut Sealer<'_>,
    ) -> Result<(), SealingError> {
        self.put_with_body(at, &lease, &body, sealer)?;
        let id = lease.id.clone();
        let row = at.key.to_vec();
        let held = HeldLease { lease, body, row };
        self.next_secrets().leases.insert(id, Arc::new(held));
        Ok(())
    }

    pub(super) fn lease_taken(
        &mut self,
        id: &LeaseId,
        to: Assignee,
        sealer: &mut Sealer<'_>,
    ) -> Result<(), SealingError> {
        self.change_lease(id, sealer, |lease| lease.holder = LeaseHolder::Assigned(to))
    }

    pub(super) fn lease_detached(
        &mut self,
        id: &LeaseId,
        who: Assignee,
        sealer: &mut Sealer<'_>,
    ) -> Result<(), SealingError> {
        self.change_lease(id, sealer, |lease| {
            if !lease.detached.contains(&who) {
                lease.detached.push(who);
            }
        })
    }

    fn change_lease(
        &mut self,
        id: &LeaseId,
        sealer: &mut Sealer<'_>,
        change: impl FnOnce(&mut Lease),
    ) -> Result<(), SealingError> {
        let Some(held) = self.secrets().leases.get(id).cloned() else {
            return Ok(());
        };
        let mut lease = held.lease.clone();
        change(&mut lease);
        let at = At::lease(&self.view.keys, id);
        self.put_lease(at, lease, held.body.clone(), sealer)
    }

    /// Whether a lease is still in its pool, and whom it is for has no other of its path that lives `now`.
    pub(in crate::sequencer) fn is_pooled(&self, pooled: &Pooled, now: Now) -> bool {
        let published;
        let secrets = match &self.secrets {
            Some(staged) => staged,
            None => {
                published = self.view.secrets();
                published.as_ref()
            }
        };
        let Some(held) = secrets.leases.get(&pooled.lease) else {
            return false;
        };
        let has_another = |to: &Assignee| {
            secrets
                .leases_of(&held.lease.place)
                .any(|other| other.lease.is_assigned_to(to) && !other.lease.deadline.passed(now))
        };
        held.lease.holder == LeaseHolder::Pooled && !pooled.to.as_ref().is_some_and(has_another)
    }

    pub(super) fn lease_gone(&mut self, id: &LeaseId) {
        self.delete_with_body(At::lease(&self.view.keys, id));
        self.next_secrets().leases.remove(id);
    }

    /// Its values go with it, but for what another configured mirror of the same mount still covers.
    pub(super) fn mirror_gone(&mut self, path: &str) {
        self.delete(At::mirror(&self.view.keys, path));
        let state = self.next_authority().mirrors.remove(path);
        let settings = Arc::clone(&self.view.authority().settings);
        let covered = MirrorPath::parse(path);
        let goes = |place: &Place| {
            let others = &settings.mirrors;
            covered.covers(place.path.as_str())
                && state.as_ref().is_none_or(|gone| gone.mount == place.mount)
                && !others
                    .iter()
                    .any(|other| other.path != covered && other.path.covers(place.path.as_str()))
        };
        let keys: Vec<_> = select(&self.secrets().keys, goes);
        let records: Vec<_> = select(&self.secrets().records, |(place, _)| goes(place));
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
