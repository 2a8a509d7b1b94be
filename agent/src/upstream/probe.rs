//! Probes: whether the primary answers, and whether it serves. The machine moves by these alone.
//!
//! Not paced and not retried: a probe that waits for anything but the primary says nothing of the primary.

use shared::{
    offboarding::CredentialAsked,
    provenance::{ForeignCluster, NodeRole, NodeSeen},
};

use super::{Reply, Request, Upstream, UpstreamError};
use crate::link::{
    Unavailable,
    error::{Unshown, unavailable_of},
    monitor::Looked,
};

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
    /// It serves, and refuses a request without a token, where Holdover has none of its own: the same.
    Tokenless,
    /// It answers, and asks for fewer requests than the authenticated operation of this probe.
    Slowed {
        /// The primary's clock, in Unix seconds.
        server_time: Option<i64>,
    },
}

/// How far the primary was seen to serve.
enum Serving {
    /// An authenticated operation succeeded.
    Proven,
    /// Holdover's own token was refused.
    Refused,
    /// A request without a token was refused, where there is none to ask with.
    Tokenless,
    /// It asked for fewer requests.
    Slowed,
    /// Only its health was asked, or the answer was none of these.
    Unproven,
}

impl Upstream {
    /// Looks at every address at once and, if `authenticated`, has the active node carry out an authenticated operation.
    /// Each half has `probe_timeout`, after its connection is made.
    pub async fn probe(&self, authenticated: bool) -> ProbeOutcome {
        let outcome = match self.look_at_all().await {
            Ok(server_time) if authenticated => match self.operate().await {
                Ok(Serving::Refused) => ProbeOutcome::Refused,
                Ok(Serving::Tokenless) => ProbeOutcome::Tokenless,
                Ok(Serving::Slowed) => ProbeOutcome::Slowed { server_time },
                Ok(serving) => ProbeOutcome::Good {
                    authenticated: matches!(serving, Serving::Proven),
                    server_time,
                },
                Err(UpstreamError::ForeignCluster(foreign)) => ProbeOutcome::Foreign(foreign),
                Err(UpstreamError::Unavailable(unavailable)) => ProbeOutcome::Failed(unavailable),
                Err(error) => ProbeOutcome::Failed(Unavailable::Connect(error.to_string())),
            },
            Ok(server_time) => ProbeOutcome::Good {
                authenticated: false,
                server_time,
            },
            Err(failed) => failed,
        };
        self.note_probe(&outcome);
        outcome
    }

    /// Whether any address serves, and what its clock says.
    async fn look_at_all(&self) -> Result<Option<i64>, ProbeOutcome> {
        let mut looking = tokio::task::JoinSet::new();
        for nr in 0..self.link().addresses().all().len() {
            let (link, within) = (self.link().clone(), self.0.probe_timeout);
            looking.spawn(async move {
                let at = link.addresses().all().get(nr)?;
                Some((nr, link.look(at, within).await))
            });
        }
        let mut looks: Vec<_> = looking.join_all().await.into_iter().flatten().collect();
        looks.sort_by_key(|(nr, _)| *nr);
        sum_up(looks.into_iter().map(|(_, looked)| looked))
    }

    async fn operate(&self) -> Result<Serving, UpstreamError> {
        let within = self.link().with_connecting(self.0.probe_timeout);
        let request = Request::read("auth/token/lookup-self").within(within);
        let Some(token) = self.own_token() else {
            // A primary that cannot serve cannot refuse either: that, too, is audited, and the active node's to say.
            let served = serving(self.send(&request, None).await)?;
            return Ok(match served {
                Serving::Refused => Serving::Tokenless,
                other => other,
            });
        };
        let replied = self.send(&request, Some(&token)).await;
        if let Ok(reply) = &replied {
            let _ = self.tell_own(CredentialAsked::Token, reply.tells_of_token());
        }
        serving(replied)
    }
}

/// One address that serves is enough; else the most telling of what was found, by preference of address.
fn sum_up(looks: impl Iterator<Item = Looked>) -> Result<Option<i64>, ProbeOutcome> {
    let (mut seen, mut slowed, mut failed) = (None::<NodeSeen>, false, None);
    for looked in looks {
        match looked {
            Ok(node) if node.role == NodeRole::Active => seen = Some(node),
            Ok(node) => {
                seen.get_or_insert(node);
            }
            // It can be reached, and whose cluster it is stays as it was seen last.
            Err(Unshown::SlowDown | Unshown::NotActive) => slowed = true,
            Err(foreign @ Unshown::Foreign(_)) => failed = Some(foreign),
            Err(other) => {
                failed.get_or_insert(other);
            }
        }
    }
    match (seen, failed) {
        (Some(seen), _) => Ok(seen.server_time),
        (None, _) if slowed => Ok(None),
        (None, Some(Unshown::Foreign(foreign))) => Err(ProbeOutcome::Foreign(foreign)),
        (None, Some(other)) => Err(ProbeOutcome::Failed(other.into_unavailable())),
        (None, None) => Err(ProbeOutcome::Failed(Unavailable::no_address())),
    }
}

