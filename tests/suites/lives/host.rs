//! Holdover of one life: its own wire to the primary, short intervals, and the wait for a pass that has ended.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use harness::bao::Primary;
use harness::client::raw::{Ask, Reply};
use harness::daemon::Daemon;
use harness::daemon::config::{Config, Workload};
use harness::host::own_uid;
use harness::link::{Flow, Link, Switch};
use harness::{Context, Result, clock, eventually};
use serde_json::{Value, json};
use shared::time::WallTime;

use crate::HOLDOVER;
use crate::place::{Mount, Place};
use crate::script::Script;

/// The user that Holdover runs as where we may choose.
const USER: (u32, u32) = (4300, 4300);

/// How long Holdover may take to be ready, to notice an outage, to settle, or to go over everything: many do so at once.
const BOUND: Duration = Duration::from_secs(90);

pub(crate) const WORKLOAD: &str = "orders";

/// Holdover, and its wire.
pub(crate) struct Host {
    pub(crate) daemon: Daemon,
    switch: Switch,
    _link: Link,
    /// What requests name their namespace with; none where they leave it to the configuration.
    header: Option<String>,
}

impl Host {
    pub(crate) async fn start(primary: &Primary, place: &Place, script: &Script) -> Result<Host> {
        let user = rustix::process::geteuid().is_root().then_some(USER);
        let daemon = Daemon::install(HOLDOVER.as_ref(), user)?;
        let address = primary.address();
        let port = address
            .rsplit(':')
            .next()
            .and_then(|port| port.parse().ok());
        let switch = Switch::default();
        let link = Link::to(port.context("a port")?, &switch, Arc::new(|_, _| None)).await?;
        let address = format!("http://127.0.0.1:{}", link.port());
        daemon.configure(&config(&daemon, &address, place, script))?;
        let policy = daemon
            .cli(&["config", "policy"], Duration::from_secs(30))
            .await?;
        let login = place.own_login(&policy.success()?).await?;
        daemon.write_secret("etc/role_id", &login.role_id)?;
        daemon.write_secret("etc/secret_id", &login.secret_id)?;
        daemon.start()?;
        daemon.wait_ready(BOUND).await?;
        let header = (script.names_it && script.namespaced).then(|| place.namespace.clone());
        Ok(Host {
            daemon,
            switch,
            _link: link,
            header,
        })
    }

    /// Sends to the workload socket; an empty token sends none.
    pub(crate) async fn ask(&self, ask: Ask, token: &str) -> Result<Reply> {
        let ask = match token {
            "" => ask,
            token => ask.token(token)?,
        };
        let ask = match &self.header {
            Some(namespace) => ask.header("X-Vault-Namespace", namespace)?,
            None => ask,
        };
        let client = self.daemon.client().within(Duration::from_secs(30));
        client.send(&ask).await.map_err(|failure| {
            self.daemon
                .failure(format!("{} {}: {failure}", ask.method, ask.target))
        })
    }

    pub(crate) async fn read(&self, path: &str, token: &str) -> Result<Reply> {
        self.ask(Ask::get(&format!("/v1/{path}")), token).await
    }

    pub(crate) async fn write(&self, path: &str, token: &str, body: &Value) -> Result<Reply> {
        self.ask(Ask::post(&format!("/v1/{path}"), body), token)
            .await
    }

    /// `grants revoke ACCESSOR`: whether there was one to revoke.
    pub(crate) async fn revoke_as_operator(&self, accessor: &str) -> Result<bool> {
        let ask = Ask::post("/v1/grants/revoke", &json!({ "accessor": accessor }));
        let reply = self.daemon.admin(&ask).await?;
        match reply.status {
            200 => Ok(true),
            404 => Ok(false),
            status => Err(self
                .daemon
                .failure(format!("grants revoke: {status}: {}", reply.text()))),
        }
    }

    /// Cuts the wire, and returns when the replica is in charge.
    pub(crate) async fn cut(&self, flow: Flow) -> Result<()> {
        self.switch.set(flow);
        self.in_charge().await
    }

    pub(crate) async fn in_charge(&self) -> Result<()> {
        self.daemon.wait_state("holdover", BOUND).await.map(drop)
    }

    pub(crate) fn mend(&self) {
        self.switch.set(Flow::Open);
    }

    pub(crate) async fn follows(&self) -> Result<()> {
        self.daemon.wait_state("following", BOUND).await.map(drop)
    }

    /// Returns as soon as settling has begun, or has ended already.
    pub(crate) async fn settles(&self) -> Result<()> {
        let settles =
            |status: &Value| status["state"] == "recovering" || status["state"] == "following";
        self.daemon
            .wait_for("settling", BOUND, settles)
            .await
            .map(drop)
    }

    /// The outage that there is, or else the last one since Holdover's start.
    pub(crate) async fn last_outage(&self) -> Result<Option<String>> {
        let status = self.daemon.status().await?;
        let id = |name: &str| status[name]["id"].as_str().map(str::to_owned);
        Ok(id("outage").or_else(|| id("last_outage")))
    }

