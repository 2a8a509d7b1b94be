//! KV v1: one SCAN of names, and one read of every value, for there are no versions that would tell what changed.

use std::collections::{BTreeMap, BTreeSet};

use shared::{
    change::Change,
    kv::{KvKey, Place, VersionState},
    name::RequestPath,
};

use super::{KvMemory, KvPass};
use crate::{
    mirror::{
        PassError,
        held::{self, HeldKeys},
        names::{Listing, NameList, is_without_scan},
        plain::{self, PlainAnswer},
        read::{Reader, is_cut_off},
        target::Keys,
    },
    status::MirrorSource,
    upstream::{Request, UpstreamError},
};

/// What there is.
type ValueNames = Listing<BTreeSet<RequestPath>>;

/// What became of one value.
enum ReadValue {
    /// It is this.
    Kept(Option<Change>),
    /// It may not be read, although Holdover's token is good.
    Denied,
    /// The primary did not say.
    Failed,
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
        let (mut denied, mut failed) = (0, 0);
        let mut present = names.found.clone();
        let wanted: Vec<_> = names
            .found
            .into_iter()
            .map(|path| ground.place(path))
            .collect();
        let reads = ground.read_all(
            &wanted,
            |reader, place| read_value(reader, place.clone()),
            |(place, read)| {
                match read {
                    ReadValue::Denied => denied += 1,
                    ReadValue::Failed => failed += 1,
                    // It vanishes as one that is not listed does, because many at once may be a mistake.
                    ReadValue::Gone => {
                        present.remove(&place.path);
                    }
                    ReadValue::Kept(_) => {}
                }
                changes(place, read, &held)
            },
        );
        reads.await?;
        let vanished = held.values().map(|held| &held.key.place);
        let vanished = vanished.filter(|place| !present.contains(&place.path));
        let vanished: Vec<Place> = vanished.cloned().collect();
        let purge = names.complete && names.source != MirrorSource::Folders;
        let rest = ground.decide_vanished(&vanished, &held, purge).await?;
        ground.with_health(|health| {
            health.source = Some(names.source);
            health.unreadable = names.unreadable;
            health.denied = denied;
            health.failed = failed + rest.unasked;
            health.withheld = rest.withheld;
        });
        Ok((failed == 0 && rest.is_empty()).then(String::new))
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
        let listed: NameList = match self.ground.reader().ask(&request).await?.success() {
            Err(error) if is_without_scan(&error) => return Ok(None),
            reply => reply?.data()?,
        };
        let names = listed.keys.iter().map(|name| format!("{folder}{name}"));
        Ok(Some(self.names(MirrorSource::Scan, true, names)))
    }

    async fn walk_names(&self, folder: &str, prefix: &str) -> Result<ValueNames, PassError> {
        let at = |folder: &str| self.target.data(folder);
        let walked = self.ground.walk(folder, prefix, at, at).await?;
        Ok(self.names(MirrorSource::Folders, !walked.partial, walked.names))
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
}

/// What a read changes. That a key exists is kept even where its value cannot be: it is not absent.
fn changes(place: Place, read: ReadValue, held: &HeldKeys) -> Vec<Change> {
    let held = held.get(&place.path);
    let mut changes = Vec::new();
    if held.is_none() && !matches!(read, ReadValue::Gone) {
        changes.push(Change::Key(Box::new(KvKey {
            place: place.clone(),
            current: 0,
            versions: BTreeMap::new(),
            metadata: String::new(),
        })));
    }
    match read {
        ReadValue::Kept(change) => changes.extend(change),
        ReadValue::Denied => changes.push(Change::RecordGone(place, None)),
        ReadValue::Failed => changes.extend(held::uncovered(held)),
        ReadValue::Gone => {}
    }
    changes
}

/// Reads one value.
///
/// # Errors
/// If the primary went away.
async fn read_value(reader: Reader, place: Place) -> Result<(Place, ReadValue), UpstreamError> {
    let at = reader.context.now().steady;
    let read = async {
        let reply = reader.ask(&Request::read(place.path.as_str())).await?;
        if reply.status() == 403 && reader.prove_own_token().await? {
            return Ok(ReadValue::Denied);
        }
        Ok(match plain::of(reply)? {
            PlainAnswer::Kept(VersionState::Gone, ..) => ReadValue::Gone,
            PlainAnswer::Kept(state, form, body) => ReadValue::Kept(plain::change(
                &reader.context,
                &place,
                (state, form, body),
                at,
            )),
            PlainAnswer::Leased(_) => ReadValue::Failed,
        })
    };
    let read = match read.await {
        Err(error) if !is_cut_off(&error) => {
            tracing::warn!(%error, path = %place.path, "a value could not be read");
            ReadValue::Failed
        }
        read => read?,
    };
    Ok((place, read))
}