fn serving(answer: Result<Reply, UpstreamError>) -> Result<Serving, UpstreamError> {
    match answer {
        Ok(reply) if reply.refuses_token() => Ok(Serving::Refused),
        // A token that may not look itself up is good, and the primary decided about it.
        Ok(reply) if reply.is_success() || reply.refuses() => Ok(Serving::Proven),
        Err(UpstreamError::SlowDown { .. }) => Ok(Serving::Slowed),
        // Nodes that can never show that they are current say nothing of whether they serve.
        Ok(_) | Err(UpstreamError::NotCurrent) => Ok(Serving::Unproven),
        // With a failing authenticated probe, 500 means that it is unavailable too.
        Err(UpstreamError::Undecided { status, errors, .. }) => {
            let body = serde_json::to_vec(&shared::wire::Errors { errors }).unwrap_or_default();
            Err(unavailable_of(status, &body).into())
        }
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use shared::{name::ClusterId, provenance::Health};

    fn seen(status: u16, time: i64) -> Looked {
        let body = format!(
            r#"{{"initialized":true,"sealed":false,"cluster_id":"c","server_time_utc":{time}}}"#
        );
        match Health::read(status, body.as_bytes()) {
            Health::Serves(node) => Ok(node),
            other => panic!("{other:?}"),
        }
    }

    fn down() -> Looked {
        Err(Unavailable::Timeout.into())
    }

    fn foreign() -> Looked {
        let [pinned, found] = ["a", "b"].map(|id| ClusterId::parse(id).unwrap());
        Err(ForeignCluster { pinned, found }.into())
    }

    #[test]
    fn one_address_that_serves_is_enough_and_the_active_nodes_clock_counts() {
        let found = sum_up([down(), seen(429, 1), seen(200, 2), foreign()].into_iter());
        assert_eq!(found, Ok(Some(2)));
        assert_eq!(sum_up([seen(429, 1), down()].into_iter()), Ok(Some(1)));
        assert_eq!(
            sum_up([Err(Unshown::SlowDown), down()].into_iter()),
            Ok(None)
        );
        let failed = sum_up([down()].into_iter());
        assert_eq!(failed, Err(ProbeOutcome::Failed(Unavailable::Timeout)));
    }

    #[test]
    fn another_cluster_is_reported_before_addresses_that_do_not_answer() {
        for looks in [[down(), foreign()], [foreign(), down()]] {
            let found = sum_up(looks.into_iter());
            assert!(matches!(found, Err(ProbeOutcome::Foreign(_))));
        }
    }

    #[test]
    fn a_server_that_fails_every_audited_request_does_not_serve() {
        let reply = |status, body: &str| {
            let body = body.as_bytes().to_vec().into();
            Ok(Reply::new(status, String::new(), body))
        };
        let failing = UpstreamError::Undecided {
            path: "auth/token/lookup-self".into(),
            status: 500,
            errors: vec!["audit".into()],
        };
        assert!(matches!(
            serving(Err(failing)),
            Err(UpstreamError::Unavailable(Unavailable::Status {
                status: 500,
                ..
            }))
        ));
        let denied = r#"{"errors":["permission denied"]}"#;
        assert!(matches!(serving(reply(403, denied)), Ok(Serving::Refused)));
        let shown = r#"{"request_id":"r","lease_id":"","renewable":false,"lease_duration":0,"data":{},"wrap_info":null,
            "warnings":null,"auth":null}"#;
        assert!(matches!(serving(reply(200, shown)), Ok(Serving::Proven)));
        // What something else put in the primary's place shows neither.
        for (status, page) in [(403, "<html>"), (200, "<html>"), (200, "{}")] {
            let serving = serving(reply(status, page));
            assert!(matches!(serving, Ok(Serving::Unproven)), "{status} {page}");
        }
        let slowed = Err(UpstreamError::SlowDown { after: None });
        assert!(matches!(serving(slowed), Ok(Serving::Slowed)));
    }
}
