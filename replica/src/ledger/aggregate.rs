//! Aggregation: reads per grant, path and second; denials, and what nobody got, per uid, what it is and second, under a
//! quota per uid.
//!
//! Bounded on every side: within a second by how many different things are counted apart, per uid by a quota a
//! minute, and what does not fit is counted without its details. So nobody can fill the ledger for others.

use std::collections::{BTreeMap, HashMap};

use parking_lot::Mutex;
use shared::{
    change::Change,
    ledger::{Entry, EntryKind},
    name::OutageId,
    time::WallTime,
};

use super::Note;

/// Reads counted apart in one second; further ones keep their grant or less.
const MAX_READS: usize = 512;
/// Denials counted apart in one second, over all uids.
const MAX_DENIALS: usize = 256;
/// Denial entries of one uid in one minute; further denials of that minute are one entry, with `quota` for a reason.
pub const DENIALS_PER_MINUTE: u32 = 30;
/// Uids whose quota is tracked at once; denials of further ones are counted together.
const MAX_UIDS: usize = 1024;
/// Seconds that wait to be drained; what comes later is counted in the last of them.
const MAX_SECONDS: usize = 16;

/// Counts what the serving threads note, until it is drained into the ledger.
#[derive(Default)]
pub struct Aggregate(Mutex<Counts>);

#[derive(Default)]
struct Counts {
    seconds: BTreeMap<i64, HashMap<Note, u64>>,
    quotas: HashMap<Option<u32>, Quota>,
}

struct Quota {
    minute: i64,
    made: u32,
    beyond: u64,
    outage: Option<OutageId>,
}

impl Aggregate {
    /// Counts `note`, which happened `now`.
    pub fn add(&self, note: Note, now: WallTime) {
        let mut counts = self.0.lock();
        let second = counts.second(now.as_secs());
        if let Some(note) = counts.kept_as(note, second) {
            let count = counts.seconds.entry(second).or_default();
            let count = count.entry(note).or_default();
            *count = count.saturating_add(1);
        }
    }

    /// The entries of every second that is over `now`, oldest first, to be handed to the sequencer. Call it about
    /// once a second while the replica answers.
    pub fn drain(&self, now: WallTime) -> Vec<Change> {
        self.take(now.as_secs())
    }

    /// The same with the present second: for the end of the process.
    pub fn flush(&self) -> Vec<Change> {
        self.take(i64::MAX)
    }

    fn take(&self, before: i64) -> Vec<Change> {
        let mut counts = self.0.lock();
        let kept = counts.seconds.split_off(&before);
        let over = std::mem::replace(&mut counts.seconds, kept);
        let quotas = counts.spent(before.div_euclid(60));
        drop(counts);
        let counted = over.into_iter().flat_map(|(second, counts)| {
            let at = WallTime::from_secs(second);
            counts.into_iter().map(move |(note, n)| entry(note, n, at))
        });
        let entries = counted.chain(quotas);
        entries
            .map(|entry| Change::Ledger(Box::new(entry)))
            .collect()
    }
}

impl Counts {
    /// Where `second` is counted: itself, unless the clock went back or too many wait.
    fn second(&self, second: i64) -> i64 {
        match self.seconds.last_key_value() {
            Some((last, _)) if second < *last || self.seconds.len() >= MAX_SECONDS => *last,
            _ => second,
        }
    }

    /// As what a note is counted: a read without its path where there are too many different ones, a denial by itself or
    /// against its uid's quota (`None`).
    fn kept_as(&mut self, note: Note, second: i64) -> Option<Note> {
        let counts = self.seconds.get(&second);
        let different = counts.map_or(0, HashMap::len);
        if counts.is_some_and(|counts| counts.contains_key(&note)) {
            return Some(note);
        }
        match note {
            Note::Read { outage, .. } if different >= MAX_READS => Some(Note::Read {
                accessor: None,
                workload: None,
                path: String::new(),
                outage,
            }),
            Note::Read { .. } => Some(note),
            Note::Denial {
                uid, ref outage, ..
            } => {
                let quota = self.quota(uid, second.div_euclid(60));
                if different < MAX_READS + MAX_DENIALS && quota.made < DENIALS_PER_MINUTE {
                    quota.made += 1;
                    return Some(note);
                }
                quota.beyond = quota.beyond.saturating_add(1);
                quota.outage.clone_from(outage);
                None
            }
            Note::Unclaimed { uid, outcome, .. } => {
                let quota = self.quota(uid, second.div_euclid(60));
                if different < MAX_READS + MAX_DENIALS && quota.made < DENIALS_PER_MINUTE {
                    quota.made += 1;
                    return Some(note);
                }
                Some(Note::Unclaimed {
                    uid: None,
                    unit: None,
                    path: String::new(),
                    outcome,
                })
            }
        }
    }

    fn quota(&mut self, uid: Option<u32>, minute: i64) -> &mut Quota {
        let uid = if self.quotas.len() < MAX_UIDS || self.quotas.contains_key(&uid) {
            uid
        } else {
            None
        };
        let quota = self.quotas.entry(uid).or_insert(Quota {
            minute,
            made: 0,
            beyond: 0,
            outage: None,
        });
        if quota.minute < minute && quota.beyond == 0 {
            (quota.minute, quota.made) = (minute, 0);
        }
        quota
    }

