//! Values and leases as readers see them.

use std::{ops::Bound, sync::Arc};

use imbl::OrdMap;
use shared::{
    kv::{Kept, KvKey, Place, Record},
    lease::Lease,
    name::LeaseId,
};

use super::{HeldLease, HeldRecord, SealedBody};

/// Mirrored values and leases: one persistent map each, one publication per commit.
#[derive(Clone, Default)]
pub struct Secrets {
    /// KV v2 keys by the place of their data.
    pub keys: OrdMap<Place, Arc<KvKey>>,
    /// Values by place and version.
    pub records: OrdMap<(Place, Option<u64>), Arc<HeldRecord>>,
    /// Leases by id.
    pub leases: OrdMap<LeaseId, Arc<HeldLease>>,
}

impl Secrets {
    pub(crate) fn put_key(&mut self, key: KvKey) {
        self.keys.insert(key.place.clone(), Arc::new(key));
    }

    pub(crate) fn put_lease(&mut self, lease: Lease, body: Arc<SealedBody>) {
        let id = lease.id.clone();
        self.leases.insert(id, Arc::new(HeldLease { lease, body }));
    }

    pub(crate) fn put_record(&mut self, record: Record, body: Arc<SealedBody>) {
        let of = (record.place.clone(), record.version);
        self.records
            .insert(of, Arc::new(HeldRecord { record, body }));
    }

    /// What is kept of one key.
    pub fn kept(&self, place: &Place) -> Kept {
        let range = (place.clone(), None)..=(place.clone(), Some(u64::MAX));
        let records = self.records.range(range).map(|(_, held)| &held.record);
        let records = records.map(|record| (record.version, record.verified_at, record.covered));
        Kept {
            place: place.clone(),
            key: self.keys.get(place).map(|key| KvKey::clone(key)),
            records: records.collect(),
        }
    }

    /// The leases of a place. A lease's id begins with the path of its read.
    pub fn leases_of(&self, place: &Place) -> impl Iterator<Item = &HeldLease> {
        let prefix = format!("{}/", place.path);
        let first = LeaseId::parse(&prefix).map_or(Bound::Unbounded, Bound::Included);
        self.leases
            .range((first, Bound::Unbounded))
            .take_while(move |(id, _)| id.as_str().starts_with(&prefix))
            .map(|(_, held)| held.as_ref())
            .filter(move |held| held.lease.place == *place)
    }
}
