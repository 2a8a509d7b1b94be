//! Whatever some do, others have room, and nothing ever takes more than there is.

use alloc::{format, vec};

use proptest::prelude::*;

use super::*;
use crate::ledger::{Entry, EntryKind};

const MIB: u64 = 1 << 20;

fn workload(nr: usize) -> WorkloadName {
    WorkloadName::parse(&format!("w{nr}")).unwrap()
}

fn of(owner: Owner, purpose: Purpose, bytes: u64) -> Claim {
    Claim {
        owner,
        purpose,
        bytes,
    }
}

fn divided(max: u64, workloads: usize) -> Spool {
    let mut spool = Spool::new(max);
    spool.divide((0..workloads).map(workload));
    spool
}

/// A login with room for its end.
fn login(owner: Owner) -> [Claim; 2] {
    [
        of(owner.clone(), Purpose::Act, 600),
        of(owner, Purpose::Promise, 700),
    ]
}

/// Something that happens to a ledger.
#[derive(Clone, Debug)]
enum Step {
    /// An entry is wanted.
    Asks(Owner, Purpose, u64),
    /// A token is wanted.
    LogsIn(Owner),
    /// So many grants end, of those that live.
    End(usize),
    /// So many entries are delivered, oldest first.
    Delivered(usize),
}

fn owner() -> impl Strategy<Value = Owner> {
    prop_oneof![
        4 => (0usize..12).prop_map(|nr| Owner::Workload(workload(nr))),
        2 => (0u32..1300).prop_map(Owner::Uid),
        1 => Just(Owner::Unnamed),
        1 => Just(Owner::Host),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let purpose = prop_oneof![Just(Purpose::Act), Just(Purpose::End), Just(Purpose::Note)];
    prop_oneof![
        4 => (owner(), purpose, prop_oneof![1u64..2000, 1u64..200_000])
            .prop_map(|(owner, purpose, bytes)| Step::Asks(owner, purpose, bytes)),
        4 => owner().prop_map(Step::LogsIn),
        1 => (0usize..4).prop_map(Step::End),
        1 => (0usize..4).prop_map(Step::Delivered),
    ]
}

/// A spool with what was taken of it.
struct Taken {
    spool: Spool,
    entries: Vec<Claim>,
    living: Vec<Owner>,
}

impl Taken {
    fn new(spool: Spool) -> Self {
        Self {
            spool,
            entries: Vec::new(),
            living: Vec::new(),
        }
    }

    fn admit(&mut self, claims: &[Claim]) -> bool {
        let before = self.spool.clone();
        let admitted = self.spool.admit(claims).is_ok();
        match admitted {
            true => self.entries.extend(
                claims
                    .iter()
                    .filter(|claim| claim.purpose != Purpose::Promise)
                    .cloned(),
            ),
            false => assert_eq!(self.spool, before, "all or nothing"),
        }
        admitted
    }

    fn log_in(&mut self, owner: Owner) -> bool {
        let admitted = self.admit(&login(owner.clone()));
        if admitted {
            self.living.push(owner);
        }
        admitted
    }

    /// The oldest grant ends: its entry is as large as it may be.
    fn end_one(&mut self) {
        if self.living.is_empty() {
            return;
        }
        let owner = self.living.remove(0);
        let entry = of(owner, Purpose::PromisedEnd, 700);
        assert!(self.admit(&[entry]), "room was promised");
        let mut promised = BTreeMap::new();
        for owner in &self.living {
            *promised.entry(owner.clone()).or_insert(0) += 700;
        }
        self.spool.set_promised(&promised);
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Asks(owner, purpose, bytes) => drop(self.admit(&[of(owner, purpose, bytes)])),
            Step::LogsIn(owner) => drop(self.log_in(owner)),
            Step::End(count) => (0..count).for_each(|_| self.end_one()),
            Step::Delivered(count) => {
                let count = count.min(self.entries.len());
                for claim in self.entries.drain(..count) {
                    self.spool.give_back(&claim);
                }
            }
        }
    }

    /// What is counted is what there is, and all of it together is no more than there may be.
    fn assert_sound(&self) {
        let spool = &self.spool;
        let entries: u64 = self.entries.iter().map(|claim| claim.bytes).sum();
        assert_eq!(spool.entries(), entries);
        assert!(spool.entries() + spool.promised() <= spool.max());
        let mut counted_anew = spool.clone();
        counted_anew.divide(spool.workloads.clone());
        assert_eq!(&counted_anew, spool);
    }
}

