//! What makes a host ready, and what bounds its autonomy.

use proptest::prelude::*;
use shared::{
    block::BlockCause,
    damage::RowKind,
    failover::Outage,
    ledger::{
        claim::Owner,
        share::{ROOM_OF_A_LOGIN, ShareFigures},
    },
    name::{EntityId, PolicyName},
    settings::Footing,
    time::BootTime,
};

use super::{footing::FOOTINGS_SHOWN, own::RIGHTS_SHOWN, *};
use crate::samples;

const HOUR: u64 = 3600;

fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

fn now() -> Now {
    Now {
        boot: BootTime::from_millis(500_000_000),
        ..samples::at(0)
    }
}

fn block(cause: BlockCause) -> IssuingBlock {
    IssuingBlock {
        cause,
        since: ago(60),
    }
}

fn damage() -> Damage {
    Damage {
        kind: RowKind::Identity,
        rows: 1,
        names: Vec::new(),
        incomplete: false,
    }
}

fn ago(age: u64) -> WallTime {
    now().wall.minus(secs(age))
}

fn mirror(path: &str, age: Option<u64>, bound: u64) -> MirrorStatus {
    MirrorStatus {
        path: path.to_owned(),
        count: 1,
        age: age.map(WholeSeconds::from),
        max_staleness: WholeSeconds::from(bound),
        ..MirrorStatus::default()
    }
}

fn workload(name: &str, issue: bool, age: Option<u64>) -> WorkloadFacts {
    WorkloadFacts {
        name: WorkloadName::parse(name).unwrap(),
        issue,
        verified_at: age.map(ago),
        failures: Vec::new(),
    }
}

fn footing(what: Footing, age: u64) -> FootingFacts {
    FootingFacts {
        what,
        verified_at: ago(age),
        used: true,
    }
}

fn ledger(percent: u64) -> LedgerFacts {
    let most = 200 * ROOM_OF_A_LOGIN;
    LedgerFacts {
        shares: vec![ShareFigures {
            owner: Owner::Workload(WorkloadName::parse("orders").unwrap()),
            used: 0,
            promised: 0,
            reserve: most / 2,
            most,
            most_for_acts: most,
            taken: 0,
            by_others: most * percent / 100,
            left: most - most * percent / 100,
        }],
        to_journald: true,
        untaken: None,
        unstored: None,
        dropped: 0,
    }
}

fn outage(bound: u64, began: u64) -> Outage {
    Outage {
        started_at: ago(began),
        bound: Deadline::after(secs(bound), now()),
        ..samples::outage(now())
    }
}

/// A host on which everything is well: 12 h of autonomy.
fn healthy() -> ReadyFacts {
    ReadyFacts {
        now: now(),
        phase: Phase::Following,
        bounds: samples::settings(&[]).bounds,
        footings: vec![footing(Footing::Mounts, 30), footing(Footing::Policies, 30)],
        primary: PrimaryFacts {
            cluster: true,
            policies: true,
            undecidable: Vec::new(),
            credential: Some(now().wall.plus(secs(HOUR))),
            own: OwnSnapshot::default(),
            untrusted: None,
            unidentified: None,
            missing: Vec::new(),
        },
        mirrors: vec![mirror("secret/data/a/*", Some(10), 24 * HOUR)],
        leases: Vec::new(),
        workloads: vec![workload("orders", true, Some(30))],
        store: StoreFacts {
            room: Some(ROOM),
            ..StoreFacts::default()
        },
        ledger: ledger(74),
        clock: ClockState::Steady,
        offboarded: None,
        blocks: Vec::new(),
        quarantines: Vec::new(),
        findings: Vec::new(),
    }
}

fn undecided(rule: Option<Undecidable>) -> Undecided {
    Undecided {
        policy: "odd".to_owned(),
        rule,
    }
}

fn missing(in_outages: bool) -> MissingRight {
    MissingRight {
        path: "sys/x".to_owned(),
        capabilities: vec!["read".to_owned()],
        rule: Some("sys/+".to_owned()),
        why: Some("why".to_owned()),
        in_outages,
        supposed: false,
    }
}

fn bound(facts: &ReadyFacts) -> (u64, String) {
    let autonomy = assess(facts).autonomy;
    (autonomy.left.as_secs(), autonomy.bound_by.to_string())
}

