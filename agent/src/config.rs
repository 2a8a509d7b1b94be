//! What the program uses of the configuration: complete and checked before anything is opened.
//!
//! The file's shape is [`file`]'s alone; every error is reported with its line.

mod error;
mod file;
mod mirror;
mod primary;
mod service;
pub(crate) mod value;
pub mod watch;
mod workload;

use std::{
    net::SocketAddr,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::Duration,
};

use shared::{
    failover::Knobs,
    name::{Namespace, WorkloadName},
    settings::{Bounds, MirrorPath, Settings},
};
use toml::de::DeTable;

pub use self::error::{ConfigError, ConfigErrors, Problem};
use self::file::{Section, SourceFile};

/// Where the configuration is looked for unless `--config` says otherwise.
pub const DEFAULT_PATH: &str = "/etc/holdover/holdover.toml";

/// The configuration of a running daemon.
#[derive(Clone, PartialEq, Debug)]
pub struct Config {
    /// The file that it was read from.
    pub path: PathBuf,
    /// `[primary]`.
    pub primary: PrimaryConfig,
    /// `[replica]`.
    pub replica: ReplicaConfig,
    /// `[listener]`.
    pub listener: ListenerConfig,
    /// `[admin]`.
    pub admin: AdminConfig,
    /// `[failover]`.
    pub failover: FailoverConfig,
    /// `[ledger]`.
    pub ledger: LedgerConfig,
    /// `[limits]`.
    pub limits: LimitsConfig,
    /// `[parity] sample`: the share of forwarded requests that the replica judges too, 0 to 1.
    pub parity_sample: f64,
    /// How each workload entry recognises its peers, in the configuration's order.
    pub matches: Vec<(WorkloadName, PeerMatch)>,
    /// What decisions go by: workloads, mirrors, bounds.
    pub settings: Settings,
    /// What an operator should know, though nothing is wrong.
    pub findings: Vec<String>,
    /// The files that Holdover's own login is made from.
    pub credential_files: Vec<CredentialFile>,
}

/// A file that Holdover's own login is made from. That it is not there yet is no mistake: something else may bring it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CredentialFile {
    /// Where the configuration names it, counted from 1.
    pub line: usize,
    /// The key of `[primary.auth]` that names it.
    pub key: &'static str,
    /// The file.
    pub path: PathBuf,
}

/// `[primary]`.
#[derive(Clone, PartialEq, Debug)]
pub struct PrimaryConfig {
    /// In order of preference: scheme, host, port; no path.
    pub addresses: Vec<Address>,
    /// The private CA; none means the built-in roots are not used either, and only http works.
    pub ca_file: Option<PathBuf>,
    /// The namespace.
    pub namespace: Namespace,
    /// For the TCP and TLS handshakes together.
    pub connect_timeout: Duration,
    /// For a fallbackable read, to the last byte.
    pub read_deadline: Duration,
    /// Of Holdover's own requests.
    pub requests_per_second: u32,
    /// How often an idle token is looked up.
    pub token_check_interval: Duration,
    /// `[primary.auth]`.
    pub auth: AuthConfig,
}

/// One address of the primary.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Address {
    /// As configured, without a trailing slash: `https://vault-a:8200`.
    pub url: String,
    /// Whether it is `https`.
    pub tls: bool,
    /// The host, without brackets.
    pub host: String,
    /// The port.
    pub port: u16,
}

/// `[primary.auth]`.
#[derive(Clone, PartialEq, Debug)]
pub struct AuthConfig {
    /// Where the auth method is mounted; unused by `token_file`.
    pub mount: String,
    /// How Holdover logs in.
    pub method: AuthMethod,
}

/// How Holdover logs in.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum AuthMethod {
    /// AppRole, with the ids read from files at each login.
    AppRole {
        /// `role_id_file`.
        role_id_file: PathBuf,
        /// `secret_id_file`.
        secret_id_file: PathBuf,
    },
    /// A TLS client certificate, shown on Holdover's own connections alone.
    Cert {
        /// `name` of the role; without one the primary tries them all.
        name: Option<String>,
        /// `cert_file`: the certificate, and what lies between it and its CA.
        cert_file: PathBuf,
        /// `key_file`.
        key_file: PathBuf,
    },
    /// A signed token that something else puts into a file, read at each login.
    Jwt {
        /// `role`; without one the primary's `default_role`.
        role: Option<String>,
        /// `jwt_file`.
        jwt_file: PathBuf,
    },
    /// The same, where a Kubernetes cluster vouches for it.
    Kubernetes {
        /// `role`.
        role: String,
        /// `jwt_file`: the service account's projected token.
        jwt_file: PathBuf,
    },
    /// A token that something else puts into a file; watched.
    TokenFile {
        /// `path`.
        path: PathBuf,
    },
}

