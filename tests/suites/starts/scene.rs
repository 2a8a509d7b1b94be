//! A start's host: a copy of the original, with what is wrong with it.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use harness::daemon::Daemon;
use harness::port::Port;
use harness::random::Seeded;
use harness::{Context, Result, place};
use rustix::fs::{CWD, FileType, Mode, mknodat};

use crate::HOLDOVER;
use crate::case::{Case, Configuration, Disk, Fault, Primary};
use crate::original::{FOLDERS, Original, copy_folder};

/// The user that Holdover runs as where we may choose.
const USER: (u32, u32) = (4300, 4300);

/// Where the replica's files are put before they are copied to a disk of their own.
const STAGED: &str = "staged";

/// A host before its start.
pub(crate) struct Scene {
    pub(crate) daemon: Daemon,
    /// Where nobody listens.
    _nobody: Port,
    /// Files that something is wrong with that must show, of those that the replica is opened by.
    pub(crate) faulty: Vec<PathBuf>,
}

impl Scene {
    pub(crate) fn set(original: &Original, case: &Case, random: &mut Seeded) -> Result<Scene> {
        let user = place::is_root().then_some(USER);
        let daemon = Daemon::install(HOLDOVER.as_ref(), user)?;
        let nobody = Port::reserve()?;
        let folder = daemon.folder();
        for name in FOLDERS {
            copy_folder(&original.folder(false).join(name), &folder.join(name))?;
        }
        let address = match case.primary {
            Primary::Answers => original.host.primary.address(),
            Primary::Refuses => format!("https://127.0.0.1:{}", nobody.number()),
        };
        daemon.configure(&original.config(&daemon, address))?;
        let mut faulty = Vec::new();
        let files = [
            ("state/replica.db", case.replica),
            ("anchor/generation", case.anchor),
            ("etc/replica.key", case.key),
            ("etc/role_id", case.role_id),
            ("etc/secret_id", case.secret_id),
        ];
        for (name, fault) in files {
            let path = folder.join(name);
            inflict(fault, &path, &original.folder(true).join(name), random)?;
            // A replica may be corrupt or cut where nothing is, or where the log of commits has it whole.
            let hides = match name {
                "state/replica.db" => matches!(fault, Fault::Corrupt | Fault::Cut),
                name => name.ends_with("_id"),
            };
            if !hides && !matches!(fault, Fault::None | Fault::Stale) {
                faulty.push(path);
            }
        }
        spoil(case.configuration, &daemon.config_file())?;
        for name in FOLDERS {
            own(&folder.join(name), user)?;
        }
        if case.disk != Disk::Plain {
            std::fs::rename(folder.join("state"), folder.join(STAGED))?;
            std::fs::create_dir(folder.join("state"))?;
            own(&folder.join("state"), user)?;
            daemon.mount(&mounts(case.disk, user))?;
        }
        Ok(Scene {
            daemon,
            _nobody: nobody,
            faulty,
        })
    }
}

/// A small disk in memory with the replica on it.
fn mounts(disk: Disk, user: Option<(u32, u32)>) -> String {
    // In a user namespace we are root.
    let (uid, gid) = user.unwrap_or((0, 0));
    let mount = format!("mount -t tmpfs -o size=8m,mode=0700,uid={uid},gid={gid} tmpfs state");
    let last = match disk {
        Disk::Full => "dd if=/dev/zero of=state/filler bs=4k 2>/dev/null || true",
        _ => "mount -o remount,ro state",
    };
    format!("{mount}; cp -a {STAGED}/. state/; {last}")
}

/// Makes `path` what the fault says. `older` is the same file some time ago.
fn inflict(fault: Fault, path: &Path, older: &Path, random: &mut Seeded) -> Result<()> {
    let mut content = std::fs::read(path).context(path.display())?;
    let gone = || -> Result<()> {
        // What SQLite keeps beside a file goes with it.
        let beside = PathBuf::from(format!("{}-wal", path.display()));
        if beside.exists() {
            std::fs::remove_file(beside)?;
        }
        Ok(std::fs::remove_file(path)?)
    };
    match fault {
        Fault::None => {}
        Fault::Absent => gone()?,
        Fault::Empty => std::fs::write(path, "")?,
        Fault::Corrupt => {
            for _ in 0..=random.below(30) {
                let at = random.index(content.len());
                if let Some(byte) = content.get_mut(at) {
                    *byte ^= 1 << random.below(8);
                }
            }
            std::fs::write(path, content)?;
        }
        Fault::Cut => {
            content.truncate(content.len() / 2);
            std::fs::write(path, content)?;
        }
        Fault::Stale => {
            gone()?;
            for beside in ["", "-wal"] {
                let from = PathBuf::from(format!("{}{beside}", older.display()));
                if from.exists() {
                    std::fs::copy(&from, format!("{}{beside}", path.display()))?;
                }
            }
        }
        Fault::Unreadable => std::fs::set_permissions(path, PermissionsExt::from_mode(0o000))?,
        Fault::Folder => {
            gone()?;
            std::fs::create_dir(path)?;
        }
        Fault::Fifo => {
            gone()?;
            let mode = Mode::RUSR | Mode::WUSR;
            mknodat(CWD, path, FileType::Fifo, mode, 0)?;
        }
        Fault::Marked => {
            content.splice(0..0, *b"\xef\xbb\xbf");
            std::fs::write(path, content)?;
        }
        Fault::TwoLines => {
            content.extend_from_slice(b"\nand a second line\n");
            std::fs::write(path, content)?;
        }
    }
    Ok(())
}

fn spoil(configuration: Configuration, path: &Path) -> Result<()> {
    let text = std::fs::read_to_string(path)?;
    match configuration {
        Configuration::Good => {}
        Configuration::Absent => std::fs::remove_file(path)?,
        Configuration::Unreadable => {
            std::fs::set_permissions(path, PermissionsExt::from_mode(0o000))?;
        }
        Configuration::Garbage => std::fs::write(path, "[primary\n")?,
        Configuration::UnknownKey => std::fs::write(path, format!("{text}\n[nothing]\nx = 1\n"))?,
        Configuration::BadValue => {
            let bad = text.replace("failures = 1", "failures = -1");
            std::fs::write(path, bad)?;
        }
    }
    Ok(())
}

/// Gives a folder and what is in it to the daemon's user.
fn own(folder: &Path, user: Option<(u32, u32)>) -> Result<()> {
    let Some((uid, gid)) = user else {
        return Ok(());
    };
    let give =
        |path: &Path| std::os::unix::fs::lchown(path, Some(uid), Some(gid)).context(path.display());
    give(folder)?;
    for entry in std::fs::read_dir(folder)? {
        give(&entry?.path())?;
    }
    Ok(())
}
