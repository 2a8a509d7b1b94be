//! A host whose way to the primary leads through a gate: outages are made there, and what Holdover asks is seen there.

use std::time::Duration;

use harness::client::raw::Reply;
use harness::daemon::config::Workload;
use harness::gate::{Asked, Gate};
use harness::host::{FAILOVER, Host, Login, Plan, RECOVERY, own_uid};
use harness::{Result, world};
use serde_json::{Value, json};

use crate::HOLDOVER;

/// How long anything may take that needs no outage to be noticed.
pub(crate) const SOON: Duration = Duration::from_secs(30);

/// What is not mirrored, and may be written.
pub(crate) const KEPT: &str = "secret/data/kept/by-test";

/// What lets a team write, create tokens, and ask about others.
const KEEPS: &str = r#"
path "secret/data/kept/*"          { capabilities = ["create", "update", "read"] }
path "auth/token/create"           { capabilities = ["update"] }
path "auth/token/lookup-accessor"  { capabilities = ["update"] }
"#;

/// The host and the gate.
pub(crate) struct Stage {
    pub(crate) host: Host,
    pub(crate) gate: Gate,
}

/// An entry of this name for our own user, which is issued tokens in an outage through the role of that name.
pub(crate) fn entry(name: &str) -> Workload {
    Workload::new(name, name)
        .uid(own_uid())
        .set("auto_token", false)
        .issues("15m", "2h")
}

/// A host with the entry `orders`, and a quick rhythm.
pub(crate) fn plan() -> Plan {
    Plan::new(HOLDOVER)
        .workload(entry("orders"))
        .set("failover.probe_interval", "250ms")
        .set("failover.authority_interval", "500ms")
}

impl Stage {
    /// Starts all of it, and waits until Holdover is ready.
    pub(crate) async fn start(plan: Plan) -> Result<Stage> {
        let mut stage = Stage::prepare(plan).await?;
        stage.host.start().await?;
        Ok(stage)
    }

    /// Everything but Holdover's start. The roles `orders` and `billing` give the policy `keeps` too.
    pub(crate) async fn prepare(plan: Plan) -> Result<Stage> {
        let host = plan.prepare().await?;
        let gate = Gate::before(&host.primary).await?;
        let ca = host.primary.ca_file().to_owned();
        host.reconfigure(|config| config.primary(&[gate.address()], Some(&ca)))?;
        world::policy(&host.primary.root(), "keeps", KEEPS).await?;
        let stage = Stage { host, gate };
        stage.role("orders", &["orders", "keeps"]).await?;
        stage.role("billing", &["billing", "keeps"]).await?;
        Ok(stage)
    }

    /// Writes the token role of an entry.
    pub(crate) async fn role(&self, name: &str, policies: &[&str]) -> Result<()> {
        let role = world::TokenRole {
            name,
            policies,
            explicit_max_ttl: None,
        };
        world::token_role(&self.host.primary.root(), &role).await
    }

    /// Takes the primary from Holdover, and waits until the replica is in charge.
    pub(crate) async fn cut(&self) -> Result<Value> {
        self.gate.shut();
        self.host.daemon.wait_state("holdover", FAILOVER).await
    }

    /// Gives it back, and waits until Holdover follows.
    pub(crate) async fn reopen(&self) -> Result<Value> {
        self.gate.open();
        self.host.daemon.wait_state("following", RECOVERY).await
    }

    /// A login that the replica answers.
    pub(crate) async fn issued(&self, workload: &str) -> Result<Login> {
        let login = self.host.login(workload).await?;
        assert_eq!(login.source, "replica", "no outage");
        Ok(login)
    }

    /// A token of the orders team, made at the primary, used once through Holdover and known by it.
    pub(crate) async fn brought(&self) -> Result<Login> {
        let asked = harness::clock::instant();
        let body = json!({ "policies": ["orders", "keeps"], "ttl": "1h", "no_parent": true });
        let root = self.host.primary.root();
        let made = root.write("auth/token/create", &body).await?;
        let text = |name: &str| made["auth"][name].as_str().unwrap_or_default().to_owned();
        let (token, accessor) = (text("client_token"), text("accessor"));
        let read = self.read_own("orders", &token).await?;
        assert_eq!(read.status, 200, "{}", read.text());
        self.host.until_learned(&token).await?;
        Ok(Login {
            token,
            accessor,
            ttl: Duration::from_secs(3600),
            policies: Vec::new(),
            source: "primary".to_owned(),
            asked,
            answered: harness::clock::instant(),
        })
    }

