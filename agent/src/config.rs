//! What the program uses of the configuration: complete and checked before anything is opened.
//!
//! The file's shape is [`section`]'s alone; every error is reported with its line.

pub mod apply;
mod error;
pub(crate) mod headers;
pub mod mirror;
mod primary;
mod section;
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

use http::HeaderName;
use shared::{
    credential::TextFault,
    failover::Knobs,
    name::{Namespace, WorkloadName},
    settings::Settings,
};
use toml::de::DeTable;

pub use self::error::{ConfigError, ConfigErrors, Problem};
use crate::file::{self, FileFault};

use self::{
    section::{Section, SourceFile, keys, table},
    value::{GIB, KIB, MIB, ZERO, days, hours, mins, ms, secs},
};

/// The longest file that is read for a configuration, in bytes.
const LARGEST: u64 = 4 << 20;

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

impl Config {
    /// The files that it names and that hold a secret.
    pub fn secret_files(&self) -> Vec<PathBuf> {
        let login = self.primary.auth.method.files().into_iter();
        // A certificate is public, its key is not.
        let login = login.filter(|(key, _)| *key != "cert_file");
        let login = login.map(|(_, path)| path.to_owned());
        let keys = self.replica.keys.iter();
        let keys = keys.map(|KeySource::File(path)| path.clone());
        login.chain(keys).collect()
    }
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

table! {
    /// `[listener]`.
    #[derive(Clone, PartialEq, Debug)]
    ListenerConfig {
        /// The workload socket.
        socket: PathBuf = socket("/run/holdover/holdover.sock"),
        /// Its mode.
        mode: u32 = text_or(0o666, value::mode),
        /// Headers of clients that are sent on beside those that always are.
        forward_headers: Vec<HeaderName> = list(headers::forward_header),
    }
}

table! {
    /// `[admin]`.
    #[derive(Clone, PartialEq, Debug)]
    AdminConfig {
        /// The admin socket, mode 0600.
        socket: PathBuf = socket("/run/holdover/admin.sock"),
        /// The group that may use it besides its owner: the mode is 0660 then.
        group: Option<u32> = text(value::group),
        /// A loopback address that serves `/metrics` alone.
        metrics: Option<SocketAddr> = text(value::loopback),
    }
}

table! {
    /// `[failover]`, as far as the machine goes by it; its bounds are in [`Settings`].
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    FailoverConfig {
        /// Failed probes in a row that make an outage.
        failures: u32 = count(3, 1..=100),
        /// Good probes in a row that end one.
        successes: u32 = count(3, 1..=100),
        /// Between probes while following.
        probe_interval: Duration = span(secs(5), ms(100)..=hours(1)),
        /// For one probe.
        probe_timeout: Duration = span(ms(500), ms(10)..=mins(1)),
        /// How long a login or issuance waits for the machine to decide.
        issue_deadline: Duration = span(secs(5), ms(100)..=mins(10)),
        /// How long an outage goes on, at most, once the primary serves again: what is not settled by then is settled after it.
        settle_within: Duration = span(secs(2), ms(100)..=mins(1)),
        /// How often a workload's authority is verified.
        authority_interval: Duration = span(mins(1), ms(100)..=days(1)),
    }
}

table! {
    /// `[ledger]`.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    LedgerConfig {
        /// The most bytes that the ledger takes in the replica; issuing fails closed once it is full.
        max_size: u64 = size(256 * MIB, MIB..=64 * GIB),
    }
}

