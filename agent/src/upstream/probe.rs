//! Probes: whether the primary answers, and whether it serves. The machine moves by these alone.
//!
//! Not paced and not retried: a probe that waits for anything but the primary says nothing of the primary.

use std::time::Duration;

use serde::Deserialize;
use shared::name::ClusterId;

use super::{
    Upstream,
    address::{Identity, Monitored},
    client::{Client, NoAnswer, Raw, unavailable_of},
    error::{Unavailable, UpstreamError},
    request::Request,
};
use crate::clock::Stopwatch;

/// What a probe found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ProbeOutcome {
    /// It cannot serve.
    Failed(Unavailable),
    /// Another cluster than the pinned one answers.
    Foreign {
        /// What is pinned.
        pinned: String,
        /// What answered.
        found: String,
    },
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
pub(super) struct Health {
    /// Absent while it is sealed.
    #[serde(default)]
    pub(super) cluster_id: Option<ClusterId>,
    /// Unix seconds.
    #[serde(default)]
    server_time_utc: Option<i64>,
}

/// What one address showed.
struct Seen {
    server_time: Option<i64>,
    serving: Serving,
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
        let outcome = sum_up(answers.into_iter().map(|(_, answer)| answer));
        self.note_probe(&outcome);
        outcome
    }

    async fn probe_address(&self, nr: usize, authenticated: bool) -> Result<Seen, UpstreamError> {
        let Some(at) = self.addresses().all().get(nr) else {
            return Err(Unavailable::Connect("no such address".into()).into());
        };
        let within = self.probe_timeout();
        let ask = self.ask_address(at, authenticated, within);
        let seen = tokio::time::timeout(within, ask).await;
        let seen = seen.unwrap_or(Err(Unavailable::Timeout.into()));
        seen.inspect_err(|_| at.failed())
    }

    async fn ask_address(
        &self,
        at: &Monitored,
        authenticated: bool,
        within: Duration,
    ) -> Result<Seen, UpstreamError> {
        let server_time = match self.client().health(at, within).await {
            Ok(health) => {
                self.client().recognise(at, health.cluster_id)?;
                health.server_time_utc
            }
            // Rate-limited: reachable, and whose cluster it is stays as it was seen last.
            Err(UpstreamError::SlowDown { .. }) => None,
            Err(error) => return Err(error),
        };
        let serving = match self.own_token().filter(|_| authenticated) {
            Some(token) if at.identity() == Identity::Ours => {
                let request = Request::read("auth/token/lookup-self").within(within);
                let answer = self.client().exchange(at, &request, Some(&token)).await;
                judge_serving(answer)?
            }
            _ => Serving::Unproven,
        };
        Ok(Seen {
            server_time,
            serving,
        })
    }
}

/// One address that serves is enough; else the most telling of what was found, by preference of address.
fn sum_up(answers: impl Iterator<Item = Result<Seen, UpstreamError>>) -> ProbeOutcome {
    let (mut best, mut failure): (Option<Seen>, Option<UpstreamError>) = (None, None);
    for answer in answers {
        match answer {
            Ok(seen) if best.as_ref().is_none_or(|b| seen.serving < b.serving) => best = Some(seen),
            Ok(_) => {}
            Err(error) => {
                failure = failure
                    .filter(|f| !f.is_unavailable() || error.is_unavailable())
                    .or(Some(error))
            }
        }
    }
    match (best, failure) {
        (Some(seen), _) if seen.serving == Serving::Refused => ProbeOutcome::Refused,
        (Some(seen), _) => ProbeOutcome::Good {
            authenticated: seen.serving == Serving::Proven,
            server_time: seen.server_time,
        },
        (None, Some(UpstreamError::ForeignCluster { pinned, found })) => {
            ProbeOutcome::Foreign { pinned, found }
        }
        (None, Some(error)) => ProbeOutcome::Failed(as_unavailable(error)),
        (None, None) => {
            ProbeOutcome::Failed(Unavailable::Connect("no address is configured".into()))
        }
    }
}

