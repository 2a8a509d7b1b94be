//! Claims about the machine, each driven by hand or by a simulated world of probes.

use alloc::{string::String, vec, vec::Vec};
use core::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::{backoff::spread, name::OutageId, samples, time::WallTime};

const KNOBS: Knobs = Knobs {
    failures: 3,
    successes: 3,
    probe_interval: Duration::from_secs(5),
    probe_timeout: Duration::from_millis(500),
    connect_timeout: Duration::from_millis(500),
    max_outage: Duration::from_secs(3600),
};

/// A machine and its clock: events go in, time goes on by hand.
#[derive(Clone)]
struct Bench {
    machine: Machine,
    now: Now,
    authority: Option<WallTime>,
    outages: u32,
    jitter: f64,
}

impl Bench {
    fn new(stored: Option<Phase>) -> Self {
        let now = samples::now(1_000_000);
        let authority = Some(now.steady);
        Self {
            machine: Machine::start(KNOBS, stored, now),
            now,
            authority,
            outages: 0,
            jitter: Backoff::EVEN,
        }
    }

    fn following() -> Self {
        let mut bench = Self::new(None);
        bench.probe(good());
        assert_eq!(bench.machine.phase(), Phase::Following);
        bench
    }

    fn holdover() -> Self {
        let mut bench = Self::following();
        while !bench.machine.phase().is_outage() {
            bench.probe(bad());
        }
        bench
    }

    fn handle(&mut self, event: Event) -> Vec<Action> {
        let id = OutageId::parse(&alloc::format!("o{}", self.outages)).unwrap();
        let context = Context {
            now: self.now,
            authority: self.authority,
            fresh_id: &id,
            jitter: self.jitter,
        };
        let actions = self.machine.handle(event, &context);
        let begun = actions
            .iter()
            .any(|a| matches!(a, Action::Enter(Phase::Holdover(o)) if o.id == id));
        self.outages += u32::from(begun);
        actions
    }

    fn pass(&mut self, span: Duration) -> Vec<Action> {
        self.now.wall = self.now.wall.plus(span);
        self.now.steady = self.now.steady.plus(span);
        self.now.boot = self.now.boot.plus(span);
        self.handle(Event::Wake)
    }

    /// Goes on to the next probe and ends it with `end`: to the next whole one, if that is what is to be good.
    fn probe(&mut self, end: Probe) -> Vec<Action> {
        loop {
            let id = self.next_probe();
            let whole = self.machine.pending.is_some_and(|pending| pending.audited);
            if whole || end != good() {
                return self.handle(Event::Probed(id, end));
            }
            let half = Probe::Good { audited: false };
            assert_eq!(entered(&self.handle(Event::Probed(id, half))), [""; 0]);
        }
    }

    fn next_probe(&mut self) -> ActionId {
        for _ in 0..1000 {
            if let Some(pending) = self.machine.pending {
                return pending.id;
            }
            let wait = self.machine.deadline(self.now).since(self.now.boot);
            let _ = self.pass(wait);
        }
        panic!("no probe in {:?}", self.machine);
    }
}

fn good() -> Probe {
    Probe::Good { audited: true }
}

fn bad() -> Probe {
    failed(false)
}

/// A failed probe, of an address that accepted the connection or did not.
fn failed(accepted: bool) -> Probe {
    Probe::Failed {
        cause: Cause::Unreachable(String::from("refused")),
        accepted,
    }
}

fn entered(actions: &[Action]) -> Vec<&'static str> {
    let names = actions.iter().filter_map(|action| match action {
        Action::Enter(phase) => Some(phase.name()),
        _ => None,
    });
    names.collect()
}

fn recovery(actions: &[Action]) -> Option<ActionId> {
    actions.iter().find_map(|action| match action {
        Action::Recover { id, .. } => Some(*id),
        _ => None,
    })
}

#[test]
fn a_start_is_suspect_and_probes_with_its_credential_at_once() {
    let mut bench = Bench::new(None);
    assert_eq!(bench.machine.phase(), Phase::Suspect);
    let actions = bench.handle(Event::Wake);
    assert!(matches!(
        actions.as_slice(),
        [Action::Probe { audited: true, .. }]
    ));
}

#[test]
fn three_failures_in_a_row_cut_over_and_two_do_not() {
    let mut bench = Bench::following();
    assert_eq!(entered(&bench.probe(bad())), ["suspect"]);
    assert_eq!(entered(&bench.probe(bad())), [""; 0]);
    assert_eq!(entered(&bench.probe(good())), ["following"]);
    assert_eq!(entered(&bench.probe(bad())), ["suspect"]);
    let _ = bench.probe(bad());
    assert_eq!(entered(&bench.probe(bad())), ["holdover"]);
}

