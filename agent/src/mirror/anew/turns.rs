//! Whose turn it is to be read anew. Pure.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use shared::{backoff::Backoff, kv::Doubted, time::BootTime};

/// The longest that nothing happens: what is in doubt is looked at again, whoever forgot to say so.
const LOOK: Duration = Duration::from_secs(5);

/// What is being read, and what could not be.
#[derive(Default)]
pub(super) struct Turns {
    reading: BTreeSet<Doubted>,
    failed: BTreeMap<Doubted, (Backoff, BootTime)>,
}

impl Turns {
    /// The first of those waiting that is not being read, nor has just failed.
    pub(super) fn next(
        &mut self,
        mut waiting: impl Iterator<Item = Doubted>,
        now: BootTime,
    ) -> Option<Doubted> {
        let next = waiting.find(|of| {
            let rests = self.failed.get(of).is_some_and(|(_, until)| now < *until);
            !rests && !self.reading.contains(of)
        })?;
        self.reading.insert(next.clone());
        Some(next)
    }

    /// Its read has ended. `jitter` in 0..1.
    pub(super) fn ended(&mut self, of: &Doubted, is_answered: bool, now: BootTime, jitter: f64) {
        self.reading.remove(of);
        let before = self.failed.remove(of);
        if is_answered {
            return;
        }
        let mut pauses = before.map_or(Backoff::ATTEMPTS, |(pauses, _)| pauses);
        let until = now.plus(pauses.next(jitter));
        self.failed.insert(of.clone(), (pauses, until));
    }

    /// How long until one of those that failed may be tried again; forgets what was answered in another way meanwhile.
    pub(super) fn rest(&mut self, now: BootTime) -> Duration {
        let forgotten = |until: BootTime| now.since(until) > LOOK * 2;
        self.failed.retain(|_, (_, until)| !forgotten(*until));
        let pauses = self.failed.values().map(|(_, until)| until.since(now));
        pauses
            .min()
            .unwrap_or(LOOK)
            .clamp(Duration::from_millis(1), LOOK)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str) -> Doubted {
        Doubted::Mirror(name.into())
    }

    fn at(millis: u64) -> BootTime {
        BootTime::from_millis(1_000_000 + millis)
    }

    fn next(turns: &mut Turns, waiting: &[&str], now: BootTime) -> Option<Doubted> {
        turns.next(waiting.iter().map(|name| key(name)), now)
    }

    #[test]
    fn each_is_read_once_at_a_time() {
        let mut turns = Turns::default();
        assert_eq!(next(&mut turns, &["a", "b"], at(0)), Some(key("a")));
        assert_eq!(next(&mut turns, &["a", "b"], at(0)), Some(key("b")));
        assert_eq!(next(&mut turns, &["a", "b"], at(0)), None);
        turns.ended(&key("a"), true, at(1), 0.5);
        assert_eq!(next(&mut turns, &["a", "b"], at(1)), Some(key("a")));
    }

    #[test]
    fn what_fails_is_tried_more_and_more_rarely_and_keeps_nothing_else_waiting() {
        let (mut turns, mut tries, mut now) = (Turns::default(), 0, 0);
        while now < 600_000 {
            if next(&mut turns, &["a"], at(now)).is_some() {
                tries += 1;
                turns.ended(&key("a"), false, at(now), 0.5);
            }
            assert_eq!(next(&mut turns, &["a", "b"], at(now)), Some(key("b")));
            turns.ended(&key("b"), true, at(now), 0.5);
            let rest = turns.rest(at(now));
            assert!(rest > Duration::ZERO && rest <= LOOK);
            now += u64::try_from(rest.as_millis()).unwrap();
        }
        assert!((10..25).contains(&tries), "{tries}");
    }

    #[test]
    fn what_was_answered_in_another_way_is_forgotten() {
        let mut turns = Turns::default();
        assert!(next(&mut turns, &["a"], at(0)).is_some());
        turns.ended(&key("a"), false, at(0), 0.5);
        assert_eq!(next(&mut turns, &["a"], at(10)), None);
        turns.rest(at(60_000));
        assert!(turns.failed.is_empty());
    }
}
