//! KV v2: one request that lists everything with its metadata, and reads of what changed.
//!
//! What changed is decided by comparing metadata texts, because deletion and destruction change neither the current
//! version nor the time of update.

use std::{collections::BTreeSet, sync::Arc};

use shared::{change::Change, kv::KvKey, time::WallTime};

use super::{
    KvMemory, KvPass, compare,
    metadata::KeyListing,
    read::{ReadKey, read_key},
    shelf::{Shelf, ShelvedFor},
};
use crate::{
    mirror::{
        Occasion, PassError,
        ground::Unfinished,
        held::{self, HeldKeys},
    },
    status::MirrorSource,
};

impl KvPass<'_> {
    /// Brings the replica to what the listing shows. The fingerprint of that, if nothing was left undone.
    pub(super) async fn read_changes(
        &self,
        memory: &mut KvMemory,
        at: WallTime,
    ) -> Result<Option<String>, PassError> {
        let listing = self.key_listing(&mut memory.scan_refused).await?;
        self.ground.with_health(|health| {
            health.source = Some(listing.source);
            health.unreadable = listing.unreadable;
        });
        let fingerprint = listing.fingerprint();
        let overdue = memory.due.is_some_and(|due| due <= at);
        if !overdue && memory.clean.as_ref() == Some(&fingerprint) {
            return Ok(Some(fingerprint));
        }
        memory.clean = None;
        let rest = self.follow_listing(memory, listing, at).await?;
        Ok(rest.is_empty().then_some(fingerprint))
    }

    async fn follow_listing(
        &self,
        memory: &mut KvMemory,
        listing: KeyListing,
        at: WallTime,
    ) -> Result<Unfinished, PassError> {
        let ground = &self.ground;
        let held = ground.held();
        let mut todo = compare::compare(listing.found, &held, ground.mirror.versions, at);
        let unlisted: BTreeSet<_> = todo.vanished.iter().map(|place| &place.path).collect();
        let shelf = &mut memory.shelf;
        shelf.retain(|path| !unlisted.contains(path));
        if ground.occasion == Occasion::Cycle {
            todo.changed
                .retain(|changed| !shelf.holds(&changed.listed, at));
        }
        let reads = ground.read_all(
            &todo.changed,
            |reader, changed| read_key(reader, Arc::clone(changed)),
            |(changed, read)| self.changes(&changed.listed, read, &held, shelf),
        );
        reads.await?;
        memory.due = todo.next_deletion.into_iter().chain(shelf.due()).min();
        let purge = listing.complete && listing.source != MirrorSource::List;
        let rest = ground.decide_vanished(&todo.vanished, &held, purge).await?;
        ground.with_health(|health| {
            health.failed = shelf.count(ShelvedFor::Failed) + rest.unasked;
            health.denied = shelf.count(ShelvedFor::Denied);
            health.withheld = rest.withheld;
        });
        Ok(rest)
    }

    fn changes(
        &self,
        listed: &KvKey,
        read: ReadKey,
        held: &HeldKeys,
        shelf: &mut Shelf,
    ) -> Vec<Change> {
        let now = self.ground.context.now().steady;
        match read {
            ReadKey::All(changes) => {
                shelf.remove(&listed.place.path);
                changes
            }
            ReadKey::Denied(changes) => {
                shelf.put(listed, ShelvedFor::Denied, now);
                changes
            }
            ReadKey::Failed => {
                shelf.put(listed, ShelvedFor::Failed, now);
                match held.get(&listed.place.path) {
                    Some(held) => held::uncovered(Some(held)),
                    // That it exists is kept, because its absence would be answered with 404.
                    None => vec![Change::Key(Box::new(listed.clone()))],
                }
            }
        }
    }
}
