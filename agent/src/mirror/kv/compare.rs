//! What a listing changes about what is held. Pure.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use shared::{
    kv::{KvKey, KvVersion, Place, VersionState},
    name::RequestPath,
    time::WallTime,
};

use crate::mirror::held::{HeldKey, HeldKeys};

/// A key to be read anew.
#[derive(Debug)]
pub(super) struct ChangedKey {
    /// As it is listed.
    pub(super) listed: KvKey,
    /// Versions to read.
    pub(super) wanted: Vec<u64>,
    /// Versions held that are not kept any longer.
    pub(super) dropped: Vec<Option<u64>>,
}

/// What there is to do.
#[derive(Debug, Default)]
pub(super) struct Todo {
    pub(super) changed: Vec<Arc<ChangedKey>>,
    /// Held and not listed.
    pub(super) vanished: Vec<Place>,
    /// When the first of the kept versions passes its deletion time, if any does.
    pub(super) next_deletion: Option<WallTime>,
}

/// Compares what is listed with what is held, keeping `depth` versions of each key.
pub(super) fn compare(
    listed: BTreeMap<RequestPath, KvKey>,
    held: &HeldKeys,
    depth: u32,
    now: WallTime,
) -> Todo {
    let mut todo = Todo::default();
    let gone = held.iter().filter(|(path, _)| !listed.contains_key(*path));
    todo.vanished = gone.map(|(_, held)| held.key.place.clone()).collect();
    for (path, listed) in listed {
        let kept = kept(&listed, depth);
        let deletions = kept
            .iter()
            .filter_map(|version| listed.versions.get(version));
        let ahead = deletions.filter_map(deletion).filter(|at| *at > now);
        todo.next_deletion = ahead.chain(todo.next_deletion).min();
        let held = held.get(&path);
        if !is_current(&listed, &kept, held, now) {
            let dropped = held.map(|held| dropped(held, &kept)).unwrap_or_default();
            todo.changed.push(Arc::new(ChangedKey {
                wanted: kept.into_iter().rev().collect(),
                dropped,
                listed,
            }));
        }
    }
    todo
}

/// The newest `depth` versions that exist.
fn kept(listed: &KvKey, depth: u32) -> BTreeSet<u64> {
    let depth = usize::try_from(depth.max(1)).unwrap_or(usize::MAX);
    listed.versions.keys().rev().take(depth).copied().collect()
}

fn is_current(listed: &KvKey, kept: &BTreeSet<u64>, held: Option<&HeldKey>, now: WallTime) -> bool {
    let Some(held) = held else {
        return false;
    };
    let state = |version: u64| {
        held.records
            .iter()
            .find(|record| record.version == Some(version))
    };
    held.key.metadata == listed.metadata
        && dropped(held, kept).is_empty()
        && kept.iter().all(|version| {
            let expected = listed.versions.get(version).map(|v| expected(v, now));
            state(*version).is_some_and(|record| record.covered && Some(record.state) == expected)
        })
}

fn dropped(held: &HeldKey, kept: &BTreeSet<u64>) -> Vec<Option<u64>> {
    let versions = held.records.iter().map(|record| record.version);
    versions
        .filter(|version| version.is_none_or(|version| !kept.contains(&version)))
        .collect()
}

/// What a read of this version answers at `now`.
fn expected(version: &KvVersion, now: WallTime) -> VersionState {
    match version.is_gone(now) {
        true => VersionState::Gone,
        false => VersionState::Live,
    }
}

fn deletion(version: &KvVersion) -> Option<WallTime> {
    WallTime::parse_rfc3339(&version.deletion_time)
}

#[cfg(test)]
mod tests {
    use super::*;
    use shared::{
        kv::{Form, Record},
        name::{MountAccessor, Namespace},
    };

    const NOW: WallTime = WallTime::from_secs(1_800_000_000);

    fn path(name: &str) -> RequestPath {
        RequestPath::parse(&format!("secret/data/{name}")).unwrap()
    }

    fn place(name: &str) -> Place {
        Place {
            namespace: Namespace::default(),
            mount: MountAccessor::parse("kv_1").unwrap(),
            path: path(name),
        }
    }

    fn listed(name: &str, versions: &[(u64, &str, bool)]) -> KvKey {
        let versions = versions.iter().map(|(version, deletion, destroyed)| {
            let state = KvVersion {
                deletion_time: (*deletion).to_owned(),
                destroyed: *destroyed,
            };
            (*version, state)
        });
        let versions: BTreeMap<_, _> = versions.collect();
        KvKey {
            place: place(name),
            current: versions.keys().next_back().copied().unwrap_or(0),
            metadata: format!("{versions:?}"),
            versions,
        }
    }

