//! `holdover init`: a key, a replica and a commented configuration, all of them or none.

mod template;

use std::{
    fs::{DirBuilder, OpenOptions},
    io::{self, Write},
    os::{
        fd::OwnedFd,
        unix::fs::{DirBuilderExt, OpenOptionsExt, chown},
    },
    path::{Path, PathBuf},
};

use replica::{
    entropy::OsEntropy,
    key::slot::{self, Source, SourceError},
    store::{CreateError, Location, Replica},
};

use rustix::{
    fs::{Gid, Mode, OFlags, Uid, fchown, fstat, open},
    io::Errno,
    process::geteuid,
};

use crate::{
    cli::{Exit, Failure, out},
    config::{Config, ConfigErrors},
};

#[derive(clap::Args)]
pub(super) struct InitArgs {
    /// An address of the primary, as in https://vault:8200. Repeat it for more, in order of preference.
    #[arg(long, value_name = "URL", required = true)]
    address: Vec<String>,
    /// The PEM file of the CA that signed the primary's certificate. Needed for https.
    #[arg(long, value_name = "PATH")]
    ca_file: Option<PathBuf>,
    /// The key file to make. Keep it on a different disk from the replica, or at least in a different folder.
    #[arg(long, value_name = "PATH", default_value = "/etc/holdover/replica.key")]
    key: PathBuf,
    /// The replica to make.
    #[arg(
        long,
        value_name = "PATH",
        default_value = "/var/lib/holdover/replica.db"
    )]
    replica: PathBuf,
    /// Where the workload socket will be.
    #[arg(
        long,
        value_name = "PATH",
        default_value = "/run/holdover/holdover.sock"
    )]
    socket: PathBuf,
    /// Where the admin socket will be.
    #[arg(long, value_name = "PATH", default_value = "/run/holdover/admin.sock")]
    admin_socket: PathBuf,
    /// Log in to the primary with the token in this file instead of by AppRole.
    #[arg(long, value_name = "PATH")]
    token_file: Option<PathBuf>,
    /// The user that will run the daemon and will own everything that is made; the current user by default.
    #[arg(long, value_name = "USER")]
    owner: Option<String>,
}

