//! Adding what is in doubt to a stage, and what answers it.

use std::time::Duration;

use shared::{
    kv::{Doubt, Doubted, MirrorState, Place},
    settings::MirrorPath,
    time::WallTime,
};

use super::add::{Added, Adder};
use crate::view::DoubtStep;

impl Adder<'_, '_> {
    pub(super) fn doubted(&mut self, doubt: Doubt) -> Added {
        let doubt = self.stage.view.doubts().merged(doubt);
        self.put(self.within().doubt(&doubt.of), &doubt)?;
        self.stage.doubts.push(DoubtStep::Add(doubt));
        Ok(())
    }

    /// The row goes only with the doubt: one that arose meanwhile is in memory already, and its row yet to come.
    pub(super) fn doubt_answered(&mut self, of: Doubted, asked_at: WallTime) {
        let since = self.stage.view.doubts().since(&of);
        if since.is_some_and(|since| since < asked_at) {
            self.delete(self.within().doubt(&of));
        }
        self.stage.doubts.push(DoubtStep::Answer(of, asked_at));
    }

    /// What a pass could not read is left in doubt: it is not covered.
    pub(super) fn pass_ended(&mut self, state: &MirrorState) {
        let at = state.verified_at;
        let mirror = MirrorPath::parse(&state.path);
        let doubts = self.stage.view.doubts();
        for doubt in doubts.all().filter(|doubt| doubt.since < at) {
            let answered = match &doubt.of {
                Doubted::Absence(path) => *path == state.path,
                Doubted::Key(place) => mirror.covers(place.path.as_str()) && self.is_covered(place),
                Doubted::Mirror(path) => *path == state.path && self.covers_all(&mirror),
            };
            if answered {
                self.doubt_answered(doubt.of, at);
            }
        }
        self.stage.doubts.push(DoubtStep::PassEnded);
    }

    /// Nothing is kept any longer of what these doubts are about.
    pub(super) fn doubts_gone(&mut self, mirror: &str, goes: impl Fn(&Place) -> bool) {
        let doubts = self.stage.view.doubts();
        for doubt in doubts.all() {
            let gone = match &doubt.of {
                Doubted::Absence(path) | Doubted::Mirror(path) => path == mirror,
                Doubted::Key(place) => goes(place),
            };
            if gone {
                // One that arises while this is committed is of what comes after.
                self.doubt_answered(doubt.of, doubt.since.plus(Duration::from_millis(1)));
            }
        }
    }

    fn is_covered(&mut self, place: &Place) -> bool {
        let range = (place.clone(), None)..=(place.clone(), Some(u64::MAX));
        let mut kept = self.stage.secrets().records.range(range);
        kept.all(|(_, held)| held.record.covered)
    }

    fn covers_all(&mut self, mirror: &MirrorPath) -> bool {
        let mut kept = self.stage.secrets().records.iter();
        kept.all(|((place, _), held)| held.record.covered || !mirror.covers(place.path.as_str()))
    }
}
