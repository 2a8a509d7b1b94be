//! Each address is looked after by itself, whatever traffic another one carries.

use std::time::Duration;

use http::{HeaderValue, Request, uri::PathAndQuery};
use shared::provenance::{Currency, Health, Line, NodeRole, NodeSeen};

use super::{
    LineShown, Link, Monitored,
    address::{LineClient, Lines},
    body::RelayBody,
    error::{Unavailable, Unshown, unavailable_of},
    forward::url,
    show,
};

/// What a look at an address found: the node at the other end of a fresh connection.
pub(crate) type Looked = Result<NodeSeen, Unshown>;

impl Link {
    /// Looks at every address again and again, each by itself, until the daemon stops. Says where a connection was `accepted`,
    /// whatever answered: in an outage the machine's own looks are further apart.
    pub async fn keep_watch(
        self,
        accepted: impl Fn() + Clone + Send + 'static,
        every: Duration,
        within: Duration,
    ) {
        let mut watching = tokio::task::JoinSet::new();
        for nr in 0..self.addresses().all().len() {
            let (link, accepted) = (self.clone(), accepted.clone());
            watching.spawn(async move {
                while let Some(at) = link.addresses().all().get(nr) {
                    match link.look(at, within).await {
                        Ok(_) => link.see_whether_current(at, within).await,
                        Err(why) => {
                            tracing::debug!(address = %at.address.url, %why, "an address does not serve");
                        }
                    }
                    if at.accepts() {
                        accepted();
                    }
                    tokio::time::sleep(every).await;
                }
            });
        }
        while watching.join_next().await.is_some() {}
    }

    /// Opens a connection to `at`, which shows itself. Making it has its own time, and showing has `within`.
    pub(crate) async fn look(&self, at: &Monitored, within: Duration) -> Looked {
        let looked = tokio::time::timeout(self.with_connecting(within), at.open()).await;
        let looked = looked.unwrap_or(Err(Unavailable::Timeout.into()));
        if let Err(why @ (Unshown::Foreign(_) | Unshown::Unavailable(_))) = &looked {
            at.failed_probe(why);
        }
        looked
    }

    /// Sees whether what is asked as current at `at` comes from the active node. A standby that is cut from its peers
    /// answers everything else.
    async fn see_whether_current(&self, at: &Monitored, within: Duration) {
        let asking = self.health_at(at, |lines| &lines.fresh, true);
        let answered = tokio::time::timeout(self.with_connecting(within), asking).await;
        let current = matches!(&answered, Ok(Ok(answer)) if answer.is_current());
        at.showed_current(current);
    }

    /// So much, and what making a connection takes before it: on a long way that is most of it.
    pub(crate) fn with_connecting(&self, within: Duration) -> Duration {
        within + self.0.base.connect_timeout
    }

    /// Asks for the health at `at` over a connection of these lines: as it is, or as current, which has a standby say
    /// what its active node is.
    pub(crate) async fn health_at(
        &self,
        at: &Monitored,
        client: impl Fn(&Lines) -> &LineClient,
        as_current: bool,
    ) -> Result<HealthAnswer, Unshown> {
        let target = PathAndQuery::from_static(show::HEALTH);
        let uri = url(&at.address, target);
        let mut request = Request::new(RelayBody::EMPTY);
        *request.uri_mut() = uri.map_err(|error| Unavailable::Connect(error.to_string()))?;
        let headers = request.headers_mut();
        headers.insert("x-vault-request", HeaderValue::from_static("true"));
        if as_current {
            show::ask_as_current(&self.0.base, headers);
        }
        let sent = {
            let lines = at.lines();
            client(&lines).request(request)
        };
        let answer = sent.await.map_err(|error| Unshown::of(&error))?;
        let shown = answer.extensions().get::<LineShown>().cloned();
        let line = shown.map(|shown| shown.line()).ok_or(Unshown::SlowDown)?;
        let status = answer.status().as_u16();
        let body = show::read_health(answer.into_body()).await?;
        match Health::read(status, &body) {
            Health::Serves(node) => {
                self.0.base.trust.lock().recognise(&node.cluster)?;
                Ok(HealthAnswer { line, node })
            }
            Health::SlowDown => Err(Unshown::SlowDown),
            Health::CannotServe => Err(unavailable_of(status, &body).into()),
        }
    }
}

/// An answer to a request for the health, and the connection that it came over.
pub(crate) struct HealthAnswer {
    line: Line,
    /// The node that answered.
    node: NodeSeen,
}

impl HealthAnswer {
    /// Whether an answer that was asked for as current is.
    fn is_current(&self) -> bool {
        match self.line.currency() {
            Currency::Always => true,
            Currency::WhenAsked => self.node.role == NodeRole::Active,
            Currency::Never => false,
        }
    }
}
