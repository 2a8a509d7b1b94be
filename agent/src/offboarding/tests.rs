//! What offboarding ends at once, what in time, and that neither a restart nor a clock undoes it.

use std::time::Duration;

use shared::{
    change::Change,
    grant::RevokeCause,
    kv::{MirrorState, Record, VersionState},
    ledger::EntryKind,
    name::TokenDigest,
    offboarding::Offboarded,
    secret::SecretBytes,
    workload::OnRecovery,
};

use tokio::sync::oneshot;

use super::*;
use crate::samples::{at, bench::Bench, kv_place};

const MINUTE: Duration = Duration::from_secs(60);

async fn bench_in_outage() -> Bench {
    let bench = Bench::new(OnRecovery::Exchange);
    let _outage = bench.outage().await;
    let authority = Change::Authority(Box::new(bench.authority()));
    let grant = Change::Grant(Box::new(bench.grant(1, MINUTE)));
    bench.store(vec![authority, grant]).await;
    bench
}

/// A mirror of one value.
fn mirrored(bench: &Bench) -> Vec<Change> {
    let (place, at) = (kv_place("secret/data/a"), bench.now().steady);
    let state = MirrorState {
        path: "secret/data/*".to_owned(),
        mount: place.mount.clone(),
        verified_at: at,
        fingerprint: String::new(),
        partial: false,
    };
    let record = Record {
        place,
        version: None,
        state: VersionState::Live,
        verified_at: at,
        covered: false,
        form: Default::default(),
    };
    let body = SecretBytes::new(b"{}".to_vec());
    vec![
        Change::Record(Box::new(record), Some(body)),
        Change::Mirror(Box::new(state)),
    ]
}

#[tokio::test]
async fn what_goes_at_once_is_gone_when_it_returns_and_stays_so_over_a_restart() {
    let bench = bench_in_outage().await;
    assert!(offboard(&bench.local).await);
    let since = bench.local.view.authority().offboarded.unwrap();
    let bench = bench.reopened();
    let authority = bench.local.view.authority();
    assert_eq!(authority.offboarded, Some(since));
    assert!(authority.workloads.is_empty());
    let digest = TokenDigest([1; 32]);
    let revoked = bench.local.view.revocation(&digest).unwrap();
    assert_eq!(revoked.cause, RevokeCause::Primary);
}

#[tokio::test]
async fn it_counts_from_the_first_time_that_it_was_sure() {
    let bench = bench_in_outage().await;
    let first = Offboarded {
        at: bench.now().steady.minus(MINUTE),
    };
    bench.store(vec![Change::Offboarded(Some(first))]).await;
    assert!(offboard(&bench.local).await);
    assert_eq!(bench.local.view.authority().offboarded, Some(first));
}

#[tokio::test]
async fn its_begin_is_in_the_ledger_with_the_end_of_reads() {
    let bench = bench_in_outage().await;
    assert!(offboard(&bench.local).await);
    let (done, read) = oneshot::channel();
    let sequencer = &bench.local.sequencer;
    sequencer.read_ledger(0, 100, move |result| drop(done.send(result)));
    let (entries, _) = read.await.unwrap().unwrap();
    let mut entries = entries.into_iter().map(|chained| chained.entry);
    let begun = entries.find(|entry| entry.kind == EntryKind::Offboarding);
    let begun = begun.unwrap();
    assert_eq!(begun.outcome, "begun");
    let since = bench.local.view.authority().offboarded.unwrap();
    let max_age = bench
        .local
        .view
        .authority()
        .settings
        .bounds
        .authority_max_age;
    assert_eq!(begun.deadline, Some(since.reads_end(max_age)));
}

#[tokio::test]
async fn everything_mirrored_is_destroyed_when_reads_end_and_not_before() {
    let bench = bench_in_outage().await;
    bench.store(mirrored(&bench)).await;
    let view = &bench.local.view;
    let max_age = view.authority().settings.bounds.authority_max_age;
    let steady = bench.now().steady;
    let began = |age: Duration| {
        vec![Change::Offboarded(Some(Offboarded {
            at: steady.minus(age),
        }))]
    };
    purge(&bench.local).await;
    assert!(!view.secrets().records.is_empty(), "nobody was offboarded");
    bench.store(began(max_age - MINUTE)).await;
    purge(&bench.local).await;
    assert!(!view.secrets().records.is_empty() && !view.authority().mirrors.is_empty());
    bench.store(began(max_age)).await;
    purge(&bench.local).await;
    let bench = bench.reopened();
    let view = &bench.local.view;
    assert!(view.secrets().records.is_empty() && view.authority().mirrors.is_empty());
    assert!(
        ended(view, bench.now()).is_empty(),
        "nothing is left to be done"
    );
}

#[test]
fn a_forward_step_of_the_clock_destroys_nothing() {
    let since = Offboarded { at: at(0).steady };
    let stepped = Now {
        wall: at(10_000).wall,
        ..at(1)
    };
    assert!(since.ends_reads(MINUTE, stepped) && !since.ends_reads_for_good(MINUTE, stepped));
}
