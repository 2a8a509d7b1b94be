//! The token that a request is forwarded with: its own, a standing one, or what stands behind a replica token; and what
//! the client sees of it afterwards. Replica tokens themselves end here.

use bytes::Bytes;
use http::{HeaderMap, Response, StatusCode};
use replica::view::LiveGrant;
use shared::{
    api::{Call, Kind},
    change::CredentialName,
    grant::Settled,
    name::{LeaseId, TokenDigest, WorkloadName},
    provenance::TokenUsed,
    secret::SecretText,
};

use super::{
    ask::{Ask, Class},
    body::RelayBody,
    headers,
    replica::Replica,
    replica_token, respond,
};

/// The token that a request is forwarded with.
pub(crate) enum ForwardToken {
    /// As the client sent it, or none.
    AsSent,
    /// None, whatever the client sent: what it sent is a replica token, and the call asks for none.
    Withheld,
    /// The workload's standing token, which the client never sees.
    Standing(SecretText),
    /// The primary token behind an exchanged replica token: the client sees its own string in its place.
    Exchanged {
        /// The primary's.
        token: SecretText,
        /// The client's.
        shown: SecretText,
    },
}

impl ForwardToken {
    /// Puts the token in.
    pub(crate) fn apply(&self, headers: &mut HeaderMap) {
        match self {
            Self::AsSent => {}
            Self::Withheld => headers::remove_token(headers),
            Self::Standing(token) | Self::Exchanged { token, .. } => {
                headers::set_token(headers, token);
            }
        }
    }

    /// Whose token goes with the request.
    pub(crate) fn used(&self, ask: &Ask) -> TokenUsed {
        match self {
            Self::AsSent if headers::logs_in_inline(&ask.headers) => TokenUsed::None,
            Self::AsSent if ask.token.is_some() => TokenUsed::Callers,
            Self::AsSent | Self::Withheld => TokenUsed::None,
            Self::Exchanged { .. } => TokenUsed::Callers,
            Self::Standing(_) => TokenUsed::Standing,
        }
    }

    /// Whether answers must be looked through before a client sees them.
    pub(crate) fn is_hidden(&self) -> bool {
        matches!(self, Self::Standing(_) | Self::Exchanged { .. })
    }

    /// The answer with what the client may see in the token's place; `None` where it does not occur.
    pub(crate) fn hide(&self, body: &[u8]) -> Option<Bytes> {
        match self {
            Self::AsSent | Self::Withheld => None,
            Self::Standing(token) => replica_token::replaced(body, token.expose(), ""),
            Self::Exchanged { token, shown } => {
                replica_token::replaced(body, token.expose(), shown.expose())
            }
        }
    }
}

/// What to do with a request, by what it brings.
pub(crate) enum Route {
    /// Send it on.
    Forward(ForwardToken),
    /// It is the replica's to answer.
    Local,
    /// It comes with a grant that an outage left, and is routed once that is judged.
    Unsettled(TokenDigest),
    /// It goes nowhere.
    Refused(Response<RelayBody>),
}

impl Route {
    /// Looks for replica tokens wherever one may stand, then for a standing token.
    ///
    /// This comes before anything else that is decided of a request, because no replica token may leave the host,
    /// whatever the request turns out to be.
    pub(crate) fn of(ask: &Ask, replica: &dyn Replica) -> Self {
        if replica_token::in_target(ask.target.as_str()) {
            return misplaced("in the URL");
        }
        let in_header = headers::token_texts(&ask.headers)
            .find_map(|text| replica_token::in_header(&text).map(str::to_owned))
            .map(SecretText::new);
        match (&ask.call, in_header) {
            (Ok(call), Some(shown)) => with_replica_token(ask, call, shown, replica),
            (Err(error), Some(_)) => Route::Refused(respond::call_error(*error, None)),
            (Ok(call), None) => token_in_body(ask, call)
                .or_else(|| ended_here(ask, call, replica))
                .or_else(|| names_replica_grant(ask, call, replica).then_some(Self::Local))
                .or_else(|| of_revoked_lease(ask, call, replica))
                .or_else(|| not_presented(ask, call, replica))
                .unwrap_or_else(|| Self::Forward(standing(ask, replica))),
            // What is no call here may be one to the primary.
            (Err(_), None) if is_ended_here(ask, replica) => {
                refused(StatusCode::FORBIDDEN, "permission denied")
            }
            (Err(_), None) => Route::Forward(ForwardToken::AsSent),
        }
    }
}

