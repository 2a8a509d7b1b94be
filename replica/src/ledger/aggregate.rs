//! Aggregation: reads per grant, path and second; denials, and what nobody got, per uid, what it is and second, under a
//! quota a minute.
//!
//! Quotas are those of a workload, or of a uid that is no workload's. Beyond them, and where a second has too much to tell
//! apart, things are counted without their details, but still as whose they are: nobody can fill the ledger for others, or
//! hide what they did.

use std::collections::{BTreeMap, HashMap};

use parking_lot::Mutex;
use shared::{
    change::Change,
    ledger::{Entry, EntryKind, claim::Owner, share::MAX_UIDS},
    time::WallTime,
};

use super::Note;

/// Different reads of one workload in one second; further ones are one entry, of that workload.
const READS_OF_A_WORKLOAD: usize = 256;
/// The same of a uid that is no workload's.
const READS_OF_A_UID: usize = 32;
/// Different notes in one second, by everybody.
const MOST_NOTES: usize = 4096;
/// Of these, those of uids that are no workload's.
const MOST_OF_UIDS: usize = 512;
/// Denial entries of one workload or uid in one minute; further denials of that minute are one entry, with `quota` for a
/// reason.
pub const DENIALS_PER_MINUTE: u32 = 30;
/// Seconds that wait to be drained; what comes later is counted in the last of them.
const MAX_SECONDS: usize = 16;

/// Counts what the serving threads note, until it is drained into the ledger.
#[derive(Default)]
pub struct Aggregate(Mutex<Counts>);

#[derive(Default)]
struct Counts {
    seconds: BTreeMap<i64, Second>,
    quotas: HashMap<Owner, Quota>,
}

/// What happened in one second.
#[derive(Default)]
struct Second {
    notes: HashMap<Note, u64>,
    /// Different ones with their details: all of them, those of uids, and each one's reads.
    detailed: usize,
    of_uids: usize,
    reads: HashMap<Owner, usize>,
}

struct Quota {
    minute: i64,
    made: u32,
    /// A denial beyond it, and how many there are.
    beyond: Option<(Note, u64)>,
}

impl Aggregate {
    /// Counts `note`, which happened `now`.
    pub fn add(&self, note: Note, now: WallTime) {
        let mut counts = self.0.lock();
        let second = counts.second(now.as_secs());
        counts.add(note, second);
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
            let notes = counts.notes.into_iter();
            notes.map(move |(note, n)| entry(note, n, at))
        });
        let entries = counted.chain(quotas);
        entries
            .map(|entry| Change::Ledger(Box::new(entry)))
            .collect()
    }
}

impl Second {
    /// Whether another note of `owner` may be told with its details.
    fn has_room(&self, owner: &Owner) -> bool {
        let is_workload = matches!(owner, Owner::Workload(_));
        self.detailed < MOST_NOTES && (is_workload || self.of_uids < MOST_OF_UIDS)
    }

    fn has_room_for_read(&self, owner: &Owner) -> bool {
        let most = match owner {
            Owner::Workload(_) => READS_OF_A_WORKLOAD,
            _ => READS_OF_A_UID,
        };
        self.has_room(owner) && self.reads.get(owner).copied().unwrap_or(0) < most
    }

    /// Counts `note`, which is not there yet, with its details.
    fn detail(&mut self, owner: &Owner, note: &Note) {
        self.detailed += 1;
        self.of_uids += usize::from(!matches!(owner, Owner::Workload(_)));
        if matches!(note, Note::Read { .. }) {
            *self.reads.entry(owner.clone()).or_default() += 1;
        }
    }

    fn count(&mut self, note: Note) {
        let count = self.notes.entry(note).or_default();
        *count = count.saturating_add(1);
    }

