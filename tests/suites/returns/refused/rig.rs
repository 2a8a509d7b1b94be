//! Several hosts at one primary, by one wire, each with a policy of its own that is to lose one rule.

use std::sync::OnceLock;
use std::time::Duration;

use harness::bao::api::Api;
use harness::bao::{DatabaseRole, Primary, Transport};
use harness::client::raw::{Ask, Reply};
use harness::daemon::Daemon;
use harness::daemon::config::{Config, Workload};
use harness::host::{READY, login_request, own_uid};
use harness::postgres::Postgres;
use harness::tap::Tap;
use harness::world::{self, TokenRole, World};
use harness::{Context, Failure, Result, eventually, place, together};
use serde_json::{Value, json};

use crate::{HOLDOVER, approle::AppRole};

const BOUND: Duration = Duration::from_secs(60);
const MIRRORED: &str = "secret/data/shop/shared";
/// What the primary alone can read.
const UNMIRRORED: &str = "secret/data/apart/config";
const APART: &str = r#"path "secret/data/apart/config" { capabilities = ["read"] }"#;
/// The user that every Holdover runs as where we may choose.
const USER: (u32, u32) = (4300, 4300);

/// What a token is good for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Rights {
    /// All that it may.
    All,
    /// Mirrored reads; more is refused with the way out.
    Reads,
    /// Nothing now: to be tried again. The answer names the rule that is lacking.
    Later,
    /// Nothing.
    None,
}

/// The primary, and a host for every rule.
pub(super) struct Estate {
    pub(super) root: Api,
    pub(super) tap: Tap,
    pub(super) guests: Vec<Guest>,
    app: AppRole,
    _primary: Primary,
    _postgres: Postgres,
}

/// A host whose policy is to lose one rule.
pub(super) struct Guest {
    /// The rule's path.
    pub(super) rule: String,
    pub(super) daemon: Daemon,
    name: String,
    policy: String,
    app: Ask,
    issued: OnceLock<Issued>,
    /// A token of the primary's with its accessor, which is given up in the outage.
    given_up: OnceLock<(String, String)>,
}

/// What the outage brought.
#[derive(Debug)]
pub(super) struct Issued {
    pub(super) attested: String,
    pub(super) approle: String,
}

impl Estate {
    /// Everything runs, and every host is ready.
    pub(super) async fn build() -> Result<Estate> {
        let (primary, postgres) =
            tokio::try_join!(Primary::start(Transport::Plain), Postgres::start())?;
        let (root, address) = (primary.root(), primary.address());
        World::seed_by(&root, 1).await?;
        let life = (Duration::from_secs(600), Duration::from_secs(3600));
        let role = DatabaseRole {
            name: "orders",
            default_ttl: life.0,
            max_ttl: life.1,
        };
        primary.enable_database(&postgres, &role).await?;
        root.write("sys/auth/approle", &json!({ "type": "approle" }))
            .await?;
        root.write(UNMIRRORED, &json!({ "data": { "name": "value" } }))
            .await?;
        world::policy(&root, "apart", APART).await?;
        let role = TokenRole {
            name: "orders",
            policies: &["orders", "apart"],
            explicit_max_ttl: None,
        };
        world::token_role(&root, &role).await?;
        let fields = json!({ "token_policies": ["orders", "apart"], "token_ttl": "10m" });
        let app = AppRole::make(&root, "app", &fields).await?;
        let tap = Tap::to(address.rsplit('/').next().context("an address")?).await?;
        let policy = printed_policy(&tap).await?;
        let rules = paths(&policy);
        let guests = rules.into_iter().enumerate();
        let guests = guests.map(|(nr, rule)| Guest::install(nr, rule, &policy, &tap, &app));
        let guests = guests.collect::<Result<Vec<_>>>()?;
        together(guests.iter().map(|guest| guest.start(&root))).await?;
        Ok(Estate {
            root,
            tap,
            guests,
            app,
            _primary: primary,
            _postgres: postgres,
        })
    }
}

