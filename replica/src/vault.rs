//! The local vault: `answer(view, query, entropy)` decides as the primary would have, or says that it cannot.
//!
//! Pure: it reads the view, and what it wants remembered it returns as changes. An answer without changes is
//! sent at once; one with changes is withheld until they are durable. It never grants more than the primary would:
//! what it does not model is 503, and every reason has a text of its own.

use shared::name::WorkloadName;
use shared::{
    acl::Operation,
    api::{Call, Kind, RequestNamespace},
    approle::Attempt,
    change::{Change, Expects},
    time::Now,
    wire::Response,
    workload::Peer,
};

use crate::{entropy::Entropy, ledger::Note, view::View};

use caller::Caller;
use case::Case;
use refusal::{Answered, Forbidden, Refusal, Why};

mod approle;
mod caller;
mod capabilities;
mod case;
mod create;
mod entry;
mod envelope;
mod fields;
pub mod foresee;
mod issue;
pub mod judge;
mod lease;
mod login;
mod malformed;
mod mounts;
mod parameter;
mod refusal;
mod renew;
mod revoke;
mod secret;
mod system;
mod token;
pub mod writer;

/// A request as the vault sees it.
pub struct Query<'a> {
    /// What is asked.
    pub call: &'a Call,
    /// The token that came with it.
    pub presented: Presented<'a>,
    /// The namespace that it is in.
    pub namespace: &'a RequestNamespace,
    /// Whether headers ask for what is not modelled: wrapping, inline auth, MFA. Names the first such header;
    /// `content-type` if the body is a form.
    pub unmodelled: Option<&'a str>,
    /// The body.
    pub body: &'a [u8],
    /// The attested peer; none on the TCP listener.
    pub peer: Option<&'a Peer>,
    /// The present.
    pub now: Now,
}

/// What a request brings to prove who it is.
#[derive(Clone, Copy)]
pub enum Presented<'a> {
    /// Nothing.
    Nothing,
    /// The standing token of its workload (`auto_token`).
    Standing(&'a WorkloadName),
    /// A token.
    Token(&'a str),
}

/// An answer, what it changes, and what it relies on.
pub struct Answer {
    /// What to send, once `changes` are durable.
    pub response: Response,
    /// What to remember.
    pub changes: Vec<Change>,
    /// What must still hold then.
    pub expects: Expects,
    /// What the ledger counts.
    pub note: Option<Note>,
    /// What it tells of whoever tries to log in; to be noted once it is sent.
    pub attempt: Option<Attempt>,
}

/// Decides `query`.
pub fn answer(view: &View, query: &Query<'_>, entropy: &dyn Entropy) -> Answer {
    let authority = view.authority();
    let case = Case {
        view,
        authority: &authority,
        query,
        entropy,
    };
    let decided = decide(&case);
    let attempt = approle::attempt(&case, &decided);
    Answer {
        attempt,
        ..Answer::of(&case, decided)
    }
}

/// What `query` is refused with whatever its body is: by its path, its namespace, or its token. None if it depends on the
/// body, which is not looked at.
pub fn refuse_unread(view: &View, query: &Query<'_>, entropy: &dyn Entropy) -> Option<Answer> {
    let authority = view.authority();
    let case = Case {
        view,
        authority: &authority,
        query,
        entropy,
    };
    let refusal = caller(&case).err()?;
    Some(Answer::of(&case, Err(refusal)))
}

/// In the order of the primary's own checks: what needs no token, the namespace, the token, what is modelled, the access
/// control.
fn decide(case: &Case<'_>) -> Answered {
    let Some(caller) = caller(case)? else {
        return decide_for_anybody(case);
    };
    case.modelled()?;
    if caller.bearer.drains() && !drains_into(case, &caller) {
        return Err(Forbidden::Draining.into());
    }
    serve(case, &caller)
}

/// Who asks; none where that is not what it goes by. Looks at no body.
fn caller(case: &Case<'_>) -> Answered<Option<Caller>> {
    let call = case.query.call;
    let writes = matches!(call.operation, Operation::Update | Operation::Patch);
    if writes && call.path.as_str().ends_with('/') {
        return Err(Refusal::Invalid(
            "cannot write to a path ending in '/'".into(),
        ));
    }
    system::exists_here(case)?;
    match call.kind {
        Kind::AttestedLogin | Kind::Login => return Ok(None),
        // What these do with a token, or without one, only the primary knows.
        Kind::Wrapping => return Err(Why::NotServed.into()),
        _ if call.kind.is_server_status() => return Ok(None),
        _ => {}
    }
    case.in_namespace()?;
    if secret::is_open(case) {
        case.modelled()?;
        return Ok(None);
    }
    if let Presented::Nothing | Presented::Token("") = case.query.presented {
        case.modelled()?;
        if call.kind == Kind::Mounts(None) {
            return Ok(None);
        }
    }
    Caller::of(case).map(Some)
}

/// What anybody is answered, whatever token comes with it.
fn decide_for_anybody(case: &Case<'_>) -> Answered {
    match case.query.call.kind {
        Kind::AttestedLogin => login::answer(case),
        Kind::Login => approle::answer(case),
        Kind::Mounts(None) => mounts::public(case),
        _ if case.query.call.kind.is_server_status() => system::answer(case),
        _ => secret::answer_open(case),
    }
}

/// What a draining token is good for: mirrored reads, and what clients do around them.
fn drains_into(case: &Case<'_>, caller: &Caller) -> bool {
    match case.query.call.kind {
        Kind::Data => secret::is_mirrored(case, caller),
        Kind::LeaseLookup | Kind::LeaseRenew => lease::is_own(case, caller),
        _ => case.query.call.kind.is_around_reads(),
    }
}

fn serve(case: &Case<'_>, caller: &Caller) -> Answered {
    let call = case.query.call;
    if parameter::asks_for_help(call) {
        // The primary explains any path to any token.
        return Err(Why::NotServed.into());
    }
    if call.operation == Operation::Header {
        let _ = caller.permit(case, &case.parameters()?)?;
        return Err(Refusal::Method);
    }
    match &call.kind {
        Kind::Capabilities | Kind::CapabilitiesAccessor | Kind::CapabilitiesSelf => {
            capabilities::answer(case, caller)
        }
        Kind::Data => secret::answer(case, caller),
        Kind::LeaseLookup => lease::lookup(case, caller),
        Kind::LeaseRenew => lease::renew(case, caller),
        Kind::LeaseRevoke => lease::revoke(case, caller),
        Kind::Mounts(None) => mounts::all(case, caller),
        Kind::Mounts(Some(path)) => mounts::one(case, caller, path),
        Kind::TokenLookup => token::lookup(case, caller),
        Kind::TokenLookupAccessor => token::lookup_accessor(case, caller),
        Kind::TokenLookupSelf => token::lookup_self(case, caller),
        Kind::TokenCreate => create::answer(case, caller),
        Kind::TokenRenew => renew::other(case, caller),
        Kind::TokenRenewSelf => renew::own(case, caller),
        Kind::TokenRevoke => revoke::other(case, caller),
        Kind::TokenRevokeSelf => revoke::own(case, caller),
        Kind::InternalUi
        | Kind::AttestedLogin
        | Kind::Health
        | Kind::Init
        | Kind::Leader
        | Kind::Login
        | Kind::SealStatus
        | Kind::Wrapping => Err(Why::NotServed.into()),
    }
}

#[cfg(test)]
mod tests;
