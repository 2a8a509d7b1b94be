//! Headers of clients that are not sent on: counted by name, and told once.

use std::{cmp::Reverse, collections::HashMap, sync::Arc};

use http::HeaderName;
use parking_lot::Mutex;
use prometheus_client::metrics::{counter::Counter, family::Family};

/// Names that are told apart, over all users. Clients choose them: all others are counted as one, and not logged.
pub(crate) const NAMES: usize = 64;

/// As many of them by one user. Where all are taken, who has fewer takes one of who has most: so that nobody takes the room of
/// others, nor makes the log grow by taking turns.
const OF_ONE: usize = 16;

/// The longest name that is told, in bytes.
const LONGEST: usize = 64;

/// What all names beyond are counted as; no header is called so.
const OTHER: &str = "(other)";

type Labels = [(&'static str, String); 1];

/// Which headers were dropped. Cheap to clone.
#[derive(Clone, Default)]
pub struct DroppedHeaders {
    /// `holdover_headers_dropped_total{name}`.
    pub counts: Family<Labels, Counter>,
    told: Arc<Mutex<DroppedNames>>,
}

/// The names that are told apart.
#[derive(Default)]
struct DroppedNames {
    names: HashMap<HeaderName, DroppedName>,
    /// Requests that had a dropped header, so far.
    clock: u64,
}

/// Of one name.
struct DroppedName {
    /// The user whose request had it first.
    by: u32,
    /// By the clock, when it was there last.
    last: u64,
}

impl DroppedHeaders {
    /// A request of this user had this header, and it was not sent on.
    pub(crate) fn count(&self, name: &HeaderName, uid: u32) {
        let name = match self.tells(name, uid) {
            true => name.as_str(),
            false => OTHER,
        };
        self.counts.get_or_create(&labels(name)).inc();
    }

    /// How many names are told apart.
    pub(crate) fn told(&self) -> usize {
        self.told.lock().names.len()
    }

    /// Whether it is one of the names that are told apart; the first of its name is logged.
    fn tells(&self, name: &HeaderName, by: u32) -> bool {
        if name.as_str().len() > LONGEST {
            return false;
        }
        let told = &mut *self.told.lock();
        told.clock = told.clock.saturating_add(1);
        let last = told.clock;
        if let Some(seen) = told.names.get_mut(name) {
            seen.last = last;
            return true;
        }
        if !self.has_room(told, by) {
            return false;
        }
        told.names.insert(name.clone(), DroppedName { by, last });
        tracing::warn!(
            header = name.as_str(),
            "a client's header is not sent to the primary; name it in listener.forward_headers if it is to be"
        );
        true
    }

    /// Whether a name by this user may be told apart, if need be in the place of another.
    fn has_room(&self, told: &mut DroppedNames, by: u32) -> bool {
        let own = told.count(by);
        if own >= OF_ONE || told.names.len() < NAMES {
            return own < OF_ONE;
        }
        let Some(gone) = told.quietest_of_most(own) else {
            return false;
        };
        told.names.remove(&gone);
        let labels = labels(gone.as_str());
        let counted = self.counts.get_or_create(&labels).get();
        self.counts.remove(&labels);
        self.counts
            .get_or_create(&self::labels(OTHER))
            .inc_by(counted);
        true
    }
}

impl DroppedNames {
    fn count(&self, by: u32) -> usize {
        self.names.values().filter(|seen| seen.by == by).count()
    }

    /// Of whoever has most names, the one that was not there for longest; none where who has `own` would have more by it.
    fn quietest_of_most(&self, own: usize) -> Option<HeaderName> {
        let all = self.names.iter();
        let all = all.map(|(name, seen)| (self.count(seen.by), seen, name));
        let (most, _, name) = all.max_by_key(|(count, seen, _)| (*count, Reverse(seen.last)))?;
        (most > own + 1).then(|| name.clone())
    }
}

fn labels(name: &str) -> Labels {
    [("name", name.to_owned())]
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn name(text: &str) -> HeaderName {
        HeaderName::from_bytes(text.as_bytes()).unwrap()
    }

    fn counted(dropped: &DroppedHeaders, name: &str) -> u64 {
        dropped.counts.get_or_create(&labels(name)).get()
    }

    #[test]
    fn each_name_is_counted_and_no_client_takes_the_room_of_others() {
        let dropped = DroppedHeaders::default();
        let (one, other) = (1, 2);
        for nr in 0..3 * NAMES {
            dropped.count(&name(&format!("x-made-up-{nr}")), one);
        }
        dropped.count(&name("x-tenant"), other);
        dropped.count(&name("x-tenant"), one);
        dropped.count(&name(&"x".repeat(LONGEST + 1)), other);
        assert_eq!(counted(&dropped, "x-tenant"), 2);
        assert_eq!(counted(&dropped, "x-made-up-5"), 1);
        let beyond = u64::try_from(3 * NAMES - OF_ONE + 1).unwrap();
        assert_eq!(counted(&dropped, OTHER), beyond);
        assert_eq!(dropped.told.lock().names.len(), OF_ONE + 1);
    }

    #[test]
    fn users_share_the_room_however_many_they_are_and_cannot_take_turns_in_it() {
        let dropped = DroppedHeaders::default();
        let of = |uid| dropped.told.lock().count(uid);
        let make_up = |uid: u32| {
            for nr in 0..OF_ONE {
                dropped.count(&name(&format!("x-{uid}-{nr}")), uid);
            }
        };
        (0..4).for_each(make_up);
        assert_eq!((of(0), of(3)), (OF_ONE, OF_ONE));
        dropped.count(&name("x-tenant"), 9);
        assert_eq!(of(9), 1, "the room was full");
        (0..200).for_each(make_up);
        let told: HashSet<HeaderName> = dropped.told.lock().names.keys().cloned().collect();
        assert_eq!(told.len(), NAMES);
        (0..200).for_each(make_up);
        let after: HashSet<HeaderName> = dropped.told.lock().names.keys().cloned().collect();
        assert_eq!(after, told, "nobody gains by going on");
        let named = after.iter().map(|name| counted(&dropped, name.as_str()));
        let all = u64::try_from(404 * OF_ONE + 1).unwrap();
        assert_eq!(named.sum::<u64>() + counted(&dropped, OTHER), all);
    }
}
