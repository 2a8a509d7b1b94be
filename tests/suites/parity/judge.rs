//! Both sides' decisions on one request, and whether they are the same.

use std::time::Duration;

use harness::client::raw::Reply;
use holdover::local::Local;
use replica::vault::{Presented, Query};
use serde_json::{Map, Value};
use shared::{
    acl::{AclRequest, CompileError, Decision, Operation},
    api::{Call, Kind, RequestNamespace},
    time::Now,
};

use crate::{
    asks::Wanted,
    causes::{self, Cause, Unserved},
};

/// What became of a request, as far as access goes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Verdict {
    /// The access control let it through; what the backend made of it is another matter.
    Allowed,
    /// A control group was asked.
    Approval,
    /// Policies that the server cannot put together: 500.
    Broken,
    /// 403 by policy.
    Denied,
    /// A template took what it may not: 400 for everything.
    Forbidden,
    /// 400, 404, 405 or a redirect before anything else.
    Malformed,
    /// 403 because of the token.
    NoToken,
}

/// What the replica said.
#[derive(Debug)]
pub(crate) struct Ours {
    /// By the access control alone; all that can be right where what a write would create is not certain.
    pub(crate) verdicts: Vec<Verdict>,
    /// Why nothing is decided.
    pub(crate) cause: Option<Cause>,
    /// What the vault would answer; none for a target that is refused.
    pub(crate) answer: Option<(u16, Value)>,
    /// Whether that answer must be the primary's own.
    pub(crate) exact: bool,
}

/// Whether both sides decided alike.
pub(crate) enum Outcome {
    /// Yes, and whether whole answers were compared.
    Same(Verdict, bool),
    Left(Cause),
    Different(String),
}

const DENIED: &str = "1 error occurred:\n\t* permission denied\n\n";

/// The primary's decision.
pub(crate) fn theirs(wanted: &Wanted, reply: &Reply) -> Verdict {
    let body: Value = serde_json::from_slice(&reply.body).unwrap_or_default();
    let errors = body.get("errors").and_then(Value::as_array);
    let first = errors
        .and_then(|errors| errors.first())
        .and_then(Value::as_str);
    match (reply.status, first) {
        (301 | 307, _) => Verdict::Malformed,
        (404, _) if !wanted.target.starts_with("/v1/") => Verdict::Malformed,
        (403, Some(DENIED)) => Verdict::Denied,
        (403, Some("permission denied")) => Verdict::NoToken,
        (403, _) if wanted.method == "HEAD" => Verdict::Denied,
        (400 | 403, Some("Forbidden")) => Verdict::Forbidden,
        (400, Some(text)) if is_early(text) => Verdict::Malformed,
        (400, None) => Verdict::Malformed,
        (405, None) if wanted.method != "HEAD" => Verdict::Malformed,
        (500, Some(text)) if text.contains("internal error") => Verdict::Broken,
        (200, _) if wanted.wrap.is_none() && wraps(&body) => Verdict::Approval,
        _ => Verdict::Allowed,
    }
}

/// Errors that are found before the token is looked at.
fn is_early(text: &str) -> bool {
    [
        "cannot write to a path ending in '/'",
        "failed to decode JSON input",
        "relative paths not supported",
    ]
    .iter()
    .any(|early| text.contains(early))
}

fn wraps(body: &Value) -> bool {
    body.get("wrap_info").is_some_and(|info| !info.is_null())
}

/// The replica's decision at `now`. `exists` says whether the object of a write exists, where that is certain.
pub(crate) fn ours(
    local: &Local,
    wanted: &Wanted,
    token: &str,
    exists: Option<bool>,
    now: Now,
) -> Ours {
    let mut ours = Ours {
        verdicts: Vec::new(),
        cause: None,
        answer: None,
        exact: false,
    };
    let call = match Call::parse(wanted.method, &wanted.target) {
        Ok(call) => call,
        Err(error) => {
            ours.verdicts.push(Verdict::Malformed);
            ours.cause = causes::of_target(&wanted.target, error);
            return ours;
        }
    };
    let presented = match token {
        "" => Presented::Nothing,
        token => Presented::Token(token),
    };
    let named = wanted.namespace.map(str::as_bytes);
    let answer = local.answer(&Query {
        call: &call,
        presented,
        namespace: &RequestNamespace::of_header(named.into_iter()),
        unmodelled: wanted.wrap.map(|_| "x-vault-wrap-ttl"),
        body: wanted.body.as_bytes(),
        peer: None,
        now,
    });
    let said = serde_json::from_slice(&answer.response.body).unwrap_or_default();
    ours.exact = is_exact(wanted, &call);
    ours.answer = Some((answer.response.status, said));
    access(local, wanted, &call, token, exists, now, &mut ours);
    ours
}

