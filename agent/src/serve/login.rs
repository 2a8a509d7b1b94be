//! `auth/holdover/login` while the primary is authoritative: a token minted there for the attested peer.

use http::{Response, StatusCode};
use serde_json::{Map, Value};
use shared::{
    acl::Operation,
    api::Call,
    kv::Content,
    name::WorkloadName,
    secret::SecretBytes,
    settings::Settings,
    wire::Errors,
    workload::{Peer, PeerId},
};

use super::{
    Server, ask::Ask, body::RelayBody, decide::Outcome, follow::Tried, headers, observer::NotBound,
    respond,
};
use crate::{
    local::Pending,
    upstream::{Decision, UpstreamError, workload::MintError},
};

/// Mints tokens at the primary, through the token role of a workload and with Holdover's own token.
pub trait Minter: Send + Sync {
    /// A new token for this workload. Nothing of it is stored yet.
    fn mint<'a>(
        &'a self,
        workload: &'a WorkloadName,
        peer: &'a PeerId,
    ) -> Pending<'a, Result<MintedLogin, MintError>>;
}

/// A minted token.
pub struct MintedLogin {
    /// The primary's answer: an envelope with an `auth` block.
    pub body: SecretBytes,
}

/// Why a peer may not log in as what it asked for.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub(crate) enum RoleError {
    /// The body is no JSON object with a string.
    #[error("role must be the name of a workload")]
    Body,
    /// Nothing was asked for, and several entries match.
    #[error("several workloads match this process: name one as role")]
    Ambiguous,
    /// There is no such entry.
    #[error("unknown role")]
    Unknown,
    /// No entry, or not that one, matches the peer.
    #[error("permission denied")]
    Unlisted,
}

impl RoleError {
    fn status(&self) -> StatusCode {
        match self {
            Self::Body | Self::Ambiguous | Self::Unknown => StatusCode::BAD_REQUEST,
            Self::Unlisted => StatusCode::FORBIDDEN,
        }
    }
}

impl Server {
    /// Mints for the peer, and answers once the new grant is durable.
    pub(crate) async fn attested_login(&self, ask: &Ask, call: &Call) -> Tried {
        if call.operation != Operation::Update {
            return Tried::Answered(unsupported());
        }
        // In an outage it is not answered either.
        if !ask.namespace.is(&self.replica.settings().namespace) {
            return Tried::Answered(respond::error(
                StatusCode::BAD_REQUEST,
                "auth/holdover/login is in the configured namespace; name no other",
            ));
        }
        if headers::asks_for_wrapping(&ask.headers) {
            return Tried::Answered(respond::error(
                StatusCode::BAD_REQUEST,
                "auth/holdover/login gives no wrapped answers: leave out X-Vault-Wrap-TTL",
            ));
        }
        let body = ask.whole_body().map(|body| &body[..]).unwrap_or_default();
        let identity = match role(body, &ask.peer, &self.replica.settings()) {
            Ok(identity) => identity,
            Err(error) => {
                return Tried::Answered(respond::error(error.status(), &error.to_string()));
            }
        };
        match self.minter.mint(&identity.workload, &identity).await {
            Ok(minted) => Tried::Answered(self.hand_out(ask, &identity, minted).await),
            Err(MintError::Upstream(error)) if error.is_of_the_way() => {
                tracing::info!(%error, "a login could not be minted at the primary");
                Tried::failed(Outcome::Unknown)
            }
            Err(error) => {
                // Only what the primary says of the workload's role is comparable with what the replica would say.
                if let MintError::Upstream(UpstreamError::Decision(decision)) = &error {
                    self.compare_refusal(ask, decision, &identity).await;
                }
                Tried::Answered(refused(&error))
            }
        }
    }

    /// The grant is committed before its token leaves.
    async fn hand_out(
        &self,
        ask: &Ask,
        identity: &PeerId,
        minted: MintedLogin,
    ) -> Response<RelayBody> {
        let answer = (200, &minted.body.expose()[..]);
        if let Err(error) = self.observer.observe_own(ask, answer, identity).await {
            tracing::error!(%error, "a login was withheld: its token is not bound to its process");
            let text = match error {
                NotBound::Store(_) => "the replica cannot make this login durable now",
                NotBound::Unlearned => "the primary's token cannot be bound to this process",
            };
            return respond::error(StatusCode::SERVICE_UNAVAILABLE, text);
        }
        minted_answer(&minted)
    }

