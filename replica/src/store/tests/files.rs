//! Each file that a replica consists of, and whatever can lie in its place: it hangs nothing, nothing counts for more because of it,
//! and once the right file is back, all is as it was.

use std::{
    collections::BTreeMap,
    fs::Permissions,
    os::unix::fs::{PermissionsExt as _, symlink},
};

use rustix::fs::{CWD, FileType, Mode, mknodat};

use super::*;

#[derive(Clone, Copy, PartialEq, Debug)]
enum Fault {
    Absent,
    Corrupt,
    Directory,
    Empty,
    /// Something else of the same kind, of another replica.
    Foreign,
    Link,
    /// Others may read it.
    Open,
    Pipe,
    /// As it was before.
    Stale,
    TooLarge,
}

const FAULTS: [Fault; 10] = [
    Fault::Absent,
    Fault::Corrupt,
    Fault::Directory,
    Fault::Empty,
    Fault::Foreign,
    Fault::Link,
    Fault::Open,
    Fault::Pipe,
    Fault::Stale,
    Fault::TooLarge,
];

/// Every file of a home.
#[derive(Clone)]
struct Files(BTreeMap<PathBuf, Vec<u8>>);

fn of(home: &Home) -> [PathBuf; 5] {
    let beside = |suffix| private::beside(&home.location.path, suffix);
    [
        home.location.path.clone(),
        beside(".lock"),
        beside(".reserve"),
        home.location.anchor.clone().unwrap(),
        home.dir.path().join("key"),
    ]
}

impl Files {
    fn of(home: &Home) -> Self {
        let content = |path: PathBuf| Some((path.clone(), fs::read(path).ok()?));
        Self(of(home).into_iter().filter_map(content).collect())
    }

    /// Puts them back, and nothing beside them.
    fn restore(&self, home: &Home) {
        for path in of(home) {
            remove(&path);
        }
        let folder = private::parent(&home.location.path);
        for left in fs::read_dir(folder).unwrap() {
            remove(&left.unwrap().path());
        }
        for (path, content) in &self.0 {
            put(path, content);
        }
    }
}

fn remove(path: &Path) {
    let _ = fs::remove_dir_all(path);
    let _ = fs::remove_file(path);
}

fn put(path: &Path, content: &[u8]) {
    fs::write(path, content).unwrap();
    fs::set_permissions(path, Permissions::from_mode(0o600)).unwrap();
}

/// Puts it there. False if there is no such fault of that file.
fn inflict(fault: Fault, path: &Path, old: &Files, foreign: &[u8]) -> bool {
    let now = fs::read(path).unwrap();
    remove(path);
    match fault {
        Fault::Absent => {}
        Fault::Corrupt => put(path, &vec![0xaa; now.len().max(64)]),
        Fault::Directory => fs::create_dir(path).unwrap(),
        Fault::Empty => put(path, b""),
        Fault::Foreign => put(path, foreign),
        Fault::Link => {
            let to = private::beside(path, ".linked");
            put(&to, &now);
            symlink(to, path).unwrap();
        }
        Fault::Open => {
            put(path, &now);
            fs::set_permissions(path, Permissions::from_mode(0o644)).unwrap();
        }
        Fault::Pipe => mknodat(CWD, path, FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap(),
        Fault::Stale => match old.0.get(path) {
            Some(before) => put(path, before),
            None => return false,
        },
        Fault::TooLarge => {
            let more = vec![0; 3 << 20];
            put(path, &[now, more].concat());
        }
    }
    true
}

/// Who lives, by the view.
fn living(opened: &Opened) -> Vec<u64> {
    let lives = |n: &u64| {
        let grant = opened.view.grant(&digest(*n));
        grant.is_some_and(|live| live.revoked.get().is_none())
            && opened.view.revocation(&digest(*n)).is_none()
    };
    (1..=4).filter(lives).collect()
}

#[test]
fn whatever_lies_in_the_place_of_a_file_grants_nothing_more_and_the_right_one_is_taken_up() {
    let home = Home::made(1);
    home.store(everything());
    let old = Files::of(&home);
    home.store(vec![granted(3), granted(4), revoked(4)]);
    salvaged::revoke_in_the_reserve(&home, 3);
    let whole = Files::of(&home);
    assert_eq!(living(&home.open()), [1]);
    whole.restore(&home);
    let other = Home::made(77);
    other.store(everything());
    let foreign = Files::of(&other);
    for (path, theirs) in of(&home).into_iter().zip(of(&other)) {
        for fault in FAULTS {
            let context = format!("{fault:?} as {}", path.display());
            if inflict(fault, &path, &old, &foreign.0[&theirs]) {
                judge(home.try_open(), &path, &context);
            }
            whole.restore(&home);
            let opened = home.open();
            assert_eq!(living(&opened), [1], "{context}");
            assert!(opened.view.damage().is_empty(), "{context}");
            drop(opened);
            whole.restore(&home);
        }
    }
}

/// What was revoked is not alive, unless the replica says that it may be older than it was, so that it issues nothing.
fn judge(result: Result<Opened, OpenError>, path: &Path, context: &str) {
    match result {
        Ok(opened) => {
            let living = living(&opened);
            assert!(
                opened.report.rolled_back || living.iter().all(|n| *n == 1),
                "{context}: {living:?}"
            );
            assert!(!living.contains(&2), "{context}: it was revoked in both");
        }
        Err(error) => {
            let text = error.to_string();
            let name = path.file_name().unwrap().to_str().unwrap();
            let replica = "replica.db";
            assert!(
                text.contains(name) || text.contains(replica),
                "{context}: {text}"
            );
        }
    }
}