/// The access control's part, asked itself, so that it can be told where the vault serves nothing.
fn access(
    local: &Local,
    wanted: &Wanted,
    call: &Call,
    token: &str,
    exists: Option<bool>,
    now: Now,
    ours: &mut Ours,
) {
    let writes = matches!(call.operation, Operation::Update | Operation::Patch);
    let data = match writes {
        true => parsed(&wanted.body),
        false => Some(queried(call)),
    };
    let Some(data) = data else {
        return ours.verdicts.push(Verdict::Malformed);
    };
    if leads_on(wanted) || writes && call.path.as_str().ends_with('/') {
        return ours.verdicts.push(Verdict::Malformed);
    }
    if token.is_empty() && call.kind == Kind::Mounts(None) {
        return ours.verdicts.push(Verdict::Allowed);
    }
    let authority = local.view.authority();
    let known = local.view.grant(&local.view.keys().token_digest(token));
    let Some(live) = known.filter(|live| live.revoked.get().is_none()) else {
        return ours.verdicts.push(Verdict::NoToken);
    };
    let facts = &live.grant.facts;
    let identity = facts
        .entity_id
        .as_ref()
        .and_then(|id| authority.identity(id));
    let disabled = identity.is_some_and(|identity| {
        identity
            .entity
            .as_ref()
            .is_none_or(|entity| entity.disabled)
    });
    let of_identity = identity
        .map(|identity| identity.policies())
        .unwrap_or_default();
    let of_identity: Vec<_> = of_identity
        .iter()
        .filter_map(|name| shared::name::PolicyName::parse(name).ok())
        .collect();
    let compiled = local.view.acl_for(
        &authority,
        &facts.policies,
        &of_identity,
        facts.entity_id.as_ref(),
        now.wall,
    );
    let acl = match &compiled.acl {
        Ok(acl) => acl,
        Err(CompileError::Forbidden) => return ours.verdicts.push(Verdict::Forbidden),
        Err(_) => return ours.verdicts.push(Verdict::Broken),
    };
    if disabled {
        return ours.verdicts.push(Verdict::NoToken);
    }
    if matches!(call.kind, Kind::Mounts(_)) {
        // The path itself is open to every token; what it shows is in the answer.
        return ours.verdicts.push(Verdict::Allowed);
    }
    let help = call.parameter("help").is_some();
    for operation in operations(call.operation, exists) {
        let decision = acl.decide(&AclRequest {
            namespace: "",
            path: call.path.as_str(),
            operation,
            data: &data,
            wrap_ttl: wanted.wrap.map(|(_, seconds)| Duration::from_secs(seconds)),
            help,
        });
        match decision {
            Decision::Allow(allowed) => {
                ours.verdicts.push(Verdict::Allowed);
                if allowed.filter().is_some() {
                    // The primary fails to filter what is no list, such as an error.
                    ours.verdicts.push(Verdict::Broken);
                }
            }
            Decision::Deny => ours.verdicts.push(Verdict::Denied),
            Decision::Undecidable(why) => match causes::of_acl(&why) {
                Some(cause) => ours.cause = Some(cause),
                None => ours.verdicts.push(Verdict::Broken),
            },
        }
    }
    if wanted.namespace.is_some() {
        ours.cause = Some(Cause::Namespace);
    }
}

/// Whether the server's own router redirects to the folder, before anything else.
fn leads_on(wanted: &Wanted) -> bool {
    let path = wanted.target.split('?').next().unwrap_or_default();
    let read = Call::parse("GET", path);
    !wanted.target.contains("help=1")
        && read.is_ok_and(|call| ["sys", "sys/audit-hash"].contains(&call.path.as_str()))
}

/// What a write is at the primary, which asks the backend whether the object exists.
fn operations(operation: Operation, exists: Option<bool>) -> Vec<Operation> {
    match (operation, exists) {
        (Operation::Update, Some(false)) => vec![Operation::Create],
        (Operation::Update, None) => vec![Operation::Create, Operation::Update],
        (operation, _) => vec![operation],
    }
}

/// Bodies as the server reads them; none where it does not.
fn parsed(body: &str) -> Option<Map<String, Value>> {
    match body.trim() {
        "" | "null" => Some(Map::new()),
        text => serde_json::from_str(text).ok(),
    }
}

