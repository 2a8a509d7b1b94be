//! A real OpenBao server: one raft node with its own folder, port and private CA.

pub mod api;
mod database;

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};

use crate::authority::Authority;
use crate::bao::api::Api;
use crate::failure::{Context, Failure, Result};
use crate::place::Room;
use crate::port::Port;
use crate::process::{Launch, Process};
use crate::provision::Parts;

pub use database::DatabaseRole;

/// How long a primary may take to come up, unseal or become active before the harness gives up.
const PATIENCE: Duration = Duration::from_secs(30);

/// What the primary listens with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Transport {
    /// TLS with a private CA.
    Tls,
    /// Plain HTTP.
    Plain,
    /// Both, on two ports.
    Both,
}

/// Where it keeps what it is told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Storage {
    Memory,
    Raft,
}

/// A primary: a server process, initialised and unsealed. Killed when dropped.
///
/// Addresses, data and keys stay the same over [`Primary::kill9`] and [`Primary::start_again`].
pub struct Primary {
    process: Mutex<Option<Process>>,
    launch: Launch,
    listeners: Vec<Listener>,
    ca: PathBuf,
    audit: PathBuf,
    unseal_key: String,
    root_token: String,
    http: reqwest::Client,
    authority: Authority,
    _cluster: Port,
    room: Room,
}

struct Listener {
    port: Port,
    scheme: &'static str,
}

impl Primary {
    /// Starts one and waits until it is active. Audit goes to a file, as it would in production.
    pub async fn start(transport: Transport) -> Result<Primary> {
        Primary::start_on(Storage::Raft, transport).await
    }

    /// Starts one that speaks plain HTTP, keeps everything in memory and audits nothing: for suites that ask very
    /// much of it. It cannot be started again.
    pub async fn start_in_memory() -> Result<Primary> {
        Primary::start_on(Storage::Memory, Transport::Plain).await
    }

    async fn start_on(storage: Storage, transport: Transport) -> Result<Primary> {
        let parts = Parts::get()?;
        let room = Room::make()?;
        let authority = Authority::make()?;
        let ca = room.file("ca.pem", &authority.ca, 0o644, None)?;
        room.folder("raft", 0o700, None)?;
        let (listeners, cluster) = (listeners(transport)?, Port::reserve()?);
        let config = server_config(storage, &listeners, &cluster, room.path())?;
        let config = room.file("server.hcl", config, 0o600, None)?;
        let launch = Launch::new("bao server", &parts.bao, &room.join("server.log"))
            .args(["server".into(), "-config".into(), config.into_os_string()])
            .env("HOME", room.path());
        let mut primary = Primary {
            process: Mutex::new(None),
            launch,
            listeners,
            http: client_trusting(&authority.ca)?,
            authority,
            ca,
            audit: room.join("audit.log"),
            unseal_key: String::new(),
            root_token: String::new(),
            _cluster: cluster,
            room,
        };
        primary.start_sealed().await?;
        primary.initialise().await?;
        primary.unseal().await?;
        primary.wait_active(PATIENCE).await?;
        Ok(primary)
    }

    /// Its preferred address, as in `[primary] addresses`: TLS where there is TLS.
    pub fn address(&self) -> String {
        self.addresses().into_iter().next().unwrap_or_default()
    }

    /// All its addresses, TLS first.
    pub fn addresses(&self) -> Vec<String> {
        let address = |l: &Listener| format!("{}://127.0.0.1:{}", l.scheme, l.port.number());
        self.listeners.iter().map(address).collect()
    }

    /// The authority that its certificate is of: who has it can stand before it.
    pub fn authority(&self) -> &Authority {
        &self.authority
    }

    /// The CA that its certificate hangs from.
    pub fn ca_file(&self) -> &Path {
        &self.ca
    }

    /// Its audit log: one JSON object a line.
    pub fn audit_log(&self) -> &Path {
        &self.audit
    }

    /// Its folder: storage, configuration and logs.
    pub fn folder(&self) -> &Path {
        self.room.path()
    }

    /// A client with the root token.
    pub fn root(&self) -> Api {
        self.api(&self.root_token)
    }

    /// The root token itself.
    pub fn root_token(&self) -> &str {
        &self.root_token
    }

    /// A client with this token, or with none if it is empty.
    pub fn api(&self, token: &str) -> Api {
        Api::new(self.http.clone(), &self.address(), token)
    }

    /// `kill -9`.
    pub fn kill9(&self) -> Result<()> {
        self.with_process(Process::kill9)
    }

    /// SIGSTOP: connections open, nothing answers.
    pub fn stop(&self) -> Result<()> {
        self.with_process(Process::stop)
    }

    /// SIGCONT after [`Primary::stop`].
    pub fn cont(&self) -> Result<()> {
        self.with_process(Process::cont)
    }

    /// SIGHUP: it opens its audit log anew.
    pub fn hup(&self) -> Result<()> {
        self.with_process(|process| process.signal(nix::sys::signal::Signal::SIGHUP))
    }

    /// Starts the server again with the same folder and ports, unseals it and waits until it is active.
    pub async fn start_again(&self) -> Result<()> {
        self.start_sealed().await?;
        self.unseal().await?;
        self.wait_active(PATIENCE).await
    }

    /// Starts the server again and leaves it sealed.
    pub async fn start_sealed(&self) -> Result<()> {
        let _ = self.kill9();
        self.show(&self.authority)?;
        let process = self.launch.start()?;
        *self.process.lock().unwrap_or_else(PoisonError::into_inner) = Some(process);
        self.wait_status("server up", |_| true, PATIENCE).await
    }

