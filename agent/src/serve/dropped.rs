//! Headers of clients that are not sent on: counted by name, and told once.

use std::{collections::HashSet, sync::Arc};

use http::HeaderName;
use parking_lot::Mutex;
use prometheus_client::metrics::{counter::Counter, family::Family};

/// Names that are told apart. Clients choose them: all others are counted as one, and not logged.
const NAMES: usize = 64;

/// The longest name that is told, in bytes.
const LONGEST: usize = 64;

/// What all names beyond are counted as; no header is called so.
const OTHER: &str = "(other)";

/// Which headers were dropped. Cheap to clone.
#[derive(Clone, Default)]
pub struct DroppedHeaders {
    /// `holdover_headers_dropped_total{name}`.
    pub counts: Family<[(&'static str, String); 1], Counter>,
    told: Arc<Mutex<HashSet<HeaderName>>>,
}

impl DroppedHeaders {
    /// A request had this header, and it was not sent on.
    pub(crate) fn count(&self, name: &HeaderName) {
        let name = match self.tells(name) {
            true => name.as_str(),
            false => OTHER,
        };
        self.counts
            .get_or_create(&[("name", name.to_owned())])
            .inc();
    }

    /// Whether it is one of the names that are told apart; the first of its name is logged.
    fn tells(&self, name: &HeaderName) -> bool {
        let mut told = self.told.lock();
        if told.contains(name) {
            return true;
        }
        if told.len() >= NAMES || name.as_str().len() > LONGEST {
            return false;
        }
        told.insert(name.clone());
        tracing::warn!(
            header = name.as_str(),
            "a client's header is not sent to the primary; name it in listener.forward_headers if it is to be"
        );
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> HeaderName {
        HeaderName::from_bytes(text.as_bytes()).unwrap()
    }

    fn counted(dropped: &DroppedHeaders, name: &str) -> u64 {
        let labels = [("name", name.to_owned())];
        dropped.counts.get_or_create(&labels).get()
    }

    #[test]
    fn each_name_is_counted_and_clients_cannot_make_more_of_them_than_there_is_room_for() {
        let dropped = DroppedHeaders::default();
        dropped.count(&name("x-tenant"));
        for nr in 0..3 * NAMES {
            dropped.count(&name(&format!("x-made-up-{nr}")));
        }
        dropped.count(&name("x-tenant"));
        dropped.count(&name(&"x".repeat(LONGEST + 1)));
        assert_eq!(counted(&dropped, "x-tenant"), 2);
        assert_eq!(counted(&dropped, "x-made-up-5"), 1);
        let beyond = u64::try_from(3 * NAMES - (NAMES - 1) + 1).unwrap();
        assert_eq!(counted(&dropped, OTHER), beyond);
        assert_eq!(dropped.told.lock().len(), NAMES);
    }
}
