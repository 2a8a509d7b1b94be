//! A request as it was asked: read once, never changed by what becomes of it. Beside it, how it stands with sending it.

use std::sync::Arc;

use bytes::Bytes;
use http::{
    HeaderMap, HeaderValue, Method, header::CONTENT_TYPE, request::Parts, uri::PathAndQuery,
};
use replica::{
    learn::Exchange,
    vault::{Presented, Query},
};
use shared::{
    acl::Operation,
    api::{Call, CallError, Kind, RequestNamespace, is_sent_with_namespace},
    grant::Origin,
    name::{TokenDigest, WorkloadName},
    provenance::{Comparable, Evidence, Question, TokenUsed},
    secret::SecretText,
    settings::Settings,
    share::Party,
    time::{Now, WallTime},
    token::may_be_of,
    workload::{Peer, PeerId},
};

use super::{
    body::RelayBody,
    custody::{Once, OpenEnd},
    headers,
    replica::Replica,
};
use crate::{
    link::{once::Right, passed::Passed},
    parity::Offer,
};

/// A client's request.
pub(crate) struct Ask {
    /// The method.
    pub(crate) method: Method,
    /// The target, byte for byte.
    pub(crate) target: PathAndQuery,
    /// The headers as they were received.
    pub(crate) headers: HeaderMap,
    /// The body, until it is streamed on.
    body: Option<RelayBody>,
    /// What it asks for, or why that is no API call.
    pub(crate) call: Result<Call, CallError>,
    /// Who asks.
    pub(crate) peer: Peer,
    /// Whom what it takes is counted to.
    pub(crate) party: Arc<Party>,
    /// The namespace that it is in, from which its call is seen.
    pub(crate) namespace: RequestNamespace,
    /// The namespace that it is sent on with, where it does not say so itself.
    pub(crate) named_for_it: Option<HeaderValue>,
    /// The token that it brought, and what stands for it.
    pub(crate) token: Option<(SecretText, TokenDigest)>,
    /// Whether that token is of another namespace.
    foreign_token: bool,
    /// The workload whose standing token it uses, because it brought no proof at all.
    pub(crate) standing: Option<WorkloadName>,
    /// Whether a mirror covers it.
    pub(crate) mirrored: bool,
    /// Whether its answer may carry a lease.
    pub(crate) leasing: bool,
    /// Whether sending it twice changes nothing: it brings nothing into being, and spends nothing.
    pub(crate) repeatable: bool,
    /// How it stands with sending it, where it may be sent once.
    pub(crate) once: Once,
    /// When it was read.
    pub(crate) asked_at: Now,
}

/// What is known of an attempt at the primary.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Outcome {
    /// What came of it is on its way to the client, or in the ledger.
    Known,
    /// It had no effect.
    None,
    /// It may have had one: the primary may hold a token that nobody uses.
    Unknown,
}

/// How a request is treated while the primary is authoritative.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Class {
    /// A mirrored read, or a look-up: buffered, and answered by the replica if the primary is late.
    Read,
    /// A login or token creation: buffered, waits for whichever side is in charge.
    Issue,
    /// Buffered, but done at most once.
    Once,
    /// Everything else: both ways as it comes.
    Stream,
}

impl Ask {
    /// Reads what a client sent, without a body.
    pub(crate) fn new(
        parts: Parts,
        peer: Peer,
        party: &Arc<Party>,
        settings: &Settings,
        replica: &dyn Replica,
    ) -> Self {
        let target = parts
            .uri
            .path_and_query()
            .cloned()
            .unwrap_or_else(|| PathAndQuery::from_static("/"));
        let mut call = Call::parse(parts.method.as_str(), target.as_str());
        let configured = &settings.namespace;
        let mut namespace = named(&parts.headers);
        let names_none = namespace == RequestNamespace::Configured;
        let is_sent_with = names_none && is_sent_with_namespace(target.as_str(), configured);
        if let Ok(call) = &mut call {
            namespace = namespace.entered(call, configured);
        }
        let token = headers::token(&parts.headers).map(|token| {
            let digest = replica.digest(token.expose());
            (token, digest)
        });
        let foreign_token = token
            .as_ref()
            .is_some_and(|(token, _)| !may_be_of(token.expose(), configured));
        let mut ask = Self {
            namespace,
            named_for_it: is_sent_with
                .then(|| HeaderValue::from_str(configured.as_str()).ok())
                .flatten(),
            foreign_token,
            asked_at: replica.now(),
            mirrored: false,
            leasing: false,
            repeatable: false,
            once: Once::new(),
            standing: None,
            method: parts.method,
            target,
            headers: parts.headers,
            body: Some(RelayBody::EMPTY),
            call,
            peer,
            party: Arc::clone(party),
            token,
        };
        ask.mirrored = ask.is_mirrored(settings);
        ask.leasing = ask.is_leasing(replica);
        ask.repeatable = ask.is_repeatable(replica);
        ask.standing = ask.standing_workload(settings).cloned();
        ask
    }