    /// A token that the replica makes, hanging on this one.
    pub(crate) async fn child_of(&self, parent: &Login) -> Result<Login> {
        let asked = harness::clock::instant();
        let body = json!({ "policies": ["orders", "keeps"], "ttl": "10m" });
        let made = self.host.write("auth/token/create", &parent.token, &body);
        let login = Login::of(&made.await?, asked)?;
        assert_eq!(login.source, "replica", "no outage");
        Ok(login)
    }

    /// Reads a mirrored secret of this team.
    pub(crate) async fn read_own(&self, team: &str, token: &str) -> Result<Reply> {
        let (path, _) = self.host.secret(team)?;
        self.host.read(path, token).await
    }

    /// Writes what only the primary can.
    pub(crate) async fn keep(&self, token: &str) -> Result<Reply> {
        let body = json!({ "data": { "kept": "yes" } });
        self.host.write(KEPT, token, &body).await
    }

    /// The token revokes itself.
    pub(crate) async fn gives_up(&self, token: &str) -> Result<()> {
        let none = json!({});
        let done = self.host.write("auth/token/revoke-self", token, &none);
        let done = done.await?;
        assert_eq!(done.status, 204, "{}", self.told(&done));
        Ok(())
    }

    /// The token reads and writes, and the writing is the primary's.
    pub(crate) async fn is_whole(&self, team: &str, token: &str) -> Result<()> {
        let read = self.read_own(team, token).await?;
        assert_eq!(read.status, 200, "{}", self.told(&read));
        let kept = self.keep(token).await?;
        let outcome = (kept.status, kept.source());
        assert_eq!(outcome, (200, Some("primary")), "{}", self.told(&kept));
        Ok(())
    }

    /// The token is refused everything.
    pub(crate) async fn is_refused(&self, token: &str) -> Result<()> {
        for refused in [
            self.read_own("orders", token).await?,
            self.keep(token).await?,
        ] {
            assert_eq!(refused.status, 403, "{}", self.told(&refused));
        }
        let looked = self.host.read("auth/token/lookup-self", token).await?;
        assert_eq!(looked.status, 403, "{}", self.told(&looked));
        Ok(())
    }

    /// The token reads what is mirrored, of the replica, and its client is told to log in again for anything else.
    pub(crate) async fn drains(&self, team: &str, token: &str) -> Result<()> {
        let read = self.read_own(team, token).await?;
        let outcome = (read.status, read.source());
        assert_eq!(outcome, (200, Some("replica")), "{}", self.told(&read));
        let kept = self.keep(token).await?;
        assert_eq!(kept.status, 403, "{}", self.told(&kept));
        assert!(kept.text().contains("log in again"), "{}", kept.text());
        Ok(())
    }

    /// Tokens that were minted for grants, as they were asked for.
    pub(crate) fn mints(&self) -> Vec<Asked> {
        let mut asked = self.gate.asked();
        asked.retain(is_mint);
        asked
    }

    /// How many replica grants are unsettled.
    pub(crate) async fn unsettled(&self) -> Result<u64> {
        let status = self.host.daemon.status().await?;
        Ok(status["grants"]["unsettled"].as_u64().unwrap_or(u64::MAX))
    }

    /// An answer, with the end of Holdover's log.
    pub(crate) fn told(&self, reply: &Reply) -> String {
        let text = format!("{} {}", reply.status, reply.text());
        self.host.daemon.failure(text).to_string()
    }
}

/// Whether this mints a token for a grant: logins and standing tokens say nothing of an end.
pub(crate) fn is_mint(asked: &Asked) -> bool {
    let body = String::from_utf8_lossy(&asked.body);
    asked.target.starts_with("/v1/auth/token/create/") && body.contains("explicit_max_ttl")
}
