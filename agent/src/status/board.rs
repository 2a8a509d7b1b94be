//! Findings that parts of the daemon put up and take down, until the status is asked for.

use std::collections::BTreeMap;

use parking_lot::Mutex;

/// Findings of the moment, by topic. Shared.
#[derive(Debug, Default)]
pub struct Board(Mutex<BTreeMap<&'static str, Vec<String>>>);

impl Board {
    /// Puts up what `topic` has to say now, in place of what it said before; nothing takes it down.
    pub fn put(&self, topic: &'static str, findings: impl IntoIterator<Item = String>) {
        self.0.lock().insert(topic, findings.into_iter().collect());
    }

    /// Everything that is up, by topic.
    pub fn all(&self) -> Vec<String> {
        self.0.lock().values().flatten().cloned().collect()
    }
}
