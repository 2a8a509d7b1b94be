//! `kill -9` at random moments: what was acknowledged is there, and nothing of what was not is there by half.
//!
//! This program starts itself as a writer, reads its acknowledgements from a pipe, kills it in the middle, opens the
//! replica, and starts the next writer on what the last one left. `HOLDOVER_ROUNDS` and `HOLDOVER_SEED` repeat a run.

use std::{
    error::Error,
    io::{BufRead as _, BufReader, Write as _},
    path::{Path, PathBuf},
    process::{Child, Command, ExitCode, Stdio},
    sync::{Arc, mpsc},
    time::Duration,
};

use replica::{
    entropy::{Entropy as _, OsEntropy},
    key::slot::{self, Source},
    sequencer::{Lane, Sequencer},
    store::{Location, Opened, Replica},
};
use shared::{
    change::{Change, Expects, QueuedRevocation, RevocationTarget},
    grant::{Revocation, RevokeCause},
    ledger::{Entry, EntryKind},
    name::{Accessor, Namespace, TokenDigest},
    settings::{Bounds, Settings},
    time::{BootId, BootTime, Now, WallTime},
};

/// Tells this program to write until it is killed, and where.
const WRITER: &str = "HOLDOVER_CRASH_WRITER";
/// Rows of each unit.
const ROWS: u64 = 3;

type Outcome<T> = Result<T, Box<dyn Error>>;

fn main() -> ExitCode {
    let outcome = match std::env::var_os(WRITER) {
        Some(directory) => write_until_killed(Path::new(&directory)),
        None => kill_writers(),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "crash suite: {error}");
            ExitCode::FAILURE
        }
    }
}

fn kill_writers() -> Outcome<()> {
    let number = |name| {
        let text = std::env::var(name).ok();
        text.and_then(|text| text.parse::<u64>().ok())
    };
    let rounds = number("HOLDOVER_ROUNDS").unwrap_or(12);
    let mut random = match number("HOLDOVER_SEED") {
        Some(seed) => seed,
        None => {
            let mut seed = [0; 4];
            OsEntropy.fill(&mut seed)?;
            u64::from(u32::from_le_bytes(seed))
        }
    };
    writeln!(std::io::stderr(), "crash suite: HOLDOVER_SEED={random}")?;
    let directory = tempfile::tempdir()?;
    let (location, source) = place(directory.path());
    let Source::File(key) = &source;
    slot::create_file(key, &OsEntropy)?;
    Replica::create(&location, &source, &OsEntropy)?;
    let mut acknowledged = 0;
    for round in 0..rounds {
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        let units = 1 + (random >> 40) % 150;
        acknowledged = kill_after(directory.path(), units)?.unwrap_or(acknowledged);
        let opened = open(directory.path())?;
        let found = proven(&opened, acknowledged).map_err(|why| format!("round {round}: {why}"))?;
        acknowledged = found;
        if opened.report.rolled_back || opened.report.ledger_cut {
            return Err(format!("round {round}: {:?}", opened.report).into());
        }
    }
    writeln!(
        std::io::stderr(),
        "crash suite: {rounds} kills, {acknowledged} units"
    )?;
    Ok(())
}

/// Starts a writer and kills it after so many acknowledgements; the last one read.
fn kill_after(directory: &Path, units: u64) -> Outcome<Option<u64>> {
    let mut child = Command::new(std::env::current_exe()?)
        .env(WRITER, directory)
        .stdout(Stdio::piped())
        .spawn()?;
    let last = last_acknowledged(&mut child, units);
    // SIGKILL: the writer runs nothing of its own any more.
    child.kill()?;
    child.wait()?;
    last
}

fn last_acknowledged(child: &mut Child, units: u64) -> Outcome<Option<u64>> {
    let output = child.stdout.take().ok_or("no pipe")?;
    let mut last = None;
    for line in BufReader::new(output).lines().take(usize::try_from(units)?) {
        last = Some(line?.parse()?);
    }
    if last.is_none() {
        return Err("the writer acknowledged nothing".into());
    }
    Ok(last)
}