impl Guest {
    fn install(nr: usize, rule: String, policy: &str, tap: &Tap, app: &AppRole) -> Result<Guest> {
        Ok(Guest {
            rule,
            daemon: Daemon::install(HOLDOVER.as_ref(), place::is_root().then_some(USER))?,
            name: format!("host-{nr}"),
            policy: policy.to_owned(),
            app: app.login(),
            issued: OnceLock::new(),
            given_up: OnceLock::new(),
        })
        .and_then(|guest| guest.configured(tap))
    }

    fn configured(self, tap: &Tap) -> Result<Guest> {
        let etc = self.daemon.folder().join("etc");
        let config = configuration(&self.daemon, tap);
        let config = config.approle(&etc.join("role_id"), &etc.join("secret_id"));
        self.daemon.configure(&config)?;
        Ok(self)
    }

    /// Starts it with every rule, and waits until it is ready.
    async fn start(&self, root: &Api) -> Result<()> {
        self.widen(root).await?;
        let fields = json!({
            "token_policies": [self.name],
            "token_no_default_policy": true,
            "token_period": "1h",
        });
        let own = AppRole::make(root, &self.name, &fields).await?;
        self.daemon.write_secret("etc/role_id", &own.role_id)?;
        self.daemon.write_secret("etc/secret_id", &own.secret_id)?;
        self.daemon.start()?;
        self.daemon.wait_ready(READY).await.map(drop)
    }

    /// Shows it what an outage is to go by: an AppRole login, and a token of the primary's.
    pub(super) async fn prepare(&self, estate: &Estate) -> Result<()> {
        estate.app.proven_at(&self.daemon).await?;
        let body = json!({ "policies": ["orders"], "ttl": "1h" });
        let created = estate.root.post("auth/token/create-orphan", &body).await?;
        let token = created.clone().text("/auth/client_token")?;
        let accessor = created.text("/auth/accessor")?;
        assert_eq!(self.read(MIRRORED, &token).await?.status, 200);
        eventually(BOUND, "the token to be learned", async || {
            let grants = self.daemon.admin(&Ask::get("/v1/grants")).await;
            match grants.map(|grants| grants.text()) {
                Ok(text) if text.contains(&accessor) => Ok(()),
                Ok(text) => Err(text),
                Err(failure) => Err(failure.to_string()),
            }
        })
        .await?;
        let _ = self.given_up.set((token, accessor));
        Ok(())
    }

    /// Has it issue in the outage, by either login, and take a revocation.
    pub(super) async fn issue(&self) -> Result<()> {
        self.daemon.wait_state("holdover", BOUND).await?;
        let attested = self.ask(&login_request("orders")).await?;
        let approle = self.ask(&self.app).await?;
        for login in [&attested, &approle] {
            let outcome = (login.status, login.source());
            assert_eq!(outcome, (200, Some("replica")), "{}", login.text());
        }
        let issued = Issued {
            attested: attested.json_text("/auth/client_token")?,
            approle: approle.json_text("/auth/client_token")?,
        };
        // What was used lately is settled ahead, should nobody use it again.
        for token in [&issued.attested, &issued.approle] {
            let read = self.read(MIRRORED, token).await?;
            assert_eq!(read.status, 200, "{}", read.text());
        }
        let _ = self.issued.set(issued);
        let (token, _) = self.given_up.get().context("a token")?;
        let revoke = Ask::post("/v1/auth/token/revoke-self", &json!({})).token(token)?;
        assert_eq!(self.ask(&revoke).await?.status, 204);
        Ok(())
    }

    /// Takes the rule away.
    pub(super) async fn narrow(&self, root: &Api) -> Result<()> {
        let begins = format!("path \"{}\"", self.rule);
        let blocks = self.policy.split("\n\n");
        let kept = blocks.filter(|block| !block.lines().any(|line| line.starts_with(&begins)));
        let kept = kept.collect::<Vec<_>>().join("\n\n");
        world::policy(root, &self.name, &kept).await
    }

    /// Gives the rule back.
    pub(super) async fn widen(&self, root: &Api) -> Result<()> {
        world::policy(root, &self.name, &self.policy).await
    }

    /// Whether an attested login is answered, by the primary.
    pub(super) async fn logs_in(&self) -> Result<bool> {
        let reply = self.ask(&login_request("orders")).await?;
        Ok((reply.status, reply.source()) == (200, Some("primary")))
    }

