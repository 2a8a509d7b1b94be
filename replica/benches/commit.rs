//! Group commit: how many grants a second become durable, alone and many at once, and how long each waits.
//!
//! `cargo bench -p holdover-replica`. Figures are magnitudes: they are those of the disk beneath the temporary folder.

use std::{
    error::Error,
    io::Write as _,
    sync::{Arc, mpsc},
    thread,
    time::Duration,
};

use replica::{
    entropy::OsEntropy,
    key::slot::{self, Source},
    sequencer::{Lane, Sequencer},
    store::{Location, Replica},
};
use rustix::time::{ClockId, clock_gettime};
use shared::{
    change::{Change, Expects},
    grant::{Grant, Origin},
    ledger::{Entry, EntryKind},
    name::{Accessor, Namespace, PolicyName, TokenDigest},
    settings::{Bounds, Settings},
    time::{BootId, BootTime, Deadline, Now, WallTime},
    token::{TokenFacts, TokenKind},
};

fn main() -> Result<(), Box<dyn Error>> {
    let directory = tempfile::tempdir()?;
    let key = directory.path().join("key");
    slot::create_file(&key, &OsEntropy)?;
    let source = Source::File(key);
    let location = Location {
        path: directory.path().join("replica").join("replica.db"),
        anchor: None,
        ledger_max: 1 << 40,
    };
    Replica::create(&location, &source, &OsEntropy)?;
    let opened = Replica::open(&location, &[source], settings(), Arc::new(OsEntropy))?;
    let sequencer = opened.start(present)?;
    let mut from = 0;
    for (requesters, each) in [(1, 2000), (8, 1000), (64, 500)] {
        run(&sequencer, from, requesters, each)?;
        from += requesters * each;
    }
    sequencer.stop();
    Ok(())
}

/// `requesters` threads issue `each` grants, one after the other, each with its ledger entry.
fn run(sequencer: &Sequencer, from: u64, requesters: u64, each: u64) -> Result<(), Box<dyn Error>> {
    let begun = boot();
    let mut waits: Vec<Duration> = thread::scope(|scope| {
        let threads: Vec<_> = (0..requesters)
            .map(|requester| scope.spawn(move || issue(sequencer, from + requester * each, each)))
            .collect();
        let waits = threads.into_iter().filter_map(|thread| thread.join().ok());
        waits.flatten().collect()
    });
    let took = boot().saturating_sub(begun);
    waits.sort_unstable();
    let at = |percent: usize| {
        waits
            .get(waits.len() * percent / 100)
            .copied()
            .unwrap_or_default()
    };
    let commits = sequencer.stats().commits;
    writeln!(
        std::io::stderr(),
        "{requesters:3} requesters: {:6.0} grants/s, median {:?}, p99 {:?}; {commits} commits so far",
        waits.len() as f64 / took.as_secs_f64(),
        at(50),
        at(99),
    )?;
    Ok(())
}

fn issue(sequencer: &Sequencer, from: u64, count: u64) -> Vec<Duration> {
    (from..from + count)
        .filter_map(|n| {
            let begun = boot();
            let (done, answer) = mpsc::channel();
            let entry = Entry::new(EntryKind::Grant, "allowed", WallTime::EPOCH);
            let changes = vec![granted(n)?, Change::Ledger(Box::new(entry))];
            sequencer.submit(Lane::Grant, changes, Expects::default(), move |result| {
                let _ = done.send(result);
            });
            answer.recv().ok()?.ok()?;
            Some(boot().saturating_sub(begun))
        })
        .collect()
}

fn granted(n: u64) -> Option<Change> {
    let mut digest = [0; 32];
    for (to, from) in digest.iter_mut().zip(n.to_le_bytes()) {
        *to = from;
    }
    Some(Change::Grant(Box::new(Grant {
        parent: None,
        digest: TokenDigest(digest),
        accessor: Accessor::parse(&format!("ho{n:022}")).ok()?,
        namespace: Default::default(),
        facts: TokenFacts {
            policies: vec![PolicyName::parse("orders").ok()?],
            display_name: "token".into(),
            path: "auth/token/create".into(),
            creation_ttl: 900,
            orphan: true,
            renewable: true,
            ..TokenFacts::new(TokenKind::Service)
        },
        origin: Origin::Primary,
        peer: None,
        deadline: Deadline::after(Duration::from_secs(900), present()),
        verified_at: WallTime::EPOCH,
        doubted_at: None,
    })))
}

fn settings() -> Arc<Settings> {
    Arc::new(Settings {
        namespace: Namespace::default(),
        workloads: Vec::new(),
        mirrors: Vec::new(),
        approle_mounts: Vec::new(),
        bounds: Bounds {
            max_outage: Duration::from_secs(1),
            authority_max_age: Duration::from_secs(1),
            token_max_age: Duration::from_secs(1),
            credential_max_age: Duration::from_secs(1),
            policy_max_age: Duration::from_secs(1),
            issue_after_reboot: false,
            max_staleness: Duration::from_secs(1),
            grants_per_workload: 10_000,
        },
    })
}

fn present() -> Now {
    Now {
        wall: WallTime::EPOCH,
        steady: WallTime::EPOCH,
        boot: BootTime::from_millis(0),
        boot_id: BootId([0; 16]),
    }
}

/// The boot clock: the workspace measures durations by it.
fn boot() -> Duration {
    let time = clock_gettime(ClockId::Boottime);
    Duration::new(
        u64::try_from(time.tv_sec).unwrap_or(0),
        u32::try_from(time.tv_nsec).unwrap_or(0),
    )
}