    /// It comes with this body, which was here `now`.
    pub(crate) fn brings(&mut self, body: RelayBody, now: Now) {
        self.body = Some(body);
        self.asked_at = now;
    }

    /// How it is treated while the primary is authoritative.
    pub(crate) fn class(&self) -> Class {
        match &self.call {
            // A lease is learned from the answer, which is kept whole for it; a wrapping is taken back if nobody gets it.
            Ok(call) if (self.leasing || self.wraps()) && !self.mirrored && !call.is_issuance() => {
                Class::Once
            }
            Ok(call) if !call.is_fallbackable(self.mirrored) => Class::Stream,
            Ok(call) if call.is_issuance() => Class::Issue,
            Ok(call) if call.is_idempotent() => Class::Read,
            Ok(_) => Class::Once,
            Err(_) => Class::Stream,
        }
    }

    /// The request as the local vault judges it.
    pub(crate) fn query<'a>(&'a self, call: &'a Call, body: &'a [u8], now: Now) -> Query<'a> {
        let presented = match (&self.token, &self.standing) {
            (Some((token, _)), _) => Presented::Token(token.expose()),
            (None, Some(workload)) => Presented::Standing(workload),
            (None, None) => Presented::Nothing,
        };
        Query {
            call,
            presented,
            namespace: &self.namespace,
            unmodelled: self.unmodelled(call, body),
            body,
            peer: Some(&self.peer),
            now,
        }
    }

    /// The first header by which it asks for what is not modelled.
    fn unmodelled(&self, call: &Call, body: &[u8]) -> Option<&str> {
        let form = || self.brings_a_form(call, body).then_some("content-type");
        headers::unmodelled(&self.headers).or_else(form)
    }

    /// The request as far as it says what its answer may teach, sent with the token that `used` says; none for what is no
    /// API call.
    pub(crate) fn question(&self, used: TokenUsed, replica: &dyn Replica) -> Option<Question<'_>> {
        let call = self.call.as_ref().ok()?;
        Some(Question {
            call,
            token: match used {
                TokenUsed::Callers if self.foreign_token => TokenUsed::Foreign,
                used => used,
            },
            mirrored_namespace: self.namespace.is(&replica.settings().namespace),
            asks_for_token: call.asks_for_token(|| replica.mount_kind(call.path.as_str())),
            body: self.whole_body().map(|body| &body[..]),
            reads_alike: headers::read_alike(&self.headers),
        })
    }

    /// The request and its answer, which was there at `answered_at`. What that brought is given to `peer`.
    pub(crate) fn exchange<'a>(
        &'a self,
        evidence: Evidence<'a>,
        peer: Option<&'a PeerId>,
        answered_at: WallTime,
    ) -> Exchange<'a> {
        let token = self.token.as_ref().map(|(_, digest)| digest);
        Exchange {
            evidence,
            token: token.filter(|_| evidence.asked.token == TokenUsed::Callers),
            asker: &self.peer,
            peer,
            now: self.asked_at,
            answered_at,
        }
    }

    /// The request and the primary's answer, as parity compares them.
    pub(crate) fn offer(
        &self,
        call: &Call,
        decision: Comparable,
        answer: Option<Bytes>,
        answered_at: Now,
    ) -> Offer {
        let token = self.token.as_ref();
        let body = self.whole_body().cloned().unwrap_or_default();
        Offer {
            call: call.clone(),
            token: token.map(|(token, _)| token.duplicate()),
            namespace: self.namespace.clone(),
            unmodelled: self.unmodelled(call, &body).map(str::to_owned),
            body,
            peer: self.peer.clone(),
            decision,
            answer,
            asked_at: self.asked_at,
            answered_at,
        }
    }

    /// The same request, for an answer that comes later; of a body that streams nothing is left.
    pub(crate) fn again(&self) -> Self {
        let token = self.token.as_ref();
        Self {
            method: self.method.clone(),
            target: self.target.clone(),
            headers: self.headers.clone(),
            body: self.whole_body().cloned().map(RelayBody::Whole),
            call: self.call.clone(),
            peer: self.peer.clone(),
            party: Arc::clone(&self.party),
            namespace: self.namespace.clone(),
            named_for_it: self.named_for_it.clone(),
            foreign_token: self.foreign_token,
            token: token.map(|(token, digest)| (token.duplicate(), *digest)),
            standing: self.standing.clone(),
            mirrored: self.mirrored,
            leasing: self.leasing,
            repeatable: self.repeatable,
            once: Once::spent(),
            asked_at: self.asked_at,
        }
    }

    /// The namespace that its header names, whatever its path adds.
    pub(crate) fn named(&self) -> RequestNamespace {
        named(&self.headers)
    }

    /// The body, if all of it is here.
    pub(crate) fn whole_body(&self) -> Option<&Bytes> {
        self.body.as_ref()?.whole()
    }

    /// What of the body will have gone out.
    pub(crate) fn passing(&mut self) -> Passed {
        self.body
            .as_mut()
            .map_or_else(Passed::whole, RelayBody::passing)
    }

    /// The body, to be sent on. A whole one is kept as well.
    pub(crate) fn body_to_send(&mut self) -> RelayBody {
        match self.whole_body() {
            Some(bytes) => RelayBody::Whole(bytes.clone()),
            None => self.body.take().unwrap_or(RelayBody::EMPTY),
        }
    }

    /// Whether the primary would read the body as a form.
    pub(crate) fn is_form(&self) -> bool {
        self.headers.get(CONTENT_TYPE).is_some_and(|kind| {
            kind.as_bytes()
                .starts_with(b"application/x-www-form-urlencoded")
        })
    }

    /// Whether the body is a form: said to be one, and not to be taken for JSON at its first look.
    fn brings_a_form(&self, call: &Call, body: &[u8]) -> bool {
        let first = body.iter().find(|byte| !byte.is_ascii_whitespace());
        let writes = matches!(call.operation, Operation::Create | Operation::Update);
        writes && self.is_form() && first.is_some_and(|byte| !matches!(byte, b'{' | b'['))
    }

    /// Whether sending it twice changes nothing. A read may bring a lease or a wrapping into being, and use a credential up.
    fn is_repeatable(&self, replica: &dyn Replica) -> bool {
        let idempotent = match &self.call {
            Ok(call) => call.is_idempotent(),
            Err(_) => self.method.is_safe(),
        };
        idempotent && !self.may_lease(replica) && !self.wraps() && !self.may_use_up(replica)
    }

    /// Whether it may spend a use of a credential that has so many. Of a token that is not known nobody here can say that it has
    /// not.
    fn may_use_up(&self, replica: &dyn Replica) -> bool {
        let looked_at = |call: &Call| !call.kind.needs_no_token();
        let token = self
            .token
            .as_ref()
            .filter(|_| self.call.as_ref().map_or(true, looked_at));
        let has_uses = |digest: &TokenDigest| {
            let known = replica.grant(digest);
            known.is_none_or(|live| live.grant.origin == Origin::LimitedUse)
        };
        headers::logs_in_inline(&self.headers) || token.is_some_and(|(_, digest)| has_uses(digest))
    }

    /// Whether it may bring something into being that lives on unless it is revoked.
    pub(crate) fn may_issue(&self) -> bool {
        let issues = |call: &Call| call.is_issuance();
        self.leasing || self.wraps() || self.call.as_ref().is_ok_and(issues)
    }

    /// The right to send what is sent once; none if it was sent, and something may have come of it.
    pub(crate) fn take_right(&mut self, replica: &Arc<dyn Replica>) -> Option<Right> {
        let end = OpenEnd::of(self, replica);
        self.once.take(end)
    }

    /// Whether it asks for its answer in a wrapping.
    fn wraps(&self) -> bool {
        headers::asks_for_wrapping(&self.headers)
    }

    /// The path that it asks for, as far as it can be read.
    pub(crate) fn path(&self) -> &str {
        let call = self.call.as_ref();
        call.map_or(self.target.path(), |call| call.path.as_str())
    }

    /// Whether it only reads.
    pub(crate) fn is_read(&self) -> bool {
        let operation = self.call.as_ref().map(|call| call.operation);
        matches!(operation, Ok(Operation::Read))
    }

    /// What the call is behind a namespace in its path, if it has one (`team/auth/token/lookup-self`). Which first
    /// segments are namespaces only the primary knows; what a mirror covers is below a mount and is data.
    pub(crate) fn inner_kind(&self, call: &Call) -> Kind {
        if call.kind != Kind::Data || self.mirrored {
            return call.kind.clone();
        }
        call.kind_behind_a_namespace()
    }

    /// Whether the answer has the caller's own token in it.
    pub(crate) fn shows_its_token(&self) -> bool {
        self.call.as_ref().is_ok_and(|call| {
            matches!(
                self.inner_kind(call),
                Kind::TokenLookupSelf | Kind::TokenRenewSelf
            )
        })
    }

    fn is_leasing(&self, replica: &dyn Replica) -> bool {
        let Ok(call) = &self.call else { return false };
        let brings = matches!(
            call.operation,
            Operation::Create | Operation::Read | Operation::Update
        );
        let kind = || replica.mount_kind(call.path.as_str());
        call.kind == Kind::Data && brings && kind().is_some_and(|kind| kind.leases())
    }

    /// The same, and of what is read where nobody knows what is mounted, or what reading there does.
    fn may_lease(&self, replica: &dyn Replica) -> bool {
        let unknown = |call: &Call| {
            let ours = self.namespace.is(&replica.settings().namespace);
            let mount = replica.mount_kind(call.path.as_str()).filter(|_| ours);
            call.kind == Kind::Data
                && call.operation == Operation::Read
                && !mount.is_some_and(|kind| kind.only_reads())
        };
        self.leasing || self.call.as_ref().is_ok_and(unknown)
    }

    fn is_mirrored(&self, settings: &Settings) -> bool {
        let Ok(call) = &self.call else { return false };
        self.namespace.is(&settings.namespace) && is_mirrored(call, settings)
    }

    /// `auto_token`: only for a peer with exactly one entry, only where nothing else proves anything, and never where
    /// it would give the standing token itself away or end it.
    fn standing_workload(&self, settings: &Settings) -> Option<&WorkloadName> {
        let Ok(call) = &self.call else { return None };
        let kind = self.inner_kind(call);
        if !kind.asks_for_a_token()
            || matches!(kind, Kind::TokenCreate | Kind::TokenRevokeSelf)
            || headers::brings_proof(&self.headers)
            || headers::asks_for_wrapping(&self.headers)
        {
            return None;
        }
        let only = self.peer.only_workload()?;
        settings.workload(only)?.auto_token.then_some(only)
    }
}