/// How many units are there, if all that were acknowledged are, and every one is whole.
fn proven(opened: &Opened, acknowledged: u64) -> Result<u64, String> {
    let ids: Vec<u64> = opened.queue.iter().map(|queued| queued.id).collect();
    let units = u64::try_from(ids.len()).unwrap_or(u64::MAX) / ROWS;
    if ids != (0..units * ROWS).collect::<Vec<_>>() {
        return Err("a unit is there by half, or out of order".into());
    }
    // Units are numbered from 0, and the number of the last one acknowledged is counted from 1.
    if units < acknowledged {
        return Err(format!(
            "{acknowledged} were acknowledged, {units} are there"
        ));
    }
    for unit in 0..units {
        if opened.view.revocation(&digest(unit)).is_none() {
            return Err(format!("the revocation of unit {unit} is missing"));
        }
    }
    Ok(units)
}

/// Writes units one after the other, several under way at once, and prints the count of those acknowledged.
fn write_until_killed(directory: &Path) -> Outcome<()> {
    let opened = open(directory)?;
    let next = u64::try_from(opened.queue.len())? / ROWS;
    let sequencer = opened.start(present)?;
    let (done, answers) = mpsc::channel();
    let mut submitted = next;
    let mut output = std::io::stdout().lock();
    loop {
        for _ in 0..8 {
            submit(&sequencer, submitted, &done);
            submitted += 1;
        }
        while let Ok(unit) = answers.recv_timeout(Duration::from_millis(1)) {
            // Into the pipe at once: what is in a buffer here would be lost with the process.
            writeln!(output, "{}", unit? + 1)?;
            output.flush()?;
        }
    }
}

fn submit(
    sequencer: &Sequencer,
    unit: u64,
    done: &mpsc::Sender<Result<u64, replica::sequencer::SubmitError>>,
) {
    let done = done.clone();
    let mut changes: Vec<Change> = (0..ROWS).map(|row| queued(unit * ROWS + row)).collect();
    changes.push(Change::Revoked(Revocation {
        digest: digest(unit),
        accessor: accessor(),
        cause: RevokeCause::Operator,
        at: WallTime::EPOCH,
    }));
    let entry = Entry::new(EntryKind::Revocation, "allowed", WallTime::EPOCH);
    changes.push(Change::Ledger(Box::new(entry)));
    // One lane, so that what is there must be a prefix of what was submitted.
    sequencer.submit(Lane::Grant, changes, Expects::default(), move |result| {
        let _ = done.send(result.map(|()| unit));
    });
}

fn open(directory: &Path) -> Outcome<Opened> {
    let (location, source) = place(directory);
    let entropy = Arc::new(OsEntropy);
    Ok(Replica::open(&location, &[source], settings(), entropy)?)
}

fn place(directory: &Path) -> (Location, Source) {
    let at = |name: &str| -> PathBuf { directory.join(name) };
    let location = Location {
        path: at("replica").join("replica.db"),
        anchor: Some(at("anchor").join("generation")),
        ledger_max: 1 << 30,
    };
    (location, Source::File(at("key")))
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

fn queued(id: u64) -> Change {
    Change::Queue(Box::new(QueuedRevocation::own(
        id,
        RevocationTarget::Token(accessor()),
        WallTime::EPOCH,
    )))
}

#[allow(clippy::expect_used)] // A constant that is a name.
fn accessor() -> Accessor {
    Accessor::parse("accessor").expect("a name")
}

fn digest(unit: u64) -> TokenDigest {
    let mut bytes = [0; 32];
    for (to, from) in bytes.iter_mut().zip(unit.to_le_bytes()) {
        *to = from;
    }
    TokenDigest(bytes)
}