    /// Counts `note` as whose it is, and no more; nobody's where there are too many.
    fn count_bare(&mut self, note: Note) {
        let bare = note.bare();
        let is_uid = matches!(bare.owner(), Owner::Uid(_));
        let has_room = !is_uid || self.notes.len() < MOST_NOTES + MAX_UIDS;
        match has_room || self.notes.contains_key(&bare) {
            true => self.count(bare),
            false => self.count(bare.unnamed()),
        }
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

    fn add(&mut self, note: Note, at: i64) {
        let owner = note.owner();
        let second = self.seconds.entry(at).or_default();
        if second.notes.contains_key(&note) {
            return second.count(note);
        }
        if let Note::Read { .. } = note {
            if !second.has_room_for_read(&owner) {
                return second.count_bare(note);
            }
        } else {
            let has_room = second.has_room(&owner);
            let quota = quota(&mut self.quotas, owner.clone(), at.div_euclid(60));
            if !has_room || quota.made >= DENIALS_PER_MINUTE {
                return match note {
                    Note::Unclaimed { .. } => second.count_bare(note),
                    _ => quota.count_beyond(note),
                };
            }
            quota.made += 1;
        }
        second.detail(&owner, &note);
        second.count(note);
    }

    /// The quotas of minutes that are over, as entries; they are forgotten.
    fn spent(&mut self, before: i64) -> Vec<Entry> {
        let over = self.quotas.extract_if(|_, quota| quota.minute < before);
        let beyond = over.filter_map(|(_, quota)| Some((quota.minute, quota.beyond?)));
        beyond
            .map(|(minute, (note, count))| {
                let at = WallTime::from_secs(minute.saturating_mul(60));
                entry(note, count, at)
            })
            .collect()
    }
}

/// The quota of `owner`; nobody's where too many are told apart.
fn quota(quotas: &mut HashMap<Owner, Quota>, owner: Owner, minute: i64) -> &mut Quota {
    let is_new_uid = matches!(owner, Owner::Uid(_)) && !quotas.contains_key(&owner);
    let owner = match is_new_uid && quotas.len() >= MAX_UIDS {
        true => Owner::Unnamed,
        false => owner,
    };
    let quota = quotas.entry(owner).or_insert(Quota {
        minute,
        made: 0,
        beyond: None,
    });
    if quota.minute < minute && quota.beyond.is_none() {
        (quota.minute, quota.made) = (minute, 0);
    }
    quota
}

impl Quota {
    /// A denial beyond it. Who is nobody's has no name.
    fn count_beyond(&mut self, note: Note) {
        let (last, count) = match self.beyond.take() {
            Some((last, count)) if last.owner() != note.owner() => (last.unnamed(), count),
            Some(last) => last,
            None => (note.over_quota(), 0),
        };
        self.beyond = Some((last, count.saturating_add(1)));
    }
}

fn entry(note: Note, count: u64, at: WallTime) -> Entry {
    match note {
        Note::Read {
            accessor,
            workload,
            uid,
            path,
            outage,
        } => Entry {
            accessor,
            workload,
            uid,
            path: (!path.is_empty()).then_some(path),
            outage,
            count: Some(count),
            ..Entry::new(EntryKind::Read, "allowed", at)
        },
        Note::Denial {
            workload,
            uid,
            reason,
            outage,
        } => Entry {
            workload,
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

    use shared::name::WorkloadName;

    use super::*;
    use crate::samples::T0;

    fn read(path: &str) -> Note {
        Note::Read {
            accessor: None,
            workload: None,
            uid: None,
            path: path.into(),
            outage: None,
        }
    }

    fn read_by(workload: &str, path: usize) -> Note {
        Note::Read {
            accessor: None,
            workload: Some(WorkloadName::parse(workload).unwrap()),
            uid: Some(7),
            path: path.to_string(),
            outage: None,
        }
    }

    fn denial(uid: u32, reason: &'static str) -> Note {
        Note::Denial {
            workload: None,
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
        assert!(entries.len() <= READS_OF_A_UID + 1, "{}", entries.len());
    }

    #[test]
    fn a_workload_that_reads_everything_hides_no_read_of_another_and_is_named_itself() {
        let counts = Aggregate::default();
        (0..10_000).for_each(|nr| counts.add(read_by("loud", nr), at(0)));
        // Users that are no workload's, as many as there can be.
        for uid in 0..5000 {
            for path in 0..READS_OF_A_UID {
                let (workload, accessor, outage) = (None, None, None);
                counts.add(
                    Note::Read {
                        accessor,
                        workload,
                        uid: Some(uid),
                        path: path.to_string(),
                        outage,
                    },
                    at(0),
                );
            }
        }
        (0..100).for_each(|nr| counts.add(read_by("quiet", nr), at(0)));
        let entries = entries(counts.flush());
        let of = |name: &str| -> Vec<&Entry> {
            let is_of = |entry: &&Entry| {
                entry
                    .workload
                    .as_ref()
                    .is_some_and(|of| of.as_str() == name)
            };
            entries.iter().filter(is_of).collect()
        };
        let quiet = of("quiet");
        assert_eq!(quiet.len(), 100);
        assert!(quiet.iter().all(|entry| entry.path.is_some()));
        let loud: u64 = of("loud").iter().filter_map(|entry| entry.count).sum();
        assert_eq!((of("loud").len(), loud), (READS_OF_A_WORKLOAD + 1, 10_000));
        assert!(entries.len() <= 2 * MOST_NOTES);
    }

    #[test]
    fn a_neighbour_with_the_same_uid_leaves_a_workload_s_denials_alone() {
        let counts = Aggregate::default();
        let loud: Vec<&'static str> = vec!["acl", "stale", "dead", "write"];
        for second in 0..60 {
            loud.iter()
                .for_each(|reason| counts.add(denial(7, reason), at(second)));
        }
        let Note::Denial { reason, .. } = denial(7, "acl") else {
            unreachable!()
        };
        let of_workload = Note::Denial {
            workload: Some(WorkloadName::parse("quiet").unwrap()),
            uid: Some(7),
            reason,
            outage: None,
        };
        counts.add(of_workload, at(59));
        let entries = entries(counts.flush());
        let mut quiet = entries.iter().filter(|entry| entry.workload.is_some());
        assert_eq!(quiet.next().unwrap().reason.as_deref(), Some("acl"));
        assert_eq!(total(&entries), 241);
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