    async fn compare_refusal(&self, ask: &Ask, decision: &Decision, identity: &PeerId) {
        let errors = decision.errors().to_vec();
        let said = serde_json::to_vec(&Errors { errors }).unwrap_or_default();
        let answer = (decision.status_to_pass_on(), &said[..]);
        // A refusal teaches nothing that would have to be stored.
        let _ = self.observer.observe_own(ask, answer, identity).await;
    }
}

/// Which of its workloads a peer logs in as.
fn role(body: &[u8], peer: &Peer, settings: &Settings) -> Result<PeerId, RoleError> {
    let body: Option<Map<String, Value>> = if body.is_empty() {
        None
    } else {
        serde_json::from_slice(body).map_err(|_| RoleError::Body)?
    };
    let role = match body.as_ref().and_then(|body| body.get("role")) {
        None | Some(Value::Null) => None,
        Some(Value::String(role)) => Some(role),
        Some(_) => return Err(RoleError::Body),
    };
    let name = match role {
        None => match peer.workloads.as_slice() {
            [] => return Err(RoleError::Unlisted),
            [only] => only.clone(),
            _ => return Err(RoleError::Ambiguous),
        },
        Some(_) if peer.workloads.is_empty() => return Err(RoleError::Unlisted),
        Some(role) => WorkloadName::parse(role).map_err(|_| RoleError::Unknown)?,
    };
    if settings.workload(&name).is_none() {
        return Err(RoleError::Unknown);
    }
    peer.identity(&name).ok_or(RoleError::Unlisted)
}

/// Why there is no token. What is wrong with Holdover's own credential is 503: clients throw theirs away after a 403.
fn refused(error: &MintError) -> Response<RelayBody> {
    let status = match error {
        MintError::UnknownWorkload => StatusCode::BAD_REQUEST,
        MintError::Upstream(UpstreamError::Decision(decision)) => {
            StatusCode::from_u16(decision.status_to_pass_on())
                .unwrap_or(StatusCode::SERVICE_UNAVAILABLE)
        }
        MintError::Upstream(UpstreamError::SlowDown { .. }) => StatusCode::TOO_MANY_REQUESTS,
        MintError::NotExact(_) | MintError::OwnCredentialRefused(_) | MintError::Upstream(_) => {
            StatusCode::SERVICE_UNAVAILABLE
        }
    };
    tracing::warn!(%error, "no token was minted for a login");
    respond::error(status, &format!("no token was minted: {error}"))
}

fn unsupported() -> Response<RelayBody> {
    let text = Errors::multi("unsupported operation");
    let text = text.errors.first().map_or("", String::as_str);
    respond::error(StatusCode::METHOD_NOT_ALLOWED, text)
}

fn minted_answer(minted: &MintedLogin) -> Response<RelayBody> {
    let body = zeroize::Zeroizing::new(minted.body.expose().clone());
    let mut answer = Response::new(RelayBody::secret(body));
    let json = Content {
        kind: Some("application/json".into()),
        ..Content::default()
    };
    *answer.headers_mut() = headers::of_replica(None, None, &json);
    headers::from_primary(answer.headers_mut());
    answer
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples;

    fn judged(body: &str, names: &[&str]) -> Result<String, RoleError> {
        let settings = samples::settings(&[]);
        role(body.as_bytes(), &samples::peer(names), &settings)
            .map(|id| id.workload.as_str().to_owned())
    }

    #[test]
    fn a_peer_logs_in_as_an_entry_that_matches_it() {
        assert_eq!(
            judged(r#"{"role":"orders"}"#, &["orders"]).unwrap(),
            "orders"
        );
        assert_eq!(judged("", &["orders"]).unwrap(), "orders");
        assert_eq!(judged("{}", &["orders"]).unwrap(), "orders");
        assert_eq!(judged("null", &["orders"]).unwrap(), "orders");
        let both = ["orders", "billing"];
        assert_eq!(judged(r#"{"role":"billing"}"#, &both).unwrap(), "billing");
        assert_eq!(judged("{}", &both), Err(RoleError::Ambiguous));
    }

    #[test]
    fn others_are_refused_by_what_is_wrong() {
        assert_eq!(
            judged(r#"{"role":"orders"}"#, &[]),
            Err(RoleError::Unlisted)
        );
        assert_eq!(judged("", &[]), Err(RoleError::Unlisted));
        assert_eq!(
            judged(r#"{"role":"nobody"}"#, &["orders"]),
            Err(RoleError::Unknown)
        );
        assert_eq!(
            judged(r#"{"role":"billing"}"#, &["orders"]),
            Err(RoleError::Unlisted)
        );
        assert_eq!(judged(r#"{"role":7}"#, &["orders"]), Err(RoleError::Body));
        assert_eq!(judged("[]", &["orders"]), Err(RoleError::Body));
    }
}
