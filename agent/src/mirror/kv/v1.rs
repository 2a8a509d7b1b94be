//! KV v1: one SCAN of names, and one read of every value, for there are no versions that would tell what changed.

use std::collections::BTreeSet;

use shared::{change::Change, kv::Place, name::RequestPath};

use super::{KvMemory, KvPass};
use crate::{
    mirror::{
        PassError,
        held::{self, HeldKeys},
        names::{Listing, is_without_scan, scanned},
        plain::{self, KeptAnswer},
        read::{Reader, is_cut_off},
        target::Keys,
    },
    status::MirrorSource,
    upstream::{Request, Said, UpstreamError},
};

/// What there is.
type ValueNames = Listing<BTreeSet<RequestPath>>;

/// What became of one value.
pub(super) enum ReadValue {
    /// It is this.
    Kept(Option<Change>),
    /// It may not be read, although Holdover's token is good.
    Denied,
    /// The primary did not say: why, in words.
    Failed(String),
    /// It is not there any more.
    Gone,
}

impl KvPass<'_> {
    /// Reads every value. An empty fingerprint, if nothing was left undone.
    pub(super) async fn read_values(
        &self,
        memory: &mut KvMemory,
    ) -> Result<Option<String>, PassError> {
        let ground = &self.ground;
        let names = self.value_names(&mut memory.scan_refused).await?;
        let held = ground.held();
        let (mut denied, mut unread) = (0, names.unread);
        let mut present = names.found.clone();
        let wanted: Vec<_> = names
            .found
            .into_iter()
            .map(|path| ground.place(path))
            .collect();
        let reads = ground.read_all(
            &wanted,
            |place| place,
            |reader, place| read_value(reader, place.clone()),
            |(place, read)| {
                match &read {
                    ReadValue::Denied => denied += 1,
                    ReadValue::Failed(why) => unread.add(&place.path, why),
                    // It vanishes as one that is not listed does, because many at once may be a mistake.
                    ReadValue::Gone => {
                        present.remove(&place.path);
                    }
                    ReadValue::Kept(_) => {}
                }
                self.changes_of_value(place, read, &held)
            },
        );
        reads.await?;
        self.note_left_out(memory);
        let vanished = held.values().map(|held| &held.key.place);
        let vanished = vanished.filter(|place| !present.contains(&place.path));
        let vanished: Vec<Place> = vanished.cloned().collect();
        let purge = names.complete && names.source != MirrorSource::Folders;
        let rest = ground.decide_vanished(&vanished, &held, purge, |said| value_of(said).map(drop));
        let rest = rest.await?;
        let whole = unread.is_empty() && rest.is_empty();
        ground.with_health(|health| {
            health.source = Some(names.source);
            health.unreadable = names.unreadable;
            health.denied = denied;
            health.unread = unread.and(rest.unread);
            health.withheld = rest.withheld;
        });
        Ok(whole.then(String::new))
    }

    async fn value_names(&self, refused: &mut u32) -> Result<ValueNames, PassError> {
        match &self.target.keys {
            Keys::One(key) => Ok(self.names(MirrorSource::Read, true, [key.clone()])),
            Keys::Below { folder, prefix } => {
                let scan = self.scan_names(folder);
                let walk = self.walk_names(folder, prefix);
                self.ground.scan_or_walk(refused, scan, walk).await
            }
        }
    }

    async fn scan_names(&self, folder: &str) -> Result<Option<ValueNames>, PassError> {
        let request = Request::scan(self.target.data(folder));
        let listed = match self.ground.reader().ask(&request).await?.shown() {
            Err(error) if is_without_scan(&error) => return Ok(None),
            list => scanned(&list?)?,
        };
        let names = listed.iter().map(|name| format!("{folder}{name}"));
        Ok(Some(self.names(MirrorSource::Scan, true, names)))
    }

    async fn walk_names(&self, folder: &str, prefix: &str) -> Result<ValueNames, PassError> {
        let at = |folder: &str| self.target.data(folder);
        let walked = self.ground.walk(folder, prefix, at, at).await?;
        let mut listing = self.names(MirrorSource::Folders, !walked.partial, walked.names);
        listing.unread = walked.unread;
        Ok(listing)
    }

    fn names(
        &self,
        source: MirrorSource,
        complete: bool,
        names: impl IntoIterator<Item = String>,
    ) -> ValueNames {
        let mut listing = ValueNames::new(source, complete);
        for path in names.into_iter().map(|name| self.target.data(&name)) {
            if !self.ground.is_wanted(&path) {
                continue;
            }
            match RequestPath::parse(&path) {
                Ok(path) => {
                    listing.found.insert(path);
                }
                Err(_) => listing.unreadable += 1,
            }
        }
        listing
    }

    /// What a read changes. That a key exists is kept even where its value cannot be: it is not absent.
    pub(super) fn changes_of_value(
        &self,
        place: Place,
        read: ReadValue,
        held: &HeldKeys,
    ) -> Vec<Change> {
        let (mut changes, at) = (Vec::new(), place.clone());
        if !held.contains_key(&place.path) && !matches!(read, ReadValue::Gone) {
            changes.push(held::exists(place.clone()));
        }
        match read {
            ReadValue::Kept(change) => changes.extend(change),
            ReadValue::Denied => changes.push(Change::RecordGone(place, None)),
            ReadValue::Failed(_) => changes.extend(self.ground.uncovered(held, &place.path)),
            ReadValue::Gone => {}
        }
        self.ground.fitting(&at, changes)
    }
}

/// A value that is there.
///
/// # Errors
/// If that is not what a value of KV v1 is shown as.
fn value_of(said: &Said) -> Result<KeptAnswer, UpstreamError> {
    match said {
        Said::Shown(shown) => plain::of_envelope(shown),
        other => Err(other.unfit()),
    }
}

/// Reads one value.
///
/// # Errors
/// If the primary went away.
pub(super) async fn read_value(
    reader: Reader,
    place: Place,
) -> Result<(Place, ReadValue), UpstreamError> {
    let at = reader.context.now().steady;
    let read = async {
        let request = Request::read(place.path.as_str());
        Ok(match reader.ask(&request).await?.said()? {
            Said::Missing(_) => ReadValue::Gone,
            Said::No(no) if no.is_denial() && reader.prove_own_token().await? => ReadValue::Denied,
            said => {
                let value = value_of(&said)?;
                ReadValue::Kept(plain::change(&reader.context, &place, value, at))
            }
        })
    };
    let read = match read.await {
        Err(error) if !is_cut_off(&error) => {
            tracing::warn!(%error, path = %place.path, "a value could not be read");
            ReadValue::Failed(error.to_string())
        }
        read => read?,
    };
    Ok((place, read))
}
