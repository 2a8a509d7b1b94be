//! `auth/holdover/login` while the primary is authoritative: a token minted there for the attested peer.

use std::sync::Arc;

use http::{Response, StatusCode};
use serde_json::{Map, Value};
use shared::{
    acl::Operation,
    kv::Content,
    name::WorkloadName,
    secret::SecretBytes,
    settings::Settings,
    share::Sharer,
    wire::Errors,
    workload::{Peer, PeerId},
};

use super::{
    Server,
    ask::Ask,
    body::RelayBody,
    custody::{Asker, Custody, carry_out},
    headers,
    issue::Tried,
    observer::{NotBound, own_evidence},
    respond,
};
use crate::{
    link::room::BodyRoom,
    local::Pending,
    upstream::{Decision, UpstreamError, workload::MintError},
};

/// Mints tokens at the primary, through the token role of a workload and with Holdover's own token.
pub trait Minter: Send + Sync {
    /// Waits for Holdover's own token, as long as one is tried for.
    fn ready(&self) -> Pending<'_, Result<(), UpstreamError>>;

    /// Waits until the workload has a standing token, or a first attempt at one has come to something else.
    fn first_standing<'a>(&'a self, workload: &'a WorkloadName) -> Pending<'a, ()>;

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

/// A minted token that nobody has yet.
struct InCustody {
    minted: MintedLogin,
    custody: Option<Custody>,
}

impl MintedLogin {
    /// It as an answer: status and body.
    fn answer(&self) -> (u16, &[u8]) {
        (200, self.body.expose())
    }
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
    pub(crate) async fn attested_login(&self, ask: &mut Ask) -> Tried {
        let identity = match self.identity(ask) {
            Ok(identity) => identity,
            Err(refused) => return Tried::Answered(*refused),
        };
        let mut minted = self.mint(ask, &identity).await;
        if let Ok(Err(error)) = &minted
            && error.is_of_own_token()
            && let Some(undone) = error.undone()
        {
            // Another token is on its way, or was when this one was sent.
            ask.once.undone(undone);
            minted = self.mint(ask, &identity).await;
        }
        let minted = match minted {
            Ok(Ok(minted)) => minted,
            Ok(Err(error)) => return self.not_minted(ask, &identity, error).await,
            Err(tried) => return tried,
        };
        let answer = self.hand_out(ask, &identity, minted).await;
        ask.once.told();
        Tried::Answered(answer)
    }

    /// A token for the peer, asked for once Holdover has one of its own.
    ///
    /// # Errors
    /// What it comes to where it was not sent, or nobody knows what came of it.
    async fn mint(
        &self,
        ask: &mut Ask,
        identity: &PeerId,
    ) -> Result<Result<InCustody, MintError>, Tried> {
        if let Err(error) = self.minter.ready().await {
            return Ok(Err(MintError::Upstream(error)));
        }
        let workload = Sharer::Workload(identity.workload.clone());
        let passage = self.passage(ask, workload).map_err(Tried::unsendable)?;
        let minting = self.minting(ask, identity, passage.place);
        let minted = carry_out(&self.unattended, passage.right, minting).await;
        minted.map_err(|_| Tried::Unknown(None))
    }

    /// As whom the peer logs in.
    fn identity(&self, ask: &Ask) -> Result<PeerId, Box<Response<RelayBody>>> {
        let operation = ask.call.as_ref().map(|call| call.operation);
        if operation != Ok(Operation::Update) {
            return Err(unsupported().into());
        }
        // In an outage it is not answered either.
        if !ask.namespace.is(&self.replica.settings().namespace) {
            let text = "auth/holdover/login is in the configured namespace; name no other";
            return Err(respond::error(StatusCode::BAD_REQUEST, text).into());
        }
        if headers::asks_for_wrapping(&ask.headers) {
            let text = "auth/holdover/login gives no wrapped answers: leave out X-Vault-Wrap-TTL";
            return Err(respond::error(StatusCode::BAD_REQUEST, text).into());
        }
        let body = ask.whole_body().map(|body| &body[..]).unwrap_or_default();
        role(body, &ask.peer, &self.replica.settings())
            .map_err(|error| respond::error(error.status(), &error.to_string()).into())
    }

    /// A token on its way, in custody from when it is there.
    fn minting(
        &self,
        ask: &Ask,
        identity: &PeerId,
        place: BodyRoom,
    ) -> Pending<'static, Result<InCustody, MintError>> {
        let (minter, replica) = (Arc::clone(&self.minter), Arc::clone(&self.replica));
        let (asked, identity) = (ask.again(), identity.clone());
        Box::pin(async move {
            let minted = minter.mint(&identity.workload, &identity).await;
            drop(place);
            let minted = minted?;
            let evidence = own_evidence(&asked, minted.answer(), replica.as_ref());
            let custody =
                evidence.and_then(|evidence| Custody::of(&evidence, &asked, Arc::clone(&replica)));
            Ok(InCustody { minted, custody })
        })
    }

    /// What follows from a mint that brought nothing, or nothing that is known.
    async fn not_minted(&self, ask: &mut Ask, identity: &PeerId, error: MintError) -> Tried {
        // Without a token nothing was sent, and who is in charge may not be decided yet.
        let is_undecided = self.driver.snapshot().side().is_none();
        if let MintError::Upstream(error @ UpstreamError::NoCredential) = &error
            && is_undecided
        {
            return Tried::failed(error.undone(), None);
        }
        if let MintError::Upstream(error) = &error
            && error.is_of_the_way()
        {
            tracing::info!(%error, "a login could not be minted at the primary");
            return Tried::failed(error.undone(), None);
        }
        // Only what the primary says of the workload's role is comparable with what the replica would say.
        if let MintError::Upstream(UpstreamError::Decision(decision)) = &error {
            self.compare_refusal(ask, decision, identity).await;
        }
        match error.undone() {
            Some(undone) => {
                ask.once.undone(undone);
                Tried::Answered(refused(&error))
            }
            None => Tried::Unknown(Some(unheard(&error))),
        }
    }

    /// The grant is committed before its token leaves.
    async fn hand_out(
        &self,
        ask: &Ask,
        identity: &PeerId,
        InCustody { minted, custody }: InCustody,
    ) -> Response<RelayBody> {
        let bound = self.observer.observe_own(ask, minted.answer(), identity);
        if let Err(error) = bound.await {
            tracing::error!(%error, "a login was withheld: its token is not bound to its process");
            if custody.is_none() {
                // By nothing in its answer it could be revoked.
                let note = Asker::of(ask).note("unknown");
                self.replica.note_unclaimed(note);
            }
            let text = match error {
                NotBound::Store(error) => format!("this login cannot be made durable now: {error}"),
                NotBound::Unlearned => {
                    "the primary's token cannot be bound to this process".to_owned()
                }
            };
            return respond::error(StatusCode::SERVICE_UNAVAILABLE, &text);
        }
        let mut answer = minted_answer(&minted);
        if let Some(custody) = custody {
            answer.extensions_mut().insert(custody);
        }
        answer
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

/// The primary said something, and not whether there is a token.
fn unheard(error: &MintError) -> Response<RelayBody> {
    tracing::warn!(%error, "whether a token was minted for a login is unknown");
    let text = format!("whether this login was carried out is unknown: {error}");
    respond::error(StatusCode::GATEWAY_TIMEOUT, &text)
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
