//! Probes: whether the primary answers, and whether it serves. The machine moves by these alone.
//!
//! Not paced and not retried: a probe that waits for anything but the primary says nothing of the primary.

use std::time::Duration;

use serde::Deserialize;
use shared::name::ClusterId;

use super::{
    Upstream,
    address::{ClusterIdentity, Monitored},
    client::{Client, NoAnswer, Raw, unavailable_of},
    error::{ForeignCluster, Unavailable},
    request::Request,
};
use crate::clock::Stopwatch;

/// What a probe found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ProbeOutcome {
    /// It cannot serve.
    Failed(Unavailable),
    /// Another cluster than the pinned one answers.
    Foreign(ForeignCluster),
    /// It answers.
    Good {
        /// Whether an authenticated, audited operation succeeded as part of this probe.
        authenticated: bool,
        /// The primary's clock, in Unix seconds.
        server_time: Option<i64>,
    },
    /// It serves, and refuses Holdover's own token: a decision, not unavailability.
    Refused,
}

/// What `sys/health` says.
#[derive(Deserialize)]
struct HealthBody {
    /// Absent while it is sealed.
    #[serde(default)]
    cluster_id: Option<ClusterId>,
    /// Unix seconds.
    #[serde(default)]
    server_time_utc: Option<i64>,
}

/// How an address is that answers a request for its health.
#[derive(PartialEq, Eq, Debug)]
pub(super) enum Health {
    /// It is active, or a standby that forwards.
    Up {
        cluster: ClusterId,
        server_time: Option<i64>,
    },
    /// A rate quota answered for it: it can be reached, and whose cluster it is stays as it was seen last.
    SlowDown(Option<Duration>),
}

/// What one address showed.
struct AddressSeen {
    server_time: Option<i64>,
    serving: Serving,
}

/// Why an address showed nothing.
enum AddressFailure {
    Foreign(ForeignCluster),
    Unavailable(Unavailable),
}

impl From<Unavailable> for AddressFailure {
    fn from(unavailable: Unavailable) -> Self {
        Self::Unavailable(unavailable)
    }
}

/// How far one address was seen to serve, best first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Serving {
    /// An authenticated operation succeeded.
    Proven,
    /// Holdover's own token was refused.
    Refused,
    /// Only its health was asked, or the answer was neither.
    Unproven,
}

impl Upstream {
    /// Asks every address at once for its health and, if `authenticated`, for an authenticated operation. Ends
    /// within `probe_timeout`.
    pub async fn probe(&self, authenticated: bool) -> ProbeOutcome {
        self.client().reload_files();
        let mut asked = tokio::task::JoinSet::new();
        for nr in 0..self.addresses().all().len() {
            let upstream = self.clone();
            asked.spawn(async move { (nr, upstream.probe_address(nr, authenticated).await) });
        }
        let mut answers = asked.join_all().await;
        answers.sort_by_key(|(nr, _)| *nr);
        let outcome = sum_up(answers.into_iter().filter_map(|(_, answer)| answer));
        self.note_probe(&outcome);
        outcome
    }

    async fn probe_address(
        &self,
        nr: usize,
        authenticated: bool,
    ) -> Option<Result<AddressSeen, AddressFailure>> {
        let at = self.addresses().all().get(nr)?;
        let within = self.0.probe_timeout;
        let ask = self.ask_address(at, authenticated, within);
        let seen = tokio::time::timeout(within, ask).await;
        let seen = seen.unwrap_or(Err(Unavailable::Timeout.into()));
        Some(seen.inspect_err(|_| at.failed()))
    }

    async fn ask_address(
        &self,
        at: &Monitored,
        authenticated: bool,
        within: Duration,
    ) -> Result<AddressSeen, AddressFailure> {
        let server_time = match self.client().health(at, within).await? {
            Health::Up {
                cluster,
                server_time,
            } => {
                let recognised = self.client().recognise(at, cluster);
                recognised.map_err(AddressFailure::Foreign)?;
                server_time
            }
            Health::SlowDown(_) => None,
        };
        let serving = match self.own_token().filter(|_| authenticated) {
            Some(token) if at.identity() == ClusterIdentity::Ours => {
                let request = Request::read("auth/token/lookup-self").within(within);
                serving(self.client().exchange(at, &request, Some(&token)).await)?
            }
            _ => Serving::Unproven,
        };
        Ok(AddressSeen {
            server_time,
            serving,
        })
    }
}

/// One address that serves is enough; else the most telling of what was found, by preference of address.
fn sum_up(answers: impl Iterator<Item = Result<AddressSeen, AddressFailure>>) -> ProbeOutcome {
    let (seen, failed): (Vec<_>, Vec<_>) = answers.partition(Result::is_ok);
    let seen = seen.into_iter().flatten();
    if let Some(best) = seen.min_by_key(|address| address.serving) {
        return match best.serving {
            Serving::Refused => ProbeOutcome::Refused,
            serving => ProbeOutcome::Good {
                authenticated: serving == Serving::Proven,
                server_time: best.server_time,
            },
        };
    }
    let failed = failed.into_iter().filter_map(Result::err);
    let telling = failed.min_by_key(|failure| matches!(failure, AddressFailure::Unavailable(_)));
    match telling {
        Some(AddressFailure::Foreign(foreign)) => ProbeOutcome::Foreign(foreign),
        Some(AddressFailure::Unavailable(unavailable)) => ProbeOutcome::Failed(unavailable),
        None => ProbeOutcome::Failed(Unavailable::no_address()),
    }
}

