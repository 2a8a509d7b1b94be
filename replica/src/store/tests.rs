//! Creating, opening, and what opening refuses.

use std::{fs, os::unix::fs::MetadataExt as _, sync::mpsc, time::Duration};

use proptest::prelude::*;
use shared::{
    change::{Change, Cluster, CredentialName, Expects},
    damage::{Damage, RowKind},
    grant::RevokeCause,
    ledger::{Entry, EntryKind},
    name::{Accessor, EntityId, Namespace, PolicyName, WorkloadName},
    settings::Settings,
};

use super::*;
use crate::{
    entropy::Entropy as _,
    key::{
        Keys,
        slot::{self, Source},
    },
    samples::{self, Seeded, T0, digest, everything, granted, now, place, revoked, settings},
    seal::Sealed,
    sequencer::{Lane, Sequencer, SubmitError},
    store::schema::HeaderRow,
    table::{At, Table},
};

mod anchor;
mod copied;
mod elsewhere;
mod epoch;
mod files;
mod golden;
mod policies;
mod power;
mod redone;
mod salvaged;
mod tamper;
mod unwritable;

/// A replica in a directory of its own.
pub(crate) struct Home {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) location: Location,
    pub(crate) source: Source,
}

impl Home {
    /// Made, with an anchor.
    pub(crate) fn made(seed: u64) -> Self {
        let home = Self::empty(seed);
        Replica::create(&home.location, &home.source, &Seeded::new(seed + 1)).unwrap();
        home
    }

    /// The same in memory, where there is such a place: for tests of what is read, not of what is synced.
    pub(crate) fn made_in_memory(seed: u64) -> Self {
        let dir = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir());
        let home = Self::empty_in(dir.unwrap(), seed);
        Replica::create(&home.location, &home.source, &Seeded::new(seed + 1)).unwrap();
        home
    }

    pub(crate) fn empty(seed: u64) -> Self {
        Self::empty_in(tempfile::tempdir().unwrap(), seed)
    }

    fn empty_in(dir: tempfile::TempDir, seed: u64) -> Self {
        let key = dir.path().join("key");
        slot::create_file(&key, &Seeded::new(seed)).unwrap();
        let location = Location {
            path: dir.path().join("replica").join("replica.db"),
            anchor: Some(dir.path().join("anchor").join("generation")),
            ledger_max: 1 << 20,
        };
        Self {
            source: Source::File(key),
            location,
            dir,
        }
    }

    pub(crate) fn try_open(&self) -> Result<Opened, OpenError> {
        self.try_open_with(settings())
    }

    pub(crate) fn try_open_with(&self, settings: Arc<Settings>) -> Result<Opened, OpenError> {
        let sources = [self.source.clone()];
        let entropy = Arc::new(Seeded::new(9));
        Replica::open(&self.location, &sources, settings, entropy)
    }

    pub(crate) fn open(&self) -> Opened {
        self.try_open().unwrap_or_else(|error| panic!("{error}"))
    }

    pub(crate) fn start(&self) -> Sequencer {
        self.open().start(|| now(1)).unwrap()
    }

    /// Stores `changes` and closes the replica.
    pub(crate) fn store(&self, changes: Vec<Change>) {
        let sequencer = self.start();
        wait(&sequencer, Lane::Grant, changes, Expects::default()).unwrap();
        sequencer.stop();
    }

    /// The error of opening it, as text.
    pub(crate) fn refusal(&self) -> String {
        match self.try_open() {
            Ok(_) => panic!("it opens"),
            Err(error) => error.to_string(),
        }
    }

    /// Runs SQL on the closed file, as somebody else would.
    pub(crate) fn sql(&self, sql: &str) {
        let connection = rusqlite::Connection::open(&self.location.path).unwrap();
        connection.execute_batch(sql).unwrap();
    }
}

/// Submits and waits for the answer.
pub(crate) fn wait(
    sequencer: &Sequencer,
    lane: Lane,
    changes: Vec<Change>,
    expects: Expects,
) -> Result<(), SubmitError> {
    let (done, answer) = mpsc::channel();
    sequencer.submit(lane, changes, expects, move |result| {
        let _ = done.send(result);
    });
    answer.recv().unwrap()
}

