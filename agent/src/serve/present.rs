//! What a request proves itself with at the primary: its own token, a standing one, or what stands behind a replica
//! token. Replica tokens themselves end here.

use http::{Response, StatusCode};
use shared::{
    api::{Call, Kind},
    change::CredentialName,
    grant::{RevokeCause, Settled},
    name::TokenDigest,
    secret::SecretText,
};

use super::{
    Server,
    ask::{Ask, Class},
    body::RelayBody,
    credential::Credential,
    headers, replica_token, respond,
};

/// What to do with a request, by what it brings.
pub(crate) enum Presented {
    /// Send it on.
    Forward(Credential),
    /// It is the replica's to answer.
    Local,
    /// It goes nowhere.
    Refused(Response<RelayBody>),
}

impl Server {
    /// Looks for replica tokens wherever one may stand, then for a standing token.
    pub(crate) fn present(&self, ask: &Ask) -> Presented {
        if replica_token::in_target(ask.target.as_str()) {
            return misplaced("in the URL");
        }
        let in_header = headers::token_texts(&ask.headers)
            .find_map(|text| replica_token::in_header(&text).map(str::to_owned))
            .map(SecretText::new);
        match (&ask.call, in_header) {
            (Ok(call), Some(shown)) => self.replica_token(ask, call, shown),
            (Err(error), Some(_)) => Presented::Refused(respond::call_error(*error, None)),
            (Ok(call), None) => token_in_body(ask, call)
                .or_else(|| self.ended_by_operator(ask, call))
                .unwrap_or_else(|| Presented::Forward(self.standing(ask))),
            (Err(_), None) => Presented::Forward(Credential::AsSent),
        }
    }

    /// A request with a replica token in a header.
    fn replica_token(&self, ask: &Ask, call: &Call, shown: SecretText) -> Presented {
        if asks_for_none(call) {
            return Presented::Forward(Credential::Withheld);
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
        let live = self.replica.grant(digest).filter(|live| {
            live.revoked.get().is_none() && !live.grant.deadline.passed(self.replica.now())
        });
        let settled = live
            .as_ref()
            .and_then(|live| live.grant.replica())
            .map(|replica| &replica.settled);
        match settled {
            None => Presented::Local,
            Some(Settled::Exchanged(_)) => self.exchanged(ask, call, digest, shown),
            Some(Settled::Draining | Settled::Not) => draining(ask, call),
        }
    }

    /// What an operator revoked is refused here from that moment on, whatever the primary knows of it yet.
    fn ended_by_operator(&self, ask: &Ask, call: &Call) -> Option<Presented> {
        let (_, digest) = ask.token.as_ref()?;
        let live = self.replica.grant(digest)?;
        let revoked = live.revoked.get()?;
        let refused = revoked.cause == RevokeCause::Operator && !asks_for_none(call);
        refused.then_some(Presented::Local)
    }

    fn exchanged(
        &self,
        ask: &Ask,
        call: &Call,
        digest: &TokenDigest,
        shown: SecretText,
    ) -> Presented {
        let name = CredentialName::Exchanged(*digest);
        match self.replica.credential(&name) {
            None => draining(ask, call),
            Some(_) if call.kind == Kind::TokenRenewSelf => Presented::Refused(respond::error(
                StatusCode::BAD_REQUEST,
                "lease is not renewable",
            )),
            Some(_) if headers::asks_for_wrapping(&ask.headers) => {
                Presented::Refused(respond::error(
                    StatusCode::BAD_REQUEST,
                    "a token issued in an outage cannot ask for wrapping: log in again",
                ))
            }
            Some(token) => Presented::Forward(Credential::Exchanged { token, shown }),
        }
    }

    fn standing(&self, ask: &Ask) -> Credential {
        let held = ask.standing.as_ref().and_then(|workload| {
            self.replica
                .credential(&CredentialName::Standing(workload.clone()))
        });
        match held {
            Some(token) => Credential::Standing(token),
            None => Credential::AsSent,
        }
    }
}

/// Logins and open paths ask for no token, and an old one must not keep anybody from a new one.
fn asks_for_none(call: &Call) -> bool {
    matches!(
        call.kind,
        Kind::AttestedLogin
            | Kind::Health
            | Kind::Init
            | Kind::Leader
            | Kind::Login
            | Kind::SealStatus
    )
}

/// Good for mirrored reads until it ends.
fn draining(ask: &Ask, call: &Call) -> Presented {
    if call.kind == Kind::Data && ask.class() == Class::Read {
        return Presented::Local;
    }
    Presented::Refused(respond::error(
        StatusCode::FORBIDDEN,
        "this token was issued in an outage that is over and serves mirrored reads alone: log in again",
    ))
}

/// A replica token in the token field of a body: the replica answers where that is all that the call is about.
fn token_in_body(ask: &Ask, call: &Call) -> Option<Presented> {
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
        Presented::Local
    } else {
        misplaced("in this body")
    })
}

fn misplaced(place: &str) -> Presented {
    Presented::Refused(respond::error(
        StatusCode::BAD_REQUEST,
        &format!("a replica token has no place {place}"),
    ))
}