    /// What is held after a pass that read everything of `listed`.
    fn held(listed: &KvKey, depth: u32) -> HeldKey {
        let records = kept(listed, depth).into_iter().map(|version| Record {
            place: listed.place.clone(),
            version: Some(version),
            state: expected(&listed.versions[&version], NOW),
            verified_at: NOW,
            covered: true,
            form: Form::default(),
        });
        HeldKey {
            records: records.collect(),
            key: Arc::new(listed.clone()),
        }
    }

    fn todo(before: Option<&KvKey>, after: Option<&KvKey>, depth: u32, now: WallTime) -> Todo {
        let known = before.map(|listed| (listed.place.path.clone(), held(listed, depth)));
        let after = after.map(|listed| (listed.place.path.clone(), listed.clone()));
        compare(
            after.into_iter().collect(),
            &known.into_iter().collect(),
            depth,
            now,
        )
    }

    fn wanted(todo: &Todo) -> Vec<u64> {
        todo.changed
            .iter()
            .flat_map(|changed| changed.wanted.clone())
            .collect()
    }

    #[test]
    fn nothing_is_read_where_nothing_changed() {
        let same = listed(
            "a",
            &[
                (1, "", false),
                (2, "2020-01-01T00:00:00Z", false),
                (3, "", true),
            ],
        );
        let todo = todo(Some(&same), Some(&same), 3, NOW);
        assert!(todo.changed.is_empty() && todo.vanished.is_empty());
    }

    #[test]
    fn a_new_key_and_a_new_version_are_read_newest_first() {
        let one = listed("a", &[(1, "", false)]);
        let two = listed("a", &[(1, "", false), (2, "", false)]);
        assert_eq!(wanted(&todo(None, Some(&two), 2, NOW)), [2, 1]);
        let grown = todo(Some(&one), Some(&two), 1, NOW);
        assert_eq!(wanted(&grown), [2]);
        assert_eq!(grown.changed[0].dropped, [Some(1)]);
    }

    #[test]
    fn deletion_and_destruction_and_their_undoing_are_seen() {
        let live = listed("a", &[(1, "", false)]);
        let deleted = listed("a", &[(1, "2020-01-01T00:00:00Z", false)]);
        let destroyed = listed("a", &[(1, "", true)]);
        for (before, after) in [(&live, &deleted), (&deleted, &live), (&live, &destroyed)] {
            assert_eq!(wanted(&todo(Some(before), Some(after), 1, NOW)), [1]);
        }
    }

    #[test]
    fn a_deletion_that_lies_ahead_is_seen_when_its_time_has_come() {
        let planned = listed("a", &[(1, "2027-01-15T08:00:10Z", false)]);
        let before = todo(Some(&planned), Some(&planned), 1, NOW);
        let at = WallTime::parse_rfc3339("2027-01-15T08:00:10Z").unwrap();
        assert!(before.changed.is_empty());
        assert_eq!(before.next_deletion, Some(at));
        assert_eq!(wanted(&todo(Some(&planned), Some(&planned), 1, at)), [1]);
    }

    #[test]
    fn changed_metadata_alone_is_read_because_answers_carry_it() {
        let before = listed("a", &[(1, "", false)]);
        let after = KvKey {
            metadata: "custom".to_owned(),
            ..before.clone()
        };
        assert_eq!(wanted(&todo(Some(&before), Some(&after), 1, NOW)), [1]);
    }

    #[test]
    fn a_value_that_could_not_be_read_is_read_again() {
        let same = listed("a", &[(1, "", false)]);
        let mut before = held(&same, 1);
        before.records[0].covered = false;
        let known = BTreeMap::from([(path("a"), before)]);
        let after = BTreeMap::from([(path("a"), same)]);
        assert_eq!(wanted(&compare(after, &known, 1, NOW)), [1]);
    }

    #[test]
    fn fewer_versions_in_the_configuration_drop_the_older_ones() {
        let two = listed("a", &[(1, "", false), (2, "", false)]);
        let known = BTreeMap::from([(path("a"), held(&two, 2))]);
        let after = BTreeMap::from([(path("a"), two)]);
        assert_eq!(compare(after, &known, 1, NOW).changed[0].dropped, [Some(1)]);
    }

    #[test]
    fn what_is_not_listed_has_vanished() {
        let one = listed("a", &[(1, "", false)]);
        assert_eq!(todo(Some(&one), None, 1, NOW).vanished, [place("a")]);
    }
}
