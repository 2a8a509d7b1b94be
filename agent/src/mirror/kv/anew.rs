//! One key, read outside of every pass because what is kept of it may be superseded.
//!
//! A pass may go over the same mirror meanwhile. What that reads of the key is not undone: then this is not applied, and
//! read once more.

use replica::sequencer::{Lane, SubmitError};
use shared::{
    change::{Change, Expects},
    kv::{Doubted, Kept, Place},
};

use super::{
    KvPass, compare,
    metadata::{KeyListing, ListedKeys},
    read::{ReadKey, read_key, shown_version},
    v1::{self, ReadValue},
};
use crate::{
    mirror::{PassError, target::KvEngine},
    status::MirrorSource,
    upstream::Said,
};

/// How often a key is read again because a pass came in between.
const TRIES: usize = 3;

impl KvPass<'_> {
    /// Reads one key; what was doubted of it before this began is so no longer.
    pub(in crate::mirror) async fn read_anew(&self, place: &Place) -> Result<(), PassError> {
        let ground = &self.ground;
        for _ in 0..TRIES {
            ground.go_on()?;
            let kept = ground.context.local.view.secrets().kept(place);
            let mut changes = match self.target.version {
                _ if !ground.is_tried(place) => ground.leave_out(place),
                KvEngine::One => self.value_anew(&kept).await?,
                KvEngine::Two => self.key_anew(&kept).await?,
            };
            let answered = Change::DoubtAnswered(Doubted::Key(place.clone()), ground.at);
            changes.push(answered);
            let expects = Expects {
                asked_at: Some(ground.at),
                kept: Some(Box::new(kept)),
                ..Expects::default()
            };
            let context = ground.context;
            match context
                .commit_expecting(Lane::Mirror, changes, expects)
                .await
            {
                Err(PassError::Store(SubmitError::Conflict)) => {}
                stored => return stored,
            }
        }
        Err(PassError::Unread(place.path.clone()))
    }

    /// Its metadata, and the versions that this says are others than those kept.
    async fn key_anew(&self, kept: &Kept) -> Result<Vec<Change>, PassError> {
        let (ground, place) = (&self.ground, &kept.place);
        let unread = || PassError::Unread(place.path.clone());
        let data = self.target.data("");
        let name = place.path.as_str().strip_prefix(&data).ok_or_else(unread)?;
        let mut listing = KeyListing::new(MirrorSource::Metadata, true);
        self.add_metadata(name, &mut listing).await?;
        let ListedKeys { keys, misshapen } = listing.found;
        if !misshapen.is_empty() {
            return Err(unread());
        }
        let held = ground.held_at(kept);
        let todo = compare::compare(keys, &held, ground.mirror.versions, ground.at);
        let mut changes = Vec::new();
        for changed in todo.changed {
            match read_key(ground.reader(), changed).await? {
                (_, ReadKey::All(read) | ReadKey::Denied(read)) => changes.extend(read),
                (_, ReadKey::Failed(_)) => return Err(unread()),
            }
        }
        for vanished in todo.vanished {
            let is_version = |said: &Said| shown_version(said, None).map(drop);
            if !ground.reader().is_gone(&vanished.path, is_version).await? {
                return Err(unread());
            }
            changes.push(Change::KeyGone(vanished));
        }
        Ok(ground.fitting(place, changes))
    }

    async fn value_anew(&self, kept: &Kept) -> Result<Vec<Change>, PassError> {
        let place = &kept.place;
        let held = self.ground.held_at(kept);
        match v1::read_value(self.ground.reader(), place.clone()).await?.1 {
            ReadValue::Failed(_) => Err(PassError::Unread(place.path.clone())),
            ReadValue::Gone => Ok(held
                .keys()
                .map(|_| Change::KeyGone(place.clone()))
                .collect()),
            read => Ok(self.changes_of_value(place.clone(), read, &held)),
        }
    }
}