#[test]
fn everything_that_was_stored_is_there_after_a_restart() {
    let home = Home::made(1);
    home.store(everything());
    let opened = home.open();
    let (before, after) = (view_of(everything()), &opened.view);
    let (old, new) = (before.authority(), after.authority());
    assert_eq!((&old.phase, old.epoch), (&new.phase, new.epoch));
    assert_eq!(
        (&old.cluster, &old.workloads),
        (&new.cluster, &new.workloads)
    );
    assert_eq!(
        (&old.identities, &old.mirrors),
        (&new.identities, &new.mirrors)
    );
    assert_eq!(
        (&old.approles, &old.secret_ids),
        (&new.approles, &new.secret_ids)
    );
    assert_eq!((new.approles.len(), new.secret_ids.len()), (1, 1));
    assert_eq!(old.quarantines, new.quarantines);
    let set = |authority: &crate::view::Authority| authority.policies.as_ref().unwrap().set.clone();
    assert_eq!(set(&old), set(&new));
    assert_eq!(before.secrets().keys, after.secrets().keys);
    let of = (place("secret/data/shop/db"), Some(2));
    let record = Arc::clone(&after.secrets().records[&of]);
    assert_eq!(
        record.body.open(after.keys()).unwrap().expose(),
        br#"{"new":2}"#
    );
    assert!(after.grant(&digest(1)).unwrap().revoked.get().is_none());
    assert!(after.grant(&digest(2)).unwrap().revoked.get().is_some());
    let accessor = Accessor::parse("accessor-1").unwrap();
    assert_eq!(
        after.grant_by_accessor(&accessor).unwrap().grant.digest,
        digest(1)
    );
    let lease = after.secrets().leases.values().next().unwrap().clone();
    assert_eq!(lease.body.open(after.keys()).unwrap().expose(), b"{}");
    assert_eq!(opened.mark, Some(samples::mark(0)));
    assert_eq!(opened.phase.map(|record| record.epoch), Some(3));
    assert_eq!(opened.queue.len(), 1);
    assert_eq!(opened.coverage, vec![samples::coverage(T0)]);
    assert_eq!(after.doubts().all().count(), 1);
    let standing = CredentialName::Standing(WorkloadName::parse("orders").unwrap());
    assert!(after.credential(&standing).is_some());
    assert!(!opened.report.rolled_back && !opened.report.values_changed);
    assert_eq!(opened.report.anchor, AnchorState::Agrees);
}

#[test]
fn ages_of_policies_and_identities_outlive_a_restart() {
    let home = Home::made(1);
    let (entity, later) = (
        EntityId::parse("entity-1").unwrap(),
        T0.plus(Duration::from_secs(60)),
    );
    let unread = PolicyName::parse("unread").unwrap();
    let Change::Policies(mut set) = samples::policies(&[("default", "")], later) else {
        panic!("policies are policies");
    };
    set.unread.insert(unread.clone(), T0);
    let identity = |name, at| {
        let identity = Box::new(samples::identity(name));
        Change::Identity(entity.clone(), identity, at)
    };
    home.store(vec![
        Change::Policies(set),
        identity("new", later),
        // What was asked for before, and comes in late.
        identity("old", T0),
    ]);
    let opened = home.open();
    let authority = opened.view.authority();
    let set = &authority.policies.as_ref().unwrap().set;
    assert_eq!((set.verified_at, set.verified(&unread)), (later, T0));
    let known = &authority.identities[&entity];
    assert_eq!(known.verified_at, later);
    assert_eq!(*known.identity, samples::identity("new"));
}

#[test]
fn what_was_verified_in_another_namespace_is_not_gone_by_and_the_cluster_stays_trusted() {
    let home = Home::made(1);
    home.store(everything());
    let mut elsewhere = Settings::clone(&settings());
    elsewhere.namespace = Namespace::parse("team");
    let opened = home.try_open_with(Arc::new(elsewhere)).unwrap();
    let authority = opened.view.authority();
    let cluster = authority.cluster.as_ref().unwrap();
    let before = home_cluster();
    assert_eq!(cluster.id, before.id);
    assert!(cluster.mounts.is_empty() && !before.mounts.is_empty());
    assert!(authority.policies.is_none());
    assert!(authority.workloads.is_empty() && authority.approles.is_empty());
    assert!(authority.identities.is_empty() && authority.mirrors.is_empty());
}

/// What [`everything`] says of the cluster.
fn home_cluster() -> Cluster {
    let mut all = everything().into_iter();
    let found = all.find_map(|change| match change {
        Change::Cluster(cluster) => Some(*cluster),
        _ => None,
    });
    found.unwrap()
}