fn judge_serving(answer: Result<Raw, NoAnswer>) -> Result<Serving, UpstreamError> {
    let raw = answer.map_err(|none| none.unavailable)?;
    match raw.status {
        200 => Ok(Serving::Proven),
        403 => Ok(Serving::Refused),
        // With a failing authenticated probe, 500 means that it is unavailable too.
        500..=599 => Err(unavailable_of(&raw).into()),
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
    ) -> Result<Health, UpstreamError> {
        let request = Request::read("sys/health").of_cluster().within(within);
        let watch = Stopwatch::start();
        let raw = match self.exchange(at, &request, None).await {
            Ok(raw) => raw,
            Err(NoAnswer { unavailable, .. }) => {
                at.failed();
                return Err(unavailable.into());
            }
        };
        match judge_health(raw) {
            Err(UpstreamError::Unavailable(unavailable)) => {
                at.failed();
                Err(unavailable.into())
            }
            judged => {
                at.answered(watch.elapsed());
                judged
            }
        }
    }
}

/// 200: active. 473 and 429: a standby that forwards. Anything else cannot serve.
fn judge_health(raw: Raw) -> Result<Health, UpstreamError> {
    let health = serde_json::from_slice::<Health>(&raw.body).ok();
    match (raw.status, health) {
        (200 | 429 | 473, Some(health)) if health.cluster_id.is_some() => Ok(health),
        // A rate quota: reachable. Who it is stays as it was seen last.
        (429, _) => Err(UpstreamError::SlowDown {
            after: raw.retry_after,
        }),
        _ => Err(unavailable_of(&raw).into()),
    }
}

/// In a probe everything that is not good means that it cannot serve.
fn as_unavailable(error: UpstreamError) -> Unavailable {
    match error {
        UpstreamError::Unavailable(unavailable) => unavailable,
        UpstreamError::Undecided { status, errors }
        | UpstreamError::Decision { status, errors } => Unavailable::Status {
            status,
            detail: errors.join("; "),
        },
        other => Unavailable::Status {
            status: 0,
            detail: other.to_string(),
        },
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
        }
    }

    fn seen(serving: Serving) -> Result<Seen, UpstreamError> {
        Ok(Seen {
            server_time: Some(1),
            serving,
        })
    }

    const UP: &str = r#"{"initialized":true,"sealed":false,"cluster_id":"c","server_time_utc":7}"#;

    #[test]
    fn active_and_standby_are_good_and_sealed_is_not() {
        for status in [200, 429, 473] {
            let health = judge_health(raw(status, UP)).ok().unwrap();
            assert_eq!(health.server_time_utc, Some(7));
        }
        let sealed = r#"{"initialized":true,"sealed":true}"#;
        for (status, body) in [(503, sealed), (501, "{}"), (200, "<html>"), (502, "")] {
            let error = judge_health(raw(status, body)).err().unwrap();
            assert!(error.is_unavailable(), "{status} {body}");
        }
        let limited = judge_health(raw(429, r#"{"errors":["quota"]}"#))
            .err()
            .unwrap();
        assert!(!limited.is_unavailable());
    }

    #[test]
    fn one_address_that_serves_is_enough() {
        let down = || Err(Unavailable::Timeout.into());
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
    fn another_cluster_is_told_before_addresses_that_do_not_answer() {
        let foreign = || {
            Err(UpstreamError::ForeignCluster {
                pinned: "a".into(),
                found: "b".into(),
            })
        };
        let down = || Err(Unavailable::Timeout.into());
        for answers in [[down(), foreign()], [foreign(), down()]] {
            assert!(matches!(
                sum_up(answers.into_iter()),
                ProbeOutcome::Foreign { .. }
            ));
        }
    }

    #[test]
    fn a_server_that_fails_every_audited_request_does_not_serve() {
        let failing = judge_serving(Ok(raw(500, r#"{"errors":["audit"]}"#)));
        assert!(failing.is_err_and(|error| error.is_unavailable()));
        assert!(judge_serving(Ok(raw(403, ""))).is_ok_and(|s| s == Serving::Refused));
        assert!(judge_serving(Ok(raw(429, ""))).is_ok_and(|s| s == Serving::Unproven));
    }
}
