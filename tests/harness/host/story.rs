//! What happens on a host: logins, reads, outages and their ends.

use std::future::Future;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{FAILOVER, Host, RECOVERY};
use crate::bao::Primary;
use crate::bao::api::Api;
use crate::client::raw::{Ask, Reply};
use crate::clock;
use crate::cluster::Cluster;
use crate::eventually;
use crate::failure::{Context, Failure, Result};
use crate::link::Flow;

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

/// What a story is over, as far as stories are the same over one server and over a cluster.
pub trait Servers {
    /// A client with the root token: of the node that leads.
    fn root_api(&self) -> impl Future<Output = Result<Api>>;

    /// Waits until every node reads `path` for itself and has all that was written before.
    fn known_everywhere(&self, path: &str) -> impl Future<Output = Result<()>>;

    /// Takes the primary away from everybody.
    fn take_away(&self) -> impl Future<Output = Result<()>>;

    /// Brings it back.
    fn bring_back(&self) -> impl Future<Output = Result<()>>;
}

impl Servers for Primary {
    async fn root_api(&self) -> Result<Api> {
        Ok(self.root())
    }

    async fn known_everywhere(&self, _: &str) -> Result<()> {
        Ok(())
    }

    /// `kill -9`.
    async fn take_away(&self) -> Result<()> {
        self.kill9()
    }

    async fn bring_back(&self) -> Result<()> {
        self.start_again().await
    }
}

impl Servers for Cluster {
    async fn root_api(&self) -> Result<Api> {
        self.root().await
    }

    async fn known_everywhere(&self, path: &str) -> Result<()> {
        self.wait_for_read(path).await?;
        self.wait_caught_up().await
    }

    /// Every node refuses connections, as if all were dead.
    async fn take_away(&self) -> Result<()> {
        self.cut_apis(Flow::Refused).await
    }

    async fn bring_back(&self) -> Result<()> {
        self.cut_apis(Flow::Open).await
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

    /// Reads until the primary answers. A token that an outage left is exchanged at its first use, and the replica answers
    /// reads meanwhile.
    pub async fn read_of_primary(&self, path: &str, token: &str) -> Result<Reply> {
        let mut last = None;
        eventually(RECOVERY, "the primary's answer", async || {
            let reply = self.read(path, token).await;
            let reply = reply.map_err(|failure| failure.to_string())?;
            let told = format!("{} by {:?}: {}", reply.status, reply.source(), reply.text());
            let of_primary = reply.source() == Some("primary");
            last = Some(reply);
            of_primary.then_some(()).ok_or(told)
        })
        .await?;
        last.context("an answer")
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

impl<P: Servers> Host<P> {
    /// Waits until Holdover has learned a token of the primary's that a client has used.
    pub async fn until_learned(&self, token: &str) -> Result<()> {
        let client = self.primary.root_api().await?.as_token(token);
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

    /// Takes the primary away; returns the status once Holdover is in charge.
    pub async fn cut(&self) -> Result<Value> {
        self.primary.take_away().await?;
        self.daemon.wait_state("holdover", FAILOVER).await
    }

    /// Brings the primary back; returns the status once Holdover has settled and follows.
    pub async fn restore(&self) -> Result<Value> {
        self.primary.bring_back().await?;
        self.daemon.wait_state("following", RECOVERY).await
    }
}

/// The attested login of a workload.
pub fn login_request(workload: &str) -> Ask {
    Ask::post("/v1/auth/holdover/login", &json!({ "role": workload }))
}
