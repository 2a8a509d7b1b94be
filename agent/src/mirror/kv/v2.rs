//! KV v2: one request that lists everything with its metadata, and reads of what changed.
//!
//! What changed is decided by comparing metadata texts, because deletion and destruction change neither the current
//! version nor the time of update.

use std::{collections::BTreeSet, sync::Arc};

use shared::{change::Change, kv::KvKey, name::RequestPath, time::WallTime};

use super::{
    KvMemory, KvPass, compare,
    metadata::{KeyListing, ListedKeys},
    read::{ReadKey, read_key, shown_version},
    shelf::{Shelf, ShelvedFor},
};
use crate::{
    mirror::{
        PassError,
        ground::Unfinished,
        held::{self, HeldKeys},
    },
    status::MirrorSource,
    upstream::Said,
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
        let whole = listing.unread.is_empty() && listing.found.misshapen.is_empty();
        if whole
            && !self.is_roomier(memory)
            && !overdue
            && memory.clean.as_ref() == Some(&fingerprint)
        {
            return Ok(Some(fingerprint));
        }
        memory.clean = None;
        let rest = self.follow_listing(memory, listing, at).await?;
        Ok((whole && rest.is_empty()).then_some(fingerprint))
    }

    async fn follow_listing(
        &self,
        memory: &mut KvMemory,
        listing: KeyListing,
        at: WallTime,
    ) -> Result<Unfinished, PassError> {
        let ground = &self.ground;
        let held = ground.held();
        let ListedKeys { keys, misshapen } = listing.found;
        let mut todo = compare::compare(keys, &held, ground.mirror.versions, at);
        todo.vanished
            .retain(|place| !misshapen.contains_key(&place.path));
        let kept = misshapen.keys().flat_map(|path| self.kept(path, &held));
        ground.commit(kept.collect()).await?;
        let unlisted: BTreeSet<_> = todo.vanished.iter().map(|place| &place.path).collect();
        let shelf = &mut memory.shelf;
        shelf.retain(|path| !unlisted.contains(path));
        if ground.occasion.is_own() {
            todo.changed
                .retain(|changed| !shelf.holds(&changed.listed, at));
        }
        let reads = ground.read_all(
            &todo.changed,
            |changed| &changed.listed.place,
            |reader, changed| read_key(reader, Arc::clone(changed)),
            |(changed, read)| self.changes_of_versions(&changed.listed, read, &held, shelf),
        );
        reads.await?;
        memory.due = todo.next_deletion.into_iter().chain(shelf.due()).min();
        let purge = listing.complete && listing.source != MirrorSource::List;
        self.note_left_out(memory);
        let is_version = |said: &Said| shown_version(said, None).map(drop);
        let rest = ground.decide_vanished(&todo.vanished, &held, purge, is_version);
        let rest = rest.await?;
        let mut unread = listing.unread;
        for (path, why) in &misshapen {
            unread.add(path, why);
        }
        ground.with_health(|health| {
            let shelf = &memory.shelf;
            health.unread = unread.and(shelf.unread()).and(rest.unread.clone());
            health.denied = shelf.denied();
            health.withheld = rest.withheld;
        });
        Ok(rest)
    }

    /// What becomes of a key whose metadata could not be read: what is held of it stays.
    fn kept(&self, path: &RequestPath, held: &HeldKeys) -> Vec<Change> {
        match held.contains_key(path) {
            true => self.ground.uncovered(held, path),
            false => {
                let place = self.ground.place(path.clone());
                let doubt = self.ground.doubt_again(&place);
                let exists = held::exists(place.clone());
                let changes = [exists].into_iter().chain(doubt).collect();
                self.ground.fitting(&place, changes)
            }
        }
    }

    fn changes_of_versions(
        &self,
        listed: &KvKey,
        read: ReadKey,
        held: &HeldKeys,
        shelf: &mut Shelf,
    ) -> Vec<Change> {
        let now = self.ground.context.now().steady;
        let changes = match read {
            ReadKey::All(changes) => {
                shelf.remove(&listed.place.path);
                changes
            }
            ReadKey::Denied(changes) => {
                shelf.put(listed, ShelvedFor::Denied, now);
                changes
            }
            ReadKey::Failed(why) => {
                shelf.put(listed, ShelvedFor::Failed(why), now);
                let path = &listed.place.path;
                match held.contains_key(path) {
                    true => self.ground.uncovered(held, path),
                    // That it exists is kept, because its absence would be answered with 404.
                    false => {
                        let doubt = self.ground.doubt_again(&listed.place);
                        let key = Change::Key(Box::new(listed.clone()));
                        [key].into_iter().chain(doubt).collect()
                    }
                }
            }
        };
        let before = self.ground.left_out();
        let changes = self.ground.fitting(&listed.place, changes);
        if self.ground.left_out() > before {
            // What nothing is kept of is not remembered either.
            shelf.remove(&listed.place.path);
        }
        changes
    }
}