proptest! {
    #[test]
    fn whatever_others_do_a_workload_s_own_reserve_and_what_was_promised_are_there(
        max in prop_oneof![Just(MIB), MIB..8 * MIB],
        workloads in 1usize..12,
        steps in prop::collection::vec(step(), 1..300),
    ) {
        let mut taken = Taken::new(divided(max, workloads));
        // The last of them is quiet.
        let quiet = Owner::Workload(workload(workloads - 1));
        for step in steps {
            match &step {
                Step::Asks(owner, ..) | Step::LogsIn(owner) if *owner == quiet => {}
                _ => taken.take(step),
            }
            taken.assert_sound();
        }
        let figure = taken.spool.figure(quiet.clone());
        let ShareFigures { most_for_acts, by_others, left, .. } = figure;
        prop_assert_eq!((figure.taken, by_others + left), (0, most_for_acts));
        let reserve = taken.spool.reserve(&quiet);
        let logins = reserve.acts / 1300;
        prop_assert!(logins >= 1);
        for nr in 0..logins {
            prop_assert!(taken.log_in(quiet.clone()), "login {nr} of {logins}");
        }
        let note = of(quiet.clone(), Purpose::Note, reserve.notes);
        prop_assert!(taken.admit(&[note]));
        while !taken.living.is_empty() {
            taken.end_one();
        }
        taken.assert_sound();
    }

    #[test]
    fn for_any_number_of_workloads_the_parts_are_no_more_than_the_whole(
        max in prop_oneof![0..MIB, any::<u64>()],
        workloads in prop_oneof![0usize..2000, any::<usize>()],
    ) {
        let Division { host, ends, workload, shared } = Division::of(max, workloads);
        let count = u64::try_from(workloads).unwrap();
        let own = (workload.acts + workload.notes).checked_mul(count).unwrap();
        let all = [host, ends, own, shared].into_iter().try_fold(0u64, u64::checked_add);
        prop_assert!(all.unwrap() <= max);
    }

    #[test]
    fn dividing_anew_takes_nothing_away_and_gives_no_more_than_there_is(
        steps in prop::collection::vec(step(), 1..200),
        workloads in prop::collection::vec(0usize..12, 1..5),
    ) {
        let mut taken = Taken::new(divided(MIB, 2));
        for step in steps {
            taken.take(step);
        }
        for count in workloads {
            let entries = taken.spool.entries();
            taken.spool.divide((0..count).map(workload));
            prop_assert_eq!(taken.spool.entries(), entries);
            for nr in 0..count {
                while taken.log_in(Owner::Workload(workload(nr))) {}
            }
            taken.assert_sound();
        }
    }
}

/// Fills all that it can, in every kind of entry.
fn fill(taken: &mut Taken, owner: &Owner) {
    while taken.log_in(owner.clone()) {}
    for purpose in [Purpose::Note, Purpose::Act, Purpose::End] {
        while taken.admit(&[of(owner.clone(), purpose, 400)]) {}
    }
}

#[test]
fn one_that_takes_all_that_it_can_leaves_everybody_else_room_in_every_kind_of_entry() {
    let hogs = [
        Owner::Workload(workload(0)),
        Owner::Uid(7),
        Owner::Unnamed,
        Owner::Host,
    ];
    for hog in hogs {
        let mut taken = Taken::new(divided(MIB, 3));
        fill(&mut taken, &hog);
        for other in [Owner::Workload(workload(1)), Owner::Uid(8), Owner::Host] {
            if other == hog {
                continue;
            }
            for purpose in [Purpose::Act, Purpose::Note, Purpose::End] {
                // Nothing is noted of Holdover itself.
                if other == Owner::Host && purpose == Purpose::Note {
                    continue;
                }
                let claim = of(other.clone(), purpose, 400);
                assert!(taken.admit(&[claim]), "{hog} before {other}, {purpose:?}");
            }
        }
        taken.assert_sound();
    }
}

#[test]
fn any_number_of_uids_leave_a_workload_more_than_its_reserve() {
    let mut taken = Taken::new(divided(MIB, 3));
    for uid in 0..5000 {
        fill(&mut taken, &Owner::Uid(uid));
    }
    let one = Owner::Workload(workload(1));
    let mut logins = 0;
    while taken.log_in(one.clone()) {
        logins += 1;
    }
    let reserve = taken.spool.reserve(&one).acts;
    assert!(logins * 1300 > reserve, "{logins} logins, {reserve} bytes");
    assert!(taken.spool.accounts().count() <= MAX_UIDS + 2);
    let notes = of(one, Purpose::Note, 400);
    assert!(taken.admit(&[notes]));
}