fn named(headers: &HeaderMap) -> RequestNamespace {
    RequestNamespace::of_header(headers::namespaces(headers))
}

/// A mirror of `secret/data/P*` answers what KV v2 shows of `P*` elsewhere too.
fn is_mirrored(call: &Call, settings: &Settings) -> bool {
    const OF_DATA: [&str; 3] = ["/detailed-metadata/", "/metadata/", "/subkeys/"];
    let path = call.path.as_str();
    if call.kind != Kind::Data || !call.operation.reads() {
        return false;
    }
    let of_data = |word: &&str| {
        path.match_indices(*word).any(|(at, word)| {
            let (mount, key) = (path.get(..at), path.get(at + word.len()..));
            mount.zip(key).is_some_and(|(mount, key)| {
                settings.mirror(&format!("{mount}/data/{key}")).is_some()
            })
        })
    };
    settings.mirror(path).is_some() || OF_DATA.iter().any(of_data)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples;

    #[test]
    fn a_mirror_of_data_answers_for_its_metadata() {
        let settings = samples::settings(&["secret/data/shop/*", "team/kv/data/one"]);
        let mirrored = |method: &str, target: &str| {
            is_mirrored(&Call::parse(method, target).unwrap(), &settings)
        };
        assert!(mirrored("GET", "/v1/secret/data/shop/a"));
        assert!(mirrored("LIST", "/v1/secret/metadata/shop"));
        assert!(mirrored("GET", "/v1/secret/metadata/shop/a"));
        assert!(mirrored("GET", "/v1/team/kv/metadata/one"));
        assert!(mirrored("GET", "/v1/team/kv/subkeys/one"));
        assert!(mirrored("SCAN", "/v1/secret/detailed-metadata/shop"));
        assert!(!mirrored("GET", "/v1/team/kv/metadata/two"));
        assert!(!mirrored("LIST", "/v1/secret/metadata/"));
        assert!(!mirrored("PUT", "/v1/secret/data/shop/a"));
        assert!(!mirrored("DELETE", "/v1/secret/metadata/shop/a"));
    }
}