#[test]
fn a_dead_primary_is_noticed_within_the_stated_time() {
    let mut bench = Bench::following();
    let start = bench.now.boot;
    let _ = bench.handle(Event::ForwardFailed);
    while !bench.machine.phase().is_outage() {
        // Every probe hangs until its timeout.
        let _ = bench.pass(KNOBS.probe_timeout);
        if let Some(pending) = bench.machine.pending {
            let _ = bench.handle(Event::Probed(pending.id, bad()));
        }
    }
    let limit = KNOBS.worst_detection(Duration::ZERO);
    assert!(
        bench.now.boot.since(start) <= limit,
        "took {:?}",
        bench.now.boot.since(start)
    );
}

#[test]
fn in_doubt_half_a_probe_counts_for_nothing_and_the_other_half_is_asked_once_a_second() {
    // A cluster without a leader says that it is well, and carries nothing out.
    let mut bench = Bench::following();
    let _ = bench.handle(Event::ForwardFailed);
    let mut asked = Vec::new();
    while !bench.machine.phase().is_outage() {
        let id = bench.next_probe();
        let whole = bench.machine.pending.is_some_and(|pending| pending.audited);
        asked.extend(whole.then_some(bench.now.boot));
        let half = Probe::Good { audited: false };
        let _ = bench.handle(Event::Probed(id, if whole { bad() } else { half }));
    }
    assert_eq!(asked.len(), 3);
    for pair in asked.windows(2) {
        assert!(pair[1].since(pair[0]) >= Knobs::DOUBT_INTERVAL);
    }
}

#[test]
fn clients_alone_cannot_open_failover() {
    let mut bench = Bench::following();
    for _ in 0..1000 {
        let _ = bench.handle(Event::ForwardFailed);
        if let Some(pending) = bench.machine.pending {
            let _ = bench.handle(Event::Probed(pending.id, good()));
        }
    }
    assert_eq!(bench.machine.phase(), Phase::Following);
}

#[test]
fn a_forwarded_success_postpones_the_next_probe_and_counts_nowhere_else() {
    let mut bench = Bench::following();
    let before = bench.machine.deadline(bench.now);
    let _ = bench.pass(Duration::from_secs(3));
    let _ = bench.handle(Event::ForwardSucceeded { audited: true });
    assert!(bench.machine.deadline(bench.now) > before);
    let mut bench = Bench::holdover();
    for _ in 0..100 {
        let _ = bench.handle(Event::ForwardSucceeded { audited: true });
    }
    assert_eq!(bench.machine.phase().name(), "holdover");
}

#[test]
fn the_authenticated_half_is_asked_at_most_once_a_minute_while_following() {
    let mut bench = Bench::following();
    let mut asked = Vec::new();
    for _ in 0..60 {
        let wait = bench.machine.deadline(bench.now).since(bench.now.boot);
        let actions = bench.pass(wait);
        for action in actions {
            if let Action::Probe { id, audited, .. } = action {
                asked.extend(audited.then_some(bench.now.boot));
                let _ = bench.handle(Event::Probed(id, Probe::Good { audited }));
            }
        }
    }
    assert!(asked.len() >= 3, "five minutes hold several");
    for pair in asked.windows(2) {
        assert!(pair[1].since(pair[0]) >= Knobs::AUDITED_INTERVAL);
    }
}

#[test]
fn a_health_check_alone_does_not_end_an_outage() {
    let mut bench = Bench::holdover();
    for _ in 0..20 {
        let _ = bench.probe(Probe::Good { audited: false });
    }
    assert_eq!(bench.machine.phase().name(), "holdover");
}

#[test]
fn recovery_begins_after_good_probes_in_a_row_and_its_end_fails_back() {
    let mut bench = Bench::holdover();
    let _ = (bench.probe(good()), bench.probe(good()), bench.probe(bad()));
    let _ = (bench.probe(good()), bench.probe(good()));
    let id = recovery(&bench.probe(good())).unwrap();
    assert_eq!(bench.machine.phase().name(), "recovering");
    assert_eq!(
        entered(&bench.handle(Event::Recovered(id, Recovery::Done))),
        ["following"]
    );
}

#[test]
fn a_failed_recovery_resumes_the_same_outage() {
    let mut bench = Bench::holdover();
    let outage = bench.machine.phase().outage().cloned();
    let _ = (bench.probe(good()), bench.probe(good()));
    let id = recovery(&bench.probe(good())).unwrap();
    let _ = bench.handle(Event::Recovered(
        id,
        Recovery::Failed(String::from("reset")),
    ));
    assert_eq!(bench.machine.phase(), Phase::Holdover(outage.unwrap()));
}

