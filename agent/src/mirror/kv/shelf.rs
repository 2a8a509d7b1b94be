//! Keys that could not be read, put aside for a while: reading them again in every pass would be a storm. Pure.

use std::{collections::BTreeMap, time::Duration};

use shared::{backoff::Backoff, kv::KvKey, name::RequestPath, time::WallTime};

use crate::mirror::status::UnreadPaths;

/// The longest pause, and the only one after a refusal.
const LONGEST: Duration = Duration::from_secs(3600);

/// Half a minute after the first failure, and twice as long after each further one.
const PAUSES: Backoff = Backoff::new(Duration::from_secs(30), 200, LONGEST);

/// What was put aside.
#[derive(Default)]
pub(super) struct Shelf(BTreeMap<RequestPath, Shelved>);

struct Shelved {
    /// A key that changed meanwhile is read at once.
    metadata: String,
    pauses: Backoff,
    until: WallTime,
    why: ShelvedFor,
}

/// Why a key could not be read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum ShelvedFor {
    /// Holdover's token is good and may not read it.
    Denied,
    /// Anything else that the primary said, in words.
    Failed(String),
}

impl Shelf {
    /// Whether the key is put aside at `now`, unchanged since.
    pub(super) fn holds(&self, listed: &KvKey, now: WallTime) -> bool {
        let shelved = self.0.get(&listed.place.path);
        shelved.is_some_and(|one| one.metadata == listed.metadata && now < one.until)
    }

    /// Puts a key aside.
    pub(super) fn put(&mut self, listed: &KvKey, why: ShelvedFor, now: WallTime) {
        let path = &listed.place.path;
        let mut pauses = self.0.get(path).map_or(PAUSES, |one| one.pauses);
        let after_failure = pauses.next(Backoff::EVEN);
        let pause = match why {
            ShelvedFor::Denied => LONGEST,
            ShelvedFor::Failed(_) => after_failure,
        };
        let shelved = Shelved {
            metadata: listed.metadata.clone(),
            pauses,
            until: now.plus(pause),
            why,
        };
        self.0.insert(path.clone(), shelved);
    }

    /// The key was read, or is no more.
    pub(super) fn remove(&mut self, path: &RequestPath) {
        self.0.remove(path);
    }

    /// Only what `keep` says is still there.
    pub(super) fn retain(&mut self, keep: impl Fn(&RequestPath) -> bool) {
        self.0.retain(|path, _| keep(path));
    }

    /// How many may not be read.
    pub(super) fn denied(&self) -> usize {
        let denied = self.0.values().filter(|one| one.why == ShelvedFor::Denied);
        denied.count()
    }

    /// Those that could not be read, and why.
    pub(super) fn unread(&self) -> UnreadPaths {
        let mut unread = UnreadPaths::default();
        for (path, one) in &self.0 {
            if let ShelvedFor::Failed(why) = &one.why {
                unread.add(path, why);
            }
        }
        unread
    }

    /// When the first of them is due again.
    pub(super) fn due(&self) -> Option<WallTime> {
        self.0.values().map(|one| one.until).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use shared::{
        kv::Place,
        name::{MountAccessor, Namespace},
    };

    const NOW: WallTime = WallTime::from_secs(1000);

    fn listed(metadata: &str) -> KvKey {
        KvKey {
            place: Place {
                namespace: Namespace::default(),
                mount: MountAccessor::parse("kv_1").unwrap(),
                path: RequestPath::parse("secret/data/a").unwrap(),
            },
            current: 1,
            versions: BTreeMap::new(),
            metadata: metadata.to_owned(),
        }
    }

    #[test]
    fn a_day_of_failures_is_a_few_dozen_reads() {
        let (mut shelf, one, mut reads) = (Shelf::default(), listed("m"), 0);
        for second in 0..86_400 {
            let now = NOW.plus(Duration::from_secs(second));
            if !shelf.holds(&one, now) {
                shelf.put(&one, ShelvedFor::Failed("why".to_owned()), now);
                reads += 1;
            }
        }
        assert!((20..40).contains(&reads), "{reads}");
    }

    #[test]
    fn a_changed_key_is_read_at_once_and_a_refused_one_within_the_hour() {
        let mut shelf = Shelf::default();
        shelf.put(&listed("m"), ShelvedFor::Denied, NOW);
        assert!(shelf.holds(&listed("m"), NOW));
        assert!(!shelf.holds(&listed("changed"), NOW));
        assert_eq!(shelf.due(), Some(NOW.plus(LONGEST)));
        assert!(!shelf.holds(&listed("m"), NOW.plus(LONGEST)));
        assert!(shelf.denied() == 1 && shelf.unread().is_empty());
        shelf.remove(&listed("m").place.path);
        assert_eq!(shelf.due(), None);
    }
}
