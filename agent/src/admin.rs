//! The admin API: what operators and Prometheus ask of a running daemon, on a socket that only its owner may use.
//!
//! It holds nothing of its own: every answer is made from the handles in [`Deps`] when it is asked for.

mod approle;
pub mod client;
pub mod coverage;
pub mod gather;
pub mod grants;
mod ledger;
mod parity;
pub mod policy;
mod quarantines;
pub mod server;

use std::{future::Future, pin::Pin, sync::Arc};

use bytes::Bytes;
use http::{Method, StatusCode};
use serde::{Serialize, de::DeserializeOwned};
use shared::{name::WorkloadName, settings::Settings};
use tokio::sync::watch;

use crate::{
    config::Config,
    coverage::Coverage,
    driver,
    journal::Delivery,
    link::{Addresses, files::TlsFault},
    local::{Local, Pending},
    metrics::{self, Metrics},
    parity::Parity,
    ready::prove::Checks,
    status::{self, Errors, MirrorStatus, RevokeGrants, SyncMirrors, board::Board, fill::Fills},
    upstream::{UpstreamError, own::OwnSnapshot, policy::PolicyRule, rights::MissingRight},
};

/// Where the admin API gets its answers. Cheap to clone.
#[derive(Clone)]
pub struct Deps {
    /// The replica, its writer, the clock.
    pub local: Local,
    /// The machine.
    pub driver: driver::Handle,
    /// The primary's addresses.
    pub addresses: Addresses,
    /// Holdover's own credential.
    pub own: Arc<dyn OwnControl>,
    /// The mirrors.
    pub mirrors: Arc<dyn MirrorControl>,
    /// The configuration in force.
    pub config: watch::Receiver<Arc<Config>>,
    /// What the store and its keys were last seen to be good for.
    pub checks: watch::Receiver<Checks>,
    /// How the ledger's entries get to journald.
    pub delivery: watch::Receiver<Delivery>,
    /// Findings of the moment.
    pub board: Arc<Board>,
    /// What was counted.
    pub metrics: Arc<Metrics>,
    /// What comparing decisions showed.
    pub parity: Parity,
    /// What passed through the socket.
    pub coverage: Arc<Coverage>,
    /// How full everything is.
    pub fills: Fills,
}

/// What the admin API asks of Holdover's own credential at the primary.
pub trait OwnControl: Send + Sync {
    /// How it stands with Holdover's own token.
    fn token(&self) -> OwnSnapshot;

    /// What is wrong with the CA file that the primary is checked against.
    fn untrusted(&self) -> Option<TlsFault>;
    /// What is wrong with its client certificate or the key of it.
    fn unidentified(&self) -> Option<TlsFault>;

    /// The rights that it lacks, by what is known.
    fn missing(&self, settings: &Settings) -> Vec<MissingRight>;

    /// The rules of `config policy` that it is not granted, as the primary says it now.
    fn missing_rules(&self) -> Pending<'_, Result<Vec<PolicyRule>, UpstreamError>>;
}

/// What the admin API asks of the mirror.
pub trait MirrorControl: Send + Sync {
    /// One for each configured mirror, in the configuration's order.
    fn statuses(&self) -> Vec<MirrorStatus>;

    /// Why the last verification of that workload's authority failed, if it did.
    fn failures(&self, workload: &WorkloadName) -> Vec<String>;

    /// What could not be read when it was last asked for, beside mirrored paths.
    fn unread(&self) -> Vec<String>;

    /// Runs a pass of the mirror of that configured path, or of all of them, and waits for its end.
    fn sync<'a>(
        &'a self,
        path: Option<&'a str>,
    ) -> Pin<Box<dyn Future<Output = Result<(), SyncError>> + Send + 'a>>;
}

/// Why a pass did not end well.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum SyncError {
    /// The pass failed; its error's text, without values.
    #[error("the pass failed: {0}")]
    Failed(String),
    /// No mirror of that path is configured.
    #[error("no mirror {0} is configured; holdover mirror list shows them")]
    Unknown(String),
}

/// A request as it is decided, once its body is in.
pub struct AdminRequest {
    /// The method.
    pub method: Method,
    /// The path of its target.
    pub path: String,
    /// The query of its target.
    pub query: Option<String>,
    /// Its body.
    pub body: Bytes,
    /// The user that asks, as the kernel says; none over TCP.
    pub uid: Option<u32>,
}

/// An answer.
#[derive(Debug)]
pub struct AdminReply {
    /// The status.
    pub status: StatusCode,
    /// Of the body.
    pub content_type: &'static str,
    /// The body.
    pub body: String,
}