fn view_of(changes: Vec<Change>) -> View {
    let entropy = Seeded::new(5);
    let keys = Keys::ephemeral(&entropy).unwrap();
    View::from_changes(settings(), keys, changes, &entropy).unwrap()
}

#[test]
fn what_went_is_gone_after_a_restart() {
    let home = Home::made(1);
    home.store(everything());
    let path = place("secret/data/shop/db");
    home.store(vec![
        Change::KeyGone(path),
        Change::GrantForgotten(digest(2)),
        Change::QueueDone(9),
        Change::LeaseGone(samples::lease("database/creds/orders/abc").id),
        Change::MirrorGone("secret/data/shop/*".into()),
        Change::QuarantineLifted(samples::quarantine("billing").what),
        Change::CoverageGone(T0),
    ]);
    let opened = home.open();
    assert!(opened.view.authority().quarantines.is_empty());
    let secrets = opened.view.secrets();
    assert!(secrets.keys.is_empty() && secrets.records.is_empty() && secrets.leases.is_empty());
    assert!(opened.view.revocation(&digest(2)).is_none() && opened.queue.is_empty());
    assert!(opened.view.authority().mirrors.is_empty() && opened.coverage.is_empty());
    drop(opened);
    let rows = rusqlite::Connection::open(&home.location.path).unwrap();
    let bodies: i64 = rows
        .query_row("SELECT count(*) FROM row WHERE tab IN (9, 18)", [], |row| {
            row.get(0)
        })
        .unwrap();
    assert_eq!(bodies, 0, "bodies go with their owners");
}

#[test]
fn no_value_token_or_path_is_in_the_files() {
    let home = Home::made(1);
    let sequencer = home.start();
    wait(&sequencer, Lane::Mirror, everything(), Expects::default()).unwrap();
    let directory = home.location.path.parent().unwrap();
    let mut bytes = Vec::new();
    for file in fs::read_dir(directory).unwrap() {
        bytes.extend(fs::read(file.unwrap().path()).unwrap());
    }
    let contains = |text: &str| {
        bytes
            .windows(text.len())
            .any(|part| part == text.as_bytes())
    };
    assert!(bytes.len() > 4096 && contains("CREATE TABLE"));
    for secret in [
        "s.standing",
        "secret/data",
        "accessor-1",
        "capabilities",
        "orders",
        "\"new\"",
    ] {
        assert!(!contains(secret), "{secret} is in clear");
    }
    sequencer.stop();
}

#[test]
fn every_file_is_private_whatever_the_umask() {
    let before = rustix::process::umask(rustix::fs::Mode::empty());
    let home = Home::made(1);
    let sequencer = home.start();
    wait(
        &sequencer,
        Lane::Grant,
        vec![granted(1)],
        Expects::default(),
    )
    .unwrap();
    let mut seen = 0;
    for directory in ["replica", "anchor"] {
        let directory = home.dir.path().join(directory);
        assert_eq!(fs::metadata(&directory).unwrap().mode() & 0o777, 0o700);
        for file in fs::read_dir(&directory).unwrap() {
            let file = file.unwrap();
            let mode = file.metadata().unwrap().mode() & 0o777;
            assert_eq!(mode, 0o600, "{}", file.path().display());
            seen += 1;
        }
    }
    rustix::process::umask(before);
    assert!(seen >= 4, "the file, its log, its lock, its anchor");
    sequencer.stop();
}

#[test]
fn a_second_opener_is_told_that_it_is_in_use() {
    let home = Home::made(1);
    let first = home.open();
    assert!(matches!(home.try_open(), Err(OpenError::Busy(_))));
    let busy = Replica::create(
        &home.location_without_anchor(),
        &home.source,
        &Seeded::new(1),
    );
    assert!(matches!(busy, Err(CreateError::Busy(_))));
    drop(first);
    home.open();
}

impl Home {
    fn location_without_anchor(&self) -> Location {
        Location {
            anchor: None,
            ..self.location.clone()
        }
    }
}