/// A request with a replica token in a header.
fn with_replica_token(ask: &Ask, call: &Call, shown: SecretText, replica: &dyn Replica) -> Route {
    if call.kind.needs_no_token() {
        return Route::Forward(ForwardToken::Withheld);
    }
    let counts = ask
        .token
        .as_ref()
        .filter(|(sent, _)| sent.expose() == shown.expose());
    let Some((_, digest)) = counts else {
        return misplaced("in a header that is not looked at");
    };
    if let Some(elsewhere) = token_in_body(ask, call) {
        return elsewhere;
    }
    let live = replica.grant(digest).filter(|live| {
        let ended = live.revoked.get().is_some() || live.grant.deadline.passed(replica.now());
        !ended && !replica.hangs_on_dead(&live.grant)
    });
    if live.as_ref().is_some_and(|live| is_foreign(live, ask)) {
        return refused(StatusCode::FORBIDDEN, "permission denied");
    }
    let settled = live
        .as_ref()
        .and_then(|live| live.grant.replica())
        .map(|issued| &issued.settled);
    match (settled, &live) {
        (Some(Settled::Not), Some(live)) if replica.is_left_over(&live.grant) => {
            Route::Unsettled(*digest)
        }
        (None | Some(Settled::Not), _) => Route::Local,
        (Some(Settled::Exchanged(_)), _) if names_replica_grant(ask, call, replica) => Route::Local,
        (Some(Settled::Exchanged(_)), Some(live)) if replica.has_outlived(&live.grant) => {
            refused(StatusCode::FORBIDDEN, "permission denied")
        }
        (Some(Settled::Exchanged(_)), _) => exchanged(ask, call, digest, shown, replica),
        (Some(Settled::Draining), _) => draining(ask, call),
    }
}

/// Whether a replica token was given to another peer than this one. It is bound to its own in every state: what stands behind
/// it at the primary is no more anybody else's than it was in the outage.
fn is_foreign(live: &LiveGrant, ask: &Ask) -> bool {
    let owner = live.grant.peer.as_ref();
    owner.is_some_and(|owner| !ask.peer.is(owner))
}

/// What was acknowledged as revoked here is refused here from that moment on, with what hangs on it, whatever the primary
/// knows of it yet.
fn ended_here(ask: &Ask, call: &Call, replica: &dyn Replica) -> Option<Route> {
    let refused = !call.kind.needs_no_token() && is_ended_here(ask, replica);
    refused.then_some(Route::Local)
}

fn is_ended_here(ask: &Ask, replica: &dyn Replica) -> bool {
    let token = ask.token.as_ref();
    token.is_some_and(|(_, digest)| replica.was_ended_here(digest))
}

/// A lease likewise: to whoever asks about it, or for more of it, it is gone. To revoke it is the primary's own to answer.
fn of_revoked_lease(ask: &Ask, call: &Call, replica: &dyn Replica) -> Option<Route> {
    let (below, gone) = match call.kind {
        Kind::LeaseLookup => ("", "invalid lease"),
        Kind::LeaseRenew => ("sys/leases/renew/", "lease not found"),
        _ => return None,
    };
    let in_path = call.path.as_str().strip_prefix(below);
    let named = match in_path.filter(|_| !below.is_empty()) {
        Some(id) => id.to_owned(),
        None => named_lease(ask.whole_body()?)?,
    };
    let lease = LeaseId::parse(&named).ok()?;
    let revoked = replica.is_lease_revoked_here(&lease);
    revoked.then(|| refused(StatusCode::BAD_REQUEST, gone))
}

/// Whether the call is about a token by its accessor, and that is one of the replica's: the primary knows none of these.
fn names_replica_grant(ask: &Ask, call: &Call, replica: &dyn Replica) -> bool {
    #[derive(serde::Deserialize)]
    struct AccessorNamed {
        accessor: String,
    }
    let by_accessor = match call.kind {
        Kind::TokenLookupAccessor | Kind::CapabilitiesAccessor => true,
        Kind::TokenRenew | Kind::TokenRevoke => call.path.as_str().ends_with("-accessor"),
        _ => false,
    };
    let named = ask.whole_body().filter(|_| by_accessor);
    let named = named.and_then(|body| serde_json::from_slice::<AccessorNamed>(body).ok());
    named.is_some_and(|named| replica.is_of_replica(&named.accessor))
}

