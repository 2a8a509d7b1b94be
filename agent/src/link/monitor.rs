//! Each address is looked after by itself, whatever traffic another one carries.

use std::time::Duration;

use http::{HeaderValue, Method, Request, Response, uri::PathAndQuery};
use hyper::body::Incoming;
use shared::provenance::{Currency, Health, NodeSeen};

use super::{
    LineShown, Link, Monitored,
    body::RelayBody,
    error::{Unavailable, Unshown},
    forward::url,
    show,
};

/// What a look at an address found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Looked {
    /// The node at the other end of a fresh connection.
    pub(crate) node: NodeSeen,
    /// Whether what is asked as current there is.
    pub(crate) current: bool,
}

impl Link {
    /// Looks at every address again and again, each by itself, until the daemon stops.
    pub async fn keep_watch(self, every: Duration, within: Duration) {
        let mut watching = tokio::task::JoinSet::new();
        for nr in 0..self.addresses().all().len() {
            let link = self.clone();
            watching.spawn(async move {
                while let Some(at) = link.addresses().all().get(nr) {
                    let looked = link.look(at, within).await;
                    if let Err(why) = looked {
                        tracing::debug!(address = %at.address.url, %why, "an address does not serve");
                    }
                    tokio::time::sleep(every).await;
                }
            });
        }
        while watching.join_next().await.is_some() {}
    }

    /// Opens a connection to `at`, which shows itself, and sees whether a standby there reaches its active node. Opening
    /// and asking have `within` each.
    pub(crate) async fn look(&self, at: &Monitored, within: Duration) -> Result<Looked, Unshown> {
        let asking = self.health_at(at, true);
        // What opens a connection bounds itself.
        let looked = tokio::time::timeout(within + self.0.base.connect_timeout * 2, asking).await;
        let looked = looked.unwrap_or(Err(Unavailable::Timeout.into()));
        match &looked {
            Ok(looked) => at.showed_current(looked.current),
            Err(why @ (Unshown::Foreign(_) | Unshown::Unavailable(_))) => at.failed_probe(why),
            Err(Unshown::SlowDown | Unshown::NotActive) => {}
        }
        looked
    }

    /// Asks for the health at `at` over a fresh connection, or over one of Holdover's own: as current where a standby
    /// answers, which then says what the active node is.
    pub(crate) async fn health_at(&self, at: &Monitored, fresh: bool) -> Result<Looked, Unshown> {
        let mut request = Request::new(RelayBody::EMPTY);
        *request.method_mut() = Method::GET;
        let target = PathAndQuery::from_static(show::HEALTH);
        let uri = url(&at.address, target);
        *request.uri_mut() = uri.map_err(|error| Unavailable::Connect(error.to_string()))?;
        let headers = request.headers_mut();
        headers.insert("x-vault-request", HeaderValue::from_static("true"));
        show::ask_as_current(&self.0.base, headers);
        let sent = {
            let lines = at.lines();
            match fresh {
                true => lines.fresh.request(request),
                false => lines.own.request(request),
            }
        };
        let answer = sent.await.map_err(|error| Unshown::of(&error))?;
        let shown = answer.extensions().get::<LineShown>().cloned();
        let Some(line) = shown.map(|shown| shown.line()) else {
            return Err(Unavailable::Connect("the connection was not shown".to_owned()).into());
        };
        let current = self
            .is_current(at, line.currency(), &line.node, answer)
            .await?;
        Ok(Looked {
            node: line.node,
            current,
        })
    }

    async fn is_current(
        &self,
        at: &Monitored,
        currency: Currency,
        node: &NodeSeen,
        answer: Response<Incoming>,
    ) -> Result<bool, Unshown> {
        let (status, serves) = (answer.status().as_u16(), answer.into_body());
        let health = Health::read(status, &show::read_health(serves).await?);
        if let Health::Serves(seen) = &health {
            self.0.base.trust.lock().recognise(&seen.cluster)?;
        }
        let answered_by_active = matches!(&health, Health::Serves(seen) if seen.role == shared::provenance::NodeRole::Active);
        Ok(match currency {
            Currency::Never => false,
            Currency::WhenAsked => answered_by_active,
            Currency::Always => {
                let same = matches!(&health, Health::Serves(seen) if seen.role == node.role);
                if !same {
                    at.led_elsewhere(node.role);
                }
                same
            }
        })
    }
}