#[test]
fn a_healthy_host_is_ready_for_its_longest_outage() {
    let readiness = assess(&healthy());
    assert_eq!(readiness.reasons, Vec::<String>::new());
    assert_eq!(readiness.findings, Vec::<String>::new());
    // What was verified 30 s ago leaves an outage 30 s less.
    assert_eq!(bound(&healthy()), (12 * HOUR - 30, "max_outage".to_owned()));
}

#[test]
fn every_fault_alone_is_one_reason() {
    type Fault = (fn(&mut ReadyFacts), &'static str);
    let faults: [Fault; 22] = [
        (
            |f| f.primary.missing.push(missing(true)),
            "the primary refuses Holdover read on sys/x",
        ),
        (|f| f.primary.credential = None, "no token of its own"),
        (
            |f| {
                f.offboarded = Some(OffboardedFacts {
                    since: ago(5),
                    reads_end: ago(0),
                });
                f.primary.own.refused = true;
            },
            "offboarded: the primary refuses Holdover's own credential since",
        ),
        (
            |f| f.primary.own.refused = true,
            "the primary refuses Holdover's own token",
        ),
        (
            |f| f.primary.credential = Some(ago(1)),
            "Holdover's own token ended",
        ),
        (|f| f.store.rolled_back = true, "older than its anchor"),
        (
            |f| f.store.damage = vec![damage()],
            "damaged in the replica: identities",
        ),
        (
            |f| f.ledger = ledger(100),
            "workload orders: the ledger has no room for it (of 409600 bytes it has taken 0, and others 409600): nothing is issued for it until journald has taken its entries, or ledger.max_size is raised",
        ),
        (
            |f| {
                f.ledger = ledger(100);
                f.ledger.to_journald = false;
            },
            "until ledger.max_size is raised: nothing takes entries",
        ),
        (
            |f| f.blocks.push(block(BlockCause::Rebooted)),
            "the machine was rebooted",
        ),
        (|f| f.primary.cluster = false, "never seen"),
        (
            |f| f.primary.untrusted = Some(TlsFault::Never("ca.pem: is empty".to_owned())),
            "primary.ca_file: ca.pem: is empty",
        ),
        (|f| f.primary.policies = false, "policies were never copied"),
        (
            |f| f.mirrors.push(mirror("kv/a", None, HOUR)),
            "mirror kv/a: no complete pass",
        ),
        (
            |f| f.mirrors.push(mirror("kv/a", Some(HOUR), HOUR)),
            "mirror kv/a: not verified for 3600 s",
        ),
        (
            |f| f.workloads.push(workload("x", true, None)),
            "workload x",
        ),
        (
            |f| f.workloads.push(workload("x", true, Some(901))),
            "workload x",
        ),
        (
            |f| f.store.failure = Some("disk".to_owned()),
            "takes no changes: disk",
        ),
        (
            |f| f.store.sealed = Some("moved".to_owned()),
            "does not open: moved",
        ),
        (|f| f.store.room = Some(ROOM - 1), "63 MiB"),
        (|f| f.blocks.push(block(BlockCause::ClockBehind)), "behind"),
        (
            |f| f.clock = ClockState::SteppedForward(secs(9)),
            "forward by 9 s",
        ),
    ];
    for (fault, text) in faults {
        let mut facts = healthy();
        fault(&mut facts);
        let readiness = assess(&facts);
        assert!(!readiness.is_ready());
        assert!(
            matches!(readiness.reasons.as_slice(), [one] if one.contains(text)),
            "{text}: {readiness:?}"
        );
    }
}

#[test]
fn a_long_list_of_refused_rights_is_cut_and_counted() {
    let mut facts = healthy();
    facts.primary.missing = vec![missing(true); RIGHTS_SHOWN + 3];
    let reasons = assess(&facts).reasons;
    assert_eq!(reasons.len(), RIGHTS_SHOWN + 1);
    assert!(reasons.last().unwrap().starts_with("3 more rights"));
}

#[test]
fn a_long_list_of_what_cannot_be_decided_by_is_cut_and_counted() {
    let mut facts = healthy();
    facts.primary.undecidable = vec![undecided(None); UNDECIDED_SHOWN + 3];
    let findings = assess(&facts).findings;
    assert_eq!(findings.len(), UNDECIDED_SHOWN + 1);
    assert!(findings.last().unwrap().starts_with("3 more policy rules"));
}

#[test]
fn what_only_needs_knowing_is_a_finding() {
    type Oddity = (fn(&mut ReadyFacts), &'static str);
    let oddities: [Oddity; 12] = [
        (
            |f| f.ledger = ledger(75),
            "workload orders: its room in the ledger is 75 % full (of 409600 bytes it has taken 0, and others 307200)",
        ),
        (
            |f| f.ledger.untaken = Some("refused".to_owned()),
            "journald does not take the ledger's entries: refused",
        ),
        (
            |f| f.ledger.unstored = Some("disk full".to_owned()),
            "what journald took of the ledger's entries makes no room, because the replica does not say or store which it were: disk full",
        ),
        (
            |f| f.ledger.dropped = 2,
            "2 entries of what was done all the same found no room in the ledger since the start",
        ),
        (
            |f| f.ledger.shares[0].reserve = 31 * ROOM_OF_A_LOGIN,
            "ledger.max_size keeps room for about 31 logins for each of 1 workloads",
        ),
        (
            |f| f.primary.undecidable.push(undecided(None)),
            "policy odd cannot be read",
        ),
        (
            |f| {
                let path = "kv/a".to_owned();
                let rule = Undecidable::ControlGroup { path };
                f.primary.undecidable.push(undecided(Some(rule)));
            },
            "policy odd: the rule for \"kv/a\" asks for approval",
        ),
        (
            |f| {
                f.phase = Phase::Holdover(outage(HOUR, 1));
                f.primary.credential = Some(now().wall);
            },
            "own token ended",
        ),
        (
            |f| f.primary.missing.push(missing(false)),
            "the primary refuses Holdover read on sys/x: grant it by the rule for path \"sys/+\" (why)",
        ),
        (
            |f| f.workloads.push(workload("x", false, None)),
            "workload x: issuing",
        ),
        (
            |f| f.clock = ClockState::SteppedBack(secs(9)),
            "back by 9 s",
        ),
        (|f| f.findings.push("known".to_owned()), "known"),
    ];
    for (oddity, text) in oddities {
        let mut facts = healthy();
        oddity(&mut facts);
        let readiness = assess(&facts);
        assert!(readiness.is_ready(), "{readiness:?}");
        assert!(
            matches!(readiness.findings.as_slice(), [one] if one.contains(text)),
            "{text}: {readiness:?}"
        );
    }
    let mut failing = healthy();
    failing.mirrors = vec![MirrorStatus {
        errors: 3,
        ..mirror("kv/a", Some(1), HOUR)
    }];
    assert!(
        assess(&failing)
            .findings
            .iter()
            .any(|text| text.contains("kv/a: 3 failed passes"))
    );
}

/// A healthy host with a pool of four.
fn pooled(ready: u64, short_for: Option<u64>) -> ReadyFacts {
    let mut facts = healthy();
    facts.mirrors = vec![MirrorStatus {
        pool: Some(PoolStatus {
            path: "db/creds/a".to_owned(),
            size: 4,
            ready,
            handed_out: 0,
            short_since: short_for.map(ago),
        }),
        ..mirror("db/creds/a", Some(1), HOUR)
    }];
    facts
}

#[test]
fn an_empty_pool_is_a_reason_before_an_outage_and_a_short_one_is_told_after_a_while() {
    for (ready, short_for, reasons, findings) in [
        (4, None, 0, 0),
        (3, Some(59), 0, 0),
        (3, Some(60), 0, 1),
        (0, Some(1), 1, 0),
        (0, Some(600), 1, 0),
    ] {
        let shown = assess(&pooled(ready, short_for));
        assert_eq!(
            (shown.reasons.len(), shown.findings.len()),
            (reasons, findings),
            "{ready} {short_for:?}: {shown:?}"
        );
    }
    for (ready, findings) in [(4, 0), (1, 0), (0, 1)] {
        let mut facts = pooled(ready, Some(600));
        facts.phase = Phase::Holdover(outage(HOUR, 60));
        let shown = assess(&facts);
        assert_eq!(
            (shown.reasons.len(), shown.findings.len()),
            (0, findings),
            "{shown:?}"
        );
    }
}

#[test]
fn what_a_mirror_or_a_verification_says_of_itself_is_told_once() {
    let shown = || vec!["403: permission denied".to_owned()];
    let mut facts = healthy();
    facts.workloads = vec![WorkloadFacts {
        failures: shown(),
        ..workload("x", true, None)
    }];
    facts.mirrors = vec![MirrorStatus {
        reasons: vec!["5 keys vanished".to_owned()],
        findings: vec!["SCAN is refused".to_owned()],
        ..mirror("kv/a", Some(1), HOUR)
    }];
    let Readiness {
        reasons, findings, ..
    } = assess(&facts);
    assert!(
        matches!(reasons.as_slice(), [mirror, workload]
            if mirror == "mirror kv/a: 5 keys vanished" && workload.ends_with("403: permission denied")),
        "{reasons:?}"
    );
    assert_eq!(findings, ["mirror kv/a: SCAN is refused"]);
    facts.mirrors.clear();
    facts.workloads = vec![WorkloadFacts {
        failures: shown(),
        ..workload("x", true, Some(1))
    }];
    let Readiness {
        reasons, findings, ..
    } = assess(&facts);
    assert!(reasons.is_empty());
    assert_eq!(findings, ["workload x: 403: permission denied"]);
}

#[test]
fn the_smallest_bound_is_named() {
    let mut facts = healthy();
    facts.mirrors.push(mirror("kv/old", Some(100), HOUR));
    assert_eq!(bound(&facts), (HOUR - 100, "staleness kv/old".to_owned()));
    facts.leases.push(LeaseFacts {
        path: "database/creds/orders".to_owned(),
        deadline: Deadline::after(secs(60), now()),
    });
    assert_eq!(
        bound(&facts),
        (60, "lease database/creds/orders".to_owned())
    );
    facts.workloads.push(workload("late", true, Some(HOUR)));
    assert_eq!(bound(&facts), (0, "authority late".to_owned()));
}

#[test]
fn in_an_outage_its_own_bound_counts_and_authority_is_as_old_as_at_the_cutover() {
    let mut facts = healthy();
    facts.phase = Phase::Holdover(outage(500, HOUR));
    facts.workloads = vec![workload("orders", true, Some(HOUR + 900))];
    assert!(assess(&facts).is_ready());
    assert_eq!(bound(&facts), (500, "max_outage".to_owned()));
    facts.workloads = vec![workload("orders", true, Some(HOUR + 901))];
    assert_eq!(bound(&facts), (0, "authority orders".to_owned()));
    facts.phase = Phase::Exhausted(outage(0, HOUR));
    facts.workloads.clear();
    assert!(!assess(&facts).is_ready());
    assert_eq!(bound(&facts), (0, "max_outage".to_owned()));
}

#[test]
fn a_mirror_without_a_pass_has_no_age_and_leaves_no_autonomy() {
    let fresh = mirror("kv/a", None, HOUR);
    assert_eq!(fresh.age, None);
    let facts = ReadyFacts {
        mirrors: vec![fresh],
        ..healthy()
    };
    assert_eq!(bound(&facts), (0, "staleness kv/a".to_owned()));
}

/// What a host says of which nothing but this footing is amiss.
fn said(footing: FootingFacts, phase: Phase) -> Readiness {
    assess(&ReadyFacts {
        footings: vec![footing],
        phase,
        ..healthy()
    })
}

#[test]
fn what_would_decide_nothing_is_a_reason_as_soon_as_it_would_not() {
    let entity = EntityId::parse("e-1").unwrap();
    let policy = PolicyName::parse("orders").unwrap();
    for what in [
        Footing::Identity(entity),
        Footing::Mounts,
        Footing::Policies,
        Footing::Policy(policy),
    ] {
        assert!(said(footing(what.clone(), HOUR), Phase::Following).is_ready());
        let old = said(footing(what.clone(), HOUR + 1), Phase::Following);
        let [reason] = old.reasons.as_slice() else {
            panic!("{:?}", old.reasons)
        };
        let named = format!("{what}: last verified 3601 s ago");
        assert!(reason.starts_with(&named), "{reason}");
        assert!(reason.contains("failover.policy_max_age is 1h"), "{reason}");
        // Within an outage it grows no older.
        let cut = |age| {
            said(
                footing(what.clone(), age),
                Phase::Holdover(outage(500, 600)),
            )
        };
        assert!(cut(HOUR + 600).is_ready());
        assert!(!cut(HOUR + 601).is_ready());
    }
}

#[test]
fn a_policy_that_nothing_depends_on_is_told_of_and_no_reason() {
    let policy = Footing::Policy(PolicyName::parse("unused").unwrap());
    let said = said(
        FootingFacts {
            used: false,
            verified_at: WallTime::EPOCH,
            ..footing(policy, 0)
        },
        Phase::Following,
    );
    assert!(said.is_ready());
    let [finding] = said.findings.as_slice() else {
        panic!("{:?}", said.findings)
    };
    assert!(
        finding.starts_with("policy unused: never verified"),
        "{finding}"
    );
}

#[test]
fn nothing_lasts_where_nothing_could_be_decided() {
    let bound_with = |what, workloads| {
        let facts = ReadyFacts {
            footings: vec![footing(what, HOUR + 1)],
            workloads,
            ..healthy()
        };
        bound(&facts)
    };
    let orders = || vec![workload("orders", true, Some(30))];
    for what in [Footing::Mounts, Footing::Policies] {
        let by_authority = (0, "authority orders".to_owned());
        assert_eq!(bound_with(what.clone(), orders()), by_authority);
        let by_value = (0, "staleness secret/data/a/*".to_owned());
        assert_eq!(bound_with(what, Vec::new()), by_value);
    }
    // What depends on one of many is not all.
    let one = Footing::Identity(EntityId::parse("e-1").unwrap());
    assert_eq!(bound_with(one, orders()), bound(&healthy()));
}

#[test]
fn many_that_are_too_old_are_told_of_in_few_words() {
    let many = |nr| {
        footing(
            Footing::Identity(EntityId::parse(&format!("e-{nr}")).unwrap()),
            2 * HOUR,
        )
    };
    let readiness = assess(&ReadyFacts {
        footings: (0..50).map(many).collect(),
        ..healthy()
    });
    assert_eq!(readiness.reasons.len(), FOOTINGS_SHOWN + 1);
    assert!(readiness.reasons[FOOTINGS_SHOWN].starts_with("30 more "));
}

fn facts() -> impl Strategy<Value = ReadyFacts> {
    let mirrors = proptest::collection::vec((proptest::option::of(0..2 * HOUR), 0..2 * HOUR), 0..4);
    let workloads =
        proptest::collection::vec((any::<bool>(), proptest::option::of(0..2 * HOUR)), 0..4);
    let leases = proptest::collection::vec(0..2 * HOUR, 0..3);
    let phase = prop_oneof![
        Just(Phase::Following),
        Just(Phase::Suspect),
        (0..HOUR, 0..HOUR).prop_map(|(bound, began)| Phase::Holdover(outage(bound, began))),
        (0..HOUR).prop_map(|began| Phase::Exhausted(outage(0, began))),
    ];
    (
        mirrors,
        workloads,
        leases,
        phase,
        0..2 * HOUR,
        any::<bool>(),
        0..2 * HOUR,
    )
        .prop_map(
            |(mirrors, workloads, leases, phase, max_outage, cluster, seen)| {
                let mut facts = healthy();
                facts.footings = vec![footing(Footing::Policies, seen)];
                facts.mirrors = mirrors
                    .into_iter()
                    .map(|(age, bound)| mirror("kv/x", age, bound))
                    .collect();
                facts.workloads = workloads
                    .into_iter()
                    .map(|(issue, age)| workload("w", issue, age))
                    .collect();
                let lease = |left| LeaseFacts {
                    path: "db".to_owned(),
                    deadline: Deadline::after(secs(left), now()),
                };
                facts.leases = leases.into_iter().map(lease).collect();
                facts.bounds.max_outage = secs(max_outage);
                facts.primary.cluster = cluster;
                facts.phase = phase;
                facts
            },
        )
}

proptest! {
    #[test]
    fn autonomy_is_no_more_than_any_bound(facts in facts()) {
        let left = assess(&facts).autonomy.left;
        prop_assert!(left <= facts.bounds.max_outage.max(secs(HOUR)));
        for mirror in &facts.mirrors {
            prop_assert!(left <= mirror.max_staleness.0);
        }
        for lease in &facts.leases {
            prop_assert!(left <= lease.deadline.remaining(facts.now));
        }
    }

    #[test]
    fn a_host_that_serves_or_issues_nothing_of_something_is_not_ready(facts in facts()) {
        let readiness = assess(&facts);
        let lacking = matches!(readiness.autonomy.bound_by, AutonomyBound::Staleness(_) | AutonomyBound::Authority(_));
        if readiness.autonomy.left.is_zero() && lacking {
            prop_assert!(!readiness.is_ready());
        }
    }

    #[test]
    fn as_time_passes_without_the_primary_autonomy_only_shrinks(facts in facts(), passed in 0..HOUR) {
        let mut later = facts.clone();
        later.now.wall = facts.now.wall.plus(secs(passed));
        later.now.steady = facts.now.steady.plus(secs(passed));
        later.now.boot = facts.now.boot.plus(secs(passed));
        let verified = facts.workloads.iter().any(|workload| workload.verified_at.is_some());
        prop_assume!(verified || facts.phase.is_outage());
        prop_assert!(assess(&later).autonomy.left <= assess(&facts).autonomy.left);
    }
}
