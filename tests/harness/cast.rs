//! A host with several users: two with an entry each, a third with none, and how requests come to be theirs.
//!
//! The kernel must attest different users. Root acts as them, each request in a process of its own; anybody else plays one part
//! after the other, and the configuration says each time which part our own uid has.

use std::path::Path;
use std::time::Duration;

use rustix::process::getegid;
use tokio::sync::Mutex;

use crate::client::raw::{Ask, Reply};
use crate::client::visitor::Visitor;
use crate::daemon::config::{Config, Workload};
use crate::host::{Host, Plan, login_request, own_uid};
use crate::{Failure, Result, eventually, place};

const BOUND: Duration = Duration::from_secs(15);

/// A user of the story.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Part {
    /// Has the entry `orders`.
    Orders,
    /// Has the entry `billing`.
    Billing,
    /// Has none.
    Third,
}

impl Part {
    const ALL: [Part; 3] = [Part::Orders, Part::Billing, Part::Third];

    /// Name of its entry, policy and role.
    pub fn team(self) -> &'static str {
        match self {
            Part::Orders => "orders",
            Part::Billing => "billing",
            Part::Third => "third",
        }
    }

    /// The other one that has an entry.
    pub fn other(self) -> Part {
        match self {
            Part::Orders => Part::Billing,
            _ => Part::Orders,
        }
    }

    /// Its uid and gid while our own user plays `ours`, where we cannot be several.
    fn uid(self, ours: Option<Part>) -> u32 {
        match (ours, self) {
            (Some(part), _) if part == self => own_uid(),
            (_, Part::Orders) => 4401,
            (_, Part::Billing) => 4402,
            (_, Part::Third) => 4403,
        }
    }
}

/// The host and its users.
pub struct Cast {
    host: Host,
    visitors: Vec<(Part, Visitor)>,
    /// Which part our own uid plays; none where each has a user of its own.
    ours: Option<Mutex<Part>>,
}

impl Cast {
    /// A host with the entries `orders` and `billing`, each for its user alone.
    pub async fn assemble(holdover: &str, visitor: &str) -> Result<Cast> {
        let ours = (!place::is_root()).then_some(Part::Orders);
        if ours.is_some() {
            eprintln!("not root: one user plays all parts, one after the other");
        }
        // Where one user plays all parts, its refused logins are many.
        let plan = Plan::new(holdover).set("limits.login_failures_per_minute_per_uid", 100_000);
        let host = entries(ours)
            .into_iter()
            .fold(plan, Plan::workload)
            .start()
            .await?;
        let visitors = Part::ALL
            .into_iter()
            .map(|part| {
                let uid = ours.map_or_else(|| part.uid(None), |_| own_uid());
                let gid = ours.map_or(uid, |_| getegid().as_raw());
                Ok((part, Visitor::new(Path::new(visitor), uid, gid)?))
            })
            .collect::<Result<_>>()?;
        let ours = ours.map(Mutex::new);
        Ok(Cast {
            host,
            visitors,
            ours,
        })
    }

    /// The host.
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// Sends a request as this user.
    pub async fn send(&self, part: Part, ask: &Ask) -> Result<Reply> {
        if let Some(ours) = &self.ours {
            let mut ours = ours.lock().await;
            if *ours != part {
                self.recast(part).await?;
                *ours = part;
            }
        }
        let visitor = self.visitors.iter().find(|(other, _)| *other == part);
        let (_, visitor) = visitor.ok_or_else(|| Failure::new("no such part"))?;
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
            let mut seen = Vec::new();
            for other in [Part::Orders, Part::Billing] {
                let reply = self.host.ask(&login_request(other.team())).await;
                let reply = reply.map_err(|failure| failure.to_string())?;
                seen.push((other, reply.status));
            }
            let wanted = |(other, status): &(Part, u16)| (*status == 200) == (*other == part);
            if seen.iter().all(wanted) {
                Ok(())
            } else {
                Err(format!("{seen:?}"))
            }
        })
        .await
    }
}

fn entries(ours: Option<Part>) -> Vec<Workload> {
    [Part::Orders, Part::Billing]
        .into_iter()
        .map(|part| {
            Workload::new(part.team(), part.team())
                .uid(part.uid(ours))
                .auto_token()
                .issues("15m", "2h")
        })
        .collect()
}