    /// The quotas of minutes that are over, as entries; they are forgotten.
    fn spent(&mut self, before: i64) -> Vec<Entry> {
        let over = self.quotas.extract_if(|_, quota| quota.minute < before);
        let beyond = over.filter(|(_, quota)| quota.beyond > 0);
        beyond
            .map(|(uid, quota)| {
                let note = Note::Denial {
                    uid,
                    reason: "quota",
                    outage: quota.outage,
                };
                let at = WallTime::from_secs(quota.minute.saturating_mul(60));
                entry(note, quota.beyond, at)
            })
            .collect()
    }
}

fn entry(note: Note, count: u64, at: WallTime) -> Entry {
    match note {
        Note::Read {
            accessor,
            workload,
            path,
            outage,
        } => Entry {
            accessor,
            workload,
            path: (!path.is_empty()).then_some(path),
            outage,
            count: Some(count),
            ..Entry::new(EntryKind::Read, "allowed", at)
        },
        Note::Denial {
            uid,
            reason,
            outage,
        } => Entry {
            uid,
            reason: Some(reason.into()),
            outage,
            count: Some(count),
            ..Entry::new(EntryKind::Denial, "denied", at)
        },
        Note::Unclaimed {
            uid,
            unit,
            path,
            outcome,
        } => Entry {
            uid,
            unit,
            path: (!path.is_empty()).then_some(path),
            count: Some(count),
            ..Entry::new(EntryKind::Unknown, outcome, at)
        },
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::samples::T0;

    fn read(path: &str) -> Note {
        Note::Read {
            accessor: None,
            workload: None,
            path: path.into(),
            outage: None,
        }
    }

    fn denial(uid: u32, reason: &'static str) -> Note {
        Note::Denial {
            uid: Some(uid),
            reason,
            outage: None,
        }
    }

    #[test]
    fn what_nobody_got_is_told_by_path_until_one_uid_has_too_much_of_it() {
        let counts = Aggregate::default();
        for nr in 0..1000 {
            let note = Note::Unclaimed {
                uid: Some(1),
                unit: None,
                path: format!("auth/{nr}/login"),
                outcome: "unknown",
            };
            counts.add(note, at(0));
        }
        let told = entries(counts.flush());
        assert_eq!(told.len(), DENIALS_PER_MINUTE as usize + 1);
        assert_eq!(total(&told), 1000);
        assert!(told.iter().all(|entry| entry.kind == EntryKind::Unknown));
    }

    fn at(secs: u64) -> WallTime {
        T0.plus(Duration::from_secs(secs))
    }

    fn entries(changes: Vec<Change>) -> Vec<Entry> {
        let entries = changes.into_iter().map(|change| match change {
            Change::Ledger(entry) => *entry,
            _ => panic!("not an entry"),
        });
        entries.collect()
    }

    fn total(entries: &[Entry]) -> u64 {
        entries.iter().filter_map(|entry| entry.count).sum()
    }

    #[test]
    fn reads_of_one_second_are_one_entry_and_a_second_is_drained_once_it_is_over() {
        let counts = Aggregate::default();
        (0..5).for_each(|_| counts.add(read("a"), at(0)));
        counts.add(read("b"), at(0));
        counts.add(read("a"), at(1));
        assert!(counts.drain(at(0)).is_empty(), "the second is not over");
        let first = entries(counts.drain(at(1)));
        assert_eq!((first.len(), total(&first)), (2, 6));
        assert!(first.iter().all(|entry| entry.time == at(0)));
        assert_eq!(total(&entries(counts.flush())), 1);
        assert!(counts.flush().is_empty());
    }

    #[test]
    fn a_flood_of_different_reads_is_counted_without_its_details() {
        let counts = Aggregate::default();
        (0..10_000).for_each(|n| counts.add(read(&n.to_string()), at(0)));
        let entries = entries(counts.flush());
        assert_eq!(total(&entries), 10_000);
        assert!(entries.len() <= MAX_READS + 1, "{}", entries.len());
    }

    #[test]
    fn one_uid_s_denials_are_bounded_and_leave_those_of_others_alone() {
        const REASONS: [&str; 50] = {
            let mut reasons = [""; 50];
            let text = "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx";
            let mut n = 0;
            while n < 50 {
                reasons[n] = text.split_at(n).0;
                n += 1;
            }
            reasons
        };
        let counts = Aggregate::default();
        for second in 0..60 {
            REASONS
                .iter()
                .for_each(|reason| counts.add(denial(1, reason), at(second)));
            counts.add(denial(2, "acl"), at(second % 5));
        }
        let entries = entries(counts.flush());
        assert_eq!(total(&entries), 60 * 50 + 60, "each is counted");
        let of = |uid| entries.iter().filter(move |entry| entry.uid == Some(uid));
        let limit = usize::try_from(DENIALS_PER_MINUTE).unwrap() + 1;
        assert!(of(1).count() <= 2 * limit, "the minute may turn once");
        assert!(of(2).all(|entry| entry.reason.as_deref() == Some("acl")));
        let beyond: Vec<_> = of(1)
            .filter(|e| e.reason.as_deref() == Some("quota"))
            .collect();
        assert!(!beyond.is_empty());
    }

    #[test]
    fn seconds_that_nobody_drains_and_a_clock_that_steps_back_stay_bounded() {
        let counts = Aggregate::default();
        (0..1000).for_each(|second| counts.add(read("a"), at(second)));
        counts.add(read("a"), at(0));
        let entries = entries(counts.flush());
        assert!(entries.len() <= MAX_SECONDS);
        assert_eq!(total(&entries), 1001);
    }
}
