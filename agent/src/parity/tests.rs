//! Claims about what is sampled, and about what stands.

use replica::{
    entropy::OsEntropy,
    key::Keys,
    parity::{Facts, Outcome},
    vault::judge::{self, judge},
    view::View,
};
use shared::change::Change;

use super::{
    disputes::{Dispute, Disputes, SecondLook},
    *,
};
use crate::samples::{self, at_millis as at};

fn call(method: &str, target: &str) -> Call {
    Call::parse(method, target).unwrap()
}

fn offer(answered_at: Now) -> Offer {
    Offer {
        call: call("GET", "/v1/sys/internal/ui/mounts/secret"),
        token: None,
        namespace: RequestNamespace::Configured,
        unmodelled: None,
        body: Bytes::new(),
        peer: samples::peer(&[]),
        decision: samples::decision(200, answered_at.steady),
        answer: None,
        asked_at: answered_at,
        answered_at,
    }
}

/// A disagreement found at `millis`, by what `inputs` the replica went.
fn found(millis: u64, kind: Disagreement, inputs: &Judged) -> Dispute {
    Dispute {
        offer: offer(at(millis)),
        primary: status(403),
        judged: status(200),
        kind,
        inputs: inputs.0.inputs.clone(),
        behind: judge::Behind::default(),
    }
}

struct Judged(replica::vault::judge::Judgement);

/// What a replica goes by whose policies were verified at `millis`.
fn verified(millis: u64, text: &str) -> Judged {
    let set = samples::policies("app", text, 1, at(millis));
    let keys = Keys::ephemeral(&OsEntropy).unwrap();
    let settings = std::sync::Arc::new(samples::settings(&[]));
    let changes = [Change::Policies(Box::new(set))];
    let view = View::from_changes(settings, keys, changes, &OsEntropy).unwrap();
    let offer = offer(at(millis));
    Judged(judge(&view, &offer.query(at(millis)), &OsEntropy))
}

fn status(status: u16) -> Facts {
    let keys = Keys::ephemeral(&OsEntropy).unwrap();
    Facts::of(
        &call("GET", "/v1/kv/a"),
        status,
        None,
        at(0).steady..=at(0).steady,
        &keys,
    )
}

fn more() -> Outcome {
    Outcome::Disagree(Disagreement::GrantsMore, vec!["status"])
}

#[test]
fn the_share_of_requests_that_is_configured_is_compared() {
    for (share, least, most) in [
        (0.0, 0, 0),
        (0.01, 700, 1300),
        (0.5, 49_000, 51_000),
        (1.0, 100_000, 100_000),
    ] {
        let (parity, _offers) = Parity::new(share, 42);
        let read = call("GET", "/v1/secret/data/a");
        let taken = (0..100_000).filter(|_| parity.wants(&read)).count();
        assert!((least..=most).contains(&taken), "{share}: {taken}");
        let login = call("PUT", "/v1/auth/holdover/login");
        assert!((0..100).all(|_| parity.wants(&login)));
    }
}

#[test]
fn what_is_doubted_is_compared_whatever_the_sample() {
    let (parity, _offers) = Parity::new(0.0, 42);
    let read = call("GET", "/v1/secret/data/a");
    let watched = ("read".to_owned(), "secret/data/a".to_owned());
    parity.0.watched.store(Arc::new([watched].into()));
    assert!((0..100).all(|_| parity.wants(&read)));
    for other in [
        call("GET", "/v1/secret/data/b"),
        call("PUT", "/v1/secret/data/a"),
    ] {
        assert!(!parity.wants(&other));
    }
}

#[test]
fn what_has_an_effect_of_its_own_is_not_compared() {
    let (parity, _offers) = Parity::new(1.0, 42);
    for target in ["revoke-self", "revoke", "renew"] {
        let target = format!("/v1/auth/token/{target}");
        assert!(!parity.wants(&call("PUT", &target)), "{target}");
    }
    assert!(!parity.wants(&call("GET", "/v1/sys/health")));
}

#[test]
fn what_finds_no_room_is_counted_and_takes_none() {
    let (parity, mut offers) = Parity::new(1.0, 42);
    let large = || Offer {
        answer: Some(Bytes::from(vec![0; 6 << 20])),
        ..offer(at(0))
    };
    for _ in 0..3 {
        parity.offer(large());
    }
    assert_eq!(parity.report().dropped, 1);
    let taken = offers.try_recv().unwrap();
    parity.release(taken.size());
    parity.offer(large());
    assert_eq!(parity.report().dropped, 1);
    for _ in 0..WAITING {
        parity.offer(offer(at(0)));
    }
    assert_eq!(parity.report().dropped, 3);
}