impl AuthMethod {
    /// The files that a login is made from, by the keys that name them.
    pub fn files(&self) -> Vec<(&'static str, &Path)> {
        match self {
            Self::AppRole {
                role_id_file,
                secret_id_file,
            } => vec![
                ("role_id_file", role_id_file),
                ("secret_id_file", secret_id_file),
            ],
            Self::Cert {
                cert_file,
                key_file,
                ..
            } => vec![("cert_file", cert_file), ("key_file", key_file)],
            Self::Jwt { jwt_file, .. } | Self::Kubernetes { jwt_file, .. } => {
                vec![("jwt_file", jwt_file)]
            }
            Self::TokenFile { path } => vec![("path", path)],
        }
    }
}

/// `[replica]`.
#[derive(Clone, PartialEq, Debug)]
pub struct ReplicaConfig {
    /// The file.
    pub path: PathBuf,
    /// The state file of the generation.
    pub anchor: Option<PathBuf>,
    /// Where the root key's slots get their keys from.
    pub keys: Vec<KeySource>,
}

/// `[[replica.key]]`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum KeySource {
    /// 64 hex digits in a file of mode 0600.
    File(PathBuf),
}

/// `[listener]`.
#[derive(Clone, PartialEq, Debug)]
pub struct ListenerConfig {
    /// The workload socket.
    pub socket: PathBuf,
    /// Its mode.
    pub mode: u32,
}

/// `[admin]`.
#[derive(Clone, PartialEq, Debug)]
pub struct AdminConfig {
    /// The admin socket, mode 0600.
    pub socket: PathBuf,
    /// The group that may use it besides its owner: the mode is 0660 then.
    pub group: Option<u32>,
    /// A loopback address that serves `/metrics` alone.
    pub metrics: Option<SocketAddr>,
}

/// `[failover]`, as far as the machine goes by it; its bounds are in [`Settings`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FailoverConfig {
    /// Failed probes in a row that make an outage.
    pub failures: u32,
    /// Good probes in a row that end one.
    pub successes: u32,
    /// Between probes while following.
    pub probe_interval: Duration,
    /// For one probe.
    pub probe_timeout: Duration,
    /// How long a login or issuance waits for the machine to decide.
    pub issue_deadline: Duration,
    /// How often a workload's authority is verified.
    pub authority_interval: Duration,
}

/// `[ledger]`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LedgerConfig {
    /// The most bytes that the ledger takes in the replica; issuing fails closed once it is full.
    pub max_size: u64,
}

/// `[limits]`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LimitsConfig {
    /// Connections at once.
    pub connections: u32,
    /// Connections of one uid at once.
    pub connections_per_uid: u32,
    /// Requests of one uid a second.
    pub requests_per_second_per_uid: u32,
    /// Bytes of a request that the replica answers.
    pub request_size: u64,
    /// Failed logins of one uid a minute.
    pub login_failures_per_minute_per_uid: u32,
}

/// `match` of a `[[workload]]`: every field that is set must hold.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct PeerMatch {
    /// `uid`, or `user` resolved at load.
    pub uid: Option<u32>,
    /// `gid`, or `group` resolved at load: primary or supplementary.
    pub gid: Option<u32>,
    /// `unit`.
    pub unit: Option<String>,
}

impl Config {
    /// Reads and checks the file at `path`. Opens nothing else.
    ///
    /// # Errors
    /// With every mistake in it, each with its line.
    pub fn load(path: &Path) -> Result<Self, ConfigErrors> {
        let alone = |problem| ConfigErrors {
            path: path.to_owned(),
            errors: vec![ConfigError {
                line: None,
                key: String::new(),
                problem,
            }],
        };
        let mode = std::fs::metadata(path).map_err(|error| alone(Problem::Read(error)))?;
        if mode.mode() & 0o002 != 0 {
            let mode = mode.mode() & 0o7777;
            return Err(alone(Problem::Loose { mode }));
        }
        let text = std::fs::read_to_string(path).map_err(|error| alone(Problem::Read(error)))?;
        Self::parse(&text, path)
    }