#[test]
fn a_key_of_another_replica_is_named_and_none_of_the_files_changes() {
    let (home, other) = (Home::made(1), Home::empty(77));
    let before = fs::read(&home.location.path).unwrap();
    let opened = Replica::open(
        &home.location,
        std::slice::from_ref(&other.source),
        settings(),
        Arc::new(Seeded::new(1)),
    );
    let text = opened.err().unwrap().to_string();
    assert!(
        text.contains("belongs to another replica") && text.contains("key"),
        "{text}"
    );
    assert_eq!(fs::read(&home.location.path).unwrap(), before);
    let both = [other.source, home.source.clone()];
    let opened = Replica::open(&home.location, &both, settings(), Arc::new(Seeded::new(1)));
    assert!(opened.is_ok(), "one fitting key is enough");
}

#[test]
fn a_missing_replica_is_told_from_a_lost_one() {
    let home = Home::made(1);
    home.open();
    fs::remove_file(&home.location.path).unwrap();
    let lost = matches!(
        home.try_open(),
        Err(OpenError::Missing { anchored: true, .. })
    );
    assert!(lost);
    let again = Replica::create(&home.location, &home.source, &Seeded::new(1));
    assert!(matches!(again, Err(CreateError::Anchored(_))));
    let never = Home::empty(2);
    assert!(matches!(
        never.try_open(),
        Err(OpenError::Missing {
            anchored: false,
            ..
        })
    ));
}

#[test]
fn a_replica_is_never_overwritten_and_a_crash_while_making_one_leaves_none() {
    let home = Home::made(1);
    let location = home.location_without_anchor();
    let before = fs::read(&location.path).unwrap();
    let again = Replica::create(&location, &home.source, &Seeded::new(3));
    assert!(matches!(again, Err(CreateError::Exists(_))));
    assert_eq!(fs::read(&location.path).unwrap(), before);
    let half = Home::empty(4);
    private::directory(private::parent(&half.location.path)).unwrap();
    fs::write(private::beside(&half.location.path, ".new"), b"half").unwrap();
    assert!(matches!(half.try_open(), Err(OpenError::Missing { .. })));
    Replica::create(&half.location, &half.source, &Seeded::new(5)).unwrap();
    half.open();
}

#[test]
fn a_file_that_others_may_read_is_refused() {
    let home = Home::made(1);
    let mode = |mode| {
        fs::set_permissions(
            &home.location.path,
            std::os::unix::fs::PermissionsExt::from_mode(mode),
        )
        .unwrap();
    };
    mode(0o644);
    assert!(home.refusal().contains("chmod 600"));
    mode(0o600);
    home.open();
}

#[test]
fn something_else_and_something_newer_are_named() {
    let home = Home::made(1);
    home.sql("PRAGMA user_version = 99");
    assert!(matches!(
        home.try_open(),
        Err(OpenError::Newer { found: 99, .. })
    ));
    home.sql("PRAGMA application_id = 1");
    assert!(matches!(home.try_open(), Err(OpenError::Other(_))));
}

/// How many rounds of a randomised test; more with `HOLDOVER_ROUNDS`.
pub(crate) fn rounds(default: u32) -> u32 {
    std::env::var("HOLDOVER_ROUNDS")
        .ok()
        .and_then(|rounds| rounds.parse().ok())
        .unwrap_or(default)
}

#[test]
fn no_flipped_byte_is_believed() {
    let home = Home::made(1);
    home.store(everything());
    home.store(vec![Change::Ledger(Box::new(Entry::new(
        EntryKind::Grant,
        "allowed",
        T0,
    )))]);
    let whole = fs::read(&home.location.path).unwrap();
    let anchor = fs::read(home.location.anchor.as_ref().unwrap()).unwrap();
    let seed = 42;
    let random = Seeded::new(seed);
    let (mut refused, mut opened) = (0, 0);
    for round in 0..rounds(120) {
        let mut at = [0; 8];
        random.fill(&mut at).unwrap();
        let at = usize::try_from(u64::from_le_bytes(at)).unwrap() % whole.len();
        let mut flipped = whole.clone();
        flipped[at] ^= 1 << (round % 8);
        fs::write(&home.location.path, &flipped).unwrap();
        let _ = fs::remove_file(private::beside(&home.location.path, "-wal"));
        fs::write(home.location.anchor.as_ref().unwrap(), &anchor).unwrap();
        match home.try_open() {
            Err(error) => {
                refused += 1;
                assert!(error.to_string().contains("replica.db"), "{error}");
            }
            Ok(replica) => {
                opened += 1;
                salvaged::assert_opened(&replica, at, seed);
            }
        }
    }
    assert!(
        refused > 0 && opened > 0,
        "{refused} refused, {opened} opened"
    );
}