table! {
    /// `[limits]`.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    LimitsConfig {
        /// Connections at once.
        connections: u32 = count(1024, 1..=1_000_000),
        /// Connections of one uid at once.
        connections_per_uid: u32 = count(256, 1..=1_000_000),
        /// Requests of one uid a second.
        requests_per_second_per_uid: u32 = count(5000, 0..=1_000_000),
        /// Bytes of a request that the replica answers.
        request_size: u64 = size(MIB, KIB..=32 * MIB),
        /// Bytes of requests that are in memory before they are answered, of all.
        unfinished_bytes: u64 = size(64 * MIB, KIB..=64 * GIB),
        /// Requests on their way to the primary at once, of all.
        forwards: u32 = count(512, 8..=1_000_000),
        /// Replica grants of one workload that live at once.
        grants_per_workload: u32 = count(10_000, 0..=1_000_000),
        /// Failed logins of one uid a minute.
        login_failures_per_minute_per_uid: u32 = count(30, 0..=1_000_000),
    }
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
        let mode =
            std::fs::metadata(path).map_err(|error| alone(Problem::Read(FileFault::Io(error))))?;
        if mode.mode() & 0o002 != 0 {
            let mode = mode.mode() & 0o7777;
            return Err(alone(Problem::Loose { mode }));
        }
        Self::parse(&text(path).map_err(alone)?, path)
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
        if errors.is_empty() {
            return Ok(Self { findings, ..config });
        }
        let path = path.to_owned();
        Err(ConfigErrors { path, errors })
    }

    /// What the failover machine goes by.
    pub fn knobs(&self) -> Knobs {
        Knobs {
            failures: self.failover.failures,
            successes: self.failover.successes,
            probe_interval: self.failover.probe_interval,
            probe_timeout: self.failover.probe_timeout,
            connect_timeout: self.primary.connect_timeout,
            max_outage: self.settings.bounds.max_outage,
        }
    }

    /// The tables in which `changed` differs from this one in what is fixed at the start.
    fn fixed_changes(&self, changed: &Self) -> Vec<&'static str> {
        // What stands here is asked for anew by what uses it.
        let primary = PrimaryConfig {
            read_deadline: changed.primary.read_deadline,
            token_check_interval: changed.primary.token_check_interval,
            ..self.primary.clone()
        };
        let listener = ListenerConfig {
            forward_headers: changed.listener.forward_headers.clone(),
            ..self.listener.clone()
        };
        let tables = [
            ("primary", primary != changed.primary),
            ("replica", self.replica != changed.replica),
            ("listener", listener != changed.listener),
            ("admin", self.admin != changed.admin),
            ("ledger", self.ledger != changed.ledger),
        ];
        let differing = tables.into_iter().filter(|(_, differs)| *differs);
        differing.map(|(name, _)| name).collect()
    }
}

/// The text of the file at `path`.
fn text(path: &Path) -> Result<String, Problem> {
    let content = file::read(path, LARGEST).map_err(|error| Problem::Read(error.fault))?;
    let text = std::str::from_utf8(&content);
    let text = text.map_err(|_| Problem::Read(TextFault::NotText.into()))?;
    Ok(text.to_owned())
}

/// The admin socket that the file at `path` names, whatever else is wrong with it.
pub fn admin_socket(path: &Path) -> Option<PathBuf> {
    let text = text(path).ok()?;
    let (table, _) = DeTable::parse_recoverable(&text);
    let admin = table.get_ref().get("admin")?.get_ref().get("socket")?;
    value::socket(admin.get_ref().as_str()?).ok()
}

/// Walks the whole file, whatever is wrong with its parts: where an error is noted, a default stands in.
fn read(root: &Section<'_>, path: &Path) -> Config {
    let (table, replica, failover) = (
        root.table("primary"),
        root.table("replica"),
        root.table("failover"),
    );
    let token_max_age = table.span("token_max_age", hours(1), ZERO..=days(30));
    let max_staleness = replica.span("max_staleness", days(1), mirror::STALENESS);
    let approle_mounts = primary::approle_mounts(&table);
    let primary = primary::read(&table);
    let limits = service::limits(&root.table("limits"));
    let workloads = workload::read(&root.tables("workload"));
    let (workloads, matches) = workloads.into_iter().unzip();
    let config = Config {
        // The daemon watches it from wherever it works.
        path: std::path::absolute(path).unwrap_or_else(|_| path.to_owned()),
        credential_files: primary::credential_files(&table.table("auth"), &primary.auth.method),
        replica: service::replica(&replica),
        listener: service::listener(&root.table("listener")),
        admin: service::admin(&root.table("admin")),
        failover: FailoverConfig::read(&failover),
        ledger: service::ledger(&root.table("ledger")),
        limits,
        parity_sample: service::parity(&root.table("parity")),
        matches,
        settings: Settings {
            namespace: primary.namespace.clone(),
            bounds: service::bounds(&failover, token_max_age, max_staleness, &limits),
            mirrors: mirror::read(&root.tables("mirror"), max_staleness),
            workloads,
            approle_mounts,
        },
        primary,
        findings: Vec::new(),
    };
    service::drill(&root.table("drill"));
    service::check_issue_deadline(&config, &failover);
    service::check_paths(&config, root);
    service::failover_findings(&config, &failover);
    root.finish(config)
}

#[cfg(test)]
mod tests;