fn serving(answer: Result<Raw, NoAnswer>) -> Result<Serving, Unavailable> {
    let raw = answer.map_err(|none| none.unavailable)?;
    match raw.status {
        200 => Ok(Serving::Proven),
        403 => Ok(Serving::Refused),
        // With a failing authenticated probe, 500 means that it is unavailable too.
        500..=599 => Err(unavailable_of(&raw)),
        _ => Ok(Serving::Unproven),
    }
}

impl Client {
    /// `sys/health` of one address.
    ///
    /// # Errors
    /// If it cannot serve.
    pub(super) async fn health(
        &self,
        at: &Monitored,
        within: Duration,
    ) -> Result<Health, Unavailable> {
        let request = Request::read("sys/health").of_cluster().within(within);
        let watch = Stopwatch::start();
        let answer = self.exchange(at, &request, None).await;
        let health = answer
            .map_err(|none| none.unavailable)
            .and_then(|raw| health(&raw));
        match &health {
            Ok(_) => at.answered(watch.elapsed()),
            Err(_) => at.failed(),
        }
        health
    }
}

/// 200: active. 473 and 429: a standby that forwards. Anything else cannot serve.
fn health(raw: &Raw) -> Result<Health, Unavailable> {
    let body = serde_json::from_slice::<HealthBody>(&raw.body).ok();
    let server_time = body.as_ref().and_then(|body| body.server_time_utc);
    match (raw.status, body.and_then(|body| body.cluster_id)) {
        (200 | 429 | 473, Some(cluster)) => Ok(Health::Up {
            cluster,
            server_time,
        }),
        (429, None) if raw.overlong.is_none() => Ok(Health::SlowDown(raw.retry_after)),
        _ => Err(unavailable_of(raw)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use zeroize::Zeroizing;

    fn raw(status: u16, body: &str) -> Raw {
        Raw {
            status,
            retry_after: None,
            location: None,
            content: shared::kv::Content::default(),
            body: Zeroizing::new(body.as_bytes().to_vec()),
            overlong: None,
        }
    }

    fn seen(serving: Serving) -> Result<AddressSeen, AddressFailure> {
        Ok(AddressSeen {
            server_time: Some(1),
            serving,
        })
    }

    fn down() -> Result<AddressSeen, AddressFailure> {
        Err(Unavailable::Timeout.into())
    }

    const UP: &str = r#"{"initialized":true,"sealed":false,"cluster_id":"c","server_time_utc":7}"#;

    #[test]
    fn active_and_standby_are_good_and_sealed_is_not() {
        for status in [200, 429, 473] {
            let up = Health::Up {
                cluster: ClusterId::parse("c").unwrap(),
                server_time: Some(7),
            };
            assert_eq!(health(&raw(status, UP)), Ok(up));
        }
        let sealed = r#"{"initialized":true,"sealed":true}"#;
        for (status, body) in [(503, sealed), (501, "{}"), (200, "<html>"), (502, "")] {
            assert!(health(&raw(status, body)).is_err(), "{status} {body}");
        }
        let limited = health(&raw(429, r#"{"errors":["quota"]}"#));
        assert_eq!(limited, Ok(Health::SlowDown(None)));
    }

    #[test]
    fn one_address_that_serves_is_enough() {
        assert_eq!(
            sum_up([down(), seen(Serving::Refused), seen(Serving::Proven)].into_iter()),
            ProbeOutcome::Good {
                authenticated: true,
                server_time: Some(1)
            }
        );
        assert_eq!(
            sum_up([down(), seen(Serving::Refused)].into_iter()),
            ProbeOutcome::Refused
        );
        assert_eq!(
            sum_up([down()].into_iter()),
            ProbeOutcome::Failed(Unavailable::Timeout)
        );
    }

    #[test]
    fn another_cluster_is_reported_before_addresses_that_do_not_answer() {
        let [ours, other] = ["a", "b"].map(|id| ClusterId::parse(id).unwrap());
        let foreign = || Err(AddressFailure::Foreign(ForeignCluster::new(&ours, &other)));
        for answers in [[down(), foreign()], [foreign(), down()]] {
            assert!(matches!(
                sum_up(answers.into_iter()),
                ProbeOutcome::Foreign(_)
            ));
        }
    }

    #[test]
    fn a_server_that_fails_every_audited_request_does_not_serve() {
        assert!(serving(Ok(raw(500, r#"{"errors":["audit"]}"#))).is_err());
        assert!(serving(Ok(raw(403, ""))).is_ok_and(|s| s == Serving::Refused));
        assert!(serving(Ok(raw(429, ""))).is_ok_and(|s| s == Serving::Unproven));
    }
}
