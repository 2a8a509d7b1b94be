//! What the replica refuses with 503 by design: requests that the primary answers, and only it can.

use crate::answer::Answer;
use crate::conversation::{Conversation, Recorded};
use crate::replay::Replayed;

/// Requests, and why they are refused.
struct Refused {
    /// `METHOD TARGET TOKEN BODY`, where `*` stands for anything.
    request: &'static str,
    /// How the error ends, after `primary unavailable since …; `.
    because: &'static str,
}

const fn refused(request: &'static str, because: &'static str) -> Refused {
    Refused { request, because }
}

const NOT_MIRRORED: &str = "path is not mirrored";
const UNKNOWN_TOKEN: &str = "the token is not known to the replica";
const UNKNOWN_LEASE: &str = "the lease is not known to the replica";
const WRITE: &str = "writes are not possible; nothing was applied";

const NO_LOGINS: &str =
    "logins at this mount are not served by the replica; use auth/holdover/login";
const NOT_VERIFIED: &str = "this login cannot be decided: it was not verified before the outage, or its uses are limited, \
     which only the primary can count";
const NOT_SERVED: &str = "operation is not served by the replica";

const REFUSED: &[Refused] = &[
    // Writes: nothing is applied, and none is tried against the access control first.
    refused("P* /v1/secret/*/elsewhere/written {{token.app}} *", WRITE),
    refused(
        "DELETE /v1/secret/*/elsewhere/written {{token.app}} ",
        WRITE,
    ),
    refused("P* /v1/secret/data/desk/one {{token.app}} *", WRITE),
    refused("POST /v1/secret/data/desk {{token.app}} {}", WRITE),
    // What is not mirrored, allowed or not.
    refused("GET /v1/secret/data/elsewhere/written *", NOT_MIRRORED),
    refused("GET /v1/secret/no-such-path *", NOT_MIRRORED),
    refused("GET /v1/secret/data/desk {{token.app}} ", NOT_MIRRORED),
    refused("GET /v1/no-such-mount/x *", NOT_MIRRORED),
    refused("GET /v1/elsewhere/none *", NOT_MIRRORED),
    refused("GET /v1/database/creds/no-such-role *", NOT_MIRRORED),
    refused("GET /v1/sys/mounts *", NOT_MIRRORED),
    refused("GET /v1/sys/auth *", NOT_MIRRORED),
    refused("GET /v1/sys/policy *", NOT_MIRRORED),
    refused("GET /v1/sys/policies/acl*", NOT_MIRRORED),
    refused("GET /v1/auth/token/roles?list=true *", NOT_MIRRORED),
    // Not to know is not to deny.
    refused("* {{token.unknown}} *", UNKNOWN_TOKEN),
    refused(
        "POST /v1/auth/token/lookup {{token.app}} *{{token.unknown}}*",
        UNKNOWN_TOKEN,
    ),
    refused(
        "PUT /v1/sys/leases/* *database/creds/orders/no-such-lease*",
        UNKNOWN_LEASE,
    ),
    refused(
        "P* /v1/auth/approle/login {{token.app}} *\"wrong\"*",
        NOT_VERIFIED,
    ),
    refused(
        "POST /v1/auth/token/create/no-such-role {{token.app}} *",
        "the token role is not mirrored: only those of configured workloads are",
    ),
    // What only the primary can do.
    refused(
        "POST /v1/auth/token/create {{token.app}} *num_uses*2*",
        "nothing can be issued: tokens with a limited number of uses are not issued in an outage",
    ),
    refused(
        "POST /v1/auth/token/create {{token.app}} *\"batch\"*",
        "nothing can be issued: batch tokens are made by the primary alone",
    ),
    refused(
        "GET * {{token.counted}} ",
        "the token has a limited number of uses, which only the primary can count",
    ),
    refused("* /v1/auth/userpass/login/clerk *", NO_LOGINS),
    refused("GET /v1/secret/data/desk/one?help=1 *", NOT_SERVED),
    refused(
        "GET /v1/secret/data/desk/one {{token.app}} x-vault-wrap-ttl",
        "header x-vault-wrap-ttl asks for what the replica does not model",
    ),
    refused(
        "POST /v1/sys/capabilities-self {{token.app}} path=sys%2Fmounts",
        "the request's body is a form, not JSON",
    ),
    refused(
        "POST /v1/sys/capabilities-self {{token.app}} {\"paths\": {\"a\": 1}}",
        "parameter \"paths\" is spelled in a way that the replica does not read",
    ),
];

/// Counts which entries were needed.
pub(crate) struct Refusals {
    used: Vec<usize>,
}

impl Default for Refusals {
    fn default() -> Refusals {
        Refusals {
            used: vec![0; REFUSED.len()],
        }
    }
}

impl Refusals {
    /// Takes the answers out of `replica` that are refused as they should be. Gives the requests that could not be said
    /// though what they send back was not refused.
    pub(crate) fn take_out(&mut self, said: &Conversation, replica: &mut Replayed) -> Vec<String> {
        let mut unsaid = Vec::new();
        for (number, request) in said.requests.iter().enumerate() {
            match &replica.answers[number] {
                Some(answer) => {
                    if let Some(entry) = listed(request, answer) {
                        self.used[entry] += 1;
                        replica.answers[number] = None;
                    }
                }
                None => {
                    let refused = request
                        .sends_back()
                        .is_some_and(|from| replica.answers[from].is_none());
                    if !refused {
                        unsaid.push(format!(
                            "{} {number}: {} could not be said",
                            said.version,
                            line(request)
                        ));
                    }
                }
            }
        }
        unsaid
    }

    /// Entries that nothing needed: what they name is answered now.
    pub(crate) fn unused(&self) -> impl Iterator<Item = String> {
        let entries = REFUSED.iter().zip(&self.used);
        entries
            .filter(|(_, used)| **used == 0)
            .map(|(entry, _)| format!("no longer refused: {} ({})", entry.request, entry.because))
    }
}

/// The entry by which a request is refused.
fn listed(request: &Recorded, answer: &Answer) -> Option<usize> {
    let text: String = serde_json::from_str(answer.leaf("/errors/0")?).ok()?;
    let (unavailable, because) = text.split_once("; ")?;
    let line = line(request);
    REFUSED.iter().position(|refused| {
        answer.status == 503
            && unavailable.starts_with("primary unavailable since ")
            && because == refused.because
            && matches(refused.request, &line)
    })
}

/// A request in one line. One that asks for wrapping says so in the place of its body.
fn line(request: &Recorded) -> String {
    let token = request
        .headers
        .iter()
        .find(|(name, _)| name.eq_ignore_ascii_case("x-vault-token"));
    let token = token.map_or("-", |(_, value)| value.as_str());
    let wraps = request
        .headers
        .iter()
        .any(|(name, _)| name == "x-vault-wrap-ttl");
    let body = match wraps {
        true => "x-vault-wrap-ttl",
        false => &request.body,
    };
    format!("{} {} {token} {body}", request.method, request.target)
}

/// Whether `text` is of the form of `pattern`.
fn matches(pattern: &str, text: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == text,
        Some((start, rest)) => text.strip_prefix(start).is_some_and(|text| {
            let ends = (0..=text.len()).filter(|at| text.is_char_boundary(*at));
            ends.into_iter().any(|at| matches(rest, &text[at..]))
        }),
    }
}
