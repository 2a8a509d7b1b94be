//! Room for bytes that are in memory for somebody, and places for what goes on for somebody: what there is of it is shared, and
//! comes back when they go.

use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use shared::share::{
    Sharer, Total,
    amounts::{Amounts, Short},
};

/// What there is of room for bytes, or of places, of one kind. Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct Rooms(Arc<Mutex<Amounts>>);

/// Somebody's part of it. It is given back when this is dropped.
pub(crate) struct BodyRoom {
    rooms: Rooms,
    by: Sharer,
    total: Total,
    bytes: u64,
}

impl Rooms {
    /// A room for `by`, as yet for nothing, of `total` bytes.
    pub(crate) fn room(&self, by: impl Into<Sharer>, total: Total) -> BodyRoom {
        BodyRoom {
            rooms: self.clone(),
            by: by.into(),
            total,
            bytes: 0,
        }
    }

    /// One of `total` places for `by`; none while its share is taken.
    pub(crate) fn place(&self, by: impl Into<Sharer>, total: Total) -> Option<BodyRoom> {
        let mut place = self.room(by, total);
        place.grow_to(1).ok().map(|()| place)
    }

    /// Bytes that there is no room for others in, or places that are taken.
    pub(crate) fn taken(&self) -> u64 {
        self.0.lock().taken()
    }
}

impl BodyRoom {
    /// Makes it one for `bytes` bytes, unless it is larger already.
    ///
    /// # Errors
    /// If there is too little left, or it would be more than its owner's share.
    pub(crate) fn grow_to(&mut self, bytes: usize) -> Result<(), Short> {
        let bytes = bytes as u64;
        let more = bytes.saturating_sub(self.bytes);
        if more > 0 {
            let mut amounts = self.rooms.0.lock();
            amounts.take(&self.by, more, self.total)?;
            self.bytes = bytes;
        }
        Ok(())
    }

    /// These bytes, with their room as long as any of them is kept.
    pub(crate) fn keep(self, bytes: Bytes) -> Bytes {
        match bytes.is_empty() {
            true => bytes,
            false => Bytes::from_owner(Kept { bytes, _room: self }),
        }
    }
}

impl Drop for BodyRoom {
    fn drop(&mut self) {
        if self.bytes > 0 {
            let mut amounts = self.rooms.0.lock();
            amounts.give_back(&self.by, self.bytes);
        }
    }
}

/// Bytes that hold their room until nobody has them.
struct Kept {
    bytes: Bytes,
    _room: BodyRoom,
}

impl AsRef<[u8]> for Kept {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}
