//! Three workloads on one host, each with a user of its own.
//!
//! The kernel must attest different users. Root acts as them, each request in a process of its own; anybody else plays
//! one part after the other, and the configuration says each time whose entry our own uid matches.

use std::path::Path;
use std::time::Duration;

use harness::client::raw::{Ask, Reply};
use harness::client::visitor::Visitor;
use harness::daemon::config::{Config, Workload};
use harness::host::{Host, Plan, login_request, own_uid};
use harness::{Result, eventually, place};
use rustix::process::getegid;
use tokio::sync::Mutex;

use crate::{HOLDOVER, PATH, VISITOR};

const BOUND: Duration = Duration::from_secs(15);

/// A workload.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Part {
    First,
    Second,
    Third,
}

impl Part {
    const ALL: [Part; 3] = [Part::First, Part::Second, Part::Third];

    /// The name of its entry. All three have the role of the orders team.
    pub(crate) fn entry(self) -> &'static str {
        match self {
            Part::First => "first",
            Part::Second => "second",
            Part::Third => "third",
        }
    }

    /// Its uid and gid while our own user plays `ours`, where we cannot be several.
    fn uid(self, ours: Option<Part>) -> u32 {
        match (ours, self) {
            (Some(part), _) if part == self => own_uid(),
            (_, Part::First) => 4411,
            (_, Part::Second) => 4412,
            (_, Part::Third) => 4413,
        }
    }
}

/// The host and its users.
pub(crate) struct Cast {
    host: Host,
    visitors: Vec<Visitor>,
    /// Which part our own uid plays; none where each has a user of its own.
    ours: Option<Mutex<Part>>,
}

impl Cast {
    /// A host with a pool of two leases, which live ten minutes, and three workloads that may read it.
    pub(crate) async fn assemble() -> Result<Cast> {
        let ours = (!place::is_root()).then_some(Part::First);
        let life = (Duration::from_secs(600), Duration::from_secs(3600));
        let plan = Plan::new(HOLDOVER)
            .pooled_database(life.0, life.1, 2)
            .set("limits.login_failures_per_minute_per_uid", 100_000);
        let plan = entries(ours).into_iter().fold(plan, Plan::workload);
        let visitors = Part::ALL.into_iter().map(|part| {
            let uid = ours.map_or_else(|| part.uid(None), |_| own_uid());
            let gid = ours.map_or(uid, |_| getegid().as_raw());
            Visitor::new(Path::new(VISITOR), uid, gid)
        });
        Ok(Cast {
            visitors: visitors.collect::<Result<_>>()?,
            host: plan.start().await?,
            ours: ours.map(Mutex::new),
        })
    }

    pub(crate) fn host(&self) -> &Host {
        &self.host
    }

    /// Logs in as this workload, and reads the leased path with that token.
    pub(crate) async fn read(&self, part: Part) -> Result<Reply> {
        let login = self.send(part, &login_request(part.entry())).await?;
        let token = login.json_text("/auth/client_token")?;
        let ask = Ask::get(&format!("/v1/{PATH}")).token(&token)?;
        self.send(part, &ask).await
    }

    async fn send(&self, part: Part, ask: &Ask) -> Result<Reply> {
        if let Some(ours) = &self.ours {
            let mut ours = ours.lock().await;
            if *ours != part {
                self.recast(part).await?;
                *ours = part;
            }
        }
        let at = Part::ALL.into_iter().position(|other| other == part);
        let visitor = self.visitors.get(at.unwrap_or_default());
        let visitor = harness::Context::context(visitor, "no such part")?;
        let sent = visitor.send(&self.host.daemon.socket(), ask, BOUND).await;
        sent.map_err(|failure| self.host.daemon.failure(failure))
    }

    /// Gives our own uid this part, and waits until Holdover goes by it.
    async fn recast(&self, part: Part) -> Result<()> {
        self.host.reconfigure(|config| {
            entries(Some(part))
                .into_iter()
                .fold(config.unset("workload"), Config::workload)
        })?;
        eventually(BOUND, "the changed entries", async || {
            match self.host.ask(&login_request(part.entry())).await {
                Ok(reply) if reply.status == 200 => Ok(()),
                Ok(reply) => Err(reply.text()),
                Err(failure) => Err(failure.to_string()),
            }
        })
        .await
    }
}

fn entries(ours: Option<Part>) -> Vec<Workload> {
    Part::ALL
        .into_iter()
        .map(|part| {
            Workload::new(part.entry(), "orders")
                .uid(part.uid(ours))
                .issues("15m", "2h")
        })
        .collect()
}