fn named_lease(body: &[u8]) -> Option<String> {
    #[derive(serde::Deserialize)]
    struct LeaseNamed {
        lease_id: String,
    }
    let named = serde_json::from_slice::<LeaseNamed>(body).ok()?;
    Some(named.lease_id)
}

fn exchanged(
    ask: &Ask,
    call: &Call,
    digest: &TokenDigest,
    shown: SecretText,
    replica: &dyn Replica,
) -> Route {
    let name = CredentialName::Exchanged(*digest);
    match replica.credential(&name) {
        None => draining(ask, call),
        Some(_) if call.kind == Kind::TokenRenewSelf => {
            refused(StatusCode::BAD_REQUEST, "lease is not renewable")
        }
        Some(_) if headers::asks_for_wrapping(&ask.headers) => refused(
            StatusCode::BAD_REQUEST,
            "a token issued in an outage cannot ask for wrapping: log in again",
        ),
        Some(token) => Route::Forward(ForwardToken::Exchanged { token, shown }),
    }
}

/// After offboarding no standing token is presented. To whom it would have been that is told as such: the primary's word on
/// a request without a token would be taken for a word on the workload.
fn not_presented(ask: &Ask, call: &Call, replica: &dyn Replica) -> Option<Route> {
    let since = replica.offboarded().filter(|_| ask.standing.is_some())?;
    if !call.asks_for_token(|| replica.mount_kind(call.path.as_str())) {
        return Some(Route::Forward(ForwardToken::AsSent));
    }
    let text = format!(
        "the primary refuses Holdover's own credential since {}: no token is presented for this workload; bring one",
        since.at
    );
    Some(refused(StatusCode::SERVICE_UNAVAILABLE, &text))
}

/// The workload whose standing token would be presented, where the primary answers nobody without one, as far as is known.
pub(crate) fn presents(ask: &Ask, replica: &dyn Replica) -> Option<WorkloadName> {
    let (workload, call) = (ask.standing.as_ref()?, ask.call.as_ref().ok()?);
    let is_open = || {
        let mount = replica.mount_kind(call.path.as_str());
        mount.is_some() && !call.asks_for_token(|| mount)
    };
    (replica.offboarded().is_none() && !is_open()).then(|| workload.clone())
}

fn standing(ask: &Ask, replica: &dyn Replica) -> ForwardToken {
    let name = ask.standing.clone().map(CredentialName::Standing);
    let held = name.and_then(|name| replica.credential(&name));
    held.map_or(ForwardToken::AsSent, ForwardToken::Standing)
}

/// Good for mirrored reads, and what clients do around them, until it ends. What exactly is the replica's to say.
pub(crate) fn draining(ask: &Ask, call: &Call) -> Route {
    if may_drain(ask, call) {
        return Route::Local;
    }
    refused(
        StatusCode::FORBIDDEN,
        "this token was issued in an outage that is over and serves mirrored reads alone: log in again",
    )
}

/// Whether a draining token may be good for it.
pub(crate) fn may_drain(ask: &Ask, call: &Call) -> bool {
    is_read(ask, call) || call.kind.is_around_reads()
}

/// Whether it may be a read of something that is mirrored.
pub(crate) fn is_read(ask: &Ask, call: &Call) -> bool {
    call.kind == Kind::Data && ask.class() == Class::Read
}

/// A replica token in the token field of a body: the replica answers where that is all that the call is about.
fn token_in_body(ask: &Ask, call: &Call) -> Option<Route> {
    let kind = ask.inner_kind(call);
    let local = match kind {
        Kind::Capabilities
        | Kind::CapabilitiesSelf
        | Kind::TokenLookup
        | Kind::TokenLookupSelf
        | Kind::TokenRenew
        | Kind::TokenRenewSelf
        | Kind::TokenRevoke
        | Kind::TokenRevokeSelf => call.kind == kind,
        Kind::TokenCreate | Kind::Wrapping => false,
        _ => return None,
    };
    replica_token::in_body(&kind, ask.is_form(), ask.whole_body()?)?;
    Some(if local {
        Route::Local
    } else {
        misplaced("in this body")
    })
}

fn misplaced(place: &str) -> Route {
    let text = format!("a replica token has no place {place}");
    refused(StatusCode::BAD_REQUEST, &text)
}

fn refused(status: StatusCode, text: &str) -> Route {
    Route::Refused(respond::error(status, text))
}