#[test]
fn what_is_noted_of_a_workload_leaves_it_what_is_kept_for_logins() {
    let mut taken = Taken::new(divided(MIB, 2));
    let one = Owner::Workload(workload(0));
    while taken.admit(&[of(one.clone(), Purpose::Note, 300)]) {}
    let before = taken.spool.figure(one.clone());
    assert!(before.left >= taken.spool.reserve(&one).acts);
    assert!(taken.log_in(one));
}

#[test]
fn who_has_taken_nothing_is_told_what_others_did() {
    let mut taken = Taken::new(divided(MIB, 3));
    for nr in [0, 1] {
        fill(&mut taken, &Owner::Workload(workload(nr)));
    }
    let figure = taken.spool.figure(Owner::Workload(workload(2)));
    assert_eq!((figure.used, figure.taken), (0, 0));
    assert!(figure.percent() > 50 && !figure.is_full(), "{figure:?}");
    let told = figure.by_others * 100 / figure.most_for_acts;
    assert_eq!(told, figure.percent());
}

#[test]
fn a_full_share_is_told_with_its_figures_and_has_room_once_it_was_delivered() {
    let mut taken = Taken::new(divided(MIB, 2));
    let (one, two) = (Owner::Workload(workload(0)), Owner::Workload(workload(1)));
    while taken.log_in(one.clone()) {}
    let full = taken.spool.admit(&login(one.clone())).unwrap_err();
    let figure = taken.spool.figure(one.clone());
    assert!(figure.left < ROOM_OF_A_LOGIN && figure.used + figure.promised <= figure.most);
    let text = format!("{full}");
    assert!(
        text.starts_with("the share of workload w0 in the ledger is full: "),
        "{text}"
    );
    assert!(matches!(full, Full::Share { used, most, .. } if used <= most && used + 1300 > most));
    let untouched = taken.spool.figure(two);
    assert_eq!((untouched.used, untouched.promised), (0, 0));
    taken.take(Step::Delivered(usize::MAX));
    assert!(taken.log_in(one));
    taken.assert_sound();
}

#[test]
fn an_entry_counts_for_its_workload_else_its_uid_and_what_is_nobodys_for_holdover() {
    let entry = |kind, workload: Option<&str>, uid| Entry {
        workload: workload.map(|name| WorkloadName::parse(name).unwrap()),
        uid,
        ..Entry::new(kind, "allowed", crate::time::WallTime::EPOCH)
    };
    let a = || Owner::Workload(WorkloadName::parse("a").unwrap());
    let cases = vec![
        (
            entry(EntryKind::Grant, Some("a"), Some(1)),
            a(),
            Purpose::Act,
        ),
        (
            entry(EntryKind::Renewal, Some("a"), None),
            a(),
            Purpose::Act,
        ),
        (
            entry(EntryKind::Read, None, Some(1)),
            Owner::Uid(1),
            Purpose::Note,
        ),
        (
            entry(EntryKind::Denial, None, None),
            Owner::Unnamed,
            Purpose::Note,
        ),
        (
            entry(EntryKind::Revocation, Some("a"), None),
            a(),
            Purpose::End,
        ),
        (
            entry(EntryKind::Operator, Some("a"), Some(1)),
            Owner::Host,
            Purpose::Act,
        ),
        (
            entry(EntryKind::State, None, None),
            Owner::Host,
            Purpose::Act,
        ),
        (
            entry(EntryKind::Unknown, None, None),
            Owner::Host,
            Purpose::Act,
        ),
        (
            entry(EntryKind::Unknown, None, Some(1)),
            Owner::Uid(1),
            Purpose::Act,
        ),
    ];
    for (entry, owner, purpose) in cases {
        assert_eq!(
            (entry.owner(), entry.purpose()),
            (owner, purpose),
            "{entry:?}"
        );
    }
    let outage = || crate::name::OutageId::parse("o-1").ok();
    let digest = crate::name::TokenDigest([1; 32]);
    let ended = |workload, outage| Entry {
        token: Some(digest),
        outage,
        ..entry(EntryKind::Operator, workload, Some(0))
    };
    for (entry, owner) in [
        (ended(Some("a"), outage()), a()),
        (ended(Some("a"), None), Owner::Host),
        (ended(None, outage()), Owner::Host),
    ] {
        assert_eq!((entry.owner(), entry.purpose()), (owner, Purpose::End));
    }
    let mut noted = entry(EntryKind::Unknown, None, None);
    noted.count = Some(3);
    assert_eq!(
        (noted.owner(), noted.purpose()),
        (Owner::Unnamed, Purpose::Note)
    );
}