#[test]
fn a_recovery_whose_primary_dies_is_stopped_and_its_late_end_ignored() {
    let mut bench = Bench::holdover();
    let _ = (bench.probe(good()), bench.probe(good()));
    let id = recovery(&bench.probe(good())).unwrap();
    let _ = (bench.probe(bad()), bench.probe(bad()));
    assert!(bench.probe(bad()).contains(&Action::StopRecovery));
    assert_eq!(bench.handle(Event::Recovered(id, Recovery::Done)), []);
    assert_eq!(bench.machine.phase().name(), "holdover");
}

#[test]
fn the_end_of_an_earlier_recovery_does_not_end_the_present_one() {
    let mut bench = Bench::holdover();
    let _ = (bench.probe(good()), bench.probe(good()));
    let earlier = recovery(&bench.probe(good())).unwrap();
    let failed = Recovery::Failed(String::from("reset"));
    let _ = bench.handle(Event::Recovered(earlier, failed));
    let _ = (bench.probe(good()), bench.probe(good()));
    assert!(recovery(&bench.probe(good())).is_some_and(|present| present != earlier));
    assert_eq!(
        entered(&bench.handle(Event::Recovered(earlier, Recovery::Done))),
        [""; 0]
    );
    assert_eq!(bench.machine.phase().name(), "recovering");
}

#[test]
fn a_lost_recovery_times_out() {
    let mut bench = Bench::holdover();
    let _ = (bench.probe(good()), bench.probe(good()));
    let _ = bench.probe(good());
    for _ in 0..200 {
        if bench.machine.phase().name() != "recovering" {
            return;
        }
        let _ = bench.probe(good());
    }
    panic!("still recovering");
}

#[test]
fn the_bound_counts_from_the_last_verification_of_authority() {
    let mut bench = Bench::following();
    bench.authority = Some(bench.now.steady);
    let _ = bench.pass(Duration::from_secs(600));
    while !bench.machine.phase().is_outage() {
        bench.probe(bad());
    }
    let left = bench
        .machine
        .phase()
        .outage()
        .unwrap()
        .bound
        .remaining(bench.now);
    assert!(
        left <= Duration::from_secs(3000) && left > Duration::from_secs(2990),
        "{left:?}"
    );
}

#[test]
fn an_outage_past_its_bound_is_exhausted_and_recovers_all_the_same() {
    let mut bench = Bench::holdover();
    let actions = bench.pass(KNOBS.max_outage);
    assert_eq!(entered(&actions), ["exhausted"]);
    assert!(actions.contains(&Action::Exhaust));
    let _ = (
        bench.probe(good()),
        bench.probe(good()),
        bench.probe(good()),
    );
    let _ = bench.probe(good());
    assert_eq!(bench.machine.phase().name(), "recovering");
}

#[test]
fn a_wall_clock_that_is_ahead_and_unconfirmed_ends_no_outage_and_nothing_is_issued_by_it() {
    let mut bench = Bench::holdover();
    bench.now.wall = bench.now.steady.plus(10 * KNOBS.max_outage);
    for _ in 0..3 {
        let actions = bench.probe(bad());
        assert!(!actions.contains(&Action::Exhaust), "{actions:?}");
        let phase = bench.machine.phase();
        assert_eq!((phase.name(), phase.issues(bench.now)), ("holdover", false));
        let wait = bench.machine.deadline(bench.now).since(bench.now.boot);
        assert!(wait > Duration::ZERO, "woken again and again for nothing");
    }
    bench.now.wall = bench.now.steady;
    assert!(bench.machine.phase().issues(bench.now));
    bench.now.wall = bench.now.steady.plus(10 * KNOBS.max_outage);
    bench.now.steady = bench.now.wall;
    assert!(bench.handle(Event::Wake).contains(&Action::Exhaust));
    assert_eq!(bench.machine.phase().name(), "exhausted");
}

#[test]
fn an_outage_ends_by_boot_time_though_the_wall_clock_was_ahead() {
    let mut bench = Bench::holdover();
    bench.now.wall = bench.now.steady.plus(10 * KNOBS.max_outage);
    assert!(bench.pass(KNOBS.max_outage).contains(&Action::Exhaust));
}