    /// Checks `text` as the content of the file at `path`, which is only named.
    ///
    /// # Errors
    /// With every mistake in it, each with its line.
    pub fn parse(text: &str, path: &Path) -> Result<Self, ConfigErrors> {
        let source = SourceFile::new(text);
        let (table, broken) = DeTable::parse_recoverable(text);
        let config = read(&source.root(table.get_ref()), path);
        let (errors, findings) = source.finish(&broken);
        match config {
            Some(config) if errors.is_empty() => Ok(Self { findings, ..config }),
            _ => Err(ConfigErrors {
                path: path.to_owned(),
                errors,
            }),
        }
    }

    /// What the failover machine goes by.
    pub fn knobs(&self) -> Knobs {
        Knobs {
            failures: self.failover.failures,
            successes: self.failover.successes,
            probe_interval: self.failover.probe_interval,
            probe_timeout: self.failover.probe_timeout,
            max_outage: self.settings.bounds.max_outage,
        }
    }

    /// The tables in which `changed` differs from this one in what is fixed at the start.
    fn fixed_changes(&self, changed: &Self) -> Vec<&'static str> {
        // These two are asked for anew by what uses them.
        let primary = PrimaryConfig {
            read_deadline: changed.primary.read_deadline,
            token_check_interval: changed.primary.token_check_interval,
            ..self.primary.clone()
        };
        let tables = [
            ("primary", primary != changed.primary),
            ("replica", self.replica != changed.replica),
            ("listener", self.listener != changed.listener),
            ("admin", self.admin != changed.admin),
            ("ledger", self.ledger != changed.ledger),
        ];
        let differing = tables.into_iter().filter(|(_, differs)| *differs);
        differing.map(|(name, _)| name).collect()
    }
}

/// The admin socket that the file at `path` names, whatever else is wrong with it.
pub fn admin_socket(path: &Path) -> Option<PathBuf> {
    let text = std::fs::read_to_string(path).ok()?;
    let (table, _) = DeTable::parse_recoverable(&text);
    let admin = table.get_ref().get("admin")?.get_ref().get("socket")?;
    value::socket(admin.get_ref().as_str()?).ok()
}

/// The path of a mirror as it is configured.
///
/// # Errors
/// Why it is none.
pub fn mirror_path(text: &str) -> Result<MirrorPath, &'static str> {
    mirror::path(text)
}

/// Walks the whole file, whatever is wrong with its parts.
fn read(root: &Section<'_>, path: &Path) -> Option<Config> {
    let primary = primary::read(&root.table("primary"));
    let replica = service::replica(&root.table("replica"));
    let listener = service::listener(&root.table("listener"));
    let admin = service::admin(&root.table("admin"));
    let failover = service::failover(&root.table("failover"));
    let ledger = service::ledger(&root.table("ledger"));
    let parity_sample = service::parity(&root.table("parity"));
    service::unbuilt(root);
    let limits = service::limits(&root.table("limits"));
    let mirrors = mirror::read(&root.tables("mirror"), replica.max_staleness);
    let workloads = workload::read(&root.tables("workload"));
    root.finish();
    let sockets = (listener.as_ref(), admin.as_ref(), root.here());
    service::cross_check(root.source(), &primary, &replica, sockets, &failover);
    let bounds = Bounds {
        token_max_age: primary.token_max_age,
        max_staleness: replica.max_staleness,
        ..failover.bounds
    };
    let approle_mounts = primary.approle_mounts;
    let credential_files = primary.credential_files;
    let primary = primary.primary?;
    let (workloads, matches) = workloads.into_iter().unzip();
    Some(Config {
        // The daemon watches it from wherever it works.
        path: std::path::absolute(path).unwrap_or_else(|_| path.to_owned()),
        settings: Settings {
            namespace: primary.namespace.clone(),
            workloads,
            mirrors,
            approle_mounts,
            bounds,
        },
        primary,
        replica: replica.replica?,
        listener: listener?,
        admin: admin?,
        failover: failover.machine,
        ledger,
        limits,
        parity_sample,
        matches,
        findings: Vec::new(),
        credential_files,
    })
}

#[cfg(test)]
mod tests;