#[test]
fn a_disagreement_waits_until_everything_was_verified_after_the_answer() {
    let first = verified(100, "x");
    let mut waiting = Disputes::default();
    assert!(waiting.add(found(200, Disagreement::Differs, &first), at(200).boot));
    assert!(waiting.due(at(300).boot).is_empty());
    let one = waiting.due(at(400).boot).pop().unwrap();
    let second_look =
        |at: u64, text| one.second_look(more(), &status(200), &verified(at, text).0.inputs);
    assert_eq!(second_look(100, "x"), SecondLook::Waits);
    assert_eq!(second_look(200, "x"), SecondLook::Waits);
    let stands = SecondLook::Stands(Disagreement::GrantsMore, vec!["status"]);
    assert_eq!(second_look(201, "x"), stands);
    // What it would say was replaced meanwhile: the answer on record says nothing of it.
    let inputs = verified(201, "x").0.inputs;
    assert_eq!(
        one.second_look(more(), &status(404), &inputs),
        SecondLook::Unsettled
    );
    assert_eq!(
        one.second_look(Outcome::Agree, &status(403), &inputs),
        SecondLook::Gone(Outcome::Agree)
    );
    assert!(waiting.put_back(one, at(400).boot).is_none());
    assert!(waiting.due(at(700).boot).is_empty());
    let one = waiting.due(at(800).boot).pop().unwrap();
    assert!(waiting.put_back(one, at(1_000_000).boot).is_some());
}

#[test]
fn one_that_grants_more_waits_until_the_primary_was_asked_for_it() {
    let first = verified(100, "x");
    let mut waiting = Disputes::default();
    waiting.add(found(200, Disagreement::GrantsMore, &first), at(200).boot);
    let inputs = verified(300, "x").0.inputs;
    let one = waiting.due(at(400).boot).pop().unwrap();
    assert_eq!(
        one.second_look(more(), &status(200), &inputs),
        SecondLook::Waits
    );
    waiting.put_back(one, at(400).boot);
    assert!(waiting.doubts(8, at(201).boot).is_none());
    let (numbers, wanted) = waiting.doubts(8, at(400).boot).unwrap();
    assert!(wanted.authority);
    waiting.refreshed(&numbers, at(500).boot);
    assert!(waiting.doubts(8, at(500).boot).is_none());
    let one = waiting.due(at(500).boot).pop().unwrap();
    let stands = SecondLook::Stands(Disagreement::GrantsMore, vec!["status"]);
    assert_eq!(one.second_look(more(), &status(200), &inputs), stands);
}

#[test]
fn disagreements_of_one_kind_wait_as_one_and_no_more_than_there_is_room_for() {
    let first = verified(100, "x");
    let mut waiting = Disputes::default();
    for millis in [200, 201, 202] {
        waiting.add(
            found(millis, Disagreement::Differs, &first),
            at(millis).boot,
        );
    }
    assert_eq!((waiting.len(), waiting.clear()), (1, 3));
    let mut added = 0_u64;
    for number in 0..600 {
        let mut found = found(200, Disagreement::Differs, &first);
        found.offer.call = call("GET", &format!("/v1/kv/{number}"));
        added += u64::from(waiting.add(found, at(200).boot));
    }
    assert_eq!(added, 512);
    // However many there are, one that would have granted more finds room.
    let worse = found(200, Disagreement::GrantsMore, &first);
    assert!(waiting.add(worse, at(200).boot));
    assert_eq!(waiting.clear(), 513);
}

/// The primary's clock may be a minute ahead of ours: then the rule had ended there.
#[test]
fn a_rule_that_was_about_to_end_settles_nothing() {
    let mut first = verified(100, "x");
    let second_look = |inputs: &Judged| {
        let mut waiting = Disputes::default();
        waiting.add(found(200, Disagreement::GrantsMore, inputs), at(200).boot);
        let (numbers, _) = waiting.doubts(8, at(400).boot).unwrap();
        waiting.refreshed(&numbers, at(500).boot);
        let one = waiting.due(at(500).boot).pop().unwrap();
        one.second_look(more(), &status(200), &verified(300, "x").0.inputs)
    };
    let stands = SecondLook::Stands(Disagreement::GrantsMore, vec!["status"]);
    assert_eq!(second_look(&first), stands);
    first.0.inputs.holds_until = Some(at(30_000).wall);
    assert_eq!(second_look(&first), SecondLook::Unsettled);
    first.0.inputs.holds_until = Some(at(90_000).wall);
    assert_eq!(second_look(&first), stands);
}