fn queried(call: &Call) -> Map<String, Value> {
    let mut data = Map::new();
    for (key, value) in &call.query {
        if key == "help" {
            continue;
        }
        let value = Value::from(value.as_str());
        let all = match data.remove(key) {
            None => value,
            Some(Value::Array(mut all)) => {
                all.push(value);
                Value::Array(all)
            }
            Some(first) => Value::Array(vec![first, value]),
        };
        data.insert(key.clone(), all);
    }
    data
}

/// Reads and lists of what is mirrored, capabilities and preflights: their answers are compared whole.
fn is_exact(wanted: &Wanted, call: &Call) -> bool {
    if wanted.method == "HEAD"
        || wanted.wrap.is_some()
        || wanted.namespace.is_some()
        || call.parameter("help").is_some()
    {
        return false;
    }
    let reads = matches!(call.operation, Operation::Read | Operation::List);
    match &call.kind {
        Kind::Mounts(_) | Kind::CapabilitiesSelf | Kind::CapabilitiesAccessor => true,
        Kind::Data if reads => {
            let path = call.path.as_str();
            // At a key with a slash behind it the primary stumbles: 500.
            let stumbles = call.operation == Operation::Read
                && path.starts_with("kv/data/")
                && path.ends_with('/');
            !stumbles
                && ["kv/data/", "kv/metadata/"]
                    .iter()
                    .any(|place| path.starts_with(place))
        }
        _ => false,
    }
}

/// Compares what both said.
pub(crate) fn compare(wanted: &Wanted, reply: &Reply, ours: &Ours) -> Outcome {
    let theirs = theirs(wanted, reply);
    if let Some((503, body)) = &ours.answer {
        let text = body["errors"][0].as_str().unwrap_or_default();
        match causes::of_text(text) {
            Unserved::Undecided(cause) => return Outcome::Left(cause),
            Unserved::Operation if !must_serve(ours, theirs) => {}
            _ => return Outcome::Different(format!("the vault does not serve it: {text}")),
        }
    }
    if let Some(cause) = ours.cause {
        return Outcome::Left(cause);
    }
    let same = match wanted.method {
        // Without a body, one 403 is as another, and so is one 400.
        "HEAD" => ours.verdicts.iter().any(|ours| head(*ours) == head(theirs)),
        _ => ours.verdicts.contains(&theirs),
    };
    if !same {
        return Outcome::Different(format!(
            "the primary says {theirs:?}, the access control {:?}",
            ours.verdicts
        ));
    }
    match &ours.answer {
        None | Some((503, _)) => Outcome::Same(theirs, false),
        Some(_) if leads_on(wanted) => Outcome::Same(theirs, false),
        Some((status, body)) => answers(reply, ours.exact, theirs, *status, body),
    }
}

/// What is mirrored must be served to whoever may read it.
fn must_serve(ours: &Ours, theirs: Verdict) -> bool {
    ours.exact && theirs == Verdict::Allowed
}

fn head(verdict: Verdict) -> u16 {
    match verdict {
        Verdict::Denied | Verdict::NoToken => 403,
        Verdict::Forbidden | Verdict::Malformed => 400,
        _ => 0,
    }
}

/// The vault's whole answer against the primary's.
fn answers(reply: &Reply, exact: bool, theirs: Verdict, status: u16, body: &Value) -> Outcome {
    let shown: Value = serde_json::from_slice(&reply.body).unwrap_or_default();
    // Where the primary refuses before it looks at the token, or fails to filter an error, the replica may refuse with
    // another word.
    if matches!(theirs, Verdict::Malformed | Verdict::Broken) && (400..500).contains(&status) {
        return Outcome::Same(theirs, false);
    }
    let allowed = status != 403;
    let preflight = status == 403
        && !body["errors"][0]
            .as_str()
            .unwrap_or_default()
            .contains("permission denied");
    if !preflight && allowed != !matches!(theirs, Verdict::Denied | Verdict::NoToken) {
        return Outcome::Different(format!(
            "the primary says {theirs:?}, the vault answers {status} {body}"
        ));
    }
    if !exact {
        return Outcome::Same(theirs, false);
    }
    if status != reply.status || masked(&shown) != masked(body) {
        return Outcome::Different(format!("the vault answers {status} {body}"));
    }
    Outcome::Same(theirs, true)
}

/// What may differ: ids of requests, and that the replica says in a warning that it is one.
fn masked(body: &Value) -> Value {
    let mut body = body.clone();
    if let Value::Object(fields) = &mut body {
        fields.remove("request_id");
        fields.remove("warnings");
    }
    body
}