#[test]
fn a_start_in_the_middle_of_an_outage_resumes_it_with_its_bound() {
    let phase = Bench::holdover().machine.phase();
    let bench = Bench::new(Some(phase.clone()));
    assert_eq!(bench.machine.phase(), phase);
    let outage = phase.outage().cloned().unwrap();
    assert_eq!(
        Bench::new(Some(Phase::Recovering(outage))).machine.phase(),
        phase
    );
}

#[test]
fn an_operators_cutover_holds_until_it_is_lifted() {
    let mut bench = Bench::following();
    let _ = bench.handle(Event::OperatorStart(String::from("maintenance")));
    for _ in 0..10 {
        let _ = bench.probe(good());
    }
    assert_eq!(bench.machine.phase().name(), "holdover");
    let _ = bench.handle(Event::OperatorStop);
    for _ in 0..4 {
        let _ = bench.probe(good());
    }
    assert_eq!(bench.machine.phase().name(), "recovering");
}

#[test]
fn a_shorter_outage_bound_binds_the_running_outage() {
    let mut bench = Bench::holdover();
    let knobs = Knobs {
        max_outage: Duration::from_secs(60),
        ..KNOBS
    };
    bench.machine.reconfigure(knobs, bench.now);
    assert_eq!(entered(&bench.pass(Duration::from_secs(60))), ["exhausted"]);
}

#[test]
fn a_primary_that_is_back_after_a_long_outage_is_asked_as_soon_as_it_accepts_connections() {
    let mut bench = Bench::holdover();
    for _ in 0..12 {
        let _ = bench.probe(bad());
    }
    let wait = |bench: &Bench| bench.machine.deadline(bench.now).since(bench.now.boot);
    assert_eq!(wait(&bench), Duration::from_secs(30));
    let mut late = bench.clone();
    let _ = bench.pass(Duration::from_secs(2));
    assert_eq!(bench.handle(Event::Accepted), []);
    assert_eq!(wait(&bench), Duration::from_secs(3));
    let _ = late.pass(Duration::from_secs(7));
    let actions = late.handle(Event::Accepted);
    assert!(matches!(
        actions.as_slice(),
        [Action::Probe { audited: true, .. }]
    ));
}

#[test]
fn a_connection_that_is_accepted_changes_nothing_but_the_pause_of_an_outage() {
    let mut bench = Bench::following();
    let before = bench.machine.deadline(bench.now);
    for _ in 0..100 {
        assert_eq!(bench.handle(Event::Accepted), []);
    }
    assert_eq!(bench.machine.deadline(bench.now), before);
    let mut bench = Bench::holdover();
    for _ in 0..100 {
        let _ = bench.handle(Event::Accepted);
    }
    assert_eq!(bench.machine.phase().name(), "holdover");
}

/// What may happen to a machine.
#[derive(Clone, Debug)]
enum Step {
    Accepted,
    Pass(u64),
    Probe(bool),
    Recover(bool),
    Forward(bool),
    Start,
    Stop,
    StaleProbe,
    /// The wall clock is this many milliseconds ahead of steady time.
    Ahead(u64),
    /// The wall clock is right.
    Confirm,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        (0u64..40_000).prop_map(Step::Pass),
        Just(Step::Accepted),
        any::<bool>().prop_map(Step::Probe),
        any::<bool>().prop_map(Step::Probe),
        any::<bool>().prop_map(Step::Recover),
        any::<bool>().prop_map(Step::Forward),
        Just(Step::Start),
        Just(Step::Stop),
        Just(Step::StaleProbe),
        (0u64..10_000_000).prop_map(Step::Ahead),
        Just(Step::Confirm),
    ];
    proptest::collection::vec(step, 1..200)
}

impl Bench {
    fn step(&mut self, step: Step) -> Vec<Action> {
        match step {
            Step::Pass(millis) => self.pass(Duration::from_millis(millis)),
            Step::Probe(ok) => match self.machine.pending {
                Some(pending) => {
                    self.handle(Event::Probed(pending.id, if ok { good() } else { bad() }))
                }
                None => vec![],
            },
            Step::Recover(ok) => match &self.machine.state {
                State::Recovering { id, .. } => {
                    let id = *id;
                    let failed = Recovery::Failed(String::from("x"));
                    self.handle(Event::Recovered(
                        id,
                        if ok { Recovery::Done } else { failed },
                    ))
                }
                _ => vec![],
            },
            Step::Accepted => self.handle(Event::Accepted),
            Step::Forward(true) => self.handle(Event::ForwardSucceeded { audited: true }),
            Step::Forward(false) => self.handle(Event::ForwardFailed),
            Step::Start => self.handle(Event::OperatorStart(String::from("x"))),
            Step::Stop => self.handle(Event::OperatorStop),
            Step::StaleProbe => self.handle(Event::Probed(ActionId(0), bad())),
            Step::Ahead(millis) => {
                self.now.wall = self.now.steady.plus(Duration::from_millis(millis));
                self.handle(Event::Wake)
            }
            Step::Confirm => {
                self.now.steady = self.now.wall;
                self.handle(Event::Wake)
            }
        }
    }
}