    /// `kill -9`, and a new start. The state is waited for by whoever knows which.
    pub(crate) fn restart(&self) -> Result<()> {
        self.daemon.kill9()?;
        self.daemon.start()
    }

    /// Waits until a pass over everything has ended that began after this call: authority and identities, each mirror, and
    /// each of these tokens that lives here.
    pub(crate) async fn passed(&self, place: &Place, tokens: &[&str]) -> Result<()> {
        let began = clock::instant();
        let wall = WallTime::from_millis(i64::try_from(clock::wall().as_millis())?);
        let mut first_seen: Option<Instant> = None;
        let waited = eventually(BOUND, "a pass", async || {
            let asked = clock::instant();
            let status = self.daemon.status().await.map_err(|f| f.to_string())?;
            let since = |moment: Instant, age: &Value| {
                let age = age.as_u64().map(|whole| Duration::from_secs(whole + 1));
                age.is_some_and(|age| asked >= moment + age)
            };
            let beacon = age_of(&status["approle"], "role", &beacon_path(place));
            // Identities come last in a pass: the next one must have begun.
            match first_seen {
                None if since(began, &beacon) => first_seen = Some(clock::instant()),
                Some(seen) if since(seen, &beacon) => {
                    let mirrors = mirrors(place);
                    // A mirror goes by the mounts that the authority's pass found: its own must come after that.
                    let late = mirrors
                        .iter()
                        .find(|path| !since(seen, &age_of(&status["mirrors"], "path", path)));
                    return match late {
                        Some(path) => Err(format!("{path}: {:#}", status["mirrors"])),
                        None => self.verified(wall, tokens).await,
                    };
                }
                _ => {}
            }
            Err(format!("authority: {:#}", status["approle"]))
        });
        waited.await.map_err(|failure| self.daemon.failure(failure))
    }

    /// The accessors of every token that Holdover knows.
    pub(crate) async fn listed(&self) -> Result<BTreeSet<String>> {
        let reply = self.daemon.admin(&Ask::get("/v1/grants")).await?;
        let grants = reply.json()?;
        let all = grants["grants"].as_array().context("the grants")?;
        let accessors = all.iter().filter_map(|grant| grant["accessor"].as_str());
        Ok(accessors.map(str::to_owned).collect())
    }

    /// Whether every one of these tokens that lives here was proved since.
    async fn verified(&self, since: WallTime, tokens: &[&str]) -> std::result::Result<(), String> {
        let grants = self.daemon.admin(&Ask::get("/v1/grants")).await;
        let grants = grants
            .and_then(|reply| reply.json())
            .map_err(|f| f.to_string())?;
        let mut all = grants["grants"].as_array().into_iter().flatten();
        let late = all.find(|grant| {
            let ours = grant["accessor"]
                .as_str()
                .is_some_and(|one| tokens.contains(&one));
            let at = grant["verified_at"]
                .as_str()
                .and_then(WallTime::parse_rfc3339);
            ours && at < Some(since)
        });
        match late {
            Some(grant) => Err(format!("not since {since}: {grant}")),
            None => Ok(()),
        }
    }
}

fn mirrors(place: &Place) -> Vec<String> {
    let mut mounts = vec![Mount::Main];
    mounts.extend(place.mounted.then_some(Mount::Spare));
    let path = |mount: &Mount| mirrored(place, *mount);
    mounts.iter().map(path).collect()
}

fn mirrored(place: &Place, mount: Mount) -> String {
    format!("{}/data/*", place.mount_path(mount))
}

fn beacon_path(place: &Place) -> String {
    format!("auth/approle/role/{}", place.beacon.name)
}

/// `age_seconds` of the entry that is named so; null where there is none.
fn age_of(all: &Value, key: &str, name: &str) -> Value {
    let mut all = all.as_array().into_iter().flatten();
    let one = all.find(|one| one[key] == name);
    one.map(|one| one["age_seconds"].clone())
        .unwrap_or_default()
}

fn config(daemon: &Daemon, address: &str, place: &Place, script: &Script) -> Config {
    let etc = daemon.folder().join("etc");
    let orders = Workload::new(WORKLOAD, &place.role())
        .uid(own_uid())
        .issues("15m", "2h")
        .set("failover.on_recovery", script.on_recovery);
    let interval = [("interval", "2s".into())];
    let config = daemon
        .base_config()
        .primary(&[address.to_owned()], None)
        .approle(&etc.join("role_id"), &etc.join("secret_id"))
        .mirror(&mirrored(place, Mount::Main), &interval)
        .mirror(&mirrored(place, Mount::Spare), &interval)
        .workload(orders)
        .set("primary.token_check_interval", "2s")
        .set("primary.requests_per_second", 200)
        .set("failover.authority_interval", "1s")
        .set("failover.probe_interval", "1s")
        // Many share the machine: a late answer is no outage.
        .set("failover.probe_timeout", "3s")
        .set("failover.failures", 2)
        .set("failover.successes", 1)
        .set("failover.issue_deadline", "30s");
    match place.namespace.as_str() {
        "" => config,
        namespace => config.set("primary.namespace", namespace),
    }
}