/// Why nothing was made.
#[derive(Debug, thiserror::Error)]
pub(super) enum InitError {
    /// The configuration would not be good.
    #[error("nothing was made, because the configuration would be wrong:\n{0}")]
    Config(#[source] ConfigErrors),
    /// Something is there already.
    #[error("nothing was made: {} already there; init overwrites nothing: choose another path", list(.0))]
    Exists(Vec<PathBuf>),
    /// The system refused.
    #[error("nothing was made: cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// With what.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The key could not be made.
    #[error("nothing was made: {0}")]
    Key(#[source] SourceError),
    /// There is no such user.
    #[error("nothing was made: {0:?} is not a user of this host; create it, or leave --owner out")]
    Owner(String),
    /// The replica could not be made.
    #[error("nothing was made: {0}")]
    Replica(#[source] CreateError),
}

pub(super) fn perform(args: &InitArgs, config: &Path) -> Result<Exit, Failure> {
    init(args, config)?;
    out::page(&template::next_steps(args, config))?;
    Ok(Exit::Done)
}

/// Makes everything, or nothing. The configuration comes last: without it nothing uses the rest.
fn init(args: &InitArgs, config: &Path) -> Result<(), InitError> {
    let text = template::configuration(args, config);
    let checked = Config::parse(&text, config).map_err(InitError::Config)?;
    let owner = args.owner.as_deref().map(owner).transpose()?;
    let new = [&args.key, &args.replica, config];
    let there: Vec<PathBuf> = new
        .iter()
        .filter(|path| path.symlink_metadata().is_ok())
        .map(|path| path.to_path_buf())
        .collect();
    if !there.is_empty() {
        return Err(InitError::Exists(there));
    }
    let mut made = Made::default();
    for path in new {
        made.folder(path)?;
    }
    made.note(&args.key);
    slot::create_file(&args.key, &OsEntropy).map_err(InitError::Key)?;
    made.note_replica(&args.replica);
    let location = Location {
        path: args.replica.clone(),
        anchor: None,
        ledger_max: checked.ledger.max_size,
    };
    let source = Source::File(args.key.clone());
    if let Some(owner) = owner {
        made.borrow_folder(&args.replica, owner)?;
    }
    Replica::create(&location, &source, &OsEntropy).map_err(InitError::Replica)?;
    made.note(config);
    write_new(config, &text)?;
    if let Some(owner) = owner {
        made.give_to(owner)?;
    }
    made.keep();
    Ok(())
}

/// What was made so far; taken away again unless it is kept.
#[derive(Default)]
struct Made {
    files: Vec<PathBuf>,
    folders: Vec<PathBuf>,
    borrowed: Option<Borrowed>,
    kept: bool,
}

/// A folder that is the owner's already, and ours while something is made in it.
struct Borrowed {
    folder: OwnedFd,
    owner: (u32, u32),
}

impl Drop for Borrowed {
    fn drop(&mut self) {
        let (uid, gid) = self.owner;
        let back = fchown(
            &self.folder,
            Some(Uid::from_raw(uid)),
            Some(Gid::from_raw(gid)),
        );
        if let Err(error) = back {
            out::error(&format!(
                "the folder of the replica could not be given back: {error}"
            ));
        }
    }
}

impl Made {
    /// From here on `path` may be there.
    fn note(&mut self, path: &Path) {
        self.files.push(path.to_owned());
    }

    /// The same of a replica and the files that are kept beside it, where they are not somebody else's already.
    fn note_replica(&mut self, path: &Path) {
        let suffixes = [
            "",
            "-wal",
            "-shm",
            "-journal",
            ".lock",
            ".new",
            ".new-wal",
            ".new-shm",
            ".new-journal",
        ];
        let beside = suffixes.iter().map(|suffix| {
            let mut beside = path.as_os_str().to_owned();
            beside.push(suffix);
            PathBuf::from(beside)
        });
        self.files.extend(beside.filter(|path| !path.exists()));
    }

    /// Makes the folders above `path` that are not there, for their owner alone.
    fn folder(&mut self, path: &Path) -> Result<(), InitError> {
        let above = path.ancestors().skip(1);
        let missing: Vec<_> = above.take_while(|folder| !folder.exists()).collect();
        for folder in missing.into_iter().rev() {
            let made = DirBuilder::new().mode(0o700).create(folder);
            made.map_err(|source| InitError::Io {
                action: "make the folder",
                path: folder.to_owned(),
                source,
            })?;
            self.folders.push(folder.to_owned());
        }
        Ok(())
    }

    /// Takes the folder of `path` from the owner for as long as something is made in it: what a replica lies in must
    /// belong to who makes it, so that nobody else can put anything in its way meanwhile.
    fn borrow_folder(&mut self, path: &Path, (uid, _): (u32, u32)) -> Result<(), InitError> {
        let Some(folder) = path.parent() else {
            return Ok(());
        };
        let failed = |source: Errno| InitError::Io {
            action: "take over",
            path: folder.to_owned(),
            source: source.into(),
        };
        let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let held = open(folder, flags, Mode::empty()).map_err(failed)?;
        let found = fstat(&held).map_err(failed)?;
        let ours = geteuid();
        if found.st_uid != uid || ours.as_raw() == uid {
            return Ok(());
        }
        fchown(&held, Some(ours), None).map_err(failed)?;
        self.borrowed = Some(Borrowed {
            folder: held,
            owner: (found.st_uid, found.st_gid),
        });
        Ok(())
    }

    fn give_to(&self, (uid, gid): (u32, u32)) -> Result<(), InitError> {
        let there = self
            .folders
            .iter()
            .chain(&self.files)
            .filter(|path| path.exists());
        for path in there {
            chown(path, Some(uid), Some(gid)).map_err(|source| InitError::Io {
                action: "give away",
                path: path.clone(),
                source,
            })?;
        }
        Ok(())
    }

    fn keep(mut self) {
        self.kept = true;
    }
}

impl Drop for Made {
    fn drop(&mut self) {
        if self.kept {
            return;
        }
        // What is not there, or no longer empty, is not ours to take away.
        for file in self.files.iter().rev() {
            let _ = std::fs::remove_file(file);
        }
        for folder in self.folders.iter().rev() {
            let _ = std::fs::remove_dir(folder);
        }
    }
}

fn write_new(path: &Path, text: &str) -> Result<(), InitError> {
    let write = || {
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o640)
            .open(path)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()
    };
    write().map_err(|source| InitError::Io {
        action: "write",
        path: path.to_owned(),
        source,
    })
}

fn owner(name: &str) -> Result<(u32, u32), InitError> {
    match nix::unistd::User::from_name(name) {
        Ok(Some(user)) => Ok((user.uid.as_raw(), user.gid.as_raw())),
        _ => Err(InitError::Owner(name.to_owned())),
    }
}

fn list(paths: &[PathBuf]) -> String {
    let names: Vec<_> = paths
        .iter()
        .map(|path| path.display().to_string())
        .collect();
    let verb = if names.len() == 1 { "is" } else { "are" };
    format!("{} {verb}", names.join(" and "))
}

#[cfg(test)]
mod tests {
    use std::{
        collections::{BTreeMap, BTreeSet},
        os::unix::fs::PermissionsExt,
    };

    use super::*;
    use crate::config::{ConfigError, PrimaryConfig, Problem};

    fn args(folder: &Path) -> InitArgs {
        InitArgs {
            address: vec!["http://127.0.0.1:8200".to_owned()],
            ca_file: None,
            key: folder.join("etc/replica.key"),
            replica: folder.join("lib/replica.db"),
            socket: folder.join("run/holdover.sock"),
            admin_socket: folder.join("run/admin.sock"),
            token_file: None,
            owner: None,
        }
    }

    fn mode(path: &Path) -> u32 {
        path.metadata().unwrap().permissions().mode() & 0o7777
    }

    fn entries(folder: &Path) -> usize {
        folder.read_dir().unwrap().count()
    }

    #[test]
    fn what_it_makes_is_private_and_its_configuration_is_good() {
        let folder = tempfile::tempdir().unwrap();
        let (args, config) = (args(folder.path()), folder.path().join("etc/holdover.toml"));
        init(&args, &config).unwrap();
        assert_eq!(mode(&args.key), 0o600);
        assert_eq!(mode(&args.replica), 0o600);
        assert_eq!(mode(args.replica.parent().unwrap()), 0o700);
        assert_eq!(mode(&config), 0o640);
        let config = Config::load(&config).unwrap();
        assert_eq!(config.replica.path, args.replica);
        assert_eq!(
            config.primary.addresses.first().unwrap().url,
            "http://127.0.0.1:8200"
        );
        let text = std::fs::read_to_string(&args.key).unwrap();
        assert!(
            text.trim().len() == 64 && text.trim().bytes().all(|byte| byte.is_ascii_hexdigit())
        );
    }

    #[test]
    fn nothing_is_overwritten_and_every_obstacle_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let (args, config) = (args(folder.path()), folder.path().join("etc/holdover.toml"));
        init(&args, &config).unwrap();
        let before = std::fs::read(&args.key).unwrap();
        let error = init(&args, &config).unwrap_err();
        assert!(
            matches!(&error, InitError::Exists(there) if there.len() == 3),
            "{error}"
        );
        assert_eq!(std::fs::read(&args.key).unwrap(), before);
    }

    #[test]
    fn a_failure_leaves_nothing_behind() {
        let folder = tempfile::tempdir().unwrap();
        let mut args = args(folder.path());
        let config = folder.path().join("etc/holdover.toml");
        // A file where a folder is needed: the key is made first, and taken away again.
        args.replica = args.key.join("replica.db");
        init(&args, &config).unwrap_err();
        assert_eq!(entries(folder.path()), 0);
        args.replica = folder.path().join("lib/replica.db");
        args.address = vec!["http://vault:8200".to_owned()];
        assert!(matches!(init(&args, &config), Err(InitError::Config(_))));
        args.address = vec!["http://127.0.0.1:8200".to_owned()];
        args.owner = Some("no-such-user-here".to_owned());
        assert!(matches!(init(&args, &config), Err(InitError::Owner(_))));
        assert_eq!(entries(folder.path()), 0);
    }

    #[test]
    fn every_way_to_be_asked_makes_a_good_configuration() {
        let folder = tempfile::tempdir().unwrap();
        let config = folder.path().join("holdover.toml");
        let tls = InitArgs {
            address: vec!["https://a:8200".to_owned(), "https://b:8200".to_owned()],
            ca_file: Some("/etc/ca \"quoted\".pem".into()),
            ..args(folder.path())
        };
        let parsed = Config::parse(&template::configuration(&tls, &config), &config).unwrap();
        assert_eq!(parsed.primary.addresses.len(), 2);
        assert_eq!(parsed.primary.ca_file, tls.ca_file);
        let token = InitArgs {
            token_file: Some("/run/token".into()),
            ..args(folder.path())
        };
        let parsed = Config::parse(&template::configuration(&token, &config), &config).unwrap();
        assert!(matches!(
            parsed.primary.auth.method,
            crate::config::AuthMethod::TokenFile { .. }
        ));
    }

    /// The file that is written, with every commented line in force.
    fn everything(folder: &Path) -> String {
        let config = folder.join("holdover.toml");
        let text = template::configuration(&args(folder), &config);
        let in_force = |line: &str| {
            let bare = line.strip_prefix("# ").unwrap_or_default();
            let key = bare.split(" = ").next().unwrap_or_default();
            let is_key = key != bare
                && key
                    .bytes()
                    .all(|byte| byte == b'_' || byte.is_ascii_lowercase());
            let line = if is_key || bare.starts_with('[') {
                bare
            } else {
                line
            };
            line.to_owned() + "\n"
        };
        let text: String = text.lines().map(in_force).collect();
        text.replace("user = \"orders\"", "user = \"root\"")
            .replace("group = \"adm\"", "group = \"root\"")
    }

    #[test]
    fn what_it_comments_out_are_the_defaults() {
        let folder = tempfile::tempdir().unwrap();
        let config = folder.path().join("holdover.toml");
        let least = Config::parse(
            &template::configuration(&args(folder.path()), &config),
            &config,
        )
        .unwrap();
        let all = Config::parse(&everything(folder.path()), &config)
            .unwrap_or_else(|error| panic!("{error}"));
        assert_eq!((least.failover, least.limits), (all.failover, all.limits));
        assert_eq!(
            (least.ledger, least.parity_sample),
            (all.ledger, all.parity_sample)
        );
        assert_eq!(least.settings.bounds, all.settings.bounds);
        assert_eq!(least.settings.approle_mounts, all.settings.approle_mounts);
        assert_eq!(least.listener, all.listener);
        let primary = PrimaryConfig {
            ca_file: None,
            ..all.primary
        };
        assert_eq!(least.primary, primary);
        assert_eq!(
            (all.settings.mirrors.len(), all.settings.workloads.len()),
            (1, 1)
        );
    }

    #[test]
    fn it_holds_every_key_that_the_reader_knows() {
        // Refused by name: not built yet.
        let unbuilt = [
            "primary.absent",
            "drill",
            "listener.tcp",
            "ledger.path",
            "ledger.host",
            "mirror.serve",
            "mirror.max_age",
            "workload.match.exe",
            "workload.match.sha256",
        ];
        let folder = tempfile::tempdir().unwrap();
        let written = everything(folder.path());
        for method in ["approle", "cert", "jwt", "kubernetes", "token_file"] {
            let text = written.replace("method = \"approle\"", &format!("method = {method:?}"));
            let known = known_keys(&text, folder.path());
            assert_eq!(known.len(), 15, "{known:?}");
            for (table, key) in known
                .into_iter()
                .flat_map(|(table, keys)| keys.into_iter().map(move |key| (table.clone(), key)))
            {
                let there = unbuilt.contains(&&*format!("{table}{key}"))
                    || written.contains(&format!("[{table}{key}]"))
                    || words(&written, &table).contains(key);
                assert!(there, "{table}{key}");
            }
        }
    }

    /// What the reader knows of each table: one unknown key in it makes an error that lists the others.
    fn known_keys(text: &str, folder: &Path) -> BTreeMap<String, Vec<&'static str>> {
        let text: String = text
            .lines()
            .flat_map(|line| {
                let more = if line.starts_with('[') {
                    "\nstrange = 1\n"
                } else {
                    "\n"
                };
                [line, more]
            })
            .collect();
        let text =
            "strange = 1\n".to_owned() + &text.replace("match = { ", "match = { strange = 1, ");
        let errors = Config::parse(&text, folder).unwrap_err().errors.into_iter();
        let of_table = |error: ConfigError| match error.problem {
            Problem::Unknown { known } => {
                Some((error.key.strip_suffix("strange")?.to_owned(), known))
            }
            _ => None,
        };
        errors.filter_map(of_table).collect()
    }

    /// Every word between a table's header and the next one.
    fn words<'a>(text: &'a str, table: &str) -> BTreeSet<&'a str> {
        let name = match table.trim_end_matches('.') {
            "workload.match" => "workload",
            name => name,
        };
        let is_it = |part: &&str| part.trim_start_matches('[').split(']').next() == Some(name);
        let text = text.split("\n[").find(is_it).unwrap_or_default();
        text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
            .collect()
    }
}