proptest! {
    /// Whatever happens: the state that was announced is the state, a state is left only by announcement, the
    /// bound of an outage never moves later, nothing is issued past it, it is exhausted by no clock that is unconfirmed, and
    /// a second wake changes nothing and is not asked for at once.
    #[test]
    fn no_sequence_of_events_breaks_the_machine(steps in steps()) {
        let mut bench = Bench::new(None);
        let mut announced = bench.machine.phase();
        for step in steps {
            let before = bench.machine.phase();
            let actions = bench.step(step);
            for action in &actions {
                if let Action::Enter(phase) = action {
                    announced = phase.clone();
                }
            }
            let phase = bench.machine.phase();
            prop_assert_eq!(&announced, &phase);
            if let (Some(was), Some(is)) = (before.outage(), phase.outage())
                && was.id == is.id
            {
                prop_assert!(is.bound.remaining(bench.now) <= was.bound.remaining(bench.now));
                prop_assert_eq!(was.started_at, is.started_at);
            }
            if let Some(outage) = phase.outage() {
                prop_assert!(!phase.issues(bench.now) || !outage.bound.passed(bench.now));
                let is_over = outage.bound.passed_for_good(bench.now);
                match &phase {
                    Phase::Holdover(_) => prop_assert!(!is_over, "an outage past its bound goes on"),
                    Phase::Exhausted(_) => prop_assert!(is_over, "an outage ended by an unconfirmed clock"),
                    _ => {}
                }
            }
            let woken = bench.handle(Event::Wake);
            prop_assert!(entered(&woken).is_empty(), "a wake moved the state: {:?}", woken);
            prop_assert!(bench.machine.deadline(bench.now) > bench.now.boot, "woken again at once");
        }
    }

    /// A primary that dies for good is always noticed, and one that is back for good always taken up again.
    #[test]
    fn the_machine_always_ends_where_the_world_is(steps in steps(), up in any::<bool>()) {
        let mut bench = Bench::new(None);
        for step in steps {
            let _ = bench.step(step);
        }
        let _ = bench.handle(Event::OperatorStop);
        for _ in 0..40 {
            let mut actions = bench.probe(if up { good() } else { bad() });
            while let Some(id) = recovery(&actions) {
                let end = if up { Recovery::Done } else { Recovery::Failed(String::from("x")) };
                actions = bench.handle(Event::Recovered(id, end));
            }
            if let State::Recovering { id, .. } = bench.machine.state && up {
                let _ = bench.handle(Event::Recovered(id, Recovery::Done));
            }
        }
        prop_assert_eq!(bench.machine.phase().is_outage(), !up);
    }

    /// However an address comes and goes: while it accepts connections the pauses are short, and they are never shorter
    /// than those of one that always does.
    #[test]
    fn an_address_that_accepts_is_asked_soon_and_one_that_flaps_no_more_often(
        flaps in proptest::collection::vec((any::<bool>(), proptest::option::of(0u64..40_000)), 1..60),
        jitter in 0.0f64..1.0,
    ) {
        let mut bench = Bench::holdover();
        bench.jitter = jitter;
        let mut least = Backoff::PROBES;
        // The pause that runs when the outage begins is none after a failed probe in it.
        let _ = bench.next_probe();
        for (accepts, seen_after) in flaps {
            let _ = bench.probe(failed(accepts));
            let began = bench.now.boot;
            let most = spread(Knobs::ACCEPTED_INTERVAL, jitter);
            let mut bound = if accepts { most } else { spread(Duration::from_secs(30), jitter) };
            if let Some(millis) = seen_after {
                let seen = Duration::from_millis(millis);
                if bench.machine.deadline(bench.now) > began.plus(seen) {
                    let _ = bench.pass(seen);
                    let _ = bench.handle(Event::Accepted);
                    bound = bound.min(most.max(seen));
                }
            }
            let _ = bench.next_probe();
            let pause = bench.now.boot.since(began);
            let shortest = least.next_within(Knobs::ACCEPTED_INTERVAL, jitter);
            prop_assert!(pause <= bound + Duration::from_millis(1), "{pause:?} of {bound:?}");
            prop_assert!(pause + Duration::from_millis(1) >= shortest, "{pause:?}, {shortest:?}");
        }
    }
}
