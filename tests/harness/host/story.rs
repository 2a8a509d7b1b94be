//! What happens on a host: logins, reads, outages and their ends.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{FAILOVER, Host, RECOVERY};
use crate::client::raw::{Ask, Reply};
use crate::clock;
use crate::failure::{Context, Failure, Result};

/// What an attested login gave.
#[derive(Clone)]
pub struct Login {
    /// The token.
    pub token: String,
    /// Its accessor.
    pub accessor: String,
    /// Its `lease_duration`.
    pub ttl: Duration,
    /// Its policies.
    pub policies: Vec<String>,
    /// Who answered: `primary` or `replica`.
    pub source: String,
    /// Before the request was sent.
    pub asked: Instant,
    /// After the answer had come.
    pub answered: Instant,
}

impl Login {
    /// Reads the answer to a login or token creation that was sent at `asked`.
    pub fn of(reply: &Reply, asked: Instant) -> Result<Login> {
        let body = reply.json()?;
        let auth = &body["auth"];
        let shown = || format!("status {}: {body}", reply.status);
        let text = |name: &str| auth[name].as_str().map(str::to_owned).context(shown());
        let policies = serde_json::from_value(auth["policies"].clone()).context(shown())?;
        let ttl = auth["lease_duration"].as_u64().context(shown())?;
        Ok(Login {
            token: text("client_token")?,
            accessor: text("accessor")?,
            ttl: Duration::from_secs(ttl),
            policies,
            source: reply.source().unwrap_or("unnamed").to_owned(),
            asked,
            answered: clock::instant(),
        })
    }
}

impl<P> Host<P> {
    /// Logs in by attestation, as ourselves.
    pub async fn login(&self, workload: &str) -> Result<Login> {
        let asked = clock::instant();
        let reply = self.ask(&login_request(workload)).await?;
        Login::of(&reply, asked).context(format!("login of {workload}"))
    }

    /// Reads an API path without `/v1/`; an empty token sends none.
    pub async fn read(&self, path: &str, token: &str) -> Result<Reply> {
        let ask = Ask::get(&format!("/v1/{path}"));
        match token {
            "" => self.ask(&ask).await,
            token => self.ask(&ask.token(token)?).await,
        }
    }

    /// Writes with POST to an API path without `/v1/`; an empty token sends none.
    pub async fn write(&self, path: &str, token: &str, body: &Value) -> Result<Reply> {
        let ask = Ask::post(&format!("/v1/{path}"), body);
        match token {
            "" => self.ask(&ask).await,
            token => self.ask(&ask.token(token)?).await,
        }
    }

    /// Sends to the workload socket, with 15 s for the answer: a login may wait for the machine to decide.
    pub async fn ask(&self, ask: &Ask) -> Result<Reply> {
        let client = self.daemon.client().within(Duration::from_secs(15));
        client.send(ask).await.map_err(|failure| {
            self.daemon
                .failure(format!("{} {}: {failure}", ask.method, ask.target))
        })
    }

    /// The path of one secret of a team, and its password.
    pub fn secret(&self, team: &str) -> Result<(&str, &str)> {
        let mut items = self.world.below(team).filter(|s| s.path.contains("/item-"));
        let secret = items.next().context(format!("{team} has no secret"))?;
        let password = secret.data["data"]["password"].as_str();
        Ok((&secret.path, password.context("a secret without password")?))
    }

    /// Waits until a read is answered with this status; gives that answer.
    pub async fn until_status(
        &self,
        status: u16,
        path: &str,
        token: &str,
        bound: Duration,
    ) -> Result<Reply> {
        let what = format!("{status} for {path}");
        let waited = crate::eventually(bound, &what, async || match self.read(path, token).await {
            Ok(reply) if reply.status == status => Ok(reply),
            Ok(reply) => Err(Failure::new(format!("{}: {}", reply.status, reply.text()))),
            Err(failure) => Err(failure),
        });
        waited.await.map_err(|failure| self.daemon.failure(failure))
    }
}

impl Host {
    /// Waits until Holdover has learned a token of the primary's that a client has used.
    pub async fn until_learned(&self, token: &str) -> Result<()> {
        let client = self.primary.api(token);
        let looked = client.get("auth/token/lookup-self").await?;
        let accessor = looked.text("/data/accessor")?;
        let bound = Duration::from_secs(10);
        let waited = crate::eventually(bound, "the token to be learned", async || {
            let grants = self.daemon.admin(&Ask::get("/v1/grants")).await;
            match grants.map(|reply| reply.text()) {
                Ok(text) if text.contains(&accessor) => Ok(()),
                Ok(text) => Err(text),
                Err(failure) => Err(failure.to_string()),
            }
        });
        waited.await.map_err(|failure| self.daemon.failure(failure))
    }

    /// `kill -9` of the primary; returns the status once Holdover is in charge.
    pub async fn cut(&self) -> Result<Value> {
        self.primary.kill9()?;
        self.daemon.wait_state("holdover", FAILOVER).await
    }

    /// Starts the primary again; returns the status once Holdover has settled and follows.
    pub async fn restore(&self) -> Result<Value> {
        self.primary.start_again().await?;
        self.daemon.wait_state("following", RECOVERY).await
    }
}

/// The attested login of a workload.
pub fn login_request(workload: &str) -> Ask {
    Ask::post("/v1/auth/holdover/login", &json!({ "role": workload }))
}