impl AdminReply {
    fn json(status: StatusCode, body: &impl Serialize) -> Self {
        // Bodies are structs of texts and numbers, which always have a JSON form.
        let body = serde_json::to_string(body).unwrap_or_default();
        Self {
            status,
            content_type: "application/json",
            body,
        }
    }

    fn ok(body: &impl Serialize) -> Self {
        Self::json(StatusCode::OK, body)
    }

    fn error(status: StatusCode, error: impl ToString) -> Self {
        let errors = vec![error.to_string()];
        Self::json(status, &Errors { errors })
    }
}

impl Deps {
    /// Answers one request.
    pub async fn answer(&self, request: &AdminRequest) -> AdminReply {
        let writes = matches!(request.method, Method::POST | Method::PUT);
        match (request.path.as_str(), writes) {
            ("/v1/grants/revoke", true) => self.revoke(request).await,
            ("/v1/mirrors/sync", true) => self.sync(&request.body).await,
            ("/v1/parity/lift", true) => parity::lift(self, request).await,
            ("/v1/grants/revoke" | "/v1/mirrors/sync" | "/v1/parity/lift", false) => {
                not_allowed("POST")
            }
            ("/v1/policy/missing", _) if request.method == Method::GET => {
                policy::missing(self.own.as_ref()).await
            }
            ("/v1/policy/missing", _) => not_allowed("GET"),
            ("/v1/coverage", _) if request.method == Method::GET => coverage::answer(self, request),
            ("/v1/coverage", _) => not_allowed("GET"),
            (
                path @ ("/v1/status" | "/v1/grants" | "/v1/mirrors" | "/v1/parity" | "/metrics"),
                _,
            ) => {
                if request.method == Method::GET {
                    self.show(path)
                } else {
                    not_allowed("GET")
                }
            }
            _ => AdminReply::error(StatusCode::NOT_FOUND, "no such path in the admin API"),
        }
    }

    /// Answers what a metrics listener is asked, which is `/metrics` alone.
    pub fn answer_metrics(&self, request: &AdminRequest) -> AdminReply {
        match (&request.method, request.path.as_str()) {
            (&Method::GET, "/metrics") => self.show("/metrics"),
            (_, "/metrics") => not_allowed("GET"),
            _ => AdminReply::error(StatusCode::NOT_FOUND, "only /metrics is here"),
        }
    }

    fn show(&self, path: &str) -> AdminReply {
        match path {
            "/v1/grants" => AdminReply::ok(&grants::list(&self.local)),
            "/v1/mirrors" => AdminReply::ok(&self.mirrors()),
            "/v1/parity" => AdminReply::ok(&parity::list(self)),
            "/metrics" => AdminReply {
                status: StatusCode::OK,
                content_type: metrics::CONTENT_TYPE,
                body: self.metrics.render(&gather::status(self), &(self.fills)()),
            },
            _ => AdminReply::ok(&gather::status(self)),
        }
    }

    fn mirrors(&self) -> status::MirrorList {
        let mirrors = self.mirrors.statuses();
        status::MirrorList { mirrors }
    }

    async fn revoke(&self, request: &AdminRequest) -> AdminReply {
        let asked = match parse::<RevokeGrants>(&request.body) {
            Ok(asked) => asked,
            Err(reply) => return reply,
        };
        let settings = Arc::clone(&self.local.view.authority().settings);
        let selector = match grants::Selector::parse(asked, &settings) {
            Ok(selector) => selector,
            Err(error) => return AdminReply::error(error.status(), error),
        };
        match grants::revoke(&self.local, &selector, request.uid).await {
            Ok(revoked) => AdminReply::ok(&revoked),
            Err(error) => AdminReply::error(error.status(), error),
        }
    }

    async fn sync(&self, body: &[u8]) -> AdminReply {
        let asked = match parse::<SyncMirrors>(body) {
            Ok(asked) => asked,
            Err(reply) => return reply,
        };
        match self.mirrors.sync(asked.path.as_deref()).await {
            Ok(()) => AdminReply::ok(&self.mirrors()),
            Err(error @ SyncError::Unknown(_)) => AdminReply::error(StatusCode::NOT_FOUND, error),
            Err(error @ SyncError::Failed(_)) => AdminReply::error(StatusCode::BAD_GATEWAY, error),
        }
    }
}

/// Reads a body; an empty one is an empty object.
fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, AdminReply> {
    let body = if body.is_empty() { b"{}" } else { body };
    serde_json::from_slice(body).map_err(|error| {
        AdminReply::error(
            StatusCode::BAD_REQUEST,
            format!("the body is wrong: {error}"),
        )
    })
}

fn not_allowed(method: &str) -> AdminReply {
    let text = format!("this path only takes {method}");
    AdminReply::error(StatusCode::METHOD_NOT_ALLOWED, text)
}

#[cfg(test)]
mod tests;