    /// Starts the server again behind a certificate that hangs from nothing its clients trust, on all TLS ports.
    /// It is of no use to anybody until [`Primary::start_again`], which brings its own certificate back.
    pub fn start_distrusted(&self) -> Result<()> {
        self.kill9()?;
        self.show(&Authority::make()?)?;
        let process = self.launch.start()?;
        *self.process.lock().unwrap_or_else(PoisonError::into_inner) = Some(process);
        Ok(())
    }

    /// Seals it: it answers 503 until it is unsealed.
    pub async fn seal(&self) -> Result<()> {
        self.root()
            .put("sys/seal", &json!({}))
            .await?
            .ok()
            .context("seal")?;
        self.wait_status("sealed", |status| status == 503, PATIENCE)
            .await
    }

    /// Unseals it. It becomes active shortly after.
    pub async fn unseal(&self) -> Result<()> {
        let body = json!({ "key": self.unseal_key });
        self.api("")
            .put("sys/unseal", &body)
            .await?
            .ok()
            .context("unseal")
            .map(drop)
    }

    /// Waits until it is unsealed and active.
    pub async fn wait_active(&self, bound: Duration) -> Result<()> {
        self.wait_status("an active primary", |status| status == 200, bound)
            .await
    }

    /// The end of the server's log.
    pub fn log_tail(&self, lines: usize) -> String {
        crate::process::tail(&self.launch.log, lines)
    }

    async fn initialise(&mut self) -> Result<()> {
        let body = json!({ "secret_shares": 1, "secret_threshold": 1 });
        let answer = self
            .api("")
            .put("sys/init", &body)
            .await?
            .ok()
            .context("init")?;
        let text = |v: Option<&Value>| v.and_then(Value::as_str).map(str::to_owned);
        self.unseal_key = text(answer.pointer("/keys_base64/0")).context("init gave no key")?;
        self.root_token = text(answer.pointer("/root_token")).context("init gave no token")?;
        Ok(())
    }

    /// Puts this certificate where the server finds it at its next start.
    fn show(&self, authority: &Authority) -> Result<()> {
        self.room
            .file("server.pem", &authority.certificate, 0o644, None)?;
        self.room
            .file("server.key", &authority.key, 0o600, None)
            .map(drop)
    }

    async fn wait_status(
        &self,
        what: &str,
        holds: impl Fn(u16) -> bool,
        bound: Duration,
    ) -> Result<()> {
        let waited = crate::eventually(bound, what, async || {
            match self.api("").get("sys/health").await {
                Ok(answer) if holds(answer.status) => Ok(()),
                Ok(answer) => Err(format!("health {}: {}", answer.status, answer.body)),
                Err(failure) => Err(failure.to_string()),
            }
        });
        waited.await.map_err(|failure| {
            Failure::new(format!("{failure}\n--- server log\n{}", self.log_tail(40)))
        })
    }

    fn with_process(&self, act: impl Fn(&Process) -> Result<()>) -> Result<()> {
        let process = self.process.lock().unwrap_or_else(PoisonError::into_inner);
        act(process.as_ref().context("the primary was not started")?)
    }
}

fn listeners(transport: Transport) -> Result<Vec<Listener>> {
    let schemes: &[&'static str] = match transport {
        Transport::Tls => &["https"],
        Transport::Plain => &["http"],
        Transport::Both => &["https", "http"],
    };
    schemes
        .iter()
        .map(|scheme| {
            Ok(Listener {
                port: Port::reserve()?,
                scheme,
            })
        })
        .collect()
}

fn server_config(
    storage: Storage,
    listeners: &[Listener],
    cluster: &Port,
    folder: &Path,
) -> Result<String> {
    let folder = folder.display();
    let first = listeners.first().context("no listener")?;
    let mut text = match storage {
        Storage::Memory => "storage \"inmem\" {}\n".to_owned(),
        Storage::Raft => format!(
            "storage \"raft\" {{\n  path = \"{folder}/raft\"\n  node_id = \"one\"\n  performance_multiplier = 1\n}}\n\
             audit \"file\" \"file\" {{\n  options {{\n    file_path = \"{folder}/audit.log\"\n  }}\n}}\n"
        ),
    };
    text += &format!(
        "api_addr = \"{}://127.0.0.1:{}\"\ncluster_addr = \"https://127.0.0.1:{cluster}\"\nui = false\n",
        first.scheme,
        first.port.number(),
        cluster = cluster.number(),
    );
    for (nr, listener) in listeners.iter().enumerate() {
        // Both listeners would open the cluster's port: only the first gets the one that peers are told.
        let cluster = match nr {
            0 => format!("  cluster_address = \"127.0.0.1:{}\"\n", cluster.number()),
            _ => "  cluster_address = \"127.0.0.1:0\"\n".to_owned(),
        };
        let tls = match listener.scheme {
            "https" => format!(
                "  tls_cert_file = \"{folder}/server.pem\"\n  tls_key_file = \"{folder}/server.key\"\n"
            ),
            _ => "  tls_disable = true\n".to_owned(),
        };
        let port = listener.port.number();
        text +=
            &format!("listener \"tcp\" {{\n  address = \"127.0.0.1:{port}\"\n{cluster}{tls}}}\n");
    }
    Ok(text)
}

/// A client that trusts only this CA, PEM, and follows no redirect.
pub(crate) fn client_trusting(ca: &str) -> Result<reqwest::Client> {
    let config = crate::tls::client(ca)?;
    let client = reqwest::Client::builder()
        .tls_backend_preconfigured(config)
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .timeout(Duration::from_secs(20))
        .build()?;
    Ok(client)
}