    /// What a token of the outage is good for.
    pub(super) async fn rights(&self, of: impl Fn(&Issued) -> &String) -> Result<Rights> {
        let token = of(self.issued.get().context("tokens")?);
        let mirrored = self.read(MIRRORED, token).await?;
        let apart = self.read(UNMIRRORED, token).await?;
        let says_way_out = apart.text().contains("log in again");
        let names = format!("by the rule for path {:?}", self.rule);
        let names_rule = |reply: &Reply| {
            let errors = reply.json().map(|body| body["errors"].clone());
            let first = errors
                .ok()
                .and_then(|errors| errors[0].as_str().map(str::to_owned));
            first.is_some_and(|text| text.contains(&names) && text.contains("refuses Holdover"))
        };
        match (mirrored.status, apart.status) {
            (200, 200) => Ok(Rights::All),
            (200, 403) if says_way_out => Ok(Rights::Reads),
            (503, 503) if names_rule(&mirrored) && names_rule(&apart) => Ok(Rights::Later),
            (403, 403) if !says_way_out => Ok(Rights::None),
            _ => Err(Failure::new(format!(
                "{} and {}",
                mirrored.text(),
                apart.text()
            ))),
        }
    }

    /// Whether what was given up is dead at the primary. Here it always is.
    pub(super) async fn given_up(&self, root: &Api) -> Result<bool> {
        let (token, accessor) = self.given_up.get().context("a token")?;
        assert_eq!(self.read(MIRRORED, token).await?.status, 403);
        let asked = json!({ "accessor": accessor });
        let shown = root.post("auth/token/lookup-accessor", &asked).await?;
        Ok(shown.status != 200)
    }

    /// Whether its status names the rule, among reasons or findings.
    pub(super) async fn tells_rule(&self) -> Result<bool> {
        let status = self.daemon.status().await?;
        let lists = [&status["reasons"], &status["findings"]];
        let texts = lists.into_iter().filter_map(Value::as_array).flatten();
        let named = format!("{:?}", self.rule);
        let mut texts = texts.filter_map(Value::as_str);
        Ok(texts.any(|text| text.contains("refuses Holdover") && text.contains(&named)))
    }

    async fn read(&self, path: &str, token: &str) -> Result<Reply> {
        self.ask(&Ask::get(&format!("/v1/{path}")).token(token)?)
            .await
    }

    async fn ask(&self, ask: &Ask) -> Result<Reply> {
        let client = self.daemon.client().within(Duration::from_secs(30));
        client
            .send(ask)
            .await
            .map_err(|failure| self.daemon.failure(failure))
    }
}

/// What every host has, with Holdover's own login yet to be named.
fn configuration(daemon: &Daemon, tap: &Tap) -> Config {
    let orders = Workload::new("orders", "orders")
        .uid(own_uid())
        .issues("15m", "2h");
    let address = format!("http://{}", tap.address());
    daemon
        .base_config()
        .primary(&[address], None)
        .mirror("secret/data/shop/*", &[("interval", "10s".into())])
        .mirror("database/creds/orders", &[])
        .workload(orders)
        .set("failover.probe_interval", "2s")
        .set("failover.authority_interval", "5s")
        // So many hosts on one machine are slow now and then, which is no outage.
        .set("failover.probe_timeout", "2s")
        .set("failover.issue_deadline", "20s")
}

/// The policy for that configuration.
async fn printed_policy(tap: &Tap) -> Result<String> {
    let daemon = Daemon::install(HOLDOVER.as_ref(), None)?;
    let etc = daemon.folder().join("etc");
    let config = configuration(&daemon, tap).approle(&etc.join("role_id"), &etc.join("secret_id"));
    daemon.configure(&config)?;
    let said = daemon.cli(&["config", "policy"], BOUND).await?;
    said.success()
}

/// The paths of a policy's rules.
fn paths(policy: &str) -> Vec<String> {
    let lines = policy.lines();
    let paths = lines.filter_map(|line| line.strip_prefix("path \"")?.split('"').next());
    paths.map(str::to_owned).collect()
}