/// Something is lost, and nobody may do more than before.
fn assert_no_more(opened: &Opened, at: usize, seed: u64) {
    let view = &opened.view;
    let context = format!("byte {at}, seed {seed}: {:?}", view.damage());
    assert!(
        view.grant(&digest(2)).is_none() || view.revocation(&digest(2)).is_some(),
        "{context}"
    );
    assert!(view.grants().len() <= 2, "{context}");
    let offboarded = view.authority().offboarded;
    assert!(offboarded.is_some(), "{context}");
    let lost = [RowKind::Phase, RowKind::Mark].map(|kind| view.authority().lost.any_of(kind));
    assert!(opened.report.rolled_back || lost == [false; 2], "{context}");
}

/// Whoever may do something is as it was, and what a value's body says is right or does not open.
fn assert_authority(opened: &Opened, at: usize, seed: u64) {
    let view = &opened.view;
    let context = format!("byte {at}, seed {seed}");
    assert!(view.revocation(&digest(1)).is_none(), "{context}");
    assert!(view.revocation(&digest(2)).is_some(), "{context}");
    assert_eq!(view.grants().len(), 2, "{context}");
    assert_eq!(view.authority().epoch, 3, "{context}");
    assert!(view.authority().policies.is_some(), "{context}");
    assert_eq!(view.authority().secret_ids.len(), 1, "{context}");
    for record in view.secrets().records.values() {
        if let Ok(body) = record.body.open(view.keys()) {
            let version = record.record.version.unwrap();
            let bodies: [&[u8]; 2] = [br#"{"old":1}"#, br#"{"new":2}"#];
            let expected = bodies[usize::try_from(version - 1).unwrap()];
            assert_eq!(body.expose(), expected, "{context}");
        }
    }
}

#[test]
fn after_a_failure_storage_refuses_every_change() {
    let home = Home::made(1);
    let mut storage = home.open().writer.storage;
    let at = At {
        table: Table::Grant,
        key: [1; 32],
    };
    let sealed = |version| Sealed {
        epoch: 1,
        version,
        bytes: Arc::from([0; 30]),
    };
    storage.put(&at, &sealed(1)).unwrap();
    let beyond = storage.put(&at, &sealed(u64::MAX));
    assert!(
        matches!(beyond, Err(StoreError::Database { .. })),
        "not an integer of SQLite's"
    );
    let header = HeaderRow {
        generation: 9,
        sealed: sealed(2),
    };
    assert!(matches!(
        storage.put(&at, &sealed(3)),
        Err(StoreError::Stopped)
    ));
    assert!(matches!(storage.delete(&at), Err(StoreError::Stopped)));
    assert!(matches!(storage.commit(&header), Err(StoreError::Stopped)));
    assert!(matches!(storage.trim(1), Err(StoreError::Stopped)));
    assert!(matches!(storage.checkpoint(), Err(StoreError::Stopped)));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8))]

    /// Whatever was committed in whatever order, a restart gives what the view showed.
    #[test]
    fn a_restart_shows_what_the_view_showed(steps in prop::collection::vec((0u64..6, 0u8..5), 1..40)) {
        let home = Home::made(1);
        let sequencer = home.start();
        for (n, what) in &steps {
            let path = format!("secret/data/{n}");
            let change = match what {
                0 => granted(*n),
                1 => revoked(*n),
                2 => Change::GrantForgotten(digest(*n)),
                3 => samples::value(&path, 1, &format!("{{\"n\":{}}}", steps.len())),
                _ => Change::RecordGone(place(&path), Some(1)),
            };
            let _ = wait(&sequencer, Lane::Mirror, vec![change], Expects::default());
        }
        sequencer.stop();
        let before = summary(sequencer.view());
        prop_assert_eq!(before, summary(&home.open().view));
    }
}

/// Which grants live, which are revoked, and what each value is.
type Summary = (Vec<(u64, bool, bool)>, Vec<(String, Vec<u8>)>);

fn summary(view: &View) -> Summary {
    let grants = (0..6).map(|n| {
        let revoked = view.revocation(&digest(n)).is_some();
        (n, view.grant(&digest(n)).is_some(), revoked)
    });
    let secrets = view.secrets();
    let values = secrets.records.values().map(|held| {
        let body = held.body.open(view.keys()).unwrap().expose().clone();
        (held.record.place.path.as_str().to_owned(), body)
    });
    (grants.collect(), values.collect())
}
